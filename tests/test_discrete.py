"""Teams that choose: codes, the dead, exact guidance of logits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import slow, small

from vgm2p.actions import Continuous, Discrete
from vgm2p.algorithms import ALGORITHMS, BC, TD3BC, VGM2P, CategoricalCFG, MacFlow, OmigaPolicy
from vgm2p.algorithms.algorithm import PolicyParams, ValuePolicyParams, pick
from vgm2p.algorithms.bc import log_probability
from vgm2p.data.dataset import Dataset
from vgm2p.envs.env import Remembering
from vgm2p.errors import InputError
from vgm2p.train import seed_keys
from vgm2p.types import Sampling, Sight, Spec
from vgm2p.view import TeamView

SMALL = [small(kind(), 16) for kind in ALGORITHMS.values()]
STAY = 0  # what the dead do


@pytest.fixture(scope="module")
def skirmish() -> Dataset:
    """40 episodes of 3 agents with 4 choices and own views; the third is dead in half of the rows."""
    rng, episodes, length = np.random.default_rng(0), 40, 4
    rows = episodes * (length + 1)
    legal = rng.random((rows, 3, 4)) < 0.7
    legal[..., STAY] = legal[..., 1] = True
    legal[::2, 2] = np.arange(4) == STAY
    draw = (rng.random(legal.shape) * legal).argmax(-1).astype(np.int32)
    first = np.arange(rows) % (length + 1) < length
    return Dataset(
        state=rng.normal(size=(rows, 5)).astype(np.float32),
        action=draw[first],
        reward=rng.normal(size=episodes * length).astype(np.float32),
        lengths=np.full(episodes, length, np.int32),
        terminated=np.ones(episodes, bool),
        card={"id": "skirmish"},
        obs=rng.normal(size=(rows, 3, 6)).astype(np.float16),
        legal=legal,
    )


def setup(algorithm, data, rows=64):
    view, codec = data.view(), Discrete(4)
    spec = Spec(3, view.obs_dim, view.mean.shape[-1], codec)
    batch = data.replay(view, algorithm.sampling, codec).sample(
        codec, rows * algorithm.sampling.pool, jax.random.key(0)
    )
    return spec, view, batch


def test_agents_see_their_own_observation_standardised_and_their_id(skirmish):
    view = skirmish.view()
    obs = np.asarray(view.obs(skirmish.sight))
    assert obs.shape == (200, 3, 9)
    np.testing.assert_allclose(obs[..., :6].mean((0, 1)), 0, atol=1e-2)
    np.testing.assert_allclose(obs[..., :6].std((0, 1)), 1, atol=1e-2)
    np.testing.assert_array_equal(obs[0, :, 6:], np.eye(3))


def test_what_is_hardly_ever_seen_does_not_blow_up(skirmish):
    rare = replace(skirmish, obs=(np.arange(200 * 3 * 6).reshape(200, 3, 6) == 7).astype(np.float16))
    assert np.abs(rare.view().obs(rare.sight)).max() == 5.0


def test_a_batch_tells_which_agents_had_a_choice_and_logged_choices_are_legal(skirmish):
    _, _, batch = setup(BC(), skirmish)
    np.testing.assert_array_equal(batch.acting, batch.legal.sum(-1) > 1)
    assert 0 < int((~batch.acting).sum()) < batch.acting.size
    assert jnp.take_along_axis(batch.legal, batch.action.argmax(-1)[..., None], -1).all()
    assert batch.next_legal.shape == batch.legal.shape


OFTEN = (VGM2P, MacFlow, TD3BC)  # the others are slow tests
ALIKE = [a if isinstance(a, OFTEN) else slow(a) for a in SMALL if not isinstance(a, OmigaPolicy)]


@pytest.mark.parametrize("algorithm", ALIKE, ids=lambda a: type(a).__name__)
def test_what_the_dead_observe_teaches_no_policy_anything(algorithm, skirmish):
    """OMIGA aside: which of its two critics is the lower hangs on all agents' values, the dead ones' too."""
    spec, _, batch = setup(algorithm, skirmish)
    state = jax.tree.map(lambda x: x, algorithm.init(spec, jax.random.key(1)))
    other = batch._replace(obs=jnp.where(batch.acting[..., None], batch.obs, 9.0))
    update = jax.jit(lambda rows: algorithm.update(spec, state, rows, jax.random.key(2))[0].params.policy)
    policies = [update(rows) for rows in (batch, other)]
    for one, two in zip(*(jax.tree.leaves(policy) for policy in policies), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_nothing_that_the_dead_do_is_good():
    good = jnp.ones((6, 2), bool)
    acting = jnp.array(
        [[True, True], [True, False], [True, False], [True, True], [True, False], [True, False]]
    )
    index = pick(good, 50, jax.random.key(0), acting)
    assert set(np.unique(index[:, 0])) == set(range(6))
    assert set(np.unique(index[:, 1])) == {0, 3}


def test_a_settled_code_is_the_choice_that_would_be_executed_and_lets_gradients_through():
    codec, code = Discrete(3), jnp.array([[0.2, 0.9, 0.5]])
    legal = jnp.array([[True, False, True]])
    np.testing.assert_allclose(codec.settle(code, legal), [[-1.0, -1.0, 1.0]], atol=1e-6)
    gradient = jax.grad(lambda x: (codec.settle(x, legal) * jnp.array([1.0, 2.0, 3.0])).sum())(code)
    np.testing.assert_allclose(gradient, [[1.0, 2.0, 3.0]])


def test_codes_of_another_size_are_the_same_choices():
    codec, small = Discrete(3), Discrete(3, size=0.3)
    choice, logits = jnp.array([[2, 0]]), jnp.array([[[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]]])
    np.testing.assert_allclose(small.encode(choice), 0.3 * codec.encode(choice), rtol=1e-6)
    np.testing.assert_allclose(small.expected(logits, None), 0.3 * codec.expected(logits, None), rtol=1e-6)
    np.testing.assert_array_equal(small.decode(small.encode(choice), None), choice)


def test_likelihoods_count_legal_choices_only(skirmish):
    _, _, batch = setup(BC(), skirmish)
    found = log_probability(jnp.zeros((*batch.action.shape[:-1], 4)), batch)
    np.testing.assert_allclose(found, -np.log(batch.legal.sum(-1)), rtol=1e-5)


class Answers:
    """A network whose logits are known: those of good choices where it is asked for them."""

    def __init__(self, good, anything):
        self.good, self.anything = jnp.asarray(good), jnp.asarray(anything)

    def __call__(self, inputs):
        return jnp.where(inputs[..., -1:] == 1, self.good, self.anything)


@pytest.mark.parametrize("w", [1.0, 2.5])
def test_guided_logits_are_the_exact_tilt(w):
    """p_w(a) ~ p(a) (p(a | good) / p(a))^w, over the legal choices."""
    anything, good = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.2, 0.5, 0.2, 0.1])
    spec = Spec(1, 2, 2, Discrete(4))
    algorithm = CategoricalCFG(noise=1.0, guidance=w)
    params = ValuePolicyParams(None, Answers(np.log(good), np.log(anything)))
    legal = jnp.broadcast_to(jnp.array([True, True, False, True]), (200_000, 1, 4))
    choice = algorithm.act(spec, params, jnp.zeros((200_000, 1, 2)), jax.random.key(0), legal)
    expected = anything * (good / anything) ** w * [1, 1, 0, 1]
    found = np.bincount(np.asarray(choice).ravel(), minlength=4) / choice.size
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.005)


def test_cloned_choices_have_the_temperature_of_the_noise():
    p = np.array([0.6, 0.3, 0.1])
    spec, obs = Spec(1, 2, 2, Discrete(3)), jnp.zeros((100_000, 1, 2))
    params = PolicyParams(lambda x: jnp.broadcast_to(jnp.log(p), (*x.shape[:-1], 3)))
    for noise in (1.0, 0.5, 0.0):
        act = BC(noise=noise).act(spec, params, obs, jax.random.key(0))
        expected = p ** (1 / noise) if noise else p == p.max()
        found = np.bincount(np.asarray(act).ravel(), minlength=3) / act.size
        np.testing.assert_allclose(found, expected / expected.sum(), atol=0.006)


def test_logits_are_not_for_agents_that_do_not_choose(skirmish):
    spec = Spec(1, 2, 2, Continuous(1))
    with pytest.raises(InputError, match="for agents that choose: take vgm2p"):
        CategoricalCFG().init(spec, seed_keys((0,))[0])


def test_agents_remember_their_last_observations_newest_first_and_nothing_before_the_start(skirmish):
    view = skirmish.view(history=3)
    replay = skirmish.replay(view, Sampling(), Discrete(4))
    assert view.obs_dim == 3 * 6 + 3
    shown = np.asarray(replay.shown(jnp.array([7, 5]), jnp.array([2, 0])).obs, np.float32)
    obs = skirmish.obs.astype(np.float32)
    np.testing.assert_array_equal(shown[0], np.concatenate([obs[7], obs[6], obs[5]], -1))
    np.testing.assert_array_equal(shown[1], np.concatenate([obs[5], 0 * obs[5], 0 * obs[5]], -1))


def test_the_environment_shows_what_the_data_remember(skirmish):
    """Played back through `Remembering`, an episode shows what `Replay` samples of it."""
    env = Remembering(Playback(skirmish), 3)
    replay = skirmish.replay(skirmish.view(history=3), Sampling(), Discrete(4))
    shown = [env.reset(0)] + [env.step(np.zeros((2, 3)))[0] for _ in range(3)]
    for age, sight in enumerate(shown):
        rows = jnp.array([age, 5 + age])
        np.testing.assert_array_equal(sight.obs, replay.shown(rows, jnp.full(2, age)).obs)
    again = env.restart(np.array([True, False])).obs
    np.testing.assert_array_equal(again[0, :, 6:], 0)
    np.testing.assert_array_equal(again[1], shown[-1].obs[1])


class Playback:
    """The first two episodes of a dataset, whatever is chosen."""

    copies, horizon, choices, dt, won = 2, 4, 4, 1.0, None

    def __init__(self, data):
        self.data, self.running = data, np.ones(2, bool)

    def reset(self, seed):
        self.age = np.zeros(2, int)
        return self.sight()

    def step(self, action):
        self.age += 1
        return self.sight(), np.zeros(2), np.zeros(2, bool), np.zeros(2, bool)

    def restart(self, where):
        self.age[where] = 0
        return self.sight()

    def sight(self):
        return jax.tree.map(lambda x: x[np.array([0, 5]) + self.age], self.data.sight)


def test_a_team_that_sees_all_remembers_nothing():
    with pytest.raises(InputError, match="history 2: these agents see the whole state"):
        TeamView.of(Sight(np.zeros((4, 2))), 2, history=2)
    with pytest.raises(InputError, match="history 0 must be at least 1"):
        TeamView.of(Sight(np.zeros((4, 2))), 2, history=0)
