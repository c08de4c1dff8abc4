"""Battles: JaxMARL's SMAX, the scenarios of SMAC in JAX, against its scripted enemy.

Each agent commands one unit, sees what is in its sight and may move, stay or shoot an enemy in range. The
team earns the share of the enemies' health that it takes, and 1 for a victory.
"""

import io
import sys
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, UInt8
from numpy import ndarray

from vgm2p.envs.env import Step
from vgm2p.errors import InputError, unknown
from vgm2p.types import Sight

_unheard = io.StringIO()
with patch.multiple(sys, stdout=_unheard, __stdout__=_unheard):  # JaxMARL prints on import, and sets stdout
    from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario
    from jaxmarl.environments.smax.heuristic_enemy import (
        create_heuristic_policy,
        get_heuristic_policy_initial_state,
    )
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

SCENARIOS = tuple(MAP_NAME_TO_SCENARIO)
HORIZON = 100
STAY = 4  # the choice that a dead unit has
ALLY, ENEMY = (0, 114, 178), (213, 94, 0)  # colours that the colour-blind tell apart


class Battle(NamedTuple):
    """What a batch of battles is at one moment."""

    world: Any  # JaxMARL's state
    keys: PRNGKeyArray
    age: Int[Array, " copies"]


class SmaxVec:
    """`copies` independent battles of one scenario, stepped together on the device.

    Copy i of `reset(seed)` plays as the only copy of `reset(seed + i)` does. Choices: north, east, south,
    west, stay, then one per enemy. A time limit of 100 steps truncates.
    """

    horizon = HORIZON
    dt = 0.125  # a film shows a battle at four times its speed

    def __init__(self, scenario: str, copies: int):
        if scenario not in SCENARIOS:
            raise unknown("scenario", scenario, SCENARIOS)
        self.scenario, self.copies = scenario, copies
        self._rules = _rules(scenario)
        self.n, self.choices = self._rules.env.num_agents, self._rules.env.num_ally_actions

    @property
    def won(self) -> Bool[ndarray, " copies"]:
        """Which copies have won their latest episode."""
        return self._won.copy()

    def reset(self, seed: int) -> Sight:
        """Start every copy."""
        high, low = np.divmod(seed + np.arange(self.copies), 2**31)
        self._keys = jax.vmap(lambda i, j: jax.random.fold_in(jax.random.key(i), j))(high, low)
        self._episode = np.zeros(self.copies, int)
        self.running, self._won = np.zeros(self.copies, bool), np.zeros(self.copies, bool)
        self._battle = self._rules.begin(self._keys, jnp.asarray(self._episode))
        return self.restart(np.ones(self.copies, bool))

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Begin a new battle in the copies of `where`; returns what all copies show."""
        if where.any():
            self._episode[where] += 1
            fresh = self._rules.begin(self._keys, jnp.asarray(self._episode))
            self._battle = self._rules.choose(jnp.asarray(where), fresh, self._battle)
        self.running[where], self._won[where] = True, False
        return jax.tree.map(np.asarray, self._rules.show(self._battle))

    def step(self, action: Int[ndarray, "copies n"]) -> Step:
        """Advance the running copies by one step; the others stay, earn 0 and do not end again.

        Raises InputError for a choice that an agent does not have.
        """
        running = jnp.asarray(self.running)
        self._battle, told = self._rules.step(self._battle, jnp.asarray(action), running)
        sight, reward, terminated, truncated, won, illegal = jax.tree.map(np.asarray, told)
        if illegal.any():
            copy, agent = np.argwhere(illegal)[0]
            raise InputError(
                f"agent {agent} of {self.scenario} has no choice {int(action[copy, agent])} now: take one of "
                "the legal ones that reset() and step() show"
            )
        self.running = self.running & ~(terminated | truncated)
        self._won = self._won | won
        return sight, reward.astype(np.float64), terminated, truncated

    def picture(self, size: int) -> UInt8[ndarray, "size size 3"]:
        """The field of the first battle: ours blue, theirs orange, filled as far as they live, and shots."""
        world = jax.tree.map(lambda x: np.asarray(x)[0], self._battle.world.state)
        env = self._rules.env
        scale = size / env.map_width
        image = np.full((size, size, 3), 245, np.uint8)
        rows, columns = np.mgrid[:size, :size]
        place = world.unit_positions * scale
        radius = np.asarray(env.unit_type_radiuses)[world.unit_types] * scale
        health = world.unit_health / np.asarray(env.unit_type_health)[world.unit_types]
        for i in map(int, np.flatnonzero(world.unit_alive)):
            far = np.hypot(columns - place[i, 0], size - 1 - rows - place[i, 1])
            image[far < radius[i] + 1] = 0
            image[far < radius[i]] = 255
            image[far < radius[i] * health[i]] = ALLY if i < env.num_allies else ENEMY
            target = _target(env, i, world.prev_attack_actions[i])
            if target is not None:
                line = np.linspace(place[i], place[target], 2 * size).astype(int).clip(0, size - 1)
                image[size - 1 - line[:, 1], line[:, 0]] = ALLY if i < env.num_allies else ENEMY
        return image

    def close(self) -> None:
        """Nothing to free."""


class Script:
    """JaxMARL's scripted team on our side; it remembers, so one plays one episode in each copy.

    A unit shoots the nearest enemy in range until that one falls; without one it walks towards an enemy that
    it sees, or through the centre of the field.
    """

    def __init__(self, scenario: str, copies: int):
        self._rules = _rules(scenario)
        shape = (copies, self._rules.env.num_agents)
        fresh = get_heuristic_policy_initial_state()
        self._memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *jnp.shape(x))), fresh)

    def act(self, sight: Sight, key: PRNGKeyArray) -> Int[ndarray, "copies n"]:
        """Each unit's choice from what it sees; the dead stay."""
        assert sight.legal is not None  # battles always tell
        keys = jax.random.split(key, sight.legal.shape[:2])
        chosen, self._memory = self._rules.script(keys, self._memory, jnp.asarray(sight.obs, jnp.float32))
        legal = np.take_along_axis(sight.legal, np.asarray(chosen)[..., None], -1)[..., 0]
        return np.where(legal, chosen, STAY)


