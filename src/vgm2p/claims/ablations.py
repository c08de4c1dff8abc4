"""Choices of ours in VGM²P beside what else could have been chosen, on one set per team size (6, 3, 2).

What concerns agents that choose and see a part is asked on three sets of battles. docs/method.md states each
choice; this is what backs it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.algorithms.algorithm import Fit
from vgm2p.claims import smax
from vgm2p.claims.grid import Cell, read_record
from vgm2p.claims.presets import CPU, ONCE, own_values
from vgm2p.claims.sensitivity import ROBOTS
from vgm2p.claims.words import Words, short
from vgm2p.flows import MeanFlow
from vgm2p.runs import Experiment
from vgm2p.stats import mean_and_interval
from vgm2p.tasks import task
from vgm2p.values import CentralAdvantage, EpisodeReturn, MixedIQL, ReturnToGo

OURS = "vgm2p"  # the cell with every choice of ours
Fields = Callable[[str], dict[str, Any]]  # of a team


def _of(**fields: Any) -> Fields:
    return lambda team: fields


def _flow(**fields: Any) -> Fields:
    return _of(flow=MeanFlow(**fields))


def _values(**fields: Any) -> Fields:
    """The team's values with fields changed."""
    return lambda team: {"values": replace(own_values(team), **fields)}


def _ahead(kind: Callable[..., Any], *names: str) -> Fields:
    """Another learner that looks ahead as far as the team's own and has these fields of it too."""
    shared = ("discount", "lookahead", *names)
    return lambda team: {"values": kind(**{name: getattr(own_values(team), name) for name in shared})}


def _told_otherwise(team: str) -> dict[str, Any]:
    """Values that are told which team acts where the team's own are not, and the other way about."""
    return {"values": replace(own_values(team), habit=0 if own_values(team).habit else 100)}


CHOICES: dict[str, dict[str, Fields]] = {
    "label: one for the team": {
        "each agent's own share": _of(label="local"),
        "of a central critic": _ahead(CentralAdvantage, "habit"),
    },
    "which team acts: told to values on hoppers only": {"told on the others only": _told_otherwise},
    "slopes: eight, each of half of the episodes": {"one slope": _values(slopes=1)},
    "episodes: the better ones": {"all episodes": _values(selection=None)},
    "values: linear, of the better episodes": {
        "rewards less V(s), all episodes": _ahead(ReturnToGo),
        "mixed critics, TD, all episodes": _of(values=MixedIQL()),
        "the whole episode's return, all episodes": _of(values=EpisodeReturn()),
    },
    "loss: no adaptive weight, p = 0": {"p = 0.5": _flow(power=0.5), "p = 1": _flow(power=1.0)},
    "tangent: the slow network's": {
        "the network's": _flow(tangent="network"),
        "the sample's": _flow(tangent="sample"),
    },
    "slow copy: rate 0.001": {
        "0.01": _of(fit=Fit(slow_rate=0.01)),
        "none": _of(fit=Fit(slow_rate=1.0)),
    },
    "anchors (r = t): half": {"three tenths": _flow(anchors=0.3), "three quarters": _flow(anchors=0.75)},
    "intervals: end at the data": {"at an earlier time": _flow(to_data=False)},
    "good actions: those of A_tot at least 0": {"every action": _of(threshold=-1e9)},
    "bad actions: only in the unconditional flow": {"a class of their own": _of(negatives=True)},
    "strength: told, 1 to 2": {"trained for 1 alone": _of(guidance_max=None)},
    "times: uniform": {"logit-normal": _flow(times="logit-normal")},
}
BATTLE_CHOICES: dict[str, dict[str, Fields]] = {
    "values: of what each unit sees": {"the state tells all": _values(shared=False)},
    "episodes: all": {"the better ones": _values(selection=0.8)},
    "networks of values: 16 wide": {"256 and 256": _values(hidden=(256, 256))},
    "anchors (r = t): four fifths": {"half": _flow(anchors=0.5)},
}
Changes = dict[str, dict[str, dict[str, Any]]]  # choice of ours: what instead: fields of the experiment
OF_RUNS: Changes = {
    "actions: as logged": {"clipped to what motors take": {"regress": "clipped"}},
    "observations: by the data's statistics": {"each vector by its own": {"standardise": "vector"}},
}
OF_BATTLES: Changes = {
    "history: what is seen now": {"the last two": {"history": 2}, "the last four": {"history": 4}},
    "codes of choices: 1 and -1": {"0.3 and -0.3": {"codes": 0.3}, "3 and -3": {"codes": 3.0}},
}


def cells() -> list[Cell]:
    """Our choices, as other claims have them, and each alternative, on every set."""
    robots = [
        Cell(cell, made, ())
        for name in ROBOTS
        for cell, made in (
            _changed(ONCE.run(name, OURS), OF_RUNS)
            | {OURS: CPU.run(name, OURS)}
            | _of_algorithm(name, CHOICES)
        ).items()
    ]
    fighters = [
        Cell(cell, made, smax.NOISES)
        for name in smax.FEW
        for cell, made in (
            _changed(smax.experiment(name, OURS), OF_BATTLES)
            | {cell: smax.fought(other) for cell, other in _of_algorithm(name, BATTLE_CHOICES).items()}
        ).items()
    ]
    return robots + fighters


def _of_algorithm(name, choices: dict[str, dict[str, Fields]]) -> dict[str, Experiment]:
    changes = {told: make(task(name).team) for others in choices.values() for told, make in others.items()}
    return {f"{OURS}, {told}": ONCE.run(name, OURS, **fields) for told, fields in changes.items()}


def _changed(ours: Experiment, choices: Changes) -> dict[str, Experiment]:
    """Ours, and it with each change."""
    changes = {told: fields for others in choices.values() for told, fields in others.items()}
    return {OURS: ours} | {f"{OURS}, {told}": replace(ours, **fields) for told, fields in changes.items()}


def shown(lines: list[dict]) -> list[Words]:
    """For each choice the score and interval of ours and of each alternative: returns, and battles won."""
    tables = (
        ("Mean return", ROBOTS, CHOICES | OF_RUNS),
        ("Battles won without noise, in percent", smax.FEW, BATTLE_CHOICES | OF_BATTLES),
    )
    return [
        Words(caption, ("choice", "instead", *map(short, sets)), _rows(lines, sets, choices))
        for caption, sets, choices in tables
    ]


def tables(record: Path) -> str:
    """The same in Markdown."""
    return "\n\n".join(table.markdown() for table in shown(read_record(record)))


def _rows(lines, sets, choices) -> list[tuple[str, ...]]:
    found = [("", "ours in all", *(_text(lines, name, OURS) for name in sets))]
    for choice, alternatives in choices.items():
        for told in alternatives:
            found.append((choice, told, *(_text(lines, name, f"{OURS}, {told}") for name in sets)))
    return found


def _text(lines, name, cell) -> str:
    score, scale = (smax.win_rate, 100) if name in smax.FEW else (np.mean, 1)
    seeds = [score(x["returns"]) for x in lines if (x["task"], x["name"]) == (name, cell)]
    return mean_and_interval(scale * np.array(seeds))
