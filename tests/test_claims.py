"""Claims: a grid runs what its record lacks and nothing else; tables add up what the record holds."""

import json
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import small

from vgm2p.algorithms import BC, CONTINUOUS, Fit
from vgm2p.claims import ablations, devices, efficiency, sensitivity, smax, table, tactics, wide
from vgm2p.claims.grid import Cell, of_other_data, on_record, read_record, run_grid
from vgm2p.claims.marl_eval import marl_eval
from vgm2p.claims.presets import BATTLE_FLOW, BATTLE_VALUES, CPU, PAPER
from vgm2p.data.store import write_lines
from vgm2p.envs.env import play
from vgm2p.errors import InputError
from vgm2p.flows import MeanFlow
from vgm2p.nets import MLP
from vgm2p.runs import Experiment
from vgm2p.tasks import BATTLES, TEAMS, TWINS, task
from vgm2p.values import LinearAdvantage

NOISES = ((("noise", 0.0),), (("noise", 1.0),))
SWEEPS = [sweep for sweeps in sensitivity.SWEEPS.values() for sweep in sweeps]


@pytest.fixture(scope="module")
def grid(hopper, tmp_path_factory):
    """Two tiny cells that have run, the folder of the runs and the record."""
    experiment = Experiment(
        hopper, BC(fit=Fit(hidden=(16,))), updates=10, batch=8, seeds=(0, 1), eval_every=10, eval_episodes=2
    )
    wider = replace(experiment, algorithm=BC(fit=Fit(hidden=(24,))))
    cells, root = [Cell("narrow", experiment, NOISES), Cell("wide", wider, ())], tmp_path_factory.mktemp("g")
    assert run_grid(cells, root / "runs", root / "record.jsonl", 1, lambda line: None) == []
    return cells, root / "runs", root / "record.jsonl"


def test_a_record_has_one_line_per_cell_and_seed_with_every_return(grid):
    cells, _, record = grid
    lines = read_record(record)
    assert [(line["name"], line["seed"]) for line in lines] == [(c.name, s) for c in cells for s in (0, 1)]
    assert all(len(line["returns"]) == 2 for line in lines)
    assert all(line["curve"] == [[10, pytest.approx(np.mean(line["returns"]), abs=0.1)]] for line in lines)
    assert set(lines[0]["returns_with"]) == {"noise=0.0", "noise=1.0"}
    assert "16" in json.dumps(lines[0]["fields"])


def test_what_is_on_record_is_not_run_again_even_without_its_folder(grid, tmp_path):
    cells, _, record = grid
    heard = []
    run_grid(cells, tmp_path / "runs", shutil.copy(record, tmp_path / "record.jsonl"), 1, heard.append)
    assert heard == [f"{cell.experiment.task} {cell.name}: on record" for cell in cells]
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "record.jsonl").read_text() == record.read_text()


def test_what_stands_in_a_record_beside_it_is_copied_and_not_run_again(grid, tmp_path):
    cells, _, record = grid
    beside, heard = shutil.copy(record, tmp_path / "beside.jsonl"), []
    for name, text in {"metrics": '{"step": 10}\n', "notes": "none of ours\n\n"}.items():
        (tmp_path / f"{name}.jsonl").write_text(text)  # not every such file is a record
    fewer = replace(cells[0], options=())
    run_grid([cells[1], fewer], tmp_path / "runs", tmp_path / "record.jsonl", 1, heard.append)
    assert heard == [f"{cell.experiment.task} {cell.name}: on record" for cell in (cells[1], fewer)]
    narrow, wide = read_record(beside)[:2], read_record(beside)[2:]
    assert read_record(tmp_path / "record.jsonl") == wide + narrow


