"""How much hangs on a coefficient: four of VGM²P's and its rivals' own, over a thirtyfold range.

A number per coefficient: the worst mean return in the range over the best, on the scale from random actions
(0) to good data (1), averaged over sets. 1: it does not matter; 0: a wrong value is as bad as chance.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vgm2p.algorithms import VGM2P, OmigaPolicy
from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.claims.grid import Cell, label, read_record
from vgm2p.claims.presets import CPU
from vgm2p.stats import Scores, normalise, stratified_interval, told
from vgm2p.tasks import task
from vgm2p.values import LinearAdvantage

SETS = ("twin/6halfcheetah-medium-replay", "twin/3hopper-medium", "twin/2ant-medium-replay")
MOST = 30.0  # the largest strength


@dataclass(frozen=True)
class Sweep:
    """One coefficient of one method and the values that it takes."""

    method: str
    coefficient: str
    values: tuple[float, ...]

    def algorithm(self, team: str, value: float) -> Algorithm:
        """The method with the coefficient set; VGM²P's strength is only asked for at execution."""
        default, changed = CPU.algorithm(self.method, team), {self.coefficient: value}
        match default, self.coefficient:
            case VGM2P(values=LinearAdvantage() as values), "selection" | "habit":
                return replace(default, values=replace(values, **changed))  # type: ignore[arg-type]
            case VGM2P(), "guidance":
                return replace(default, guidance_max=MOST)
            case OmigaPolicy(values=values), "alpha":
                return replace(default, values=replace(values, alpha=value))
        return replace(default, **changed)  # type: ignore[type-var]

    @property
    def scale(self) -> tuple[str, list[float]]:
        """A figure's axis and where the values lie on it: of `selection`, what it leaves."""
        if self.coefficient == "selection":
            return "1 - selection", [round(1 - value, 3) for value in self.values]
        return self.coefficient, list(self.values)

    def run(self, value: float) -> tuple[str, str]:
        """(name of the cell, label of the option) whose returns this value has."""
        if self.coefficient == "guidance":
            return "vgm2p-guidance", label((("guidance", value),))
        return f"{self.method}-{self.coefficient}-{value}", ""


SWEEPS = (
    Sweep("vgm2p", "guidance", (1.0, 2.0, 5.0, 12.0, MOST)),
    Sweep("vgm2p", "quantile", (0.5, 0.25, 0.1, 0.04, 0.016)),
    Sweep("vgm2p", "selection", (0.5, 0.75, 0.9, 0.96, 0.984)),  # thirtyfold in 1 - selection
    Sweep("vgm2p", "habit", (10, 30, 100, 300)),
    Sweep("mac_flow", "alpha", (0.5, 1.0, 3.0, 8.0, 16.0)),
    Sweep("omiga", "alpha", (0.016, 0.05, 0.1, 0.25, 0.5)),
    Sweep("td3_bc", "weight", (0.4, 1.0, 2.5, 6.0, 13.0)),
)


def cells() -> list[Cell]:
    """One run per set and value; one per set for all of VGM²P's strengths."""
    found = {}
    for name in SETS:
        for sweep in SWEEPS:
            options = (
                tuple((("guidance", w),) for w in sweep.values) if sweep.coefficient == "guidance" else ()
            )
            for value in sweep.values:
                experiment = CPU.experiment(name, sweep.algorithm(task(name).team, value))
                found[name, sweep.run(value)[0]] = Cell(sweep.run(value)[0], experiment, options)
    return list(found.values())


def tables(record: Path) -> str:
    """Markdown: normalised score at each value, averaged over sets, and worst over best."""
    lines = read_record(record)
    rows = ["| method | coefficient | mean score at each value | worst / best |", "|---|---|---|---|"]
    for sweep in SWEEPS:
        scores = sweep_scores(lines, sweep)
        means = np.mean([seeds.mean(-1) for seeds in scores], axis=0) if scores else []
        shown = ", ".join(f"{value:g}: {mean:.2f}" for value, mean in zip(sweep.values, means, strict=False))
        rows.append(f"| {sweep.method} | {sweep.coefficient} | {shown} | {ratio(scores)} |")
    return "\n".join(rows)


def sweep_scores(lines: list[dict], sweep: Sweep) -> list[Float[ndarray, "values seeds"]]:
    """For each set, every seed's normalised mean return at each value; nothing if any of them has not run."""
    scores = [_scores(lines, *sweep.run(value)) for value in sweep.values]
    whole = all(len(found) == len(SETS) for found in scores)
    return [np.array(seeds) for seeds in zip(*scores, strict=True)] if whole else []


def worst_over_best(sets: list[Float[ndarray, "values *draws seeds"]]) -> Float[ndarray, "*draws"]:
    """Mean over sets of the lowest mean over seeds at any value, over the highest; at least 0."""
    means = [seeds.mean(-1) for seeds in sets]
    return np.mean([np.maximum(x.min(0), 0.0) / np.maximum(x.max(0), 1e-9) for x in means], axis=0)


def ratio(sets: list[Float[ndarray, "values seeds"]]) -> str:
    """Worst over best with its interval, which lies low: drawing again spreads lowest and highest apart."""
    if not sets:
        return "not run"
    return told(float(worst_over_best(sets)), stratified_interval(worst_over_best, sets))


def _scores(lines, name, option) -> Scores:
    """Normalised mean return of every seed, by set."""
    found: dict[str, list[float]] = {}
    for line in lines:
        if line["name"] == name:
            returns = line["returns_with"][option] if option else line["returns"]
            zero = task(line["task"]).random_return
            score = normalise(np.array([np.mean(returns)]), zero, line["data_good"])[0]
            found.setdefault(line["task"], []).append(float(score))
    return [np.array(found[name]) for name in SETS if name in found]
