"""The command line: `vgm2p <command> --help` explains each."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tyro.conf import Positional, arg, subcommand

from vgm2p.algorithms import ALGORITHMS, VGM2P
from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.errors import InputError

out = Console()


def _bar() -> Progress:
    """A progress bar with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=out)


CHOICES = tyro.extras.subcommand_type_from_defaults(
    {name: kind() for name, kind in ALGORITHMS.items()},
    descriptions={name: kind.__doc__ or "" for name, kind in ALGORITHMS.items()},
)


@dataclass
class Train:
    """Learn a team policy from a dataset; go on where an earlier run of the same stopped.

    Example: vgm2p train twin/6halfcheetah-medium --out runs/first vgm2p --guidance-max 3
    """

    task: Positional[str]
    """The task, such as twin/3hopper-medium (`vgm2p data list` shows all)."""
    algorithm: Annotated[Algorithm, arg(name="", constructor=CHOICES)]
    """The algorithm and its hyper-parameters (`vgm2p train TASK vgm2p --help`)."""
    out: Path | None = None
    """Folder of the run; by default runs/<task>/<algorithm>."""
    updates: int = 10_000
    """Gradient updates per seed."""
    batch: int = 64
    """Transitions that the policy trains on per update; every agent of each is used."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds, all in this one run."""
    eval_every: int = 2_500
    """Updates between evaluations; the last checkpoint is always evaluated."""
    eval_episodes: int = 32
    """Episodes per seed and evaluation."""
    regress: Literal["raw", "clipped"] = "raw"
    """Learn the logged actions as they are, or clipped to [-1, 1]."""
    standardise: Literal["dataset", "vector"] = "dataset"
    """Scale observations with the data's statistics, or OMIGA's way, each by itself."""
    history: int = 1
    """How many of its own observations an agent sees, where it does not see the whole state."""
    window: int | None = None
    """Transitions in memory at once, for data larger than it; by default all."""

    def run(self) -> None:
        """Train with a progress bar, then say the score and draw it."""
        from vgm2p.runs import Experiment, algorithm_name

        experiment = Experiment(
            task=self.task,
            algorithm=self.algorithm,
            updates=self.updates,
            batch=self.batch,
            seeds=self.seeds,
            eval_every=self.eval_every,
            eval_episodes=self.eval_episodes,
            regress=self.regress,
            standardise=self.standardise,
            history=self.history,
            window=self.window,
        )
        name = algorithm_name(self.algorithm)
        train(experiment, self.out or Path("runs") / self.task / name)


@dataclass
class Evaluate:
    """Score a trained team again: other episodes, other noise, other guidance.

    Example: vgm2p evaluate runs/first --noise 0 --guidance 2
    """

    run_folder: Positional[Path]
    """The folder of a run."""
    episodes: int = 32
    """Episodes per training seed."""
    seed: int = 1
    """Chooses the initial states and the noise; training evaluates with 0."""
    noise: float | None = None
    """Scale of the noise at execution, 0 to 1; by default the run's own."""
    guidance: float | None = None
    """Guidance strength, where training left it open (vgm2p with --guidance-max, cfgrl_flow)."""
    steps: int | None = None
    """Steps from noise to action (flows, diffusion); by default the run's own."""

    def run(self) -> None:
        """Play the episodes and print the score."""
        from vgm2p.evaluate import evaluate
        from vgm2p.runs import load_policy, run_task
        from vgm2p.stats import interval

        asked = {"noise": self.noise, "guidance": self.guidance, "steps": self.steps}
        options = {name: value for name, value in asked.items() if value is not None}
        policy = load_policy(self.run_folder).with_options(**options)
        where = run_task(self.run_folder)
        episodes = evaluate(policy, where, self.episodes, self.seed)
        means = np.array([e.returns.mean() for e in episodes])
        lengths = np.concatenate([e.lengths for e in episodes]).mean()
        out.print(
            f"{where.id}: {_score_text(episodes)}, {_interval_text(interval(means))}, "
            f"per seed {', '.join(map(_number, means))}, episode length {lengths:.0f}"
        )


@dataclass
class Play:
    """Film a trained team. No display is needed.

    Example: vgm2p play runs/first --video team.mp4
    """

    run_folder: Positional[Path]
    """The folder of a run."""
    video: Path = Path("team.mp4")
    """Where to write the film: .mp4 or .gif."""
    seed: int = 0
    """Chooses the initial state and the noise."""
    seconds: float = 10.0
    """Length of the film in simulated time."""

    def run(self) -> None:
        """Film one episode."""
        from vgm2p.runs import load_policy, run_task
        from vgm2p.video import film

        where = run_task(self.run_folder)
        earned = film(load_policy(self.run_folder), where, self.video, self.seed, self.seconds)
        out.print(f"wrote {self.video}: return {_number(earned)} in the part that is shown")


