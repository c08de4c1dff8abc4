"""Battles: VGM²P and its rivals where agents choose, by the share of battles won."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vgm2p.claims.grid import Cell, Options, label, read_record
from vgm2p.claims.presets import ONCE
from vgm2p.claims.table import STRENGTHS, Results, chance, explained
from vgm2p.claims.words import Words, short
from vgm2p.runs import Experiment
from vgm2p.stats import interquartile_mean, stratified_interval, with_interval
from vgm2p.tasks import BATTLES

METHODS = ("vgm2p", "bc", "filtered_bc", "meanflow_bc", "awr", "omiga", "mac_flow", "categorical_cfg")
FEW = ("smax/3m-medium", "smax/2s3z-poor", "smax/smacv2_5_units-replay")  # where sweeps and ablations run
UPDATES = 5_000  # half as many as robots', for a battle's update and its evaluations cost more
EPISODES = 128  # to be won or lost, so more of them than of returns
NOISES: tuple[Options, ...] = tuple((("noise", scale),) for scale in (0.5, 1.0))  # besides none, the default
WON = 1.5  # a return above this is a victory: without one the most is 1, with one it is 2

SCALE = (
    "Interquartile mean of win rates over the fourteen sets, with 95 % intervals over seeds drawn again in "
    "each set; P: how likely a seed of VGM²P beats one of the method's, over the sets that both have run"
)


def win_rate(returns: Float[ndarray, " e"]) -> float:
    """The share of battles won, by their returns."""
    return float(np.mean(np.asarray(returns) > WON))


def experiment(name: str, method: str) -> Experiment:
    """The training of a method on a set of battles."""
    return fought(ONCE.run(name, method))


def fought(experiment: Experiment) -> Experiment:
    """As long a training, and as many battles, as this claim has."""
    return replace(experiment, updates=UPDATES, eval_every=UPDATES, eval_episodes=EPISODES)


def cells() -> list[Cell]:
    """Every method on every set."""
    return [
        Cell(method, experiment(name, method), _options(method)) for name in BATTLES for method in METHODS
    ]


def _options(method) -> tuple[Options, ...]:
    return (*NOISES, *(STRENGTHS if method in ("vgm2p", "categorical_cfg") else ()))


def results(lines: list[dict]) -> Results:
    """The lines of a record by set and method, scored by battles won."""
    return Results(lines, win_rate, BATTLES)


def tables(record: Path) -> str:
    """Markdown: battles won, in percent, by set and method; what they add up to; other ways of acting."""
    found = results(read_record(record))
    parts = [_won("Battles won, in percent", found, METHODS), _aggregates(found)]
    others = [_won(f"Acting with {asked}", found, METHODS, asked) for asked in map(label, NOISES)]
    folded = [part.folded() for part in [*others, _asked(found)]]
    return "\n\n".join([*(part.markdown() for part in parts), *folded])


def _won(caption, found, methods, options="") -> Words:
    rows = [
        (short(name), _data(found, name), *(found.text(name, m, options, 100) for m in methods))
        for name in filter(found.data, BATTLES)
    ]
    return Words(explained(caption, rows), ("set", "data", *methods), rows)


def _data(found, name) -> str:
    return f"{100 * found.data(name)['data_win_rate']:.0f}"


def _aggregates(found) -> Words:
    rows = []
    for method in METHODS:
        scores = [seeds for name in BATTLES if len(seeds := found.seeds(name, method))]
        middle = f"{len(scores)} of {len(BATTLES)} sets run"
        if len(scores) == len(BATTLES):
            middle = with_interval(
                float(interquartile_mean(scores)), stratified_interval(interquartile_mean, scores)
            )
        rows.append((method, middle, chance(found.improvement(method), method)))
    return Words(SCALE, ("method", "win rate", "P(vgm2p is better)"), rows)


def _asked(found) -> Words:
    strengths = ("", *map(label, STRENGTHS))
    asked = [(method, options) for method in ("vgm2p", "categorical_cfg") for options in strengths]
    heads = [f"{method}{', ' if options else ''}{options}" for method, options in asked]
    rows = [
        (short(name), *(found.text(name, *column, scale=100) for column in asked))
        for name in filter(found.data, BATTLES)
    ]
    return Words("The same networks asked for more", ("set", *heads), rows)
