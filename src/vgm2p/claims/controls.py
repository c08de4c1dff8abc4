"""Does value guidance do anything? VGM²P against its three controls, on six datasets, three seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vgm2p.algorithms import ALGORITHMS
from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.claims.grid import Cell, label, read_record
from vgm2p.runs import Experiment
from vgm2p.stats import interval, probability_of_improvement
from vgm2p.values import LinearAdvantage

UPDATES, BATCH, SEEDS = 10_000, 64, (0, 1, 2)
TIERS = ("medium", "medium-replay", "medium-expert")
METHODS = ("vgm2p", "bc", "meanflow_bc", "filtered_bc")
# HalfCheetah never ends early; hoppers differ in when they fall, so their values see the whole episode.
VALUES = {"3hopper": LinearAdvantage(discount=0.999, lookahead=1000)}  # others: the defaults
TEAMS = ("6halfcheetah", "3hopper")
NOISES = tuple((("noise", scale),) for scale in (0.0, 0.5, 1.0))  # the same for every method
STRENGTHS = tuple((("guidance", w),) for w in (1.0, 1.25, 1.5, 2.0))  # asked of VGM²P's networks


def cells() -> list[Cell]:
    """The runs of the grid."""
    return [
        Cell(method, experiment(f"twin/{team}-{tier}", algorithm(method, team)), _options(method))
        for team in TEAMS
        for tier in TIERS
        for method in METHODS
    ]


def _options(method):
    return NOISES + STRENGTHS if method == "vgm2p" else NOISES


def algorithm(method: str, team: str) -> Algorithm:
    """The method with its defaults, the team's values where it learns the default ones."""
    default = ALGORITHMS[method]()
    if team not in VALUES or not isinstance(getattr(default, "values", None), LinearAdvantage):
        return default
    return replace(default, values=VALUES[team])


def experiment(task: str, algorithm: Algorithm) -> Experiment:
    """The training that every cell has."""
    return Experiment(task, algorithm, UPDATES, BATCH, SEEDS, eval_every=UPDATES // 2)


def tables(record: Path) -> str:
    """Markdown: per noise scale, mean return and interval over seeds, and who wins; then VGM²P over w."""
    lines = read_record(record)
    parts = [f"Execution {label(options)}:\n\n{_table(lines, label(options))}" for options in NOISES]
    return "\n\n".join(
        [
            *parts,
            f"VGM²P, other strengths asked of the same networks, execution noise 0.5:\n\n{_strengths(lines)}",
        ]
    )


def _table(lines, options) -> str:
    rows = ["| dataset | data | " + " | ".join(METHODS) + " |", "|" + "---|" * (2 + len(METHODS))]
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    for name in tasks:
        data = next(line for line in lines if line["task"] == name)
        scores = [_text(_seeds(lines, name, method, options)) for method in METHODS]
        spread = f"{data['data_mean']:.0f} ± {data['data_std']:.0f}"
        rows.append(f"| {name.removeprefix('twin/')} | {spread} | " + " | ".join(scores) + " |")
    chances = [_improvement(lines, method, options, options) for method in METHODS[1:]]
    rows.append("| P(vgm2p is better) | | | " + " | ".join(chances) + " |")
    return "\n".join(rows)


def _strengths(lines) -> str:
    names = [label(options) for options in STRENGTHS]
    rows = ["| dataset | " + " | ".join(names) + " |", "|" + "---|" * (1 + len(names))]
    for name in dict.fromkeys(line["task"] for line in lines):
        scores = [_text(_seeds(lines, name, "vgm2p", options)) for options in names]
        rows.append(f"| {name.removeprefix('twin/')} | " + " | ".join(scores) + " |")
    chances = [_improvement(lines, "filtered_bc", options, "noise=0.5") for options in names]
    return "\n".join([*rows, "| P(better than filtered_bc) | " + " | ".join(chances) + " |"])


def _seeds(lines, name, method, options):
    """Mean return of each seed."""
    return np.array(
        [
            np.mean(line["returns_with"][options])
            for line in lines
            if (line["task"], line["algorithm"]) == (name, method) and options in line["returns_with"]
        ]
    )


def _text(seeds):
    if not len(seeds):
        return "not run"
    low, high = interval(seeds)
    return f"{seeds.mean():.0f} [{low:.0f}, {high:.0f}]"


def _improvement(lines, method, options, its_options):
    tasks = dict.fromkeys(line["task"] for line in lines)
    pairs = [
        [_seeds(lines, name, "vgm2p", options), _seeds(lines, name, method, its_options)] for name in tasks
    ]
    pairs = [pair for pair in pairs if all(len(seeds) for seeds in pair)]
    if not pairs:
        return "not run"
    ours, theirs = zip(*pairs, strict=True)
    p, low, high = probability_of_improvement(list(ours), list(theirs))
    return f"{p:.2f} [{low:.2f}, {high:.2f}]"