def test_a_damaged_record_is_told_by_its_line(grid, tmp_path):
    damaged = shutil.copy(grid[2], tmp_path / "record.jsonl")
    damaged.write_text(damaged.read_text() + '{"task": "twin/')
    with pytest.raises(InputError, match=r"record.jsonl, line 5, is no line of a claim's record"):
        read_record(damaged)


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": BC(fit=Fit(hidden=(17,)))},
        {"updates": 11},
        {"batch": 9},
        {"seeds": (0, 1, 2)},
        {"eval_episodes": 3},
        {"regress": "clipped"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_cell_whose_settings_changed_is_no_longer_on_record(grid, change):
    cells, _, record = grid
    changed = replace(cells[0], experiment=replace(cells[0].experiment, **change))
    assert on_record([changed, cells[1]], record) == [cells[1]]


def test_a_cell_asked_for_more_options_is_no_longer_on_record(grid):
    cells, _, record = grid
    asked = replace(cells[0], options=(*NOISES, (("noise", 0.5),)))
    assert on_record([asked], record) == []


def test_scores_on_other_data_are_no_longer_on_record(grid, monkeypatch):
    cells, _, record = grid
    changed = replace(cells[0], experiment=replace(cells[0].experiment, updates=11))
    assert of_other_data(cells, record) == []
    monkeypatch.setattr("vgm2p.tasks.Task.data_sha256", lambda task: "other")
    assert on_record(cells, record) == []
    assert of_other_data([changed, cells[1]], record) == [cells[1]]


def test_a_record_without_data_at_hand_stands(grid, monkeypatch):
    cells, _, record = grid
    monkeypatch.setattr("vgm2p.tasks.Task.data_sha256", lambda task: None)
    assert on_record(cells, record) == cells


def killed_if_narrow(root, cell):
    if cell.name == "narrow":
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_cell_that_is_killed_stops_no_other(grid, tmp_path, monkeypatch):
    """As the kernel does where memory runs out."""
    cells, runs, _ = grid
    monkeypatch.setattr("vgm2p.claims.grid._run_cell", killed_if_narrow)
    failures = run_grid(cells, runs, tmp_path / "record.jsonl", 1, lambda line: None)
    assert ["narrow" in failure for failure in failures] == [True]
    assert {line["name"] for line in read_record(tmp_path / "record.jsonl")} == {"wide"}


def test_a_record_that_can_not_be_written_stops_the_grid(grid, tmp_path, monkeypatch):
    """What has not begun then trains for nothing."""
    cells, begun, stopped = grid[0], [], threading.Event()

    def full(*_):
        raise OSError("no space left on device")

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args, **how):
            super().shutdown(*args, **how)
            stopped.set()

    def train(root, cell):
        begun.append(cell.name)
        if len(begun) > 1:  # the first one's lines can't be written while this one trains
            stopped.wait(60)

    monkeypatch.setattr("vgm2p.claims.grid._put", full)
    monkeypatch.setattr("vgm2p.claims.grid.ThreadPoolExecutor", Pool)
    monkeypatch.setattr("vgm2p.claims.grid._in_a_process", train)
    monkeypatch.setattr("vgm2p.claims.grid._lines", lambda cell, root: [])
    with pytest.raises(OSError, match="no space left"):
        run_grid(cells * 5, tmp_path, tmp_path / "record.jsonl", 1, lambda line: None)
    assert len(begun) <= 2


def test_a_cell_that_fails_is_named_stops_no_other_and_loses_no_line(grid, tmp_path):
    cells, runs, record = grid
    changed = replace(cells[0], experiment=replace(cells[0].experiment, task="twin/2ant-expert"))
    path, heard = tmp_path / "record.jsonl", []
    old = [line | {"task": "twin/2ant-expert"} for line in read_record(record) if line["name"] == "narrow"]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    failures = run_grid([changed, cells[1]], runs, path, 1, heard.append)
    assert len(failures) == 1
    assert "twin/2ant-expert narrow: no data for twin/2ant-expert" in failures[0]
    assert read_record(path) == old + [line for line in read_record(record) if line["name"] == "wide"]


