"""Multi-agent CQL: critics that are low away from the data, and a deterministic policy that climbs them.

Conservative Q-learning (arXiv 2006.04779) on TD3's critics, for each agent, all sharing networks: the critic
of agent i sees its own action and is trained on the team's reward.

| equation | here |
|---|---|
| (Q(o_i, a_i) - [R + gamma (1 - d) min_k Q'_k(o'_i, pi'(o'_i) + clip(e))])^2 | `critic_loss` |
| weight (T log mean_a exp(Q(o_i, a) / T) - Q(o_i, a_i)), a uniform or near pi(o_i) | `conservative` |
| -Q(o_i, pi(o_i)) / mean abs Q | `climb` |
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, ValuePolicyParams, descend, start
from vgm2p.algorithms.td3_bc import critic_loss, deterministic_net, smoothed
from vgm2p.critics import Critics, climb
from vgm2p.errors import check_not_negative, check_positive
from vgm2p.nets import MLP
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class CQL:
    """Multi-agent CQL on TD3: a critic that is kept low on actions that were not logged."""

    weight: float = 1.0
    """Of the conservative term against the TD error."""
    temperature: float = 0.1
    """T: small presses down the largest values alone (a value is a reward per step)."""
    samples: int = 4
    """Uniform actions, and as many near the policy's, at which values are pressed down."""
    discount: float = 0.99
    """Factor per step on later rewards."""
    smoothing: float = 0.2
    """Noise on the policy's actions that the critics are asked about, clipped to +-0.5."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    fit: Fit = Fit()
    """The policy's network and how all is fitted."""
    value_rate: float = 0.005
    """How fast the slow critics follow, per update."""
    noise: ClassVar[float] = 0.0  # the policy is deterministic
    options: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        check_positive(self, "temperature", "samples")
        check_not_negative(self, "weight", "smoothing")

    @property
    def sampling(self) -> Sampling:
        """One-step rewards."""
        return Sampling(discount=self.discount)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        critic_key, policy_key = jax.random.split(key)
        policy = deterministic_net(spec, self.fit, policy_key)
        return start(spec, self.fit, ValuePolicyParams(Critics.of(spec, self.hidden, critic_key), policy))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the critics and one on the policy."""
        next_key, sample_key = jax.random.split(key)

        def loss(params):
            q_loss = critic_loss(spec, params.values, state.target, batch, next_key, self.smoothing)
            low = self.conservative(spec, params.values, params.policy, batch, sample_key)
            policy_loss = climb(spec, params.values, batch, jnp.tanh(params.policy(batch.obs)))
            metrics = {"loss/q": q_loss, "loss/conservative": low, "loss/policy": policy_loss}
            return q_loss + self.weight * low + policy_loss, metrics

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

    def conservative(
        self, spec: Spec, critics: Critics, policy: MLP, batch: Transition, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """How much higher values are away from the data than at the logged actions, over both critics."""
        uniform_key, near_key = jax.random.split(key)
        obs = jnp.broadcast_to(batch.obs, (self.samples, *batch.obs.shape))
        uniform = jax.random.uniform(uniform_key, (*obs.shape[:-1], spec.action_dim), minval=-1.0)
        near = stop_gradient(smoothed(spec, policy, obs, near_key, self.smoothing))
        actions = spec.actions.settle(jnp.concatenate([uniform, near]), batch.legal)
        asked = critics(jnp.concatenate([obs, obs]), actions)
        logged = critics(batch.obs, spec.actions.settle(batch.action, batch.legal))  # as all that is asked
        count = jnp.log(2.0 * self.samples)
        tops = [self.temperature * (jax.nn.logsumexp(q / self.temperature, axis=0) - count) for q in asked]
        return sum(((top - q).mean() for top, q in zip(tops, logged, strict=True)), jnp.zeros(()))

    def act(
        self,
        spec: Spec,
        params: ValuePolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation; no noise."""
        del chance
        return spec.actions.decode(jnp.tanh(params.policy(obs)), legal)
