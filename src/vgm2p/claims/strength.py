"""Guidance strength: chosen at execution from one network, beside networks trained for one strength each."""

from pathlib import Path

import numpy as np

from vgm2p.algorithms import VGM2P
from vgm2p.claims.controls import VALUES, experiment
from vgm2p.claims.grid import Cell, label, read_record
from vgm2p.stats import interval

TASK = "twin/3hopper-medium-replay"  # where strength matters most
STRENGTHS = (1.0, 1.5, 2.0, 3.0, 5.0)


def cells() -> list[Cell]:
    """One run that is told w, and one for each w."""

    def cell(name, options, **fields):
        return Cell(name, experiment(TASK, VGM2P(values=VALUES["3hopper"], **fields)), options)

    asked = tuple((("guidance", w),) for w in STRENGTHS)
    one = cell("any_strength", asked, guidance_max=max(STRENGTHS))
    alone = (cell(f"strength_{w}", ((("guidance", w),),), guidance=w, guidance_max=None) for w in STRENGTHS)
    return [one, *alone]


def tables(record: Path) -> str:
    """Markdown: mean return and interval over seeds for every strength, both ways."""
    lines = read_record(record)
    rows = ["| w | chosen at execution | trained for it |", "|---|---|---|"]
    for w in STRENGTHS:
        options = label((("guidance", w),))
        rows.append(
            f"| {w} | {_text(lines, 'any_strength', options)} | {_text(lines, f'strength_{w}', options)} |"
        )
    return "\n".join(rows)


def _text(lines, name, options):
    seeds = np.array([np.mean(line["returns_with"][options]) for line in lines if line["name"] == name])
    if not len(seeds):
        return "not run"
    low, high = interval(seeds)
    return f"{seeds.mean():.0f} [{low:.0f}, {high:.0f}]"
