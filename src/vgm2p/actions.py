"""Two codecs between what an environment takes and the vectors that algorithms regress on.

Every algorithm sees real vectors only, so one class serves continuous and discrete teams. A codec is
hashable and stateless: it travels inside `Spec`.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int


@dataclass(frozen=True)
class Continuous:
    """Actions in [-1, 1] per dimension.

    regress: "raw" learns the logged action as it is, also outside [-1, 1] (a Gaussian stays a Gaussian),
      and clips at execution; "clipped" learns what the motors saw, with atoms at the borders.
    """

    dim: int
    regress: Literal["raw", "clipped"] = "raw"
    discrete: Literal[False] = False

    @property
    def border(self) -> float:
        """The codes of what can be executed end at this size."""
        return 1.0

    def encode(self, action: Float[Array, "*b a"]) -> Float[Array, "*b a"]:
        """The regression target of a logged action."""
        return action if self.regress == "raw" else jnp.clip(action, -1.0, 1.0)

    def decode(self, code: Float[Array, "*b a"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b a"]:
        """The action to execute: the code, clipped to [-1, 1]. `legal` is not used."""
        del legal
        return jnp.clip(code, -1.0, 1.0)

    def expected(self, out: Float[Array, "*b a"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b a"]:
        """What a network's output says of the action: the action itself. `legal` is not used."""
        del legal
        return out

    def settle(self, code: Float[Array, "*b a"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b a"]:
        """The code of what would be executed, for critics; differentiable."""
        return self.decode(code, legal)


@dataclass(frozen=True)
class Discrete:
    """One of `dim` choices, coded as +`size` at the choice and -`size` elsewhere."""

    dim: int
    size: float = 1.0
    discrete: Literal[True] = True

    @property
    def border(self) -> float:
        """The codes of choices end at this size."""
        return self.size

    def encode(self, action: Int[Array, "*b"]) -> Float[Array, "*b a"]:
        """The code of a choice."""
        return self.size * (2.0 * (action[..., None] == jnp.arange(self.dim)) - 1.0)

    def decode(self, code: Float[Array, "*b a"], legal: Bool[Array, "*b a"] | None) -> Int[Array, "*b"]:
        """The legal choice whose code is nearest: the largest entry among the legal ones."""
        return jnp.where(legal, code, -jnp.inf).argmax(-1) if legal is not None else code.argmax(-1)

    def expected(self, out: Float[Array, "*b a"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b a"]:
        """The mean code of a choice whose logits are a network's output, among the legal choices.

        A flow's network estimates a mean of codes. Each is an average of codes of legal choices, so its
        probabilities say all, and need not learn from each observation what is legal.
        """
        return self.size * (2.0 * jax.nn.softmax(masked(out, legal)) - 1.0)

    def settle(self, code: Float[Array, "*b a"], legal: Bool[Array, "*b a"] | None) -> Float[Array, "*b a"]:
        """The code of the choice that would be executed, for critics; gradients pass straight through."""
        return code + stop_gradient(self.encode(self.decode(code, legal)) - code)


def masked(logits: Float[Array, "*b c"], legal: Bool[Array, "*b c"] | None) -> Float[Array, "*b c"]:
    """Logits that leave no illegal choice a chance."""
    return logits if legal is None else jnp.where(legal, logits, -1e9)


Codec = Continuous | Discrete
