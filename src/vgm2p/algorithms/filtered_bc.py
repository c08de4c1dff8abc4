"""Behaviour cloning of good actions only: VGM²P's values and labels, no guidance.

A MeanFlow clones rows that VGM²P would call good. The decisive control: what VGM²P, asked for
a strength above 1, gains over it is due to guidance; at 1, both clone rows of the same labels, VGM²P with a
network that knows other strengths and the unconditional flow as well. What this gains over `meanflow_bc` is
due to the labels and to the episodes that their learner selects.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import (
    Fit,
    ValuePolicyParams,
    Velocity,
    check_shared_noise,
    clone_act,
    clone_loss,
    descend,
    pick,
    redraw,
    start,
    team_labels,
)
from vgm2p.errors import check_not_negative
from vgm2p.flows import MeanFlow
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition
from vgm2p.values import LinearAdvantage, Values


@dataclass(frozen=True)
class FilteredBC:
    """Cloning of the good actions alone with a one-step flow: VGM²P's labels without its guidance."""

    values: Values = LinearAdvantage()
    """Tells how much better than expected an action was; the same as VGM²P's."""
    threshold: float = 0.0
    """An action is good when its advantage is at least this, in the learner's units (default: sd)."""
    pool: int = 4
    """Transitions drawn, labelled and valued for each row that the policy trains on."""
    warmup: int = 500
    """Updates during which every action counts as good, while the values settle."""
    flow: MeanFlow = MeanFlow()
    """How average velocities are trained."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    value_rate: float = 0.005
    """How fast the slow values follow, per update."""
    noise: float = 0.5
    """(execution) Scale of the latent noise: 1 samples the learned distribution, 0 takes its centre."""
    shared_noise: bool = False
    """Every agent draws the whole team's noise, from a public seed: what they choose then fits together."""
    steps: int = 1
    """(execution) Jumps from noise to action; 1 is the method."""
    options: ClassVar[tuple[str, ...]] = ("noise", "steps")

    def __post_init__(self):
        check_shared_noise(self.shared_noise, self.steps)
        check_not_negative(self, "warmup")

    @property
    def sampling(self) -> Sampling:
        """What the labels need, and what the value learner asks for."""
        return self.values.sampling._replace(pool=self.pool)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them."""
        value_key, policy_key = jax.random.split(key)
        policy = Velocity(spec, 0, self.fit, policy_key, self.shared_noise)
        params = ValuePolicyParams(self.values.init(spec, value_key), policy)
        return start(spec, self.fit, params)

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the values and, on the rows they call good now, one on the policy."""

        pick_key, flow_key = jax.random.split(key)

        def loss(params):
            value_loss, metrics = self.values.loss(params.values, state.target.values, batch)
            reached = team_labels(self.values, params.values, state.target.values, batch, self.threshold)
            good = reached | (state.step < self.warmup)
            rows = len(good) // self.pool
            index = pick(good, rows, pick_key, None if self.shared_noise else batch.acting)
            drawn = redraw(batch, index)
            policy_loss = clone_loss(self.flow, params.policy, state.target.policy, drawn, flow_key)
            metrics = metrics | {"label/positive": reached.mean(), "loss/policy": policy_loss}
            return value_loss + policy_loss, metrics

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

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
