"""The roll-out contract that every environment keeps, and the one loop that plays episodes with it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from vgm2p.errors import InputError
from vgm2p.types import Episodes, Sight

Step = tuple[Sight, Float[ndarray, " copies"], Bool[ndarray, " copies"], Bool[ndarray, " copies"]]


class VecEnv(Protocol):
    """`copies` independent episodes side by side.

    `reset(seed)` starts all and returns what they show; `step(action)` advances those still `running` and
    returns (sight, reward, terminated, truncated); `restart(where)` begins new episodes in some. `won` says
    which copies have won their latest episode; None where there is nothing to win.
    """

    copies: int
    horizon: int
    choices: int  # how many an agent has; 0 where actions are continuous
    dt: float  # seconds of a film that a step takes

    @property
    def running(self) -> Bool[ndarray, " copies"]:
        """Which copies have not ended."""
        ...

    @property
    def won(self) -> Bool[ndarray, " copies"] | None:
        """Which copies have won their latest episode."""
        ...

    def reset(self, seed: int) -> Sight:
        """Start an episode in every copy."""
        ...

    def step(self, action: ndarray) -> Step:
        """Advance the running copies."""
        ...

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Start an episode in the copies of `where`."""
        ...

    def picture(self, size: int) -> UInt8[ndarray, "size size 3"]:
        """The first copy as it is now, for a film."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...


class Remembering:
    """An environment whose agents see their last `history` observations, newest first, zeros before.

    In `obs` they lie side by side: [copies, n, history * o].
    """

    def __init__(self, env: VecEnv, history: int):
        self.env, self.history = env, history
        self.copies, self.horizon, self.choices, self.dt = env.copies, env.horizon, env.choices, env.dt

    @property
    def running(self) -> Bool[ndarray, " copies"]:
        """Which copies have not ended."""
        return self.env.running

    @property
    def won(self) -> Bool[ndarray, " copies"] | None:
        """Which copies have won their latest episode."""
        return self.env.won

    def reset(self, seed: int) -> Sight:
        """Start an episode in every copy, with nothing to remember. InputError if agents see the state."""
        sight = self.env.reset(seed)
        if sight.obs is None:
            raise InputError(f"history {self.history}: agents see the whole state there, and need 1")
        obs = np.asarray(sight.obs)
        self._seen = np.zeros((self.history, *obs.shape), obs.dtype)
        return self._shown(sight)

    def step(self, action: ndarray) -> Step:
        """Advance the running copies."""
        sight, *rest = self.env.step(action)
        self._seen = np.roll(self._seen, 1, axis=0)
        return self._shown(sight), *rest

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Start an episode in the copies of `where`, with nothing to remember."""
        sight = self.env.restart(where)
        self._seen[:, where] = 0
        return self._shown(sight)

    def picture(self, size: int) -> UInt8[ndarray, "size size 3"]:
        """The first copy as it is now."""
        return self.env.picture(size)

    def close(self) -> None:
        """Free what the environment holds."""
        self.env.close()

    def _shown(self, sight):
        self._seen[0] = sight.obs
        newest_first = np.moveaxis(self._seen, 0, 2)  # [copies, n, history, o]
        return sight._replace(obs=newest_first.reshape(*newest_first.shape[:2], -1))


def play(env: VecEnv, act: Callable[[Sight, int], ndarray], seed: int) -> Episodes:
    """One episode in every copy; `act(sight, step)` returns the actions of all copies."""
    sight = env.reset(seed)
    returns, lengths = np.zeros(env.copies), np.zeros(env.copies, int)
    for step in range(env.horizon):
        lengths += env.running
        sight, reward, _, _ = env.step(act(sight, step))
        returns += reward
        if not env.running.any():
            break
    return Episodes(returns, lengths, env.won)
