"""What decentralised one-step policies reach in coordination games: the table of docs/coordination.md.

    python benchmarks/coordination.py [--updates 2000] [--games xor bridge]

Three seeds of each method on the mixture of teams in `envs/toy.py`, small networks, labels from the whole
episode's return; the mean return of 2,000 episodes per seed, with the noise that was learned.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from vgm2p.actions import Discrete
from vgm2p.algorithms import BC, VGM2P, CategoricalCFG, FilteredBC, Fit, MeanFlowBC
from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.envs import toy
from vgm2p.envs.env import play
from vgm2p.train import advance, init, seed_keys
from vgm2p.types import Spec
from vgm2p.values import EpisodeReturn

PLAIN = {"fit": Fit(hidden=(64, 64), slow_rate=0.01), "noise": 1.0}
LABELLED = PLAIN | {"values": EpisodeReturn(), "warmup": 200}
METHODS: dict[str, Algorithm] = {
    "bc": BC(**PLAIN),
    "meanflow_bc": MeanFlowBC(**PLAIN),
    "filtered_bc": FilteredBC(**LABELLED),
    "categorical_cfg": CategoricalCFG(**LABELLED),
    "vgm2p": VGM2P(**LABELLED),
    "vgm2p, w = 2": VGM2P(guidance=2.0, **LABELLED),
    "meanflow_bc, shared noise": MeanFlowBC(shared_noise=True, **PLAIN),
    "filtered_bc, shared noise": FilteredBC(shared_noise=True, **LABELLED),
    "vgm2p, shared noise": VGM2P(shared_noise=True, **LABELLED),
}


@dataclass
class Options:
    updates: int = 2_000
    games: tuple[str, ...] = ("matching", "xor", "cover", "bridge")


def returns(algorithm: Algorithm, game: str, updates: int, seeds=(0, 1, 2), episodes=2_000) -> list[float]:
    """The mean return of each seed after `updates` updates of 128 transitions."""
    data = toy.dataset(game, 4_096, seed=0)
    view, agents = data.view(), tuple(f"agent_{i}" for i in range(data.action.shape[1]))
    env = toy.make_env(game, episodes)
    spec = Spec(len(agents), view.obs_dim, view.mean.shape[-1], Discrete(env.choices))
    replay, keys = data.replay(view, algorithm.sampling, spec.actions), seed_keys(seeds)
    states, _ = advance(
        algorithm, spec, init(algorithm, spec, keys), replay, keys, jnp.int32(updates), batch=128
    )
    act = jax.jit(lambda params, sight, key: algorithm.act(spec, params, view.obs(sight), key))
    found = []
    for i in range(len(seeds)):
        params = jax.tree.map(lambda x, i=i: x[i], states.target)
        choose = lambda sight, step, p=params: np.asarray(act(p, sight, jax.random.key(step)))  # noqa: E731
        found.append(float(play(env, choose, 0).returns.mean()))
    return found


def main(options: Options) -> None:
    print("| method | " + " | ".join(options.games) + " |\n|---|" + "---|" * len(options.games))
    for name, algorithm in METHODS.items():
        cells = [returns(algorithm, game, options.updates) for game in options.games]
        texts = [f"{np.mean(x):.2f} ({min(x):.2f} to {max(x):.2f})" for x in cells]
        print(f"| {name} | " + " | ".join(texts) + " |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
