"""What a team's logged actions were worth, from the data alone. Knows nothing of flows.

The default, `LinearAdvantage`: V(s, c) and, around the mean action, slopes of what deviations earned,

    A_tot = sum_i g_i(s, c) . (a_i - mean_i(s, c))

with c the habit of the team that acted, as far as the log tells it.

Critics mixed over agents (`MixedIQL`, `OMIGA`):

    Q_tot = sum_i w_i(s) Q_i(o_i, a_i) + b(s),   V_tot = sum_i w_i(s) V_i(o_i) + b(s),   w_i >= 0
    A_tot = Q_tot - V_tot = sum_i w_i(s) (Q_i - V_i)                  (b cancels)

| equation | here | source |
|---|---|---|
| mixing of Q and V with one set of weights | `Mixer`, `global_advantage` | OMIGA 2307.11620 |
| L_Q = (Q_tot - [R + gamma (1 - d) V_tot(s')])^2 | `_q_loss` | OMIGA |
| L_V = abs(tau - 1[A < 0]) A^2 | `expectile_loss` | IQL 2110.06169, eq. 5 |
| L_V = exp(A/alpha) + V/alpha | `omiga_loss` | OMIGA, its stationary point E[exp(A/alpha)] = 1 |
| A = sum_i g_i(s, c) . (a_i - mean_i(s, c)) of R(t) - V(s_t, c) | `LinearAdvantage` | Sutton et al. 2000 |
| A(s, a), one network of the joint action, fitted to R(t) - V(s_t) | `CentralAdvantage` | ours |
| A = R(t) - V(s_t), R the rewards to come | `ReturnToGo` | Monte-Carlo policy evaluation; ours here |
| A = R(0) - level, the whole episode's return | `EpisodeReturn` | as in return-filtered cloning; ours here |

A value learner is a frozen dataclass with `sampling`, `init`, `loss` and `advantage`; those below are
interchangeable. Rewards come summed over `lookahead` steps (1: one-step TD) with `discount` applied.
They are scaled by (1 - discount) over their standard deviation, so a value is a reward per step.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, PRNGKeyArray

from vgm2p.actions import Codec
from vgm2p.errors import InputError, check_fraction, check_positive
from vgm2p.nets import MLP
from vgm2p.types import Metrics, Sampling, Spec, Transition


class Advantage(NamedTuple):
    """How much better than expected the logged action was."""

    team: Float[Array, " b"]  # A_tot
    agents: Float[Array, "b n"]  # each agent's share; for learners without credit, the team's


class ValueLearner(Protocol):
    """What every value learner offers; `params` is learned, `target` its slow copy."""

    @property
    def sampling(self) -> Sampling:
        """What its batches must hold."""
        ...

    def init(self, spec: Spec, key: PRNGKeyArray) -> Any:
        """Fresh networks."""
        ...

    def loss(self, params: Any, target: Any, batch: Transition) -> tuple[Float[Array, ""], Metrics]:
        """What `params` are trained on; nothing of it flows into `target`."""
        ...

    def advantage(self, params: Any, target: Any, batch: Transition) -> Advantage:
        """How good the logged actions were."""
        ...


def expectile_loss(gap: Float[Array, "*b"], expectile: float) -> Float[Array, "*b"]:
    """|tau - 1(gap < 0)| gap^2, gap = target - prediction: tau = 0.5 gives the mean, 1 the maximum."""
    return jnp.where(gap < 0, 1 - expectile, expectile) * jnp.square(gap)


def omiga_loss(advantage: Float[Array, "*b"], value: Float[Array, "*b"], alpha: float) -> Float[Array, "*b"]:
    """OMIGA's value loss exp(A / alpha) + V / alpha for `advantage` = Q - V, `value` = V.

    Its stationary point over a batch is E[exp((Q - V) / alpha)] = 1. As in the authors' code the exponent is
    clipped to +-10 and the whole divided by exp(m), m = max(-1, the batch's largest exponent). Over many
    batches that weighs those with a large exponent less, so that V settles below the point of all data, by
    more the wider Q / alpha spreads: docs/algorithms/omiga.md.
    """
    exponent = jnp.clip(advantage / alpha, -10.0, 10.0)
    largest = stop_gradient(jnp.maximum(exponent.max(), -1.0))
    return jnp.exp(exponent - largest) + jnp.exp(-largest) * value / alpha


def global_advantage(
    weights: Float[Array, "*b n"], q: Float[Array, "*b n"], v: Float[Array, "*b n"]
) -> tuple[Float[Array, "*b"], Float[Array, "*b n"]]:
    """A_tot and its summands w_i (Q_i - V_i): the mixer's bias cancels exactly."""
    shares = weights * (q - v)
    return shares.sum(-1), shares


class Mixer(eqx.Module):
    """Weights w_i(s) >= 0 and a bias b(s) from one hidden layer (deeper mixers are known to collapse)."""

    net: MLP

    def __init__(self, spec: Spec, key: PRNGKeyArray):
        self.net = MLP(spec.state_dim, (64,), spec.n + 1, key, activation="relu")

    def __call__(self, state: Float[Array, "*b s"]) -> tuple[Float[Array, "*b n"], Float[Array, "*b"]]:
        """(w, b) at a state."""
        out = self.net(state)
        return jnp.abs(out[..., :-1]), out[..., -1]


class TeamValues(eqx.Module):
    """Two critics and a value, shared over agents (observations carry the agent's id), and their mixer."""

    critics: tuple[MLP, MLP]
    value: MLP
    mixer: Mixer

    def q(self, batch: Transition) -> Float[Array, "k b n"]:
        """Both critics' values of the logged actions."""
        inputs = jnp.concatenate([batch.obs, batch.action], -1)
        return jnp.stack([critic(inputs)[..., 0] for critic in self.critics])

    def v(self, obs: Float[Array, "*b n o"]) -> Float[Array, "*b n"]:
        """Each agent's value of its observation."""
        return self.value(obs)[..., 0]


@dataclass(frozen=True)
class MixedIQL:
    """In-sample values with an expectile, mixed over agents (IQL's losses on OMIGA's decomposition)."""

    discount: float = 0.99
    """Factor per step on later rewards."""
    lookahead: int = 1
    """Steps whose rewards are summed before a value closes them; 1 is one-step TD."""
    expectile: float = 0.9
    """0.5 is the mean of what followed, 1 the best of it."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""

    def __post_init__(self):
        check_fraction(self, "expectile")

    @property
    def sampling(self) -> Sampling:
        """Rewards discounted and summed over the look-ahead."""
        return Sampling(discount=self.discount, lookahead=self.lookahead)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TeamValues:
        """Fresh networks."""
        return _init_team_values(self.hidden, spec, key)

    def loss(
        self, params: TeamValues, target: TeamValues, batch: Transition
    ) -> tuple[Float[Array, ""], Metrics]:
        """The critics' and the value's losses, added (they share no parameters)."""
        q_loss = _q_loss(params, target, batch)
        advantage = self._gap(params, target, batch).team
        v_loss = expectile_loss(advantage, self.expectile).mean()
        return q_loss + v_loss, {"loss/q": q_loss, "loss/v": v_loss}

    def advantage(self, params: TeamValues, target: TeamValues, batch: Transition) -> Advantage:
        """A_tot = min_k sum_i w_i (Q_i - V_i), critics and mixer from the slow copy."""
        return self._gap(params, target, batch)

    def _gap(self, params, target, batch):
        weights, q = _cautious_q(target, batch)
        return Advantage(*global_advantage(weights, q, params.v(batch.obs)))


@dataclass(frozen=True)
class OMIGA:
    """OMIGA's critic: the same decomposition, its exponential value loss on each agent's share."""

    discount: float = 0.99
    """Factor per step on later rewards."""
    lookahead: int = 1
    """Steps whose rewards are summed before a value closes them; 1 is one-step TD."""
    alpha: float = 0.1
    """Temperature: larger is nearer to the mean. Values are rewards per step, so its scale is ours."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""

    def __post_init__(self):
        check_positive(self, "alpha")

    @property
    def sampling(self) -> Sampling:
        """Rewards discounted and summed over the look-ahead."""
        return Sampling(discount=self.discount, lookahead=self.lookahead)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TeamValues:
        """Fresh networks."""
        return _init_team_values(self.hidden, spec, key)

    def loss(
        self, params: TeamValues, target: TeamValues, batch: Transition
    ) -> tuple[Float[Array, ""], Metrics]:
        """The critics' and the value's losses, added (they share no parameters)."""
        q_loss = _q_loss(params, target, batch)
        weights, q = _cautious_q(target, batch)
        v = params.v(batch.obs)
        gap = weights * (q - v)
        v_loss = omiga_loss(gap, weights * v, self.alpha).mean()
        return q_loss + v_loss, {"loss/q": q_loss, "loss/v": v_loss}

    def advantage(self, params: TeamValues, target: TeamValues, batch: Transition) -> Advantage:
        """A_tot and its shares, as for `MixedIQL`."""
        weights, q = _cautious_q(target, batch)
        return Advantage(*global_advantage(weights, q, params.v(batch.obs)))


def with_habit(state: Float[Array, "b s"], habit: Float[Array, "b n a"]) -> Float[Array, "b sna"]:
    """What a value of many teams sees: the state, and what tells the team (`Transition.habit`)."""
    return jnp.concatenate([state, habit.reshape(len(habit), -1)], -1)


class LinearCritic(eqx.Module):
    """V(s), for every agent the mean of its actions, and slopes of the advantage around it, of each team.

    agent: tells one agent's mean and slopes from what it sees; without it `net` tells those of all.
    """

    net: MLP
    agent: MLP | None
    actions: Codec = eqx.field(static=True)

    def __call__(
        self, batch: Transition, slopes: int
    ) -> tuple[Float[Array, " b"], Float[Array, "b n a"], Float[Array, "b h n a"]]:
        """(V, mean, slopes) where the batch acted."""
        b, n, a = batch.action.shape
        out = self.net(with_habit(batch.state, batch.habit))
        if self.agent is None:
            told = out[:, 1:].reshape(b, 1 + slopes, n, a)
        else:
            each = self.agent(jnp.concatenate([batch.obs, batch.habit], -1))
            told = jnp.moveaxis(each.reshape(b, n, 1 + slopes, a), 2, 1)
        return out[:, 0], self.actions.expected(told[:, 0], batch.legal), told[:, 1:]

    def value(self, state: Float[Array, "b s"], habit: Float[Array, "b n a"]) -> Float[Array, " b"]:
        """V alone, at any state."""
        return self.net(with_habit(state, habit))[:, 0]


@dataclass(frozen=True)
class LinearAdvantage:
    """A_tot(s, a) = sum_i g_i(s) . (a_i - mean_i(s)): to first order, what each agent's deviation earned.

    Fitted to the rewards that followed, less V(s): a regression, so that the luck of single episodes
    averages out ("compatible" values, whose slopes are those of policy gradients). With their mean taken
    off, actions tell nothing of an error in V(s), which a critic Q(s, a) can fit instead of the small
    effect of an action. It is a sum over agents: g_i . (a_i - mean_i) is agent i's own share. For coded
    discrete actions it is as general as a sum over agents can be.

    An action's effect is small against what follows by chance. So there are several slopes, each fitted to
    a random half of the episodes (bagging), and every row is judged by one that has not seen its episode:
    where the data decide, slopes agree; where they don't, labels fall by lot, and no policy is led off by
    one slope's noise or one episode's luck. V and the network below the slopes learn from all episodes.

    A dataset is often the log of many teams. There an action tells which team acts, and so what it will
    earn, whatever the action does: without knowing the team, slopes point from team to team, and what lies
    between two gaits need not walk. So all three can be told the team's habit, its mean action in the first
    steps of the episode. Deviations from a team's own mean are its exploration, which follows from nothing.

    Where agents are alike and see a part, one network tells each one's slopes from what it sees (`shared`):
    what the whole state tells of them takes more episodes than a small log has.

    A slope holds near the actions it was fitted to. So values, labels and policy all see the better
    episodes only (`selection`): of many teams in one dataset, they improve the good ones.
    """

    discount: float = 0.99
    """Factor per step on later rewards."""
    lookahead: int = 100
    """Steps whose rewards are summed before a value closes them; 1 is one-step TD."""
    selection: float | None = 0.8
    """Values and policy learn only from episodes whose return reaches this expectile; None: from all."""
    slopes: int = 8
    """How many are fitted, each to its half of the episodes."""
    shared: bool = False
    """One network, shared by the agents, tells slopes from what each observes; else the state tells all."""
    habit: int = 0
    """First steps of an episode whose mean action tells values which team acts; 0: they are not told."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""

    def __post_init__(self):
        if self.slopes < 1:
            raise InputError(f"slopes {self.slopes} must be at least 1")

    @property
    def sampling(self) -> Sampling:
        """Rewards summed over the look-ahead, in the better episodes, halves of them, and habits."""
        return Sampling(
            discount=self.discount,
            lookahead=self.lookahead,
            selection=self.selection,
            halves=self.slopes,
            habit=self.habit,
        )

    def init(self, spec: Spec, key: PRNGKeyArray) -> LinearCritic:
        """A fresh network with all answers; slopes start near zero."""
        joint, each = spec.n * spec.action_dim, (1 + self.slopes) * spec.action_dim
        make = partial(MLP, hidden=self.hidden, norm=True, last_gain=0.01)
        if not self.shared:
            net = make(spec.state_dim + joint, outputs=1 + spec.n * each, key=key)
            return LinearCritic(net, None, spec.actions)
        value_key, agent_key = jax.random.split(key)
        net = make(spec.state_dim + joint, outputs=1, key=value_key)
        agent = make(spec.obs_dim + spec.action_dim, outputs=each, key=agent_key)
        return LinearCritic(net, agent, spec.actions)

    def loss(
        self, params: LinearCritic, target: LinearCritic, batch: Transition
    ) -> tuple[Float[Array, ""], Metrics]:
        """Three least squares: V on the rewards, the mean on the actions, the slopes on what V leaves.

        `value/explained`: the share of the squared gap that slopes explain in episodes not fitted to.
        """
        closing = stop_gradient(target.value(batch.next_state, batch.habit))
        value, mean, slopes = params(batch, self.slopes)
        gap = batch.reward + batch.discount * closing - value
        deviation = batch.action - mean
        told = (slopes * stop_gradient(deviation)[:, None]).sum((2, 3))
        gaps = jnp.broadcast_to(stop_gradient(gap)[:, None], told.shape)
        v_loss, slope_loss = jnp.square(gap).mean(), _mean_square(gaps - told, batch.halves)
        before, after = (_mean_square(x, ~batch.halves) for x in (gaps, gaps - told))
        explained = (before - after) / (before + 1e-12)
        metrics = {"loss/v": v_loss, "loss/slope": slope_loss, "value/explained": explained}
        return v_loss + slope_loss + jnp.square(deviation).mean(), metrics

    def advantage(self, params: LinearCritic, target: LinearCritic, batch: Transition) -> Advantage:
        """A_tot and each agent's share by the slow copy, in standard deviations of A_tot over the batch.

        A row's judge is the first slope not fitted to its episode, counted on from the row's place in the
        batch (the slope at that place, should all have been).
        """
        _, mean, slopes = target(batch, self.slopes)
        row = jnp.arange(len(mean))
        turn = (row[:, None] + jnp.arange(self.slopes)) % self.slopes
        judge = turn[row, jnp.take_along_axis(~batch.halves, turn, axis=1).argmax(1)]
        shares = (slopes[row, judge] * (batch.action - mean)).sum(-1)
        shares = shares / (shares.sum(-1).std() + 1e-8)
        return Advantage(shares.sum(-1), shares)


class CentralCritic(eqx.Module):
    """V(s), and the advantage of the team's joint action there, of each team."""

    value: MLP
    gain: MLP


@dataclass(frozen=True)
class CentralAdvantage:
    """A_tot(s, a) of the joint action by one free network, fitted to the rewards that followed, less V(s).

    It sees what agents do together, which no sum over agents can, and it can fit an error of V(s) instead of
    an action's small effect. It gives no credit: each agent's share is the team's.
    """

    discount: float = 0.99
    """Factor per step on later rewards."""
    lookahead: int = 100
    """Steps whose rewards are summed before a value closes them; 1 is one-step TD."""
    selection: float | None = 0.8
    """Values and policy learn only from episodes whose return reaches this expectile; None: from all."""
    habit: int = 0
    """First steps of an episode whose mean action tells values which team acts; 0: they are not told."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""

    @property
    def sampling(self) -> Sampling:
        """Rewards summed over the look-ahead, in the better episodes, and habits."""
        return Sampling(
            discount=self.discount, lookahead=self.lookahead, selection=self.selection, habit=self.habit
        )

    def init(self, spec: Spec, key: PRNGKeyArray) -> CentralCritic:
        """Fresh networks; the advantage starts near zero."""
        value_key, gain_key = jax.random.split(key)
        joint = spec.n * spec.action_dim
        value = MLP(spec.state_dim + joint, self.hidden, 1, value_key, norm=True)
        gain = MLP(spec.state_dim + 2 * joint, self.hidden, 1, gain_key, norm=True, last_gain=0.01)
        return CentralCritic(value, gain)

    def loss(
        self, params: CentralCritic, target: CentralCritic, batch: Transition
    ) -> tuple[Float[Array, ""], Metrics]:
        """Two least squares: V on the rewards, the advantage on what V leaves."""
        closing = stop_gradient(target.value(with_habit(batch.next_state, batch.habit))[:, 0])
        value = params.value(with_habit(batch.state, batch.habit))[:, 0]
        gap = batch.reward + batch.discount * closing - value
        gain = self._gain(params, batch)
        v_loss, gain_loss = jnp.square(gap).mean(), jnp.square(stop_gradient(gap) - gain).mean()
        return v_loss + gain_loss, {"loss/v": v_loss, "loss/gain": gain_loss}

    def advantage(self, params: CentralCritic, target: CentralCritic, batch: Transition) -> Advantage:
        """A_tot by the slow copy, in its standard deviations over the batch."""
        gain = self._gain(target, batch)
        team = gain / (gain.std() + 1e-8)
        return Advantage(team, jnp.broadcast_to(team[:, None], batch.obs.shape[:2]))

    @staticmethod
    def _gain(critic, batch):
        joint = jnp.concatenate([batch.habit, batch.action], 1)
        return critic.gain(with_habit(batch.state, joint))[:, 0]


@dataclass(frozen=True)
class ReturnToGo:
    """No critic: the advantage is the rewards that followed, less an expectile V(s) of them.

    With a look-ahead past the horizon this is Monte-Carlo; an episode that the time limit cut is closed
    with the slow copy's V, one that truly ended with nothing. Returns carry no credit per agent, so each
    agent's share is the team's.
    """

    discount: float = 0.99
    """Factor per step on later rewards."""
    lookahead: int = 1000
    """Steps whose rewards are summed before a value closes them; 1 is one-step TD."""
    expectile: float = 0.5
    """0.5 is the mean of what followed, 1 the best of it."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""

    def __post_init__(self):
        check_fraction(self, "expectile")

    @property
    def sampling(self) -> Sampling:
        """Rewards discounted and summed over the look-ahead."""
        return Sampling(discount=self.discount, lookahead=self.lookahead)

    def init(self, spec: Spec, key: PRNGKeyArray) -> MLP:
        """A fresh V(s)."""
        return MLP(spec.state_dim, self.hidden, 1, key, norm=True)

    def loss(self, params: MLP, target: MLP, batch: Transition) -> tuple[Float[Array, ""], Metrics]:
        """Expectile regression of V on the return to go."""
        v_loss = expectile_loss(self._gap(params, target, batch), self.expectile).mean()
        return v_loss, {"loss/v": v_loss}

    def advantage(self, params: MLP, target: MLP, batch: Transition) -> Advantage:
        """R(t) - V(s_t), the same for every agent."""
        team = self._gap(params, target, batch)
        return Advantage(team, jnp.broadcast_to(team[:, None], batch.obs.shape[:2]))

    def _gap(self, params, target, batch):
        closing = stop_gradient(target(batch.next_state)[..., 0])
        return batch.reward + batch.discount * closing - params(batch.state)[..., 0]


class Level(eqx.Module):
    """One number: what an episode's return is held against."""

    value: Float[Array, ""]


@dataclass(frozen=True)
class EpisodeReturn:
    """No state at all: the advantage is the whole episode's return, less an expectile over the data.

    Right where episodes start alike and returns differ by the team, not by chance: it tells good teams from
    bad ones and can't tell good moments from bad ones. No credit per agent.
    """

    expectile: float = 0.8
    """0.5 is the mean of what followed, 1 the best of it."""

    def __post_init__(self):
        check_fraction(self, "expectile")

    @property
    def sampling(self) -> Sampling:
        """Any transition tells the return of its episode."""
        return Sampling()

    def init(self, spec: Spec, key: PRNGKeyArray) -> Level:
        """Starts at 0, the mean of the standardised returns."""
        return Level(jnp.zeros(()))

    def loss(self, params: Level, target: Level, batch: Transition) -> tuple[Float[Array, ""], Metrics]:
        """Expectile regression of one number on the returns."""
        v_loss = expectile_loss(batch.outcome - params.value, self.expectile).mean()
        return v_loss, {"loss/v": v_loss}

    def advantage(self, params: Level, target: Level, batch: Transition) -> Advantage:
        """Return - level, the same for every step and agent of an episode."""
        team = batch.outcome - params.value
        return Advantage(team, jnp.broadcast_to(team[:, None], batch.obs.shape[:2]))


def _init_team_values(hidden, spec, key):
    keys = jax.random.split(key, 4)
    inputs = spec.obs_dim + spec.action_dim
    critics = tuple(MLP(inputs, hidden, 1, k, norm=True) for k in keys[:2])
    return TeamValues(critics, MLP(spec.obs_dim, hidden, 1, keys[2], norm=True), Mixer(spec, keys[3]))


def _mean_square(x, where):
    return jnp.sum(jnp.square(x) * where) / jnp.maximum(where.sum(), 1)


def _cautious_q(target, batch):
    """Slow mixer weights [b, n] and, of the two slow critics, each row's Q_i with the lower total; fixed."""
    weights, q = target.mixer(batch.state)[0], target.q(batch)
    lower = (weights * q).sum(-1).argmin(0)
    return stop_gradient((weights, jnp.take_along_axis(q, lower[None, :, None], axis=0)[0]))


def _q_loss(params, target, batch):
    """Both critics towards R + discount V_tot(s'), values and mixer of s' from the slow copy."""
    weights, bias = target.mixer(batch.next_state)
    following = (weights * target.v(batch.next_obs)).sum(-1) + bias
    goal = stop_gradient(batch.reward + batch.discount * following)
    weights, bias = params.mixer(batch.state)
    q_tot = (weights * params.q(batch)).sum(-1) + bias
    return jnp.square(q_tot - goal).sum(0).mean()


Values = LinearAdvantage | CentralAdvantage | EpisodeReturn | ReturnToGo | MixedIQL | OMIGA
LEARNERS = get_args(Values)
