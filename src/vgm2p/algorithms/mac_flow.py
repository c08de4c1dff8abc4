"""MAC-Flow: a behaviour flow, distilled into one step while climbing a team critic (arXiv 2511.05005).

Three losses, of which alpha weighs one: the coefficient whose tuning VGM²P does without.

| equation | here |
|---|---|
| v(o_i, z, t): flow matching on the logged actions | `clone_loss` of `FLOW_MATCHING` |
| (mean_i Q_i - mean_i [R + gamma (1 - d) Q'_i(o'_i, mu(o'_i, z))])^2 | `q_loss` |
| alpha (mu(o_i, z) - Euler_10(v; z))^2 - Q_i(o_i, mu(o_i, z)) / mean abs Q | `jump_loss` |
| a_i = clip(mu(o_i, z)) | `act` |

After the paper and what is known of its code; docs/algorithms/mac_flow.md lists the differences.
"""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import (
    Fit,
    ValuePolicyParams,
    Velocity,
    clone_loss,
    descend,
    latent,
    start,
    unconditional,
)
from vgm2p.critics import Critics, climb, td_target
from vgm2p.errors import InputError, check_not_negative
from vgm2p.flows import FLOW_MATCHING
from vgm2p.nets import MLP, mean
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


class Distilled(eqx.Module):
    """The behaviour's flow and the one-step policy mu(o_i, z) that is distilled from it."""

    flow: Velocity
    jump: MLP

    def act(self, obs: Float[Array, "*b n o"], noise: Float[Array, "*b n a"]) -> Float[Array, "*b n a"]:
        """mu(o_i, z)."""
        return self.jump(jnp.concatenate([obs, noise], -1))


@dataclass(frozen=True)
class MacFlow:
    """MAC-Flow: a many-step flow that clones, distilled into one step that climbs a critic."""

    alpha: float = 3.0
    """Weight of staying near the behaviour."""
    discount: float = 0.995
    """Factor per step on later rewards."""
    flow_steps: int = 10
    """Euler steps of the behaviour's flow."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    fit: Fit = Fit()
    """The policy's networks and how all is fitted."""
    value_rate: float = 0.005
    """How fast the slow critics follow, per update."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    options: ClassVar[tuple[str, ...]] = ("noise",)

    def __post_init__(self):
        check_not_negative(self, "alpha")
        if self.flow_steps < 1:
            raise InputError(f"flow_steps {self.flow_steps} must be at least 1: without one, noise is taught")

    @property
    def sampling(self) -> Sampling:
        """One-step rewards."""
        return Sampling(discount=self.discount)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        critic_key, flow_key, jump_key = jax.random.split(key, 3)
        inputs, fit = spec.obs_dim + spec.action_dim, self.fit
        jump = MLP(inputs, fit.hidden, spec.action_dim, jump_key, activation=fit.activation, last_gain=0.1)
        policy = Distilled(Velocity(spec, 0, fit, flow_key), jump)
        return start(spec, fit, ValuePolicyParams(Critics.of(spec, self.hidden, critic_key), policy))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the critics, the behaviour's flow and the one-step policy."""
        next_key, flow_key, jump_key = jax.random.split(key, 3)

        def loss(params):
            next_action = params.policy.act(batch.next_obs, latent(spec, batch.obs, next_key, 1.0))
            next_action = spec.actions.settle(next_action, batch.next_legal)
            q_loss = self.q_loss(params.values, state.target.values, batch, next_action)
            flow_loss = clone_loss(
                FLOW_MATCHING, params.policy.flow, state.target.policy.flow, batch, flow_key
            )
            noise = latent(spec, batch.obs, jump_key, 1.0)
            jump_loss, metrics = self.jump_loss(spec, params, batch, noise)
            metrics = metrics | {"loss/q": q_loss, "loss/policy": flow_loss}
            return q_loss + flow_loss + jump_loss, metrics

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

    def q_loss(
        self, critics: Critics, slow: Critics, batch: Transition, next_action: Float[Array, "b n a"]
    ) -> Float[Array, ""]:
        """Both critics' means over agents towards the mean of the agents' targets."""
        target = td_target(slow, batch, next_action, lower=False).mean(-1)
        q = jnp.stack(critics(batch.obs, batch.action)).mean(-1)
        return jnp.square(q - target).sum(0).mean()

    def jump_loss(
        self, spec: Spec, params: ValuePolicyParams, batch: Transition, noise: Float[Array, "b n a"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """Near the behaviour's flow from the same noise, and up the critics."""
        flow, obs = stop_gradient(params.policy.flow), batch.obs
        field = lambda z, t, r: flow(z, t, r, obs, unconditional(obs), batch.legal)  # noqa: E731
        border = spec.actions.border
        teacher = jnp.clip(FLOW_MATCHING.sample(field, noise, self.flow_steps), -border, border)
        action = params.policy.act(obs, noise)
        distil = mean(jnp.square(action - stop_gradient(teacher)).mean(-1), batch.acting)
        gain = climb(spec, params.values, batch, action)
        return self.alpha * distil + gain, {"loss/distil": distil}

    def act(
        self,
        spec: Spec,
        params: ValuePolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation: one network pass."""
        return spec.actions.decode(params.policy.act(obs, latent(spec, obs, chance, self.noise)), legal)
