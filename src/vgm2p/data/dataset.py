"""Datasets: episodes stored once per state, and the one place where their alignment is decided.

An episode of L transitions has L + 1 states, L joint actions and L rewards; it either truly ended
(`terminated`) or was cut by the time limit. Everything else follows: no dummy rows, no flags per row, no
transition across a border. Only a true end sets the discount to 0.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # its parts load when they are first used
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpy import ndarray

from vgm2p.actions import Codec
from vgm2p.errors import InputError
from vgm2p.types import Sampling, Sight, Transition
from vgm2p.view import Standardise, TeamView


@dataclass(frozen=True)
class Dataset:
    """Logged episodes of a team.

    state: float32 [transitions + episodes, s], episodes one after another.
    action: [transitions, n, a] float32 as logged, or [transitions, n] int32 choices.
    reward: float32 [transitions], the team's.
    lengths: int32 [episodes], transitions of each.
    terminated: bool [episodes], True where the episode truly ended.
    card: what is known of where the data come from (see `card.py`).
    obs: float [rows, n, o], what each agent observed, where that is not the whole state; rows as in state.
    legal: bool [rows, n, choices], which each agent had; None where actions are no choices; rows as in state.
    present: bool [rows, n], which agents were there, where actions are numbers and agents may leave.
    """

    state: Float[ndarray, "rows s"]
    action: Float[ndarray, "transitions n a"] | Int[ndarray, "transitions n"]
    reward: Float[ndarray, " transitions"]
    lengths: Int[ndarray, " episodes"]
    terminated: Bool[ndarray, " episodes"]
    card: dict[str, Any]
    obs: Float[ndarray, "rows n o"] | None = None
    legal: Bool[ndarray, "rows n choices"] | None = None
    present: Bool[ndarray, "rows n"] | None = None

    def __post_init__(self):
        self._check_shapes()
        transitions, episodes = int(self.lengths.sum()), len(self.lengths)
        expected = {
            "state": (self.state, transitions + episodes),
            "action": (self.action, transitions),
            "reward": (self.reward, transitions),
            "terminated": (self.terminated, episodes),
            "obs": (self.obs, transitions + episodes),
            "legal": (self.legal, transitions + episodes),
            "present": (self.present, transitions + episodes),
        }
        for name, (array, rows) in expected.items():
            if array is None:
                continue
            if len(array) != rows:
                raise InputError(
                    f"{self.id}: field {name!r} has {len(array)} rows but 'lengths' asks for {rows}; "
                    "an episode of L transitions has L + 1 states, L actions and L rewards"
                )
            row = _not_finite(array)
            if row is not None:
                raise InputError(
                    f"{self.id}: field {name!r} holds {array[row].ravel()[:4]}... in row {row}: "
                    "remove or repair the episodes with non-finite numbers, or make the data again"
                )

    def _check_shapes(self):
        if (empty := np.flatnonzero(self.lengths < 1)).size:
            raise InputError(
                f"{self.id}: episode {empty[0]} has {self.lengths[empty[0]]} steps: leave it out"
            )
        if (self.action.ndim == 2) != (self.legal is not None):
            raise InputError(
                f"{self.id}: field 'action' has shape {self.action.shape}, 'legal' is "
                f"{'missing' if self.legal is None else 'there'}: choices [transitions, n] need it, numbers "
                "[transitions, n, a] can't have it"
            )
        if self.legal is not None:
            self._check_choices(self.legal.shape[-1])
        there = {"action": self.action, "obs": self.obs, "legal": self.legal, "present": self.present}
        agents = {name: x.shape[1] for name, x in there.items() if x is not None}
        if len(set(agents.values())) > 1:
            raise InputError(f"{self.id}: fields are of different numbers of agents: {agents}")

    def _check_choices(self, known):
        if self.action.min(initial=0) >= 0 and self.action.max(initial=0) < known:
            return
        row, agent = np.argwhere((self.action < 0) | (self.action >= known))[0]
        raise InputError(
            f"{self.id}: field 'action' holds choice {self.action[row, agent]} of agent {agent} in row "
            f"{row}, 'legal' knows the choices 0 to {known - 1}: count from 0, give 'legal' a column for each"
        )

    @property
    def id(self) -> str:
        """The data's name, as in its card."""
        return self.card["id"]

    @property
    def action_dim(self) -> int:
        """Width of one agent's action, or its number of choices."""
        return self.action.shape[-1] if self.legal is None else self.legal.shape[-1]

    @property
    def sight(self) -> Sight:
        """What the environment showed, row by row."""
        return Sight(self.state, self.obs, self.legal, self.present)

    @property
    def returns(self) -> Float[ndarray, " episodes"]:
        """Undiscounted return of each episode."""
        return np.add.reduceat(self.reward.astype(np.float64), self.first)

    def state_rows(self, transitions: Int[ndarray, " k"]) -> Int[ndarray, " k"]:
        """Where each transition's state stands: every episode before it has one state more than steps."""
        return transitions + np.searchsorted(np.cumsum(self.lengths), transitions, side="right")

    def rows(self, episodes: Int[ndarray, " k"]) -> Int[ndarray, " transitions"]:
        """The transitions of the named episodes, in that order."""
        first, lengths = self.first, self.lengths
        found = [np.arange(first[e], first[e] + lengths[e]) for e in episodes]
        return np.concatenate(found or [np.zeros(0, int)])

    @property
    def first(self) -> Int[ndarray, " episodes"]:
        """The first transition of each episode."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    def view(self, standardise: Standardise = "dataset", padding: int = 0, history: int = 1) -> TeamView:
        """What agents observe, with this data's statistics."""
        return TeamView.of(self.sight, self.action.shape[1], standardise, padding, history)

    def replay(
        self, view: TeamView, sampling: Sampling, codec: Codec, whole: "Whole | None" = None
    ) -> "Replay":
        """The data on the device, ready to be sampled, with rewards summed over the look-ahead.

        Rewards are divided by their standard deviation and multiplied by (1 - discount), so that values are
        about one whatever the task and discount. `whole`: what is said of these episodes by all the data, if
        they are a part of them.
        """
        discount, lookahead = sampling.discount, sampling.lookahead
        whole = whole or Whole.of(self, np.arange(len(self.lengths)), sampling, codec)
        scale = (1 - discount) / whole.reward_std
        arrays = _look_ahead(self.reward * scale, self.lengths, self.terminated, discount, lookahead)
        outcome = np.repeat(whole.outcome, self.lengths).astype(np.float32)
        halves = np.repeat(whole.halves, self.lengths, axis=0)
        row, next_row, summed, kept = (jnp.asarray(x) for x in arrays)
        return Replay(
            sight=jax.tree.map(jnp.asarray, self.sight),
            action=jnp.asarray(self.action),
            row=row,
            next_row=next_row,
            age=jnp.asarray(np.concatenate([np.arange(length) for length in self.lengths])),
            reward=summed,
            discount=kept,
            outcome=jnp.asarray(outcome),
            halves=jnp.asarray(halves),
            habits=Habits.of(self.lengths, whole.habit, sampling.habit),
            size=jnp.int32(len(row)),
            view=view,
        )

    def best(self, tau: float) -> Int[ndarray, " k"]:
        """Which episodes' return reaches the tau-expectile of the returns over all transitions.

        An episode so counts by its length. tau: between 0 and 1; 0.5 is the mean.
        """
        level = scipy.stats.expectile(self.returns, tau, weights=self.lengths)
        reached = self.returns >= min(level, self.returns.max())  # rounding must not leave none
        return np.flatnonzero(reached)

    def take(self, episodes: Int[ndarray, " k"]) -> "Dataset":
        """The named episodes, in that order."""
        first, lengths, row = self.first, self.lengths, self.rows(episodes)
        states = [np.arange(first[e] + e, first[e] + e + lengths[e] + 1) for e in episodes]
        state = np.concatenate(states or [np.zeros(0, int)])
        return Dataset(
            self.state[state],
            self.action[row],
            self.reward[row],
            lengths[episodes],
            self.terminated[episodes],
            self.card,
            *(None if x is None else x[state] for x in (self.obs, self.legal, self.present)),
        )


