"""Value losses at their known stationary points, mixing, and what global labels can and can't do."""

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import slow
from scipy.optimize import brentq, minimize_scalar

from vgm2p.actions import Continuous, Discrete
from vgm2p.algorithms import VGM2P
from vgm2p.types import Spec, Transition
from vgm2p.values import (
    LEARNERS,
    OMIGA,
    Advantage,
    CentralAdvantage,
    LinearAdvantage,
    MixedIQL,
    Mixer,
    ReturnToGo,
    expectile_loss,
    global_advantage,
    omiga_loss,
)

SPEC = Spec(2, 5, 3, Continuous(1))


@pytest.fixture
def batch():
    keys = iter(jax.random.split(jax.random.key(0), 9))
    draw = lambda *shape: jax.random.normal(next(keys), shape)  # noqa: E731
    return Transition(
        obs=draw(32, 2, 5),
        state=draw(32, 3),
        action=draw(32, 2, 1),
        reward=draw(32),
        discount=jnp.full(32, 0.99),
        next_obs=draw(32, 2, 5),
        next_state=draw(32, 3),
        outcome=draw(32),
        halves=draw(32, 8) > 0,
        habit=draw(32, 2, 1),
    )


def minimum(loss):
    return minimize_scalar(lambda v: float(loss(v).mean()), bounds=(-5, 5), method="bounded").x


def test_expectile_of_one_half_is_the_mean():
    q = np.random.default_rng(0).normal(1.0, 2.0, 1000)
    assert minimum(lambda v: expectile_loss(jnp.asarray(q) - v, 0.5)) == pytest.approx(q.mean(), abs=1e-3)


def test_expectile_near_one_is_the_maximum():
    q = np.random.default_rng(0).uniform(-1, 1, 1000)
    assert minimum(lambda v: expectile_loss(jnp.asarray(q) - v, 0.99999)) == pytest.approx(q.max(), abs=0.02)


def test_expectiles_rise_with_tau():
    q = jnp.asarray(np.random.default_rng(0).normal(size=1000))
    found = [minimum(lambda v, tau=tau: expectile_loss(q - v, tau)) for tau in (0.1, 0.5, 0.7, 0.9)]
    assert found == sorted(found)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 10.0])
def test_omiga_loss_is_stationary_where_the_mean_exponential_is_one(alpha):
    q = np.random.default_rng(0).normal(size=2000)
    v = minimum(lambda v: omiga_loss(jnp.asarray(q) - v, jnp.full(2000, v), alpha) * scale(q - v, alpha))
    assert np.exp((q - v) / alpha).mean() == pytest.approx(1.0, abs=1e-3)


def test_omiga_loss_of_many_batches_settles_lower_than_of_all_data():
    """What docs/algorithms/omiga.md says of 384 rows with deviation 3."""
    q = jnp.asarray(3 * np.random.default_rng(0).normal(size=(4000, 384)))
    loss = lambda v, q: omiga_loss(q - v, jnp.full_like(q, v), 1.0).mean()  # noqa: E731
    slope = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))
    assert brentq(lambda v: float(slope(v, q).mean()), 0.0, 10.0) == pytest.approx(3.8, abs=0.05)


def scale(advantage, alpha):
    """Undo the loss's division by exp(m), which depends on v in this scalar search."""
    return np.exp(max((advantage / alpha).max(), -1.0))


def test_mixer_weights_are_never_negative():
    weights, _ = Mixer(SPEC, jax.random.key(0))(jax.random.normal(jax.random.key(1), (1000, 3)))
    assert (weights >= 0).all()


def test_mixer_bias_cancels_in_the_global_advantage(batch):
    params = MixedIQL().init(SPEC, jax.random.key(0))
    weights, bias = params.mixer(batch.state)
    q, v = params.q(batch)[0], params.v(batch.obs)
    difference = ((weights * q).sum(-1) + bias) - ((weights * v).sum(-1) + bias)
    team, shares = global_advantage(weights, q, v)
    np.testing.assert_allclose(team, difference, atol=1e-5)
    np.testing.assert_allclose(shares.sum(-1), team, atol=1e-6)


