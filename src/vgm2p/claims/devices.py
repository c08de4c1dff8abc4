"""What an update of the papers' networks costs on each device: all seeds of the preset, every method.

A record keeps what every device has measured, so that an accelerator stands beside two cores.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax

from vgm2p.algorithms import CONTINUOUS
from vgm2p.claims.efficiency import AGENTS, seconds, synthetic, trainer
from vgm2p.claims.presets import PAPER
from vgm2p.claims.words import Words
from vgm2p.data.card import machine, versions
from vgm2p.data.store import read_json, write_json
from vgm2p.runs import device

PARTS = len(CONTINUOUS) + 1
ALONE = "vgm2p, one seed alone"
ROUND = 0.5  # seconds of updates that are timed at once, or one update


def measure(record: Path, tick: Callable[[str], Any]) -> None:
    """Measure every method on this device and put it into the record; `tick` hears of each."""
    made = {name: _trainer(name, len(PAPER.seeds)) for name in CONTINUOUS}
    made[ALONE] = _trainer("vgm2p", 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # programs compile side by side and are timed one by one
        list(pool.map(lambda go_on: jax.block_until_ready(go_on(1)), made.values()))
    found = {}
    for name, go_on in made.items():
        (once,) = seconds(partial(go_on, 1), repeats=1, rounds=1)
        updates = max(1, int(ROUND / once))
        (spent,) = seconds(partial(go_on, updates), repeats=1, rounds=3)
        found[name] = spent / updates
        tick(f"{name}: {1e3 * found[name]:.3g} ms per update")
    known = read_json(record) if record.exists() else {}
    write_json(record, known | {_here(): {"seconds": found, "versions": versions()}})


def tables(record: Path) -> str:
    """The same as `shown`, in Markdown."""
    return shown(read_json(record)).markdown()


def shown(found: dict[str, Any]) -> Words:
    """Updates per second of every method on each device, and how many times the slowest's."""
    slowest = max(found, key=lambda name: found[name]["seconds"]["vgm2p"])
    rows = []
    for method in (*CONTINUOUS, ALONE):
        rate = {name: 1 / it["seconds"][method] for name, it in found.items()}
        rows.append((method, *(f"{_rate(x)} ({x / rate[slowest]:.0f} x)" for x in rate.values())))
    seeds = len(PAPER.seeds)
    caption = (
        f"Updates per second of {seeds} seeds at once, networks {PAPER.hidden}, {PAPER.batch} transitions of "
        f"{AGENTS} agents"
    )
    return Words(caption, ("method", *found), rows)


def _trainer(method, seeds):
    algorithm, (spec, data) = PAPER.algorithm(method, "6halfcheetah"), synthetic(AGENTS)
    replay = data.replay(data.view(), algorithm.sampling, spec.actions)
    return trainer(algorithm, spec, replay, PAPER.batch, seeds)


def _rate(x) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _here() -> str:
    """This device in words: of a processor, its cores and instructions, for JAX calls all of them "cpu"."""
    return f"{os.cpu_count()} cores, {machine()}" if jax.default_backend() == "cpu" else device()
