"""Behaviour cloning with a one-step flow: VGM²P without value, label or guidance.

Each agent learns p(a_i | o_i) with the MeanFlow of `flows.py` and acts in one network pass. The control
that tells whether value guidance does anything.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p import flows
from vgm2p.algorithms.algorithm import Velocity, descend, latent, optimiser
from vgm2p.flows import MeanFlow
from vgm2p.nets import Activation
from vgm2p.types import Metrics, Spec, TrainState, Transition


class Params(NamedTuple):
    """What is learned; `TrainState.target` holds the slow copy in the same shape."""

    policy: Velocity


@dataclass(frozen=True)
class MeanFlowBC:
    """MeanFlow behaviour cloning."""

    flow: MeanFlow = MeanFlow()
    """How average velocities are trained."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the policy's hidden layers."""
    activation: Activation = "gelu"
    """Between the policy's layers."""
    learning_rate: float = 1e-3
    """Adam's, falling to zero along a cosine over the planned updates."""
    max_grad_norm: float = 1.0
    """Longest gradient that passes unclipped, values and policy each by itself."""
    policy_rate: float = 0.001
    """How fast the slow policy, which guides and acts, follows per update."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    steps: int = 1
    """(execution) Jumps from noise to action; 1 is the method."""
    discount: float = 0.99
    """Has no part in cloning; what a transition's rewards are summed with."""
    lookahead: int = 1
    """Has no part in cloning; how many steps' rewards a transition sums."""

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        params = Params(Velocity(spec, 0, self.hidden, self.activation, key))
        opt = optimiser(self.learning_rate, self.max_grad_norm, spec.updates).init(params)
        return TrainState(params, params, opt, jnp.zeros((), jnp.int32))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the MeanFlow loss over all rows and agents."""

        def loss(params):
            value = clone_loss(self.flow, params.policy, state.target.policy, batch, key)
            return value, {"loss/policy": value}

        adam = optimiser(self.learning_rate, self.max_grad_norm, spec.updates)
        return descend(adam, loss, state, (self.policy_rate,))

    def act(
        self,
        spec: Spec,
        params: Params,
        obs: Float[Array, "*b n o"],
        key: PRNGKeyArray,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation: one network pass."""
        nothing = jnp.zeros((*obs.shape[:-1], 0))
        field = lambda z, t, r: params.policy(z, t, r, obs, nothing)  # noqa: E731
        noise = latent(spec, obs, key, self.noise)
        return spec.actions.decode(flows.sample(field, noise, self.steps), legal)


def clone_loss(
    flow: MeanFlow,
    policy: Velocity,
    slow: Velocity,
    batch: Transition,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """Unconditional MeanFlow regression on the logged actions."""
    sample = flow.draw(batch.action, key)
    condition = (batch.obs, jnp.zeros((*batch.obs.shape[:-1], 0)))
    field = lambda z, t, r, c: policy(z, t, r, *c)  # noqa: E731
    tangent = slow(sample.z, sample.t, sample.t, *condition) if flow.tangent == "ema" else None
    return flow.loss(field, sample, condition, sample.v, tangent)
