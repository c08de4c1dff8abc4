"""What every algorithm is, and the few lines that all of them share."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from vgm2p.actions import Codec
from vgm2p.errors import InputError, check_positive, check_share, check_words
from vgm2p.flows import Field, MeanFlow
from vgm2p.nets import MLP, Activation
from vgm2p.types import Chance, Metrics, Params, Sampling, Spec, TrainState, Transition
from vgm2p.values import Values


class Algorithm(Hashable, Protocol):
    """A frozen dataclass of hyper-parameters with three pure methods; hashable, so a static argument.

    `act` maps observations [*b, n, o] to actions to execute; the caller advances the key, or gives the
    standard normal noise itself, where the caller is a controller that has no keys (`export.py`).
    """

    @property
    def noise(self) -> float:
        """Scale of the noise at execution."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """The fields that may be changed after training."""
        ...

    @property
    def sampling(self) -> Sampling:
        """What its batches must hold."""
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
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation."""
        ...


@dataclass(frozen=True)
class Fit:
    """A policy's network and how it is fitted: what all algorithms have in common."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the policy's hidden layers."""
    activation: Activation = "gelu"
    """Between the policy's layers."""
    learning_rate: float = 1e-3
    """Adam's, falling to zero along a cosine over the planned updates."""
    max_grad_norm: float = 1.0
    """Longest gradient that passes unclipped, values and policy each by itself."""
    slow_rate: float = 0.001
    """How fast the slow policy, which guides and acts, follows per update."""

    def __post_init__(self):
        check_words(self)
        check_share(self, "slow_rate")
        check_positive(self, "learning_rate", "max_grad_norm")

    def optimiser(self, updates: int | None) -> optax.GradientTransformation:
        """Adam, its rate falling to zero along a cosine over `updates` (constant if None).

        Before it, the gradient of each field of the parameters is clipped by its own norm, so that a spike
        in the values' gradient does not shrink the policy's step.
        """
        clip = optax.stateless(lambda grads, _: _clip_fields(grads, self.max_grad_norm))
        rate = optax.cosine_decay_schedule(self.learning_rate, updates) if updates else self.learning_rate
        return optax.chain(clip, optax.adam(rate))


class Execution(Protocol):
    """What a flow's algorithm says of acting."""

    @property
    def noise(self) -> float:
        """Scale of the latent noise."""
        ...

    @property
    def steps(self) -> int:
        """Jumps from noise to action."""
        ...


class PolicyParams(NamedTuple):
    """What cloning learns; `TrainState.target` holds the slow copy in the same shape."""

    policy: Any


class ValuePolicyParams(NamedTuple):
    """What is learned with values; `TrainState.target` holds the slow copies in the same shape."""

    values: Any
    policy: Any


