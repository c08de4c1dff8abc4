"""What training and acting cost: every method, on synthetic data, in one run.

Robots' methods have the same network sizes; those of battles the sizes of their claim, where what learns
labels has smaller values than others have critics.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
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
GROWING = ("vgm2p", "bc", "flow_bc", "diffusion_bc", "omiga", "mac_flow")
METHODS: dict[str, Algorithm] = {name: ALGORITHMS[name]() for name in CONTINUOUS}
METHODS["diffusion_bc, 15 steps"] = DiffusionBC(steps=15)
BATTLE_METHODS: dict[str, Algorithm] = {name: ONCE.algorithm(name, "2s3z") for name in smax.METHODS}
PARTS = len(METHODS) + len(BATTLE_METHODS) + len(GROWING)  # of a measurement; each is told of when done


def seconds(function: Callable[[], Any], repeats: int, rounds: int = 10) -> float:
    """Seconds of a call, after one that compiles: the least of the medians of some rounds.

    What else a machine does comes in bursts and only ever adds.
    """
    jax.block_until_ready(function())
    times = np.zeros((rounds, repeats))
    for place in np.ndindex(times.shape):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times[place] = time.perf_counter() - began
    return float(np.median(times, axis=1).min())


def seconds_per_update(algorithm: Algorithm, spec: Spec, replay: Replay, batch: int, updates: int) -> float:
    """Of training one seed, sampling included, in chunks of `updates`."""
    go_on = trainer(algorithm, spec, replay, batch)
    return seconds(lambda: go_on(updates), 1, rounds=15) / updates


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


def seconds_per_decision(policy: Policy, data: Dataset, teams: int) -> float:
    """Of all agents of `teams` teams at once by `Policy.act`: NumPy's arrays in and out."""
    shown = jax.tree.map(lambda x: x[None, :teams], data.sight)
    keys = jax.random.split(jax.random.key(1), 1)
    return seconds(lambda: policy.act(shown, keys), 200 if teams == 1 else 3)


def seconds_per_controller(policy: Policy) -> float:
    """Of one agent's exported graph, on one thread of ONNX Runtime: what acts where a team is deployed."""
    made = controller(policy, {}, agent=0, seed=0)
    _, run = onnx(made)
    values = [np.ones(x.shape, x.dtype) for x in made.inputs.values()]
    return seconds(lambda: run(*values), 1000)


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
    """Measure every method, each in a process of its own, and write the record; `tick` hears of each."""
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, Any] = {"methods": {}, "battles": {}, "agents": {}, "batches": {}}
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for name in METHODS:
            found["methods"][name] = pool.submit(_costs, METHODS[name], *synthetic(AGENTS)).result()
            tick(name)
        for name in BATTLE_METHODS:
            found["battles"][name] = pool.submit(_costs, BATTLE_METHODS[name], *synthetic_battles()).result()
            tick(f"{name}, battles")
        for name in GROWING:
            found["agents"][name] = pool.submit(_over_agents, name).result()
            found["batches"][name] = pool.submit(_over_batches, name).result()
            tick(f"{name}, growing")
    write_json(record, found | {"versions": versions(), "device": device()})


def _costs(algorithm, spec, data) -> dict[str, float]:
    replay = data.replay(data.view(), algorithm.sampling, spec.actions)
    update = seconds_per_update(algorithm, spec, replay, BATCH, 50)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    policy = untrained(algorithm, spec, data)
    one, many = (seconds_per_decision(policy, data, teams) for teams in (1, MANY))
    return {
        "update": update,
        "peak": peak,
        "one": one,
        "many": many,
        "graph": seconds_per_controller(policy),
        "passes": passes(algorithm),
    }


def _over_agents(name) -> list[dict[str, float]]:
    found = []
    for agents in SIZES:
        algorithm, (spec, data) = METHODS[name], synthetic(agents)
        replay = data.replay(data.view(), algorithm.sampling, spec.actions)
        update = seconds_per_update(algorithm, spec, replay, BATCH, 20)
        one = seconds_per_decision(untrained(algorithm, spec, data), data, 1)
        found.append({"update": update, "one": one})
    return found


def _over_batches(name) -> list[float]:
    algorithm, (spec, data) = METHODS[name], synthetic(AGENTS)
    replay = data.replay(data.view(), algorithm.sampling, spec.actions)
    return [seconds_per_update(algorithm, spec, replay, batch, 20) for batch in BATCHES]


def tables(record: Path) -> str:
    """Markdown: costs of every method, ratios against VGM²P; growth with agents and with the batch."""
    found = read_json(record)
    updates, decisions = (
        {name: [x[key] for x in row] for name, row in found["agents"].items()} for key in ("update", "one")
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
