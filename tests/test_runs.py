"""Runs: the same bits whatever interrupts them, plain files, clear errors."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vgm2p.algorithms import (
    AWR,
    BC,
    CQL,
    OM2P,
    TD3BC,
    VGM2P,
    CategoricalCFG,
    CFGRLFlow,
    DiffusionBC,
    FilteredBC,
    Fit,
    MacFlow,
    MeanFlowBC,
)
from vgm2p.data.store import locked, read_json, read_lines, write_json
from vgm2p.errors import InputError
from vgm2p.evaluate import evaluate
from vgm2p.flows import MeanFlow
from vgm2p.runs import KEPT, Experiment, decode, encode, load_policy, prepare, run
from vgm2p.tasks import task
from vgm2p.train import NonFiniteError, advance, init, seed_keys
from vgm2p.types import Sight
from vgm2p.values import OMIGA, EpisodeReturn, LinearAdvantage, MixedIQL, ReturnToGo

TINY = {"fit": Fit(hidden=(16,))}


@pytest.fixture
def experiment(hopper):
    return Experiment(
        hopper, BC(**TINY), updates=60, batch=16, seeds=(0, 1), eval_every=30, eval_episodes=2, log_every=10
    )


def leaves(states):
    return [np.asarray(x) for x in jax.tree.leaves(states)]


@pytest.fixture(scope="module")
def setup(hopper):
    algorithm = VGM2P(values=ReturnToGo(hidden=(16,)), **TINY)
    return algorithm, prepare(Experiment(hopper, algorithm))


def train(setup, seeds, chunks, together=False):
    algorithm, (_, spec, _, replay) = setup
    keys = seed_keys(seeds)
    states = init(algorithm, spec, keys)
    for chunk in chunks:
        states, _ = advance(
            algorithm, spec, states, replay(0), keys, jnp.int32(chunk), batch=16, together=together
        )
    return states


def test_a_selection_learns_from_the_best_episodes_and_standardises_with_them(hopper):
    setup = prepare(Experiment(hopper, VGM2P(values=LinearAdvantage(selection=0.8), **TINY)))
    best = setup.dataset.take(setup.dataset.best(0.8))
    assert 0 < len(best.lengths) < len(setup.dataset.lengths)
    np.testing.assert_array_equal(setup.replay(0).sight.state, best.state)
    np.testing.assert_allclose(setup.view.mean, best.state.mean(0), atol=1e-4)


def test_chunk_size_changes_no_bit(setup):
    for one, other in zip(
        leaves(train(setup, (3,), [12])), leaves(train(setup, (3,), [5, 1, 6])), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_seed_does_not_depend_on_the_seeds_beside_it(hopper, tmp_path, monkeypatch):
    """As a user's compiler has it: the quick one of these tests makes another program for a seed alone."""
    monkeypatch.delenv("XLA_FLAGS")
    for name, seeds in (("alone", "3"), ("beside", "7 3")):
        words = f"-m vgm2p train {hopper} --out {tmp_path / name} --seeds {seeds} --updates 8 --batch 16"
        words += " --eval-episodes 1 vgm2p --fit.hidden 16 values:linear-advantage --values.hidden 16"
        subprocess.run([sys.executable, *words.split()], check=True, capture_output=True)
    alone, beside = (load_file(tmp_path / name / "state.safetensors") for name in ("alone", "beside"))
    weight = beside["state.params.policy.net.layers[0].weight"]
    assert (weight[0] != weight[1]).any()
    for name in alone.keys() - {"seconds"}:
        np.testing.assert_array_equal(alone[name][0], beside[name][1], err_msg=name)