class Velocity(eqx.Module):
    """The flow's velocity u(z, t, r | o, condition) from one network, shared over agents.

    The network answers in actions: u = (z - x) / max(t, 0.1), x its output (of choices: their codes' mean by
    its probabilities). With r = 0 and t over 0.1, x is where the flow through z ends; at t = 1 it is what
    an agent does. Logged actions given an observation are narrow, so x hardly depends on z, where u would
    have to be nearly (z - x) / t itself.

    Times enter as t, t - r and their half waves: low frequencies only, because du/dt of high ones is
    large and makes the MeanFlow target explode.

    shared_noise: z of the whole team is known to every agent, as if each drew all of the noise from a public
    seed. The agents' flows are then parts of one joint flow: one jump of each, from its own observation, and
    actions fit together that no product of independent policies can make fit.
    """

    net: MLP
    actions: Codec = eqx.field(static=True)
    shared_noise: bool = eqx.field(static=True)

    def __init__(self, spec: Spec, condition: int, fit: Fit, key: PRNGKeyArray, shared_noise: bool = False):
        self.actions, self.shared_noise = spec.actions, shared_noise
        noise = spec.action_dim * (spec.n if shared_noise else 1)
        inputs = noise + 6 + spec.obs_dim + condition
        self.net = MLP(inputs, fit.hidden, spec.action_dim, key, activation=fit.activation, last_gain=0.1)

    def __call__(
        self,
        z: Float[Array, "*b n a"],
        t: Float[Array, "*b n"],
        r: Float[Array, "*b n"],
        obs: Float[Array, "*b n o"],
        condition: Float[Array, "*b n c"],
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Float[Array, "*b n a"]:
        """The velocity of every agent's `z`, from its own observation and what it may choose."""
        times = jnp.stack([t, t - r], -1)
        waves = [times, jnp.sin(jnp.pi * times), jnp.cos(jnp.pi * times)]
        out = self.net(jnp.concatenate([self._known(z), *waves, obs, condition], -1))
        x = self.actions.expected(out, legal)
        return (z - x) / jnp.maximum(t, 0.1)[..., None]

    def _known(self, z):
        """What each agent knows of the team's z."""
        if not self.shared_noise:
            return z
        *b, n, a = z.shape
        return jnp.broadcast_to(z.reshape(*b, 1, n * a), (*b, n, n * a))


def unconditional(obs: Float[Array, "*b n o"]) -> Float[Array, "*b n 0"]:
    """The condition of a flow that has none."""
    return jnp.zeros((*obs.shape[:-1], 0))


def start(spec: Spec, fit: Fit, params: Params) -> TrainState:
    """The state before the first update; the slow copies start equal to `params`."""
    return TrainState(params, params, fit.optimiser(spec.updates).init(params), jnp.zeros((), jnp.int32))


def descend(
    spec: Spec,
    fit: Fit,
    loss: Callable[[Params], tuple[Float[Array, ""], Metrics]],
    state: TrainState,
    rates: tuple[float, ...],
) -> tuple[TrainState, Metrics]:
    """One gradient step on `loss`; each field's slow copy then moves towards it by its rate."""
    grads, metrics = jax.grad(loss, has_aux=True)(state.params)
    updates, opt = fit.optimiser(spec.updates).update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    slow = (
        optax.incremental_update(fast, slow, rate)
        for fast, slow, rate in zip(params, state.target, rates, strict=True)
    )
    return TrainState(params, type(params)(*slow), opt, state.step + 1), metrics


def is_key(chance: Chance) -> bool:
    """Is it a key to draw noise with, or the noise itself?"""
    return jnp.issubdtype(chance.dtype, jax.dtypes.prng_key)


def latent(spec: Spec, obs: Float[Array, "*b n o"], chance: Chance, scale: float) -> Float[Array, "*b n a"]:
    """The noise that agents start their jump from, `scale` times a standard normal."""
    shape = (*obs.shape[:-1], spec.action_dim)
    return scale * (jax.random.normal(chance, shape) if is_key(chance) else chance)


def clone_loss(
    flow: MeanFlow, policy: Velocity, slow: Velocity, batch: Transition, key: PRNGKeyArray
) -> Float[Array, ""]:
    """Unconditional MeanFlow regression on the logged actions."""
    sample = flow.draw(batch.action, key, together=policy.shared_noise)
    z, _, t, _ = sample
    condition = (batch.obs, unconditional(batch.obs), batch.legal)
    field = lambda z, t, r, c: policy(z, t, r, *c)  # noqa: E731
    far = slice(flow.anchor_rows(len(z)), None)
    condition_far = jax.tree.map(lambda c: c[far], condition)
    tangent = slow(z[far], t[far], t[far], *condition_far) if flow.tangent == "ema" else None
    return flow.loss(field, sample, condition, sample.v, tangent, batch.acting)


def flow_act(
    spec: Spec,
    flow: MeanFlow,
    field: Field,
    noise: Float[Array, "*b n a"],
    how: Execution,
    legal: Bool[Array, "*b n a"] | None,
) -> Array:
    """The actions that a flow reaches from `noise`, in its jumps.

    Told to act without noise, agents that choose make their likeliest choice: at t = 1 the marginal velocity
    is the noise less the mean of the codes, and that tells how likely each choice is. (Where a jump from the
    middle of the noise lands does not: docs/battles.md.)
    """
    if spec.actions.discrete and how.noise == 0.0:
        ones = jnp.ones(noise.shape[:-1])
        return spec.actions.decode(noise - field(noise, ones, ones), legal)
    return spec.actions.decode(flow.sample(field, noise, how.steps), legal)


def clone_act(
    spec: Spec,
    flow: MeanFlow,
    policy: Velocity,
    obs: Float[Array, "*b n o"],
    chance: Chance,
    how: Execution,
    legal: Bool[Array, "*b n a"] | None,
) -> Array:
    """Every agent's action by an unconditional flow."""
    field = lambda z, t, r: policy(z, t, r, obs, unconditional(obs), legal)  # noqa: E731
    return flow_act(spec, flow, field, latent(spec, obs, chance, how.noise), how, legal)


def team_labels(
    values: Values, params: Any, slow: Any, batch: Transition, threshold: float
) -> Bool[Array, "b n"]:
    """Was the team's action good, by an advantage of at least `threshold`? The same for each agent; fixed."""
    good = stop_gradient(values.advantage(params, slow, batch).team) >= threshold
    return jnp.broadcast_to(good[:, None], batch.obs.shape[:2])


def pick(
    good: Bool[Array, "b n"], rows: int, key: PRNGKeyArray, acting: Bool[Array, "b n"] | None = None
) -> Int[Array, "rows n"]:
    """For each agent, `rows` rows of the batch drawn among its good ones; among all if it has none.

    Where an agent had no choice (`acting`), nothing it did is good.

    Agents whose labels agree get the same rows: a team's actions stay together.
    """
    uniform = jax.random.uniform(key, (rows, 1))
    good = good if acting is None else good & acting
    count = good.sum(0)
    ranks = jnp.where(count > 0, jnp.floor(uniform * count), 0).astype(jnp.int32)
    order = jnp.argsort(~good, axis=0, stable=True)  # good rows first, in their order
    anywhere = jnp.floor(uniform * len(good)).astype(jnp.int32)
    return jnp.where(count > 0, jnp.take_along_axis(order, ranks, axis=0), anywhere)


def take_rows(x: Shaped[Array, "b n d"], index: Int[Array, "rows n"]) -> Shaped[Array, "rows n d"]:
    """Each agent's rows of `x`."""
    return jnp.take_along_axis(x, index[..., None], axis=0)


def check_shared_noise(shared_noise: bool, steps: int) -> None:
    """InputError if agents that share their noise are to take more than one jump."""
    if shared_noise and steps > 1:
        raise InputError(
            f"steps {steps}: with shared_noise there is one jump only. A second would need to know where the "
            "others' first has led, which hangs on what they observe"
        )


def redraw(batch: Transition, index: Int[Array, "rows n"], lead: int = 0) -> Transition:
    """What a policy learns from: the batch's `lead` first rows, then each agent's rows of the index.

    Drawn is what each agent saw, did, and could do: the other fields, which no policy's loss reads, keep
    their rows.
    """
    take = lambda x: jnp.concatenate([x[:lead], take_rows(x, index)])  # noqa: E731
    legal = None if batch.legal is None else take(batch.legal)
    present = None if batch.present is None else take(batch.present[..., None])[..., 0]
    return batch._replace(obs=take(batch.obs), action=take(batch.action), legal=legal, present=present)


def _clip_fields(grads, longest):
    norms = [optax.tree.norm(field) for field in grads]
    scales = [jnp.minimum(1.0, longest / (norm + 1e-6)) for norm in norms]
    return type(grads)(*(optax.tree.scale(s, field) for s, field in zip(scales, grads, strict=True)))
