"""The table of tasks: data, the environment that scores a policy on them, and published figures."""

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vgm2p.data import store
from vgm2p.data.dataset import Dataset
from vgm2p.envs import toy
from vgm2p.envs.env import VecEnv
from vgm2p.errors import InputError, needs, unknown


class Team(NamedTuple):
    """What a team controls or plays, and what it returns with uniformly random (legal) actions.

    suite: what it is: "twin" MuJoCo robots whose joints agents share, "smax" battles, "toy" games.
    """

    suite: Literal["twin", "smax", "toy"]
    body: str
    n: int
    random: float  # mean over at least 256 episodes; standard errors at most 5, and 0.01 in battles

    @property
    def partial(self) -> bool:
        """Does each agent see a part of its own, and not the whole state?"""
        return self.suite == "smax"


TEAMS = {
    "6halfcheetah": Team("twin", "halfcheetah", 6, -283.0),
    "3hopper": Team("twin", "hopper", 3, 19.0),
    "2ant": Team("twin", "ant", 2, -52.0),
    "3m": Team("smax", "3m", 3, 0.186),
    "8m": Team("smax", "8m", 8, 0.176),
    "2s3z": Team("smax", "2s3z", 5, 0.212),
    "5m_vs_6m": Team("smax", "5m_vs_6m", 5, 0.138),
    "smacv2_5_units": Team("smax", "smacv2_5_units", 5, 0.25),
    "smacv2_10_units": Team("smax", "smacv2_10_units", 10, 0.276),
    "matching": Team("toy", "matching", 2, 0.244),
    "xor": Team("toy", "xor", 2, 0.5),
    "cover": Team("toy", "cover", 3, 0.704),
    "bridge": Team("toy", "bridge", 2, 0.03),
}
PADDING = {"2ant": 84}  # zeros between state and id in OMIGA's vectors: contact forces, left out here
TIERS = {  # of a team's datasets
    "twin": ("expert", "medium", "medium-replay", "medium-expert"),
    "smax": ("good", "medium", "poor"),
    "smacv2": ("replay",),
    "toy": ("mixed",),
}
TRANSITIONS = {"smax": 100_000, "toy": 4_096}  # of datasets that are nobody's twin
NEARLY_ALL = 0.9  # of the transitions asked for: episodes stay whole


@dataclass(frozen=True)
class Task:
    """One dataset and its environment: `<suite>/<team>-<tier>`."""

    team: str
    tier: str

    @property
    def id(self) -> str:
        """The task's name."""
        return f"{self._team.suite}/{self.team}-{self.tier}"

    @property
    def _team(self) -> Team:
        return TEAMS[self.team]

    @property
    def body(self) -> str:
        """The simulated robot, or the scenario of the battle."""
        return self._team.body

    @property
    def suite(self) -> str:
        """ "twin", "smax" or "toy"."""
        return self._team.suite

    @property
    def is_battle(self) -> bool:
        """Whether there is something to win; agents then see a part and choose among what is legal."""
        return self.suite == "smax"

    @property
    def n(self) -> int:
        """Number of agents."""
        return self._team.n

    @property
    def random_return(self) -> float:
        """What uniformly random actions return: the zero of normalised scores."""
        return self._team.random

    @property
    def published(self) -> dict | None:
        """Statistics of the published dataset that this one is the twin of; None for battles and games."""
        return None if self.suite != "twin" else reference()["datasets"][self.team][self.tier]

    @property
    def transitions(self) -> int:
        """Size of the dataset: the published one's, without its extra row per episode."""
        published = self.published
        return published["rows"] - published["episodes"] if published else TRANSITIONS[self.suite]

    @property
    def has_env(self) -> bool:
        """Every task of the table can be played."""
        return True

    def make_env(self, copies: int, threads: int | None = None) -> VecEnv:
        """The environment that scores policies for this task. `threads`: of a robot's physics."""
        return _make_env(self.id, self.suite, self.body, copies, threads)

    def load_data(self) -> Dataset:
        """The dataset, made beforehand with `vgm2p data make`."""
        folder = store.home() / self.id
        if not (folder / "card.json").exists():
            raise InputError(f"no data for {self.id} in {folder}: make it with: vgm2p data make {self.id}")
        return store.load(folder)

    def data_sha256(self) -> str | None:
        """The digest on the dataset's card; None if no data have been made."""
        return self._card().get("sha256")

    def has_part(self) -> bool:
        """Are there data, but fewer than usual, such as a first experiment makes?"""
        return self._card().get("transitions", self.transitions) < NEARLY_ALL * self.transitions

    def _card(self) -> dict[str, Any]:
        return store.find_card(store.home() / self.id) or {}