def test_seeds_train_alike_as_one_batch(setup):
    apart, together = train(setup, (7, 3), [8]), train(setup, (7, 3), [8], together=True)
    for one, other in zip(leaves(apart.params), leaves(together.params), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_run_leaves_plain_files_and_scores_the_last_checkpoint(experiment, tmp_path):
    result = run(experiment, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "experiment.json",
        "data.json",
        "metrics.jsonl",
        "evaluations.jsonl",
        "state.safetensors",
        "policy.safetensors",
        "result.json",
        ".lock",
    }
    last = read_lines(tmp_path / "evaluations.jsonl")[-1]
    assert result["updates"] == last["step"] == 60
    assert result["returns"] == last["returns"]
    assert np.shape(result["returns"]) == (2, 2)
    assert result["versions"]["mujoco"]
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [10, 20, 30, 40, 50, 60]


def test_a_run_that_diverges_stops_and_its_folder_says_why(experiment, tmp_path):
    wild = replace(experiment, algorithm=BC(fit=Fit(hidden=(16,), learning_rate=1e30)))
    with pytest.raises(NonFiniteError, match="loss/policy is"):
        run(wild, tmp_path)
    assert "loss/policy is" in read_json(tmp_path / "failure.json")["error"]
    assert not (tmp_path / "result.json").exists()


def test_a_finished_run_is_not_run_again(experiment, tmp_path):
    first = run(experiment, tmp_path)
    before = (tmp_path / "state.safetensors").stat().st_mtime_ns
    assert run(experiment, tmp_path) == first
    assert (tmp_path / "state.safetensors").stat().st_mtime_ns == before


def test_a_folder_of_another_experiment_is_refused(experiment, tmp_path):
    run(experiment, tmp_path)
    with pytest.raises(InputError, match=r"holds another experiment: its 'batch' is 16, not 8.*--out"):
        run(replace(experiment, batch=8), tmp_path)


def test_a_run_that_never_reached_a_checkpoint_does_not_hold_its_folder(experiment, tmp_path):
    run(experiment, tmp_path)
    for name in KEPT:
        (tmp_path / name).unlink()
    assert run(replace(experiment, updates=20), str(tmp_path))["updates"] == 20


def test_a_finished_run_whose_checkpoint_was_deleted_stays_what_it_is(experiment, tmp_path):
    first = run(experiment, tmp_path)
    (tmp_path / "state.safetensors").unlink()
    assert run(experiment, tmp_path) == first
    with pytest.raises(InputError, match="holds another experiment"):
        run(replace(experiment, updates=20), tmp_path)


def test_two_processes_do_not_train_in_one_folder(experiment, tmp_path):
    other = locked(tmp_path / ".lock", "held")
    with pytest.raises(InputError, match=r"is being trained by another process: choose another with --out"):
        run(experiment, tmp_path)
    other.release()
    assert run(experiment, tmp_path)["updates"] == 60


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"updates": 0}, "updates 0 must be at least 1"),
        ({"batch": 0}, "batch 0 must be at least 1"),
        ({"eval_every": -1}, "eval_every -1 must be at least 1"),
        ({"window": 0}, "window 0 must be at least 1"),
        ({"seeds": ()}, "name at least one, and none twice"),
        ({"seeds": (0, 0)}, "name at least one, and none twice"),
        ({"seeds": (0, 2**32)}, "seed 4294967296 must be 0 to 4,294,967,295"),
        ({"eval_episodes": 5001, "seeds": (0, 1)}, "eval_episodes 5001, of 2 training seeds: at most 10,000"),
        ({"algorithm": "vgm2p"}, r"algorithm is 'vgm2p': give an object, such as vgm2p.VGM2P\(\)"),
        ({"algorithm": BC(noise=2.0)}, "noise 2.0 must be at least 0"),
        ({"algorithm": MeanFlowBC(steps=0)}, "steps 0 must be at least 1"),
        ({"algorithm": CFGRLFlow(guidance=-1.0)}, r"guidance -1.0 must be at least 0"),
        ({"algorithm": VGM2P(pool=0)}, "pool 0 must be at least 1"),
        ({"algorithm": VGM2P(values=LinearAdvantage(discount=1.0))}, "discount 1.0 must be .* below 1"),
        ({"algorithm": VGM2P(values=LinearAdvantage(lookahead=0))}, "lookahead 0 must be at least 1"),
        ({"algorithm": VGM2P(values=LinearAdvantage(habit=-5))}, "habit -5 must be at least 0"),
        ({"algorithm": VGM2P(values=LinearAdvantage(selection=1.2))}, "selection 1.2 must be an expectile"),
        ({"algorithm": FilteredBC(value_rate=0.0)}, "value_rate 0.0 must be above 0"),
        ({"algorithm": FilteredBC(value_rate=5.0)}, "value_rate 5.0 must be .* at most 1"),
        ({"algorithm": BC(fit=Fit(hidden=[16]))}, r"holds a list: write a tuple, as in hidden=\(256, 256\)"),
        ({"regress": "clip"}, "unknown regress 'clip': did you mean clipped"),
        ({"standardise": "vectors"}, "unknown standardise 'vectors': did you mean vector"),
    ],
)
def test_settings_that_can_train_nothing_are_refused_at_once(changes, told, experiment):
    with pytest.raises(InputError, match=told):
        replace(experiment, **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"codes": 0.3}, "codes 0.3: these agents' actions are numbers"),
        ({"history": 2}, "history 2: these agents see the whole state"),
        ({"history": 2, "window": 2000}, "history 2: these agents see the whole state"),
        ({"algorithm": VGM2P(**TINY), "batch": 2}, "batch 2 leaves no row to one of the two flows"),
        ({"algorithm": BC(fit=Fit(hidden=(16, 0)))}, r"hidden \(16, 0\) must be a tuple of widths"),
        ({"algorithm": DiffusionBC(fresh=9.0)}, r"fresh 9\.0 must be .* at most 1 \(DDPM\)"),
    ],
)
def test_settings_that_mean_nothing_to_the_data_are_refused(changes, told, experiment, tmp_path):
    with pytest.raises(InputError, match=told):
        run(replace(experiment, **changes), tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (VGM2P, "quantile", (0.0, 2.0)),
        (MeanFlow, "anchors", (-0.5, 1.5)),
        (Fit, "slow_rate", (0.0, 1.5)),
        (Fit, "learning_rate", (0.0, -1.0)),
        (Fit, "max_grad_norm", (0.0,)),
        (MacFlow, "flow_steps", (0,)),
        (CategoricalCFG, "null_share", (0.0, 1.5)),
        (LinearAdvantage, "slopes", (0,)),
        (MixedIQL, "expectile", (0.0, 90)),
        (ReturnToGo, "expectile", (1.0,)),
        (EpisodeReturn, "expectile", (80,)),
        (OMIGA, "alpha", (0.0,)),
        (AWR, "temperature", (0.0, -0.3)),
        (CQL, "temperature", (0.0,)),
        (CQL, "samples", (0,)),
        (CQL, "weight", (-1.0,)),
        (TD3BC, "weight", (-1.0,)),
        (TD3BC, "smoothing", (-0.2,)),
        (OM2P, "weight", (-1.0,)),
        (MacFlow, "alpha", (-3.0,)),
        (MeanFlow, "power", (-1.0,)),
        (CQL, "smoothing", (-0.2,)),
        (CategoricalCFG, "warmup", (-5,)),
        (VGM2P, "warmup", (-5,)),
        (FilteredBC, "warmup", (-5,)),
    ],
)
def test_settings_that_leave_a_part_untrained_are_refused_at_once(kind, name, values):
    for value in values:
        with pytest.raises(InputError, match=f"{name} {value} must be"):
            kind(**{name: value})


