"""What training and acting cost: every method, on synthetic data, in one run.

Robots' methods have the same network sizes; those of battles the sizes of their claim, where what learns
labels has smaller values than others have critics.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgm2p.actions import Continuous, Discrete
from vgm2p.algorithms import ALGORITHMS, CONTINUOUS, CategoricalCFG, CFGRLFlow, DiffusionBC
from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.claims import smax
from vgm2p.claims.presets import ONCE
from vgm2p.claims.table import Results
from vgm2p.claims.words import Words, short
from vgm2p.data.card import versions
from vgm2p.data.dataset import Dataset, Replay
from vgm2p.data.store import read_json, write_json
from vgm2p.export import controller, onnx
from vgm2p.policy import Policy
from vgm2p.runs import device
from vgm2p.tasks import task
from vgm2p.train import advance, init, seed_keys, seeds_together
from vgm2p.types import Metrics, Spec

AGENTS, UNITS, BATCH, MANY = 6, 5, 64, 1024
SIZES, BATCHES = (2, 8, 32, 64), (64, 256, 1024)
METHODS: dict[str, Algorithm] = {name: ALGORITHMS[name]() for name in CONTINUOUS}
METHODS["diffusion_bc, 15 steps"] = DiffusionBC(steps=15)
BATTLE_METHODS: dict[str, Algorithm] = {name: ONCE.algorithm(name, "2s3z") for name in smax.METHODS}
GROWING = {name: METHODS[name] for name in ("vgm2p", "bc", "flow_bc", "diffusion_bc", "omiga", "mac_flow")}
COSTS = ("update", "one", "many", "graph")  # of what is timed: `_method_table` says what each is
GROWN = ("update", "one")  # those of them that are measured over numbers of agents
PARTS = len(METHODS) + len(BATTLE_METHODS) + 2 * len(COSTS) + len(GROWN) * len(SIZES) + len(BATCHES)


def seconds(*calls: Callable[[], Any], repeats: int, rounds: int = 10) -> list[float]:
    """Seconds of each call, after one that compiles: the least of its medians over some rounds.

    Calls take turns, `repeats` at a time: what else a machine does comes in bursts and only ever adds, and
    where it lasts it falls on all of them.
    """
    for call in calls:
        jax.block_until_ready(call())
    times = np.zeros((rounds, len(calls), repeats))
    for turn, which, again in np.ndindex(times.shape):
        began = time.perf_counter()
        jax.block_until_ready(calls[which]())
        times[turn, which, again] = time.perf_counter() - began
    return np.median(times, axis=2).min(axis=0).tolist()


def seconds_per_update(*trainers: Callable[[int], Metrics], updates: int) -> list[float]:
    """Of each `trainer`, sampling included, in chunks of `updates`."""
    found = seconds(*(partial(go_on, updates) for go_on in trainers), repeats=1)
    return [each / updates for each in found]


def trainer(
    algorithm: Algorithm, spec: Spec, replay: Replay, batch: int, seeds: int = 1
) -> Callable[[int], Metrics]:
    """A training that goes on by as many updates of every seed as it is told to; returns their metrics."""
    keys = seed_keys(tuple(range(seeds)))
    states, together = init(algorithm, spec, keys), seeds_together()

    def go_on(updates: int) -> Metrics:
        nonlocal states
        states, metrics = advance(
            algorithm, spec, states, replay, keys, jnp.int32(updates), batch=batch, together=together
        )
        return metrics

    return go_on


def untrained(algorithm: Algorithm, spec: Spec, data: Dataset) -> Policy:
    """A team as it is before its first update: deciding costs it what it costs a trained one."""
    params = jax.tree.map(lambda x: x[None], algorithm.init(spec, jax.random.key(0)).target)
    return Policy(algorithm, spec, data.view(), params, (0,))


def seconds_per_decision(*policies: Policy, data: Dataset, teams: int) -> list[float]:
    """Of all agents of `teams` teams at once by `Policy.act`: NumPy's arrays in and out."""
    shown = jax.tree.map(lambda x: x[None, :teams], data.sight)
    keys = jax.random.split(jax.random.key(1), 1)
    calls = [partial(policy.act, shown, keys) for policy in policies]
    return seconds(*calls, repeats=200 if teams == 1 else 3)


