"""Steps per second of battles with random legal choices, side by side: as teams are scored, and in JaxMARL.

    python benchmarks/smax.py [--scenarios 3m 2s3z] [--copies 64]

A step is one of one battle, the scripted enemy and all views included; compilation is not counted. Ours are
battles from their first step to their last, choices made outside of JAX: one that has ended waits, uncounted,
for the longest. JaxMARL's are as many copies under `vmap`, choices made inside, each begun anew when it ends.
"""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from vgm2p.envs.env import play
from vgm2p.envs.smax import HeuristicEnemySMAX, SmaxVec, map_name_to_scenario


@dataclass
class Options:
    scenarios: tuple[str, ...] = ("3m", "8m", "2s3z", "5m_vs_6m", "smacv2_5_units", "smacv2_10_units")
    copies: int = 64
    steps: int = 50


def ours(scenario: str, copies: int) -> float:
    """Of `copies` battles, stepped together until all have ended."""
    env, rng = SmaxVec(scenario, copies), np.random.default_rng(0)
    act = lambda sight, step: (rng.random(sight.legal.shape) * sight.legal).argmax(-1)  # noqa: E731
    play(env, act, 0)
    began = time.perf_counter()
    steps = int(play(env, act, 1).lengths.sum())
    return steps / (time.perf_counter() - began)


def theirs(scenario: str, copies: int, steps: int) -> float:
    """Of `copies` battles, by JaxMARL's own step under `vmap`."""
    env = HeuristicEnemySMAX(scenario=map_name_to_scenario(scenario))

    def one(key, world):
        act_key, step_key = jax.random.split(key)
        legal = env.get_avail_actions(world)
        keys = dict(zip(legal, jax.random.split(act_key, len(legal)), strict=True))
        choice = {n: jax.random.categorical(keys[n], jnp.log(x.astype(float))) for n, x in legal.items()}
        return env.step(step_key, world, choice)[:2]

    step = jax.jit(jax.vmap(one))
    _, world = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), copies))
    early, *keys = list(jax.random.split(jax.random.key(1), (steps + 1, copies)))
    for _ in range(3):
        _, world = jax.block_until_ready(step(early, world))
    began = time.perf_counter()
    for key in keys:
        obs, world = step(key, world)
    jax.block_until_ready(obs)
    return steps * copies / (time.perf_counter() - began)


def main(options: Options) -> None:
    for scenario in options.scenarios:
        scored, plain = ours(scenario, options.copies), theirs(scenario, options.copies, options.steps)
        told = f"{scored / plain:5.2f} x JaxMARL's ({plain:,.0f})"
        print(f"{scenario:16s} {scored:8,.0f} steps/s  {told}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
