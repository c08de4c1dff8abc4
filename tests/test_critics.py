"""Critics of a policy's own actions: their target, and how a policy climbs them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgm2p.actions import Continuous
from vgm2p.critics import Critics, climb, td_loss, td_target
from vgm2p.types import Spec, Transition


def flat(first, second):
    """Critics that say the same everywhere."""
    return lambda obs, action: (jnp.full(obs.shape[:-1], first), jnp.full(obs.shape[:-1], second))


def batch(reward, discount):
    zeros = jnp.zeros((len(reward), 2, 3))
    return Transition(
        obs=zeros,
        state=zeros[:, 0],
        action=zeros[..., :1],
        reward=jnp.array(reward),
        discount=jnp.array(discount),
        next_obs=zeros,
        next_state=zeros[:, 0],
        outcome=jnp.zeros(len(reward)),
        halves=jnp.zeros((len(reward), 0), bool),
        habit=zeros[..., :1],
    )


@pytest.mark.parametrize(("lower", "following"), [(True, 2.0), (False, 3.0)])
def test_the_target_is_the_reward_and_the_discounted_next_value_or_none_after_the_end(lower, following):
    rows = batch([1.0, 5.0], [0.9, 0.0])
    target = td_target(flat(2.0, 4.0), rows, rows.action, lower=lower)
    np.testing.assert_allclose(target, [[1 + 0.9 * following] * 2, [5.0] * 2], rtol=1e-6)


def test_the_loss_is_every_agents_squared_gap_to_the_target_added_over_both_critics():
    target = jnp.array([[1.0, 5.0], [2.0, 4.0]])
    found = td_loss(flat(2.0, 4.0), batch([0.0, 0.0], [0.0, 0.0]), target)
    assert float(found) == pytest.approx((1 + 9 + 0 + 4) / 4 + (9 + 1 + 4 + 0) / 4)


SPEC = Spec(2, 3, 3, Continuous(1))


class Slopes(eqx.Module):
    """Critics that rise with the action, by 2 and by 4."""

    rises: jax.Array

    def __call__(self, obs, action):
        return tuple(rise * action[..., 0] for rise in self.rises)


def test_climbing_goes_up_the_mean_of_both_critics_over_its_mean_size():
    """Q = 3 a: the loss is -mean(3 a) / mean |3 a|, the size fixed."""
    action = jnp.array([[[0.5], [-0.5]], [[0.25], [0.75]]])
    found = jax.grad(climb, argnums=3)(SPEC, Slopes(jnp.array([2.0, 4.0])), seen(jnp.ones((2, 2, 3))), action)
    np.testing.assert_allclose(found, np.full((2, 2, 1), -3 / 4 / (3 * 2 / 4)), rtol=1e-4)


@pytest.fixture
def critics():
    return Critics.of(SPEC, (8,), jax.random.key(0))


def seen(obs):
    """A batch with these observations."""
    return batch(np.zeros(len(obs)), np.zeros(len(obs)))._replace(obs=obs)


def test_climbing_moves_the_action_and_never_the_critics(critics):
    rows, action = seen(jnp.ones((4, 2, 3))), jnp.zeros((4, 2, 1))
    of_critics, of_action = jax.grad(climb, argnums=(1, 3), allow_int=True)(SPEC, critics, rows, action)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_critics))
    assert (of_action != 0).all()


def test_climbing_weighs_the_same_whatever_the_size_of_values(critics):
    rows, action = seen(jax.random.normal(jax.random.key(1), (4, 2, 3))), jnp.zeros((4, 2, 1))
    last = lambda critics: [net.layers[-1].weight for net in critics.nets]  # noqa: E731 (biases start at 0)
    larger = eqx.tree_at(last, critics, [1000 * weight for weight in last(critics)])
    sizes = [float(climb(SPEC, x, rows, action)) for x in (larger, critics)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
