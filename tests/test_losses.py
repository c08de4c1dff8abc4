"""What methods descend on, and how: losses, weights and steps against numbers worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgm2p.actions import Continuous, Discrete
from vgm2p.algorithms import AWR, CQL, CategoricalCFG, Fit, MacFlow, OmigaPolicy
from vgm2p.algorithms.algorithm import ValuePolicyParams, descend, start
from vgm2p.algorithms.bc import likelihood_net, log_likelihood
from vgm2p.behaviour.ppo import _advantages
from vgm2p.critics import climb
from vgm2p.types import Spec, TrainState, Transition
from vgm2p.values import Advantage

SPEC = Spec(2, 3, 3, Continuous(1))
FIT = Fit(hidden=(16,))


def some_rows(spec=SPEC, rows=16):
    """Random rows, without an end."""
    keys = iter(jax.random.split(jax.random.key(0), 8))
    draw = lambda *shape: jax.random.normal(next(keys), shape)  # noqa: E731
    obs, state = draw(rows, 2, spec.obs_dim), draw(rows, spec.state_dim)
    action = 0.3 * draw(rows, 2, spec.action_dim)
    if spec.actions.discrete:
        action = spec.actions.encode(jax.random.randint(next(keys), (rows, 2), 0, spec.action_dim))
    following = draw(rows, 2, spec.obs_dim), draw(rows, spec.state_dim)
    halves = jnp.zeros((rows, 8), bool)
    return Transition(
        obs, state, action, draw(rows), jnp.full(rows, 0.9), *following, draw(rows), halves, 0 * action
    )


class Two(NamedTuple):
    """Parameters of values and policy."""

    values: jax.Array
    policy: jax.Array


def descended(values, policy, updates=None, steps=1) -> TrainState:
    """The state after steps along a gradient that is everywhere the same."""
    spec, fit = replace(SPEC, updates=updates), Fit()
    loss = lambda p: (jnp.sum(p.values * values + p.policy * policy), {})  # noqa: E731
    state = start(spec, fit, Two(jnp.ones(3), jnp.zeros(3)))
    for _ in range(steps):
        state, _ = descend(spec, fit, loss, state, (0.5, 0.25))
    return state


def test_each_slow_copy_follows_by_its_own_rate():
    state = descended(1.0, 1.0)
    np.testing.assert_allclose(state.target.values, 0.5 * 1 + 0.5 * state.params.values)
    np.testing.assert_allclose(state.target.policy, 0.25 * state.params.policy)
    assert (state.params.policy < 0).all()


def test_a_spike_in_the_values_gradient_does_not_shrink_the_policys():
    """Adam's first step is the same whatever the gradient's size; what it remembers is not."""
    calm, spiked = (descended(values, 0.1).opt for values in (0.1, 1e6))
    assert len(remembered(calm)) == 2
    for ours, theirs in zip(remembered(spiked), remembered(calm), strict=True):
        np.testing.assert_array_equal(ours.policy, theirs.policy)
        assert (jnp.abs(ours.values) < 0.1).all()  # of length 1


def remembered(opt):
    """Adam's two moments."""
    return [x for x in jax.tree.leaves(opt, is_leaf=lambda x: isinstance(x, Two)) if isinstance(x, Two)]


def test_the_rate_falls_to_zero_over_the_planned_updates_and_stays_where_none_are_planned():
    after = lambda updates, steps: descended(1.0, 1.0, updates, steps).params.policy  # noqa: E731
    np.testing.assert_array_equal(after(10, 10), after(10, 11))
    half, first = after(10, 6) - after(10, 5), after(10, 1)
    np.testing.assert_allclose(half, 0.5 * first, rtol=1e-3)  # of a cosine
    np.testing.assert_allclose(after(None, 12) - after(None, 11), first, rtol=1e-3)


class Known:
    """Values whose advantages are known."""

    alpha = 0.1

    def __init__(self, *rows):
        self.rows = jnp.array(rows)

    def advantage(self, values, slow_values, batch):
        return Advantage(self.rows.sum(-1), self.rows)

    def loss(self, params, target, batch):
        return jnp.zeros(()), {}


def test_advantage_weights_are_exponentials_of_the_teams_advantage_with_a_ceiling():
    algorithm = AWR(values=Known([0.1, 0.2], [-0.5, -0.1], [90.0, 0.0]), temperature=0.3, max_weight=100.0)
    found = algorithm.log_weights(None, None, None)
    np.testing.assert_allclose(found, [1.0, -2.0, np.log(100)], rtol=1e-5)


def test_omiga_clones_each_agents_action_by_the_exponential_of_its_own_share():
    algorithm = OmigaPolicy(values=Known([0.1, -0.2], [5.0, 0.0]), fit=FIT)
    weights = algorithm.weights(None, None, None)
    np.testing.assert_allclose(weights, np.exp([[1.0, -2.0], [10.0, 0.0]]), rtol=1e-5)
    batch, policy = some_rows(rows=2), likelihood_net(SPEC, FIT, jax.random.key(1))
    state = start(SPEC, FIT, ValuePolicyParams(jnp.zeros(1), policy))
    _, metrics = algorithm.update(SPEC, state, batch, jax.random.key(2))
    likelihood = log_likelihood(SPEC, policy, batch)
    assert float(metrics["loss/policy"]) == pytest.approx(-float((weights * likelihood).mean()), rel=1e-4)


