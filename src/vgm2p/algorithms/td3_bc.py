"""Multi-agent TD3+BC: a deterministic policy per agent climbs its own critic and stays near the data.

TD3+BC (arXiv 2106.06860) for each agent, all sharing networks: the critic of agent i sees its own action and
is trained on the team's reward.

| equation | here |
|---|---|
| (Q(o_i, a_i) - [R + gamma (1 - d) min_k Q'_k(o'_i, pi'(o'_i) + clip(e))])^2 | `critic_loss` |
| (pi(o_i) - a_i)^2 - weight Q(o_i, pi(o_i)) / mean abs Q | `climb` |
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, ValuePolicyParams, descend, latent, start
from vgm2p.critics import Critics, climb, td_loss, td_target
from vgm2p.errors import check_not_negative
from vgm2p.nets import MLP, mean
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class TD3BC:
    """Multi-agent TD3+BC: one action per observation, which climbs a critic near the logged one."""

    weight: float = 2.5
    """Of the critic against the distance from the logged actions."""
    discount: float = 0.99
    """Factor per step on later rewards."""
    smoothing: float = 0.2
    """Noise on the next action that the critics are asked about, clipped to +-0.5."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    fit: Fit = Fit()
    """The policy's network and how all is fitted."""
    value_rate: float = 0.005
    """How fast the slow critics follow, per update."""
    noise: ClassVar[float] = 0.0  # the policy is deterministic
    options: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
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

        def loss(params):
            q_loss = critic_loss(spec, params.values, state.target, batch, key, self.smoothing)
            action = jnp.tanh(params.policy(batch.obs))
            gap = jnp.square(action - jnp.clip(batch.action, -1.0, 1.0)).mean(-1)
            clone = mean(gap, batch.acting)
            policy_loss = clone + self.weight * climb(spec, params.values, batch, action)
            return q_loss + policy_loss, {"loss/q": q_loss, "loss/policy": clone}

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

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


def critic_loss(
    spec: Spec, critics: Critics, slow: ValuePolicyParams, batch: Transition, key: PRNGKeyArray, scale: float
) -> Float[Array, ""]:
    """TD3's: towards the lower of the slow critics at the slow policy's next action, with noise on it."""
    next_action = smoothed(spec, slow.policy, batch.next_obs, key, scale)
    next_action = spec.actions.settle(next_action, batch.next_legal)
    return td_loss(critics, batch, td_target(slow.values, batch, next_action, lower=True))


def deterministic_net(spec: Spec, fit: Fit, key: PRNGKeyArray) -> MLP:
    """The network of a deterministic policy; its action is the hyperbolic tangent of what it says."""
    return MLP(spec.obs_dim, fit.hidden, spec.action_dim, key, activation=fit.activation, last_gain=0.1)


def smoothed(
    spec: Spec, policy: MLP, obs: Float[Array, "*b n o"], key: PRNGKeyArray, scale: float
) -> Float[Array, "*b n a"]:
    """The policy's action with clipped noise, TD3's guard against peaks of the critic."""
    noise = jnp.clip(latent(spec, obs, key, scale), -0.5, 0.5)
    return jnp.clip(jnp.tanh(policy(obs)) + noise, -1.0, 1.0)
