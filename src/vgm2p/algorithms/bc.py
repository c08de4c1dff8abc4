"""Behaviour cloning with a Gaussian per agent: the plainest control, no value and no label.

Each agent maximises the likelihood of its logged action under N(mean(o_i), diag(std(o_i)^2)). With
discrete teams the Gaussian is over the coded action and the nearest legal choice is executed.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, descend, latent
from vgm2p.nets import MLP
from vgm2p.types import Metrics, Sampling, Spec, TrainState, Transition


class Params(NamedTuple):
    """What is learned; `TrainState.target` holds the slow copy in the same shape."""

    policy: MLP


@dataclass(frozen=True)
class BC:
    """Gaussian behaviour cloning."""

    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of the Gaussian's noise: 1 samples the learned distribution, 0 takes its mean."""
    sampling: ClassVar[Sampling] = Sampling()

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        policy = MLP(
            spec.obs_dim,
            self.fit.hidden,
            2 * spec.action_dim,
            key,
            activation=self.fit.activation,
            last_gain=0.1,
        )
        params = Params(policy)
        opt = self.fit.optimiser(spec.updates).init(params)
        return TrainState(params, params, opt, jnp.zeros((), jnp.int32))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the negative log-likelihood (up to its constant), summed over action dimensions."""
        del key

        def loss(params):
            mean, log_std = _gaussian(params.policy, batch.obs)
            z = (batch.action - mean) * jnp.exp(-log_std)
            nll = (0.5 * jnp.square(z) + log_std).sum(-1).mean()
            return nll, {"loss/policy": nll}

        adam = self.fit.optimiser(spec.updates)
        return descend(adam, loss, state, (self.fit.slow_rate,))

    def act(
        self,
        spec: Spec,
        params: Params,
        obs: Float[Array, "*b n o"],
        key: PRNGKeyArray,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation."""
        mean, log_std = _gaussian(params.policy, obs)
        return spec.actions.decode(mean + jnp.exp(log_std) * latent(spec, obs, key, self.noise), legal)


def _gaussian(policy, obs):
    mean, log_std = jnp.split(policy(obs), 2, -1)
    return mean, jnp.clip(log_std, -5.0, 2.0)