def test_cautious_advantage_is_the_lower_of_both_critics_totals(batch):
    params = MixedIQL().init(SPEC, jax.random.key(0))
    weights = params.mixer(batch.state)[0]
    totals = (weights * (params.q(batch) - params.v(batch.obs))).sum(-1)
    found = MixedIQL().advantage(params, params, batch).team
    np.testing.assert_allclose(found, totals.min(0), atol=1e-5)


@pytest.mark.parametrize("learner", [kind() for kind in LEARNERS], ids=lambda x: type(x).__name__)
def test_every_network_of_a_learner_is_trained_and_no_target_is(learner, batch):
    params = learner.init(SPEC, jax.random.key(0))
    grads, slow = jax.grad(lambda p, t: learner.loss(p, t, batch)[0], argnums=(0, 1))(params, params)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(grads))
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(slow))


def test_return_to_go_closes_cut_episodes_with_the_slow_value(batch):
    learner = ReturnToGo()
    params = learner.init(SPEC, jax.random.key(0))
    slow = learner.init(SPEC, jax.random.key(1))
    found = learner.advantage(params, slow, batch)
    expected = batch.reward + 0.99 * slow(batch.next_state)[:, 0] - params(batch.state)[:, 0]
    np.testing.assert_allclose(found.team, expected, atol=1e-6)
    np.testing.assert_array_equal(found.agents, np.repeat(found.team[:, None], 2, 1))


@pytest.fixture
def some_ended(batch):
    """The batch, in which every third row ends its episode."""
    return batch._replace(discount=jnp.where(jnp.arange(32) % 3 == 0, 0.0, 0.9))


@pytest.mark.parametrize("kind", [LinearAdvantage, CentralAdvantage])
def test_rewards_are_closed_with_the_slow_value_of_the_next_state(kind, some_ended):
    batch, learner = some_ended, kind()
    params, slow = (learner.init(SPEC, jax.random.key(seed)) for seed in (0, 1))
    net = lambda critic: critic.net if kind is LinearAdvantage else critic.value  # noqa: E731
    habit = batch.habit.reshape(32, -1)
    v, following = (
        net(critic)(jnp.concatenate([state, habit], 1))[:, 0]
        for critic, state in ((params, batch.state), (slow, batch.next_state))
    )
    gap = np.asarray(batch.reward + batch.discount * following - v)
    found = learner.loss(params, slow, batch)[1]["loss/v"]
    assert float(found) == pytest.approx(np.mean(gap**2), rel=1e-4)


@pytest.mark.parametrize("learner", [MixedIQL(), OMIGA()], ids=lambda x: type(x).__name__)
def test_critics_go_to_the_reward_and_the_slow_total_of_the_next_observations(learner, some_ended):
    batch = some_ended
    params, slow = (learner.init(SPEC, jax.random.key(seed)) for seed in (0, 1))
    total = lambda each, mixed: np.asarray((mixed[0] * each).sum(-1) + mixed[1])  # noqa: E731
    following = total(slow.v(batch.next_obs), slow.mixer(batch.next_state))
    goal = np.asarray(batch.reward) + np.asarray(batch.discount) * following
    expected = sum(np.mean((total(q, params.mixer(batch.state)) - goal) ** 2) for q in params.q(batch))
    assert float(learner.loss(params, slow, batch)[1]["loss/q"]) == pytest.approx(expected, rel=1e-4)


def sloped(slopes):
    """A critic of two slopes, `slopes` everywhere, whose V and mean are zero."""
    learner = LinearAdvantage(slopes=2, hidden=(4,))
    made = learner.init(SPEC, jax.random.key(0))
    last = made.net.layers[-1]
    bias = jnp.concatenate([jnp.zeros(3), jnp.repeat(jnp.array(slopes), 2)])  # V, means, slopes by agent
    at = lambda critic: (critic.net.layers[-1].weight, critic.net.layers[-1].bias)  # noqa: E731
    return learner, eqx.tree_at(at, made, (0 * last.weight, bias))


def test_a_row_is_judged_by_a_slope_that_has_not_seen_its_episode(batch):
    """Each row counts on from its own place; where every slope has seen it, the one at that place judges."""
    learner, critic = sloped([1.0, 10.0])
    seen = jnp.array([[True, False], [False, True], [True, True], [True, True]])
    few = jax.tree.map(lambda x: x[:4], batch)._replace(halves=seen, action=jnp.ones((4, 2, 1)))
    found = learner.advantage(critic, critic, few).team
    np.testing.assert_allclose(found / found[1], [10, 1, 1, 10], rtol=1e-5)


