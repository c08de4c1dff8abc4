"""What VGM²P aims at, and whether the records show it: computed, so no aim outlives its numbers."""

from typing import Any, NamedTuple

import numpy as np

from vgm2p.algorithms import BC, CONTINUOUS
from vgm2p.claims import sensitivity, smax, table
from vgm2p.claims.efficiency import MANY
from vgm2p.claims.grid import label
from vgm2p.claims.table import SCALES, Results, best_noise
from vgm2p.claims.words import short
from vgm2p.stats import (
    interquartile_mean,
    interval,
    probability_of_improvement,
    stratified_interval,
    with_interval,
)
from vgm2p.tasks import BATTLES, TWINS, published


class Aim(NamedTuple):
    """One aim: does it hold (None: not known until more has run), and the numbers that say so."""

    text: str
    holds: bool | None
    told: str

    @property
    def verdict(self) -> str:
        """`holds` in words."""
        return {None: "Not known yet", True: "Holds", False: "Does not hold"}[self.holds]


def judged(returns: list[dict], sweeps: list[dict], costs: dict[str, Any], battles: list[dict]) -> list[Aim]:
    """The aims, by the lines of the table's, the sensitivity's and the battles' record and the costs."""
    found = [*of_table(Results(returns)), *of_sensitivity(sweeps), *of_efficiency(costs.get("methods", {}))]
    return [*found, of_battles(smax.results(battles))]


def markdown(aims: list[Aim]) -> str:
    """One line per aim."""
    return "\n".join(f"- **{aim.verdict}.** {aim.text}: {aim.told}." for aim in aims)


def of_table(found: Results) -> list[Aim]:
    """The aims about returns."""
    return [
        *_best_overall(found),
        _best_on_each(found),
        _as_published(found),
        _one_step(found),
        *_many(found),
    ]


def of_sensitivity(lines: list[dict]) -> list[Aim]:
    """Worst over best score in the range of every coefficient of VGM²P that is swept."""
    least = "the worst score is at least 0.8 of the best, on average over three sets"
    ours = {
        "robots": "Over a thirtyfold range of VGM²P's strength, share of good actions, selection and habit",
        "battles": "Battles: over a thirtyfold range of its strength, share of good actions and look-ahead",
    }
    return [_insensitive(f"{text}, {least}", where, lines) for where, text in ours.items()]


def _insensitive(text, where, lines) -> Aim:
    ours = [sweep for sweep in sensitivity.SWEEPS[where] if sweep.method == "vgm2p"]
    scores = {sweep.coefficient: sensitivity.sweep_scores(lines, sweep) for sweep in ours}
    ratios = {name: float(sensitivity.worst_over_best(found)) for name, found in scores.items() if found}
    least = {name: min(float(sensitivity.worst_over_best([x])) for x in scores[name]) for name in ratios}
    each = ", ".join(f"{name} {ratio:.2f} ({least[name]:.2f})" for name, ratio in ratios.items())
    told = [f"{each}, in parentheses the least of any set"] if ratios else []
    left = [name for name in scores if name not in ratios]
    told += [f"not swept yet: {', '.join(left)}"] if left else []
    holds = None if left else True
    return Aim(text, False if any(ratio < 0.8 for ratio in ratios.values()) else holds, "; ".join(told))


def of_efficiency(methods: dict[str, dict[str, float]]) -> list[Aim]:
    """The aims about time, as ratios within one record."""
    acting = {"one": "One team's decision in JAX", "graph": "A decision of one agent's exported graph"}
    faster = {
        x: f"{who} is at least 10 times faster than diffusion's with 15 steps" for x, who in acting.items()
    }
    equal = {x: f"{who} takes at most 1.2 times as long as a Gaussian policy's" for x, who in acting.items()}
    update = "An update takes at most 1.5 times as long as flow_bc's"
    if not methods:
        return [Aim(text, None, "not run") for text in (*faster.values(), *equal.values(), update)]
    ours, diffusion = methods["vgm2p"], methods["diffusion_bc, 15 steps"]
    many = f"; {diffusion['many'] / ours['many']:.1f} for {MANY} teams at once"
    found = []
    for x, text in faster.items():
        ratio = diffusion[x] / ours[x]
        found.append(Aim(text, ratio >= 10, f"{ratio:.1f} times{many if x == 'one' else ''}"))
    for x, text in equal.items():
        ratio = ours[x] / methods["bc"][x]
        found.append(Aim(text, ratio <= 1.2, f"{ratio:.2f} times"))
    ratio = ours["update"] / methods["flow_bc"]["update"]
    return [*found, Aim(update, ratio <= 1.5, f"{ratio:.2f} times")]


def of_battles(found: Results) -> Aim:
    """The aim about battles."""
    text = "Battles: the largest interquartile mean of win rates over the fourteen sets"
    scores = {m: [found.seeds(name, m) for name in BATTLES] for m in smax.METHODS}
    return _best(text, {m: x for m, x in scores.items() if all(map(len, x))}, smax.METHODS)


