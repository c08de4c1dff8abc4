"""How much hangs on a coefficient: four of VGM²P's and its rivals' own, over a thirtyfold range.

A number per coefficient: the worst score in the range over the best, averaged over sets. 1: it does not
matter; 0: a wrong value leaves nothing. A robot's score is its mean return, on the scale from random actions
(0) to good data (1); of battles, the share won, of which plain cloning has much: ratios of the two differ.
"""

from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vgm2p.algorithms import VGM2P, OmigaPolicy
from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.claims import smax
from vgm2p.claims.grid import Cell, by_cell, label, read_record
from vgm2p.claims.presets import CPU, ONCE
from vgm2p.claims.words import Words, short
from vgm2p.stats import normalise, stratified_interval, with_interval
from vgm2p.tasks import BATTLES, TASKS, task
from vgm2p.values import LinearAdvantage

ROBOTS = ("twin/6halfcheetah-medium-replay", "twin/3hopper-medium", "twin/2ant-medium-replay")
MOST = 30.0  # the largest strength


@dataclass(frozen=True)
class Sweep:
    """One coefficient of one method, the values that it takes, and the sets where it does."""

    method: str
    coefficient: str
    values: tuple[float, ...]
    sets: tuple[str, ...] = ROBOTS

    def algorithm(self, team: str, value: float) -> Algorithm:
        """The method with the coefficient set; VGM²P's strength is only asked for at execution."""
        default, changed = ONCE.algorithm(self.method, team), {self.coefficient: value}
        match default, self.coefficient:
            case VGM2P(values=LinearAdvantage() as values), "selection" | "habit" | "lookahead":
                return replace(default, values=replace(values, **changed))  # type: ignore[arg-type]
            case VGM2P(), "guidance":
                return replace(default, guidance_max=MOST)
            case OmigaPolicy(values=values), "alpha":
                return replace(default, values=replace(values, alpha=value))
        return replace(default, **changed)  # type: ignore[type-var]

    @property
    def scale(self) -> tuple[str, list[float]]:
        """A figure's axis and the values as it names them: of `selection`, what it leaves."""
        if self.coefficient == "selection":
            return "1 - selection", [round(1 - value, 3) for value in self.values]
        return self.coefficient, list(self.values)

    def run(self, team: str, value: float) -> tuple[str, str]:
        """(cell, label of the option) whose returns this value has; sweeps share the cell of defaults."""
        if self.coefficient == "guidance":
            return "vgm2p-guidance", label((("guidance", value),))
        if self.algorithm(team, value) == ONCE.algorithm(self.method, team):
            return self.method, ""
        return f"{self.method}-{self.coefficient}-{value}", ""


STRENGTHS, SHARES = (1.0, 2.0, 5.0, 12.0, MOST), (0.5, 0.25, 0.1, 0.04, 0.016)
OF_MAC_FLOW, OF_OMIGA = (0.5, 1.0, 3.0, 8.0, 16.0), (0.016, 0.05, 0.1, 0.25, 0.5)
SWEEPS = {
    "robots": (
        Sweep("vgm2p", "guidance", STRENGTHS),
        Sweep("vgm2p", "quantile", SHARES),
        Sweep("vgm2p", "selection", (0.5, 0.8, 0.9, 0.96, 0.984)),  # thirtyfold in 1 - selection
        Sweep("vgm2p", "habit", (0, 10, 30, 100, 300)),  # thirtyfold, and not told
        Sweep("mac_flow", "alpha", OF_MAC_FLOW),
        Sweep("omiga", "alpha", OF_OMIGA),
        Sweep("td3_bc", "weight", (0.4, 1.0, 2.5, 6.0, 13.0)),
    ),
    "battles": (  # no selection: beyond a point it leaves the won ones, all alike; no habit: one team each
        Sweep("vgm2p", "guidance", STRENGTHS, smax.FEW),
        Sweep("vgm2p", "quantile", SHARES, smax.FEW),
        Sweep("vgm2p", "lookahead", (1, 4, 10, 20, 30), smax.FEW),
        Sweep("mac_flow", "alpha", OF_MAC_FLOW, smax.FEW),
        Sweep("omiga", "alpha", OF_OMIGA, smax.FEW),
    ),
}