def test_a_slope_learns_from_its_half_of_the_episodes_and_is_tried_on_the_other(batch):
    learner, critic = sloped([1.0, 0.0])
    seen = jnp.broadcast_to(jnp.array([True, False]), (32, 2))
    rows = batch._replace(halves=seen, action=jnp.ones((32, 2, 1)), discount=jnp.zeros(32))
    gap = np.asarray(rows.reward)  # V is zero; the first slope tells 2 of it, the second nothing
    _, metrics = learner.loss(critic, critic, rows)
    assert float(metrics["loss/slope"]) == pytest.approx(np.mean((gap - 2) ** 2), rel=1e-4)
    assert float(metrics["value/explained"]) == pytest.approx(0.0, abs=1e-5)  # only the second was tried
    _, metrics = learner.loss(critic, critic, rows._replace(halves=~seen))
    explained = 1 - np.mean((gap - 2) ** 2) / np.mean(gap**2)
    assert float(metrics["value/explained"]) == pytest.approx(explained, rel=1e-3)


def actions_that_earn(slopes, key):
    """Two agents draw around a mean that the state tells; the reward is a value and a slope per agent."""
    keys = jax.random.split(key, 4)
    state, noise = jax.random.normal(keys[0], (4096, 3)), jax.random.normal(keys[1], (4096, 2, 1))
    action = state[:, :2, None] + 0.3 * noise
    earned = (0.3 * noise[..., 0] * slopes).sum(-1)
    reward = state[:, 2] ** 2 + earned + jax.random.normal(keys[2], (4096,))
    obs = jnp.zeros((4096, 2, 5))
    halves = jax.random.bernoulli(keys[3], 0.5, (4096, 8))
    return Transition(
        obs, state, action, reward, jnp.zeros(4096), obs, state, reward, halves, 0 * action
    ), earned


def fitted(learner, batch, updates):
    """The learner's networks after that many updates on 256 random rows of the batch."""
    params, optimiser = learner.init(SPEC, jax.random.key(1)), optax.adam(1e-3)

    def step(carry, key):
        params, opt = carry
        rows = jax.tree.map(lambda x: x[jax.random.randint(key, (256,), 0, len(x))], batch)
        updates, opt = optimiser.update(jax.grad(lambda p: learner.loss(p, p, rows)[0])(params), opt)
        return (optax.apply_updates(params, updates), opt), None

    keys = jax.random.split(jax.random.key(2), updates)
    return jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys))(params)[0][0]


def test_linear_advantage_finds_what_each_agents_deviation_earned():
    learner, slopes = LinearAdvantage(), jnp.array([2.0, -1.0])
    batch, earned = actions_that_earn(slopes, jax.random.key(0))
    params = fitted(learner, batch, 1000)
    found = learner.advantage(params, params, batch)
    assert np.corrcoef(found.team, earned)[0, 1] > 0.9
    assert float(found.team.std()) == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(found.agents.sum(-1), found.team, atol=1e-5)
    ratio = found.agents.std(0)
    assert float(ratio[0] / ratio[1]) == pytest.approx(2.0, rel=0.3)


def test_shared_slopes_come_from_what_each_agent_sees():
    """Which way an agent's action earns, only its own observation tells, the same way for both."""
    keys = jax.random.split(jax.random.key(0), 4)
    obs = jax.random.normal(keys[0], (4096, 2, 5))
    noise, state = jax.random.normal(keys[1], (4096, 2, 1)), jax.random.normal(keys[2], (4096, 3))
    each = jnp.sign(obs[..., 0]) * noise[..., 0]
    action, reward, zeros = obs[..., 1:2] + noise, state[:, 0] + each.sum(1), jnp.zeros(4096)
    halves = jax.random.bernoulli(keys[3], 0.5, (4096, 8))
    batch = Transition(obs, state, action, reward, zeros, obs, state, reward, halves, 0 * action)
    for shared, least, most in ((True, 0.8, 1.0), (False, -0.1, 0.1)):
        learner = LinearAdvantage(shared=shared, hidden=(32,))
        params = fitted(learner, batch, 1000)
        found = learner.advantage(params, params, batch).agents
        assert least < np.corrcoef(found.ravel(), each.ravel())[0, 1] < most


