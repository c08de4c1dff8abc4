"""The ladder: behaviour policies of rising skill that ship with the package, and the mixes made of them.

One folder per robot holds a dozen PPO checkpoints (`00.safetensors`, ...) and `card.json`: how each was
trained, what it returns when it acts with its own Gaussian noise, and each tier's share of episodes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from numpy import ndarray
from safetensors.numpy import save_file
from scipy.optimize import minimize

from vgm2p.behaviour.ppo import Actor
from vgm2p.data.store import read_json, read_tensors, replace_file
from vgm2p.envs.mujoco import MujocoVec
from vgm2p.nets import MLP

COPIES = 250  # episodes rolled out side by side; part of what decides the bytes of a twin


def folder(robot: str) -> Path:
    """Where the shipped ladder of a robot lies."""
    return Path(str(files("vgm2p.behaviour") / "ladder" / robot))


def card(robot: str) -> dict:
    """The card of a robot's ladder."""
    return read_json(folder(robot) / "card.json")


def save_actor(actor: Actor, path: Path) -> None:
    """Write a behaviour policy."""
    layers = enumerate(actor.net.layers)
    arrays = {f"{i}.{name}": getattr(layer, name) for i, layer in layers for name in ("weight", "bias")}
    arrays |= {name: getattr(actor, name) for name in ("log_std", "mean", "std")}
    replace_file(path, lambda p: save_file({k: np.asarray(v, np.float32) for k, v in arrays.items()}, p))


def load_actor(path: Path) -> Actor:
    """Read a behaviour policy."""
    arrays = {k: jnp.asarray(v) for k, v in read_tensors(path).items()}
    depth = sum(k.endswith(".weight") for k in arrays)
    hidden = tuple(arrays[f"{i}.bias"].shape[0] for i in range(depth - 1))
    inputs, outputs = len(arrays["mean"]), len(arrays["log_std"])
    net = MLP(inputs, hidden, outputs, jax.random.key(0), activation="tanh")
    leaves = [arrays[f"{i}.{name}"] for i in range(depth) for name in ("weight", "bias")]
    net = jax.tree.unflatten(jax.tree.structure(net), leaves)
    return Actor(net, *(arrays[name] for name in ("log_std", "mean", "std")))


@dataclass
class Log:
    """Episodes in order: lists of per-episode arrays."""

    state: list[Float[ndarray, "t1 s"]]
    action: list[Float[ndarray, "t a"]]
    reward: list[Float[ndarray, " t"]]
    terminated: list[bool]

    def append(self, episode: tuple) -> None:
        """Add one episode: its states, actions, rewards, and whether it truly ended."""
        state, action, reward, terminated = episode
        self.state.append(state)
        self.action.append(action)
        self.reward.append(reward)
        self.terminated.append(terminated)


def roll_out(
    env: MujocoVec,
    actor: Actor,
    transitions: int,
    length: float,
    seed: int,
    tick: Callable[[int], Any] = lambda n: None,
) -> Log:
    """Whole episodes of a noisy policy, in waves, until they hold at least `transitions` transitions.

    Episodes are kept in the order of their start, so that short ones are not preferred. `length`, the
    expected length of an episode, only decides how many are started in a wave. `tick` is called with the
    number of transitions that each wave adds.
    """
    log, total, wave = Log([], [], [], []), 0, 0
    while total < transitions:
        count = min(env.copies, 1 + math.ceil((transitions - total) / length))
        key = jax.random.fold_in(jax.random.key(seed), wave)
        before = total
        for episode in play_wave(env, actor, count, seed + wave * env.copies, key):
            if total >= transitions:
                break
            log.append(episode)
            total += len(episode[2])
        tick(total - before)
        wave += 1
    return log


def play_wave(env: MujocoVec, actor: Actor, count: int, seed: int, key: PRNGKeyArray) -> list[tuple]:
    """One episode in the first `count` copies, as (state, action, reward, terminated) tuples."""
    state, lengths = env.reset(seed), np.zeros(env.copies, int)
    env.running[count:] = False
    states: list = [state.astype(np.float32)]
    actions: list = []
    rewards: list = []
    ended = np.zeros(env.copies, bool)
    while env.running.any():
        lengths += env.running
        step_key = jax.random.fold_in(key, len(actions))
        action = np.asarray(actor.sample(jnp.asarray(states[-1]), step_key))
        state, reward, terminated, _ = env.step(action)
        ended |= terminated
        states.append(state.astype(np.float32))
        actions.append(action)
        rewards.append(reward.astype(np.float32))
    state, action, reward = (np.stack(x, axis=1) for x in (states, actions, rewards))
    return [
        (state[i, : n + 1], action[i, :n], reward[i, :n], bool(ended[i]))
        for i, n in enumerate(lengths[:count])
    ]


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
    best = minimize(cost, nearest, method="Nelder-Mead", options={"maxiter": 40_000, "maxfev": 40_000})
    shares = np.round(share(best.x), 3)
    return shares / shares.sum()
