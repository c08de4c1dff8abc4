"""`vgm2p data ...`: make, look at, check, import, export and fetch datasets."""

import json
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg, subcommand

from vgm2p.cli.screen import out, progress_bar, returns_text
from vgm2p.data.importing import Kind, export_data, import_data
from vgm2p.data.rows import Ends
from vgm2p.data.store import find_card, home, read_card
from vgm2p.errors import InputError, unknown
from vgm2p.hub import OG_MARL, fetch
from vgm2p.stats import number
from vgm2p.tasks import (
    BATTLES,
    GAMES,
    MIXED,
    NEARLY_ALL,
    TASKS,
    TEAMS,
    TWINS,
    nearest_published,
    owned,
    tabled,
    task,
)

CARD = ("id", "source", "note", "ends", "time_limit", "licence", "env", "seed", "versions", "sha256")
TaskName = Annotated[Positional[str], arg(metavar="TASK")]


@dataclass
class DataList:
    """List the datasets: published statistics, ours where the twin has been made, and your own."""

    def run(self) -> None:
        """Print the table."""
        table = Table(title=f"datasets in {home()}")
        for heading in ("id", "published mean ± sd", "ours", "won", "transitions"):
            is_id = heading == "id"
            table.add_column(heading, justify="left" if is_id else "right", no_wrap=is_id)
        for name, where in TASKS.items():
            card = find_card(home() / name)
            ours = returns_text(card["return_mean"], card["return_std"]) if card else "not made"
            theirs = where.published
            published = returns_text(theirs["mean"], theirs["std"]) if theirs else ""
            won = f"{card['win_rate']:.0%}" if card and where.is_battle else ""
            size = f"{card['transitions']:,}" if card else f"({where.transitions:,})"
            table.add_row(name, published, ours, won, size)
        for name in owned():
            card = read_card(home() / name)
            returns = returns_text(card["return_mean"], card["return_std"])
            table.add_row(name, "", returns, "", f"{card['transitions']:,}")
        out.print(table)


@dataclass
class DataMake:
    """Roll out datasets from the behaviour ladder that ships with the package; what is there is left alone.

    Example: vgm2p data make twin/3hopper-medium --transitions 100000
    """

    tasks: Positional[tuple[str, ...]]
    """The datasets to make, or `twin` (all robots'), `smax` (all battles), `toy` or `all`."""
    transitions: int | None = None
    """Transitions in each; by default as many as the published set has (battles: 100,000, games: 4,096)."""
    seed: int = 0
    """Same seed, same versions, same kind of processor: same bytes."""
    threads: int | None = None
    """Physics threads; by default one per core. Does not change the data."""

    def run(self) -> None:
        """Make each, with a bar."""
        suites = {"all": TASKS, "twin": TWINS, "smax": BATTLES | MIXED, "toy": GAMES}
        names = [name for word in self.tasks for name in suites.get(word, [word])]
        if not names:
            raise InputError("name the datasets to make, or `twin`, `smax`, `toy` or `all`")
        others = []
        for where in [tabled(name) for name in names]:
            if other := _made_otherwise(where, self.transitions, self.seed):
                others.append(other)
            else:
                make_data(where.id, self.transitions, self.seed, self.threads)
        if others:
            raise InputError("\n".join(others))


def _made_otherwise(where, transitions, seed) -> str | None:
    """What to say if there are such data, but fewer than asked for or of another seed."""
    card, asked = find_card(home() / where.id), transitions or where.transitions
    if card is None or (card["transitions"] >= NEARLY_ALL * asked and card["seed"] == seed):
        return None
    return (
        f"{where.id} has been made already, with {card['transitions']:,} transitions and seed "
        f"{card['seed']}; asked for are {asked:,} and seed {seed}. Delete {home() / where.id} to make "
        "it anew (runs that began on it can't go on)"
    )


def make_data(name: str, transitions: int | None, seed: int, threads: int | None) -> None:
    """Make one dataset with a bar and say how near it is to the published one."""
    from vgm2p.behaviour import twin

    where, began = tabled(name), time.monotonic()
    if card := find_card(home() / name):
        out.print(f"{name}: {card['transitions']:,} transitions, made already")
        return
    with progress_bar() as bar:
        job = bar.add_task(f"rolling out {name}", total=transitions or where.transitions, note="")
        dataset = twin.make(where, transitions, seed, threads, lambda n: bar.advance(job, n))
    card, theirs = dataset.card, where.published
    beside = f"won {card['win_rate']:.0%}" if where.is_battle else ""
    if theirs:
        beside = f"(published: {returns_text(theirs['mean'], theirs['std'])})"
    out.print(
        f"{name}: {card['transitions']:,} transitions, "
        f"return {returns_text(card['return_mean'], card['return_std'])} {beside}, "
        f"{time.monotonic() - began:.0f} s"
    )