def test_guided_logits_learn_any_choices_unconditionally_and_good_ones_asked_for():
    """One row alone is good: all that are asked for are that row."""
    spec, algorithm = replace(SPEC, actions=Discrete(3)), CategoricalCFG(pool=2, null_share=0.25, fit=FIT)
    batch, policy = some_rows(spec), algorithm.init(spec, jax.random.key(1)).params.policy
    good = jnp.zeros((16, 2), bool).at[11].set(True)
    found = algorithm.policy_loss(policy, batch, good, jax.random.key(2))

    def loss(rows, asked):
        inputs = np.concatenate([batch.obs[rows], np.full((len(rows), 2, 1), asked)], -1)
        log_p = np.asarray(jax.nn.log_softmax(policy(jnp.asarray(inputs, jnp.float32))))
        return -np.take_along_axis(log_p, np.asarray(batch.action[rows]).argmax(-1)[..., None], -1).mean()

    expected = 0.25 * loss(np.arange(2), 0.0) + 0.75 * loss(np.array([11]), 1.0)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_mac_flow_stays_near_its_teacher_by_alpha_and_climbs_its_critics():
    batch, noise = some_rows(), 0.1 * jax.random.normal(jax.random.key(3), (16, 2, 1))
    algorithm = MacFlow(flow_steps=1, hidden=(8,), fit=FIT)
    params = algorithm.init(SPEC, jax.random.key(1)).params
    found = {a: replace(algorithm, alpha=a).jump_loss(SPEC, params, batch, noise) for a in (0.0, 5.0)}
    action, ones = params.policy.act(batch.obs, noise), jnp.ones((16, 2))
    teacher = noise - params.policy.flow(noise, ones, ones, batch.obs, batch.obs[..., :0])
    distil = float(jnp.square(action - teacher).mean())
    assert float(found[0.0][0]) == pytest.approx(float(climb(SPEC, params.values, batch, action)), rel=1e-4)
    assert float(found[5.0][0] - found[0.0][0]) == pytest.approx(5 * distil, rel=1e-3)


def flat(*values):
    """Critics that say the same everywhere, each its own of every agent."""
    return lambda obs, action: tuple(jnp.broadcast_to(jnp.array(x), obs.shape[:-1]) for x in values)


def test_mac_flows_critics_meet_the_mean_target_in_the_mean_over_agents():
    batch = some_rows()._replace(reward=jnp.ones(16))
    critics, slow = flat([1.0, 3.0], [4.0, 4.0]), flat([0.0, 2.0], [2.0, 4.0])
    target = 1 + 0.9 * 2.0  # slow critics and agents say 2 on average
    found = MacFlow().q_loss(critics, slow, batch, batch.action)
    assert float(found) == pytest.approx((2 - target) ** 2 + (4 - target) ** 2, rel=1e-5)


def test_conservatism_presses_values_of_other_actions_below_those_of_logged_ones():
    algorithm, key = CQL(weight=1e6, hidden=(16,), samples=2, fit=FIT), jax.random.key(4)
    batch, state = some_rows(), algorithm.init(SPEC, jax.random.key(1))
    after, _ = algorithm.update(SPEC, state, batch, jax.random.key(2))
    excess = [
        algorithm.conservative(SPEC, s.params.values, state.params.policy, batch, key) for s in (state, after)
    ]
    assert excess[1] < excess[0]


def test_generalised_advantages_add_up_discounted_surprises_until_the_episode_ends():
    """Two environments: one meets a true end in step 1, the other a cut in step 2, after which V counts."""
    rng = np.random.default_rng(0)
    state, following = rng.normal(size=(2, 4, 2, 1))
    reward, discount, ended = rng.normal(size=(4, 2)), np.ones((4, 2)), np.zeros((4, 2))
    discount[1, 0] = 0.0
    ended[1, 0] = ended[2, 1] = 1.0
    rollout = SimpleNamespace(
        state=state, next_state=following, reward=reward, discount=discount, ended=ended
    )
    config = SimpleNamespace(discount=0.9, trace=0.8)
    advantage, target = _advantages(lambda x: x, rollout, (0.0, 1.0), config)
    v, expected = state[..., 0], np.zeros((4, 2))
    for e in range(2):
        for t in range(4):
            for k in range(t, 4):
                surprise = reward[k, e] + 0.9 * discount[k, e] * following[k, e, 0] - v[k, e]
                expected[t, e] += (0.9 * 0.8) ** (k - t) * surprise
                if ended[k, e]:
                    break
    np.testing.assert_allclose(advantage, expected, atol=1e-5)
    np.testing.assert_allclose(target, expected + v, atol=1e-5)
