"""Advantage-weighted cloning: VGM²P's values and its one-step flow, weights instead of a condition.

Each agent clones the logged actions weighted by exp(A_tot / temperature), clipped (advantage-weighted
regression, arXiv 1910.00177; IQL's policy step, arXiv 2110.06169, eq. 7). Rows are drawn with
probability proportional to their weight, which has the weighted loss as its mean and spends no row on an
action that hardly counts. The temperature says how far to follow A_tot; in VGM²P the share of good
actions does.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import (
    Fit,
    ValuePolicyParams,
    Velocity,
    clone_act,
    clone_loss,
    descend,
    start,
)
from vgm2p.errors import check_positive
from vgm2p.flows import MeanFlow
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition
from vgm2p.values import LinearAdvantage, Values


@dataclass(frozen=True)
class AWR:
    """Cloning of every action, weighted by the exponential of its advantage."""

    values: Values = LinearAdvantage()
    """Tells how much better than expected an action was; the same as VGM²P's."""
    temperature: float = 0.3
    """Advantages (the default learner's: in standard deviations) are divided by this; small is greedy."""
    max_weight: float = 100.0
    """Largest weight of a row."""
    pool: int = 4
    """Transitions drawn and valued for each row that the policy trains on."""
    flow: MeanFlow = MeanFlow()
    """How average velocities are trained."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    value_rate: float = 0.005
    """How fast the slow values follow, per update."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    steps: int = 1
    """(execution) Jumps from noise to action."""
    options: ClassVar[tuple[str, ...]] = ("noise", "steps")

    def __post_init__(self):
        check_positive(self, "temperature", "max_weight")

    @property
    def sampling(self) -> Sampling:
        """What the weights need, and what the value learner asks for."""
        return self.values.sampling._replace(pool=self.pool)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        value_key, policy_key = jax.random.split(key)
        policy = Velocity(spec, 0, self.fit, policy_key)
        return start(spec, self.fit, ValuePolicyParams(self.values.init(spec, value_key), policy))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the values and, on rows drawn by the weights they give now, one on the policy."""
        draw_key, flow_key = jax.random.split(key)

        def loss(params):
            value_loss, metrics = self.values.loss(params.values, state.target.values, batch)
            log_weight = self.log_weights(params.values, state.target.values, batch)
            rows = (len(log_weight) // self.pool,)
            index = jax.random.categorical(draw_key, log_weight, shape=rows)
            drawn = jax.tree.map(lambda x: x[index], batch)
            policy_loss = clone_loss(self.flow, params.policy, state.target.policy, drawn, flow_key)
            share = jnp.exp(log_weight - jax.nn.logsumexp(log_weight))
            effective = 1 / jnp.square(share).sum() / len(share)
            metrics = metrics | {"policy/effective_share": effective, "loss/policy": policy_loss}
            return value_loss + policy_loss, metrics

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

    def log_weights(self, values, slow_values, batch: Transition) -> Float[Array, " b"]:
        """log min(exp(A_tot / temperature), max_weight), fixed."""
        advantage = stop_gradient(self.values.advantage(values, slow_values, batch).team)
        return jnp.minimum(advantage / self.temperature, jnp.log(self.max_weight))

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
