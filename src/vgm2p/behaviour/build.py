"""Builds a ladder from nothing: train with PPO, measure every checkpoint, keep a dozen, fit the tiers."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vgm2p.behaviour.ladder import enclose, fit_shares, play_wave, save_actor
from vgm2p.behaviour.ppo import PPO, Actor, train
from vgm2p.data.card import versions
from vgm2p.data.store import write_json
from vgm2p.errors import unknown
from vgm2p.tasks import TASKS, TEAMS, reference

ROLLED = ("expert", "medium", "medium-replay")  # medium-expert is a union
WIN_RATES = {"good": 0.9, "medium": 0.5, "poor": 0.05}  # what a battle's tiers aim at
RETURN_SHARES = {"good": 1.0, "medium": 0.8, "poor": 0.5}  # and where hardly a battle is ever won


@dataclass(frozen=True)
class Recipe:
    """How one ladder is trained. Robots' seeds were chosen among a few for reaching the expert's return.

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


BATTLE_ITERATIONS = {
    "3m": 200,
    "8m": 800,
    "2s3z": 300,
    "5m_vs_6m": 600,
    "smacv2_5_units": 600,
    "smacv2_10_units": 600,
}
RECIPES: dict[str, Recipe] = {
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
_BATTLE = PPO(minibatch=1024, epochs=4, learning_rate=5e-4, entropy=0.01)
RECIPES |= {
    scenario: Recipe(iterations, seed=0, rungs=8, screened=64, measured=512, trainings=(_BATTLE,))
    for scenario, iterations in BATTLE_ITERATIONS.items()
}


def build(body: str, out: Path, say: Callable[[str], Any] = print) -> dict:
    """Train and write the ladder of a robot or scenario into `out`; returns its card. Takes some minutes."""
    if body not in RECIPES:
        raise unknown("robot or scenario", body, RECIPES)
    recipe, team = RECIPES[body], next(name for name, team in TEAMS.items() if team.body == body)
    where = next(task for task in TASKS.values() if task.team == team)
    candidates = [c for ppo in recipe.trainings for c in _train(where, recipe, ppo, say)]
    roughly = _measure(where, [actor for _, actor in candidates], recipe.screened)
    kept = _choose_battle(roughly, recipe) if where.is_battle else _choose(roughly, _goals(team), recipe)
    measured = _measure(where, [candidates[i][1] for i in kept], recipe.measured)
    rungs = []
    for rung, (index, measure) in enumerate(zip(kept, measured, strict=True)):
        iteration, actor = candidates[index]
        save_actor(actor, out / f"{rung:02d}.safetensors")
        rungs.append({"file": f"{rung:02d}.safetensors", "iteration": iteration, **measure})
        won = f", won {measure['win_rate']:.0%}" if where.is_battle else ""
        say(f"rung {rung:2d}: iteration {iteration:3d}, return {_told(measure)}{won}")
    tiers = (
        _battle_tiers(rungs, team) if where.is_battle else {t: _tier(rungs, t, _goals(team)) for t in ROLLED}
    )
    card = {"body": body, "recipe": asdict(recipe), "versions": versions(), "rungs": rungs, "tiers": tiers}
    write_json(out / "card.json", card)
    return card


def _goals(team):
    return reference()["datasets"][team]


def _told(measure):
    digits = 0 if abs(measure["mean"]) > 10 else 2
    return f"{measure['mean']:.{digits}f} +- {measure['std']:.{digits}f}"


def _train(where, recipe, ppo, say) -> list[tuple[int, Actor]]:
    env = where.make_env(ppo.copies)
    candidates = []
    latest = float("nan")  # a robot's episodes of 1000 steps do not end in every iteration
    for iteration, actor, score in train(env, ppo, recipe.iterations, recipe.seed):
        latest = score if score == score else latest
        if iteration % recipe.every == 0 or iteration == recipe.iterations - 1:
            candidates.append((iteration, actor))
            say(f"iteration {iteration:3d} of {recipe.iterations}: return {latest:.2f}")
    env.close()
    return candidates


def _measure(where, actors, episodes) -> list[dict[str, float]]:
    """What each policy returns (and wins) with its own noise, over `episodes` episodes."""
    env, measures = where.make_env(episodes), []
    for actor in actors:
        wave = play_wave(env, actor, episodes, 0, jax.random.key(0))
        returns = np.array([e.reward.sum(dtype=np.float64) for e in wave])
        lengths = np.array([len(e.reward) for e in wave])
        figures, digits = {"mean": returns.mean(), "std": returns.std(), "length": lengths.mean()}, 1
        if where.is_battle:
            figures, digits = figures | {"win_rate": np.mean([e.won for e in wave])}, 3
        measures.append({name: round(float(value), digits) for name, value in figures.items()})
    env.close()
    return measures


def _choose_battle(measures, recipe) -> list[int]:
    """Candidates nearest to evenly spaced skills up to the best, and to each tier's."""
    skill, goals = _skill(measures)
    wanted = [*np.linspace(skill.min(), skill.max(), recipe.rungs), *goals.values()]
    nearest = {int(np.abs(skill - x).argmin()) for x in wanted}
    return sorted(nearest, key=lambda i: (skill[i], measures[i]["mean"]))


def _battle_tiers(rungs, team) -> dict[str, dict[str, float]]:
    """Good, medium and poor: the rung nearest to the tier's skill; replay: all rungs alike."""
    if team.startswith("smacv2"):
        return {"replay": {rung["file"]: round(1 / len(rungs), 3) for rung in rungs}}
    skill, goals = _skill(rungs)
    return {tier: {rungs[int(np.abs(skill - x).argmin())]["file"]: 1.0} for tier, x in goals.items()}


def _skill(measures) -> tuple[Float[ndarray, " k"], dict[str, float]]:
    """How good each policy is, and each tier's goal: win rates, or returns where not even half is won."""
    wins, returns = (np.array([m[key] for m in measures]) for key in ("win_rate", "mean"))
    if wins.max() >= WIN_RATES["medium"]:
        return wins, WIN_RATES
    return returns, {tier: share * returns.max() for tier, share in RETURN_SHARES.items()}


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
