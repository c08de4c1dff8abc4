"""The documents tell the truth: commands parse, the first experiment runs, tables come from the records."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from vgm2p.actions import Continuous
from vgm2p.algorithms import VGM2P, Fit
from vgm2p.claims import ablations, sensitivity, smax, table, tactics
from vgm2p.claims.grid import read_record
from vgm2p.cli import main, parse
from vgm2p.runs import experiment_fields
from vgm2p.types import Spec

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
CLAIMS = (table, sensitivity, ablations, smax, tactics)
SMALLER = {
    "100000": "3000",
    "20000": "4000",
    "--updates 5000": "--updates 20 --eval-episodes 1",
    "--updates 2000": "--updates 20 --eval-episodes 1",
    "--updates 1000": "--updates 20",
    "--window 10000": "--window 2000",
    "5000": "20",
    "5_000": "20, eval_episodes=1",
    "episodes=32": "episodes=1",
    "--out runs/spread": "--out runs/spread --updates 20 --episodes 60",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.S)


def commands(page: Path) -> list[list[str]]:
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def smaller(text: str) -> str:
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_in_the_docs_parses(page):
    for command in commands(page):
        if command[0] == "vgm2p":
            parse(command[1:])
        elif command[0] == "python":
            assert (ROOT / command[1]).exists()
        else:
            assert command[0] == "make"
            assert f"\n{command[1]}:" in (ROOT / "Makefile").read_text()


@pytest.mark.slow
def test_the_first_experiment_of_the_readme_runs(tmp_path, monkeypatch, data_home):
    """As printed, at smaller sizes; the shell blocks first, then the Python one."""
    monkeypatch.chdir(tmp_path)
    first = [c for c in commands(ROOT / "README.md") if c[0] == "vgm2p"]
    assert [c[1] for c in first] == ["data", "train", "evaluate", "play", "data", "data", "train", "export"]
    for command in first:
        extra = ["--seconds", "0.2"] if command[1] == "play" else []
        main([smaller(word) for word in command[1:]] + extra)
    assert (tmp_path / "cheetah.gif").stat().st_size > 1000
    assert (tmp_path / "team/agent_5.onnx").exists()
    (code,) = blocks(ROOT / "README.md", "python")
    exec(smaller(code).replace("runs/cheetah", "runs/python"), {})
    assert (tmp_path / "runs/python/result.json").exists()


NOT_HERE = {
    ("behaviour", "train"),
    ("data", "fetch"),
    ("push",),
    ("pull",),
}  # minutes, or a network (3m-good)


def run_page(page: Path) -> None:
    """Every block of a page in order, at smaller sizes, but for what is `NOT_HERE`."""
    text = page.read_text()
    for language, code in re.findall(r"```(sh|python)\n(.*?)```", text, flags=re.S):
        if language == "python":
            exec(smaller(code), {})
            continue
        for command in [shlex.split(line, comments=True) for line in smaller(code).splitlines()]:
            if command[0] == "python":
                subprocess.run([sys.executable, ROOT / command[1], *command[2:]], check=True, timeout=600)
            elif not {tuple(command[1:2]), tuple(command[1:3])} & NOT_HERE and "og/3m-good" not in command:
                main(command[1:])


@pytest.mark.slow
def test_the_guide_to_data_runs(tmp_path, monkeypatch, data_home):
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "docs/data.md")
    assert (tmp_path / "check.html").exists()


@pytest.mark.slow
def test_the_guide_runs(tmp_path, monkeypatch, data_home):
    """Its blocks are one program, on data that the README's first command makes."""
    monkeypatch.chdir(tmp_path)
    main(["data", "make", "twin/6halfcheetah-medium", "--transitions", "3000"])
    names: dict = {}
    for code in blocks(ROOT / "docs/guide.md", "python"):
        exec(smaller(code), names)
    assert [step for step, _ in names["curve"]] == [20]
    assert np.isfinite(names["earned"])


