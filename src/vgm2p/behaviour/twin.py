"""Twins: our own copy of each published dataset, rolled out from the ladder on the user's machine."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from vgm2p.behaviour import ladder
from vgm2p.behaviour.ladder import Episode
from vgm2p.data import store
from vgm2p.data.card import versions
from vgm2p.data.dataset import Dataset
from vgm2p.envs import toy
from vgm2p.errors import InputError
from vgm2p.tasks import TIERS, Task

LAST_SEED = 2**31 - 1  # resets count on from a multiple of the seed, in 64 bits
SCRIPT = "script"  # in place of a tier of the ladder: JaxMARL's scripted team
UNIONS = {"medium-expert": ("medium", "expert"), "mixed": ("medium", SCRIPT)}  # in this order
NOTES = {
    "twin": (
        "Behaviour acts with its Gaussian noise, unclipped: the simulator clamps torques to [-1, 1] but the "
        "control cost in the reward is paid on the raw action, as in the published data."
    ),
    "toy": "A mixture of teams; see docs/coordination.md.",
    "smax": "Behaviour draws from its distribution over legal choices. Observations are stored in float16.",
}


def make(
    task: Task,
    transitions: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    tick: Callable[[int], Any] = lambda n: None,
) -> Dataset:
    """Roll out and store the twin of `task`; its usual number of transitions unless told otherwise.

    Whole episodes only, so it may hold a few hundred transitions more. Same seed, versions and kind of
    processor: same bytes, whatever the number of threads, and with an accelerator or without. What stood
    there is replaced. InputError for no transitions, too few for a mix, and a seed below 0 or
    above `LAST_SEED`.
    """
    transitions = task.transitions if transitions is None else transitions
    if transitions < 1:
        raise InputError(f"transitions {transitions} must be at least 1")
    if not 0 <= seed <= LAST_SEED:
        raise InputError(f"seed {seed} must be 0 to {LAST_SEED:,}: each episode needs one of its own from it")
    folder = store.home() / task.id
    if task.suite == "toy":
        tick(transitions)
        return store.save(_carded(task, seed, toy.dataset(task.body, transitions, seed)), folder)
    tiers = UNIONS.get(task.tier, (task.tier,))
    episodes: list[Episode] = []
    with jax.default_device(jax.local_devices(backend="cpu")[0]):  # an accelerator would round otherwise
        for part in (Task(task.team, tier) for tier in tiers):
            share = part.transitions / task.transitions if task.tier == "medium-expert" else 1 / len(tiers)
            roll = _roll_script if part.tier == SCRIPT else _roll
            episodes += roll(part, round(share * transitions), seed, threads, tick)
    if not episodes:
        raise InputError(f"transitions {transitions} leave none to any team that {task.id} mixes: give more")
    return store.save(_dataset(task, seed, tiers, episodes), folder)


def _dataset(task, seed, tiers, episodes: list[Episode]) -> Dataset:
    action = np.concatenate([e.action for e in episodes])
    sight = jax.tree.map(lambda *x: np.concatenate(x), *(e.sight for e in episodes))
    more = {"win_rate": float(np.mean([e.won for e in episodes]))} if task.is_battle else {}
    source = f"twin: rolled out from the {task.body} ladder shipped with vgm2p; not the published data"
    dataset = Dataset(
        state=sight.state,
        action=action.astype(np.int32) if task.is_battle else action.reshape(len(action), task.n, -1),
        reward=np.concatenate([e.reward for e in episodes]),
        lengths=np.array([len(e.reward) for e in episodes], np.int32),
        terminated=np.array([e.terminated for e in episodes]),
        card={"id": task.id},
        obs=sight.obs,
        legal=sight.legal,
    )
    return _carded(task, seed, dataset, source, tiers=list(tiers), **more)


def _carded(task, seed, dataset, source="drawn by vgm2p", **more) -> Dataset:
    card = {
        "id": task.id,
        "source": source,
        "note": NOTES[task.suite],
        "licence": "Apache-2.0",
        "seed": seed,
        "horizon": int(dataset.lengths.max()),
        "versions": versions(),
        **more,
        "published": task.published,
    }
    return replace(dataset, card=card)


def _roll(task, transitions, seed, threads, tick) -> list[Episode]:
    """One tier's mix of rungs, rung after rung, each with its share of the transitions."""
    card = ladder.card(task.body)
    lengths = {rung["file"]: rung["length"] for rung in card["rungs"]}
    shares = card["tiers"][task.tier]
    weight = {file: share * lengths[file] for file, share in shares.items()}
    env, episodes = task.make_env(ladder.COPIES, threads), []
    for file, part in weight.items():
        path = ladder.folder(task.body) / file
        wanted = round(transitions * part / sum(weight.values()))
        tiers = TIERS["smax"] + TIERS["smacv2"] if task.is_battle else TIERS["twin"]
        first = _first_seed(seed, tiers.index(task.tier), int(file[:2]))
        episodes += ladder.roll_out(env, partial(ladder.load_actor, path), wanted, lengths[file], first, tick)
    env.close()
    return episodes


def _roll_script(task, transitions, seed, threads, tick) -> list[Episode]:
    """Battles that JaxMARL's script fights on our side; rolled out as `_roll` does."""
    from vgm2p.envs.smax import Script

    env, start = task.make_env(ladder.COPIES, threads), partial(Script, task.body, ladder.COPIES)
    first = _first_seed(seed, TIERS["smax"].index("medium"), rung=99)  # no checkpoint has that number
    episodes = ladder.roll_out(env, start, transitions, env.horizon / 4, first, tick)
    env.close()
    return episodes


def _first_seed(seed, tier, rung):
    """A reset seed far from every other (seed, tier, rung)'s, and above those of evaluations."""
    tiers = 4  # of every suite
    return ((seed * tiers + tier) * 100 + rung + 1) * 10_000_000
