"""What each agent observes, standardised, with its own one-hot id: the full state (the paper's convention)
or, where agents see less, what the environment shows each of them.
"""

from collections.abc import Iterable
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vgm2p.errors import InputError
from vgm2p.types import Sight

Standardise = Literal["dataset", "vector"]
REACH = 5.0  # an agent's own observations are clipped to so many standard deviations: some are hardly ever on


class TeamView(eqx.Module):
    """Turns what an environment shows into every agent's observation; travels inside the policy.

    "dataset": (state - mean) / std with the statistics of the training data, then the id. An agent's own
      observation, where it has one, likewise with its mean and deviation over agents, clipped; the last
      `history` of them lie side by side, newest first, as `Remembering` shows them.
    "vector": OMIGA's: the raw state, `padding` zeros and the id are one vector, shifted and scaled to
      zero mean and unit variance over its own entries. Ant's published vectors have 84 such zeros.
    """

    mean: Float[Array, " s"]
    std: Float[Array, " s"]
    own: tuple[Float[Array, " o"], ...]  # mean and std of agents' own observations, if they have any
    n: int = eqx.field(static=True)
    standardise: Standardise = eqx.field(static=True, default="dataset")
    padding: int = eqx.field(static=True, default=0)
    history: int = eqx.field(static=True, default=1)

    @staticmethod
    def of(
        sight: Sight, n: int, standardise: Standardise = "dataset", padding: int = 0, history: int = 1
    ) -> "TeamView":
        """A view with the means and standard deviations of `sight`; constant entries keep scale 1.

        history: how many of its own observations an agent sees. InputError if it has none of its own, or if
        they are to be standardised by "vector".
        """
        return TeamView.over([sight], n, standardise, padding, history)

    @staticmethod
    def over(
        blocks: Iterable[Sight],
        n: int,
        standardise: Standardise = "dataset",
        padding: int = 0,
        history: int = 1,
    ) -> "TeamView":
        """The same of what is shown block by block, for data larger than memory."""
        if history < 1:
            raise InputError(f"history {history} must be at least 1: the current observation counts")
        state, own = None, None
        for sight in blocks:
            if history > 1 and sight.obs is None:
                raise InputError(f"history {history}: these agents see the whole state, and need 1")
            if standardise == "vector" and sight.obs is not None:
                raise InputError(
                    'standardise "vector" is for agents that see the whole state; these see a part'
                )
            state = _merged(state, sight.state)
            own = None if sight.obs is None else _merged(own, sight.obs.reshape(-1, sight.obs.shape[-1]))
        if state is None:
            raise InputError("there is nothing to see: the data hold no episode")
        told = () if own is None else _scales(*own)
        return TeamView(*_scales(*state), told, n, standardise, padding, history)

    @property
    def obs_dim(self) -> int:
        """Width of one agent's observation."""
        if self.own:
            return self.history * self.own[0].shape[-1] + self.n
        padding = self.padding if self.standardise == "vector" else 0
        return self.mean.shape[-1] + padding + self.n

    def state(self, state: Float[Array, "*b s"]) -> Float[Array, "*b s"]:
        """The standardised state, for mixers and state values."""
        return (state - self.mean) / self.std

    def obs(self, sight: Sight) -> Float[Array, "*b n o"]:
        """Every agent's observation of what is shown."""
        if self.own:
            mean, std = (jnp.tile(x, self.history) for x in self.own)
            own = jnp.clip((jnp.asarray(sight.obs) - mean) / std, -REACH, REACH)
            return jnp.concatenate([own, self._ids(own.shape[:-2])], -1)
        vector = self.standardise == "vector"
        shown = sight.state if vector else self.state(sight.state)
        ids = self._ids(shown.shape[:-1])
        shown = jnp.broadcast_to(shown[..., None, :], (*shown.shape[:-1], self.n, shown.shape[-1]))
        if not vector:
            return jnp.concatenate([shown, ids], -1)
        zeros = jnp.zeros((*shown.shape[:-1], self.padding))
        obs = jnp.concatenate([shown, zeros, ids], -1)
        return (obs - obs.mean(-1, keepdims=True)) / obs.std(-1, keepdims=True)

    def _ids(self, axes):
        return jnp.broadcast_to(jnp.eye(self.n), (*axes, self.n, self.n))


def _merged(before: tuple | None, x: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """(rows, mean, standard deviation) of a block's rows and those before it (Chan, Golub and LeVeque)."""
    rows, mean, std = len(x), x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    if before is None:
        return rows, mean, std
    old_rows, old_mean, old_std = before
    total, gap = rows + old_rows, mean - old_mean
    variance = (rows * std**2 + old_rows * old_std**2) / total + rows * old_rows * (gap / total) ** 2
    return total, old_mean + gap * rows / total, np.sqrt(variance)


def _scales(rows: int, mean: np.ndarray, std: np.ndarray) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    std = np.where(std < 1e-6, 1.0, std)
    return jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
