"""Grids of runs: cells in parallel processes, finished ones skipped, one record line per seed."""

import json
import multiprocessing
import os
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from vgm2p.data.store import read_json, read_lines, write_json, write_lines
from vgm2p.errors import InputError, unknown
from vgm2p.evaluate import evaluate
from vgm2p.runs import Experiment, changed_fields, experiment_fields, load_policy, run
from vgm2p.stats import number
from vgm2p.tasks import task

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
Options = tuple[tuple[str, float], ...]  # of execution, such as (("noise", 0.0),)


@dataclass(frozen=True)
class Cell:
    """One run of a grid and the execution options that its last checkpoint is scored with.

    name: the run's folder below the grid's root, after the task's.
    options: what else it is scored with, besides the algorithm's own execution options.
    """

    name: str
    experiment: Experiment
    options: tuple[Options, ...]

    def folder(self, root: Path) -> Path:
        """Where the run lies."""
        return root / self.experiment.task / self.name


def run_grid(
    cells: list[Cell],
    root: Path,
    record: Path,
    jobs: int,
    tick: Callable[[str], Any],
    tasks: Collection[str] = (),
) -> list[str]:
    """Train and score every cell, `jobs` at a time; finished ones go on record at once.

    Each has a process of its own and trains on one core. A cell that stands on record, or in another record
    beside it, with the settings and data that it has now is not run again, whether or not its folder is
    there. `tick` hears of each cell. One that fails, or is killed, does not stop the others; returns the
    failures. `tasks`: of these alone, if any are named.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD}"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share a device
    asked = of_tasks(cells, tasks)
    _borrow(asked, cells, record)
    known = on_record(asked, record)
    for cell in known:
        tick(f"{cell.experiment.task} {cell.name}: on record")
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_in_a_process, root, cell): cell for cell in asked if cell not in known}
        try:
            ended = as_completed(waiting)
            return [x for future in ended for x in _ended(waiting[future], future, root, cells, record, tick)]
        except BaseException:  # stopped by a person, or the record can't be written
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _ended(cell, future, root, cells, record, tick) -> list[str]:
    """Put a cell that has ended on record; why it failed, if it did."""
    if error := future.exception():
        failed = f"{cell.experiment.task} {cell.name}: {error}"
        tick(failed)
        return [failed]
    _put(_lines(cell, root), cells, record)
    tick(future.result())
    return []


def of_tasks(cells: list[Cell], tasks: Collection[str]) -> list[Cell]:
    """The cells of these tasks; all, if none are named. InputError for a task that the grid has not."""
    there = {cell.experiment.task for cell in cells}
    for name in tasks:
        if name not in there:
            raise unknown("task of this claim", name, sorted(there))
    return [cell for cell in cells if not tasks or cell.experiment.task in tasks]


def on_record(cells: list[Cell], record: Path) -> list[Cell]:
    """The cells that stand in the record complete, with the settings and data that they have now."""
    return _agreeing(cells, by_cell(read_record(record)))


def of_other_data(cells: list[Cell], record: Path) -> list[Cell]:
    """The cells that stand in the record with today's settings, but of other data than is here."""
    lines = by_cell(read_record(record))
    found = [(cell, lines.get(_key(cell), [])) for cell in cells]
    return [cell for cell, its in found if _has_settings(cell, its) and not _is_of_data(cell, its)]


def read_record(record: Path) -> list[dict]:
    """The lines of a record; none if it does not exist. InputError for a line that is none of a record's."""
    found = []
    for place, text in enumerate(record.read_text().splitlines() if record.exists() else [], 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict) or not {"task", "algorithm"} <= line.keys():
            raise InputError(f"{record}, line {place}, is no line of a claim's record: {text[:60]!r}")
        found.append(line)
    return found