def _best_overall(found) -> list[Aim]:
    text = "The largest interquartile mean over the twelve sets, "
    same = (f"all acting with noise {BC.noise}", dict.fromkeys(CONTINUOUS, ""))
    own = ("each with the noise that suits it best", {m: best_noise(found, m) for m in CONTINUOUS})
    aims = []
    for how, options in (same, own):
        scores = {m: found.normalised(m, options[m]) for m in CONTINUOUS}
        aims.append(_best(text + how, {m: x for m, x in scores.items() if len(x) == len(TWINS)}, CONTINUOUS))
    return aims


def _best(text, scores, planned) -> Aim:
    """VGM²P's interquartile mean against those that have run on all sets: any of them can refute it."""
    ran = f"{len(scores)} of {len(planned)} methods have run on all sets"
    if "vgm2p" not in scores or len(scores) < 2:
        return Aim(text, None, ran)
    whole = len(scores) == len(planned)
    middles = {method: float(interquartile_mean(x)) for method, x in scores.items()}
    order = sorted(middles, key=lambda method: -middles[method])
    bounds = {method: stratified_interval(interquartile_mean, scores[method]) for method in order}
    each = ", ".join(f"{method} {with_interval(middles[method], bounds[method])}" for method in order)
    rival = next(method for method in order if method != "vgm2p")
    both = scores["vgm2p"], scores[rival]
    gap = with_interval(float(_gap(*both)), stratified_interval(_gap, *both), digits=3)
    p, low, high = probability_of_improvement(*both)
    beats = (
        f"vgm2p less {rival}: {gap}; a seed of vgm2p beats one of {rival} with probability "
        f"{with_interval(p, (low, high))}"
    )
    holds = False if order[0] != "vgm2p" else True if whole else None
    return Aim(text, holds, f"{each}; {beats}" + ("" if whole else f"; {ran}"))


def _gap(ours, theirs):
    return interquartile_mean(ours) - interquartile_mean(theirs)


def _best_on_each(found) -> Aim:
    text = "On each of the twelve sets the best mean return, or an interval that reaches the best's"
    ran = {name: [m for m in CONTINUOUS if len(found.seeds(name, m)) > 1] for name in TWINS}
    ran = {name: methods for name, methods in ran.items() if "vgm2p" in methods and len(methods) > 1}
    behind = []
    for name, methods in ran.items():
        means = {method: float(found.seeds(name, method).mean()) for method in methods}
        best = max(means, key=means.__getitem__)
        if interval(found.seeds(name, "vgm2p"))[1] < interval(found.seeds(name, best))[0]:
            behind.append(f"{short(name)} (behind {best})")
    partly = len(TWINS) - sum(len(methods) == len(CONTINUOUS) for methods in ran.values())
    told = f"{len(ran) - len(behind)} of {len(ran)}" + (f"; not {', '.join(behind)}" if behind else "")
    left = f"; on {partly} set{'s' if partly > 1 else ''} some methods have not run" if partly else ""
    return Aim(text, False if behind else None if left else True, told + left)


def _as_published(found) -> Aim:
    goals = {name: goal for name in TWINS if (goal := published(name))}
    text = f"At least 6 of VGM²P's {len(goals)} published returns (on OMIGA's data) are reached on twins"
    means = {name: seeds.mean() for name in goals if len(seeds := found.seeds(name, "vgm2p"))}
    reached = [short(name) for name in means if means[name] >= goals[name]]
    told = f"{len(reached)} of the {len(means)} that have run" + (
        f": {', '.join(reached)}" if reached else ""
    )
    holds = True if len(reached) >= 6 else None if len(means) < len(goals) else False
    return Aim(text, holds, told)


def _one_step(found) -> Aim:
    text = (
        "One jump returns at least 97 % of what ten jumps of the same network do, on average over sets, with "
        f"noise {BC.noise}"
    )
    ten = {name: found.seeds(name, "vgm2p", label(table.TEN_JUMPS)) for name in TWINS}
    return _ratio(found, text, ten)


def _many(found) -> list[Aim]:
    """One for each scale of noise: 1 asks for the whole learned distribution."""
    text = (
        "One jump returns at least 97 % of what cfgrl_flow's ten steps do, both at strength 1, on average "
        "over sets, with noise "
    )
    others = {asked: {name: found.seeds(name, "cfgrl_flow", asked) for name in TWINS} for asked in SCALES}
    return [_ratio(found, f"{text}{SCALES[asked]}", its, asked) for asked, its in others.items()]


def _ratio(found, text, others: dict[str, Any], asked: str = "") -> Aim:
    """VGM²P's mean over theirs, set by set; `asked`: what it acts with."""
    pairs = [(found.seeds(name, "vgm2p", asked), seeds) for name, seeds in others.items() if len(seeds)]
    pairs = [(ours, theirs) for ours, theirs in pairs if len(ours)]
    if not pairs:
        return Aim(text, None, "not run")
    ratios = [ours.mean() / theirs.mean() for ours, theirs in pairs]
    told = f"{np.mean(ratios):.1%} ({min(ratios):.0%} to {max(ratios):.0%} by set, {len(ratios)} sets)"
    return Aim(text, bool(np.mean(ratios) >= 0.97) if len(ratios) == len(TWINS) else None, told)
