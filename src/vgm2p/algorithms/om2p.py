"""OM2P: a MeanFlow per agent that climbs its own critic (arXiv 2508.06269), its two defects mended.

Their code differentiates along the flow with a step of 1e-12, which float32 can't resolve, so the MeanFlow
term is zero; and it executes the average velocity u instead of e - u. Here the derivative is exact and the
action is where the jump lands.

| equation | here |
|---|---|
| MeanFlow on the logged actions | `clone_loss` |
| (Q(o_i, a_i) - [R + gamma (1 - d) mean_k Q'_k(o'_i, a'_i)])^2 | `td_target` |
| -weight Q(o_i, e - u(e, 1, 0)) / mean abs Q | `climb` |
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import (
    Fit,
    ValuePolicyParams,
    Velocity,
    clone_act,
    clone_loss,
    descend,
    latent,
    start,
    unconditional,
)
from vgm2p.critics import Critics, climb, td_loss, td_target
from vgm2p.errors import check_not_negative
from vgm2p.flows import MeanFlow
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class OM2P:
    """OM2P: a one-step flow that clones and climbs a critic."""

    weight: float = 0.1
    """Of the critic against cloning."""
    discount: float = 0.99
    """Factor per step on later rewards."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    flow: MeanFlow = MeanFlow()
    """How average velocities are trained."""
    fit: Fit = Fit()
    """The policy's network and how all is fitted."""
    value_rate: float = 0.005
    """How fast the slow critics follow, per update."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    steps: int = 1
    """(execution) Jumps from noise to action; 1 is the method."""
    options: ClassVar[tuple[str, ...]] = ("noise", "steps")

    def __post_init__(self):
        check_not_negative(self, "weight")

    @property
    def sampling(self) -> Sampling:
        """One-step rewards."""
        return Sampling(discount=self.discount)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        critic_key, policy_key = jax.random.split(key)
        critics = Critics.of(spec, self.hidden, critic_key)
        return start(spec, self.fit, ValuePolicyParams(critics, Velocity(spec, 0, self.fit, policy_key)))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the critics and one on the policy."""
        next_key, flow_key, jump_key = jax.random.split(key, 3)

        def loss(params):
            next_action = self._jump(spec, state.target.policy, batch.next_obs, batch.next_legal, next_key)
            next_action = spec.actions.settle(next_action, batch.next_legal)
            target = td_target(state.target.values, batch, next_action, lower=False)
            q_loss = td_loss(params.values, batch, target)
            policy_loss = clone_loss(self.flow, params.policy, state.target.policy, batch, flow_key)
            action = self._jump(spec, params.policy, batch.obs, batch.legal, jump_key)
            gain = climb(spec, params.values, batch, action)
            return q_loss + policy_loss + self.weight * gain, {"loss/q": q_loss, "loss/policy": policy_loss}

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

    def act(
        self,
        spec: Spec,
        params: ValuePolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation: one network pass."""
        return clone_act(spec, self.flow, params.policy, obs, chance, self, legal)

    def _jump(self, spec, policy, obs, legal, key):
        """A differentiable action of the policy, from unit noise."""
        field = lambda z, t, r: policy(z, t, r, obs, unconditional(obs), legal)  # noqa: E731
        return self.flow.sample(field, latent(spec, obs, key, 1.0))
