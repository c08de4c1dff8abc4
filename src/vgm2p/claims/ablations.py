"""Choices of ours in VGM²P beside what else could have been chosen, on one set per team size (6, 3, 2).

docs/method.md states each choice; this is what backs it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.algorithms.algorithm import Fit
from vgm2p.claims.grid import Cell, read_record
from vgm2p.claims.presets import ONCE, VALUES
from vgm2p.claims.sensitivity import SETS
from vgm2p.flows import MeanFlow
from vgm2p.stats import mean_and_interval
from vgm2p.tasks import task
from vgm2p.values import CentralAdvantage, EpisodeReturn, LinearAdvantage, MixedIQL, ReturnToGo

OURS = "vgm2p"  # the cell with every choice of ours
Fields = Callable[[str], dict[str, Any]]  # of a team


def _of(**fields: Any) -> Fields:
    return lambda team: fields


def _flow(**fields: Any) -> Fields:
    return _of(flow=MeanFlow(**fields))


def _own(team: str) -> LinearAdvantage:
    """The team's values."""
    return VALUES.get(team, LinearAdvantage())


def _values(**fields: Any) -> Fields:
    """The team's values with fields changed."""
    return lambda team: {"values": replace(_own(team), **fields)}


def _ahead(kind: Callable[..., Any], *names: str) -> Fields:
    """Another learner that looks ahead as far as the team's own and has these fields of it too."""
    shared = ("discount", "lookahead", *names)
    return lambda team: {"values": kind(**{name: getattr(_own(team), name) for name in shared})}


def _told_otherwise(team: str) -> dict[str, Any]:
    """Values that are told which team acts where the team's own are not, and the other way about."""
    return {"values": replace(_own(team), habit=0 if _own(team).habit else 100)}


CHOICES: dict[str, dict[str, Fields]] = {
    "label: one for the team": {
        "each agent's own share": _of(label="local"),
        "of a central critic": _ahead(CentralAdvantage, "habit"),
    },
    "values: linear, told the team on hoppers only, eight slopes, better episodes": {
        "told on the others only": _told_otherwise,
        "one slope": _values(slopes=1),
        "all episodes": _values(selection=None),
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
    "bad actions: only in the unconditional flow": {"a class of their own": _of(negatives=True)},
    "strength: told, 1 to 2": {"trained for 1 alone": _of(guidance_max=None)},
}


def cells() -> list[Cell]:
    """Our choices and each alternative, on every set."""
    found = []
    for name in SETS:
        found.append(Cell(OURS, ONCE.run(name, "vgm2p"), ()))
        for alternatives in CHOICES.values():
            for told, fields in alternatives.items():
                experiment = ONCE.run(name, "vgm2p", **fields(task(name).team))
                found.append(Cell(f"vgm2p, {told}", experiment, ()))
    return found


def rows(lines: list[dict]) -> list[tuple[str, ...]]:
    """(choice of ours, what instead, mean return and interval on each set); ours in all come first."""
    found = [("", "ours in all", *(_text(lines, name, OURS) for name in SETS))]
    for choice, alternatives in CHOICES.items():
        for told in alternatives:
            found.append((choice, told, *(_text(lines, name, f"vgm2p, {told}") for name in SETS)))
    return found


def tables(record: Path) -> str:
    """Markdown: for each choice the mean return and interval of ours and of each alternative, by set."""
    heads = ["choice", "instead", *(name.removeprefix("twin/") for name in SETS)]
    lines = [heads, ["---"] * len(heads), *rows(read_record(record))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(lines, name, cell) -> str:
    seeds = [np.mean(x["returns"]) for x in lines if (x["task"], x["name"]) == (name, cell)]
    return mean_and_interval(np.array(seeds))
