"""Behaviour cloning with a one-step flow: VGM²P without value, label or guidance.

Each agent learns p(a_i | o_i) with the MeanFlow of `flows.py` and acts in one network pass. The control
that tells whether value guidance does anything.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, Velocity, descend, jump, latent, start, unconditional
from vgm2p.flows import MeanFlow
from vgm2p.types import Metrics, Sampling, Spec, TrainState, Transition


class Params(NamedTuple):
    """What is learned; `TrainState.target` holds the slow copy in the same shape."""

    policy: Velocity


@dataclass(frozen=True)
class MeanFlowBC:
    """MeanFlow behaviour cloning."""

    flow: MeanFlow = MeanFlow()
    """How average velocities are trained."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    steps: int = 1
    """(execution) Jumps from noise to action; 1 is the method."""
    sampling: ClassVar[Sampling] = Sampling()

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """A fresh network; the slow copy starts equal to it."""
        params = Params(Velocity(spec, 0, self.fit, key))
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
        params: Params,
        obs: Float[Array, "*b n o"],
        key: PRNGKeyArray,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's action from its own observation: one network pass."""
        noise = latent(spec, obs, key, self.noise)
        return jump(spec, params.policy, obs, unconditional(obs), noise, legal, self.steps)


def clone_loss(
    flow: MeanFlow,
    policy: Velocity,
    slow: Velocity,
    batch: Transition,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """Unconditional MeanFlow regression on the logged actions."""
    sample = flow.draw(batch.action, key)
    condition = (batch.obs, unconditional(batch.obs))
    field = lambda z, t, r, c: policy(z, t, r, *c)  # noqa: E731
    z, _, t, _ = sample
    far = slice(flow.anchor_rows(len(z)), None)
    tangent = slow(z[far], t[far], t[far], *(c[far] for c in condition)) if flow.tangent == "ema" else None
    return flow.loss(field, sample, condition, sample.v, tangent)
