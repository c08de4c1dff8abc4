"""Speed of making and loading data, against Gymnasium stepping one environment, and memory of training on it.

    python benchmarks/data.py [--task twin/6halfcheetah-medium] [--transitions 100000]

The memory figure is the peak of a fresh process that loads the task's own data and trains a few updates,
beside the size of the data's arrays.
"""

import multiprocessing
import resource
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import jax.numpy as jnp
import numpy as np
import tyro

from vgm2p.algorithms import VGM2P
from vgm2p.behaviour import ladder
from vgm2p.data import store
from vgm2p.envs.mujoco import MujocoVec
from vgm2p.runs import Experiment, prepare
from vgm2p.tasks import task
from vgm2p.train import advance, init, seed_keys

IDS = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "ant": "Ant-v4"}


@dataclass
class Options:
    task: str = "twin/6halfcheetah-medium"
    transitions: int = 100_000


def gymnasium_speed(robot: str, steps: int = 3000) -> float:
    """Transitions per second of Gymnasium's own environment with random torques."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gymnasium.make(IDS[robot])
    env.reset(seed=0)
    rng, began = np.random.default_rng(0), time.perf_counter()
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, env.action_space.shape))
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - began)


def peak_of_training(name: str) -> int:
    """Most bytes that this process ever held, after a few updates of VGM²P; call it in a fresh one."""
    setup, keys = prepare(Experiment(name, VGM2P(), seeds=(0,))), seed_keys((0,))
    states = init(VGM2P(), setup.spec, keys)
    advance(VGM2P(), setup.spec, states, setup.replay(0), keys, jnp.int32(5), batch=64)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(options: Options) -> None:
    where = task(options.task)
    card = ladder.card(where.body)
    file = max(card["tiers"]["medium"], key=card["tiers"]["medium"].get)
    rung = next(r for r in card["rungs"] if r["file"] == file)
    actor = ladder.load_actor(ladder.folder(where.body) / file)
    env, began = MujocoVec(where.body, ladder.COPIES), time.perf_counter()
    ladder.roll_out(env, lambda: actor, options.transitions, rung["length"], 0)
    ours, theirs = options.transitions / (time.perf_counter() - began), gymnasium_speed(where.body)
    print(f"make: {ours:,.0f} transitions/s, Gymnasium alone {theirs:,.0f}: {ours / theirs:.1f} x")

    began = time.perf_counter()
    dataset = where.load_data()
    load = time.perf_counter() - began
    size = sum(getattr(dataset, name).nbytes for name in store.FIELDS)
    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(Path(folder) / "x.npz", **{name: getattr(dataset, name) for name in store.FIELDS})
        began = time.perf_counter()
        with np.load(Path(folder) / "x.npz") as file:
            _ = {name: file[name] for name in store.FIELDS}
        other = time.perf_counter() - began
    rows = len(dataset.reward)
    print(f"load and verify {rows:,} transitions: {load:.2f} s; compressed NumPy: {other / load:.1f} x that")

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        peak = fresh.submit(peak_of_training, options.task).result()
    print(f"memory: data {size / 1e6:.0f} MB, peak of training {(peak - size) / 1e6:.0f} MB more")


if __name__ == "__main__":
    main(tyro.cli(Options))
