"""Guidance without a flow, for agents that choose: the exact tilt of a categorical distribution.

A softmax over an agent's choices can be anything, so no generative model is needed to represent it. VGM²P's
values and labels; one network learns, by likelihood, the choices of good rows and of any rows, and

    logits = any + w (good - any),     p_w(a) ~ p(a | o_i) p(good | o_i, a)^w

is the guided distribution exactly, where a flow's guidance is an approximation (CFGRL, arXiv 2505.23458).
Two network passes. What a one-step flow of choices must be held against.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Fit, ValuePolicyParams, descend, pick, redraw, start, team_labels
from vgm2p.algorithms.bc import choose, log_probability
from vgm2p.errors import InputError, check_not_negative
from vgm2p.nets import MLP, mean
from vgm2p.types import Chance, Metrics, Sampling, Spec, TrainState, Transition
from vgm2p.values import LinearAdvantage, Values


@dataclass(frozen=True)
class CategoricalCFG:
    """Classifier-free guidance of logits."""

    values: Values = LinearAdvantage()
    """Tells how much better than expected an action was; the same as VGM²P's."""
    threshold: float = 0.0
    """An action is good when its advantage is at least this, in the learner's units (default: sd)."""
    guidance: float = 1.0
    """(execution) Strength w: 1 clones the good, more goes beyond."""
    pool: int = 4
    """Transitions drawn, labelled and valued for each row that the policy trains on."""
    null_share: float = 0.2
    """Share of the policy's rows whose choices count whatever their label."""
    warmup: int = 500
    """Updates during which every action counts as good, while the values settle."""
    fit: Fit = Fit()
    """The policy's network and how it is fitted."""
    value_rate: float = 0.005
    """How fast the slow values follow, per update."""
    noise: float = 0.5
    """(execution) Temperature: 1 samples the guided distribution, 0 takes its mode."""
    options: ClassVar[tuple[str, ...]] = ("noise", "guidance")

    def __post_init__(self):
        check_not_negative(self, "warmup")
        if not 0.0 < self.null_share < 1.0:
            raise InputError(f"null_share {self.null_share} must be above 0 and below 1: both are trained")

    @property
    def sampling(self) -> Sampling:
        """What the labels need, and what the value learner asks for."""
        return self.values.sampling._replace(pool=self.pool)

    def init(self, spec: Spec, key: PRNGKeyArray) -> TrainState:
        """Fresh networks; the slow copies start equal to them. InputError if agents do not choose."""
        if not spec.actions.discrete:
            raise InputError("categorical_cfg is for agents that choose: take vgm2p or cfgrl_flow here")
        value_key, policy_key = jax.random.split(key)
        sizes, activation = (spec.obs_dim + 1, self.fit.hidden, spec.action_dim), self.fit.activation
        policy = MLP(*sizes, policy_key, activation=activation, last_gain=0.1)
        return start(spec, self.fit, ValuePolicyParams(self.values.init(spec, value_key), policy))

    def update(
        self, spec: Spec, state: TrainState, batch: Transition, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step on the values and, with the labels they give now, one on both likelihoods."""

        def loss(params):
            value_loss, metrics = self.values.loss(params.values, state.target.values, batch)
            reached = team_labels(self.values, params.values, state.target.values, batch, self.threshold)
            good = reached | (state.step < self.warmup)
            policy_loss = self.policy_loss(params.policy, batch, good, key)
            metrics = metrics | {"label/positive": reached.mean(), "loss/policy": policy_loss}
            return value_loss + policy_loss, metrics

        return descend(spec, self.fit, loss, state, (self.value_rate, self.fit.slow_rate))

    def policy_loss(
        self, policy: MLP, batch: Transition, good: Bool[Array, "b n"], key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """Negative log-likelihood: of any rows, unconditional, and of good ones, drawn anew."""
        rows = len(good) // self.pool
        null = round(self.null_share * rows)
        if not 0 < null < rows:
            raise InputError(
                f"batch {rows} with null_share {self.null_share} leaves a likelihood without a row"
            )
        anything = jax.tree.map(lambda x: x[:null], batch)
        drawn = redraw(batch, pick(good, rows - null, key, batch.acting))
        losses = (
            share * mean(-log_probability(_logits(policy, part.obs, asked), part), part.acting)
            for part, asked, share in ((anything, 0.0, null / rows), (drawn, 1.0, 1 - null / rows))
        )
        return sum(losses, jnp.zeros(()))

    def act(
        self,
        spec: Spec,
        params: ValuePolicyParams,
        obs: Float[Array, "*b n o"],
        chance: Chance,
        legal: Bool[Array, "*b n a"] | None = None,
    ) -> Array:
        """Every agent's choice from its own observation."""
        good, anything = (_logits(params.policy, obs, asked) for asked in (1.0, 0.0))
        return choose(spec, anything + self.guidance * (good - anything), chance, self.noise, legal)


def _logits(policy, obs, asked):
    """Asked for good choices (1) or for any (0)."""
    return policy(jnp.concatenate([obs, jnp.full((*obs.shape[:-1], 1), asked)], -1))
