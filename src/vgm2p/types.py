"""The types that every room of the house shares.

Axis letters, once: `b` batch, `n` agents, `o` observation, `a` action, `s` state, `k` critics,
`e` episodes, `h` halves of the data. `t` and `r` are flow times, never axes. `*b`: any leading axes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpy import ndarray

from vgm2p.actions import Codec
from vgm2p.errors import InputError

Metrics = dict[str, Float[Array, ""]]
Params = Any  # a pytree of arrays; each algorithm names its own
Chance = PRNGKeyArray | Float[Array, "*d b n a"]  # a key, or the standard normal noise that it would draw


@dataclass(frozen=True)
class Spec:
    """The sizes of a task and a training: all that an algorithm must know beside its own fields.

    n: number of agents.
    updates: the planned number of updates, over which learning rates fall to zero; constant if None.
    """

    n: int
    obs_dim: int
    state_dim: int
    actions: Codec
    updates: int | None = None

    @property
    def action_dim(self) -> int:
        """Width of one agent's (coded) action."""
        return self.actions.dim


class Sight(NamedTuple):
    """What an environment shows at one moment, and what a dataset keeps of it, in NumPy or on the device.

    state: all there is to know, for values; policies see it only if every agent does.
    obs: what each agent observes, zero-padded to the widest; None if that is the whole state.
    legal: which choices each agent has; None where actions are no choices.
    present: which agents are there; None if always all, or if `legal` tells (who is gone may only wait).
    """

    state: Float[Any, "*b s"]
    obs: Float[Any, "*b n o"] | None = None
    legal: Bool[Any, "*b n a"] | None = None
    present: Bool[Any, "*b n"] | None = None

    @property
    def acting(self) -> Bool[Any, "*b n"] | None:
        """Which agents were there and had a choice. None: all."""
        return self.present if self.legal is None else had_choice(self.legal)


class Sampling(NamedTuple):
    """What an algorithm asks of its batches; the defaults are those of plain cloning."""

    pool: int = 1  # transitions drawn for each row that the policy trains on
    discount: float = 0.99  # factor per step on later rewards
    lookahead: int = 1  # steps whose rewards a transition sums up
    selection: float | None = None  # expectile of the returns that an episode must reach to be drawn from
    halves: int = 0  # random halves of the episodes that a transition names its places in
    habit: int = 0  # first steps of an episode whose mean action tells which team acts


def check_sampling(asked: Sampling) -> None:
    """InputError for batches that nothing can be learned from."""
    for name in ("pool", "lookahead"):
        if getattr(asked, name) < 1:
            raise InputError(f"{name} {getattr(asked, name)} must be at least 1")
    if asked.habit < 0:
        raise InputError(f"habit {asked.habit} must be at least 0, which tells nothing")
    if asked.selection is not None and not 0.0 <= asked.selection <= 1.0:
        raise InputError(f"selection {asked.selection} must be an expectile, 0 to 1; 0.5 is the mean")
    if not 0.0 <= asked.discount < 1.0:
        raise InputError(
            f"discount {asked.discount} must be at least 0 and below 1: rewards are scaled by 1 - discount"
        )


def check_seed(seed: int) -> None:
    """InputError for a seed that JAX's keys do not tell from another."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed} must be 0 to {2**32 - 1:,}: JAX's keys tell no others apart")


def had_choice(legal: Bool[Array, "*b n a"]) -> Bool[Array, "*b n"]:
    """Which agents had more than one legal choice: not the dead, who may only wait."""
    return legal.sum(-1) > 1


class Transition(NamedTuple):
    """One step of the team, or a look-ahead of several (`Replay.sample`)."""

    obs: Float[Array, "*b n o"]
    state: Float[Array, "*b s"]
    action: Float[Array, "*b n a"]  # as the codec regresses it
    reward: Float[Array, "*b"]  # the team's, summed over the look-ahead
    discount: Float[Array, "*b"]  # what multiplies the value of `next_*`: 0 after a true end
    next_obs: Float[Array, "*b n o"]
    next_state: Float[Array, "*b s"]
    outcome: Float[Array, "*b"]  # the return of the whole episode, standardised over the data's transitions
    halves: Bool[Array, "*b h"]  # is its episode in each of the random halves of the data?
    habit: Float[Array, "*b n a"]  # how its team sets out: mean action of the first steps, standardised
    legal: Bool[Array, "*b n a"] | None = None  # None: every choice
    next_legal: Bool[Array, "*b n a"] | None = None
    present: Bool[Array, "*b n"] | None = None  # None: every agent, or as `legal` tells

    @property
    def acting(self) -> Bool[Array, "*b n"] | None:
        """Which agents were there and had a choice. None: all."""
        return Sight(self.state, self.obs, self.legal, self.present).acting


class TrainState(NamedTuple):
    """All that training changes. No key inside: keys come from the step number."""

    params: Params
    target: Params  # exponential moving averages
    opt: Any
    step: Int[Array, ""]


class Episodes(NamedTuple):
    """What an evaluation saw; one row per episode."""

    returns: Float[ndarray, " e"]
    lengths: Int[ndarray, " e"]
    wins: Bool[ndarray, " e"] | None = None  # None: nothing to win
