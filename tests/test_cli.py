"""The command line as people type it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vgm2p.algorithms import CONTINUOUS
from vgm2p.claims.presets import CPU
from vgm2p.cli import main, parse
from vgm2p.runs import experiment_from
from vgm2p.tasks import GAMES

ROOT = Path(__file__).parent.parent
TINY = ["--updates", "20", "--batch", "16", "--seeds", "0", "--eval-every", "20", "--eval-episodes", "1"]


def fails(args, capsys) -> str:
    """The message on standard error of a command that must fail."""
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def trained(hopper, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    main(["train", hopper, "--out", str(folder), *TINY, "bc", "--fit.hidden", "16"])
    return folder


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["demo"],
        ["train"],
        ["evaluate"],
        ["play"],
        *(["data", x] for x in ("list", "make", "show")),
        *(["behaviour", x] for x in ("list", "train")),
        ["claims"],
        ["report"],
    ],
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_train_names_the_settings_of_the_results_where_they_are_others(hopper, tmp_path, capsys):
    main(
        [
            "train",
            hopper,
            "--updates",
            "20",
            "--eval-episodes",
            "1",
            "--seeds",
            "0",
            "--out",
            str(tmp_path),
            "vgm2p",
        ]
    )
    told = " ".join(capsys.readouterr().out.split())
    assert "recorded results (--as-recorded) this is: vgm2p train twin/3hopper-medium --updates 20" in told
    assert "--values.habit 100" in told
    assert "there is a part only; the recorded results are of the whole" in told
    assert "normalised: " in told


def test_train_as_recorded_takes_the_settings_of_the_results_and_ones_own_changes(hopper, tmp_path, capsys):
    short = ["--updates", "2", "--eval-episodes", "1", "--seeds", "0", "--out", str(tmp_path)]
    asked = ["train", hopper, "--as-recorded", *short, "vgm2p", "--guidance", "1.5"]
    main(asked)
    assert "with the recorded settings: vgm2p train twin/3hopper-medium" in capsys.readouterr().out
    made = experiment_from(json.loads((tmp_path / "experiment.json").read_text()))
    assert made.algorithm == CPU.algorithm("vgm2p", "3hopper", guidance=1.5)
    both = fails([*asked, "values:linear-advantage", "--values.habit", "10"], capsys)
    assert "--as-recorded sets values of vgm2p on twin/3hopper-medium: leave it, or yours, out" in both
    assert "--values.habit 100" in both  # the command to start from
    game = fails(["train", "toy/xor-mixed", "--as-recorded", "bc"], capsys)
    assert "no results are recorded on toy/xor-mixed" in game
    assert "twin/3hopper-medium" in fails(["train", "twin/3hoper-medium", "--as-recorded", "bc"], capsys)


def test_an_evaluation_can_be_kept_with_every_episode(trained, tmp_path):
    main(["evaluate", str(trained), "--episodes", "2", "--noise", "0", "--json", str(tmp_path / "kept.json")])
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert np.shape(kept["returns"]) == np.shape(kept["lengths"]) == (len(kept["seeds"]), 2)
    assert (kept["options"], kept["evaluation_seed"], kept["won"]) == ({"noise": 0.0}, 1, None)


def test_train_says_the_score_beside_the_data_and_draws_it(trained, capsys):
    assert json.loads((trained / "result.json").read_text())["updates"] == 20
    assert (trained / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_prints_a_score(trained, capsys):
    main(["evaluate", str(trained), "--episodes", "1", "--noise", "0"])
    assert "twin/3hopper-medium: return" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_play_writes_a_film(trained, tmp_path, ending):
    film = tmp_path / f"team.{ending}"
    main(["play", str(trained), "--video", str(film), "--seconds", "0.2"])
    assert film.stat().st_size > 1000


def test_play_refuses_other_endings(trained, capsys):
    assert "end the name in .mp4 or .gif" in fails(["play", str(trained), "--video", "x.avi"], capsys)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--seconds", "nan"), "seconds nan must be above 0 and finite"),
        (("--seconds", "-3"), "seconds -3.0 must be above 0"),
        (("--seed", "-1"), "seed -1 must be 0 to"),
    ],
)
def test_play_refuses_a_length_and_a_seed_that_are_none(option, told, trained, tmp_path, capsys):
    assert told in fails(["play", str(trained), "--video", str(tmp_path / "x.gif"), *option], capsys)


def test_seeds_too_large_for_the_datas_own_are_refused(capsys):
    assert "seed 2400000000 must be 0 to 2,147,483,647" in fails(
        ["data", "make", "twin/2ant-expert", "--seed", "2400000000"], capsys
    )


def test_data_list_and_show(hopper, tmp_path, capsys):
    main(["data", "list"])
    assert "twin/2ant-expert" in capsys.readouterr().out
    main(["data", "show", hopper, "--picture", str(tmp_path / "returns.png")])
    assert "nearest published set: OMIGA 3hopper-medium," in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "returns.png").exists()


def test_behaviour_list_shows_the_ladders(capsys):
    main(["behaviour", "list"])
    out = capsys.readouterr().out
    assert all(robot in out for robot in ("halfcheetah", "hopper", "ant"))


def test_unknown_task_names_the_nearest(capsys):
    message = fails(["train", "twin/3hoper-medium", "bc"], capsys)
    assert "did you mean twin/3hopper-medium" in message


def test_missing_data_names_the_command(capsys):
    assert "vgm2p data make twin/2ant-expert" in fails(["train", "twin/2ant-expert", "bc"], capsys)


def test_a_folder_that_is_no_run_is_an_error(tmp_path, capsys):
    for command in ("evaluate", "play"):
        assert "holds no experiment.json: name the folder" in fails([command, str(tmp_path)], capsys)


def test_a_file_where_a_folder_belongs_is_an_error(trained, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert f"{file} is a file" in fails(["evaluate", str(file)], capsys)
    assert f"{file} is a file" in fails(["export", str(trained), "--out", str(file)], capsys)
    assert f"{tmp_path}: Is a directory" in fails(
        ["claims", "table", "--table-only", "--record", str(tmp_path)], capsys
    )


@pytest.mark.parametrize("told", [[], ["vgmp"]], ids=["none", "mistyped"])
def test_training_without_an_algorithm_names_them(told, capsys):
    error = fails(["train", "twin/3hopper-medium", *told], capsys)
    assert "followed by one of the algorithms: vgm2p, bc, " in error


def test_an_option_the_algorithm_lacks_is_an_error(trained, capsys):
    assert "guidance can't be set to 2.0 after training; this policy's options are noise" in fails(
        ["evaluate", str(trained), "--guidance", "2"], capsys
    )


def test_options_of_a_run_may_follow_the_algorithms_name():
    asked = parse(["train", "twin/3hopper-medium", "vgm2p", "--updates", "100", "--guidance", "2"]).experiment
    assert (asked.updates, asked.algorithm.guidance) == (100, 2.0)


@pytest.mark.parametrize("noise", ["-1", "3"])
def test_noise_that_was_not_trained_with_is_refused(trained, noise, capsys):
    assert "must be at least 0 (none) and at most 1" in fails(
        ["evaluate", str(trained), "--noise", noise], capsys
    )


def test_a_run_that_has_not_ended_is_scored_and_said_to_be(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/result.json").unlink()
    main(["evaluate", str(tmp_path / "run"), "--episodes", "1"])
    assert "this run has not ended" in capsys.readouterr().out


def test_a_run_shorter_than_the_warm_up_is_told_to_clone(hopper, tmp_path, capsys):
    main(["train", hopper, "--out", str(tmp_path), *TINY, "vgm2p", "--fit.hidden", "16"])
    assert "in the first 500 updates every action counts as good" in " ".join(capsys.readouterr().out.split())


def test_data_that_are_there_are_not_made_again(hopper, capsys):
    main(["data", "make", hopper, "--transitions", "1000"])
    assert "made already" in capsys.readouterr().out
    assert "to make it anew" in fails(["data", "make", hopper, "--transitions", "900000"], capsys)
    assert "asked for are 915,391 and" in fails(["data", "make", hopper], capsys)  # as many as usual
    assert "to make it anew" in fails(["data", "make", hopper, "--seed", "5"], capsys)
    assert "name the datasets to make" in fails(["data", "make"], capsys)


def test_data_that_are_there_otherwise_keep_no_others_from_being_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VGM2P_DATA", str(tmp_path))
    main(["data", "make", "toy/xor-mixed", "--transitions", "10"])
    assert "to make it anew" in fails(["data", "make", "toy", "--transitions", "200"], capsys)
    made = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("card.json")}
    assert {f"toy/{name}" for name in made} == set(GAMES)
    assert made["xor-mixed"]["transitions"] < 200 <= made["matching-mixed"]["transitions"]


def test_claims_are_not_run_on_a_part_of_the_data(hopper, tmp_path, capsys):
    told = fails(["claims", "table", "--record", str(tmp_path / "table.jsonl")], capsys)
    assert hopper in told
    assert "there is a part only, such as a first experiment makes: delete it" in told
    assert not (tmp_path / "table.jsonl").exists()


def test_a_score_is_said_where_no_picture_can_be_drawn(hopper, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    main(["train", hopper, "--out", str(tmp_path), *TINY, "bc", "--fit.hidden", "16"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"bc on {hopper}: return" in told
    assert "no picture: a picture needs" in told


def test_the_package_runs_as_a_module_and_tells_its_version():
    told = subprocess.run(
        [sys.executable, "-m", "vgm2p", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith("vgm2p 0.")


def test_a_reader_that_has_seen_enough_hears_no_complaint():
    code = f"{sys.executable} -m vgm2p train twin/3hopper-medium vgm2p --help | head -1"
    told = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("usage")
    assert not told.stderr


def test_importing_the_package_loads_no_simulator_or_plotting():
    heavy = ["mujoco", "gymnasium", "matplotlib", "imageio"]
    code = f"import vgm2p, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_missing_extra_is_named(trained):
    """A child process that can't import MuJoCo."""
    code = (
        "import sys; sys.modules['mujoco'] = None\n"
        "from vgm2p.cli import main\n"
        f"main(['play', {str(trained)!r}])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 2
    assert 'pip install ".[mujoco]"' in out.stderr.replace("\n", " ")
    assert "Traceback" not in out.stderr


def test_tables_without_a_record_say_how_to_make_it(tmp_path, capsys):
    message = fails(["claims", "table", "--table-only", "--record", str(tmp_path / "no.jsonl")], capsys)
    assert "run the claim without --table-only" in message


@pytest.mark.parametrize("option", [["--preset", "paper"], ["--marl-eval", "scores.json"]])
def test_what_is_for_the_table_alone_is_refused_elsewhere(option, capsys):
    assert "are for the table" in fails(["claims", "sensitivity", "--table-only", *option], capsys)


def test_tasks_are_not_asked_of_a_claim_that_runs_nothing(capsys):
    asked = ["claims", "table", "--table-only", "--tasks", "twin/2ant-exprt"]
    assert "--table-only runs nothing: leave one out" in fails(asked, capsys)


def test_marl_evals_form_says_what_it_holds(tmp_path, capsys):
    record, path = str(ROOT / "results/table.jsonl"), tmp_path / "scores.json"
    main(["claims", "table", "--table-only", "--record", record, "--marl-eval", str(path)])
    sets = json.loads(path.read_text())["twin"]
    told = " ".join(capsys.readouterr().out.split())
    assert f"the {len(sets)} sets on which every method of" in told
    assert sorted(sets["3hopper-medium"]) == sorted(CONTINUOUS)


def test_tables_of_a_record_are_printed(capsys):
    main(["claims", "table", "--table-only", "--record", str(ROOT / "results/table.jsonl")])
    assert "| 3hopper-medium | 703 ± 76 |" in capsys.readouterr().out


def test_a_mistyped_robot_or_scenario_names_the_nearest(capsys, tmp_path):
    error = fails(["behaviour", "train", "2s3y", "--out", str(tmp_path)], capsys)
    assert "unknown robot or scenario '2s3y'" in error
    assert "2s3z" in error


def test_a_mistyped_team_of_imported_data_names_the_nearest(capsys):
    error = fails(["data", "import", "folder", "logs", "own/x", "--env", "7hopper"], capsys)
    assert "unknown team or module '7hopper': did you mean 3hopper" in error