def test_what_is_no_number_is_null_in_a_file(tmp_path):
    write_json(tmp_path / "x.json", {"interval": (float("nan"), 1.0), "deep": [{"inf": float("inf")}]})
    assert read_json(tmp_path / "x.json") == {"interval": [None, 1.0], "deep": [{"inf": None}]}


def test_a_team_is_not_scored_where_others_play(experiment, tmp_path):
    run(experiment, tmp_path)
    with pytest.raises(InputError, match="has 2 agents, but the team was trained as 3"):
        evaluate(load_policy(tmp_path), task("twin/2ant-medium"), 1)
    with pytest.raises(InputError, match="episodes 0 must be at least 1"):
        evaluate(load_policy(tmp_path), task(experiment.task), 0)
    for seed in (-1, 900):
        with pytest.raises(InputError, match=f"seed {seed} must be 0 to 899"):
            evaluate(load_policy(tmp_path), task(experiment.task), 1, seed)
    with pytest.raises(InputError, match=r"episodes 9000, of \d training seeds: at most 10,000 in all"):
        evaluate(load_policy(tmp_path), task(experiment.task), 9000)


CHILD = """
import sys
from pathlib import Path
from vgm2p.algorithms import Fit, MeanFlowBC
from vgm2p import runs
runs.CHECKPOINT_SECONDS = 0
e = runs.Experiment(sys.argv[1], MeanFlowBC(fit=Fit(hidden=(16,))), updates=2000, batch=16, seeds=(0, 1),
                    eval_every=1000, eval_episodes=2, log_every=5)
runs.run(e, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_in_the_same_bits(hopper, tmp_path):
    """Two kills, wherever they fall, against a run that nothing disturbed."""
    command = lambda name: [sys.executable, "-c", CHILD, hopper, str(tmp_path / name)]  # noqa: E731
    subprocess.run(command("whole"), check=True, capture_output=True)
    seed = time.time_ns()
    print(f"kills by seed {seed}")  # shown where the test fails
    rng = np.random.default_rng(seed)
    for _ in range(2):
        child = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(tmp_path / "killed" / "metrics.jsonl", child)
        time.sleep(rng.uniform(0, 0.5))
        child.kill()
        assert child.wait() == -signal.SIGKILL  # it was still at work
    subprocess.run(command("killed"), check=True, capture_output=True)
    whole, killed = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "killed"))
    for name in whole:
        if name != "seconds":
            np.testing.assert_array_equal(whole[name], killed[name], err_msg=name)
    for log in ("metrics.jsonl", "evaluations.jsonl"):
        steps = [[line["step"] for line in read_lines(tmp_path / n / log)] for n in ("whole", "killed")]
        assert steps[0] == steps[1]


def wait_for(path, child, seconds=120):
    """Until the run has logged something new since it was started, or is over."""
    size = path.stat().st_size if path.exists() else 0
    until = time.monotonic() + seconds
    while time.monotonic() < until and child.poll() is None:
        if path.exists() and path.stat().st_size > size:
            return
        time.sleep(0.01)


def test_a_loss_that_is_not_a_number_stops_the_run_and_is_named(experiment, tmp_path):
    broken = replace(experiment, algorithm=BC(fit=Fit(hidden=(16,), learning_rate=1e38, max_grad_norm=1e38)))
    with pytest.raises(NonFiniteError, match=r"loss/policy is (nan|inf|-inf) for seed 0 by update"):
        run(broken, tmp_path)


def test_parameters_that_the_last_update_broke_are_neither_kept_nor_scored(experiment, tmp_path, monkeypatch):
    """No metric sees them: each is taken before its update's step."""

    def breaking(*state, **how):
        states, metrics = advance(*state, **how)
        return states._replace(target=jax.tree.map(lambda x: x * jnp.nan, states.target)), metrics

    monkeypatch.setattr("vgm2p.runs.advance", breaking)
    with pytest.raises(NonFiniteError, match=r"the largest parameter is nan for seed 0 by update 30"):
        run(experiment, tmp_path)
    assert not (tmp_path / "policy.safetensors").exists()
    assert not (tmp_path / "result.json").exists()