def by_cell(lines: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """A record's lines by task and name of the cell."""
    found: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        found.setdefault((line["task"], line["name"]), []).append(line)
    return found


def _borrow(asked, cells, record):
    """Put into the record what the others beside it hold of its missing cells: one run serves every claim."""
    known = on_record(asked, record)
    missing = [cell for cell in asked if cell not in known]
    for other in sorted(record.parent.glob("*.jsonl")):
        try:
            lines = by_cell([line for line in read_record(other) if "experiment" in line])
        except InputError:  # somebody's other file
            continue
        for cell in _agreeing(missing, lines):
            _put(lines[_key(cell)], cells, record)


def _agreeing(cells, lines) -> list[Cell]:
    found = [(cell, lines.get(_key(cell), [])) for cell in cells]
    return [cell for cell, its in found if _has_settings(cell, its) and _is_of_data(cell, its)]


def _key(cell) -> tuple[str, str]:
    return cell.experiment.task, cell.name


def _put(lines, cells, record):
    """Put a cell's lines into the record, in the grid's order, in place of those that it had there."""
    place = {_key(cell): i for i, cell in enumerate(cells)}
    with FileLock(record.with_suffix(".lock")):  # another grid may write other cells of it
        kept = by_cell(read_record(record)) | by_cell(lines)
        ordered = sorted(kept, key=lambda key: place.get(key, len(place)))
        write_lines(record, [line for key in ordered for line in kept[key]])


def label(options: Options) -> str:
    """Execution options as they stand in a record: "noise=0.0"."""
    return ",".join(f"{name}={value}" for name, value in options)


def _in_a_process(root, cell) -> str:
    """Run a cell in a new process, which takes its memory with it and nobody else if it is killed."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_run_cell, root, cell).result()


def _run_cell(root, cell) -> str:
    folder, experiment = cell.folder(root), cell.experiment
    result = run(experiment, folder)
    path = folder / "options.json"
    scores = read_json(path) if path.exists() else {}
    write_json(path, scores)
    for options in cell.options:
        if label(options) not in scores:
            policy = load_policy(folder).with_options(**dict(options))
            episodes = evaluate(policy, task(experiment.task), experiment.eval_episodes)
            scores[label(options)] = [e.returns.round(1).tolist() for e in episodes]
            write_json(path, scores)
    return f"{experiment.task} {cell.name}: return {number(result['mean'])}"


def _has_settings(cell, lines) -> bool:
    """Are these lines all of the cell's seeds and options, with its settings?"""
    return [line["seed"] for line in lines] == list(cell.experiment.seeds) and all(
        line["experiment"] == experiment_fields(cell.experiment)
        and {label(options) for options in cell.options} <= set(line["returns_with"])
        for line in lines
    )


def _is_of_data(cell, lines) -> bool:
    """Are these lines of the data that are here? Yes, if none are."""
    here = task(cell.experiment.task).data_sha256()
    return all(here in (line["data_sha256"], None) for line in lines)


def _won(result, place) -> dict[str, float]:
    """Of battles: how many the seed at that place won, and the data's teams did."""
    if not result.get("win_rate"):
        return {}
    return {"win_rate": result["win_rate"][place], "data_win_rate": result["data_win_rate"]}


def _lines(cell, root) -> list[dict]:
    scores, result = (read_json(cell.folder(root) / name) for name in ("options.json", "result.json"))
    curve = read_lines(cell.folder(root) / "evaluations.jsonl")
    return [
        {
            "task": result["task"],
            "algorithm": result["algorithm"],
            "name": cell.name,
            "seed": seed,
            "fields": changed_fields(cell.experiment.algorithm),
            "experiment": experiment_fields(cell.experiment),
            "updates": result["updates"],
            "returns": result["returns"][i],
            **_won(result, i),
            "curve": [[line["step"], round(float(np.mean(line["returns"][i])), 1)] for line in curve],
            "returns_with": {name: returns[i] for name, returns in scores.items()},
            "data_mean": result["data_mean"],
            "data_std": result["data_std"],
            "data_good": result["data_good"],
            "data_sha256": result["data_sha256"],
            "seconds": round(result["seconds"] / len(result["seeds"]), 1),
            "versions": result["versions"],
            "device": result["device"],
        }
        for i, seed in enumerate(result["seeds"])
    ]