class Whole(NamedTuple):
    """What all the data say of each episode and of scales, so that a part of them can be learned from."""

    reward_std: float
    outcome: Float[ndarray, " e"]  # returns, standardised over transitions
    halves: Bool[ndarray, "e h"]
    habit: "Habit"

    @staticmethod
    def of(data: Dataset, episodes: Int[ndarray, " e"], sampling: Sampling, codec: Codec) -> "Whole":
        """Of some episodes of a dataset, in that order; actions are read only if they tell a habit."""
        lengths, returns = data.lengths[episodes], data.returns[episodes]
        std = float(data.reward[data.rows(episodes)].std())
        per_row = np.repeat(returns, lengths)
        spread = per_row.std() if per_row.std() > 1e-6 else 1.0
        return Whole(
            reward_std=std if std > 1e-6 else 1.0,
            outcome=(returns - per_row.mean()) / spread,
            halves=_halves(len(lengths), sampling.halves),
            habit=Habit.of(data, episodes, codec, sampling.habit),
        )

    def take(self, episodes: Int[ndarray, " k"]) -> "Whole":
        """The same of some episodes."""
        habit = self.habit._replace(total=self.habit.total[episodes])
        return self._replace(outcome=self.outcome[episodes], halves=self.halves[episodes], habit=habit)