@dataclass
class DataList:
    """List the datasets: published statistics, ours where the twin has been made, and your own."""

    def run(self) -> None:
        """Print the table."""
        from vgm2p.data.store import home, read_json
        from vgm2p.tasks import TASKS, owned

        table = Table(title=f"datasets in {home()}")
        for heading in ("id", "published mean ± sd", "ours", "won", "transitions"):
            is_id = heading == "id"
            table.add_column(heading, justify="left" if is_id else "right", no_wrap=is_id)
        for name, task in TASKS.items():
            path = home() / name / "card.json"
            card = read_json(path) if path.exists() else None
            ours = _returns_text(card["return_mean"], card["return_std"]) if card else "not made"
            theirs = task.published
            published = _returns_text(theirs["mean"], theirs["std"]) if theirs else ""
            won = f"{card['win_rate']:.0%}" if card and task.is_battle else ""
            size = f"{card['transitions']:,}" if card else f"({task.transitions:,})"
            table.add_row(name, published, ours, won, size)
        for name in owned():
            card = read_json(home() / name / "card.json")
            returns = _returns_text(card["return_mean"], card["return_std"])
            table.add_row(name, "", returns, "", f"{card['transitions']:,}")
        out.print(table)


@dataclass
class DataMake:
    """Roll out datasets from the behaviour ladder that ships with the package.

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
        from vgm2p.tasks import BATTLES, GAMES, TASKS, TWINS, tabled

        suites = {"all": TASKS, "twin": TWINS, "smax": BATTLES, "toy": GAMES}
        names = [name for word in self.tasks for name in suites.get(word, [word])]
        for where in [tabled(name) for name in names]:
            make_data(where.id, self.transitions, self.seed, self.threads)


@dataclass
class DataShow:
    """Show a dataset's card and its histogram of returns, beside the published sets.

    Example: vgm2p data show twin/3hopper-medium --picture returns.png
    """

    task: Positional[str]
    """The dataset."""
    picture: Path | None = None
    """Also draw the histogram into this PNG file."""

    def run(self) -> None:
        """Print the card and the histogram."""
        from vgm2p.picture import draw_returns
        from vgm2p.tasks import nearest_published, task

        dataset = task(self.task).load_data()
        for name in ("id", "source", "note", "licence", "env", "seed", "versions", "sha256"):
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
                f"{low:8.0f} to {high:6.0f} {'█' * round(50 * count / counts.max())} {count}", highlight=False
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

    task: Positional[str]
    """The dataset."""
    page: Path | None = None
    """Also write a page with figures."""

    def run(self) -> None:
        """Print what is found, with rows and what to do."""
        from vgm2p.data.check import check, place
        from vgm2p.tasks import task

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
class DataFetch:
    """Download public data from the Hugging Face Hub, going on where an earlier download was cut.

    Example: vgm2p data fetch core/smac_v1/3m.zip, then vgm2p data import vault vaults/3m.vlt/Good og/3m-good
    """

    path: Positional[str]
    """The file in the repository; a zip file is unpacked."""
    repo: str = "InstaDeepAI/og-marl"
    """The dataset repository."""
    out: Path = Path("vaults")
    """Folder for it; sha256.json there keeps its digest."""

    def run(self) -> None:
        """Fetch, and say where."""
        from vgm2p.hub import fetch

        out.print(f"{self.path} is in {fetch(self.repo, self.path, self.out)}")


@dataclass
class Push:
    """Upload a run or an exported team to the Hugging Face Hub (log in first: hf auth login)."""

    folder: Positional[Path]
    """The folder of a run, or of `vgm2p export`."""
    repo: Positional[str]
    """The repository, <you>/<name>; made if it is not there."""

    def run(self) -> None:
        """Upload."""
        from vgm2p.hub import push

        out.print(push(self.folder, self.repo))


@dataclass
class Pull:
    """Download a run or an exported team from the Hugging Face Hub; only plain files are taken."""

    repo: Positional[str]
    """The repository, <owner>/<name>."""
    out: Positional[Path]
    """Folder for it."""

    def run(self) -> None:
        """Download."""
        from vgm2p.hub import pull

        out.print(f"pulled {self.repo} into {pull(self.repo, self.out)}")


@dataclass
class DataImport:
    """Read another format into a dataset of yours, which then trains as any other does.

    omiga: an HDF5 file of OMIGA's. vault: the folder <name>.vlt/<uid> of OG-MARL's. folder: NumPy or Parquet
    files of your own. minari: a dataset in Minari's own folder. docs/data.md describes each.

    Example: vgm2p data import vault vaults/3m.vlt/Good og/3m-good --time-limit 60
    """

    kind: Positional[Literal["omiga", "vault", "folder", "minari"]]
    """The format."""
    source: Positional[str]
    """The file or folder; of Minari, the dataset's name there."""
    name: Positional[str | None] = None
    """What the dataset is to be called; of OMIGA's files, by default omiga/<team>-<tier>."""
    agents: int | None = None
    """How many there are, where the format does not tell (folder, minari)."""
    ends: Literal["step", "row"] = "step"
    """Where end flags are: on the last action's row, or on an extra row with the last observation."""
    time_limit: int | None = None
    """Episodes of exactly so many steps were cut, whatever their flags say."""
    env: str | None = None
    """What scores policies: a PettingZoo module, like mpe2.simple_spread_v3, or a team, like 3hopper."""
    env_options: str = "{}"
    """Options of that module's parallel_env, as JSON."""
    licence: str | None = None
    """The data's licence, for the card."""

    def run(self) -> None:
        """Import, and say what was found."""
        from vgm2p.data import omiga
        from vgm2p.data.importing import import_data

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
            env=self._env(),
            licence=self.licence,
        )
        card = dataset.card
        out.print(
            f"{name}: {card['episodes']:,} episodes, {card['transitions']:,} transitions of {card['agents']} "
            f"agents, return {_returns_text(card['return_mean'], card['return_std'])}, "
            f"{dataset.terminated.mean():.0%} truly ended. Look at it: vgm2p data check {name}"
        )

    def _env(self) -> dict | None:
        from vgm2p.tasks import TEAMS

        if self.env is None or self.env in TEAMS:
            return {"team": self.env} if self.env else None
        try:
            return {"module": self.env, "options": json.loads(self.env_options)}
        except json.JSONDecodeError as error:
            raise InputError(f"--env-options {self.env_options!r} is no JSON: {error}") from error


