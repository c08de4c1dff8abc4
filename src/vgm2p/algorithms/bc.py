"""Behaviour cloning by likelihood: the plainest control, no value and no label.

Each agent maximises the likelihood of its logged action under N(mean(o_i), diag(std(o_i)^2)) or, where it
chooses, under a categorical distribution over its legal choices.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.actions import masked
from vgm2p.algorithms.algorithm import Fit, PolicyParams, descend, latent, start
from vgm2p.nets import MLP, mean
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class BC:
    """Behaviour cloning: a Gaussian or, of choices, a categorical distribution per agent."""

    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of the noise: 1 samples the learned distribution, 0 takes its mean or mode."""
    options: ClassVar[tuple[str, ...]] = ("noise",)
    sampling: ClassVar[Sampling] = Sampling()

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        return start(spec, self.fit, PolicyParams(likelihood_net(spec, self.fit, key)))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the negative log-likelihood of the logged actions."""
        del key

        def loss(params):
            nll = mean(-log_likelihood(spec, params.policy, batch), batch.acting)
            return nll, {"loss/policy": nll}

        return descend(spec, self.fit, loss, state, (self.fit.slow_rate,))

    def act(
        self,
        spec: Spec,
        params: PolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation."""
        return draw(spec, params.policy, obs, chance, self.noise, legal)


def likelihood_net(spec: Spec, fit: Fit, key: PRNGKeyArray) -> MLP:
    """The network of each agent's distribution: a Gaussian, or a categorical one over choices."""
    width = spec.action_dim if spec.actions.discrete else 2 * spec.action_dim
    return MLP(spec.obs_dim, fit.hidden, width, key, activation=fit.activation, last_gain=0.1)


def log_likelihood(spec: Spec, policy: MLP, batch: Transition) -> Float[Array, "b n"]:
    """Of each agent's logged action, among the legal ones; of a Gaussian up to a constant."""
    if spec.actions.discrete:
        return log_probability(policy(batch.obs), batch)
    centre, log_std = gaussian(policy, batch.obs)
    z = (batch.action - centre) * jnp.exp(-log_std)
    return -(0.5 * jnp.square(z) + log_std).sum(-1)


def log_probability(logits: Float[Array, "b n a"], batch: Transition) -> Float[Array, "b n"]:
    """Of each agent's logged choice, among the legal ones."""
    log_p = jax.nn.log_softmax(masked(logits, batch.legal))
    return jnp.take_along_axis(log_p, batch.action.argmax(-1)[..., None], -1)[..., 0]


def gaussian(policy: MLP, obs: Float[Array, "*b n o"]) -> tuple[Float[Array, "*b n a"], ...]:
    """Mean and logarithm of the standard deviation."""
    centre, log_std = jnp.split(policy(obs), 2, -1)
    return centre, jnp.clip(log_std, -5.0, 2.0)


def draw(
    spec: Spec,
    policy: MLP,
    obs: Float[Array, "*b n o"],
    chance: Chance,
    noise: float,
    legal: Bool[Array, "*b n a"] | None,
) -> Array:
    """Every agent's action, with `noise` times its distribution's: of choices, its temperature."""
    if spec.actions.discrete:
        return choose(spec, policy(obs), chance, noise, legal)
    centre, log_std = gaussian(policy, obs)
    return spec.actions.decode(centre + jnp.exp(log_std) * latent(spec, obs, chance, noise), legal)


def choose(
    spec: Spec,
    logits: Float[Array, "*b n a"],
    chance: Chance,
    noise: float,
    legal: Bool[Array, "*b n a"] | None,
) -> Array:
    """A legal choice with probability proportional to exp(logit / noise); the likeliest at noise 0.

    The Gumbel noise that this takes is a function of normal noise.
    """
    uniform = jax.scipy.special.ndtr(latent(spec, logits, chance, 1.0)).clip(1e-7, 1 - 1e-7)
    return spec.actions.decode(logits - noise * jnp.log(-jnp.log(uniform)), legal)