class Habit(NamedTuple):
    """How each episode's team sets out: the sum of its (coded) actions of the first steps, and the scale."""

    total: Float[ndarray, "e n a"]
    mean: Float[ndarray, "n a"]
    std: Float[ndarray, "n a"]

    @staticmethod
    def of(data: Dataset, episodes: Int[ndarray, " e"], codec: Codec, steps: int) -> "Habit":
        """Of the first `steps` of every such episode; shorter ones are padded, so that one shape compiles."""
        lengths = data.lengths[episodes]
        seen, first = np.minimum(lengths, steps), data.first[episodes]
        total = np.zeros((len(lengths), data.action.shape[1], codec.dim))
        taken = np.zeros((steps, *data.action.shape[1:]), data.action.dtype)
        for i in range(len(lengths) if steps else 0):
            taken[: seen[i]] = data.action[first[i] : first[i] + seen[i]]
            coded = np.asarray(codec.encode(jnp.asarray(taken)))
            total[i] = coded[: seen[i]].sum(0, dtype=np.float64)
        average, weight = total / np.maximum(seen, 1)[:, None, None], lengths / lengths.sum()
        mean = np.einsum("e,ena->na", weight, average)
        std = np.sqrt(np.einsum("e,ena->na", weight, np.square(average - mean)))
        return Habit(total, mean, std)


class Habits(NamedTuple):
    """How each episode's team sets out, its mean action in the first steps: who acted, as far as a log tells.

    The transition's own action is left out. Actions after the first steps are left out too, for they follow
    from those before: given them, an action would get no credit for what it led to. (Within the first steps
    later ones still tell a little of that.)
    """

    episode: Int[Array, " transitions"]
    early: Bool[Array, " transitions"]  # among its episode's first steps?
    total: Float[Array, "episodes n a"]  # sum of the (coded) actions of the first steps
    seen: Float[Array, " episodes"]  # how many those are
    mean: Float[Array, "n a"]
    std: Float[Array, "n a"]

    @staticmethod
    def of(lengths: Int[ndarray, " e"], habit: Habit, steps: int) -> "Habits":
        """The habits of episodes of these lengths, from the first `steps` of each."""
        early = np.concatenate([np.arange(length) < steps for length in lengths])
        seen = np.minimum(lengths, steps)
        episode = np.repeat(np.arange(len(lengths)), lengths)
        floats = (jnp.asarray(x, jnp.float32) for x in (habit.total, seen, habit.mean, habit.std + 1e-6))
        return Habits(jnp.asarray(episode), jnp.asarray(early), *floats)

    def sample(self, index: Int[Array, " b"], code: Float[Array, "b n a"]) -> Float[Array, "b n a"]:
        """Each transition's habit, standardised; 0 where no other action tells it. `code`: its own action."""
        episode, own = self.episode[index], self.early[index].astype(jnp.float32)
        others = (self.seen[episode] - own)[:, None, None]
        average = (self.total[episode] - own[:, None, None] * code) / jnp.maximum(others, 1.0)
        return jnp.where(others > 0, (average - self.mean) / self.std, 0.0)