def test_only_the_tasks_asked_for_run_and_the_record_keeps_the_grids_order(grid, tmp_path):
    cells, _, record = grid
    other = replace(cells[0], experiment=replace(cells[0].experiment, task="twin/2ant-expert"))
    shutil.copy(record, tmp_path / "beside.jsonl")  # what is asked for is taken from there
    path, heard, asked = tmp_path / "record.jsonl", [], cells[0].experiment.task
    narrow, wide = read_record(record)[:2], read_record(record)[2:]
    old = [line | {"task": "twin/2ant-expert"} for line in narrow]
    write_lines(path, old)
    assert run_grid([cells[1], other, cells[0]], tmp_path / "runs", path, 1, heard.append, (asked,)) == []
    assert heard == [f"{asked} wide: on record", f"{asked} narrow: on record"]
    assert read_record(path) == wide + old + narrow
    with pytest.raises(InputError, match="unknown task of this claim 'twin/2ant-expret': did you mean"):
        run_grid([other, *cells], tmp_path / "runs", path, 1, heard.append, ("twin/2ant-expret",))


def line(name, method, seed, score, good=900.0, data="a"):
    return {
        "task": name,
        "algorithm": method,
        "seed": seed,
        "returns": [score - 1, score + 1],
        "returns_with": {},
        "data_mean": 500.0,
        "data_std": 10.0,
        "data_good": good,
        "data_sha256": data,
    }


def test_a_score_of_another_processors_data_is_marked_and_the_caption_says_so():
    ours, other = (line("twin/3hopper-medium", m, 0, 700, data=d) for m, d in (("bc", "a"), ("cql", "b")))
    found = table.Results([ours, other])
    assert found.text("twin/3hopper-medium", "bc") == "700"
    assert found.text("twin/3hopper-medium", "cql") == "700†"
    assert found.text("twin/3hopper-medium", "awr") == "not run"
    assert "another kind of processor" in table.explained("Returns", [("700", "700†")])
    assert table.explained("Returns", [("700", "not run")]) == "Returns"


def test_published_returns_stand_with_their_source_and_spread():
    shown = table.published_returns()
    row = next(row for row in shown.rows if row[0] == "6halfcheetah-medium-expert")
    told = dict(zip(shown.heads, row, strict=True))
    assert (told["VGM2P"], told["OMIGA"]) == ("not found", "2948 ± 519")
    assert "on OMIGA's data" in shown.caption
    assert "arXiv 2604.08174" in shown.caption


def test_the_table_shows_means_and_what_has_not_run(tmp_path):
    record = tmp_path / "table.jsonl"
    lines = [line("twin/3hopper-medium", "bc", seed, score) for seed, score in enumerate((600, 700, 800))]
    record.write_text("".join(json.dumps(x) + "\n" for x in lines))
    text = table.tables(record)
    assert "| 3hopper-medium | 500 ± 10 | not run | 700 [" in text
    ran = "1 of 12 sets run"
    assert f"| bc | {ran} | {ran} | {ran} | not run | not run |" in text


def test_interquartile_means_are_of_normalised_scores(tmp_path):
    """One seed each, on a scale from random to good data: 0, 1, ... 11; the middle half is 3 to 8."""
    record = tmp_path / "table.jsonl"
    zero = [task(name).random_return for name in TWINS]
    lines = [
        line(name, "td3_bc", 0, start + k * 100, good=start + 100)
        for k, (name, start) in enumerate(zip(TWINS, zero, strict=True))
    ]
    record.write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert "| td3_bc | 5.50 | 5.50 | 5.50 |" in table.tables(record)


def test_other_noise_is_scored_where_a_method_has_noise_and_changes_nothing_where_not():
    seeds = [line("twin/3hopper-medium", "bc", seed, 600.0) for seed in (0, 1)]
    seeds = [x | {"returns_with": {"noise=0.0": [700.0, 720.0]}} for x in seeds]
    found = table.Results([*seeds, line("twin/3hopper-medium", "cql", 0, 500.0)])
    assert found.seeds("twin/3hopper-medium", "bc", "noise=0.0").tolist() == [710.0, 710.0]
    assert found.seeds("twin/3hopper-medium", "bc", "noise=1.0").tolist() == []
    assert found.seeds("twin/3hopper-medium", "cql", "noise=0.0").tolist() == [500.0]