def seconds_per_controller(*policies: Policy) -> list[float]:
    """Of one agent's exported graph, on one thread of ONNX Runtime: what acts where a team is deployed."""
    calls = []
    for policy in policies:
        made = controller(policy, {}, agent=0, seed=0)
        _, run = onnx(made)
        calls.append(partial(run, *(np.ones(x.shape, x.dtype) for x in made.inputs.values())))
    return seconds(*calls, repeats=1000)


def passes(algorithm: Algorithm) -> int:
    """Network passes of one agent's decision."""
    return getattr(algorithm, "steps", 1) * (2 if isinstance(algorithm, CFGRLFlow | CategoricalCFG) else 1)


def synthetic(agents: int) -> tuple[Spec, Dataset]:
    """Random episodes of a team with a state of 17 numbers and one action per agent, HalfCheetah's sizes."""
    rng, episodes, length = np.random.default_rng(0), 100, 100
    data = Dataset(
        state=rng.normal(size=(episodes * (length + 1), 17)).astype(np.float32),
        action=rng.normal(size=(episodes * length, agents, 1)).astype(np.float32),
        reward=rng.normal(size=episodes * length).astype(np.float32),
        lengths=np.full(episodes, length, np.int32),
        terminated=np.zeros(episodes, bool),
        card={"id": "synthetic"},
    )
    return Spec(agents, data.view().obs_dim, 17, Continuous(1)), data


def synthetic_battles() -> tuple[Spec, Dataset]:
    """Random battles of 2s3z's sizes, whose units have ten choices each."""
    rng, episodes, length, choices = np.random.default_rng(0), 100, 100, 10
    rows = episodes * (length + 1)
    data = Dataset(
        state=rng.normal(size=(rows, 120)).astype(np.float32),
        action=rng.integers(choices, size=(episodes * length, UNITS)).astype(np.int32),
        reward=rng.normal(size=episodes * length).astype(np.float32),
        lengths=np.full(episodes, length, np.int32),
        terminated=np.ones(episodes, bool),
        card={"id": "synthetic"},
        obs=rng.normal(size=(rows, UNITS, 127)).astype(np.float32),
        legal=np.ones((rows, UNITS, choices), bool),
    )
    return Spec(UNITS, data.view().obs_dim, 120, Discrete(choices)), data


def measure(record: Path, tick: Callable[[str], Any]) -> None:
    """Measure every method and write the record; `tick` hears of each part.

    What is compared is timed in one process, in turns; the memory of each method in a process of its own.
    """
    found: dict[str, Any] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:

        def part(told, function, *args):
            result = pool.submit(function, *args).result()
            tick(told)
            return result

        for kind, methods, made in (
            ("methods", METHODS, synthetic(AGENTS)),
            ("battles", BATTLE_METHODS, synthetic_battles()),
        ):
            peaks = [part(f"{kind}, memory of {x}", _peak, methods[x], *made) for x in methods]
            times = {cost: part(f"{kind}, {cost}", _timed, cost, methods, *made) for cost in COSTS}
            found[kind] = {
                name: {"passes": passes(methods[name]), "peak": peak} | {x: times[x][name] for x in COSTS}
                for name, peak in zip(methods, peaks, strict=True)
            }
        sizes = [
            {cost: part(f"{n} agents, {cost}", _timed, cost, GROWING, *synthetic(n)) for cost in GROWN}
            for n in SIZES
        ]
        batches = [part(f"a batch of {n}", _timed, "update", GROWING, *synthetic(AGENTS), n) for n in BATCHES]
    found["agents"] = {name: [{x: times[x][name] for x in GROWN} for times in sizes] for name in GROWING}
    found["batches"] = {name: [times[name] for times in batches] for name in GROWING}
    write_json(record, found | {"versions": versions(), "device": device()})


