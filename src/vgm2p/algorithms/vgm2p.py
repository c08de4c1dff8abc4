"""VGM²P: clone the team's good actions with a one-step flow, guided by a global advantage.

Reconstructed from the abstract of "Value-Guidance MeanFlow for Offline Multi-Agent RL"
(arXiv 2604.08174) and its building blocks; the authors' code and text are not public. What is known,
borrowed and chosen stands in docs/method.md.

1. Values. A learner of `values.py` tells how much better than expected the team's action was: A_tot(s, a).
2. Condition. y = 1 where A_tot >= threshold, the same for every agent at that step.
3. Policy. Each agent clones p(a_i | o_i, good), and p(a_i | o_i) beside it, with one MeanFlow; guidance of
   strength w, an input of the network, is built into the target of the good, so one pass gives the action.

| equation | here |
|---|---|
| y = 1[A_tot >= delta] | `label_rows` |
| v_g = v + (1 - 1/w) (u_ema(z, t, t, good, w) - u_ema(z, t, t, any)) on guided rows, else v | `policy_loss` |
| min E [u + (t - r) sg(du/dt) - sg(v_g)]^2 | `policy_loss` |
| a_i = clip(e_i - u_ema(e_i, 1, 0, o_i, good, w)), e_i ~ noise N(0, I) | `act` |
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p import flows
from vgm2p.algorithms.algorithm import (
    Fit,
    ValuePolicyParams,
    Velocity,
    check_shared_noise,
    descend,
    flow_act,
    latent,
    pick,
    redraw,
    start,
)
from vgm2p.errors import InputError, check_not_negative, check_share, check_words
from vgm2p.flows import MeanFlow
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition
from vgm2p.values import LinearAdvantage, Values


@dataclass(frozen=True)
class VGM2P:
    """Value-guidance MeanFlow policy. Fields marked (execution) may be changed after training."""

    values: Values = LinearAdvantage()
    """Tells how much better than expected an action was; docs/findings.md says what was tried."""
    label: Literal["global", "local"] = "global"
    """One label for the team from A_tot ("global"), or one per agent from its own share ("local")."""
    threshold: float = 0.0
    """An action is good when its advantage is at least this, in the learner's units (default: sd)."""
    quantile: float | None = None
    """If set, the best such share of each batch is good, whatever the threshold."""
    guidance: float = 1.0
    """Strength w: 1 clones the good, more goes on from any towards good. (execution), or trained for alone
    if guidance_max is None."""
    guidance_max: float | None = 2.0
    """Some good rows learn every w in [1, this], drawn log-uniform for each, so that any may be asked for."""
    guided_share: float = 0.4
    """Share of the good rows that learn such strengths; the others learn w = 1. (if guidance_max is set)"""
    pool: int = 4
    """Transitions drawn, labelled and valued for each row that the policy trains on."""
    negatives: bool = False
    """Also clone bad actions, as a class of their own; else they train the unconditional flow alone."""
    null_share: float = 0.2
    """Share of the policy's rows that train the unconditional flow; less than the share of anchors."""
    warmup: int = 500
    """Updates during which every action counts as good, while the values settle."""
    flow: MeanFlow = MeanFlow()
    """How average velocities are trained."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    value_rate: float = 0.005
    """How fast the slow values follow, per update."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    shared_noise: bool = False
    """Every agent draws the whole team's noise, from a public seed: what they choose then fits together."""
    steps: int = 1
    """(execution) Jumps from noise to action; 1 is the method."""

    def __post_init__(self):
        check_words(self)
        check_shared_noise(self.shared_noise, self.steps)
        check_not_negative(self, "warmup")
        check_share(self, "guided_share", *(["quantile"] if self.quantile is not None else []))
        if self.shared_noise and self.label == "local":
            raise InputError('label "local": with shared_noise the team has one flow, and one "global" label')
        if not self.guidance >= 1.0:
            raise InputError(f"guidance {self.guidance} must be at least 1")
        if self.guidance_max is not None and not self.guidance <= self.guidance_max:
            raise InputError(
                f"guidance {self.guidance} must be at most guidance_max {self.guidance_max}, the largest "
                "strength that is trained for"
            )
        if not 0.0 < self.null_share < self.flow.anchors:
            raise InputError(
                f"null_share {self.null_share} must be above 0 and below flow.anchors, {self.flow.anchors}: "
                "both flows need rows with r = t"
            )

    @property
    def options(self) -> tuple[str, ...]:
        """The strength only if the network was told it."""
        return ("noise", "steps") if self.guidance_max is None else ("noise", "steps", "guidance")

    @property
    def sampling(self) -> Sampling:
        """What the labels need, and what the value learner asks for."""
        return self.values.sampling._replace(pool=self.pool)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        value_key, policy_key = jax.random.split(key)
        policy = Velocity(spec, 2, self.fit, policy_key, self.shared_noise)
        params = ValuePolicyParams(self.values.init(spec, value_key), policy)
        return start(spec, self.fit, params)

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the values and, with the labels they give now, one on the policy."""

        def loss(params):
            value_loss, value_metrics = self.values.loss(params.values, state.target.values, batch)
            good, label_metrics = self.label_rows(params.values, state.target.values, batch)
            good = good | (state.step < self.warmup)
            policy_loss = self.policy_loss(params.policy, state.target.policy, batch, good, key)
            metrics = value_metrics | label_metrics | {"loss/policy": policy_loss}
            return value_loss + policy_loss, metrics

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

    def label_rows(
        self, values: Any, slow_values: Any, batch: Transition
    ) -> tuple[Bool[Array, "b n"], Metrics]:
        """For each agent, was its action good? And metrics of the labels, as they are before the warm-up."""
        advantage = stop_gradient(self.values.advantage(values, slow_values, batch))
        team = jnp.broadcast_to(advantage.team[:, None], advantage.agents.shape)
        scores = team if self.label == "global" else advantage.agents
        threshold = self.threshold if self.quantile is None else jnp.quantile(scores, 1 - self.quantile)
        good = scores >= threshold
        metrics = {
            "label/positive": good.mean(),
            "label/outcome_correlation": _correlation(good.mean(-1), batch.outcome),
            "value/advantage": advantage.team.mean(),
            "value/advantage_std": advantage.team.std(),
        }
        return good, metrics

    def policy_loss(
        self,
        policy: Velocity,
        slow: Velocity,
        batch: Transition,
        good: Bool[Array, "b n"],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """The guided MeanFlow loss, on rows in this order, of which the flow's `anchors` lead with r = t:

            | any action | good | good, guided || good, guided | good |

        Any rows of the batch train the unconditional flow, at r = t, the only times at which it is ever
        asked. The others are drawn anew from the good ones, so that none is spent on the bad. Guided rows
        learn strengths above 1, the other good ones w = 1, for which v_g = v.
        """
        pick_key, draw_key, strength_key = jax.random.split(key, 3)
        rows = len(good) // self.pool
        null, anchors, guided = self._layout(rows)
        acting = None if self.shared_noise else batch.acting  # a joint flow has the team's rows
        index = pick(good | self.negatives, rows - null, pick_key, acting)
        drawn = redraw(batch, index, lead=null)
        label = jnp.where(jnp.take_along_axis(good, index, axis=0) | (not self.negatives), 1.0, -1.0)
        label = jnp.concatenate([jnp.zeros((null, label.shape[1])), label])
        strength = jnp.where(label > 0, self._strengths(label.shape, guided, strength_key), 1.0)
        condition = encode(label, strength)
        sample = self.flow.draw(drawn.action, draw_key, together=self.shared_noise)
        asked = slice(guided.start, None if self.flow.tangent == "ema" else guided.stop)
        v_good, v_any = _slow_velocities(slow, sample, drawn, condition, asked, guided)
        v, w = sample.v[guided], strength[guided]
        target = sample.v.at[guided].set(flows.guided_velocity(v, v_good[: len(v)], v_any, w))
        field = lambda z, t, r, c: policy(z, t, r, *c)  # noqa: E731
        tangent = v_good[anchors - asked.start :]
        return self.flow.loss(
            field, sample, (drawn.obs, condition, drawn.legal), target, tangent, drawn.acting
        )

    def act(
        self,
        spec: Spec,
        params: ValuePolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation, asking for "good": one network pass."""
        good = jnp.ones(obs.shape[:-1])
        condition = encode(good, self.guidance * good)
        field = lambda z, t, r: params.policy(z, t, r, obs, condition, legal)  # noqa: E731
        noise = latent(spec, obs, chance, self.noise)
        return flow_act(spec, self.flow, field, noise, self, legal)

    def _layout(self, rows):
        """(rows of any action, anchors, where the guided rows are) among `rows`; see `policy_loss`."""
        null, anchors = round(self.null_share * rows), self.flow.anchor_rows(rows)
        if not 0 < null < anchors:
            raise InputError(
                f"batch {rows} leaves no row to one of the two flows, of null_share {self.null_share} and "
                f"flow.anchors {self.flow.anchors}: take a larger one"
            )
        told = self.guidance_max is not None
        share = self.guided_share if told else float(self.guidance > 1.0)
        before, after = round(share * (anchors - null)), round(share * (rows - anchors))
        return null, anchors, slice(anchors - before, anchors + after)

    def _strengths(self, shape, guided, key):
        """w of every row: 1, but on guided rows fixed, or log-uniform in [1, guidance_max]."""
        row = jnp.arange(shape[0])[:, None]
        drawn = self.guidance
        if self.guidance_max is not None:
            each = (shape[0], 1) if self.shared_noise else shape
            drawn = jnp.exp(jax.random.uniform(key, each, maxval=jnp.log(self.guidance_max)))
        return jnp.where((guided.start <= row) & (row < guided.stop), drawn, jnp.ones(shape))


def _slow_velocities(slow, sample, drawn, condition, asked, guided):
    """The slow policy's marginal velocities: on `asked` rows as conditioned, on `guided` of any action."""
    parts = (condition[asked], jnp.zeros_like(condition[guided]))
    both = (sample.z, sample.t, drawn.obs, drawn.legal)
    z, t, obs, legal = jax.tree.map(lambda x: jnp.concatenate([x[asked], x[guided]]), both)
    return jnp.split(slow(z, t, t, obs, jnp.concatenate(parts), legal), [len(parts[0])])


def encode(label: Float[Array, "*b n"], strength: Float[Array, "*b n"]) -> Float[Array, "*b n 2"]:
    """The network's condition: asked for good (1), for anything (0) or for bad (-1), and the good's log w."""
    return jnp.stack([label, jnp.where(label > 0, jnp.log(strength), 0.0)], -1)


def _correlation(x, y):
    x, y = x - x.mean(), y - y.mean()
    return (x * y).mean() / jnp.sqrt(jnp.square(x).mean() * jnp.square(y).mean() + 1e-12)