@dataclass
class DataExport:
    """Write a dataset in another format, for other people's tools.

    Example: vgm2p data export twin/3hopper-medium vault vaults/3hopper.vlt/Medium
    """

    task: Positional[str]
    """The dataset."""
    kind: Positional[Literal["omiga", "vault", "folder", "minari"]]
    """The format."""
    out: Positional[str]
    """The file or folder, which must not exist; of Minari, the name there."""
    ends: Literal["step", "row"] = "step"
    """Of vaults: OG-MARL's own alignment, or an extra row that keeps each episode's last observation."""

    def run(self) -> None:
        """Write it."""
        from vgm2p.data.importing import export_data
        from vgm2p.tasks import task

        export_data(task(self.task).load_data(), self.kind, self.out, self.ends)
        out.print(f"wrote {self.out}")


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


@dataclass
class BehaviourList:
    """List the behaviour policies that ship with the package and each tier's mix of them."""

    def run(self) -> None:
        """Print one table per robot or scenario."""
        from vgm2p.behaviour.ladder import card
        from vgm2p.tasks import TEAMS

        for body in (team.body for team in TEAMS.values() if team.suite != "toy"):
            content = card(body)
            tiers = content["tiers"]
            table = Table("rung", "iteration", "return", "won", "length", *tiers, title=body)
            for rung in content["rungs"]:
                shares = [f"{tiers[tier].get(rung['file'], 0):.1%}" for tier in tiers]
                won = f"{rung['win_rate']:.0%}" if "win_rate" in rung else ""
                told = (_returns_text(rung["mean"], rung["std"]), won, f"{rung['length']:.0f}")
                table.add_row(rung["file"], str(rung["iteration"]), *told, *shares)
            out.print(table)


