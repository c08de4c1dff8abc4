"""The table of tasks: data, the environment that scores a policy on them, and published figures."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jaxtyping import Float
from numpy import ndarray

from vgm2p.actions import Continuous
from vgm2p.data import store
from vgm2p.data.dataset import Dataset
from vgm2p.envs.env import VecEnv
from vgm2p.errors import InputError, unknown
from vgm2p.types import Spec
from vgm2p.view import TeamView


class Team(NamedTuple):
    """A robot, the agents that share its joints, and what they return with uniformly random actions."""

    robot: str
    n: int
    random: float  # mean over 256, 1024 and 1024 episodes; standard errors 5, 1 and 3


TEAMS = {
    "6halfcheetah": Team("halfcheetah", 6, -283.0),
    "3hopper": Team("hopper", 3, 19.0),
    "2ant": Team("ant", 2, -52.0),
}
TIERS = ("expert", "medium", "medium-replay", "medium-expert")
HORIZON = 1000


@dataclass(frozen=True)
class Task:
    """One dataset and its environment: `twin/<team>-<tier>`."""

    team: str
    tier: str

    @property
    def id(self) -> str:
        """The task's name."""
        return f"twin/{self.team}-{self.tier}"

    @property
    def robot(self) -> str:
        """The simulated robot."""
        return TEAMS[self.team].robot

    @property
    def n(self) -> int:
        """Number of agents."""
        return TEAMS[self.team].n

    @property
    def random_return(self) -> float:
        """What uniformly random actions return: the zero of normalised scores."""
        return TEAMS[self.team].random

    @property
    def horizon(self) -> int:
        """The time limit of an episode."""
        return HORIZON

    @property
    def published(self) -> dict:
        """Statistics of the published dataset that this one is the twin of."""
        return reference()["datasets"][self.team][self.tier]

    @property
    def published_transitions(self) -> int:
        """Size of the published dataset, without its extra row per episode."""
        return self.published["rows"] - self.published["episodes"]

    def make_env(self, copies: int, threads: int | None = None) -> VecEnv:
        """The environment that scores policies for this task."""
        try:
            from vgm2p.envs.mujoco import MujocoVec
        except ModuleNotFoundError as error:
            raise InputError(f'task {self.id!r} needs: pip install "vgm2p[mujoco]"') from error
        return MujocoVec(self.robot, copies, threads)

    def load_data(self) -> Dataset:
        """The dataset, made beforehand with `vgm2p data make`."""
        folder = store.home() / self.id
        if not (folder / "card.json").exists():
            raise InputError(f"no data for {self.id} in {folder}: make it with: vgm2p data make {self.id}")
        return store.load(folder)

    def data_sha256(self) -> str | None:
        """The digest on the dataset's card; None if no data have been made."""
        card = store.home() / self.id / "card.json"
        return store.read_json(card)["sha256"] if card.exists() else None

    def spec(self, view: TeamView, action_dim: int, regress: str = "raw", updates: int | None = None) -> Spec:
        """Sizes for a given view, width of one agent's action and length of training."""
        agents = tuple(f"agent_{i}" for i in range(self.n))
        actions = Continuous(action_dim, regress)  # type: ignore[arg-type]
        return Spec(agents, view.obs_dim, view.mean.shape[-1], actions, HORIZON, updates)


TASKS = {task.id: task for task in (Task(team, tier) for team in TEAMS for tier in TIERS)}


def task(name: str) -> Task:
    """The task of that name; InputError with the nearest names if there is none."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


@cache
def reference() -> dict:
    """Published statistics and scores, each with its source."""
    return json.loads((files("vgm2p") / "reference_scores.json").read_text())


def published(name: str) -> float | None:
    """The return that VGM²P's paper is said to report on the set that this twin is of, if any was found."""
    return reference()["scores"]["VGM2P"][task(name).team].get(task(name).tier)


def nearest_published(team: str, returns: Float[ndarray, " e"]) -> tuple[str, dict]:
    """The published set of that team whose mean and spread of return are nearest, and its statistics."""
    sets = reference()["datasets"][team]

    def distance(tier):
        return abs(sets[tier]["mean"] - returns.mean()) + abs(sets[tier]["std"] - returns.std())

    tier = min(sets, key=distance)
    return f"{team}-{tier}", sets[tier]
