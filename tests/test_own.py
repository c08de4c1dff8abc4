"""Your own team: recorded from any PettingZoo environment, trained for and scored in it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from mpe2 import simple_speaker_listener_v4, simple_spread_v3
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

import vgm2p
from vgm2p.algorithms import BC, VGM2P, Fit
from vgm2p.cli import main
from vgm2p.data import store
from vgm2p.data.importing import export_data, import_data
from vgm2p.data.writer import Writer
from vgm2p.envs.pettingzoo import Layout, PettingZooVec, ends, make
from vgm2p.errors import InputError
from vgm2p.evaluate import evaluate
from vgm2p.runs import Experiment, load_policy, run, run_task
from vgm2p.tasks import task

SPREAD = "mpe2.simple_spread_v3"
TINY = Fit(hidden=(16,))


def play(env, episodes: int, steps: int = 1000, seed: int = 0) -> list:
    """Uniformly random legal actions; returns every action and what the environment answered."""
    rng, told = np.random.default_rng(seed), []
    for episode in range(episodes):
        env.reset(seed=seed + episode)
        for _ in range(steps):
            if not env.agents:
                break
            for name in env.agents:
                env.action_space(name).seed(int(rng.integers(2**31)))
            actions = {name: env.action_space(name).sample() for name in env.agents}
            told.append((actions, env.step(actions)))
    return told


def recorded(name, module=SPREAD, episodes=3, **options):
    env = vgm2p.record(make(module, options), name, module=module, options=options)
    play(env, episodes)
    return env.close()


@pytest.fixture(scope="module")
def spread(data_home):
    """A small recorded dataset of three agents that spread out."""
    return recorded("own/spread", episodes=40, continuous_actions=True).id


class Leavers(ParallelEnv):
    """Two agents that choose from 1 and 3, or 5 and 6; the second leaves after two steps of three."""

    metadata = {"name": "leavers", "render_modes": []}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012

    def observation_space(self, agent):
        mask = spaces.MultiBinary(3 if agent == "a" else 2)
        return spaces.Dict({"observation": spaces.Box(-1, 1, (1,), np.float32), "action_mask": mask})

    def action_space(self, agent):
        return spaces.Discrete(3, start=1) if agent == "a" else spaces.Discrete(2, start=5)

    def _seen(self, there):
        """Those who ended in this step are shown once more, as PettingZoo's own environments do."""
        masks = {"a": np.array([1, 0, 1], np.int8), "b": np.array([0, 1], np.int8)}
        return {n: {"observation": np.full(1, 0.5, np.float32), "action_mask": masks[n]} for n in there}

    def reset(self, seed=None, options=None):
        self.agents, self.age = ["a", "b"], 0
        return self._seen(self.agents), {name: {} for name in self.agents}

    def step(self, actions):
        assert set(actions) >= set(self.agents)
        assert actions["a"] in (1, 3)
        self.age += 1
        there, over = list(self.agents), {name: self.age == (3 if name == "a" else 2) for name in self.agents}
        self.agents = [name for name in there if not over[name]]
        rewards = {name: 1.0 if name == "a" else 3.0 for name in there}
        return self._seen(there), rewards, over, dict.fromkeys(there, False), {name: {} for name in there}


def test_a_recording_is_what_the_environment_said(data_home):
    env = simple_spread_v3.parallel_env(max_cycles=5)
    wrapped = vgm2p.record(env, "own/said")
    told = play(wrapped, episodes=2)
    data = wrapped.close()
    assert data.lengths.tolist() == [5, 5]
    assert not data.terminated.any()  # MPE's limit cuts, it does not end
    rewards = [np.mean(list(answer[1].values())) for _, answer in told]
    np.testing.assert_allclose(data.reward, rewards, rtol=1e-6)
    names = wrapped.possible_agents
    np.testing.assert_array_equal(data.action, [[actions[n] for n in names] for actions, _ in told])
    seen = np.delete(data.obs, 6, axis=0)[1:]  # without the first of each episode, which reset showed
    np.testing.assert_allclose(seen, [[answer[0][n] for n in names] for _, answer in told], rtol=1e-6)


