"""Any PettingZoo parallel environment, by import path: dictionaries of agents become arrays here alone."""

import importlib
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from pettingzoo import ParallelEnv

from vgm2p.envs.env import Step
from vgm2p.errors import InputError
from vgm2p.types import Sight

LONGEST = 10_000  # steps after which an episode is cut if the environment names no limit (`max_cycles`)


def make(module: str, options: dict[str, Any]) -> ParallelEnv:
    """`<module>.parallel_env(**options)`: PettingZoo's own way to name an environment.

    Only a function of that name is ever called, so that a dataset's card can't ask for another. Raises
    InputError if there is none, or if it does not take the options.
    """
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"environment {module!r}: {error}; install its package, or mend the name") from error
    if not hasattr(found, "parallel_env"):
        raise InputError(
            f"environment {module!r} has no function parallel_env: name a PettingZoo module, such as "
            "mpe2.simple_spread_v3"
        )
    try:
        return found.parallel_env(**options)
    except Exception as error:  # whatever somebody else's environment raises at options that it does not take
        raise InputError(
            f"environment {module!r} does not take the options {options} ({type(error).__name__}: {error})"
        ) from error


class Layout(NamedTuple):
    """How a team's dictionaries lie in arrays: agents in order, each zero-padded to the widest.

    low, high: of continuous actions, whose range is mapped to [-1, 1]; zeros where agents choose.
    """

    agents: tuple[str, ...]
    obs: tuple[spaces.Space, ...]
    obs_dim: int
    sizes: tuple[int, ...]  # of each agent's action, or how many choices it has
    discrete: bool
    low: Float[ndarray, "n a"]
    high: Float[ndarray, "n a"]

    @staticmethod
    def of(env: ParallelEnv) -> "Layout":
        """The layout of an environment. InputError for action spaces other than all Box or all Discrete."""
        agents = tuple(env.possible_agents)
        acts = [env.action_space(name) for name in agents]
        kinds = {type(space) for space in acts}
        if kinds not in ({spaces.Box}, {spaces.Discrete}):
            told = ", ".join(f"{name}: {space}" for name, space in zip(agents, acts, strict=True))
            raise InputError(f"action spaces must be all Box or all Discrete, and are {told}")
        discrete = kinds == {spaces.Discrete}
        obs = tuple(_observed(env.observation_space(name)) for name in agents)
        sizes = tuple(int(space.n) if discrete else int(np.prod(space.shape)) for space in acts)
        low, high = np.zeros((2, len(agents), max(sizes)), np.float32)
        for i, space in enumerate(() if discrete else acts):
            low[i, : sizes[i]], high[i, : sizes[i]] = space.low.ravel(), space.high.ravel()
        if not np.isfinite([low, high]).all():
            raise InputError(f"action spaces need finite bounds, and are {acts}: wrap the environment")
        return Layout(agents, obs, max(spaces.flatdim(x) for x in obs), sizes, discrete, low, high)

    def card(self, env: ParallelEnv) -> dict[str, Any]:
        """What a controller must know: widths of observations and, in the environment's units, of actions."""
        widths = [spaces.flatdim(space) for space in self.obs]
        if self.discrete:
            starts = [int(env.action_space(name).start) for name in self.agents]
            return {"obs_widths": widths, "sizes": list(self.sizes), "starts": starts}
        low, high = (
            [x[i, :size].tolist() for i, size in enumerate(self.sizes)] for x in (self.low, self.high)
        )
        return {"obs_widths": widths, "sizes": list(self.sizes), "low": low, "high": high}

    def sight(self, env: ParallelEnv, observed: dict[str, Any], infos: dict[str, Any]) -> Sight:
        """What the team sees: (state, obs [n, o], legal [n, choices] or present [n]).

        Absent agents see zeros, and have the one choice to wait where agents choose.

        An agent that ended in this step is observed once more and is absent all the same, unless the whole
        team ended: what all saw then is what a cut episode is valued by. The state is the environment's own,
        or else all observations side by side.
        """
        observed = {name: seen for name, seen in observed.items() if name in env.agents or not env.agents}
        obs = np.zeros((len(self.agents), self.obs_dim), np.float32)
        for i, (name, space) in enumerate(zip(self.agents, self.obs, strict=True)):
            if name in observed:
                flat = spaces.flatten(space, _plain(observed[name], space))
                obs[i, : len(flat)] = flat
        try:
            state = np.array(env.state(), np.float32).ravel()  # a copy: it may be the environment's own
        except (NotImplementedError, AttributeError):
            state = obs.ravel()
        if self.discrete:
            return Sight(state, obs, legal=self._legal(observed, infos))
        return Sight(state, obs, present=np.array([name in observed for name in self.agents]))

    def _legal(self, observed, infos) -> Bool[ndarray, "n a"]:
        legal = np.zeros((len(self.agents), max(self.sizes)), bool)
        for i, name in enumerate(self.agents):
            if name not in observed:
                legal[i, 0] = True
                continue
            beside = observed[name] if isinstance(observed[name], dict) else {}
            told = infos.get(name, {}) | beside
            legal[i, : self.sizes[i]] = np.asarray(told.get("action_mask", True), bool)
        return legal

    def coded(self, env: ParallelEnv, actions: dict[str, Any]) -> ndarray:
        """A step's actions as a dataset keeps them: choices [n], or [n, a], ranges mapped to [-1, 1].

        Those of absent agents are as if they had given none. InputError if an agent that is there has none.
        """
        if missing := [name for name in env.agents if name not in actions]:
            raise InputError(f"step() was given no action for {', '.join(missing)}")
        actions = {name: actions[name] for name in env.agents}
        if self.discrete:
            starts = [int(env.action_space(name).start) for name in self.agents]
            chosen = [
                int(actions[name]) - s if name in actions else 0
                for name, s in zip(self.agents, starts, strict=True)
            ]
            return np.array(chosen, np.int32)
        coded = np.zeros_like(self.low)
        for i, name in enumerate(self.agents):
            if name in actions:
                part = (i, slice(self.sizes[i]))
                width = self.high[part] - self.low[part]
                coded[part] = 2 * (np.asarray(actions[name]).ravel() - self.low[part]) / width - 1
        return coded

    def actions(self, env: ParallelEnv, coded: ndarray) -> dict[str, Any]:
        """The inverse of `coded`, for the agents that are there."""
        found: dict[str, Any] = {}
        for i, name in enumerate(self.agents):
            if name not in env.agents:
                continue
            space, part = env.action_space(name), (i, slice(self.sizes[i]))
            if self.discrete:
                found[name] = int(coded[i]) + int(space.start)
                continue
            scaled = self.low[part] + (coded[part] + 1) / 2 * (self.high[part] - self.low[part])
            found[name] = np.clip(scaled.reshape(space.shape), space.low, space.high).astype(space.dtype)
        return found