@dataclass(frozen=True)
class Own:
    """A dataset of yours, recorded or imported, and the environment that its card names, if any.

    id: its folder below the data's home.
    card: its `env` is {"module": ..., "options": ...} of PettingZoo, {"team": ...} of `TEAMS`, or None.
    """

    id: str
    card: dict[str, Any] = field(hash=False)

    @property
    def n(self) -> int:
        """Number of agents."""
        return self.card["agents"]

    @property
    def team(self) -> str:
        """The team of the table in whose environment it is scored; "" if it is another."""
        name = (self.card.get("env") or {}).get("team", "")
        if name and name not in TEAMS:
            raise unknown(f"team on the card of {self.id}", name, TEAMS)
        return name

    @property
    def body(self) -> str:
        """That team's robot or scenario."""
        return TEAMS[self.team].body if self.team else ""

    @property
    def published(self) -> None:
        """Nobody's twin."""
        return None

    @property
    def has_env(self) -> bool:
        """Is there an environment to score policies in?"""
        return bool(self.card.get("env"))

    def make_env(self, copies: int, threads: int | None = None) -> VecEnv:
        """The environment that scores policies for this task. InputError if the card names none."""
        env = self.card.get("env")
        if not env:
            raise InputError(
                f"{self.id} names no environment to play in: score the policy from data with "
                "`vgm2p estimate RUN`, or name one when importing (--env)"
            )
        if self.team:
            return _make_env(self.id, TEAMS[self.team].suite, self.body, copies, threads)
        return _make_env(self.id, "pettingzoo", env, copies, threads)

    def check(self, data: Dataset) -> None:
        """InputError if the environment can't be made, or shows and takes otherwise than the data do."""
        if not self.has_env:
            return
        env: Any = self.make_env(1)
        shown = env.reset(0)
        env.close()
        n = TEAMS[self.team].n if self.team else len(env.layout.agents)
        wanted = {"action": (n,), "legal": (n, env.choices)}
        if not env.choices:
            wanted = {"action": (n, env.action_dim // n)}
        name = "state" if data.obs is None else "obs"  # what policies see
        for what, shape in (wanted | {name: np.shape(getattr(shown, name))[1:]}).items():
            found = np.shape(getattr(data, what))[1:]
            if found != shape:
                raise InputError(
                    f"a row of {what!r} has shape {found} in the data and {shape} in the environment: name "
                    "another environment, or give it the options that the data were made with"
                )

    def load_data(self) -> Dataset:
        """The dataset."""
        return store.load(store.home() / self.id)

    def data_sha256(self) -> str | None:
        """The digest on the dataset's card."""
        return self.card.get("sha256")


def _make_env(name, suite, what, copies, threads) -> VecEnv:
    """The environment of a suite; InputError with the extra to install if its packages are missing."""
    try:
        if suite == "toy":
            return toy.make_env(what, copies)
        if suite == "smax":
            from vgm2p.envs.smax import SmaxVec

            return SmaxVec(what, copies)
        if suite == "pettingzoo":
            from vgm2p.envs.pettingzoo import PettingZooVec

            return PettingZooVec(what["module"], what.get("options", {}), copies)
        from vgm2p.envs.mujoco import MujocoVec

        return MujocoVec(what, copies, threads)
    except ModuleNotFoundError as error:
        extra = {"twin": "mujoco"}.get(suite, suite)
        raise needs(f"task {name!r}", extra) from error


def _tasks(suite: str) -> dict[str, Task]:
    found = [
        Task(name, tier)
        for name, team in TEAMS.items()
        if team.suite == suite
        for tier in TIERS["smacv2" if name.startswith("smacv2") else suite]
    ]
    return {task.id: task for task in found}


TWINS, BATTLES, GAMES = _tasks("twin"), _tasks("smax"), _tasks("toy")
# Logs of two teams with different tactics: half the medium policy's, half the script's.
MIXED = {task.id: task for task in (Task(name, "mixed") for name in ("3m", "8m", "2s3z"))}
TASKS = TWINS | BATTLES | MIXED | GAMES


def task(name: str) -> Task | Own:
    """The task or your dataset of that name; InputError with the nearest names if there is none.

    `omiga/<team>-<tier>` is read, once, from OMIGA's own file if that lies in the folder `omiga` of the data.
    """
    if name.startswith("omiga/"):
        _import_omiga(name)
    own = [] if name in TASKS else owned()
    if name not in own:
        if name not in TASKS and (store.home() / name / "data.safetensors").exists():
            raise InputError(f"{store.home() / name} has data but no card.json: import or record it again")
        return tabled(name, own)
    return Own(name, store.read_card(store.home() / name))


def load_dataset(name: str) -> Dataset:
    """The dataset of that name, of the table or yours. InputError, with the mend, if it is not there."""
    return task(name).load_data()


def _import_omiga(name) -> None:
    from vgm2p.data import importing, omiga

    path = omiga.file_of(name, store.home() / "omiga")
    if path is None or (store.home() / name / "card.json").exists():
        return
    if not path.exists():
        raise InputError(f"no data for {name}: put OMIGA's file at {path}, or import it from where it is")
    importing.import_data("omiga", str(path), name)


def tabled(name: str, others: list[str] | None = None) -> Task:
    """The task of that name in the table; InputError with the nearest names if there is none."""
    if name not in TASKS:
        raise unknown("task", name, [*TASKS, *(others or [])])
    return TASKS[name]


def owned() -> list[str]:
    """The names of your datasets: folders with a card below the data's home that are not in the table."""
    home = store.home()
    names = sorted(path.parent.relative_to(home).as_posix() for path in home.rglob("card.json"))
    return [name for name in names if name not in TASKS]


@cache
def reference() -> dict:
    """Published statistics and scores, each with its source."""
    return json.loads((files("vgm2p") / "reference_scores.json").read_text())


def published(name: str) -> float | None:
    """The return that VGM²P's paper is said to report on the set that this twin is of, if any was found."""
    return reference()["scores"]["VGM2P"][tabled(name).team].get(tabled(name).tier)


def nearest_published(team: str, returns: Float[ndarray, " e"]) -> tuple[str, dict]:
    """The published set of that team whose mean and spread of return are nearest, and its statistics."""
    sets = reference()["datasets"][team]

    def distance(tier):
        return abs(sets[tier]["mean"] - returns.mean()) + abs(sets[tier]["std"] - returns.std())

    tier = min(sets, key=distance)
    return f"{team}-{tier}", sets[tier]
