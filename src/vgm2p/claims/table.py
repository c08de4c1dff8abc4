"""The paper's table: every method on the twins, beside published figures, and what the scores add up to."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.algorithms import ALGORITHMS
from vgm2p.algorithms.algorithm import Algorithm, Fit
from vgm2p.claims import controls
from vgm2p.claims.grid import Cell, read_record
from vgm2p.runs import Experiment
from vgm2p.stats import interquartile_mean, interval, normalise, stratified_interval
from vgm2p.tasks import TASKS, reference, task

MAIN = ("vgm2p", "bc", "meanflow_bc", "omiga", "mac_flow", "diffusion_bc")  # on every set
FOUR = tuple(  # where every method runs
    f"twin/{name}"
    for name in (
        "6halfcheetah-medium-replay",
        "6halfcheetah-medium-expert",
        "3hopper-medium",
        "2ant-medium-replay",
    )
)
SCALE = (
    "Interquartile mean of (return - random) / (90th percentile of the data's returns - random), "
    "with 95 % intervals over seeds drawn again within each set:"
)


def cells() -> list[Cell]:
    """The runs of the grid: all methods on the four sets, then the main ones on the others."""
    return [
        Cell(method, controls.experiment(name, algorithm), ()) for name, method, algorithm in _algorithms()
    ]


def paper_cells() -> list[Cell]:
    """The same with four layers of 512, a million updates of 256 transitions and five seeds."""
    return [
        Cell(method, Experiment(name, _wide(algorithm), 1_000_000, 256, tuple(range(5)), 100_000), ())
        for name, method, algorithm in _algorithms()
    ]


def _algorithms():
    """(task, method, its algorithm with the values of the team)."""
    names = [(name, method) for name in FOUR for method in ALGORITHMS]
    names += [(name, method) for name in TASKS if name not in FOUR for method in MAIN]
    return [(name, method, controls.algorithm(method, task(name).team)) for name, method in names]


def _wide(algorithm) -> Algorithm:
    """With the networks that the papers use, four layers of 512, values and critics included."""
    hidden = (512,) * 4
    wide: dict[str, Any] = {"fit": Fit(hidden=hidden, learning_rate=3e-4)}
    names = {field.name for field in dataclasses.fields(algorithm)}
    if "values" in names:
        wide["values"] = dataclasses.replace(algorithm.values, hidden=hidden)
    if "hidden" in names:
        wide["hidden"] = hidden
    return dataclasses.replace(algorithm, **wide)


def tables(record: Path) -> str:
    """Markdown: returns of the main methods on every set and of all on the four; interquartile means."""
    scores = _scores(read_record(record) if record.exists() else [])
    parts = ["The main methods:", _returns(scores, list(TASKS), MAIN), "Every method on four sets:"]
    parts += [_returns(scores, list(FOUR), tuple(ALGORITHMS)), SCALE, _aggregates(scores)]
    return "\n\n".join(parts)


def _scores(lines) -> dict[tuple[str, str], tuple[dict, np.ndarray]]:
    """(a line, mean return of each seed) of every (task, method)."""
    seeds: dict[tuple[str, str], list] = {}
    for line in lines:
        seeds.setdefault((line["task"], line["algorithm"]), []).append(line)
    return {key: (found[0], np.array([np.mean(x["returns"]) for x in found])) for key, found in seeds.items()}


def _returns(scores, names, methods) -> str:
    rows = ["| set | data | " + " | ".join(methods) + " | VGM²P, published, on OMIGA's data |"]
    rows.append("|" + "---|" * (3 + len(methods)))
    for name in names:
        line = next((line for (at, _), (line, _) in scores.items() if at == name), None)
        data = f"{line['data_mean']:.0f} ± {line['data_std']:.0f}" if line else ""
        texts = [
            _text(scores[name, method][1]) if (name, method) in scores else "not run" for method in methods
        ]
        published = reference()["scores"]["VGM2P"][task(name).team].get(task(name).tier) or "not found"
        rows.append("| " + " | ".join([name.removeprefix("twin/"), data, *texts, str(published)]) + " |")
    return "\n".join(rows)


def _text(seeds) -> str:
    low, high = interval(seeds)
    return f"{seeds.mean():.0f} [{low:.0f}, {high:.0f}]"


def _aggregates(scores) -> str:
    """Interquartile mean of normalised scores, for methods that have run on all the sets."""
    rows = ["| method | the four sets | all twelve |", "|---|---|---|"]
    for method in ALGORITHMS:
        rows.append(f"| {method} | {_middle(scores, FOUR, method)} | {_middle(scores, TASKS, method)} |")
    return "\n".join(rows)


def _middle(scores, names, method) -> str:
    found = [scores[name, method] for name in names if (name, method) in scores]
    if len(found) < len(names):
        return f"{len(found)} of {len(names)} sets run"
    normal = [normalise(seeds, task(line["task"]).random_return, line["data_good"]) for line, seeds in found]
    low, high = stratified_interval(interquartile_mean, normal)
    return f"{interquartile_mean(normal):.2f} [{low:.2f}, {high:.2f}]"
