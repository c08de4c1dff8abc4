"""Other people's formats: files that each format's own library writes, read; ours, written and read back."""

import io
import json
import shutil
from dataclasses import replace
from unittest.mock import Mock

import h5py
import jax.numpy as jnp
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from flashbax.buffers.trajectory_buffer import TrajectoryBufferState
from flashbax.vault import Vault

import vgm2p
from vgm2p.algorithms import BC, VGM2P, Fit
from vgm2p.cli import main
from vgm2p.data import omiga, rows, store
from vgm2p.data.dataset import Dataset
from vgm2p.data.importing import export_data, import_data
from vgm2p.data.rows import Rows, episodes, rows_of
from vgm2p.envs import pettingzoo
from vgm2p.errors import InputError
from vgm2p.runs import Experiment, run
from vgm2p.tasks import task

FIELDS = (*store.FIELDS, *store.PARTIAL)


def equal(left: Dataset, right: Dataset) -> None:
    """The same datasets, bit by bit."""
    for name in FIELDS:
        x, y = getattr(left, name), getattr(right, name)
        assert (x is None) == (y is None), name
        if x is not None:
            np.testing.assert_array_equal(x, y, err_msg=name)


def robots(lengths=(4, 1000, 3), state=11, agents=3, width=1, seed=0) -> Dataset:
    """Random episodes of robots; those of 1000 steps are cut."""
    rng, total = np.random.default_rng(seed), sum(lengths)
    return Dataset(
        state=rng.normal(size=(total + len(lengths), state)).astype(np.float32),
        action=2 * rng.normal(size=(total, agents, width)).astype(np.float32),
        reward=rng.normal(size=total).astype(np.float32),
        lengths=np.array(lengths, np.int32),
        terminated=np.array([length != 1000 for length in lengths]),
        card={"id": "test/robots", "agents": agents},
    )


def fighters(lengths=(3, 2, 4), terminated=(True, False, True), seed=0) -> Dataset:
    """Random episodes of agents that choose."""
    rng, total = np.random.default_rng(seed), sum(lengths)
    count = total + len(lengths)
    legal = rng.random((count, 2, 5)) < 0.5
    legal[..., 0] = True
    return Dataset(
        state=rng.normal(size=(count, 4)).astype(np.float32),
        action=rng.integers(5, size=(total, 2)).astype(np.int32),
        reward=rng.normal(size=total).astype(np.float32),
        lengths=np.array(lengths, np.int32),
        terminated=np.array(terminated),
        card={"id": "test/fighters", "agents": 2},
        obs=rng.normal(size=(count, 2, 3)).astype(np.float32),
        legal=legal,
    )


