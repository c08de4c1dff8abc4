"""CFGRL: the same labels and the same guidance, combined at every one of many steps while acting.

The multi-step reference that VGM²P's one step must match (Frans et al., arXiv 2505.23458). Flow matching
learns the velocities of good and of any action; guidance combines them at execution,

    v_w = v_any + w (v_good - v_any),     z <- z - v_w(z, t) / steps,

two network passes per step. Training is VGM²P's with w = 1, where its target is the plain sample velocity,
and r = t on every row: so the two differ in the flow alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, ValuePolicyParams, flow_act, latent
from vgm2p.algorithms.vgm2p import VGM2P, encode
from vgm2p.flows import FLOW_MATCHING
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition
from vgm2p.values import LinearAdvantage, Values


@dataclass(frozen=True)
class CFGRLFlow:
    """Classifier-free guidance of a many-step flow, at execution."""

    values: Values = LinearAdvantage()
    """Tells how much better than expected an action was; the same as VGM²P's."""
    threshold: float = 0.0
    """An action is good when its advantage is at least this, in the learner's units (default: sd)."""
    guidance: float = 1.0
    """(execution) Strength w: 1 clones the good, more goes beyond."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    steps: int = 10
    """(execution) Euler steps from noise to action, two network passes each."""
    options: ClassVar[tuple[str, ...]] = ("noise", "steps", "guidance")

    @property
    def sampling(self) -> Sampling:
        """VGM²P's."""
        return self._training.sampling

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        return self._training.init(spec, key)

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the values and, with the labels they give now, one on the flow."""
        return self._training.update(spec, state, batch, key)

    def act(
        self,
        spec: Spec,
        params: ValuePolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation: `steps` times two network passes, as one."""
        asked = jnp.stack([jnp.ones(obs.shape[:-1]), jnp.zeros(obs.shape[:-1])])
        condition, both = encode(asked, jnp.ones(asked.shape)), jnp.stack([obs, obs])

        def guided(z, t, r):
            z, t, r = (jnp.stack([x, x]) for x in (z, t, r))
            good, anything = params.policy(z, t, r, both, condition, legal)
            return anything + self.guidance * (good - anything)

        noise = latent(spec, obs, chance, self.noise)
        return flow_act(spec, FLOW_MATCHING, guided, noise, self, legal)

    @property
    def _training(self) -> VGM2P:
        """What its training is: VGM²P's at strength 1, with marginal velocities only."""
        return VGM2P(
            self.values, threshold=self.threshold, guidance_max=None, flow=FLOW_MATCHING, fit=self.fit
        )
