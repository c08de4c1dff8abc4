"""The vectorised physics is Gymnasium's, to rounding."""

import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest

from vgm2p.envs.env import play
from vgm2p.envs.mujoco import MujocoVec
from vgm2p.errors import InputError

IDS = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "ant": "Ant-v4"}


def gymnasium_env(robot):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # v4 is the published version; v5 has other rewards
        return gymnasium.make(IDS[robot]).unwrapped


@pytest.mark.parametrize("robot", IDS)
def test_physics_and_reward_are_gymnasiums(robot):
    """Three copies, noisy torques that leave [-1, 1], put side by side again before every step.

    Contacts are chaotic: left alone, a difference in the last bits grows a thousandfold in 20 steps.
    """
    ours, seed = MujocoVec(robot, 3), 7
    theirs = [gymnasium_env(robot) for _ in range(3)]
    state = ours.reset(seed).state
    for i, env in enumerate(theirs):
        np.testing.assert_array_equal(state[i], env.reset(seed=seed + i)[0])
    rng = np.random.default_rng(0)
    for _ in range(40):
        action, running = rng.normal(size=(3, ours.action_dim)), ours.running.copy()
        for i, env in enumerate(theirs):
            position, velocity = ours.pose(i)
            position[:], velocity[:] = env.data.qpos, env.data.qvel
        sight, reward, terminated, _ = ours.step(action)
        for i in np.flatnonzero(running):
            obs, expected, ended, _, _ = theirs[i].step(action[i])
            np.testing.assert_allclose(sight.state[i], obs, atol=1e-9)
            np.testing.assert_allclose(reward[i], expected, atol=1e-9)
            assert terminated[i] == ended


@pytest.mark.parametrize("robot", IDS)
def test_the_first_steps_agree_to_the_last_bits(robot):
    ours, theirs = MujocoVec(robot, 1), gymnasium_env(robot)
    ours.reset(3), theirs.reset(seed=3)
    action = np.full((1, ours.action_dim), 0.3)
    for _ in range(5):
        sight, reward, _, _ = ours.step(action)
        obs, expected, _, _, _ = theirs.step(action[0])
        np.testing.assert_allclose(sight.state[0], obs, atol=1e-13)
        np.testing.assert_allclose(reward[0], expected, atol=1e-13)


def test_control_cost_is_paid_on_the_raw_action_though_the_motor_is_clamped():
    clipped, raw = MujocoVec("halfcheetah", 1), MujocoVec("halfcheetah", 1)
    clipped.reset(0), raw.reset(0)
    sight, reward, _, _ = clipped.step(np.full((1, 6), 1.0))
    same, less, _, _ = raw.step(np.full((1, 6), 3.0))
    np.testing.assert_array_equal(sight.state, same.state)
    assert reward[0] - less[0] == pytest.approx(0.1 * 6 * (9 - 1))


def test_agents_actions_concatenate_in_actuator_order():
    teams, flat = MujocoVec("ant", 1), MujocoVec("ant", 1)
    teams.reset(0), flat.reset(0)
    action = np.linspace(-1, 1, 8)
    sights = teams.step(action.reshape(1, 2, 4))[0], flat.step(action[None])[0]
    np.testing.assert_array_equal(*(sight.state for sight in sights))


def test_time_limit_truncates_and_does_not_terminate():
    env = MujocoVec("halfcheetah", 2)
    env.reset(0)
    for _ in range(env.horizon - 1):
        _, _, terminated, truncated = env.step(np.zeros((2, 6)))
        assert not (terminated | truncated).any()
    _, _, terminated, truncated = env.step(np.zeros((2, 6)))
    assert truncated.all()
    assert not terminated.any()


def test_a_fallen_hopper_terminates_and_earns_nothing_more():
    env = MujocoVec("hopper", 1)
    episodes = play(env, lambda sight, step: np.ones((1, 3)), seed=0)
    assert episodes.lengths[0] < 200
    assert not env.running[0]
    _, reward, terminated, truncated = env.step(np.ones((1, 3)))
    assert (reward, terminated, truncated) == (0, False, False)


def test_number_of_threads_and_of_copies_changes_nothing():
    runs = []
    for copies, threads in ((1, 1), (5, 2)):
        env = MujocoVec("ant", copies, threads)
        env.reset(11)
        runs.append([env.step(np.full((copies, 8), 0.2))[0].state[0] for _ in range(20)])
    np.testing.assert_array_equal(*runs)


def test_a_scripted_policy_earns_its_known_return():
    """Standing still, HalfCheetah-v4 moves by nothing but its fall from the initial pose."""
    env = MujocoVec("halfcheetah", 1)
    episode = play(env, lambda sight, step: np.zeros((1, 6)), seed=0)
    theirs = gymnasium_env("halfcheetah")
    theirs.reset(seed=0)
    expected = sum(theirs.step(np.zeros(6))[1] for _ in range(1000))
    assert episode.returns[0] == pytest.approx(expected, abs=1e-3)
    assert episode.lengths[0] == 1000


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        ("import ctypes.util; ctypes.util.find_library = lambda name: None", "MUJOCO_GL=disable: "),
        ("import os; os.environ['PYOPENGL_PLATFORM'] = 'glx'", "MUJOCO_GL=egl: "),
    ],
)
def test_robots_run_where_nothing_can_be_drawn_and_films_say_what_is_missing(hidden, told):
    """EGL, which many servers lack, is hidden from a process of its own, or of no use to it."""
    code = f"""
{hidden}
from vgm2p.envs.mujoco import MujocoVec
env = MujocoVec("hopper", 1)
print(env.reset(0).state.shape)
env.picture(64)
"""
    unset = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=unset)
    assert ran.stdout == "(1, 11)\n"
    assert f"InputError: MuJoCo can't draw here ({told}" in ran.stderr
    assert "Install EGL, on Debian with" in ran.stderr


def test_physics_on_no_thread_is_refused():
    with pytest.raises(InputError, match="threads -1 must be at least 1"):
        MujocoVec("hopper", 1, threads=-1)