@dataclass
class DataShow:
    """Show a dataset's card and its histogram of returns, beside the published sets.

    Example: vgm2p data show twin/3hopper-medium --picture returns.png
    """

    task: TaskName
    """The dataset."""
    picture: Path | None = None
    """Also draw the histogram into this PNG file."""

    def run(self) -> None:
        """Print the card and the histogram."""
        from vgm2p.picture import draw_returns

        dataset = task(self.task).load_data()
        for name in CARD:
            if name in dataset.card:
                out.print(f"[bold]{name}[/bold] {dataset.card[name]}", highlight=False)
        returns, lengths = dataset.returns, dataset.lengths
        out.print(
            f"{len(returns):,} episodes, {lengths.sum():,} transitions, "
            f"return {returns.mean():.1f} ± {returns.std():.1f}, "
            f"length {lengths.mean():.0f}, {dataset.terminated.mean():.0%} truly ended"
        )
        counts, edges = np.histogram(returns, bins=20)
        for count, low, high in zip(counts, edges, edges[1:], strict=False):
            out.print(
                f"{number(low):>8} to {number(high):>6} {'█' * round(50 * count / counts.max())} {count}",
                highlight=False,
            )
        if task(self.task).published:
            near, stats = nearest_published(task(self.task).team, returns)
            out.print(f"nearest published set: OMIGA {near}, return {stats['mean']:.0f} ± {stats['std']:.0f}")
        if self.picture:
            draw_returns(dataset.id, returns, self.picture)
            out.print(f"wrote {self.picture}")


@dataclass
class DataCheck:
    """Look through a dataset as a careful researcher would; ends with status 1 if it finds an error.

    Borders and time limits, jumps, padding, copies, ranges and clipping of actions, legal choices, the scale
    of rewards, observations that give away the action, coverage of returns. A million rows take seconds.

    Example: vgm2p data check own/spread --page check.html
    """

    task: TaskName
    """The dataset."""
    page: Path | None = None
    """Also write a page with figures."""

    def run(self) -> None:
        """Print what is found, with rows and what to do."""
        from vgm2p.data.check import check, place

        dataset = task(self.task).load_data()
        findings = check(dataset)
        colors = {"error": "red", "warning": "yellow", "note": "green"}
        for found in findings:
            out.print(f"[bold {colors[found.level]}]{found.level}[/] {escape(found.told)}", highlight=False)
            if found.rows:
                rows = ", ".join(place(dataset, row) for row in found.rows)
                more = f" and {found.many - len(found.rows):,} more" if found.many > len(found.rows) else ""
                out.print(f"  {rows}{more}", highlight=False, style="dim")
            if found.mend:
                out.print(f"  -> {escape(found.mend)}", highlight=False)
        if self.page:
            from vgm2p.report.checked import write_check

            write_check(dataset, findings, self.page)
            out.print(f"wrote {self.page}")
        if any(found.level == "error" for found in findings):
            sys.exit(1)