@dataclass
class Demo:
    """From nothing to a trained, scored, filmed team: about ten minutes on two cores."""

    out: Path = Path("runs/demo")
    """Folder for the run, the picture and the film."""
    task: str = "twin/6halfcheetah-medium-replay"
    """The dataset, made if it is not there."""
    transitions: int | None = None
    """How many to make if the data are not there; by default as many as the published set has."""
    updates: int = 10_000
    """Gradient updates per seed."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""

    def run(self) -> None:
        """Make data, train, evaluate, draw, film."""
        from vgm2p.data.store import home
        from vgm2p.runs import Experiment, load_policy
        from vgm2p.tasks import task
        from vgm2p.video import film

        where = task(self.task)
        if not (home() / where.id / "card.json").exists():
            make_data(where.id, self.transitions, 0, None)
        experiment = Experiment(self.task, VGM2P(), self.updates, seeds=self.seeds)
        train(experiment, self.out)
        earned = film(load_policy(self.out), where, self.out / "team.mp4")
        out.print(f"film: {self.out / 'team.mp4'} (return {_number(earned)} in the part that is shown)")


def train(experiment, folder: Path) -> None:
    """Run an experiment with a bar, print its score and draw its picture."""
    from vgm2p import runs
    from vgm2p.picture import draw_run
    from vgm2p.tasks import task

    returns = task(experiment.task).load_data().returns  # missing data are told before a bar is drawn
    with _bar() as bar:
        job = bar.add_task("training", total=experiment.updates, note="compiling")

        class Bar(runs.Watcher):
            def advanced(self, step, metrics):
                bar.update(job, completed=step, note=f"policy loss {np.mean(metrics['loss/policy']):.3f}")
                positive = np.mean(metrics.get("label/positive", 0.5))
                if step == experiment.log_every * 8 and not 0.05 <= positive <= 0.6:
                    bar.console.print(f"warning: {positive:.0%} of the labels are positive, outside 5-60 %")

            def evaluated(self, step, episodes):
                bar.console.print(f"after {step:,} updates: {_score_text(episodes)}")

        result = runs.run(experiment, folder, Bar())
        bar.update(job, completed=experiment.updates)
    if result["mean"] is None:
        out.print(
            f"{result['algorithm']} on {result['task']}: trained. Its data name no environment to play in; "
            f"what they alone tell: vgm2p estimate {folder}"
        )
        return
    draw_run(
        f"{result['algorithm']} on {result['task']}",
        runs.read_lines(folder / "evaluations.jsonl"),
        returns,
        folder / "picture.png",
    )
    won = f"won {np.mean(result['win_rate']):.0%}, " if result["win_rate"] else ""
    out.print(
        f"[bold]{result['algorithm']} on {result['task']}[/bold]: {won}return {_number(result['mean'])}, "
        f"{_interval_text(result['interval'])}; "
        f"the data's episodes: {_returns_text(result['data_mean'], result['data_std'])}"
    )
    out.print(f"picture: {folder / 'picture.png'}")


def _interval_text(bounds: tuple[float, float]) -> str:
    low, high = bounds
    if np.isnan(low):
        return "one seed, so no interval"
    return f"95 % interval over seeds {_number(low)} to {_number(high)}"


def _score_text(episodes) -> str:
    """Mean return over seeds and, of battles, how many were won."""
    won = "" if episodes[0].wins is None else f", won {np.mean([e.wins.mean() for e in episodes]):.0%}"
    return f"return {_number(np.mean([e.returns.mean() for e in episodes]))}{won}"


def _number(value: float) -> str:
    """A return: whole numbers, with two decimals where they are small, as in battles (at most 2)."""
    return f"{value:.{0 if abs(value) > 20 else 2}f}"


def make_data(name: str, transitions: int | None, seed: int, threads: int | None) -> None:
    """Make one dataset with a bar and say how near it is to the published one."""
    from vgm2p.behaviour import twin
    from vgm2p.tasks import tabled

    where, began = tabled(name), time.monotonic()
    with _bar() as bar:
        job = bar.add_task(f"rolling out {name}", total=transitions or where.transitions, note="")
        dataset = twin.make(where, transitions, seed, threads, lambda n: bar.advance(job, n))
    card, theirs = dataset.card, where.published
    beside = f"won {card['win_rate']:.0%}" if where.is_battle else ""
    if theirs:
        beside = f"(published: {_returns_text(theirs['mean'], theirs['std'])})"
    out.print(
        f"{name}: {card['transitions']:,} transitions, "
        f"return {_returns_text(card['return_mean'], card['return_std'])} {beside}, "
        f"{time.monotonic() - began:.0f} s"
    )


def _returns_text(mean: float, std: float) -> str:
    return f"{_number(mean)} ± {std:.{0 if abs(mean) > 20 else 2}f}"


Data = (
    Annotated[DataList, subcommand("list")]
    | Annotated[DataMake, subcommand("make")]
    | Annotated[DataShow, subcommand("show")]
    | Annotated[DataCheck, subcommand("check")]
    | Annotated[DataFetch, subcommand("fetch")]
    | Annotated[DataImport, subcommand("import")]
    | Annotated[DataExport, subcommand("export")]
)
Behaviour = Annotated[BehaviourTrain, subcommand("train")] | Annotated[BehaviourList, subcommand("list")]


@dataclass
class Claims:
    """Run the grid behind a claim and print its tables; each method with the settings in `claims/`.

    table: every method on four sets, the main seven on all twelve; many hours of two cores.

    sensitivity: four coefficients of VGM²P and its rivals' own, over thirtyfold ranges; hours.

    ablations: choices of ours beside what else could have been chosen, on three sets; hours.

    efficiency: what training and acting cost, every method in one run; leave the machine idle (15 minutes).

    smax: eight methods on the fourteen sets of battles, by battles won; hours.

    Stopped and started again, a grid goes on; what the record holds with today's settings is not run again.
    """

    claim: Positional[Literal["table", "sensitivity", "ablations", "efficiency", "smax"]]
    """Which claim."""
    preset: Literal["cpu", "paper"] = "cpu"
    """Of the table: two cores' networks and updates, or the papers' (needs an accelerator)."""
    runs: Path | None = None
    """Folder of the runs; by default runs/<claim>."""
    record: Path | None = None
    """The record, one line per (task, method, seed); by default in results/."""
    jobs: int = 2
    """Cells trained side by side, each on one core."""
    table_only: bool = False
    """Print the tables of the record and train nothing."""
    marl_eval: Path | None = None
    """Also write the main methods' scores of the table in marl-eval's JSON form."""

    def run(self) -> None:
        """Run the grid with a bar, then print the tables."""
        from vgm2p.claims import ablations, efficiency, sensitivity, smax, table
        from vgm2p.claims.grid import read_record
        from vgm2p.claims.marl_eval import ENVIRONMENT, marl_eval
        from vgm2p.data.store import write_json

        if self.claim != "table" and (self.preset != "cpu" or self.marl_eval):
            raise InputError(f"--preset and --marl-eval are for the table: leave them out of {self.claim}")
        name = self.claim if self.preset == "cpu" else f"{self.claim}-{self.preset}"
        record = self.record or Path(f"results/{name}.{'json' if self.claim == 'efficiency' else 'jsonl'}")
        modules = (table, sensitivity, ablations, efficiency, smax)
        claim: Any = next(module for module in modules if module.__name__.endswith(self.claim))
        failures = [] if self.table_only else self._measure(claim, self.runs or Path("runs") / name, record)
        if not record.exists():
            raise InputError(f"there is no record {record}: run the claim without --table-only")
        print(claim.tables(record))
        if self.marl_eval:
            scores = marl_eval(table.Results(read_record(record)), table.MAIN)
            write_json(self.marl_eval, scores)
            sets = scores[ENVIRONMENT]
            out.print(
                f"wrote {self.marl_eval}: {len(sets)} sets on which all of {', '.join(table.MAIN)} have run"
            )
        if failures:
            raise InputError("these cells failed: " + "; ".join(failures))

    def _measure(self, claim, runs, record) -> list[str]:
        """Fill the record, with a bar; returns the cells that failed."""
        from vgm2p.claims import presets
        from vgm2p.claims.grid import run_grid

        with _bar() as bar:
            if self.claim == "efficiency":
                claim.measure(record, self._tick(bar, len(claim.METHODS) + len(claim.GROWING)))
                return []
            preset = {"cpu": presets.CPU, "paper": presets.PAPER}[self.preset]
            grid = claim.cells(preset) if self.claim == "table" else claim.cells()
            return run_grid(grid, runs, record, self.jobs, self._tick(bar, len(grid)))

    @staticmethod
    def _tick(bar, total):
        job = bar.add_task("cells", total=total, note="")

        def tick(line: str) -> None:
            bar.advance(job)
            bar.console.print(line)

        return tick


@dataclass
class Report:
    """Write one self-contained page: the records of the claims, and any runs of yours.

    Example: vgm2p report runs/cheetah -o report.html
    """

    runs: Positional[tuple[Path, ...]] = ()
    """Folders of runs, or folders that hold some; those that failed or have not ended are listed too."""
    out: Annotated[Path, arg(aliases=("-o",))] = Path("report.html")
    """The page."""
    results: Path = Path("results")
    """Folder of the claims' records, films included; what it lacks is left out."""

    def run(self) -> None:
        """Read, draw and write."""
        from vgm2p.report.page import write_report

        write_report(list(self.runs), self.results, self.out)
        out.print(f"wrote {self.out}: {self.out.stat().st_size / 1e6:.1f} MB, one file that needs no network")


