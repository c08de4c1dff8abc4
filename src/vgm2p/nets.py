"""Networks: callable pytrees (Equinox modules) that act on the last axis and carry any leading ones."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.errors import InputError

Activation = Literal["relu", "tanh", "silu", "gelu"]
_ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
}


class Linear(eqx.Module):
    """`x @ weight + bias`; orthogonal weights of the given gain, zero bias."""

    weight: Float[Array, "i o"]
    bias: Float[Array, " o"]

    def __init__(self, inputs: int, outputs: int, key: PRNGKeyArray, gain: float = 1.0):
        self.weight = jax.nn.initializers.orthogonal(gain)(key, (inputs, outputs))
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Acts on the last axis."""
        return x @ self.weight + self.bias


class MLP(eqx.Module):
    """A multilayer perceptron, optionally with LayerNorm before each activation."""

    layers: tuple[Linear, ...]
    activation: Activation = eqx.field(static=True)
    norm: bool = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...],
        outputs: int,
        key: PRNGKeyArray,
        *,
        activation: Activation = "gelu",
        norm: bool = False,
        last_gain: float = 1.0,
    ):
        if not isinstance(hidden, tuple) or not all(isinstance(x, int) and x >= 1 for x in hidden):
            raise InputError(f"hidden {hidden!r} must be a tuple of widths of at least 1, such as (256, 256)")
        widths = (inputs, *hidden, outputs)
        gains = [2**0.5] * len(hidden) + [last_gain]
        keys = jax.random.split(key, len(gains))
        self.layers = tuple(
            Linear(i, o, k, g) for i, o, k, g in zip(widths, widths[1:], keys, gains, strict=False)
        )
        self.activation, self.norm = activation, norm

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Acts on the last axis."""
        for layer in self.layers[:-1]:
            x = layer(x)
            x = _layer_norm(x) if self.norm else x
            x = _ACTIVATIONS[self.activation](x)
        return self.layers[-1](x)


def stacked(make: Callable[[PRNGKeyArray], Any], keys: PRNGKeyArray) -> Any:
    """`make(key)` for each key, on a leading axis.

    One after the other: `vmap` makes a batch of each QR decomposition, and where a program holds several,
    jaxlib 0.10 waits for ever on the CPU once every thread of its pool waits for the tasks of one.
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(make(key) for key in keys))


def mean(x: Float[Array, "*b"], where: Bool[Array, "*b"] | None) -> Float[Array, ""]:
    """The mean of a loss over all, or over those `where`; 0 if there are none."""
    return x.mean() if where is None else (x * where).sum() / jnp.maximum(where.sum(), 1)


def _layer_norm(x):
    """Zero mean and unit variance over features; no affine part, the next layer has one."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)
