"""The roll-out contract that every environment keeps, and the one loop that plays episodes with it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from vgm2p.types import Episodes

Step = tuple[
    Float[ndarray, "copies s"], Float[ndarray, " copies"], Bool[ndarray, " copies"], Bool[ndarray, " copies"]
]


class VecEnv(Protocol):
    """`copies` independent episodes side by side.

    `reset(seed)` starts all and returns their states; `step(action)` advances those still `running` and
    returns (state, reward, terminated, truncated); `restart(where)` begins new episodes in some.
    """

    copies: int
    horizon: int
    running: Bool[ndarray, " copies"]

    def reset(self, seed: int) -> Float[ndarray, "copies s"]:
        """Start an episode in every copy."""
        ...

    def step(self, action: ndarray) -> Step:
        """Advance the running copies."""
        ...

    def restart(self, where: Bool[ndarray, " copies"]) -> Float[ndarray, "copies s"]:
        """Start an episode in the copies of `where`."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...


def play(env: VecEnv, act: Callable[[Float[ndarray, "copies s"], int], ndarray], seed: int) -> Episodes:
    """One episode in every copy; `act(state, step)` returns the actions of all copies."""
    state = env.reset(seed)
    returns, lengths = np.zeros(env.copies), np.zeros(env.copies, int)
    for step in range(env.horizon):
        lengths += env.running
        state, reward, _, _ = env.step(act(state, step))
        returns += reward
        if not env.running.any():
            break
    return Episodes(returns, lengths)
