"""OMIGA: each agent clones with weights that come from the team's value (arXiv 2307.11620).

Its critic is `values.OMIGA`. Each agent's policy maximises exp(z_i) log pi_i(a_i | o_i) with
z_i = clip(w_i(s) (Q_i - V_i) / alpha, -10, 10), all of z_i fixed: a local weight derived from a global
objective. In their code a tanh-Gaussian of the clipped action; here the Gaussian over raw actions that `bc`
uses (a categorical policy where it chooses), so that the two differ in the weight alone. Rewards are scaled
(see `values.py`), so alpha is not on their scale.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, ValuePolicyParams, descend, start
from vgm2p.algorithms.bc import draw, likelihood_net, log_likelihood
from vgm2p.nets import mean
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition
from vgm2p.values import OMIGA


@dataclass(frozen=True)
class OmigaPolicy:
    """OMIGA: cloning weighted by critics that are mixed over agents."""

    values: OMIGA = OMIGA()
    """The critic, whose alpha is also the temperature of the policy's weights."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    value_rate: float = 0.005
    """How fast the slow values follow, per update."""
    noise: float = 0.5
    """(execution) Scale of the noise: 1 samples the learned distribution, 0 takes its mean or mode."""
    options: ClassVar[tuple[str, ...]] = ("noise",)

    @property
    def sampling(self) -> Sampling:
        """What the critic asks for."""
        return self.values.sampling

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        value_key, policy_key = jax.random.split(key)
        policy = likelihood_net(spec, self.fit, policy_key)
        return start(spec, self.fit, ValuePolicyParams(self.values.init(spec, value_key), policy))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the critic and one on the weighted likelihood."""
        del key

        def loss(params):
            value_loss, metrics = self.values.loss(params.values, state.target.values, batch)
            weight = self.weights(params.values, state.target.values, batch)
            likelihood = log_likelihood(spec, params.policy, batch)
            policy_loss = mean(-weight * likelihood, batch.acting)
            metrics = metrics | {"loss/policy": policy_loss, "policy/weight": weight.mean()}
            return value_loss + policy_loss, metrics

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

    def weights(self, values, slow_values, batch: Transition) -> Float[Array, "b n"]:
        """exp(z_i), fixed."""
        shares = stop_gradient(self.values.advantage(values, slow_values, batch).agents)
        return jnp.exp(jnp.clip(shares / self.values.alpha, -10.0, 10.0))

    def act(
        self,
        spec: Spec,
        params: ValuePolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation."""
        return draw(spec, params.policy, obs, chance, self.noise, legal)