@dataclass
class Estimate:
    """Say what the data alone tell of a trained team, where there is no environment to score it in.

    Fitted Q evaluation with an interval, the advantage of its actions over the logged ones, and how likely
    the logged ones are under it. docs/deploy.md says how far such estimates can be trusted.

    Example: vgm2p estimate runs/first
    """

    run_folder: Positional[Path]
    """The folder of a run."""
    updates: int = 4_000
    """Gradient updates of the evaluation."""
    discount: float = 0.99
    """Factor per step on later rewards."""
    noise: float | None = None
    """Scale of the noise at execution, 0 to 1; by default the run's own."""

    def run(self) -> None:
        """Estimate, print, and keep it in the run's folder."""
        from vgm2p.data.store import write_json
        from vgm2p.estimate import FQE, estimate
        from vgm2p.runs import load_policy, run_task

        policy = load_policy(self.run_folder)
        if self.noise is not None:
            policy = policy.with_options(noise=self.noise)
        fqe = FQE(self.updates, discount=self.discount)
        found = estimate(policy, run_task(self.run_folder).load_data(), fqe)
        table = Table("training seed", "value", "95 % interval", "data", "advantage", "log-likelihood")
        for seed, told in zip(policy.seeds, found, strict=True):
            interval = f"{told.low:.4g} to {told.high:.4g}"
            rest = (told.data_value, told.advantage, told.log_likelihood)
            table.add_row(str(seed), f"{told.value:.4g}", interval, *(f"{x:.4g}" for x in rest))
        out.print(table)
        out.print(
            f"value: discounted by {self.discount} from the data's first states; data: what its teams earned "
            "from there. The interval covers chance in the data, not what they do not hold."
        )
        estimates = {str(seed): told._asdict() for seed, told in zip(policy.seeds, found, strict=True)}
        write_json(self.run_folder / "estimate.json", {"updates": self.updates, "seeds": estimates})


