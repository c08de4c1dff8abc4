"""Twins: our own copy of each published dataset, rolled out from the ladder on the user's machine."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vgm2p.behaviour import ladder
from vgm2p.data import store
from vgm2p.data.card import describe, versions
from vgm2p.data.dataset import Dataset
from vgm2p.envs.mujoco import MujocoVec
from vgm2p.tasks import TIERS, Task

UNION = ("medium", "expert")  # medium-expert holds exactly these two, in this order
NOTE = (
    "Behaviour acts with its Gaussian noise, unclipped: the simulator clamps torques to [-1, 1] but the "
    "control cost in the reward is paid on the raw action, as in the published data."
)


def make(
    task: Task,
    transitions: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    tick: Callable[[int], Any] = lambda n: None,
) -> Dataset:
    """Roll out and store the twin of `task`; the published number of transitions unless told otherwise.

    Whole episodes only, so it may hold a few hundred transitions more. Same seed, versions and kind of
    processor: same bytes, whatever the number of threads.
    """
    transitions = transitions or task.published_transitions
    if task.tier == "medium-expert":
        share = transitions / task.published_transitions
        parts = [
            _roll(part, round(share * part.published_transitions), seed, threads, tick)
            for part in (Task(task.team, tier) for tier in UNION)
        ]
    else:
        parts = [_roll(task, transitions, seed, threads, tick)]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in store.FIELDS}
    dataset = Dataset(**arrays, card={"id": task.id})
    card = {
        "id": task.id,
        "source": f"twin: rolled out from the {task.robot} ladder shipped with vgm2p; not the published data",
        "note": NOTE,
        "licence": "Apache-2.0",
        "seed": seed,
        "tiers": list(UNION) if task.tier == "medium-expert" else [task.tier],
        "agents": task.n,
        "horizon": task.horizon,
        "versions": versions(),
        **describe(dataset.returns, dataset.lengths),
        "published": task.published,
    }
    return store.save(Dataset(**arrays, card=card), store.home() / task.id)


def _roll(task, transitions, seed, threads, tick) -> Dataset:
    """One tier's mix of rungs, rung after rung, each with its share of the transitions."""
    card = ladder.card(task.robot)
    lengths = {rung["file"]: rung["length"] for rung in card["rungs"]}
    shares = card["tiers"][task.tier]
    weight = {file: share * lengths[file] for file, share in shares.items()}
    env, logs = MujocoVec(task.robot, ladder.COPIES, threads), []
    for file, part in weight.items():
        actor = ladder.load_actor(ladder.folder(task.robot) / file)
        wanted = round(transitions * part / sum(weight.values()))
        first = _first_seed(seed, TIERS.index(task.tier), int(file[:2]))
        logs.append(ladder.roll_out(env, actor, wanted, lengths[file], first, tick))
    env.close()
    action = np.concatenate([a for log in logs for a in log.action])
    return Dataset(
        state=np.concatenate([s for log in logs for s in log.state]),
        action=action.reshape(len(action), task.n, -1),
        reward=np.concatenate([r for log in logs for r in log.reward]),
        lengths=np.array([len(r) for log in logs for r in log.reward], np.int32),
        terminated=np.array([t for log in logs for t in log.terminated]),
        card={"id": task.id},
    )


def _first_seed(seed, tier, rung):
    """A reset seed far from every other (seed, tier, rung)'s, and above those of evaluations."""
    return ((seed * len(TIERS) + tier) * 100 + rung + 1) * 10_000_000