def test_agents_of_other_widths_are_padded_and_unpadded(data_home):
    data = recorded("own/speaker", "mpe2.simple_speaker_listener_v4", episodes=2, continuous_actions=True)
    assert data.obs.shape[1:] == (2, 11)
    assert not data.obs[:, 0, 3:].any()  # the speaker sees three numbers
    assert data.card["sizes"] == [3, 5]
    env = simple_speaker_listener_v4.parallel_env(continuous_actions=True)
    env.reset(seed=0)
    layout = Layout.of(env)
    actions = {name: env.action_space(name).sample() for name in env.agents}
    coded = layout.coded(env, actions)
    assert np.abs(coded).max() <= 1
    for name, action in layout.actions(env, coded).items():
        np.testing.assert_allclose(action, actions[name], atol=1e-6)


def test_choices_masks_and_leaving_agents(data_home):
    wrapped = vgm2p.record(Leavers(), "own/leavers")
    rng = np.random.default_rng(0)
    for _ in range(2):
        wrapped.reset()
        while wrapped.agents:
            wrapped.step({"a": int(rng.choice([1, 3])), "b": 6})  # b's even where it has left: not asked
    data = wrapped.close()
    assert data.terminated.all()
    assert data.lengths.tolist() == [3, 3]
    assert data.reward.tolist() == [2, 2, 1] * 2  # the mean over those who are there
    assert data.legal[0].tolist() == [[True, False, True], [False, True, False]]
    assert data.legal[2].tolist() == [[True, False, True], [True, False, False]]  # the one who left may wait
    assert data.legal[3, 0].tolist() == [True, False, True]  # the last one's stays: a cut is valued by it
    assert not data.obs[2, 1].any()
    assert set(np.unique(data.action[:, 0])) <= {0, 2}
    assert data.action[:, 1].tolist() == [1, 1, 0] * 2


class Movers(Leavers):
    """The same, but each gives a number from 0 to 1 and sees its age."""

    def observation_space(self, agent):
        return spaces.Box(0, 10, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Box(0, 1, (1,), np.float32)

    def _seen(self, there):
        return {name: np.full(1, 1 + self.age, np.float32) for name in there}

    def step(self, actions):
        return super().step(dict.fromkeys(self.agents, 1))


def parallel_env():
    """What makes `Movers` again for training's scores."""
    return Movers()


def test_agents_that_move_and_leave_are_told_and_trained_without(data_home, tmp_path):
    wrapped = vgm2p.record(Movers(), "own/movers", module=__name__)
    play(wrapped, episodes=4)
    data = wrapped.close()
    assert data.present[:4].tolist() == [[True, True], [True, True], [True, False], [True, False]]
    np.testing.assert_array_equal(data.present, data.obs[..., 0] > 0)
    assert data.take(np.array([1])).present.tolist() == data.present[4:8].tolist()
    export_data(data, "folder", str(tmp_path / "plain"))
    read = import_data("folder", str(tmp_path / "plain"), "own/movers-again")
    np.testing.assert_array_equal(read.present, data.present)
    run(Experiment("own/movers", VGM2P(fit=TINY), 4, 16, (0,), eval_episodes=1), tmp_path / "run")
    assert len(load_policy(tmp_path / "run").seeds) == 1


KILLED = """
import os, sys
import vgm2p
from vgm2p.data.writer import Writer
from test_own import make, play, SPREAD

name, whole, torn = sys.argv[1], int(sys.argv[2]), sys.argv[3]
cut = Writer._cut

def die(writer):  # in the middle of writing the episode after `whole` others
    cut(writer)
    if len(writer._episodes) == whole:
        with (writer._parts / torn).open("ab") as file:
            file.write(b"half")
        file.close()
        os._exit(9)

Writer._cut = die
env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), name)
play(env, episodes=whole)
play(env, episodes=1, seed=whole)
"""


@pytest.mark.parametrize("whole", [0, 2])
@pytest.mark.parametrize("torn", ["reward.raw", "episodes.jsonl"])
def test_a_killed_recording_goes_on_after_its_last_whole_episode(whole, torn, data_home):
    name, all_of_them = (
        f"own/killed-{whole}-{torn}",
        recorded(f"own/whole-{whole}-{torn}", episodes=4, max_cycles=3),
    )
    child = [sys.executable, "-c", KILLED, name, str(whole), torn]
    assert subprocess.run(child, cwd=Path(__file__).parent).returncode == 9
    for seed in range(whole, 4):  # reopened for every one
        env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), name)
        play(env, episodes=1, seed=seed)
        if seed < 3:
            del env
    killed = env.close()
    assert killed.lengths.tolist() == all_of_them.lengths.tolist()
    assert killed.returns[:whole] == pytest.approx(all_of_them.returns[:whole])
    assert killed.card["horizon"] == 3
    assert not (store.home() / name / "unfinished").exists()
    with pytest.raises(InputError, match="holds a dataset already"):
        vgm2p.record(make(SPREAD, {}), name)