def _target(env, unit: int, attack: int) -> int | None:
    """The unit that a choice shoots at; each side counts the other's units from its own."""
    if attack <= STAY:
        return None
    index = int(attack) - STAY - 1
    return env.num_allies + index if unit < env.num_allies else env.num_allies - 1 - index


class _Rules(NamedTuple):
    """A scenario's jitted functions: compiled once per process and number of copies."""

    env: Any
    begin: Any
    choose: Any
    show: Any
    step: Any
    script: Any


@cache
def _rules(scenario: str) -> _Rules:
    env = HeuristicEnemySMAX(scenario=map_name_to_scenario(scenario), max_steps=HORIZON)

    def move(key, world, action):
        actions = {name: action[i] for i, name in enumerate(env.agents)}
        _, world, rewards, _, _ = env.step_env(key, world, actions)
        return world, rewards[env.agents[0]]

    def begin(key, episode):
        key = jax.random.fold_in(key, episode)
        world = env.reset(key)[1]
        after = jax.eval_shape(move, key, world, jnp.zeros(env.num_agents, jnp.int32))[0]
        world = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), world, after)  # of one type from the start
        return Battle(world, key, jnp.zeros((), jnp.int32))

    def show(battle):
        obs, legal = env.get_obs(battle.world), env.get_avail_actions(battle.world)
        obs, legal = (jnp.stack([x[name] for name in env.agents]) for x in (obs, legal))
        return Sight(env.get_world_state(battle.world), obs, legal.astype(bool))

    def step(battle, action, running):
        legal = show(battle).legal
        known = (action >= 0) & (action < legal.shape[1])
        taken = jnp.take_along_axis(legal, jnp.where(known, action, 0)[:, None], 1)[:, 0]
        illegal = running & ~(known & taken)
        world, reward = move(jax.random.fold_in(battle.keys, battle.age), battle.world, action)
        later = jax.tree.map(
            lambda new, old: jnp.where(running, new, old), Battle(world, battle.keys, battle.age + 1), battle
        )
        alive = later.world.state.unit_alive
        allies, enemies = alive[: env.num_agents].any(), alive[env.num_agents :].any()
        terminated = running & ~(allies & enemies)
        truncated = running & ~terminated & (later.age >= HORIZON)
        told = jnp.where(running, reward, 0.0), terminated, truncated, running & allies & ~enemies, illegal
        return later, (show(later), *told)

    def choose(where, new, old):
        return jax.tree.map(lambda x, y: jnp.where(where, x, y), new, old)

    script = jax.vmap(create_heuristic_policy(env, team=0))  # over agents
    return _Rules(env, *(jax.jit(jax.vmap(f)) for f in (begin, choose, show, step, script)))
