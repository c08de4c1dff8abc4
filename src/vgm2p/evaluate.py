"""Scoring: fresh noise at every step, the last checkpoint, every episode's return kept."""

import jax
import jax.numpy as jnp

from vgm2p.envs.env import play
from vgm2p.errors import InputError
from vgm2p.policy import Policy
from vgm2p.tasks import Own, Task
from vgm2p.types import Episodes

FIRST_EPISODE, APART = 1_000_000, 10_000  # reset seeds of evaluations ...
SEEDS = 900  # ... below 10,000,000, where those of our own data begin
_fold = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(0, None)))


def check_episodes(name: str, episodes: int, seeds: int) -> None:
    """InputError for more episodes, of each of so many seeds, than have initial states of their own."""
    if episodes * seeds > APART:
        raise InputError(f"{name} {episodes}, of {seeds} training seeds: at most {APART:,} in all")


def evaluate(policy: Policy, task: Task | Own, episodes: int = 32, seed: int = 0) -> list[Episodes]:
    """`episodes` episodes for each training seed of `policy`, all side by side; one result per seed.

    Every training seed of the policy plays other initial states than those beside it, with its own noise;
    `seed`, 0 to 899, chooses both. InputError for another seed, for less than one episode or more than 10,000
    over all seeds, and for a task whose agents are not as many as the policy's, or see or do other things.
    """
    if episodes < 1:
        raise InputError(f"episodes {episodes} must be at least 1")
    if not 0 <= seed < SEEDS:
        raise InputError(
            f"seed {seed} must be 0 to {SEEDS - 1}: beyond, our own data's initial states are played"
        )
    check_episodes("episodes", episodes, len(policy.seeds))
    seeds = len(policy.seeds)
    env = policy.env(task, seeds * episodes)
    keys = jnp.stack([jax.random.fold_in(jax.random.key(s), FIRST_EPISODE + seed) for s in policy.seeds])

    def act(sight, step):
        if step == 0:
            policy.check(env, sight, task.id)
        shown = jax.tree.map(lambda x: x.reshape(seeds, episodes, *x.shape[1:]), sight)
        actions = policy.act(shown, _fold(keys, step))
        return actions.reshape(seeds * episodes, *actions.shape[2:])

    try:
        result = play(env, act, FIRST_EPISODE + APART * seed)
    finally:
        env.close()
    return [jax.tree.map(lambda x, i=i: x[i * episodes : (i + 1) * episodes], result) for i in range(seeds)]
