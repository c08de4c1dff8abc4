"""Milliseconds per update of every algorithm, and the share of this machine's float32 matmul peak it reaches.

    python benchmarks/update.py [--task twin/6halfcheetah-medium] [--batch 64] [--updates 200]

The peak is measured in the same run (a 1024 x 1024 product). Floating-point operations are counted by XLA on
the compiled update. Methods take turns; ratios are against `meanflow_bc` in the same run.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import tyro

from vgm2p.algorithms import ALGORITHMS, CONTINUOUS
from vgm2p.claims.efficiency import seconds, seconds_per_update, trainer
from vgm2p.runs import Experiment, prepare
from vgm2p.types import Metrics


@dataclass
class Options:
    task: str = "twin/6halfcheetah-medium"
    batch: int = 64
    updates: int = 200


def matmul_peak() -> float:
    """Float32 operations per second of a large matrix product."""
    n = 1024
    x = jnp.ones((n, n))
    product = jax.jit(lambda x: x @ x)
    (spent,) = seconds(lambda: product(x), repeats=20)
    return 2 * n**3 / spent


def prepared(algorithm, options: Options) -> tuple[Callable[[int], Metrics], float]:
    """(training, float32 operations of one update)."""
    setup = prepare(Experiment(options.task, algorithm, seeds=(0,), batch=options.batch))
    replay = setup.replay(0)
    state, key = algorithm.init(setup.spec, jax.random.key(0)), jax.random.key(1)
    batch = replay.sample(setup.spec.actions, algorithm.sampling.pool * options.batch, key)
    one = jax.jit(lambda s, b, k: algorithm.update(setup.spec, s, b, k)).lower(state, batch, key).compile()
    return trainer(algorithm, setup.spec, replay, options.batch), one.cost_analysis()["flops"]


def main(options: Options) -> None:
    peak = matmul_peak()
    print(f"{jax.devices()[0].device_kind}: float32 matmul peak {peak / 1e9:.0f} GFLOP/s")
    trainers, operations = zip(*(prepared(ALGORITHMS[name](), options) for name in CONTINUOUS), strict=True)
    found = seconds_per_update(*trainers, updates=options.updates)
    base = found[CONTINUOUS.index("meanflow_bc")]
    for name, per_update, flops in zip(CONTINUOUS, found, operations, strict=True):
        ratio, share = per_update / base, flops / per_update / peak
        print(
            f"{name:12s} {1e3 * per_update:7.2f} ms/update  {share:4.0%} of peak  {ratio:5.2f} x meanflow_bc"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
