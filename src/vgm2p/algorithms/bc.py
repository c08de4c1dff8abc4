"""Behaviour cloning with a Gaussian per agent: the plainest control, no value and no label.

Each agent maximises the likelihood of its logged action under N(mean(o_i), diag(std(o_i)^2)). With
discrete teams the Gaussian is over the coded action and the nearest legal choice is executed.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, PolicyParams, descend, latent, start
from vgm2p.nets import MLP
from vgm2p.types import Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class BC:
    """Gaussian behaviour cloning."""

    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of the Gaussian's noise: 1 samples the learned distribution, 0 takes its mean."""
    options: ClassVar[tuple[str, ...]] = ("noise",)
    sampling: ClassVar[Sampling] = Sampling()

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        return start(spec, self.fit, PolicyParams(gaussian_net(spec, self.fit, key)))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the negative log-likelihood of the logged actions."""
        del key

        def loss(params):
            nll = -log_likelihood(params.policy, batch).mean()
            return nll, {"loss/policy": nll}

        return descend(spec, self.fit, loss, state, (self.fit.slow_rate,))

    def act(
        self,
        spec: Spec,
        params: PolicyParams,
        obs: Float[Array, "*b n o"],
        key: PRNGKeyArray,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation."""
        mean, log_std = gaussian(params.policy, obs)
        return spec.actions.decode(mean + jnp.exp(log_std) * latent(spec, obs, key, self.noise), legal)


def gaussian_net(spec: Spec, fit: Fit, key: PRNGKeyArray) -> MLP:
    """The network of a Gaussian per agent."""
    width = 2 * spec.action_dim
    return MLP(spec.obs_dim, fit.hidden, width, key, activation=fit.activation, last_gain=0.1)


def gaussian(policy: MLP, obs: Float[Array, "*b n o"]) -> tuple[Float[Array, "*b n a"], ...]:
    """Mean and logarithm of the standard deviation."""
    mean, log_std = jnp.split(policy(obs), 2, -1)
    return mean, jnp.clip(log_std, -5.0, 2.0)


def log_likelihood(policy: MLP, batch: Transition) -> Float[Array, "b n"]:
    """Of each agent's logged action, up to a constant."""
    mean, log_std = gaussian(policy, batch.obs)
    z = (batch.action - mean) * jnp.exp(-log_std)
    return -(0.5 * jnp.square(z) + log_std).sum(-1)