@dataclass
class DataImport:
    """Read another format into a dataset of yours, which then trains as any other does.

    omiga: an HDF5 file of OMIGA's. vault: the folder <name>.vlt/<uid> of OG-MARL's. folder: NumPy or Parquet
    files of your own. minari: a dataset in Minari's own folder. docs/data.md describes each.

    Example: vgm2p data import vault vaults/3m.vlt/Good og/3m-good --time-limit 60
    """

    kind: Positional[Kind]
    """The format."""
    source: Positional[str]
    """The file or folder; of Minari, the dataset's name there."""
    name: Positional[str | None] = None
    """What the dataset is to be called; of OMIGA's files, by default omiga/<team>-<tier>."""
    agents: int | None = None
    """How many there are, where the format does not tell (minari, and folders without a layout.json)."""
    ends: Ends | None = None
    """Where end flags are: on the last action's row, or on an extra row with the last observation. By default
    what a folder's layout.json says, or step."""
    time_limit: int | None = None
    """Episodes of exactly so many steps were cut, whatever their flags say."""
    action_range: tuple[float, float] | None = None
    """Of the source's actions: mapped to [-1, 1], in which teams act, and back by what is exported."""
    env: str | None = None
    """What scores policies: a PettingZoo module, like mpe2.simple_spread_v3, or a team, like 3hopper."""
    env_options: str = "{}"
    """Options of that module's parallel_env, as JSON."""
    licence: str | None = None
    """The data's licence, for the card."""

    def run(self) -> None:
        """Import, and say what was found."""
        from vgm2p.data import omiga

        name = self.name or (omiga.name_of(Path(self.source)) if self.kind == "omiga" else None)
        if name is None:
            raise InputError(f"a name is missing: vgm2p data import {self.kind} {self.source} NAME")
        dataset = import_data(
            self.kind,
            self.source,
            name,
            agents=self.agents,
            ends=self.ends,
            time_limit=self.time_limit,
            action_range=self.action_range,
            env=self._env(),
            licence=self.licence,
        )
        card = dataset.card
        low = min(map(min, card.get("low", [[-1.0]])))  # agents may differ in what they do
        high = max(map(max, card.get("high", [[1.0]])))
        if self.action_range is None and (low, high) != (-1.0, 1.0):
            out.print(
                f"its actions are taken to lie in [-1, 1], as what we export does; the environment's lie in "
                f"[{low:g}, {high:g}]. If the source's do, import it with --action-range {low:g} {high:g}"
            )
        out.print(
            f"{name}: {card['episodes']:,} episodes, {card['transitions']:,} transitions of {card['agents']} "
            f"agents, return {returns_text(card['return_mean'], card['return_std'])}, "
            f"{dataset.terminated.mean():.0%} truly ended. Look at it: vgm2p data check {name}"
        )
        cut = int((~dataset.terminated).sum())
        if card.get("ends") == "step" and cut:
            out.print(
                f"{cut:,} last actions were left out, of episodes that were cut: the log does not hold what "
                "they led to (--ends row reads logs that do)"
            )

    def _env(self) -> dict | None:
        if self.env is None or self.env in TEAMS:
            return None if self.env is None else {"team": self.env}
        if not self.env or ("." not in self.env and find_spec(self.env) is None):
            raise unknown("team or module", self.env, TEAMS)
        try:
            return {"module": self.env, "options": json.loads(self.env_options)}
        except json.JSONDecodeError as error:
            raise InputError(f"--env-options {self.env_options!r} is no JSON: {error}") from error


@dataclass
class DataExport:
    """Write a dataset in another format, for other people's tools.

    Example: vgm2p data export twin/3hopper-medium vault vaults/3hopper.vlt/Medium
    """

    task: TaskName
    """The dataset."""
    kind: Positional[Kind]
    """The format."""
    out: Positional[str]
    """The file or folder, which must not exist; of Minari, the name there."""
    ends: Ends = "step"
    """Of vaults: OG-MARL's own alignment, or an extra row that keeps each episode's last observation."""

    def run(self) -> None:
        """Write it."""
        export_data(task(self.task).load_data(), self.kind, self.out, self.ends)
        out.print(f"wrote {self.out}")


@dataclass
class DataFetch:
    """Download public data from the Hugging Face Hub, going on where an earlier download was cut.

    Example: vgm2p data fetch core/smac_v1/3m.zip, then vgm2p data import vault vaults/3m.vlt/Good og/3m-good
    """

    path: Positional[str]
    """The file in the repository; a zip file is unpacked."""
    repo: str = OG_MARL
    """The dataset repository."""
    out: Path = Path("vaults")
    """Folder for it; sha256.json there keeps its digest."""

    def run(self) -> None:
        """Fetch, and say where."""
        out.print(f"{self.path} is in {fetch(self.repo, self.path, self.out)}")


Command = (
    Annotated[DataList, subcommand("list")]
    | Annotated[DataMake, subcommand("make")]
    | Annotated[DataShow, subcommand("show")]
    | Annotated[DataCheck, subcommand("check")]
    | Annotated[DataFetch, subcommand("fetch")]
    | Annotated[DataImport, subcommand("import")]
    | Annotated[DataExport, subcommand("export")]
)


@dataclass
class Data:
    """List, make, check and convert datasets."""

    command: Annotated[Command, arg(name="")]

    def run(self) -> None:
        """Run the inner command."""
        self.command.run()
