"""Does value guidance do anything? VGM²P against its three controls, on six datasets, with seeds.

Each cell is a run folder under `runs/controls/`; finished cells are skipped, so the grid can be stopped and
taken up again. The committed record is one line per (task, algorithm, seed) in `results/controls.jsonl`.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.algorithms import ALGORITHMS, BC, VGM2P, FilteredBC, MeanFlowBC
from vgm2p.data.store import read_json, replace_file, write_json
from vgm2p.evaluate import evaluate
from vgm2p.runs import Experiment, changed_fields, load_policy, run
from vgm2p.stats import interval, probability_of_improvement
from vgm2p.tasks import task

UPDATES, BATCH, SEEDS = 10_000, 64, (0, 1, 2)
NOISES = (0.0, 0.5, 1.0)  # execution noise: the same scales for every method
TEAMS_TIERS = [
    (team, tier)
    for team in ("6halfcheetah", "3hopper")
    for tier in ("medium", "medium-replay", "medium-expert")
]


def cells() -> list[Experiment]:
    """The experiments of the grid."""
    return [
        Experiment(f"twin/{team}-{tier}", kind(), UPDATES, BATCH, SEEDS, eval_every=UPDATES // 2)
        for team in TEAMS
        for tier in TIERS
        for kind in (VGM2P, BC, MeanFlowBC, FilteredBC)
    ]


def folder(root: Path, experiment: Experiment) -> Path:
    """The run folder of a cell."""
    return root / experiment.task / name(experiment)


def name(experiment: Experiment) -> str:
    """The algorithm's name in `ALGORITHMS`."""
    return next(n for n, kind in ALGORITHMS.items() if isinstance(experiment.algorithm, kind))


def run_grid(root: Path, record: Path, jobs: int, tick: Callable[[str], Any]) -> None:
    """Train every cell, `jobs` at a time on one core each, and write the record after each.

    `tick` hears of each finished cell. A cell that fails does not stop the others; its error is told.
    """
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        waiting = {pool.submit(_cell, root, cell): cell for cell in cells()}
        for future in as_completed(waiting):
            cell = waiting[future]
            error = future.exception()
            tick(f"{cell.task} {name(cell)}: {error or future.result()}")
            write_record(root, record)


def _cell(root, experiment) -> str:
    where = folder(root, experiment)
    result = run(experiment, where)
    for noise in NOISES:
        path = where / f"noise_{noise}.json"
        if not path.exists():
            policy = load_policy(where).with_options(noise=noise)
            episodes = evaluate(policy, task(experiment.task), experiment.eval_episodes)
            write_json(path, [e.returns.round(1).tolist() for e in episodes])
    return f"return {result['mean']:.0f}"


def write_record(root: Path, record: Path) -> None:
    """One line per finished (task, algorithm, seed), in the grid's order."""
    lines = [json.dumps(line) + "\n" for cell in cells() for line in _lines(folder(root, cell), cell)]
    replace_file(record, lambda p: p.write_text("".join(lines)))


def _lines(where, experiment) -> Iterator[dict]:
    if not all((where / f"noise_{noise}.json").exists() for noise in NOISES):
        return
    result = read_json(where / "result.json")
    noises = {str(noise): read_json(where / f"noise_{noise}.json") for noise in NOISES}
    for i, seed in enumerate(result["seeds"]):
        yield {
            "task": result["task"],
            "algorithm": result["algorithm"],
            "seed": seed,
            "fields": changed_fields(experiment.algorithm),
            "updates": result["updates"],
            "batch": experiment.batch,
            "returns": result["returns"][i],
            "returns_at_noise": {noise: returns[i] for noise, returns in noises.items()},
            "data_mean": result["data_mean"],
            "data_std": result["data_std"],
            "seconds": round(result["seconds"] / len(result["seeds"]), 1),
            "versions": result["versions"],
            "device": result["device"],
        }


METHODS = ("vgm2p", "bc", "meanflow_bc", "filtered_bc")


def table(record: Path, noise: float) -> str:
    """Markdown: mean return and interval over seeds of every method at one noise scale, and who wins."""
    lines = [json.loads(text) for text in record.read_text().splitlines()]
    rows = ["| task | data | " + " | ".join(METHODS) + " |", "|" + "---|" * (2 + len(METHODS))]
    scores: dict[str, list] = {method: [] for method in METHODS}
    for name_ in dict.fromkeys(line["task"] for line in lines):
        here = [line for line in lines if line["task"] == name_]
        cells_ = [f"{here[0]['data_mean']:.0f} ± {here[0]['data_std']:.0f}"]
        for method in METHODS:
            seeds = [
                np.mean(line["returns_at_noise"][str(noise)]) for line in here if line["algorithm"] == method
            ]
            if not seeds:
                cells_.append("not run")
                continue
            low, high = interval(np.array(seeds))
            scores[method].append(np.array(seeds))
            cells_.append(f"{np.mean(seeds):.0f} [{low:.0f}, {high:.0f}]")
        rows.append(f"| {name_.removeprefix('twin/')} | " + " | ".join(cells_) + " |")
    for method in METHODS[1:]:
        if len(scores[method]) == len(scores["vgm2p"]):
            p, low, high = probability_of_improvement(scores["vgm2p"], scores[method])
            rows.append(f"| P(vgm2p > {method}) | | {p:.2f} [{low:.2f}, {high:.2f}] | | | |")
    return "\n".join(rows)
