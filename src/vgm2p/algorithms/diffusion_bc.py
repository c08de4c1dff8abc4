"""Behaviour cloning by denoising diffusion: the cost class of MADiff and DoF.

Each agent learns to take noise off its logged action (DDPM, arXiv 2006.11239) at `levels` noise levels of
the cosine schedule (arXiv 2102.09672, eq. 17) and acts by denoising in `steps` steps, evenly spaced among
the levels (DDIM, arXiv 2010.02502, eq. 12, its sigma by eq. 16 with eta = `fresh`), one network pass each.

| equation | here |
|---|---|
| min E [eps(sqrt(abar_k) x + sqrt(1 - abar_k) e, k) - e]^2 | `denoising_loss` |
| x = (z - sqrt(1 - abar) eps) / sqrt(abar), clipped to +-`reach`, and eps again from that x | `_denoise` |
| z <- sqrt(abar') x + sqrt(1 - abar' - sigma^2) eps + sigma e | `_denoise` |
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, PolicyParams, descend, is_key, latent, start
from vgm2p.errors import InputError
from vgm2p.nets import MLP, mean
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class DiffusionBC:
    """Cloning with a diffusion that acts in many steps."""

    levels: int = 100
    """Noise levels that are trained."""
    steps: int = 20
    """(execution) Denoising steps, at most `levels`."""
    fresh: float = 1.0
    """(execution) Fresh noise in each step: 1 is DDPM's, 0 none (DDIM)."""
    reach: float = 4.0
    """Denoised actions are clipped to this size, or to that of larger codes; logged ones reach about 3.3."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of all noise, first and fresh: 1 samples the learned distribution."""
    options: ClassVar[tuple[str, ...]] = ("noise", "steps", "fresh")
    sampling: ClassVar[Sampling] = Sampling()

    def __post_init__(self):
        if not 1 <= self.steps <= self.levels:
            raise InputError(f"steps {self.steps} is not between 1 and the {self.levels} levels trained")

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        inputs = spec.action_dim + 3 + spec.obs_dim
        policy = MLP(inputs, self.fit.hidden, spec.action_dim, key, activation=self.fit.activation)
        return start(spec, self.fit, PolicyParams(policy))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the denoising loss over all rows and agents."""

        def loss(params):
            value = self.denoising_loss(params.policy, batch, key)
            return value, {"loss/policy": value}

        return descend(spec, self.fit, loss, state, (self.fit.slow_rate,))

    def denoising_loss(self, policy: MLP, batch: Transition, key: PRNGKeyArray) -> Float[Array, ""]:
        """Squared error of the predicted noise, summed over action dimensions."""
        level_key, noise_key = jax.random.split(key)
        level = jax.random.randint(level_key, batch.action.shape[:-1], 1, self.levels + 1)
        noise = jax.random.normal(noise_key, batch.action.shape)
        kept = abar(level / self.levels)[..., None]
        z = jnp.sqrt(kept) * batch.action + jnp.sqrt(1 - kept) * noise
        error = _predict(policy, z, level / self.levels, batch.obs) - noise
        return mean(jnp.square(error).sum(-1), batch.acting)

    def act(
        self,
        spec: Spec,
        params: PolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation: `steps` network passes."""
        chances = _one_each(chance, self.steps + 1)
        times = jnp.round(jnp.linspace(self.levels, 0, self.steps + 1)) / self.levels
        reach = max(self.reach, spec.actions.border)

        def denoise(z, step):
            chance, time, later = step
            fresh = latent(spec, obs, chance, self.noise * self.fresh)
            return self._denoise(params.policy, z, time, later, obs, fresh, reach), None

        steps = (chances[1:], times[:-1], times[1:])
        z, _ = jax.lax.scan(denoise, latent(spec, obs, chances[0], self.noise), steps)
        return spec.actions.decode(z, legal)

    def _denoise(self, policy, z, time, later, obs, fresh, reach):
        """From one noise level to a lower one."""
        kept, more = abar(time), abar(later)
        noise = _predict(policy, z, jnp.full(z.shape[:-1], time), obs)
        x = jnp.clip((z - jnp.sqrt(1 - kept) * noise) / jnp.sqrt(kept), -reach, reach)
        noise = (z - jnp.sqrt(kept) * x) / jnp.sqrt(1 - kept)
        sigma = jnp.sqrt((1 - more) / (1 - kept) * (1 - kept / more))
        direction = jnp.sqrt(jnp.maximum(1 - more - jnp.square(self.fresh * sigma), 0.0))
        return jnp.sqrt(more) * x + direction * noise + sigma * fresh


def abar(time: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Share of the signal's variance that is left at a time in [0, 1]: the cosine schedule."""
    angle = jnp.asarray((time + 0.008) / 1.008 * jnp.pi / 2)
    return jnp.clip(jnp.square(jnp.cos(angle)) / jnp.cos(0.008 / 1.008 * jnp.pi / 2) ** 2, 1e-4, 1.0)


def _one_each(chance, count):
    """A key for each of `count` draws, or the noise of each, which lies along the first axis."""
    if not is_key(chance):
        return chance
    first, others = jax.random.split(chance)
    later = jax.vmap(lambda i: jax.random.fold_in(others, i))(jnp.arange(count - 1))
    return jnp.concatenate([first[None], later])


def _predict(policy, z, time, obs):
    """The noise in `z`."""
    times = jnp.stack([time, jnp.sin(jnp.pi * time), jnp.cos(jnp.pi * time)], -1)
    return policy(jnp.concatenate([z, times, obs], -1))