def test_methods_are_also_compared_at_the_noise_that_suits_each_best(tmp_path):
    def runs(method, none, some):
        both = {"returns_with": {"noise=0.0": [none], "noise=1.0": [0.0]}}
        return [line(name, method, seed, some) | both for name in TWINS for seed in (0, 1)]

    write_lines(tmp_path / "table.jsonl", runs("vgm2p", 500.0, 600.0) + runs("bc", 800.0, 500.0))
    found = table.Results(read_record(tmp_path / "table.jsonl"))
    assert table.best_noise(found, "vgm2p") == ""
    assert table.best_noise(found, "bc") == "noise=0.0"
    text = table.tables(tmp_path / "table.jsonl")
    (row,) = (row for row in text.splitlines() if row.startswith("| bc |"))
    assert row.endswith("| 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00] |")


def test_who_beats_whom_is_judged_on_the_sets_that_both_have_run():
    ours = [line(name, "vgm2p", seed, 600.0) for name in TWINS for seed in (0, 1)]
    theirs = [line("twin/3hopper-medium", "bc", seed, 500.0 + 200 * seed) for seed in (0, 1)]
    assert table.Results(ours + theirs).improvement("bc")[0] == 0.5
    assert np.isnan(table.Results(ours).improvement("bc")[0])


def test_the_table_covers_every_method_on_every_set():
    names = [(cell.experiment.task, cell.name) for cell in table.cells()]
    assert len(names) == 156
    assert set(names) == {(name, method) for name in TWINS for method in CONTINUOUS}


def test_marl_eval_gets_every_seed_of_the_sets_that_all_methods_have_run():
    curve = {"curve": [[10, 400.0], [20, 500.0]]}
    both = [line("twin/3hopper-medium", m, s, 500.0) | curve for m in ("bc", "awr") for s in (0, 1)]
    alone = [line("twin/2ant-expert", "bc", 0, 500.0) | curve]
    found = marl_eval(table.Results(both + alone))
    assert list(found["twin"]) == ["3hopper-medium"]
    assert found["twin"]["3hopper-medium"]["awr"]["seed_1"] == {
        "step_1": {"step_count": 10, "return": [400.0]},
        "step_2": {"step_count": 20, "return": [500.0]},
        "absolute_metrics": {"return": [500.0]},
    }


def test_every_method_fights_with_the_values_and_the_flow_of_battles():
    for cell in smax.cells():
        algorithm = cell.experiment.algorithm
        if hasattr(algorithm, "values") and isinstance(algorithm.values, LinearAdvantage):
            assert algorithm.values == BATTLE_VALUES
        assert algorithm.noise == 0.0
        assert not isinstance(getattr(algorithm, "flow", None), MeanFlow) or algorithm.flow == BATTLE_FLOW


def test_the_papers_networks_are_wide_in_policies_values_and_critics():
    for cell in table.cells(PAPER):
        algorithm = cell.experiment.algorithm
        assert algorithm.fit.hidden == (512,) * 4
        if hasattr(algorithm, "values"):
            assert algorithm.values.hidden == (512,) * 4
        if cell.name in ("mac_flow", "om2p", "td3_bc", "cql"):
            assert algorithm.hidden == (512,) * 4


@pytest.mark.parametrize("team", [name for name, team in TEAMS.items() if team.suite == "twin"])
def test_random_actions_return_what_the_scale_starts_from(team):
    where = task(f"twin/{team}-medium")
    copies = 64 if team == "6halfcheetah" else 256
    env, rng = where.make_env(copies), np.random.default_rng(1)
    returns = play(env, lambda sight, step: rng.uniform(-1, 1, (copies, env.action_dim)), seed=5000).returns
    env.close()
    assert returns.mean() == pytest.approx(where.random_return, abs=5 * returns.std() / copies**0.5)


