"""The command line: `vgm2p <command> --help` explains each."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from tyro.conf import subcommand

from vgm2p.algorithms import ALGORITHMS
from vgm2p.cli.behaviour import Behaviour
from vgm2p.cli.claims import Claims, Report
from vgm2p.cli.data import Data
from vgm2p.cli.teams import Demo, Estimate, Evaluate, Export, Play, Pull, Push, Train
from vgm2p.errors import InputError
from vgm2p.train import NonFiniteError

Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Play, subcommand("play")]
    | Annotated[Estimate, subcommand("estimate")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Push, subcommand("push")]
    | Annotated[Pull, subcommand("pull")]
    | Annotated[Data, subcommand("data")]
    | Annotated[Behaviour, subcommand("behaviour")]
    | Annotated[Claims, subcommand("claims")]
    | Annotated[Report, subcommand("report")]
)
NO_ALGORITHM = f"""\
The task is followed by one of the algorithms: {", ".join(ALGORITHMS)}.
For what each does: vgm2p train --help; for its settings: vgm2p train TASK ALGORITHM --help"""


def parse(args: list[str] | None = None):
    """Offline multi-agent reinforcement learning with one-step flow policies."""
    given = sys.argv[1:] if args is None else args
    if given == ["--version"]:
        print(f"vgm2p {version('vgm2p')}")
        sys.exit(0)
    anywhere = (tyro.conf.CascadeSubcommandArgs,)  # a command's options may follow its subcommand's name
    told = parse.__doc__
    try:
        return tyro.cli(Command, prog="vgm2p", description=told, args=args, config=anywhere)  # type: ignore[arg-type]
    except SystemExit as refused:
        if refused.code and given[:1] == ["train"] and not set(given) & set(ALGORITHMS):
            print(NO_ALGORITHM, file=sys.stderr)
        raise


def main(args: list[str] | None = None) -> None:
    """Run one command; bad input ends with status 2 and a message, an interrupt with 130."""
    try:
        parse(args).run()
    except (InputError, NonFiniteError) as error:
        told = f"[bold red]error:[/bold red] {escape(str(error))}"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)  # a path stays in one piece
        sys.exit(2)
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        Console(stderr=True).print(f"error: {error.filename}: {error.strerror}", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print(
            "stopped; train, demo and claims, run again, go on from the last checkpoint"
        )
        sys.exit(130)
    except BrokenPipeError:  # whoever reads, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