@pytest.mark.parametrize("how", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_write_that_fails_costs_no_episode(how, data_home, monkeypatch):
    kind = "cut" if how is KeyboardInterrupt else "full"
    env, write = vgm2p.record(make(SPREAD, {"max_cycles": 3}), f"own/{kind}"), Path.open
    play(env, episodes=1)

    def interrupted(path, *args, **named):
        if path.name == "reward.raw":
            raise how
        return write(path, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", interrupted)
        with pytest.raises((KeyboardInterrupt, InputError), match=r"No space left|^$"):
            play(env, episodes=1, seed=1)
    play(env, episodes=1, seed=2)  # writes that of seed 1 first
    data = env.close()
    again = vgm2p.record(make(SPREAD, {"max_cycles": 3}), f"own/not-{kind}")
    for seed in range(3):
        play(again, episodes=1, seed=seed)
    assert data.lengths.tolist() == [3, 3, 3]
    np.testing.assert_array_equal(data.state, again.close().state)
    assert env.close() is data


def test_an_episode_that_no_dataset_can_hold_stops_none_after_it(data_home):
    env = Leavers()
    wrapped = vgm2p.record(env, "own/nan")
    for number in (np.nan, 1.0):
        env.state = lambda number=number: np.full(2, number, np.float32)
        wrapped.reset()
        wrapped.step({"a": 1, "b": 6})
        wrapped.step({"a": 1, "b": 6})
        if np.isnan(number):
            with pytest.raises(InputError, match="field 'state' holds"):
                wrapped.step({"a": 1})
    wrapped.step({"a": 1})
    assert wrapped.close().lengths.tolist() == [3]


def test_a_recording_of_nothing_may_be_closed_twice(data_home):
    env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/nothing")
    for _ in range(2):
        with pytest.raises(InputError, match="no episode was finished"):
            env.close()


@pytest.mark.parametrize(
    ("terminations", "truncations", "told"),
    [
        ({"a": True, "b": True}, {"a": False, "b": False}, (True, False)),
        ({"a": True, "b": True}, {"a": True, "b": True}, (True, False)),  # ended at the limit: as imported
        ({"a": True, "b": False}, {"a": False, "b": True}, (False, True)),
        ({"a": True, "b": False}, {"a": False, "b": False}, (False, False)),
    ],
)
def test_a_team_is_cut_if_one_of_its_last_agents_was(terminations, truncations, told):
    left = [name for name in terminations if not (terminations[name] or truncations[name])]
    assert ends(terminations, truncations, left) == told


def test_two_recordings_of_one_name_at_once_are_refused(data_home):
    env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/once")
    with pytest.raises(InputError, match="is being written by another process"):
        vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/once")
    play(env, episodes=1)
    env.close()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../out", "can't name a dataset"),
        ("/etc/out", "can't name a dataset"),
        ("twin/3hopper-medium", "is the name of a dataset of ours"),
    ],
)
def test_names_outside_the_datas_home_or_in_the_table_are_refused(name, told, data_home):
    with pytest.raises(InputError, match=told):
        vgm2p.record(make(SPREAD, {}), name)


def test_the_module_must_make_the_environment_that_is_recorded(data_home):
    four = simple_spread_v3.parallel_env(N=4)
    with pytest.raises(InputError, match="another environment than the one recorded: its 'agents'"):
        vgm2p.record(four, "own/four", module=SPREAD)
    with pytest.raises(InputError, match="no parallel environment"):
        vgm2p.record(simple_spread_v3.env(), "own/turns")
    env = vgm2p.record(four, "own/four", module=SPREAD, options={"N": 4})
    env.reset(seed=0)
    with pytest.raises(InputError, match="no action for agent_1, agent_2, agent_3"):
        env.step({"agent_0": 0})


