"""What labels and noise do on logs of several teams: a team's or each agent's own, on battles and on robots.

A team that shares its noise can take one of the logged teams' sides together; agents with noise of their own
mix them. A label of the team asks whether what they did together was good, a label of each whether it was
good of that agent.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.claims import smax
from vgm2p.claims.grid import Cell, label, read_record
from vgm2p.claims.presets import CPU, ONCE
from vgm2p.claims.words import Words, short
from vgm2p.runs import Experiment
from vgm2p.stats import mean_and_interval
from vgm2p.tasks import MIXED

REPLAYS = ("twin/6halfcheetah-medium-replay", "twin/3hopper-medium-replay", "twin/2ant-medium-replay")
WAYS: dict[str, dict[str, Any]] = {
    "vgm2p": {},
    "vgm2p, labels of each agent's own": {"label": "local"},
    "vgm2p, shared noise": {"shared_noise": True},
}
METHODS = (*WAYS, "bc")


def cells() -> list[Cell]:
    """Every way on the mixed battles, where two teams with different tactics fought, and on robots' logs."""
    return [
        Cell(name, _experiment(where, name), smax.NOISES if where in MIXED else ())
        for where in (*MIXED, *REPLAYS)
        for name in METHODS
    ]


def _experiment(where, name) -> Experiment:
    method, fields = ("vgm2p", WAYS[name]) if name in WAYS else (name, {})
    experiment = (ONCE if fields else CPU).run(where, method, **fields)  # the defaults as the table has them
    return smax.fought(experiment) if where in MIXED else experiment


def shown(lines: list[dict]) -> list[Words]:
    """Battles won, in percent, by set and noise; what robots return; the data's own beside them."""
    battles = [
        (short(where), label(options).removeprefix("noise=") or "0", *_row(lines, where, label(options)))
        for where in MIXED
        for options in ((), *smax.NOISES)
    ]
    robots = [(short(where), *_row(lines, where)) for where in REPLAYS]
    return [
        Words("Battles won, in percent", ("set", "noise", "data", *METHODS), battles),
        Words("Mean return, noise 0.5", ("set", "data", *METHODS), robots),
    ]


def tables(record: Path) -> str:
    """The same in Markdown."""
    return "\n\n".join(table.markdown() for table in shown(read_record(record)))


def _row(lines, where, options="") -> list[str]:
    """What the data have, then every method's mean and interval."""
    there = [line for line in lines if line["task"] == where]
    score, scale = (smax.win_rate, 100) if where in MIXED else (np.mean, 1)
    texts = []
    for name in METHODS:
        told = [x["returns_with"][options] if options else x["returns"] for x in there if x["name"] == name]
        texts.append(mean_and_interval(scale * np.array([score(returns) for returns in told])))
    data = [
        f"{100 * x['data_win_rate']:.0f}" if where in MIXED else f"{x['data_mean']:.0f}" for x in there[:1]
    ]
    return [*(data or ["not run"]), *texts]
