"""The ladder: behaviour policies of rising skill that ship with the package, and the mixes made of them.

One folder per robot or scenario holds PPO checkpoints (`00.safetensors`, ...) and `card.json`: how each was
trained, what it returns when it acts with its own noise, and each tier's share of episodes.
"""

import math
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # its parts load when they are first used
from jaxtyping import Float, PRNGKeyArray
from numpy import ndarray
from safetensors.numpy import save_file

from vgm2p.behaviour.ppo import Actor
from vgm2p.data.store import read_json, read_tensors, replace_file
from vgm2p.envs.env import VecEnv
from vgm2p.nets import MLP
from vgm2p.types import Sight

COPIES = 250  # episodes rolled out side by side; part of what decides the bytes of a twin


def folder(body: str) -> Path:
    """Where the shipped ladder of a robot or scenario lies."""
    return Path(str(files("vgm2p.behaviour") / "ladder" / body))


def card(body: str) -> dict:
    """The card of a robot's or scenario's ladder."""
    return read_json(folder(body) / "card.json")


def save_actor(actor: Actor, path: Path) -> None:
    """Write a behaviour policy."""
    layers = enumerate(actor.net.layers)
    arrays = {f"{i}.{name}": getattr(layer, name) for i, layer in layers for name in ("weight", "bias")}
    rest = {name: getattr(actor, name) for name in ("log_std", "mean", "std")}
    arrays |= {name: x for name, x in rest.items() if x is not None}
    replace_file(path, lambda p: save_file({k: np.asarray(v, np.float32) for k, v in arrays.items()}, p))


def load_actor(path: Path) -> Actor:
    """Read a behaviour policy."""
    arrays = {k: jnp.asarray(v) for k, v in read_tensors(path).items()}
    depth = sum(k.endswith(".weight") for k in arrays)
    hidden = tuple(arrays[f"{i}.bias"].shape[0] for i in range(depth - 1))
    sizes = len(arrays["mean"]), hidden, len(arrays[f"{depth - 1}.bias"])
    net = MLP(*sizes, jax.random.key(0), activation="tanh")
    leaves = [arrays[f"{i}.{name}"] for i in range(depth) for name in ("weight", "bias")]
    net = jax.tree.unflatten(jax.tree.structure(net), leaves)
    return Actor(net, arrays.get("log_std"), arrays["mean"], arrays["std"])


class Player(Protocol):
    """A team that acts: a policy, or a script that remembers what it did."""

    def act(self, sight: Sight, key: PRNGKeyArray) -> Any:
        """Actions [copies, n, a], or choices [copies, n]."""


class Episode(NamedTuple):
    """One episode of L steps: what was shown L + 1 times, L actions and rewards, and how it ended."""

    sight: Sight
    action: ndarray
    reward: Float[ndarray, " t"]
    terminated: bool
    won: bool | None


def roll_out(
    env: VecEnv,
    start: Callable[[], Player],
    transitions: int,
    length: float,
    seed: int,
    tick: Callable[[int], Any] = lambda n: None,
) -> list[Episode]:
    """Whole episodes of a noisy team, in waves, until they hold at least `transitions` transitions.

    `start` gives the team that plays a wave. Episodes are kept in the order of their start, so that short
    ones are not preferred. `length`, the expected length of an episode, only decides how many are started in
    a wave. `tick` is called with the number of transitions that each wave adds.
    """
    log: list[Episode] = []
    total, wave = 0, 0
    while total < transitions:
        count = min(env.copies, 1 + math.ceil((transitions - total) / length))
        key = jax.random.fold_in(jax.random.key(seed), wave)
        played = play_wave(env, start(), count, seed + wave * env.copies, key)
        reached = np.cumsum([len(episode.reward) for episode in played])
        needed = int(np.searchsorted(reached, transitions - total)) + 1
        log += played[:needed]
        tick(int(reached[:needed][-1]))
        total += int(reached[:needed][-1])
        wave += 1
    return log


def play_wave(env: VecEnv, player: Player, count: int, seed: int, key: PRNGKeyArray) -> list[Episode]:
    """One episode in the first `count` copies."""
    sight, lengths = env.reset(seed), np.zeros(env.copies, int)
    env.running[count:] = False
    sights: list[Sight] = [_compact(sight)]
    actions: list[ndarray] = []
    rewards: list[ndarray] = []
    ended = np.zeros(env.copies, bool)
    while env.running.any():
        lengths += env.running
        action = np.asarray(player.act(sights[-1], jax.random.fold_in(key, len(actions))))
        sight, reward, terminated, _ = env.step(action)
        ended |= terminated
        sights.append(_compact(sight))
        actions.append(action)
        rewards.append(reward.astype(np.float32))
    shown = jax.tree.map(lambda *x: np.stack(x, axis=1), *sights)
    action, reward = np.stack(actions, axis=1), np.stack(rewards, axis=1)
    return [
        Episode(
            jax.tree.map(lambda x, i=i, n=n: x[i, : n + 1], shown),
            action[i, :n],
            reward[i, :n],
            bool(ended[i]),
            None if env.won is None else bool(env.won[i]),
        )
        for i, n in enumerate(lengths[:count])
    ]


def _compact(sight: Sight) -> Sight:
    """What is shown in the numbers of a dataset: states of four bytes, agents' own observations of two."""
    obs = None if sight.obs is None else sight.obs.astype(np.float16)
    return Sight(sight.state.astype(np.float32), obs, sight.legal)


def enclose(mean: Float[ndarray, " k"], goal: float) -> tuple[list[int], list[float]]:
    """(indices, shares): the one entry within 3 % of `goal`, or the two that enclose it, mixed to meet it."""
    nearest = int(np.abs(mean - goal).argmin())
    if abs(mean[nearest] / goal - 1) < 0.03 or not mean.min() < goal < mean.max():
        return [nearest], [1.0]
    below = int(np.where(mean < goal, mean, -np.inf).argmax())
    above = int(np.where(mean > goal, mean, np.inf).argmin())
    share = (goal - mean[below]) / (mean[above] - mean[below])
    return [below, above], [1 - share, share]


def fit_shares(
    mean: Float[ndarray, " k"], std: Float[ndarray, " k"], goal_mean: float, goal_std: float
) -> Float[ndarray, " k"]:
    """Shares of episodes over rungs whose mix has the wanted mean and, as near as it can, spread.

    Minimises the squared logarithmic errors of mean and standard deviation, the mean's a thousandfold,
    with a slight preference for even shares; deterministic.
    """

    def share(logits):
        weights = np.exp(logits - logits.max())
        return weights / weights.sum()

    def cost(logits):
        p = share(logits)
        mix = p @ mean
        spread = np.sqrt(p @ (std**2 + mean**2) - mix**2)
        if mix <= 0:
            return 1e6
        misfit = 1000 * np.log(mix / goal_mean) ** 2 + np.log(spread / goal_std) ** 2
        return misfit + 0.01 * len(p) * (p**2).sum()

    nearest = -np.abs(mean - goal_mean) / goal_std
    best = scipy.optimize.minimize(
        cost, nearest, method="Nelder-Mead", options={"maxiter": 40_000, "maxfev": 40_000}
    )
    shares = np.round(share(best.x), 3)
    return shares / shares.sum()