def team_reward(rewards: dict[str, float]) -> float:
    """The team's reward: the mean over the agents that are there; a shared reward stays what it is."""
    return float(np.mean(list(rewards.values()))) if rewards else 0.0


def ends(terminations: dict[str, bool], truncations: dict[str, bool], agents: list[str]) -> tuple[bool, bool]:
    """(terminated, truncated) of the team: over when nobody is left, cut if any of the last were cut.

    An agent whose flags are both up has ended, as in logs that are imported.
    """
    over = all(terminations[name] or truncations[name] for name in agents)
    cut = any(flag and not terminations[name] for name, flag in truncations.items())
    return over and not cut, over and cut


class PettingZooVec:
    """Copies of a parallel environment, one after another in this process; see `VecEnv`."""

    def __init__(self, module: str, options: dict[str, Any], copies: int):
        self.copies = copies
        self._envs = [make(module, options) for _ in range(copies)]
        self._envs[0] = _drawing(self._envs[0], module, options)
        self.layout = Layout.of(self._envs[0])
        self.horizon = int(getattr(self._envs[0].unwrapped, "max_cycles", LONGEST))
        self.choices = max(self.layout.sizes) if self.layout.discrete else 0
        self.action_dim = self.layout.low.size
        self.dt = 1 / float(self._envs[0].metadata.get("render_fps", 10))
        self.running = np.ones(copies, bool)

    @property
    def won(self) -> None:
        """PettingZoo tells of no victory."""
        return None

    def reset(self, seed: int) -> Sight:
        """Start an episode in every copy, copy i with seed + i."""
        self._seeds: list[int | None] = [seed + i for i in range(self.copies)]
        self._sights: list[Any] = [None] * self.copies
        return self.restart(np.ones(self.copies, bool))

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Start an episode in the copies of `where`, whose random numbers go on."""
        for i in map(int, np.flatnonzero(where)):
            env, seed = self._envs[i], self._seeds[i]
            self._sights[i] = self.layout.sight(env, *env.reset(seed=seed))
            self._seeds[i] = None
        self.running[where] = True
        return self._shown()

    def step(self, action: ndarray) -> Step:
        """Advance the running copies; the others stay, earn 0 and do not end again."""
        reward, terminated, truncated = np.zeros(self.copies), *np.zeros((2, self.copies), bool)
        for i in map(int, np.flatnonzero(self.running)):
            env = self._envs[i]
            told = env.step(self.layout.actions(env, action[i]))
            self._sights[i] = self.layout.sight(env, told[0], told[4])
            reward[i] = team_reward(told[1])
            terminated[i], truncated[i] = ends(told[2], told[3], env.agents)
        self.running = self.running & ~(terminated | truncated)
        return self._shown(), reward, terminated, truncated

    def picture(self, size: int) -> UInt8[ndarray, "size size 3"]:
        """The first copy as it draws itself. InputError if it was not made with render_mode "rgb_array"."""
        frame = self._envs[0].render()
        if not isinstance(frame, np.ndarray):
            raise InputError('this environment draws nothing: give it the option "render_mode": "rgb_array"')
        rows, columns = (np.linspace(0, n - 1, size).astype(int) for n in frame.shape[:2])
        return frame[rows[:, None], columns, :3]

    def close(self) -> None:
        """Close every copy."""
        for env in self._envs:
            env.close()

    def _shown(self) -> Sight:
        parts = zip(*self._sights, strict=True)
        return Sight(*(None if part[0] is None else np.stack(part) for part in parts))


def _drawing(env, module, options) -> ParallelEnv:
    """The same environment, made anew so that it draws itself, if it can."""
    if "rgb_array" not in env.metadata.get("render_modes", ()):
        return env
    try:
        drawing = make(module, {"render_mode": "rgb_array", **options})
    except InputError:  # it does not take that option
        return env
    env.close()
    return drawing


def _observed(space):
    """The space of the observation proper, where a mask of legal choices lies beside it."""
    return space["observation"] if isinstance(space, spaces.Dict) and "observation" in space.spaces else space


def _plain(observation, space):
    """What lies in that space: the observation, or the part of it that a mask lies beside."""
    inside = "observation" in getattr(space, "spaces", ())
    return observation["observation"] if isinstance(observation, dict) and not inside else observation
