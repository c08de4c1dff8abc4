"""The page of `vgm2p data check`: what was found in a dataset, and what it looks like."""

from pathlib import Path

import numpy as np

from vgm2p.data.check import Finding, place
from vgm2p.data.dataset import Dataset
from vgm2p.data.store import replace_file
from vgm2p.report import figures
from vgm2p.report.template import fill

SIGNS = {"error": "no", "warning": "open", "note": "yes"}  # of the page's lists


def write_check(dataset: Dataset, findings: list[Finding], path: Path) -> None:
    """Write the page to `path`, whole or not at all. InputError if a package is missing."""
    text = fill(
        "check.html",
        card={"source": "", "licence": "", **dataset.card},
        findings=findings,
        places=[[place(dataset, row) for row in finding.rows] for finding in findings],
        signs=SIGNS,
        figures=_figures(dataset),
    )
    replace_file(path, lambda p: p.write_text(text, encoding="utf-8"))


def _figures(data: Dataset) -> list[tuple[str, str]]:
    """(caption, figure): returns, lengths, rewards, actions."""
    some = np.linspace(0, len(data.reward) - 1, min(len(data.reward), 100_000)).astype(int)
    found = [
        ("Returns of episodes", figures.histogram(data.returns, "return")),
        ("Lengths of episodes", figures.histogram(data.lengths, "steps")),
        ("Rewards of steps", figures.histogram(data.reward[some], "reward")),
    ]
    for agent in range(data.action.shape[1]):
        kind = "choices" if data.legal is not None else "actions, all entries"
        shown = figures.histogram(data.action[some, agent].ravel(), kind.split(",")[0])
        found.append((f"Agent {agent}: {kind}", shown))
    return found