COSTS = [(method, False) for method in efficiency.METHODS] + [(method, True) for method in smax.METHODS]


@pytest.fixture(scope="module")
def synthetic():
    """(sizes, data) of robots and of battles."""
    return {False: efficiency.synthetic(2), True: efficiency.synthetic_battles()}


@pytest.mark.parametrize(("method", "battles"), COSTS)
def test_network_passes_of_a_decision_are_what_the_table_says(method, battles, synthetic, monkeypatch):
    """Counted: rows that any network sees while one team decides, over the rows of one pass."""
    algorithm = small((efficiency.BATTLE_METHODS if battles else efficiency.METHODS)[method], 8)
    spec, _ = synthetic[battles]
    params, seen = algorithm.init(spec, jax.random.key(0)).target, []
    call = MLP.__call__
    monkeypatch.setattr(MLP, "__call__", lambda net, x: seen.append(x[..., 0].size) or call(net, x))
    with jax.disable_jit():
        algorithm.act(spec, params, jnp.zeros((1, spec.n, spec.obs_dim)), jax.random.key(1))
    assert sum(seen) / spec.n == efficiency.passes(algorithm)


@pytest.mark.parametrize("battles", [False, True], ids=["robots", "battles"])
def test_costs_of_robots_and_of_battles_are_measured(battles, synthetic):
    spec, data = synthetic[battles]
    algorithms = [BC(fit=Fit(hidden=(width,))) for width in (8, 16)]
    trainers = []
    for algorithm in algorithms:
        replay = data.replay(data.view(), algorithm.sampling, spec.actions)
        trainers.append(efficiency.trainer(algorithm, spec, replay, 64))
    policies = [efficiency.untrained(algorithm, spec, data) for algorithm in algorithms]
    for found in (
        efficiency.seconds_per_update(*trainers, updates=5),
        efficiency.seconds_per_decision(*policies, data=data, teams=4),
        efficiency.seconds_per_controller(*policies),
    ):
        assert len(found) == 2
        assert min(found) > 0


def test_what_is_timed_takes_turns():
    """One call to compile, then two rounds of three in a row."""
    called = []
    found = efficiency.seconds(*(partial(called.append, x) for x in "ab"), repeats=3, rounds=2)
    assert "".join(called) == "ab" + 2 * "aaabbb"
    assert len(found) == 2


def test_costs_are_compared_with_vgm2ps(tmp_path):
    cost = {"update": 0.002, "peak": 5e8, "graph": 3e-5, "one": 1e-4, "many": 0.01, "passes": 1}
    grown = {"agents": {"bc": [{"update": 0.001, "one": 0.001}] * 4}, "batches": {"bc": [0.001] * 3}}
    methods = {"vgm2p": cost, "bc": cost | {"update": 0.001}}
    (tmp_path / "record.json").write_text(json.dumps({"methods": methods, "battles": methods, **grown}))
    text = efficiency.tables(tmp_path / "record.json")
    assert "| bc | 1 (0.50 x) | 1 | 30 (1.00 x) | 100 (1.00 x) | 10 (1.00 x) | 500 |" in text
    assert "| bc | 1 | 1 | 1 | 1 |" in text


def test_every_device_that_has_measured_stands_in_the_table(tmp_path, monkeypatch):
    """Two methods of tiny networks here, beside an accelerator that was a thousand times as fast."""
    small = replace(PAPER, hidden=(8,), batch=8, seeds=(0, 1))
    for name, value in {"PAPER": small, "CONTINUOUS": ("vgm2p", "bc"), "ROUND": 0.01}.items():
        monkeypatch.setattr(devices, name, value)
    path, heard = tmp_path / "devices.json", []
    devices.measure(path, heard.append)
    (here,) = json.loads(path.read_text()).values()
    assert heard[0] == f"vgm2p: {1e3 * here['seconds']['vgm2p']:.3g} ms per update"
    assert set(here["seconds"]) == {"vgm2p", "bc", devices.ALONE}
    fast = here | {"seconds": {name: x / 1000 for name, x in here["seconds"].items()}}
    path.write_text(json.dumps({"a GPU": fast}))
    devices.measure(path, heard.append)
    rows = devices.tables(path).splitlines()
    assert rows[2].startswith("| method | a GPU | ")
    assert rows[4].startswith("| vgm2p | ")
    assert rows[4].endswith(" (1 x) |")