class Replay(NamedTuple):
    """A dataset on the device; `sample` draws transitions uniformly."""

    sight: Sight  # row by row
    action: Array
    row: Int[Array, " transitions"]  # of the state
    next_row: Int[Array, " transitions"]  # of the state after the look-ahead
    age: Int[Array, " transitions"]  # steps since its episode began
    reward: Float[Array, " transitions"]
    discount: Float[Array, " transitions"]
    outcome: Float[Array, " transitions"]  # the episode's return, standardised over transitions
    halves: Bool[Array, "transitions h"]  # is its episode in each random half?
    habits: Habits
    size: Int[Array, ""]  # transitions; what lies behind them is padding (window.py)
    view: TeamView

    def sample(self, codec: Codec, batch: int, key: PRNGKeyArray) -> Transition:
        """`batch` transitions drawn with replacement; all agents of a transition stay together."""
        index = jax.random.randint(key, (batch,), 0, self.size)
        row, next_row, age = self.row[index], self.next_row[index], self.age[index]
        shown, following = self.shown(row, age), self.shown(next_row, age + next_row - row)
        action = codec.encode(self.action[index])
        return Transition(
            obs=self.view.obs(shown),
            state=self.view.state(shown.state),
            action=action,
            reward=self.reward[index],
            discount=self.discount[index],
            next_obs=self.view.obs(following),
            next_state=self.view.state(following.state),
            outcome=self.outcome[index],
            halves=self.halves[index],
            habit=self.habits.sample(index, action),
            legal=shown.legal,
            next_legal=following.legal,
            present=shown.present,
        )

    def shown(self, row: Int[Array, " b"], age: Int[Array, " b"]) -> Sight:
        """What the environment showed there, with what agents remember of the `age` steps before."""
        sight, history = jax.tree.map(lambda x: x[row], self.sight), self.view.history
        if history == 1 or self.sight.obs is None:
            return sight
        back = jnp.arange(history)
        seen = self.sight.obs[jnp.maximum(row[:, None] - back, 0)]  # [b, history, n, o]
        seen = jnp.where((back <= age[:, None])[..., None, None], seen, 0)
        return sight._replace(obs=jnp.moveaxis(seen, 1, 2).reshape(*sight.obs.shape[:-1], -1))


def _not_finite(array, block=65_536):
    """The first row that holds a number that is none, or None; block by block, for arrays on disk."""
    if array.dtype.kind != "f":
        return None
    for first in range(0, len(array), block):
        bad = ~np.isfinite(array[first : first + block])
        if bad.any():
            return first + int(np.argwhere(bad)[0][0])
    return None


def _look_ahead(reward, lengths, terminated, discount, lookahead):
    """(row, next_row, reward, discount) of every transition for a look-ahead of at least one step.

    With T the episode's end and k = min(lookahead, T - t): the reward is the sum of discount^j r_{t+j} over
    j < k, next_row is the state at t + k, and the discount is discount^k, or 0 where that is a true end.
    """
    left = np.concatenate([np.arange(n, 0, -1) for n in lengths])
    episode = np.repeat(np.arange(len(lengths)), lengths)
    row = np.arange(len(reward)) + episode
    ahead = np.minimum(lookahead, left)
    at_end = ahead == left
    to_go = _rewards_to_go(reward, lengths, discount)
    later = np.where(at_end, 0.0, to_go[np.minimum(np.arange(len(reward)) + ahead, len(reward) - 1)])
    decay = discount**ahead
    kept = decay * ~(at_end & terminated[episode])
    summed = to_go - decay * later
    return row, row + ahead, summed.astype(np.float32), kept.astype(np.float32)


def _halves(episodes, count):
    """`count` random halves of the episodes [episodes, count], the same for every seed of training."""
    draw = np.random.default_rng(0).random((count, episodes)).argsort(1).argsort(1)
    return (draw < (episodes + 1) // 2).T


def _rewards_to_go(reward, lengths, discount):
    """Sum of discount^j r_{t+j} to the end of each episode."""
    to_go, first = np.empty(len(reward)), 0
    for length in lengths:
        piece = slice(first, first + length)
        backwards = reward[piece][::-1].astype(np.float64)
        to_go[piece] = scipy.signal.lfilter([1.0], [1.0, -discount], backwards)[::-1]
        first += length
    return to_go
