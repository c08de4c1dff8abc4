"""Steps per second of battles with random legal choices: many side by side against JaxMARL's one at a time.

    python benchmarks/smax.py [--scenarios 3m 2s3z] [--copies 64]

A step is one of one battle, the scripted enemy and all views included; compilation is not counted.
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
    """Of `copies` battles, stepped together."""
    env, rng = SmaxVec(scenario, copies), np.random.default_rng(0)
    act = lambda sight, step: (rng.random(sight.legal.shape) * sight.legal).argmax(-1)  # noqa: E731
    play(env, act, 0)
    began = time.perf_counter()
    steps = copies * int(play(env, act, 1).lengths.max())
    return steps / (time.perf_counter() - began)


def theirs(scenario: str, steps: int) -> float:
    """Of one battle, by JaxMARL's own interface; every agent stays."""
    env = HeuristicEnemySMAX(scenario=map_name_to_scenario(scenario))
    stay = {name: jnp.asarray(4) for name in env.agents}
    step = jax.jit(lambda key, world: env.step_env(key, world, stay)[:2])
    _, world = env.reset(jax.random.key(0))
    early, *keys = list(jax.random.split(jax.random.key(1), steps + 1))
    for _ in range(3):
        _, world = step(early, world)
    began = time.perf_counter()
    for key in keys:
        obs, world = step(key, world)
    jax.block_until_ready(obs)
    return steps / (time.perf_counter() - began)


def main(options: Options) -> None:
    for scenario in options.scenarios:
        many, one = ours(scenario, options.copies), theirs(scenario, options.steps)
        print(
            f"{scenario:16s} {many:8,.0f} steps/s  {many / one:5.1f} x one at a time ({one:,.0f})", flush=True
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