def test_states_are_copied_where_the_environment_keeps_one_array(data_home):
    env, counter = Leavers(), np.zeros(2, np.float32)
    env.state = lambda: np.add(counter, 1, out=counter)
    wrapped = vgm2p.record(env, "own/live")
    wrapped.reset()
    while wrapped.agents:
        wrapped.step({n: 1 if n == "a" else 5 for n in wrapped.agents})
    assert wrapped.close().state[:, 0].tolist() == [1, 2, 3, 4]


def test_what_a_card_cannot_hold_is_told_before_anything_is_recorded(data_home):
    with pytest.raises(InputError, match="card can't be written"):
        vgm2p.record(make(SPREAD, {}), "own/x", module=SPREAD, options={"max_cycles": np.int32(3)})


def test_a_step_that_fails_does_not_spoil_the_recording(data_home, monkeypatch):
    def unplugged(actions):
        raise RuntimeError("unplugged")

    env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/failing")
    env.reset(seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(env.env, "step", unplugged)
        with pytest.raises(RuntimeError, match="unplugged"):
            env.step(dict.fromkeys(env.agents, 0))
    play(env, episodes=1)
    assert env.close().lengths.tolist() == [3]


def test_a_damaged_unfinished_recording_is_refused(data_home):
    env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/damaged")
    play(env, episodes=1)
    del env
    (store.home() / "own/damaged/unfinished/reward.raw").write_bytes(b"")
    with pytest.raises(InputError, match=r"reward.raw has 0 bytes where .* tells of 12"):
        vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/damaged")
    with pytest.raises(InputError, match="no episode was finished"):
        Writer(store.home() / "own/empty", {"id": "own/empty"}).finish()


def test_a_recording_goes_on_only_as_it_was_begun(data_home):
    env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/begun", source="the old rules")
    play(env, episodes=1)
    del env
    with pytest.raises(InputError, match="unfinished recording whose 'source' is the old rules, not the new"):
        vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/begun", source="the new rules")
    env = vgm2p.record(make(SPREAD, {"max_cycles": 3}), "own/begun", source="the old rules")
    play(env, episodes=1)
    assert env.close().lengths.tolist() == [3, 3]


def test_a_recording_names_no_module_with_other_ranges_of_actions():
    class Wider(BaseParallelWrapper):
        def action_space(self, agent):
            return spaces.Box(-2.0, 2.0, self.env.action_space(agent).shape)

    options = {"continuous_actions": True}
    with pytest.raises(InputError, match="its 'low' is "):
        vgm2p.record(Wider(make(SPREAD, options)), "own/wider", module=SPREAD, options=options)


def test_the_vectorised_environment_agrees_with_plain_ones():
    vec, seed = PettingZooVec(SPREAD, {"max_cycles": 4}, copies=2), 5
    plain = [simple_spread_v3.parallel_env(max_cycles=4) for _ in range(2)]
    sight = vec.reset(seed)
    seen = [env.reset(seed=seed + i)[0] for i, env in enumerate(plain)]
    rng = np.random.default_rng(0)
    for step in range(4):
        for i, env in enumerate(plain):
            np.testing.assert_allclose(sight.obs[i], [seen[i][n] for n in env.possible_agents], rtol=1e-6)
        action = rng.integers(5, size=(2, 3))
        sight, reward, terminated, truncated = vec.step(action)
        for i, env in enumerate(plain):
            seen[i], rewards, *_ = env.step(dict(zip(env.agents, action[i].tolist(), strict=True)))
            assert reward[i] == pytest.approx(np.mean(list(rewards.values())))
        assert truncated.all() == (step == 3)
        assert not terminated.any()
    assert not vec.running.any()
    assert not vec.step(action)[1].any()
    vec.restart(np.array([True, False]))
    assert vec.running.tolist() == [True, False]


def test_importing_says_in_which_range_actions_are_taken_to_lie(spread, tmp_path, capsys):
    env = ["--env", SPREAD, "--env-options", '{"continuous_actions": true}']
    main(["data", "export", spread, "folder", str(tmp_path / "logs")])
    main(["data", "import", "folder", str(tmp_path / "logs"), "own/again", *env])
    told = " ".join(capsys.readouterr().out.split())
    assert "are taken to lie in [-1, 1], as what we export does; the environment's lie in [0, 1]" in told


@pytest.mark.parametrize("name", ["", "simple_sprad"])
def test_importing_for_an_environment_without_a_name_is_refused(name, spread, tmp_path, capsys):
    main(["data", "export", spread, "folder", str(tmp_path / "logs")])
    with pytest.raises(SystemExit, match="2"):
        main(["data", "import", "folder", str(tmp_path / "logs"), "own/nowhere", "--env", name])
    assert f"unknown team or module '{name}'" in capsys.readouterr().err


def test_your_team_trains_and_is_scored_in_your_environment(spread, tmp_path):
    experiment = Experiment(
        spread, VGM2P(fit=TINY), updates=20, batch=8, seeds=(0, 1), eval_every=20, eval_episodes=4
    )
    result = run(experiment, tmp_path / "run")
    assert np.shape(result["returns"]) == (2, 4)
    again = evaluate(load_policy(tmp_path / "run"), task(spread), 4)
    np.testing.assert_allclose([e.returns for e in again], result["returns"], atol=0.01)
    folder = store.home() / spread
    shutil.move(folder, tmp_path / "away")  # a run is whole without its data
    try:
        assert run_task(tmp_path / "run").has_env
        assert load_policy(tmp_path / "run").spec.n == 3
    finally:
        shutil.move(tmp_path / "away", folder)


def test_a_team_without_an_environment_trains_and_says_so(data_home, tmp_path, capsys):
    env = vgm2p.record(make(SPREAD, {"max_cycles": 5}), "own/logs")
    play(env, episodes=4)
    env.close()
    result = run(Experiment("own/logs", BC(fit=TINY), updates=4, batch=4, seeds=(0,)), tmp_path)
    assert result["mean"] is None
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(tmp_path)])
    assert "names no environment to play in" in capsys.readouterr().err
    settings = ["--updates", "4", "--batch", "4", "--out", str(tmp_path), "--seeds", "0"]
    main(["train", "own/logs", *settings, "bc", "--fit.hidden", "16"])
    assert "what they alone tell: vgm2p estimate" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("module", "options", "told"),
    [
        ("mpe2.simple_sprad", {}, "install its package, or mend the name"),
        ("json", {}, "has no function parallel_env"),
        (SPREAD, {"colour": "blue"}, "does not take the options"),
        (SPREAD, {"local_ratio": 2}, r"does not take the options .*local_ratio.* \(AssertionError"),
    ],
)
def test_an_environment_that_is_not_there_is_told(module, options, told):
    with pytest.raises(InputError, match=told):
        make(module, options)


