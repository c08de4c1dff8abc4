"""What a report can find: records of claims in a results folder, and run folders wherever they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vgm2p.claims.grid import read_record
from vgm2p.command import command
from vgm2p.data.store import read_json, read_lines
from vgm2p.errors import InputError
from vgm2p.runs import algorithm_name, read_experiment
from vgm2p.stats import decimals, mean_and_interval, number

Curve = tuple[Float[ndarray, " k"], Float[ndarray, "seeds k"]]  # updates, every seed's mean return at them


@dataclass(frozen=True)
class Records:
    """The committed records of the claims; empty where a claim has not run.

    clips: the set's name and the film of a team on it, as bytes of an .mp4 file.
    """

    table: list[dict]
    sensitivity: list[dict]
    ablations: list[dict]
    tactics: list[dict]
    smax: list[dict]
    efficiency: dict[str, Any]
    devices: dict[str, Any]
    wide: list[dict]
    clips: dict[str, bytes]


@dataclass(frozen=True)
class Run:
    """A run folder: what was asked for, how far it came, and its score if it ended."""

    folder: str
    task: str
    algorithm: str
    command: str
    status: str
    finished: bool
    score: str
    mean: float
    data: str
    data_mean: float | None
    curve: Curve | None
    versions: dict[str, str]
    device: str


def records(results: Path) -> Records:
    """What the folder of results holds."""
    efficiency, devices = results / "efficiency.json", results / "devices.json"
    return Records(
        table=read_record(results / "table.jsonl"),
        sensitivity=read_record(results / "sensitivity.jsonl"),
        ablations=read_record(results / "ablations.jsonl"),
        tactics=read_record(results / "tactics.jsonl"),
        smax=read_record(results / "smax.jsonl"),
        efficiency=read_json(efficiency) if efficiency.exists() else {},
        devices=read_json(devices) if devices.exists() else {},
        wide=read_record(results / "table-wide.jsonl"),
        clips={path.stem: path.read_bytes() for path in sorted((results / "clips").glob("*.mp4"))},
    )


def runs(folders: list[Path]) -> list[Run]:
    """Every run at or below the folders, in the order of their names.

    One that can't be read is among them, and says so. Raises InputError for a folder without any.
    """
    paths: list[Path] = []
    for folder in folders:
        found = sorted(path.parent for path in folder.rglob("experiment.json"))
        if not found:
            raise InputError(f"there is no run at or below {folder}: no experiment.json")
        paths += found
    return [_run(path) for path in dict.fromkeys(paths)]


def curve_of(lines: list[dict]) -> Curve:
    """The learning curve of a cell from its lines of a record, one per seed."""
    curves = [line["curve"] for line in lines]
    steps = np.array([step for step, _ in curves[0]], float)
    return steps, np.array([[value for _, value in curve] for curve in curves])


def _run(folder: Path) -> Run:
    try:
        return _read(folder)
    except InputError as error:
        return _unreadable(folder, str(error))
    except (KeyError, TypeError, ValueError) as error:
        return _unreadable(folder, f"its files are damaged, or of another version ({error!r})")


def _read(folder: Path) -> Run:
    experiment, record = read_experiment(folder)
    evaluations = read_lines(folder / "evaluations.jsonl")
    result = read_json(folder / "result.json") if (folder / "result.json").exists() else None
    means = np.array([np.mean(line["returns"], axis=1) for line in evaluations]).T  # [seeds, k]
    steps = np.array([line["step"] for line in evaluations], float)
    scores = np.mean(result["returns"], axis=1) if evaluations and result else np.zeros(0)
    return Run(
        folder=str(folder),
        task=experiment.task,
        algorithm=algorithm_name(experiment.algorithm),
        command=command(experiment),
        status="finished" if result else _status(folder, experiment.updates),
        finished=result is not None,
        score=mean_and_interval(scores, decimals(scores.mean())) if len(scores) else "",
        mean=float(scores.mean()) if len(scores) else float("nan"),
        data=number(result["data_mean"]) if result else "",
        data_mean=result["data_mean"] if result else None,
        curve=(steps, means) if len(steps) else None,
        versions=record["versions"],
        device=record["device"],
    )


def _unreadable(folder, told) -> Run:
    """A run whose files are broken or from another version."""
    return Run(
        folder=str(folder),
        task="",
        algorithm="",
        command="",
        status=f"can't be read: {told}",
        finished=False,
        score="",
        mean=float("nan"),
        data="",
        data_mean=None,
        curve=None,
        versions={},
        device="",
    )


def _status(folder, updates) -> str:
    """Of a run without a result: why it stopped, or how far it came."""
    failure = folder / "failure.json"
    if failure.exists():
        return f"failed: {read_json(failure)['error']}"
    lines = read_lines(folder / "metrics.jsonl")
    return f"unfinished: {lines[-1]['step'] if lines else 0:,} of {updates:,} updates"
