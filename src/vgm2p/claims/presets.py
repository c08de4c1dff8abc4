"""How long and how wide the methods train in the claims' grids: on two cores, or as in the papers."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from vgm2p.algorithms import ALGORITHMS
from vgm2p.algorithms.algorithm import Algorithm, Fit
from vgm2p.flows import MeanFlow
from vgm2p.runs import Experiment
from vgm2p.tasks import TEAMS, task
from vgm2p.values import LinearAdvantage

# Hoppers earn until they fall: their values see the whole episode, and which team acts, for what lies between
# two gaits falls. Other teams' episodes hardly ever end early; they have the defaults.
VALUES = {"3hopper": LinearAdvantage(discount=0.999, lookahead=1000, habit=100)}
# Battles are won by luck, so the won tell no more than the lost; few episodes, units that share a network and
# choices whose effects come soon ask for small networks of what each unit sees.
BATTLE_VALUES = LinearAdvantage(discount=0.9, lookahead=20, selection=None, shared=True, hidden=(16,))
BATTLE_FLOW = MeanFlow(anchors=0.8)  # the likeliest choice is read off where r = t: docs/battles.md


def own_values(team: str) -> LinearAdvantage:
    """What `LinearAdvantage` a team learns."""
    return VALUES.get(team, BATTLE_VALUES if TEAMS[team].suite == "smax" else LinearAdvantage())


@dataclass(frozen=True)
class Preset:
    """Networks, updates and seeds, the same for every method.

    hidden: widths of all hidden layers, values and critics included; empty for the defaults.
    """

    updates: int
    batch: int
    seeds: tuple[int, ...]
    eval_every: int
    hidden: tuple[int, ...] = ()
    learning_rate: float = Fit.learning_rate

    def algorithm(self, method: str, team: str, **fields: Any) -> Algorithm:
        """The method with the preset's networks, its other fields as given, or the defaults.

        What learns `LinearAdvantage` learns the team's own. Battles are fought without noise, each agent
        making its likeliest choice, as the field does.
        """
        default = ALGORITHMS[method]()
        if isinstance(getattr(default, "values", None), LinearAdvantage):
            fields = {"values": own_values(team)} | fields
        if TEAMS[team].suite == "smax":
            flow = {"flow": BATTLE_FLOW} if isinstance(getattr(default, "flow", None), MeanFlow) else {}
            fields = {"noise": 0.0} | flow | fields
        changed = dataclasses.replace(default, **fields)  # type: ignore[type-var]
        return self._wide(changed) if self.hidden else changed

    def experiment(self, name: str, algorithm: Algorithm) -> Experiment:
        """The training of that algorithm on the task of that name."""
        return Experiment(name, algorithm, self.updates, self.batch, self.seeds, self.eval_every)

    def run(self, name: str, method: str, **fields: Any) -> Experiment:
        """The training of a method, `fields` changed, on the task of that name."""
        return self.experiment(name, self.algorithm(method, task(name).team, **fields))

    def _wide(self, algorithm) -> Algorithm:
        fit = dataclasses.replace(algorithm.fit, hidden=self.hidden, learning_rate=self.learning_rate)
        wide: dict[str, Any] = {"fit": fit}
        if hasattr(getattr(algorithm, "values", None), "hidden"):
            wide["values"] = dataclasses.replace(algorithm.values, hidden=self.hidden)
        if hasattr(algorithm, "hidden"):
            wide["hidden"] = self.hidden
        return dataclasses.replace(algorithm, **wide)


CPU = Preset(updates=10_000, batch=64, seeds=(0, 1, 2), eval_every=2_000)
ONCE = dataclasses.replace(CPU, eval_every=CPU.updates)  # the same training, scored at its end only
PAPER = Preset(1_000_000, 256, (0, 1, 2, 3, 4), 100_000, hidden=(512,) * 4, learning_rate=3e-4)
WIDE = dataclasses.replace(PAPER, updates=20_000, eval_every=5_000)  # as far as minutes of an accelerator go
