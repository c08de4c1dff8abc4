"""Behaviour cloning with a one-step flow: VGM²P without value, label or guidance.

Each agent learns p(a_i | o_i) with the MeanFlow of `flows.py` and acts in one network pass. The control
that tells whether value guidance does anything.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import (
    Fit,
    PolicyParams,
    Velocity,
    check_shared_noise,
    clone_act,
    clone_loss,
    descend,
    start,
)
from vgm2p.flows import MeanFlow
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition


@dataclass(frozen=True)
class MeanFlowBC:
    """Cloning with a one-step flow: no values, no labels."""

    flow: MeanFlow = MeanFlow()
    """How average velocities are trained."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    shared_noise: bool = False
    """Every agent draws the whole team's noise, from a public seed: what they choose then fits together."""
    steps: int = 1
    """(execution) Jumps from noise to action; 1 is the method."""
    options: ClassVar[tuple[str, ...]] = ("noise", "steps")
    sampling: ClassVar[Sampling] = Sampling()

    def __post_init__(self):
        check_shared_noise(self.shared_noise, self.steps)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        params = PolicyParams(Velocity(spec, 0, self.fit, key, self.shared_noise))
        return start(spec, self.fit, params)

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the MeanFlow loss over all rows and agents."""

        def loss(params):
            value = clone_loss(self.flow, params.policy, state.target.policy, batch, key)
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
        """Every agent's action from its own observation: one network pass."""
        return clone_act(spec, self.flow, params.policy, obs, chance, self, legal)