def _timed(cost, methods, spec, data, batch=BATCH) -> dict[str, float]:
    """One of `COSTS` of each method."""
    if cost == "update":
        trainers = [_trainer(algorithm, spec, data, batch) for algorithm in methods.values()]
        found = seconds_per_update(*trainers, updates=20)
    else:
        policies = [untrained(algorithm, spec, data) for algorithm in methods.values()]
        if cost == "graph":
            found = seconds_per_controller(*policies)
        else:
            found = seconds_per_decision(*policies, data=data, teams=1 if cost == "one" else MANY)
    return dict(zip(methods, found, strict=True))


def _peak(algorithm, spec, data) -> float:
    """The most memory that this process has held, in bytes, once it has trained a little."""
    jax.block_until_ready(_trainer(algorithm, spec, data, BATCH)(50))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _trainer(algorithm, spec, data, batch) -> Callable[[int], Metrics]:
    replay = data.replay(data.view(), algorithm.sampling, spec.actions)
    return trainer(algorithm, spec, replay, batch)


def tables(record: Path) -> str:
    """Markdown: costs of every method, ratios against VGM²P; growth with agents and with the batch."""
    found = read_json(record)
    updates, decisions = (
        {name: [x[key] for x in row] for name, row in found["agents"].items()} for key in GROWN
    )
    parts = [
        _method_table(f"Robots, a team of {AGENTS}", found["methods"]),
        _method_table(f"Battles, a team of {UNITS}", found["battles"]),
        _growth("Milliseconds per update, by the number of agents", SIZES, updates),
        _growth("Milliseconds per decision of one team, by the number of agents", SIZES, decisions),
        _growth("Milliseconds per update, by the batch", BATCHES, found["batches"]),
    ]
    return "\n\n".join(part.markdown() for part in parts)


def seconds_to_good(
    found: Results, methods: dict[str, dict[str, float]]
) -> list[tuple[str, str, float | None]]:
    """(set, method, seconds of training until the mean return reaches the data's 90th percentile or None).

    Updates until then, by the table's learning curves, times what an update costs here. Costs are of six
    agents, so it is told of HalfCheetah's sets only.
    """
    told: list[tuple[str, str, float | None]] = []
    for (name, method), lines in found.lines.items():
        if task(name).team == "6halfcheetah" and method in methods:
            steps = np.array([step for step, _ in lines[0]["curve"]])
            means = np.mean([[value for _, value in line["curve"]] for line in lines], axis=0)
            reached = steps[means >= lines[0]["data_good"]]
            spent = float(methods[method]["update"] * reached[0]) if len(reached) else None
            told.append((short(name), method, spent))
    return told


def _method_table(caption, methods) -> Words:
    base, rows = methods["vgm2p"], []
    for name, row in methods.items():
        cell = lambda key, unit, row=row: f"{unit * row[key]:.3g} ({row[key] / base[key]:.2f} x)"  # noqa: E731
        times = (cell("graph", 1e6), cell("one", 1e6), cell("many", 1e3))
        rows.append((name, cell("update", 1e3), str(row["passes"]), *times, f"{row['peak'] / 1e6:.0f}"))
    acting = (
        "us per decision, one agent's exported graph",
        "us, one team in JAX",
        f"ms, {MANY} teams in JAX",
    )
    heads = ("method", "ms per update", "passes per decision", *acting, "peak memory, MB")
    return Words(caption, heads, rows)


def _growth(caption, sizes, found) -> Words:
    rows = [(name, *(f"{1e3 * value:.3g}" for value in values)) for name, values in found.items()]
    return Words(caption, ("method", *map(str, sizes)), rows)
