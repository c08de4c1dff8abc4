"""Q(o_i, a_i) of a policy that learns from it: for rivals that climb Q's gradient. Knows nothing of flows.

| equation | here | source |
|---|---|---|
| R + gamma (1 - d) Q'(o', pi(o')), the mean or the least of two slow critics | `td_target` | TD3 1802.09477 |
| -Q(o, pi(o)) / mean abs Q | `climb` | TD3+BC 2106.06860, eq. 5 |
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, PRNGKeyArray

from vgm2p.nets import MLP, mean
from vgm2p.types import Spec, Transition


class Critics(eqx.Module):
    """Two critics of an agent's own action, shared over agents (observations carry the agent's id)."""

    nets: tuple[MLP, MLP]

    @staticmethod
    def of(spec: Spec, hidden: tuple[int, ...], key: PRNGKeyArray) -> "Critics":
        """Fresh critics."""
        first, second = jax.random.split(key)
        width = spec.obs_dim + spec.action_dim
        return Critics((MLP(width, hidden, 1, first, norm=True), MLP(width, hidden, 1, second, norm=True)))

    def __call__(
        self, obs: Float[Array, "*b n o"], action: Float[Array, "*b n a"]
    ) -> tuple[Float[Array, "*b n"], Float[Array, "*b n"]]:
        """Both critics' values."""
        inputs = jnp.concatenate([obs, action], -1)
        first, second = (net(inputs)[..., 0] for net in self.nets)
        return first, second


def td_target(
    slow: Critics, batch: Transition, next_action: Float[Array, "b n a"], *, lower: bool
) -> Float[Array, "b n"]:
    """The TD target of Q(o_i, a_i), fixed: the team's reward and, discounted, the slow critics' next value.

    lower: the lower of the two (TD3's clipped double Q), else their mean.
    """
    first, second = slow(batch.next_obs, next_action)
    following = jnp.minimum(first, second) if lower else (first + second) / 2
    return stop_gradient(batch.reward[:, None] + batch.discount[:, None] * following)


def td_loss(critics: Critics, batch: Transition, target: Float[Array, "b n"]) -> Float[Array, ""]:
    """Mean squared TD error of every agent's logged action, added over both critics."""
    first, second = critics(batch.obs, batch.action)
    return (jnp.square(first - target) + jnp.square(second - target)).mean()


def climb(spec: Spec, critics: Critics, batch: Transition, action: Float[Array, "b n a"]) -> Float[Array, ""]:
    """The deterministic policy gradient's loss -Q / mean |Q|, Q the mean of both critics, which stay fixed.

    Divided by its size, Q weighs the same against a cloning loss whatever the rewards. `action` need not be
    one that can be executed; the critics are asked about the one that would be.
    """
    first, second = stop_gradient(critics)(batch.obs, spec.actions.settle(action, batch.legal))
    q = (first + second) / 2
    return -mean(q, batch.acting) / (mean(stop_gradient(jnp.abs(q)), batch.acting) + 1e-6)
