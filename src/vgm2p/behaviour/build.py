"""Builds a ladder from nothing: train with PPO, measure every checkpoint, keep a dozen, fit the tiers."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vgm2p.behaviour.ladder import enclose, fit_shares, play_wave, save_actor
from vgm2p.behaviour.ppo import PPO, Actor, train
from vgm2p.data.card import versions
from vgm2p.data.store import write_json
from vgm2p.envs.mujoco import MujocoVec
from vgm2p.tasks import TEAMS, TIERS, reference

ROLLED = tuple(tier for tier in TIERS if tier != "medium-expert")  # that one is a union


@dataclass(frozen=True)
class Recipe:
    """How one robot's ladder is trained. Seeds were chosen among a few for reaching the expert's return.

    trainings: PPO settings; each trains for `iterations`, and all its checkpoints are candidates.
    screened: episodes per candidate, for a choice of rungs.
    measured: episodes per rung that is kept: enough for an error of about 2 % of its mean.
    steady: of candidates about equally good, keep the one whose return varies least.
    """

    iterations: int
    seed: int
    rungs: int = 12
    every: int = 5  # iterations between candidates
    screened: int = 32
    measured: int = 128
    steady: bool = False
    trainings: tuple[PPO, ...] = (PPO(),)


RECIPES = {
    "halfcheetah": Recipe(iterations=160, seed=4, screened=128, measured=512),
    "hopper": Recipe(iterations=500, seed=2, rungs=16, screened=64, measured=256),
    # The published ants hardly ever fall (2055 +- 22), so ours learn to be steady at a given speed.
    "ant": Recipe(
        iterations=240,
        seed=1,
        every=10,
        steady=True,
        trainings=tuple(PPO(reward_goal=goal) for goal in (0.95, 1.42, 2.06)),
    ),
}


def build(robot: str, out: Path, say: Callable[[str], Any] = print) -> dict:
    """Train and write the ladder of `robot` into `out`; returns its card. Takes some minutes."""
    recipe, team = RECIPES[robot], next(name for name, team in TEAMS.items() if team.robot == robot)
    candidates = [c for ppo in recipe.trainings for c in _train(robot, recipe, ppo, say)]
    published = reference()["datasets"][team]
    roughly = _measure(robot, [actor for _, actor in candidates], recipe.screened)
    kept = _choose(roughly, published, recipe)
    measured = _measure(robot, [candidates[i][1] for i in kept], recipe.measured)
    rungs = []
    for rung, (index, measure) in enumerate(zip(kept, measured, strict=True)):
        iteration, actor = candidates[index]
        save_actor(actor, out / f"{rung:02d}.safetensors")
        rungs.append({"file": f"{rung:02d}.safetensors", "iteration": iteration, **measure})
        say(f"rung {rung:2d}: iteration {iteration:3d}, return {measure['mean']:.0f} +- {measure['std']:.0f}")
    card = {
        "robot": robot,
        "recipe": asdict(recipe),
        "versions": versions(),
        "rungs": rungs,
        "tiers": {tier: _tier(rungs, tier, published) for tier in ROLLED},
    }
    write_json(out / "card.json", card)
    return card


def _train(robot, recipe, ppo, say) -> list[tuple[int, Actor]]:
    env = MujocoVec(robot, ppo.copies)
    candidates = []
    latest = float("nan")  # episodes of 1000 steps do not end in every iteration
    for iteration, actor, score in train(env, ppo, recipe.iterations, recipe.seed):
        latest = score if score == score else latest
        if iteration % recipe.every == 0 or iteration == recipe.iterations - 1:
            candidates.append((iteration, actor))
            say(f"iteration {iteration:3d} of {recipe.iterations}: return {latest:.0f}")
    env.close()
    return candidates


def _measure(robot, actors, episodes) -> list[dict[str, float]]:
    """What each policy returns with its own noise, over `episodes` episodes."""
    env, measures = MujocoVec(robot, episodes), []
    for actor in actors:
        rewards = [reward for _, _, reward, _ in play_wave(env, actor, episodes, 0, jax.random.key(0))]
        returns = np.array([reward.sum(dtype=np.float64) for reward in rewards])
        lengths = np.array([len(reward) for reward in rewards])
        figures = {"mean": returns.mean(), "std": returns.std(), "length": lengths.mean()}
        measures.append({name: round(float(value), 1) for name, value in figures.items()})
    env.close()
    return measures


def _choose(measures, published, recipe) -> list[int]:
    """Candidates nearest to evenly spaced returns, up to the expert's best, and to each tier's mean."""
    means, stds = (np.array([m[key] for m in measures]) for key in ("mean", "std"))
    top = min(means.max(), 1.05 * published["expert"]["max"])
    wanted, step = np.linspace(max(means.min(), -500.0), top, recipe.rungs, retstep=True)
    wanted = [*wanted, *(published[tier]["mean"] for tier in ROLLED)]
    distance = [np.abs(means - x) for x in wanted]
    if recipe.steady:
        distance = [np.where(d < step / 2, stds / stds.max() * step / 2, d) for d in distance]
    return sorted({int(d.argmin()) for d in distance}, key=lambda i: means[i])


def _tier(rungs, tier, published) -> dict[str, float]:
    """Each rung's share of a tier's episodes.

    Expert and medium are one policy, or the two whose means enclose the published one; replay mixes all
    rungs that the published maximum does not rule out.
    """
    mean, std = (np.array([rung[key] for rung in rungs]) for key in ("mean", "std"))
    goal = published[tier]
    if tier == "medium-replay":
        usable = np.flatnonzero(mean <= 1.1 * goal["max"])
        shares = fit_shares(mean[usable], std[usable], goal["mean"], goal["std"])
    else:
        usable, shares = (np.array(x) for x in enclose(mean, goal["mean"]))
    return {rungs[i]["file"]: round(float(s), 3) for i, s in zip(usable, shares, strict=True) if s >= 0.001}
