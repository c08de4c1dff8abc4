"""What each agent observes: the full state, standardised, and its own one-hot id (the paper's convention)."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Standardise = Literal["dataset", "vector"]


class TeamView(eqx.Module):
    """Turns the state into every agent's observation; travels inside the policy.

    "dataset": (state - mean) / std with the statistics of the training data, then the id.
    "vector": OMIGA's: the raw state, `padding` zeros and the id are one vector, shifted and scaled to
      zero mean and unit variance over its own entries. Ant's published vectors have 84 such zeros.
    """

    mean: Float[Array, " s"]
    std: Float[Array, " s"]
    n: int = eqx.field(static=True)
    standardise: Standardise = eqx.field(static=True, default="dataset")
    padding: int = eqx.field(static=True, default=0)

    @staticmethod
    def of(
        state: Float[np.ndarray, "rows s"], n: int, standardise: Standardise = "dataset", padding: int = 0
    ) -> "TeamView":
        """A view with the mean and standard deviation of `state`; constant entries keep scale 1."""
        mean, std = state.mean(0, dtype=np.float64), state.std(0, dtype=np.float64)
        std = np.where(std < 1e-6, 1.0, std)
        return TeamView(
            jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32), n, standardise, padding
        )

    @property
    def obs_dim(self) -> int:
        """Width of one agent's observation."""
        padding = self.padding if self.standardise == "vector" else 0
        return self.mean.shape[-1] + padding + self.n

    def state(self, state: Float[Array, "*b s"]) -> Float[Array, "*b s"]:
        """The standardised state, for mixers and state values."""
        return (state - self.mean) / self.std

    def obs(self, state: Float[Array, "*b s"]) -> Float[Array, "*b n o"]:
        """Every agent's observation of a raw state."""
        vector = self.standardise == "vector"
        shown = state if vector else self.state(state)
        shown = jnp.broadcast_to(shown[..., None, :], (*shown.shape[:-1], self.n, shown.shape[-1]))
        ids = jnp.broadcast_to(jnp.eye(self.n), (*shown.shape[:-1], self.n))
        if not vector:
            return jnp.concatenate([shown, ids], -1)
        zeros = jnp.zeros((*shown.shape[:-1], self.padding))
        obs = jnp.concatenate([shown, zeros, ids], -1)
        return (obs - obs.mean(-1, keepdims=True)) / obs.std(-1, keepdims=True)
