"""`vgm2p behaviour ...`: the policies that our data come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.table import Table
from tyro.conf import Positional, arg, subcommand

from vgm2p.cli.screen import out, returns_text
from vgm2p.tasks import TEAMS


@dataclass
class BehaviourList:
    """List the behaviour policies that ship with the package and each tier's mix of them."""

    def run(self) -> None:
        """Print one table per robot or scenario."""
        from vgm2p.behaviour.ladder import card

        for body in (team.body for team in TEAMS.values() if team.suite != "toy"):
            content = card(body)
            tiers = content["tiers"]
            table = Table("rung", "iteration", "return", "won", "length", *tiers, title=body)
            for rung in content["rungs"]:
                shares = [f"{tiers[tier].get(rung['file'], 0):.1%}" for tier in tiers]
                won = f"{rung['win_rate']:.0%}" if "win_rate" in rung else ""
                told = (returns_text(rung["mean"], rung["std"]), won, f"{rung['length']:.0f}")
                table.add_row(rung["file"], str(rung["iteration"]), *told, *shares)
            out.print(table)


@dataclass
class BehaviourTrain:
    """Train a behaviour ladder again, with PPO on the simulator (minutes).

    Example: vgm2p behaviour train hopper --out ladder/hopper
    """

    body: Positional[str]
    """The robot or battle scenario, such as halfcheetah or 3m (`vgm2p behaviour list` shows all)."""
    out: Path
    """Folder for the checkpoints and their card."""

    def run(self) -> None:
        """Train, measure, choose and write."""
        from vgm2p.behaviour.build import build

        build(self.body, self.out, out.print)


Command = Annotated[BehaviourTrain, subcommand("train")] | Annotated[BehaviourList, subcommand("list")]


@dataclass
class Behaviour:
    """The policies that our data come from: list them, or train them again."""

    command: Annotated[Command, arg(name="")]

    def run(self) -> None:
        """Run the inner command."""
        self.command.run()