def test_a_loaded_policy_acts_as_the_trained_one(experiment, tmp_path):
    run(experiment, tmp_path)
    policy = load_policy(tmp_path)
    sight, keys = Sight(np.random.default_rng(0).normal(size=(2, 5, 11))), seed_keys((0, 1))
    action = policy.act(sight, keys)
    assert action.shape == (2, 5, 3, 1)
    np.testing.assert_array_equal(action, load_policy(tmp_path).act(sight, keys))
    scores = [evaluate(p, task(experiment.task), 2) for p in (policy, load_policy(tmp_path))]
    np.testing.assert_array_equal(scores[0][1].returns, scores[1][1].returns)
    np.testing.assert_allclose(
        scores[0][1].returns, read_lines(tmp_path / "evaluations.jsonl")[-1]["returns"][1], atol=0.01
    )


def test_noise_is_fresh_at_every_step(experiment, tmp_path):
    run(experiment, tmp_path)
    policy, sight = load_policy(tmp_path).with_options(noise=1.0), Sight(np.zeros((2, 1, 11)))
    actions = [
        policy.act(sight, jax.vmap(jax.random.fold_in, (0, None))(seed_keys((0, 1)), t)) for t in range(2)
    ]
    assert (actions[0] != actions[1]).mean() > 0.5  # clipped ones may agree


def test_an_option_that_the_algorithm_lacks_is_refused(experiment, tmp_path):
    run(experiment, tmp_path)
    with pytest.raises(InputError, match=r"guidence can't be set to 2\.0 after training.*options are noise"):
        load_policy(tmp_path).with_options(guidence=2.0)


def test_a_policy_of_another_shape_is_refused(experiment, tmp_path):
    run(experiment, tmp_path)
    path = tmp_path / "policy.safetensors"
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("weight"))
    save_file({**tensors, name: np.zeros((3, 3), np.float32)}, path)
    with pytest.raises(InputError, match=r"policy of another shape"):
        load_policy(tmp_path)


@pytest.mark.parametrize(("file", "name"), [("policy", "view.mean"), ("state", "seconds")])
def test_a_file_without_one_of_its_arrays_is_refused_by_name(file, name, experiment, tmp_path):
    run(experiment, tmp_path)
    path = tmp_path / f"{file}.safetensors"
    save_file({n: x for n, x in load_file(path).items() if n != name}, path)
    (tmp_path / "result.json").unlink()
    with pytest.raises(InputError, match=f"{file}.safetensors lacks {name}"):
        load_policy(tmp_path) if file == "policy" else run(experiment, tmp_path)


def test_a_log_line_cut_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert read_lines(tmp_path / "x.jsonl") == [{"step": 1}]


@pytest.mark.parametrize(
    "config", [VGM2P(), VGM2P(values=OMIGA(alpha=3.0), quantile=0.2), MeanFlowBC(), BC(), MixedIQL()]
)
def test_configurations_round_trip_through_json(config):
    assert decode(json.loads(json.dumps(encode(config)))) == config
    assert hash(decode(encode(config))) == hash(config)


def test_unknown_fields_of_another_version_are_an_input_error():
    with pytest.raises(InputError, match="another version of vgm2p"):
        decode({"class": "BC", "flavour": 1})


def test_a_team_is_scored_only_where_it_can_act(experiment, tmp_path):
    """As many agents do not make another task its own."""
    run(experiment, tmp_path)
    with pytest.raises(InputError, match=r"smax/3m-medium: the state has \d+ entries there, and 11 where"):
        evaluate(load_policy(tmp_path), task("smax/3m-medium"), 1)