def theirs(path, lengths=(3, 1000), state=11, agents=3, width=1):
    """An OMIGA file as their loader expects it: float32 vectors, a dummy row with d = 1 ends each episode."""
    data = robots(lengths, state, agents, width)
    closing = rows_of(data, "row")
    vectors = omiga.standardised(data.state, agents, 84 if state == 27 else 0).astype(np.float32)
    action = np.where(closing.terminated[:, None, None] | closing.truncated[:, None, None], 9, closing.action)
    with h5py.File(path, "w") as file:
        file["s"] = file["o"] = vectors
        file["a"], file["r"] = action, closing.reward[:, None]
        file["d"] = (closing.terminated | closing.truncated).astype(np.float64)[:, None]
    return data


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("HalfCheetah-v2-6x1-medium-replay", (17, 6, 1)),
        ("Hopper-v2-3x1-expert", (11, 3, 1)),
        ("Ant-v2-2x4-medium", (27, 2, 4)),
    ],
)
def test_omiga_files_give_their_states_back(data_home, name, sizes, monkeypatch):
    monkeypatch.setattr(omiga, "BLOCK", 300)  # episodes cross blocks
    path = data_home / "omiga" / f"{name}.hdf5"
    path.parent.mkdir(exist_ok=True)
    written, called = theirs(path, (3, 1000, 2), *sizes), omiga.name_of(path)
    assert omiga.file_of(called, path.parent) == path
    (path.parent / "notes.hdf5").touch()  # a file of another name is nobody's business
    read = task(called).load_data()  # found by its name in the data folder
    np.testing.assert_allclose(read.state, written.state, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(read.action, written.action)
    np.testing.assert_array_equal(read.reward, written.reward)
    assert read.lengths.tolist() == [3, 1000, 2]
    assert read.terminated.tolist() == [True, False, True]
    env = task(called).make_env(1, threads=1)
    assert env.reset(0).state.shape[1] == read.state.shape[1]  # what scores it shows what it holds
    env.close()


def test_a_missing_file_of_omigas_is_asked_for_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("VGM2P_DATA", str(tmp_path))  # others may have put it into the tests' common folder
    with pytest.raises(InputError, match=r"put OMIGA's file at .*/omiga/.*Hopper-v2-3x1-medium\.hdf5"):
        vgm2p.load_dataset("omiga/3hopper-medium")


def test_a_twin_in_omigas_format_comes_back_bit_by_bit(hopper, data_home, tmp_path):
    path = tmp_path / "Hopper-v2-3x1-medium.hdf5"
    main(["data", "export", hopper, "omiga", str(path)])
    main(["data", "import", "omiga", str(path), "own/back"])
    equal(task("own/back").load_data(), task(hopper).load_data())


def vault(path, seeds=1, pad=False, bare=False):
    """A vault as OG-MARL writes it: episodes of 3 and 4, the first truly ended; 2 agents, 4 choices."""
    rng, t, n = np.random.default_rng(0), 7, 2
    end = np.isin(np.arange(t), [2, 6])
    each = lambda x, dtype: jnp.asarray(np.broadcast_to(x[None, :, None], (seeds, t, n)).astype(dtype))  # noqa: E731
    obs = rng.normal(size=(seeds, t, n, 3)).astype(np.float32)
    if pad:
        obs[:, :, 1, 2] = -np.inf
    legal = np.ones((seeds, t, n, 4), bool)
    experience = {
        "observations": jnp.asarray(obs),
        "actions": jnp.asarray(rng.integers(4, size=(seeds, t, n)), jnp.int32),
        "rewards": each(np.arange(t), np.float32),
        "terminals": each(end & (np.arange(t) < 4), bool),
        "truncations": each(end & (np.arange(t) > 4), bool),
        "infos": {
            "state": jnp.asarray(rng.normal(size=(seeds, t, 5)), jnp.float32),
            "legals": jnp.asarray(legal),
        },
    }
    if bare:
        del experience["infos"]["legals"]
    names = {"rel_dir": str(path.parent.parent), "vault_name": path.parent.name, "vault_uid": path.name}
    made = Vault(experience_structure=experience, **names)
    made.write(TrajectoryBufferState(experience=experience, current_index=t, is_full=False))
    return experience


def test_vaults_whose_flag_is_on_the_last_step(data_home, tmp_path, capsys):
    told = vault(tmp_path / "3m.vlt/Good")
    data = import_data("vault", str(tmp_path / "3m.vlt/Good"), "og/3m-good")
    assert data.lengths.tolist() == [3, 3]  # a cut episode is closed one step earlier
    assert data.terminated.tolist() == [True, False]
    np.testing.assert_array_equal(data.reward, [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(data.state[:3], told["infos"]["state"][0, :3])
    np.testing.assert_array_equal(data.state[3], data.state[2])  # nobody asks what follows a true end
    np.testing.assert_array_equal(data.state[4:], told["infos"]["state"][0, 3:])
    np.testing.assert_array_equal(data.action, told["actions"][0, :6])
    assert data.legal.shape == (8, 2, 4)


def test_last_actions_that_are_left_out_are_told(data_home, tmp_path, capsys):
    vault(tmp_path / "3m.vlt/Good")
    main(["data", "import", "vault", str(tmp_path / "3m.vlt/Good"), "og/told"])
    assert "1 last actions were left out" in capsys.readouterr().out
    main(["data", "import", "vault", str(tmp_path / "3m.vlt/Good"), "og/untold", "--ends", "row"])
    assert "left out" not in capsys.readouterr().out


def test_a_vault_without_legals_has_as_many_choices_as_any_seed_took(data_home, tmp_path, monkeypatch):
    told = vault(tmp_path / "tag.vlt/Bare", seeds=3, bare=True)
    monkeypatch.setattr("vgm2p.data.vault.BLOCK", 1000)
    data = import_data("vault", str(tmp_path / "tag.vlt/Bare"), "og/bare")
    assert data.legal.shape[2] == 1 + int(told["actions"].max())
    assert data.legal.all()


def test_vaults_whose_flag_is_on_an_extra_row(data_home, tmp_path):
    vault(tmp_path / "3m.vlt/Row")
    data = import_data("vault", str(tmp_path / "3m.vlt/Row"), "og/3m-row", ends="row", time_limit=2)
    assert data.lengths.tolist() == [2, 3]
    assert data.terminated.tolist() == [False, False]  # of two steps, so cut; the other is flagged as cut
    np.testing.assert_array_equal(data.reward, [0, 1, 3, 4, 5])


def test_vaults_of_several_seeds_and_padding(data_home, tmp_path, monkeypatch):
    told = vault(tmp_path / "tag.vlt/Expert", seeds=5, pad=True)
    monkeypatch.setattr("vgm2p.data.vault.BLOCK", 1000)  # two rows at once
    data = import_data("vault", str(tmp_path / "tag.vlt/Expert"), "og/tag-expert")
    assert data.lengths.tolist() == [3, 3] * 5
    assert not data.obs[:, 1, 2].any()  # -inf was padding
    np.testing.assert_array_equal(data.action[24:], told["actions"][4, :6])


def test_observations_of_the_whole_state_are_left_out_where_the_environment_shows_it(data_home, tmp_path):
    export_data(robots((4, 3)), "vault", str(tmp_path / "3hopper.vlt/Good"), ends="row")
    path, env = str(tmp_path / "3hopper.vlt/Good"), {"team": "3hopper"}
    assert import_data("vault", path, "own/alone", ends="row").obs is not None
    assert import_data("vault", path, "own/hopper", ends="row", env=env).obs is None


@pytest.mark.parametrize("made", [robots, fighters])
def test_our_vaults_and_folders_come_back_bit_by_bit(made, data_home, tmp_path):
    data = made()
    agents = data.card["agents"]
    export_data(data, "vault", str(tmp_path / "ours.vlt/Row"), ends="row")
    read = import_data("vault", str(tmp_path / "ours.vlt/Row"), f"own/vault-{agents}", ends="row")
    if data.obs is None:  # a vault keeps what each agent sees, which here is the state
        np.testing.assert_array_equal(read.obs[:, 1], data.state)
        read = Dataset(**{name: getattr(read, name) for name in store.FIELDS}, card=read.card)
    equal(read, data)
    export_data(data, "folder", str(tmp_path / "plain"))
    equal(import_data("folder", str(tmp_path / "plain"), f"own/plain-{agents}"), data)
    shutil.rmtree(store.home() / f"own/vault-{agents}")
    shutil.rmtree(store.home() / f"own/plain-{agents}")


def test_our_vaults_are_what_og_marls_systems_expect(tmp_path):
    """As many rows as steps; the flag on the last; the leading axis of one; choices and legal ones."""
    data = fighters()
    export_data(data, "vault", str(tmp_path / "ours.vlt/Step"))
    held = Vault(rel_dir=str(tmp_path), vault_name="ours.vlt", vault_uid="Step").read().experience
    assert held["observations"].shape == (1, 9, 2, 3)
    np.testing.assert_array_equal(held["actions"][0], data.action)
    np.testing.assert_array_equal(held["terminals"][0, :, 0].nonzero()[0], [2, 8])
    np.testing.assert_array_equal(held["truncations"][0, :, 0].nonzero()[0], [4])
    assert held["infos"]["legals"].dtype == bool
    with pytest.raises(InputError, match="exists: choose another name"):
        export_data(data, "vault", str(tmp_path / "ours.vlt/Step"))


def test_parquet_folders(data_home, tmp_path):
    data = fighters()
    kept = {name: x for name, x in rows_of(data, "row")._asdict().items() if x is not None}
    columns = {name: x.reshape(len(x), -1) if x.ndim > 1 else x for name, x in kept.items()}
    table = pyarrow.table({name: list(x) if x.ndim > 1 else x for name, x in columns.items()})
    for i in range(len(table)):  # episodes cross files, and part-2 comes before part-10
        pyarrow.parquet.write_table(table[i : i + 1], tmp_path / f"part-{i}.parquet")
    equal(import_data("folder", str(tmp_path), "own/parquet", agents=2, ends="row"), data)
    ragged = table.set_column(
        0, "state", [[[1.0, 1.0], [2.0], [3.0, 3.0, 3.0], *[[4.0, 4.0]] * (len(table) - 3)]]
    )
    (tmp_path / "ragged").mkdir()
    pyarrow.parquet.write_table(ragged, tmp_path / "ragged/x.parquet")
    with pytest.raises(InputError, match="'state' differ in length: row 1 has 1 entries"):
        import_data("folder", str(tmp_path / "ragged"), "own/ragged", agents=2)


def test_actions_in_another_range_are_mapped_and_the_way_back_is_told(data_home, tmp_path):
    data = robots((4, 3))
    export_data(replace(data, action=10 + 5 * data.action), "folder", str(tmp_path / "plain"))
    found = import_data("folder", str(tmp_path / "plain"), "own/ranged", action_range=(5, 15))
    np.testing.assert_allclose(found.action, data.action, atol=1e-5)
    assert found.card["low"] == [[5]] * 3
    assert found.card["high"] == [[15]] * 3
    with pytest.raises(InputError, match="15 to 5 is empty"):
        import_data("folder", str(tmp_path / "plain"), "own/empty", action_range=(15, 5))


def test_an_environment_that_is_named_must_fit_the_data(data_home, tmp_path):
    export_data(robots((4, 3)), "folder", str(tmp_path / "robots"))
    export_data(fighters(), "folder", str(tmp_path / "fighters"))
    spread = {"module": "mpe2.simple_spread_v3"}
    for source, env, told in (
        ("robots", {"team": "3hoper"}, "unknown team '3hoper': did you mean 3hopper"),
        ("robots", {"module": "mpe2.nowhere"}, "install its package, or mend the name"),
        ("robots", spread, r"'action' has shape \(3, 1\) in the data and \(3,\) in the environment"),
        ("fighters", spread, r"'action' has shape \(2,\) in the data and \(3,\) in the environment"),
    ):
        with pytest.raises(InputError, match=told):
            import_data("folder", str(tmp_path / source), "own/unfit", env=env)
    assert not (store.home() / "own/unfit").exists()
    for source, env, told in (
        ("robots", {"team": "2ant"}, r"'action' has shape \(3, 1\) in the data and \(2, 4\)"),
        ("fighters", {"team": "matching"}, r"'legal' has shape \(2, 5\) in the data and \(2, 3\)"),
        ("robots", {"team": "6halfcheetah"}, r"'action' has shape \(3, 1\) in the data and \(6, 1\)"),
    ):
        with pytest.raises(InputError, match=told):
            import_data("folder", str(tmp_path / source), "own/unfit", env=env)
    export_data(robots((4, 3), state=12), "folder", str(tmp_path / "wide"))
    with pytest.raises(InputError, match=r"'state' has shape \(12,\) in the data and \(11,\)"):
        import_data("folder", str(tmp_path / "wide"), "own/unfit", env={"team": "3hopper"})
    two = spread | {"options": {"N": 2}}
    with pytest.raises(InputError, match=r"'obs' has shape \(2, 3\) in the data and \(2, 12\)"):
        import_data("folder", str(tmp_path / "fighters"), "own/unfit", env=two)


def test_controllers_of_imported_data_act_in_their_environments_units(data_home, tmp_path):
    """What training scored through the environment's layout is what the card tells an exporter."""
    name = "mpe2.simple_speaker_listener_v4"
    env = {"module": name, "options": {"continuous_actions": True}}
    recorded = vgm2p.record(
        pettingzoo.make(name, env["options"]), "own/speakers", module=name, options=env["options"]
    )
    recorded.reset(seed=0)
    while recorded.agents:
        recorded.step({agent: recorded.action_space(agent).sample() for agent in recorded.agents})
    data = recorded.close()
    export_data(data, "folder", str(tmp_path / "plain"))
    found = import_data("folder", str(tmp_path / "plain"), "own/speakers-again", env=env)
    for known in ("names", "low", "high", "obs_widths", "env"):
        assert found.card[known] == data.card[known]


def test_omigas_format_takes_no_end_that_reading_would_take_for_another(tmp_path):
    """There an episode of 1000 steps was cut, and every other one ended."""
    for lengths, episode, told in (((4, 1000), 0, "was cut short"), ((4, 1000), 1, "ended truly")):
        data = robots(lengths)
        data.terminated[episode] ^= True
        with pytest.raises(InputError, match=f"can't say that episode {episode}, of .* steps, {told}"):
            export_data(data, "omiga", str(tmp_path / "file.hdf5"))
    assert not (tmp_path / "file.hdf5").exists()


def test_what_is_exported_overwrites_nothing_and_is_whole_or_not_there(data_home, tmp_path, monkeypatch):
    data = robots((4, 3))
    for kind in ("omiga", "vault", "folder"):
        (tmp_path / kind).mkdir()
        with pytest.raises(InputError, match="exists: choose another name"):
            export_data(data, kind, str(tmp_path / kind))
    monkeypatch.setattr(np, "save", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left on device"):
        export_data(data, "folder", str(tmp_path / "full"))
    assert not [path for path in tmp_path.iterdir() if "full" in path.name]


def test_minari_holds_robots_and_says_what_it_cannot(data_home, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = robots((4, 3))
    export_data(data, "minari", "team/robots-v0")
    equal(import_data("minari", "team/robots-v0", "own/minari", agents=3), data)
    with pytest.raises(InputError, match="already: choose another name"):
        export_data(data, "minari", "team/robots-v0")
    with pytest.raises(InputError, match="'robots' is no name of Minari's"):
        export_data(data, "minari", "robots")
    with pytest.raises(InputError, match="leave out --ends and --time-limit"):
        import_data("minari", "team/robots-v0", "own/none", agents=3, time_limit=4)
    with pytest.raises(InputError, match="Minari can't hold what each agent sees"):
        export_data(fighters(), "minari", "team/fighters-v0")
    with pytest.raises(InputError, match="Minari has no dataset 'team/none-v0'"):
        import_data("minari", "team/none-v0", "own/none", agents=3)
    with pytest.raises(InputError, match="3 actions can't be shared by 2 agents"):
        import_data("minari", "team/robots-v0", "own/none", agents=2)


def test_real_battles_train_from_a_vault(data_home, tmp_path):
    vault(tmp_path / "3m.vlt/Poor")
    import_data("vault", str(tmp_path / "3m.vlt/Poor"), "og/3m-poor")
    algorithm = VGM2P(fit=Fit(hidden=(8,)))
    result = run(Experiment("og/3m-poor", algorithm, updates=3, batch=8, seeds=(0,)), tmp_path / "run")
    assert result["mean"] is None


@pytest.mark.parametrize("ends", ["step", "row"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_episodes_do_not_depend_on_blocks(ends, size):
    kept = rows_of(fighters(), ends)
    blocks = [rows._part(kept, slice(i, i + size)) for i in range(0, len(kept.reward), size)]
    whole = next(iter(episodes([kept], ends, None, "test")))
    parts = list(episodes(blocks, ends, None, "test"))
    for name in ("action", "reward", "lengths", "terminated"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


def test_an_episode_left_open_was_cut():
    kept = rows_of(fighters((3,), (False,)), "step")
    open_ended = kept._replace(truncated=np.zeros(3, bool))
    (data,) = episodes([open_ended], "step", None, "test")
    assert data.lengths.tolist() == [2]
    assert not data.terminated[0]


def test_a_team_ends_with_its_last_agent_and_was_cut_if_any_was():
    kept = rows_of(fighters((4, 3), (True, True)), "step")
    first = np.array([0, 1, 1, 1, 0, 0, 1], bool)  # the first agent ends before the second
    second = np.array([0, 0, 0, 1, 0, 0, 1], bool)
    each = np.stack([first, second], 1)
    ended = kept._replace(terminated=each, truncated=np.zeros((7, 2), bool))
    (data,) = episodes([ended], "step", None, "test")
    assert data.lengths.tolist() == [4, 3]
    assert data.terminated.all()
    cut = each & (np.arange(7) > 3)[:, None] & [False, True]
    (data,) = episodes([ended._replace(terminated=each & ~cut, truncated=cut)], "row", None, "test")
    assert data.terminated.tolist() == [True, False]


def change(**fields):
    kept = rows_of(fighters(), "step")
    return kept._replace(**{name: make(getattr(kept, name)) for name, make in fields.items()})


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (change(reward=lambda x: x[:-1]), "'reward' has 8 rows and 'action' 9"),
        (change(reward=lambda x: x.astype(object)), "'reward' is of type object"),
        (change(state=lambda x: x[:, 0]), r"'state' has shape \(9,\); it needs \(rows, entries\)"),
        (change(state=lambda x: np.where(x == x[2, 0], np.nan, x)), r"'state' holds nan in row 2 at \(0,\)"),
        (change(reward=lambda x: np.where(x == x[2], -np.inf, x)), r"'reward' holds -inf in row 2"),
        (change(action=lambda x: x - 9), "'action' holds the choice -9"),
        (change(action=lambda x: x + 9), r"'legal' has shape \(9, 2, 5\), which does not fit choices up to"),
        (change(legal=lambda x: None), "no 'legal' tells how many"),
        (
            change(terminated=lambda x: np.eye(9, 2, dtype=bool)),
            "end flag is up in row 0 and down in the next",
        ),
        (
            change(terminated=lambda x: np.ones((9, 2), bool), truncated=lambda x: np.ones((9, 3), bool)),
            "'terminated' has 2 flags in a row, 'truncated' 3",
        ),
        (change(obs=lambda x: x[:, :1]), "'obs' is of 1 agents, 'action' of 2"),
        (change(action=lambda x: x.astype(np.int64) + 2**32), "'action' holds the choice 429496"),
        (change(action=lambda x: x[:, 0]), r"'action' has shape \(9,\)"),
    ],
)
def test_rows_that_do_not_fit_are_told(broken: Rows, told):
    with pytest.raises(InputError, match=told):
        list(episodes([broken], "step", None, "test"))


def test_broken_omiga_files_are_told(data_home, tmp_path):
    path = tmp_path / "Hopper-v2-3x1-medium.hdf5"

    def refuses(told, **fields):
        theirs(path, (3, 2))
        with h5py.File(path, "a") as file:
            for name, make in fields.items():
                content = make(file[name][:])
                del file[name]
                if content is not None:
                    file[name] = content
        with pytest.raises(InputError, match=told):
            import_data("omiga", str(path), "own/broken")
        assert not (store.home() / "own/broken").exists()

    refuses("lacks the fields r; it has", r=lambda x: None)
    refuses("field 'r' has 6 rows and 'd' 7", r=lambda x: x[:-1])
    refuses(r"'s' has vectors of 13 entries; 3hopper has 14", s=lambda x: x[..., 1:])
    refuses("the last row has d = 0", d=lambda x: 0 * x)
    refuses("don't end with the agents' standardised one-hot ids", s=lambda x: x[..., ::-1])
    refuses("field 'a' holds object|holds .*, no numbers", a=lambda x: np.full(len(x), b"pickle"))
    refuses("'action' holds", a=lambda x: np.where(x == x[1], np.nan, x))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="truncated or no HDF5 file"):
        import_data("omiga", str(path), "own/broken")
    with pytest.raises(InputError, match="not named as OMIGA's files are"):
        omiga.name_of(tmp_path / "hopper.hdf5")


def test_broken_vaults_are_told(data_home, tmp_path):
    path = tmp_path / "3m.vlt/Good"
    with pytest.raises(InputError, match="is no vault: name the folder"):
        import_data("vault", str(path), "own/broken")
    vault(path)
    metadata = json.loads((path / "metadata.json").read_text())
    shapes, dtypes = metadata["structure_shape"], metadata["structure_dtype"]
    without = lambda tree: {name: x for name, x in tree.items() if name != "rewards"}  # noqa: E731
    for changed, told in (
        (
            {"structure_shape": without(shapes), "structure_dtype": without(dtypes)},
            "lacks the columns rewards",
        ),
        ({"structure_shape": without(shapes)}, "damaged or no Flashbax vault"),
        ({"structure_shape": shapes | {"rewards": "(1, 7, 9)"}}, r"'rewards' has shape \(1, 7, 9\)"),
        ({"structure_shape": shapes | {"rewards": "(1, 7, x)"}}, "damaged or no Flashbax vault"),
    ):
        (path / "metadata.json").write_text(json.dumps(metadata | changed))
        with pytest.raises(InputError, match=told):
            import_data("vault", str(path), "own/broken")
    (path / "metadata.json").write_text("{")
    with pytest.raises(InputError, match="damaged or no Flashbax vault"):
        import_data("vault", str(path), "own/broken")


def test_broken_folders_are_told(data_home, tmp_path):
    def refuses(told, **files):
        shutil.rmtree(tmp_path / "plain", ignore_errors=True)
        export_data(fighters(), "folder", str(tmp_path / "plain"))
        for name, content in files.items():
            (tmp_path / "plain" / f"{name}.npy").unlink(missing_ok=True)
            if content is not None:
                (tmp_path / "plain" / f"{name}.npy").write_bytes(content)
        with pytest.raises(InputError, match=told):
            import_data("folder", str(tmp_path / "plain"), "own/broken", agents=2)

    def saved(array, **more):
        file = io.BytesIO()
        np.save(file, array, **more)
        return file.getvalue()

    refuses("lacks the columns reward", reward=None)
    refuses("columns differ in length", reward=saved(np.zeros(3)))
    refuses("reward.npy is truncated, or no array of numbers", reward=saved(np.zeros(12))[:-8])
    refuses(
        "reward.npy is truncated, or no array of numbers",
        reward=saved(np.array([{}] * 12), allow_pickle=True),
    )
    refuses("unknown column 'rewards': did you mean reward", rewards=saved(np.zeros(12)))
    refuses("'action' has shape .* and there are 2 agents", action=saved(np.zeros((12, 3))))
    (tmp_path / "plain/layout.json").write_text('{"agents": 2, "ends": "rows"}')
    with pytest.raises(InputError, match="'ends' is 'rows'; end flags are on the step or"):
        import_data("folder", str(tmp_path / "plain"), "own/broken")
    (tmp_path / "plain/layout.json").unlink()
    with pytest.raises(InputError, match="does not tell how many agents"):
        import_data("folder", str(tmp_path / "plain"), "own/broken")


def test_the_command_says_what_is_missing(data_home, tmp_path, capsys):
    for words, told in (
        (["vault", "x"], "a name is missing: vgm2p data import vault x NAME"),
        (["folder", "x", "y", "--env", "json", "--env-options", "{"], "is no JSON"),
        (["folder", "x", "y", "--agents", "2"], "x is no folder"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["data", "import", *words])
        assert told in capsys.readouterr().err
    export_data(fighters(), "folder", str(tmp_path / "plain"))
    main(["data", "import", "folder", str(tmp_path / "plain"), "own/told", "--agents", "2", "--ends", "row"])
    assert "3 episodes, 9 transitions of 2 agents" in " ".join(capsys.readouterr().out.split())
    main(["data", "show", "own/told"])
    result = run(
        Experiment("own/told", BC(fit=Fit(hidden=(8,))), updates=2, batch=4, seeds=(0,)), tmp_path / "run"
    )
    assert result["mean"] is None
