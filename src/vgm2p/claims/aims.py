"""What VGM²P aims at, and whether the records show it: computed, so no sentence outlives its numbers."""

from typing import Any, NamedTuple

import numpy as np

from vgm2p.algorithms import ALGORITHMS
from vgm2p.claims import sensitivity, table
from vgm2p.claims.grid import label
from vgm2p.claims.table import FOUR, MAIN, Results
from vgm2p.stats import interquartile_mean, interval
from vgm2p.tasks import TASKS, reference, task


class Aim(NamedTuple):
    """One aim: does it hold (None: not measured yet), and the numbers that say so."""

    text: str
    holds: bool | None
    told: str


def judged(table: list[dict], sensitivity: list[dict], efficiency: dict[str, Any]) -> list[Aim]:
    """The aims of every claim that has left a record; `efficiency` is that record's content."""
    found = Results(table)
    return [
        *(of_table(found) if table else []),
        *(of_sensitivity(sensitivity) if sensitivity else []),
        *(of_efficiency(efficiency["methods"]) if efficiency else []),
    ]


def markdown(aims: list[Aim]) -> str:
    """One line per aim."""
    words = {None: "Not measured", True: "Holds", False: "Does not hold"}
    return "\n".join(f"- **{words[aim.holds]}.** {aim.text}: {aim.told}." for aim in aims)


def of_table(found: Results) -> list[Aim]:
    """The aims about returns."""
    return [_best_overall(found), _best_on_each(found), _as_published(found), _one_step(found), _many(found)]


def of_sensitivity(lines: list[dict]) -> list[Aim]:
    """Worst over best return in the range of every coefficient that VGM²P has."""
    text = "Over a thirtyfold range of each coefficient of VGM²P, the worst score is at least 0.8 of the best"
    ratios = {
        sweep.coefficient: float(sensitivity.worst_over_best(*scores))
        for sweep in sensitivity.SWEEPS
        if sweep.method == "vgm2p" and (scores := sensitivity.sweep_scores(lines, sweep))
    }
    if len(ratios) < sum(sweep.method == "vgm2p" for sweep in sensitivity.SWEEPS):
        return [Aim(text, None, "not all coefficients swept yet")]
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return [Aim(text, bool(min(ratios.values()) >= 0.8), told)]


def of_efficiency(methods: dict[str, dict[str, float]]) -> list[Aim]:
    """The aims about time, as ratios within one record."""
    ours = methods["vgm2p"]
    diffusion = methods["diffusion_bc, 15 steps"]["one"] / ours["one"]
    gaussian = ours["one"] / methods["bc"]["one"]
    update = ours["update"] / methods["flow_bc"]["update"]
    return [
        Aim(
            "A decision is at least 10 times faster than diffusion's with 15 steps",
            diffusion >= 10,
            f"{diffusion:.1f} times",
        ),
        Aim(
            "A decision takes at most 1.2 times as long as a Gaussian policy's",
            gaussian <= 1.2,
            f"{gaussian:.2f} times",
        ),
        Aim("An update takes at most 1.5 times as long as flow_bc's", update <= 1.5, f"{update:.2f} times"),
    ]


def _best_overall(found) -> Aim:
    text = "The best interquartile mean over the twelve sets"
    middles = {
        method: interquartile_mean(scores)
        for method in MAIN
        if len(scores := found.normalised(list(TASKS), method)) == len(TASKS)
    }
    if set(middles) != set(MAIN):
        return Aim(text, None, f"{len(middles)} of {len(MAIN)} methods have run on all twelve")
    told = ", ".join(f"{name} {value:.2f}" for name, value in sorted(middles.items(), key=lambda x: -x[1]))
    return Aim(text, max(middles, key=middles.__getitem__) == "vgm2p", told)


def _best_on_each(found) -> Aim:
    text = "On each set the best mean return, or an interval that overlaps the best's"
    behind, measured = [], [name for name in TASKS if len(found.seeds(name, "vgm2p"))]
    for name in measured:
        seeds = {m: s for m in ALGORITHMS if len(s := found.seeds(name, m))}
        best = max(seeds, key=lambda m: seeds[m].mean())
        if interval(seeds["vgm2p"])[1] < interval(seeds[best])[0]:
            behind.append(f"{name.removeprefix('twin/')} (behind {best})")
    told = f"{len(measured) - len(behind)} of {len(measured)} sets" + (
        f"; not {', '.join(behind)}" * bool(behind)
    )
    return Aim(text, not behind if len(measured) == len(TASKS) else None, told)


def _as_published(found) -> Aim:
    text = (
        "At or above VGM²P's published return (on OMIGA's data) on at least 6 of the 10 twins that have one"
    )
    published, reached, run = reference()["scores"]["VGM2P"], [], 0
    for name in TASKS:
        goal, seeds = published[task(name).team].get(task(name).tier), found.seeds(name, "vgm2p")
        if goal and len(seeds):
            run += 1
            reached += [name.removeprefix("twin/")] if seeds.mean() >= goal else []
    told = f"{len(reached)} of {run} that have run" + (f": {', '.join(reached)}" * bool(reached))
    return Aim(text, len(reached) >= 6 if run == 10 else None, told)


def _one_step(found) -> Aim:
    text = "One jump returns at least 97 % of what ten jumps of the same network do, on average over sets"
    ten = {name: found.seeds(name, "vgm2p", label(table.TEN_JUMPS)) for name in TASKS}
    return _ratio(found, text, ten, len(TASKS))


def _many(found) -> Aim:
    text = (
        "One jump returns at least 97 % of what cfgrl_flow's many guided steps do, on average over four sets"
    )
    return _ratio(found, text, {name: found.seeds(name, "cfgrl_flow") for name in FOUR}, len(FOUR))


def _ratio(found, text, others: dict[str, Any], wanted: int) -> Aim:
    pairs = [(found.seeds(name, "vgm2p"), seeds) for name, seeds in others.items() if len(seeds)]
    pairs = [(ours, theirs) for ours, theirs in pairs if len(ours)]
    if not pairs:
        return Aim(text, None, "not run")
    ratios = [ours.mean() / theirs.mean() for ours, theirs in pairs]
    told = f"{np.mean(ratios):.1%} ({min(ratios):.0%} to {max(ratios):.0%} by set, {len(ratios)} sets)"
    return Aim(text, bool(np.mean(ratios) >= 0.97) if len(ratios) == wanted else None, told)