def test_the_guide_names_coefficients_as_they_are():
    """Every option with a default is VGM²P's, and has that default."""
    table = (ROOT / "docs/guide.md").read_text().split("## The coefficients")[1]
    rows = [[cell.strip() for cell in row.split("|")] for row in table.splitlines() if "| `--" in row]
    assert len(rows) == 15
    for _, _, _, option, default, *_ in rows:
        value = VGM2P()
        for name in option.strip("`-").replace("-", "_").split("."):
            value = getattr(value, name)
        assert default == ("none" if value is None else f"{value:g}")


@pytest.mark.slow
def test_the_guide_to_controllers_runs(tmp_path, monkeypatch, data_home, capfd):
    """From a recording to a team of ONNX processes scored in its environment, and the rest of the page."""
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "docs/deploy.md")
    told = capfd.readouterr().out
    assert "as 3 ONNX processes" in told
    assert "a decision of 3 processes" in told


def test_tables_of_results_come_from_the_records():
    tables = runpy.run_path(str(ROOT / "docs/tables.py"))
    for path in tables["PAGES"]:
        assert path.read_text() == tables["filled"](path), "run: make tables"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__.split(".")[-1])
def test_records_were_made_with_the_settings_in_the_code(claim):
    """Every line's full settings are those of its cell today; a changed default calls for a new record.

    A grid that has not begun has no record.
    """
    lines = read_record(ROOT / f"results/{claim.__name__.split('.')[-1]}.jsonl")
    cells = {(cell.experiment.task, cell.name): cell.experiment for cell in claim.cells()}
    assert {(line["task"], line["name"]) for line in lines} <= set(cells)
    for line in lines:
        experiment = cells[line["task"], line["name"]]
        assert line["experiment"] == experiment_fields(experiment)


@pytest.mark.parametrize(
    ("claim", "compared"),
    [("sensitivity", ("task", "algorithm")), ("ablations", ("task",)), ("tactics", ("task",))],
)
def test_what_a_record_compares_was_learned_from_one_dataset(claim, compared):
    """Another processor rolls out other bytes: a method's sweep on a set, and all choices, have the same.

    The tables of methods mark what has not.
    """
    of: dict[tuple, set] = {}
    for line in read_record(ROOT / f"results/{claim}.jsonl"):
        of.setdefault(tuple(line[field] for field in compared), set()).add(line["data_sha256"])
    assert {key: data for key, data in of.items() if len(data) > 1} == {}


def test_links_between_documents_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("steps", [1, 10])
def test_the_numpy_decision_of_the_benchmark_is_the_policys(steps):
    act = runpy.run_path(str(ROOT / "benchmarks/act.py"))["numpy_act"]
    algorithm = VGM2P(fit=Fit(hidden=(16,)), steps=steps)
    spec = Spec(2, 5, 3, Continuous(2))
    params = algorithm.init(spec, jax.random.key(0)).params
    obs, key = jax.random.normal(jax.random.key(1), (2, 5)), jax.random.key(2)
    noise = algorithm.noise * jax.random.normal(key, (2, 2))
    found = act(params, np.asarray(obs), np.asarray(noise), algorithm.guidance, steps)
    np.testing.assert_allclose(found, algorithm.act(spec, params, obs, key), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("update.py --task twin/3hopper-medium --batch 16 --updates 2", "x meanflow_bc"),
        ("act.py --task twin/3hopper-medium --hidden 8 --repeats 2", "x one jump"),
        ("coordination.py --updates 2 --games xor", "xor"),
        ("smax.py --scenarios 3m --copies 2 --steps 3", "3m"),
    ],
)
def test_benchmarks_run(script, told, hopper):
    command = [sys.executable, *shlex.split(f"{ROOT}/benchmarks/{script}")]
    assert told in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_benchmarks_have_help():
    for script in sorted((ROOT / "benchmarks").glob("*.py")):
        out = subprocess.run([sys.executable, script, "--help"], capture_output=True, env=os.environ)
        assert out.returncode == 0, script