def test_wide_networks_stand_beside_the_tables_own():
    small = [line("twin/3hopper-medium", "vgm2p", 0, 1000.0) | {"returns_with": {"guidance=2.0": [900.0]}}]
    large = [x | {"returns": [1200.0], "returns_with": {"guidance=2.0": [1300.0]}} for x in small]
    large += [line("twin/3hopper-medium", "cql", 0, 5.0)]
    assert wide.shown(large, small).rows == [
        ("3hopper-medium", "vgm2p", "noise=0.5", "1000", "1200"),
        ("3hopper-medium", "vgm2p", "guidance=2.0", "900", "1300"),
        ("3hopper-medium", "cql", "no noise", "not run", "5"),
    ]


def test_time_to_a_score_is_updates_by_the_curve_times_the_cost_of_one():
    curve = [[2000, 300.0], [4000, 950.0], [6000, 1200.0]]
    slow = [line("twin/6halfcheetah-medium", "bc", s, 0.0) | {"curve": curve} for s in (0, 1)]
    never = [line("twin/6halfcheetah-medium", "awr", 0, 0.0) | {"curve": [[2000, 899.0]]}]
    other = [line("twin/3hopper-medium", "bc", 0, 0.0) | {"curve": curve}]
    costs = {"bc": {"update": 0.002}, "awr": {"update": 0.002}}
    found = efficiency.seconds_to_good(table.Results(slow + never + other), costs)
    assert found == [("6halfcheetah-medium", "bc", 8.0), ("6halfcheetah-medium", "awr", None)]


def test_every_coefficient_is_swept_over_at_least_thirtyfold_around_its_default():
    for sweep in SWEEPS:
        values = [1 - x if sweep.coefficient == "selection" else x for x in sweep.values if x > 0]
        assert max(values) / min(values) >= 29.99


def test_each_method_as_other_claims_have_it_is_among_the_swept():
    """VGM²P's strength and share of good actions aside: there they have 1 of 2, and a threshold of 0."""
    for sweep in SWEEPS:
        for team in {task(name).team for name in sweep.sets}:
            if sweep.coefficient not in ("guidance", "quantile"):
                swept = [sweep.algorithm(team, value) for value in sweep.values]
                assert CPU.algorithm(sweep.method, team) in swept


def test_sweeps_of_battles_share_the_runs_of_the_battles():
    ours = {(cell.name, cell.experiment) for cell in smax.cells()}
    swept = {(cell.name, cell.experiment) for cell in sensitivity.cells() if cell.experiment.task in BATTLES}
    assert {name for name, _ in ours & swept} == {"vgm2p", "mac_flow", "omiga"}
    assert len(swept) == len(smax.FEW) * (1 + 5 + 5 + 5 + 5)  # a strength's runs are one


def test_each_swept_value_reaches_the_algorithm():
    algorithms = {
        cell.experiment.algorithm for cell in sensitivity.cells() if "hopper" in cell.experiment.task
    }
    # One network serves every strength.
    swept = [s for s in sensitivity.SWEEPS["robots"] if s.coefficient != "guidance"]
    shared = 1  # the default has its episodes and its habit
    assert len(algorithms) == 1 + sum(len(s.values) for s in swept) - shared


def test_every_ablation_changes_one_thing_on_every_set():
    for name in (*sensitivity.ROBOTS, *smax.FEW):
        ours, *others = [c.experiment for c in ablations.cells() if c.experiment.task == name]
        assert len(set(others)) == len(others)
        for other in [replace(other, eval_every=ours.eval_every) for other in others]:
            inside = changed(ours.algorithm, other.algorithm)
            assert (changed(ours, other) == ["algorithm"] and len(inside) == 1) or len(
                changed(ours, other)
            ) == 1