def cells() -> list[Cell]:
    """One run per set and value, defaults as other claims have them; one per set for VGM²P's strengths."""
    found = {}
    for sweep in chain(*SWEEPS.values()):
        for name, value in product(sweep.sets, sweep.values):
            cell = _cell(sweep, name, value)
            found[name, cell.name] = cell
    return list(found.values())


def _cell(sweep, name, value) -> Cell:
    team, strengths = task(name).team, sweep.values if sweep.coefficient == "guidance" else ()
    called, _ = sweep.run(team, value)
    preset = CPU if called == sweep.method else ONCE
    experiment = preset.experiment(name, sweep.algorithm(team, value))
    experiment = smax.fought(experiment) if name in BATTLES else experiment
    return Cell(called, experiment, tuple((("guidance", w),) for w in strengths))


def tables(record: Path) -> str:
    """Markdown: the score at each value on each set, and worst over best; robots', then battles'.

    Worst over best stands behind each set whose every value has run, and of all sets in the last column.
    """
    lines = read_record(record)
    return "\n\n".join(
        _table(where.capitalize(), sweeps, lines).markdown() for where, sweeps in SWEEPS.items()
    )


def _table(caption, sweeps, lines) -> Words:
    found, sets = by_cell(lines), sweeps[0].sets
    rows = [
        (
            s.method,
            s.coefficient,
            *(_of_set(s, _on(found, s, name)) for name in sets),
            ratio(sweep_scores(lines, s)),
        )
        for s in sweeps
    ]
    return Words(caption, ("method", "coefficient", *map(short, sets), "worst / best"), rows)


def _of_set(sweep, scores) -> str:
    if len(scores) < len(sweep.values):
        return _told(scores)
    return f"{_told(scores)} ({ratio([np.array(list(scores.values()))])})"


def at_each(sweep: Sweep, sets: list[Float[ndarray, "values seeds"]]) -> str:
    """The mean score over sets at each value, in words; nothing if any of them has not run."""
    means = np.mean(sets, axis=0) if sets else []
    return _told(dict(zip(sweep.values, means, strict=False)))


def _told(scores: dict[float, list[float]]) -> str:
    return ", ".join(f"{value:g}: {np.mean(seeds):.2f}" for value, seeds in scores.items())


def sweep_scores(lines: list[dict], sweep: Sweep) -> list[Float[ndarray, "values seeds"]]:
    """For each set, every seed's score at each value; nothing if any of them has not run."""
    found = by_cell(lines)
    sets = [_on(found, sweep, name) for name in sweep.sets]
    if any(len(scores) < len(sweep.values) for scores in sets):
        return []
    return [np.array(list(scores.values())) for scores in sets]


def _on(found, sweep, name) -> dict[float, list[float]]:
    """Every seed's score on a set, at each value that has run there."""
    runs = {value: sweep.run(task(name).team, value) for value in sweep.values}
    return {
        value: _scores(found[name, cell], option)
        for value, (cell, option) in runs.items()
        if (name, cell) in found
    }


def worst_over_best(sets: list[Float[ndarray, "values *draws seeds"]]) -> Float[ndarray, "*draws"]:
    """Mean over sets of the lowest mean over seeds at any value, over the highest; at least 0."""
    means = [seeds.mean(-1) for seeds in sets]
    return np.mean([np.maximum(x.min(0), 0.0) / np.maximum(x.max(0), 1e-9) for x in means], axis=0)


def ratio(sets: list[Float[ndarray, "values seeds"]]) -> str:
    """Worst over best with its interval, which lies low: drawing again spreads lowest and highest apart."""
    if not sets:
        return "not run"
    return with_interval(float(worst_over_best(sets)), stratified_interval(worst_over_best, sets))


def _scores(lines, option) -> list[float]:
    """Of every seed of one cell: the share of battles won, or a robot's normalised mean return."""
    returns = [line["returns_with"][option] if option else line["returns"] for line in lines]
    if lines[0]["task"] in BATTLES:
        return [smax.win_rate(x) for x in returns]
    zero = TASKS[lines[0]["task"]].random_return
    return normalise(np.array([np.mean(x) for x in returns]), zero, lines[0]["data_good"]).tolist()
