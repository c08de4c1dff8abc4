"""Behaviour cloning with a flow of many steps: what one-step flows are held against.

Each agent learns the marginal velocity v(z, t | o_i) by flow matching (Lipman et al., arXiv 2210.02747) and
acts by integrating it from noise to data in `steps` Euler steps, one network pass each.

| equation | here |
|---|---|
| min E [v(z_t, t) - (e - x)]^2 | `clone_loss` with r = t on every row |
| z <- z - v(z, t) / steps | `MeanFlow.sample` |
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import (
    Fit,
    PolicyParams,
    Velocity,
    clone_act,
    clone_loss,
    descend,
    start,
)
from vgm2p.flows import FLOW_MATCHING
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class FlowBC:
    """Cloning with a flow that acts in many steps."""

    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    steps: int = 10
    """(execution) Euler steps from noise to action."""
    options: ClassVar[tuple[str, ...]] = ("noise", "steps")
    sampling: ClassVar[Sampling] = Sampling()

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        return start(spec, self.fit, PolicyParams(Velocity(spec, 0, self.fit, key)))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the flow-matching loss over all rows and agents."""

        def loss(params):
            value = clone_loss(FLOW_MATCHING, params.policy, state.target.policy, batch, key)
            return value, {"loss/policy": value}

        return descend(spec, self.fit, loss, state, (self.fit.slow_rate,))

    def act(
        self,
        spec: Spec,
        params: PolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation: `steps` network passes."""
        return clone_act(spec, FLOW_MATCHING, params.policy, obs, chance, self, legal)
