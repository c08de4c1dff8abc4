"""Coordination games: rules, what their data hold, and what decentralised one-step policies reach."""

import runpy
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from vgm2p.actions import Discrete
from vgm2p.algorithms import VGM2P, FilteredBC, Fit, MeanFlowBC
from vgm2p.algorithms.algorithm import Velocity
from vgm2p.envs import toy
from vgm2p.envs.env import play
from vgm2p.errors import InputError
from vgm2p.flows import MeanFlow
from vgm2p.tasks import GAMES, task
from vgm2p.types import Spec

GAME = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks/coordination.py"))
METHODS, returns = GAME["METHODS"], GAME["returns"]


@pytest.mark.parametrize("name", GAMES)
def test_random_choices_return_what_the_task_says(name):
    env, rng = toy.make_env(task(name).body, 20_000), np.random.default_rng(0)
    act = lambda sight, step: rng.integers(env.choices, size=(env.copies, task(name).n))  # noqa: E731
    assert play(env, act, 0).returns.mean() == pytest.approx(task(name).random_return, abs=0.01)


@pytest.mark.parametrize("name", GAMES)
def test_half_of_the_data_or_more_is_of_teams_that_agree(name):
    where = task(name)
    data = toy.dataset(where.body, 2_000, 0)
    assert data.returns.max() == 1.0
    assert (data.returns >= 0.9).mean() >= 0.5
    assert data.legal.all()
    assert data.action.max() < toy.make_env(where.body, 1).choices


def test_a_bridge_is_crossed_one_after_the_other():
    env = toy.Bridge(3)
    env.reset(0)
    after_you = [[1, 0]] * 4 + [[0, 1]] * 4
    both = [[1, 1]] * 8
    neither = [[0, 0]] * 8
    for step in range(8):
        sight, reward, terminated, truncated = env.step(
            np.array([after_you[step], both[step], neither[step]])
        )
        if step == 0:
            assert terminated.tolist() == [False, True, False]
    assert reward.tolist() == [1.0, 0.0, 0.0]
    assert terminated.tolist() == [True, False, False]
    assert not truncated.any()
    np.testing.assert_array_equal(sight.state[0], [1.0, 1.0])


def test_waiting_for_ever_is_cut_by_the_time_limit():
    episodes = play(toy.Bridge(1), lambda sight, step: np.zeros((1, 2), int), 0)
    assert (episodes.returns[0], episodes.lengths[0]) == (0.0, toy.Bridge.horizon)


SHARING = [
    kind(fit=Fit(hidden=(16,)), shared_noise=True, noise=1.0) for kind in (VGM2P, FilteredBC, MeanFlowBC)
]


@pytest.mark.parametrize("algorithm", SHARING, ids=lambda a: type(a).__name__)
def test_with_shared_noise_an_agent_still_sees_its_own_observation_only(algorithm):
    spec = Spec(2, 3, 1, Discrete(2))
    params = algorithm.init(spec, jax.random.key(0)).params
    obs = jax.random.normal(jax.random.key(1), (500, 2, 3))
    one, two = (algorithm.act(spec, params, x, jax.random.key(2)) for x in (obs, obs.at[:, 1].add(3.0)))
    np.testing.assert_array_equal(one[:, 0], two[:, 0])


@pytest.mark.parametrize(("shared", "same"), [(True, False), (False, True)])
def test_shared_noise_is_that_of_the_whole_team(shared, same):
    """Another agent's noise matters to what an agent does only if it is shared."""
    spec = Spec(2, 3, 1, Discrete(2))
    flow = Velocity(spec, 0, Fit(hidden=(16,)), jax.random.key(0), shared)
    z, ones = jax.random.normal(jax.random.key(1), (5, 2, 2)), np.ones((5, 2))
    obs, none = np.zeros((5, 2, 3)), np.zeros((5, 2, 0))
    one, two = (flow(x, ones, 0 * ones, obs, none) for x in (z, z.at[:, 1].add(1.0)))
    assert np.array_equal(one[:, 0], two[:, 0]) == same


@pytest.mark.parametrize("to_data", [True, False])
def test_parts_of_one_flow_have_the_same_times(to_data):
    sample = MeanFlow(to_data=to_data).draw(np.zeros((50, 3, 2)), jax.random.key(0), together=True)
    for times in (sample.t, sample.r):
        assert times.shape == (50, 3)
        np.testing.assert_array_equal(times, np.broadcast_to(times[:, :1], (50, 3)))
    assert len(np.unique(sample.t)) == 50


@pytest.mark.parametrize("kind", [VGM2P, FilteredBC, MeanFlowBC])
def test_shared_noise_is_for_one_jump(kind):
    with pytest.raises(InputError, match="steps 10: with shared_noise there is one jump only"):
        kind(shared_noise=True, steps=10)
    assert replace(kind(shared_noise=True), noise=0.0).shared_noise


def test_a_joint_flow_has_one_label():
    with pytest.raises(InputError, match='label "local": with shared_noise the team has one flow'):
        VGM2P(shared_noise=True, label="local")


def test_a_new_round_leaves_the_other_rounds_running():
    game = toy.make_env("matching", 3)
    game.reset(0)
    game.restart(np.array([True, False, False]))
    assert game.running.all()


def test_a_game_of_one_step_has_no_film():
    env = toy.make_env("xor", 1)
    env.reset(0)
    with pytest.raises(InputError, match="has no film"):
        env.picture(64)


def test_the_films_frame_shows_both_agents_on_the_bridge():
    env = toy.Bridge(1)
    env.reset(0)
    frame = env.picture(100)
    assert {(0, 114, 178), (213, 94, 0)} <= set(map(tuple, frame.reshape(-1, 3)))


@pytest.mark.slow
def test_guided_cloning_matches_where_cloning_mixes_two_modes():
    assert max(returns(METHODS["meanflow_bc"], "matching", 2000)) < 0.55
    assert max(returns(METHODS["bc"], "matching", 2000)) < 0.55
    assert min(returns(METHODS["vgm2p"], "matching", 2000)) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bc", "filtered_bc", "categorical_cfg", "vgm2p", "vgm2p, w = 2"])
def test_no_clone_that_acts_alone_solves_xor(method):
    """Both optimal modes are equally good: the label can't tell them apart, agents mix them."""
    assert all(0.4 < value < 0.6 for value in returns(METHODS[method], "xor", 2000))


@pytest.mark.slow
def test_shared_noise_solves_xor():
    assert min(returns(METHODS["vgm2p, shared noise"], "xor", 2000)) > 0.95
    assert min(returns(METHODS["filtered_bc, shared noise"], "xor", 2000)) > 0.95