def test_no_slope_counts_what_could_not_be_chosen():
    """The mean of a choice is among the legal ones: an illegal one never deviates from it."""
    spec = replace(SPEC, actions=Discrete(3))
    critic = LinearAdvantage(shared=True, hidden=(8,)).init(spec, jax.random.key(0))
    code = Discrete(3).encode(jnp.array([[0, 1]]))
    legal = jnp.array([[[True, True, False], [False, True, True]]])
    sight = jnp.ones((1, 2, SPEC.obs_dim)), jnp.ones((1, SPEC.state_dim))
    zero = jnp.zeros(1)
    batch = Transition(*sight, code, zero, zero, *sight, zero, jnp.ones((1, 8), bool), 0 * code, legal, legal)
    mean = critic(batch, 8)[1]
    np.testing.assert_allclose((code - mean)[~legal], 0.0, atol=1e-6)
    assert (np.abs((code - mean)[legal]) > 0.1).all()


@pytest.mark.parametrize(
    "learner",
    [LinearAdvantage(hidden=(64, 64)), slow(CentralAdvantage(hidden=(64, 64)))],
    ids=lambda x: type(x).__name__,
)
def test_an_action_is_judged_by_what_it_earns_and_not_by_whose_it_is(learner):
    """Two teams in one log: the one that acts high earns more, but any team earns more by acting lower.

    Not told the team's habit, values see only that high actions go with high rewards.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    team = jnp.where(jax.random.bernoulli(keys[0], 0.5, (4096, 1, 1)), 1.0, -1.0)
    noise, zeros = jax.random.normal(keys[1], (4096, 2, 1)), jnp.zeros(4096)
    action, habit = team + 1.5 * noise, jnp.broadcast_to(team, (4096, 2, 1))
    earned = -noise.sum((1, 2))
    reward, state = 5.0 * team[:, 0, 0] + earned, jax.random.normal(keys[2], (4096, 3))
    halves, obs = jax.random.bernoulli(keys[3], 0.5, (4096, 8)), jnp.zeros((4096, 2, 5))
    told = Transition(obs, state, action, reward, zeros, obs, state, reward, halves, habit)
    for batch, sign in ((told, 1.0), (told._replace(habit=0.0 * habit), -1.0)):
        params = fitted(learner, batch, 1000)
        found = learner.advantage(params, params, batch).team
        assert sign * np.corrcoef(found, earned)[0, 1] > 0.3


def test_a_central_advantage_sees_what_agents_do_together():
    """The reward is the product of two agents' actions: no sum over agents tells it."""
    keys, learner = jax.random.split(jax.random.key(0), 3), CentralAdvantage(hidden=(64, 64))
    state, action = jax.random.normal(keys[0], (4096, 3)), jax.random.normal(keys[1], (4096, 2, 1))
    earned = action[:, 0, 0] * action[:, 1, 0]
    obs, halves = jnp.zeros((4096, 2, 5)), jnp.zeros((4096, 0), bool)
    reward = state[:, 2] + earned
    batch = Transition(obs, state, action, reward, jnp.zeros(4096), obs, state, reward, halves, 0 * action)
    params = fitted(learner, batch, 1000)
    assert np.corrcoef(learner.advantage(params, params, batch).team, earned)[0, 1] > 0.9


class Known:
    """Values that are known: the advantages that stand where parameters would."""

    def advantage(self, values, slow_values, batch):
        return values


@pytest.mark.parametrize("seed", range(5))
def test_agents_that_clone_their_part_of_what_is_labelled_good_improve_any_additive_bandit(seed):
    rng = np.random.default_rng(seed)
    behaviour = np.outer(rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4)))
    payoff = rng.normal(size=(4, 1)) + rng.normal(size=(1, 4))
    team = jnp.asarray(payoff - (behaviour * payoff).sum()).ravel()
    batch = SimpleNamespace(outcome=jnp.zeros(16))
    labels, _ = VGM2P(values=Known()).label_rows(Advantage(team, jnp.zeros((16, 2))), None, batch)
    good = behaviour * np.asarray(labels)[:, 0].reshape(4, 4)
    learned = np.outer(good.sum(1), good.sum(0)) / good.sum() ** 2
    assert (learned * payoff).sum() > (behaviour * payoff).sum()
