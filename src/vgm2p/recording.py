"""Recording: people use their PettingZoo environment as ever, and a dataset grows beside it."""

from typing import Any

import numpy as np
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

from vgm2p.data import store
from vgm2p.data.dataset import Dataset
from vgm2p.data.writer import Writer
from vgm2p.envs.pettingzoo import Layout, ends, make, team_reward
from vgm2p.errors import InputError
from vgm2p.tasks import TASKS
from vgm2p.types import Sight


def record(
    env: ParallelEnv,
    name: str,
    *,
    module: str | None = None,
    options: dict[str, Any] | None = None,
    source: str = "recorded with vgm2p.record",
    licence: str = "not stated",
) -> "Recording":
    """The same environment, whose episodes become the dataset `name`.

        env = vgm2p.record(simple_spread_v3.parallel_env(), "own/spread", module="mpe2.simple_spread_v3")

    An episode is kept once it ends; one that the next `reset` or `close` cuts short counts as cut by a time
    limit. `close()` makes the dataset. What a killed process had recorded stays, and recording under the same
    name goes on from there.

    module, options: what makes the environment again, `<module>.parallel_env(**options)`, for training's
      scores; without a module policies can be scored from data only.

    Raises InputError if a finished dataset has that name or another process records it, for a name outside
    the data's home, and for action spaces that are neither all Box nor all Discrete.
    """
    if not isinstance(env, ParallelEnv):
        raise InputError(f"{env} is no parallel environment: use the module's parallel_env(), not env()")
    layout = Layout.of(env)
    if module:
        _same(layout, module, options or {})
    card = {
        "id": name,
        "source": source,
        "note": "reward: the mean over agents; continuous actions are mapped from their ranges to [-1, 1]",
        "licence": licence,
        "agents": len(layout.agents),
        "names": list(layout.agents),
        **layout.card(env),
        "env": {"module": module, "options": options or {}} if module else None,
    }
    return Recording(env, layout, Writer(store.folder_of(name, TASKS), card))


def _same(layout: Layout, module, options) -> None:
    """InputError if what the module makes is not laid out as what is recorded."""
    again = make(module, options)
    other = Layout.of(again)
    again.close()
    for name in ("agents", "obs_dim", "sizes", "discrete", "low", "high"):
        ours, theirs = (np.asarray(getattr(x, name)).tolist() for x in (layout, other))
        if ours != theirs:
            raise InputError(
                f"{module} with options {options} makes another environment than the one recorded: its "
                f"{name!r} is {theirs}, not {ours}; give the options that made yours"
            )


class Recording(BaseParallelWrapper):
    """What `record` returns: a parallel environment that behaves as the one inside."""

    def __init__(self, env: ParallelEnv, layout: Layout, writer: Writer):
        super().__init__(env)
        self._layout, self._writer = layout, writer
        self._sights: list[Sight] = []
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._terminated = False
        self._dataset: Dataset | None = None

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Start an episode; one that has not ended is kept as cut short."""
        self._keep()
        observed, infos = self.env.reset(seed=seed, options=options)
        self.agents = self.env.agents
        self._sights = [self._layout.sight(self.env, observed, infos)]
        return observed, infos

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """One step of the team, recorded."""
        if not self._sights:
            raise InputError("step() came before reset(): an episode begins with reset()")
        coded = self._layout.coded(self.env, actions)
        told = self.env.step(actions)
        self._actions.append(coded)  # of a step that was taken
        self.agents = self.env.agents
        self._sights.append(self._layout.sight(self.env, told[0], told[4]))
        self._rewards.append(team_reward(told[1]))
        self._terminated, truncated = ends(told[2], told[3], self.env.agents)
        if self._terminated or truncated:
            self._keep()
        return told

    def close(self) -> Dataset:
        """Close the environment and make the dataset of what was recorded; returns it, and again if asked."""
        if self._dataset is not None:
            return self._dataset
        self._keep()
        self.env.close()
        self._dataset = self._writer.finish()
        return self._dataset

    def _keep(self):
        """Write the episode so far, if it has a step. Where the disk refuses it, it is kept for another try;
        one that no dataset can hold is forgotten, so that it does not stop those after it.
        """
        try:
            if self._actions:
                self._write(self._sights, self._actions, self._rewards)
        except InputError as error:
            if not isinstance(error, store.UnwrittenError):
                self._forget()
            raise
        self._forget()

    def _forget(self):
        self._sights, self._actions, self._rewards, self._terminated = [], [], [], False

    def _write(self, sights, actions, rewards):
        shown = Sight(*(None if x[0] is None else np.stack(x) for x in zip(*sights, strict=True)))
        self._writer.add(
            Dataset(
                state=shown.state,
                action=np.stack(actions),
                reward=np.array(rewards, np.float32),
                lengths=np.array([len(actions)], np.int32),
                terminated=np.array([self._terminated]),
                card=self._writer.card,
                obs=shown.obs,
                legal=shown.legal,
                present=shown.present,
            )
        )