def changed(one, other):
    return [f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)]


def test_ablations_show_ours_and_what_has_not_run(tmp_path):
    ours = [line(name, "vgm2p", s, 500.0) | {"name": "vgm2p"} for name in sensitivity.ROBOTS for s in (0, 1)]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(x) + "\n" for x in ours))
    text = ablations.tables(tmp_path / "record.jsonl")
    assert "|  | ours in all | 500 [500, 500] | 500 [500, 500] | 500 [500, 500] |" in text
    assert "| p = 1 | not run | not run | not run |" in text


def test_tactics_are_battles_won_with_each_noise_and_what_robots_return(tmp_path):
    won = {"noise=0.5": [1.9, 1.0], "noise=1.0": [0.9, 1.0]}
    battle = line("smax/3m-mixed", "vgm2p", 0, 2.0) | {"name": "vgm2p, shared noise", "returns_with": won}
    robot = line("twin/2ant-medium-replay", "bc", 0, 700.0) | {"name": "bc", "data_mean": 500.0}
    lines = [battle | {"returns": [2.0, 1.8], "data_win_rate": 0.5}, robot]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    text = tactics.tables(tmp_path / "record.jsonl")
    for noise, share in (("0", 100), ("0.5", 50), ("1.0", 0)):
        assert f"| 3m-mixed | {noise} | 50 | not run | not run | {share} | not run |" in text
    assert "| 2ant-medium-replay | 500 | not run | not run | not run | 700 |" in text


def test_worst_over_best_is_of_means_over_seeds_averaged_over_sets():
    sets = [np.array([[1.0, 3.0], [1.0, 1.0]]), np.array([[4.0, 4.0], [2.0, 4.0]])]
    assert sensitivity.worst_over_best(sets) == pytest.approx((0.5 + 0.75) / 2)
    assert sensitivity.worst_over_best([np.array([[-1.0], [1.0]])]) == 0.0


def test_equal_returns_at_every_value_leave_no_doubt_that_it_does_not_matter():
    """Seeds are drawn again together at all values: their spread alone makes none between the values."""
    assert sensitivity.ratio([np.array([[1.0, 2.0, 3.0]] * 4)]) == "1.00 [1.00, 1.00]"


def test_the_sensitivity_table_reads_strengths_from_one_run(tmp_path):
    lines = []
    for name in sensitivity.ROBOTS:
        zero = task(name).random_return
        returns = {f"guidance={w}": [zero + 100 / w] for w in (1.0, 2.0, 5.0, 12.0, 30.0)}
        lines += [line(name, "vgm2p", seed, 0.0, zero + 100) for seed in (0, 1)]
        lines = [
            x | {"name": "vgm2p-guidance"} | {"returns_with": x["returns_with"] or returns} for x in lines
        ]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    text = sensitivity.tables(tmp_path / "record.jsonl")
    each = "1: 1.00, 2: 0.50, 5: 0.20, 12: 0.08, 30: 0.03 (0.03 [0.03, 0.03])"
    assert f"| vgm2p | guidance | {each} | {each} | {each} | 0.03 [0.03, 0.03] |" in text
    assert "| mac_flow | alpha |  |  |  | not run |" in text


def test_the_sensitivity_table_shows_what_has_run_of_a_sweep(tmp_path):
    name, zero = "twin/3hopper-medium", TEAMS["3hopper"].random
    lines = [
        line(name, "vgm2p", seed, zero + 50, zero + 100) | {"name": f"vgm2p-quantile-{share}"}
        for share in (0.5, 0.1)
        for seed in (0, 1)
    ]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    text = sensitivity.tables(tmp_path / "record.jsonl")
    assert "| vgm2p | quantile |  | 0.5: 0.50, 0.1: 0.50 |  | not run |" in text
