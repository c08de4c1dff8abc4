"""What every algorithm is, and the few lines that all of them share."""

from collections.abc import Callable
from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from vgm2p.nets import MLP, Activation
from vgm2p.types import Metrics, Params, Spec, TrainState, Transition


class Algorithm(Protocol):
    """A frozen dataclass of hyper-parameters with three pure methods; hashable, so a static argument.

    `lookahead` and `discount` say what `Transition.reward` and `.discount` must hold.
    `act` maps observations [*b, n, o] to actions to execute; the caller advances the key.
    """

    @property
    def noise(self) -> float:
        """Scale of the noise at execution."""
        ...

    @property
    def discount(self) -> float:
        """Factor per step on later rewards."""
        ...

    @property
    def lookahead(self) -> int:
        """Steps whose rewards a transition sums up."""
        ...

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks and optimiser."""
        ...

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One gradient step on a batch; metrics are scalars named `group/name`."""
        ...

    def act(
        self,
        spec: Spec,
        params: Params,
        obs: Float[Array, "*b n o"],
        key: PRNGKeyArray,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation."""
        ...


class Velocity(eqx.Module):
    """The flow's network u(z, t, r | o, condition), shared over agents.

    Times enter as t, t - r and their half waves: low frequencies only, because du/dt of high ones is
    large and makes the MeanFlow target explode.
    """

    net: MLP

    def __init__(
        self, spec: Spec, condition: int, hidden: tuple[int, ...], activation: Activation, key: PRNGKeyArray
    ):
        inputs = spec.action_dim + 6 + spec.obs_dim + condition
        self.net = MLP(inputs, hidden, spec.action_dim, key, activation=activation, last_gain=0.1)

    def __call__(
        self,
        z: Float[Array, "*b n a"],
        t: Float[Array, "*b n"],
        r: Float[Array, "*b n"],
        obs: Float[Array, "*b n o"],
        condition: Float[Array, "*b n c"],
    ) -> Float[Array, "*b n a"]:
        """The velocity of every agent's `z`, from its own observation."""
        times = jnp.stack([t, t - r], -1)
        waves = [times, jnp.sin(jnp.pi * times), jnp.cos(jnp.pi * times)]
        return self.net(jnp.concatenate([z, *waves, obs, condition], -1))


def optimiser(
    learning_rate: float, max_grad_norm: float, updates: int | None
) -> optax.GradientTransformation:
    """Adam, its rate falling to zero along a cosine over `updates` (constant if None).

    Before it, the gradient of each field of the parameters is clipped by its own norm, so that a spike in
    the values' gradient does not shrink the policy's step.
    """

    def clip(grads, _):
        norms = [optax.tree.norm(field) for field in grads]
        scales = [jnp.minimum(1.0, max_grad_norm / (norm + 1e-6)) for norm in norms]
        return type(grads)(*(optax.tree.scale(s, field) for s, field in zip(scales, grads, strict=True)))

    rate = optax.cosine_decay_schedule(learning_rate, updates) if updates else learning_rate
    return optax.chain(optax.stateless(clip), optax.adam(rate))


def descend(
    optimiser: optax.GradientTransformation,
    loss: Callable[[Params], tuple[Float[Array, ""], Metrics]],
    state: TrainState,
    rates: tuple[float, ...],
) -> tuple[TrainState, Metrics]:
    """One gradient step on `loss`; each field's slow copy then moves towards it by its rate."""
    grads, metrics = jax.grad(loss, has_aux=True)(state.params)
    updates, opt = optimiser.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    slow = (
        optax.incremental_update(fast, slow, rate)
        for fast, slow, rate in zip(params, state.target, rates, strict=True)
    )
    return TrainState(params, type(params)(*slow), opt, state.step + 1), metrics


def latent(spec: Spec, obs: Float[Array, "*b n o"], key: PRNGKeyArray, scale: float) -> Array:
    """The noise that agents start their jump from, `scale` times a standard normal [*b, n, a]."""
    return scale * jax.random.normal(key, (*obs.shape[:-1], spec.action_dim))


def pick(good: Bool[Array, "b n"], rows: int, key: PRNGKeyArray) -> Int[Array, "rows n"]:
    """For each agent, `rows` rows of the batch drawn among its good ones; among all if it has none.

    Agents whose labels agree get the same rows: a team's actions stay together.
    """
    uniform = jax.random.uniform(key, (rows, 1))
    count = good.sum(0)
    ranks = jnp.where(count > 0, jnp.floor(uniform * count), 0).astype(jnp.int32)
    order = jnp.argsort(~good, axis=0, stable=True)  # good rows first, in their order
    anywhere = jnp.floor(uniform * len(good)).astype(jnp.int32)
    return jnp.where(count > 0, jnp.take_along_axis(order, ranks, axis=0), anywhere)


def take_rows(x: Float[Array, "b n d"], index: Int[Array, "rows n"]) -> Float[Array, "rows n d"]:
    """Each agent's rows of `x`."""
    return jnp.take_along_axis(x, index[..., None], axis=0)
