"""Latency of one decision of the whole team: one jump against 10 and 100, in jitted JAX and in plain NumPy.

    python benchmarks/act.py [--task twin/6halfcheetah-medium] [--hidden 256 256]

NumPy evaluates the same network with the same parameters; both must agree. Ratios are against one jump.
"""

import time
from dataclasses import dataclass, replace

import jax
import numpy as np
import tyro

from vgm2p.algorithms import VGM2P, Fit
from vgm2p.runs import Experiment, prepare
from vgm2p.types import Sight


@dataclass
class Options:
    task: str = "twin/6halfcheetah-medium"
    hidden: tuple[int, ...] = (256, 256)
    repeats: int = 300


def microseconds(function, repeats: int) -> float:
    """Median microseconds of a call, after a few that warm up."""
    for _ in range(5):
        function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return 1e6 * sorted(times)[repeats // 2]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def numpy_act(params, obs, noise, guidance, steps):
    """The team's actions with nothing but NumPy, from the policy's arrays."""
    layers = [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in params.policy.net.layers]
    z, n = noise, len(obs)
    condition = np.tile(np.array([1.0, np.log(guidance)], np.float32), (n, 1))
    for k in range(steps, 0, -1):
        interval = 1 / steps if k == 1 else 0.0  # marginal velocities carry all jumps but the last
        times = np.tile(np.array([k / steps, interval], np.float32), (n, 1))
        waves = [times, np.sin(np.pi * times), np.cos(np.pi * times)]
        x = np.concatenate([z, *waves, obs, condition], -1).astype(np.float32)
        for weight, bias in layers[:-1]:
            x = gelu(x @ weight + bias)
        x = x @ layers[-1][0] + layers[-1][1]
        z = z - (z - x) / max(k / steps, 0.1) / steps
    return np.clip(z, -1, 1)


def main(options: Options) -> None:
    algorithm = VGM2P(fit=Fit(hidden=options.hidden))
    setup = prepare(Experiment(options.task, algorithm, seeds=(0,)))
    params = algorithm.init(setup.spec, jax.random.key(0)).target
    obs = setup.view.obs(Sight(np.zeros(setup.spec.state_dim, np.float32)))
    key = jax.random.key(1)
    noise = np.asarray(algorithm.noise * jax.random.normal(key, (setup.spec.n, setup.spec.action_dim)))
    base = {}
    for steps in (1, 10, 100):
        chosen = replace(algorithm, steps=steps)
        act = jax.jit(lambda p, o, k, chosen=chosen: chosen.act(setup.spec, p, o, k))
        plain = numpy_act(params, np.asarray(obs), noise, chosen.guidance, steps)
        assert np.allclose(plain, act(params, obs, key), atol=1e-4), "NumPy and JAX disagree"
        kinds = {
            "jax": lambda act=act: jax.block_until_ready(act(params, obs, key)),
            "numpy": lambda s=steps: numpy_act(params, np.asarray(obs), noise, algorithm.guidance, s),
        }
        for kind, function in kinds.items():
            found = microseconds(function, max(20, options.repeats // steps))
            base.setdefault(kind, found)
            ratio = found / base[kind]
            print(f"{kind:6s} {steps:3d} jumps {found:9.0f} us per decision  {ratio:6.1f} x one jump")


if __name__ == "__main__":
    main(tyro.cli(Options))