@dataclass
class Export:
    """Write a trained team as graphs that run where there is no JAX: one per agent, and a model card.

    Example: vgm2p export runs/first --out team
    """

    run_folder: Positional[Path]
    """The folder of a run."""
    out: Path = Path("team")
    """Folder for the graphs, model.json and README.md."""
    to: Literal["onnx", "stablehlo"] = "onnx"
    """ONNX runs nearly everywhere; StableHLO is what XLA and IREE compile."""
    seed: int | None = None
    """Which training seed of the run; by default the first."""
    noise: float | None = None
    """Scale of the noise that is built in; by default the run's own. 0: the likeliest choice, of battles."""

    def run(self) -> None:
        """Export, check against the policy, and say where."""
        from vgm2p.export import export

        for path in export(self.run_folder, self.out, self.to, self.seed, self.noise):
            out.print(f"wrote {path}", highlight=False, soft_wrap=True)


@dataclass
class DataCommand:
    """List, make and show datasets."""

    command: Annotated[Data, arg(name="")]

    def run(self) -> None:
        """Run the inner command."""
        self.command.run()


@dataclass
class BehaviourCommand:
    """The policies that our data come from: list them, or train them again."""

    command: Annotated[Behaviour, arg(name="")]

    def run(self) -> None:
        """Run the inner command."""
        self.command.run()


Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Play, subcommand("play")]
    | Annotated[Estimate, subcommand("estimate")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Push, subcommand("push")]
    | Annotated[Pull, subcommand("pull")]
    | Annotated[DataCommand, subcommand("data")]
    | Annotated[BehaviourCommand, subcommand("behaviour")]
    | Annotated[Claims, subcommand("claims")]
    | Annotated[Report, subcommand("report")]
)


def parse(args: list[str] | None = None):
    """Offline multi-agent reinforcement learning with one-step flow policies."""
    return tyro.cli(Command, prog="vgm2p", description=parse.__doc__, args=args)  # type: ignore[arg-type]


def main(args: list[str] | None = None) -> None:
    """Run one command; bad input ends with status 2 and a message, an interrupt with 130."""
    command = parse(args)
    try:
        command.run()
    except (InputError, ArithmeticError) as error:
        told = f"[bold red]error:[/bold red] {escape(str(error))}"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)  # a path stays in one piece
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run the same command again to go on from the last checkpoint")
        sys.exit(130)