def test_action_spaces_that_mix_are_refused():
    class Mixed(Leavers):
        def action_space(self, agent):
            return spaces.Discrete(2) if agent == "a" else spaces.Box(-1, 1, (1,))

    with pytest.raises(InputError, match="must be all Box or all Discrete, and are a: Discrete"):
        vgm2p.record(Mixed(), "own/mixed")


def test_a_film_of_your_team(spread, tmp_path):
    run(Experiment(spread, BC(fit=TINY), updates=2, batch=4, seeds=(0,), eval_episodes=1), tmp_path / "run")
    main(["play", str(tmp_path / "run"), "--video", str(tmp_path / "team.gif"), "--seconds", "0.5"])
    assert (tmp_path / "team.gif").stat().st_size > 1000


def test_your_datasets_are_listed(spread, capsys):
    main(["data", "list"])
    assert spread in capsys.readouterr().out


def test_a_run_of_an_older_version_is_told(spread, tmp_path):
    run(Experiment(spread, BC(fit=TINY), updates=2, batch=4, seeds=(0,), eval_episodes=1), tmp_path)
    record = store.read_json(tmp_path / "experiment.json")
    for changed in ({"discrete": None}, {"agents": "3"}):
        store.write_json(tmp_path / "experiment.json", record | changed)
        with pytest.raises(
            InputError, match=rf"experiment\.json lacks the fields {next(iter(changed))},.*damaged"
        ):
            load_policy(tmp_path)
    store.write_json(tmp_path / "experiment.json", [1])
    with pytest.raises(InputError, match=r"experiment\.json lacks the fields task, agents"):
        load_policy(tmp_path)
