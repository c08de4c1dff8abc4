"""Commands on teams: from data to a trained, scored, filmed, exported and shared one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from rich.progress import Progress
from rich.table import Table
from tyro.conf import Positional, arg

from vgm2p.algorithms import ALGORITHMS, VGM2P
from vgm2p.claims.presets import CPU
from vgm2p.cli.data import make_data
from vgm2p.cli.screen import interval_text, out, progress_bar, returns_text, score_text
from vgm2p.command import command
from vgm2p.data.card import versions
from vgm2p.data.store import home, read_lines, write_json
from vgm2p.errors import InputError
from vgm2p.evaluate import evaluate
from vgm2p.runs import (
    Experiment,
    Watcher,
    algorithm_name,
    changed_fields,
    device,
    load_policy,
    read_experiment,
    run,
    run_task,
)
from vgm2p.stats import interval, number
from vgm2p.tasks import BATTLES, MIXED, TWINS, tabled, task
from vgm2p.types import Episodes

RECORDED = TWINS | BATTLES | MIXED  # what the claims' grids run on
RunFolder = Annotated[Positional[Path], arg(metavar="RUN")]


@dataclass
class Demo:
    """From nothing to a trained, scored, filmed team: some minutes on two cores."""

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
        from vgm2p.video import film

        where = task(self.task)
        if not (home() / where.id / "card.json").exists():
            make_data(where.id, self.transitions, 0, None)
        experiment = Experiment(self.task, VGM2P(), self.updates, seeds=self.seeds)
        train(experiment, self.out)
        earned = film(load_policy(self.out), where, self.out / "team.mp4")
        out.print(f"film: {self.out / 'team.mp4'} (return {number(earned)} in the part that is shown)")


@dataclass
class Train:
    """Learn a team policy from a dataset; go on where an earlier run of the same stopped.

    Example: vgm2p train twin/6halfcheetah-medium --out runs/first vgm2p --guidance-max 3
    """

    experiment: Annotated[Experiment, arg(name="")]
    out: Path | None = None
    """Folder of the run; by default runs/<task>/<algorithm>."""
    as_recorded: bool = False
    """Give the algorithm the settings that it has on this task in the recorded results. Settings of yours
    that differ from the defaults are added."""

    def run(self) -> None:
        """Train with a progress bar, then say the score and draw it."""
        asked = self.experiment
        if self.as_recorded:
            asked = _as_recorded(asked)
            out.print(f"trains, with the recorded settings: {command(asked)}", soft_wrap=True)
        train(asked, self.out or Path("runs") / asked.task / algorithm_name(asked.algorithm))


def train(experiment, folder: Path) -> None:
    """Run an experiment with a bar, print its score and draw its picture."""
    where = task(experiment.task)
    if where.data_sha256() is None:
        where.load_data()  # tells how to get them, before a bar is drawn
    if experiment.updates <= (warmup := getattr(experiment.algorithm, "warmup", 0)):
        out.print(
            f"warning: in the first {warmup} updates every action counts as good; these do no more than clone"
        )
    _tell_the_tables(experiment)
    with progress_bar() as bar:
        shown = Shown(bar, experiment)
        result = run(experiment, folder, shown)
        bar.update(shown.job, completed=experiment.updates)
    title = f"{result['algorithm']} on {result['task']}"
    if result["mean"] is None:
        out.print(
            f"{title}: trained. Its data name no environment to play in; what they alone tell: "
            f"vgm2p estimate {folder}"
        )
        return
    _tell_the_score(result, title)
    _draw(folder, title, where)


class Shown(Watcher):
    """A training on a progress bar: scores as they come, and a warning of labels that teach little."""

    def __init__(self, bar: Progress, experiment: Experiment):
        self.bar, self.warns_at = bar, 8 * experiment.log_every
        self.job = bar.add_task("training", total=experiment.updates, note="compiling")

    def advanced(self, step: int, metrics: dict[str, list[float]]) -> None:
        """Moves the bar."""
        self.bar.update(self.job, completed=step, note=f"policy loss {np.mean(metrics['loss/policy']):.3f}")
        positive = np.mean(metrics.get("label/positive", 0.5))
        if step == self.warns_at and not 0.05 <= positive <= 0.6:
            self.bar.console.print(f"warning: {positive:.0%} of the labels are positive, outside 5-60 %")

    def evaluated(self, step: int, episodes: list[Episodes]) -> None:
        """Prints the score."""
        self.bar.console.print(f"after {step:,} updates: {score_text(episodes)}")


def _draw(folder, title, where) -> None:
    """The run's picture; the score stands without one."""
    from vgm2p.picture import draw_run

    try:
        curve, returns = read_lines(folder / "evaluations.jsonl"), where.load_data().returns
        draw_run(title, curve, returns, folder / "picture.png")
        out.print(f"picture: {folder / 'picture.png'}")
    except InputError as missing:
        out.print(f"no picture: {missing}", markup=False)


def _tell_the_score(result, title) -> None:
    won = f"won {np.mean(result['win_rate']):.0%}, " if result["win_rate"] else ""
    out.print(
        f"[bold]{title}[/bold]: {won}return {number(result['mean'])}, "
        f"{interval_text(result['interval'], len(result['seeds']))}; "
        f"the data's episodes: {returns_text(result['data_mean'], result['data_std'])}"
    )
    if (normal := result.get("normalised")) is not None:
        out.print(f"normalised: {normal:.2f} (0: random actions, 1: the data's 90th percentile)")


def _as_recorded(experiment) -> Experiment:
    """The experiment with the records' settings and its own. InputError for what both set."""
    method, where = algorithm_name(experiment.algorithm), task(experiment.task)
    if where.id not in RECORDED:
        raise InputError(f"--as-recorded: no results are recorded on {where.id}, leave it out")
    recorded, own = CPU.algorithm(method, where.team), set(changed_fields(experiment.algorithm))
    if both := sorted(own.intersection(changed_fields(recorded))):
        raise InputError(
            f"--as-recorded sets {' and '.join(both)} of {method} on {where.id}: leave it, or yours, out; "
            f"without it, the same is: {command(replace(experiment, algorithm=recorded))}"
        )
    changes = {name: getattr(experiment.algorithm, name) for name in own}
    return replace(experiment, algorithm=CPU.algorithm(method, where.team, **changes))


def _tell_the_tables(experiment) -> None:
    """How the results were made, where that was with more data or other settings."""
    if experiment.task in RECORDED and tabled(experiment.task).has_part():
        out.print(f"of {experiment.task} there is a part only; the recorded results are of the whole")
    default = ALGORITHMS[algorithm_name(experiment.algorithm)]()
    if experiment.task in RECORDED and experiment.algorithm == default:
        theirs = _as_recorded(experiment)
        if theirs.algorithm != default:
            told = f"with the settings of the recorded results (--as-recorded) this is: {command(theirs)}"
            out.print(told, soft_wrap=True)


@dataclass
class Evaluate:
    """Score a trained team again: other episodes, other noise, other guidance.

    Example: vgm2p evaluate runs/first --noise 0 --guidance 2
    """

    run_folder: RunFolder
    """The folder of a run."""
    episodes: int = 32
    """Episodes per training seed."""
    seed: int = 1
    """Chooses the initial states and the noise; training evaluates with 0."""
    noise: float | None = None
    """Scale of the noise at execution, 0 to 1; by default the run's own."""
    guidance: float | None = None
    """Guidance strength, where training left it open (vgm2p, cfgrl_flow, categorical_cfg)."""
    steps: int | None = None
    """Steps from noise to action (flows, diffusion); by default the run's own."""
    json: Path | None = None
    """Also write every episode's return and length, and how they were played, into this file."""

    def run(self) -> None:
        """Play the episodes and print the score."""
        asked = {"noise": self.noise, "guidance": self.guidance, "steps": self.steps}
        options = {name: value for name, value in asked.items() if value is not None}
        policy = load_policy(self.run_folder).with_options(**options)
        where = run_task(self.run_folder)
        episodes = evaluate(policy, where, self.episodes, self.seed)
        if not (self.run_folder / "result.json").exists():
            out.print("this run has not ended: its last checkpoint is scored")
        means = np.array([e.returns.mean() for e in episodes])
        lengths = np.concatenate([e.lengths for e in episodes]).mean()
        out.print(
            f"{where.id}: {score_text(episodes)}, {interval_text(interval(means), len(means))}, "
            f"per seed {', '.join(map(number, means))}, episode length {lengths:.0f}"
        )
        if self.json:
            write_json(self.json, self._played(where, policy, episodes))
            out.print(f"wrote {self.json}")

    def _played(self, where, policy, episodes) -> dict:
        won = [e.wins.tolist() for e in episodes] if episodes[0].wins is not None else None
        return {
            "task": where.id,
            "run": str(self.run_folder),
            "seeds": list(policy.seeds),
            "evaluation_seed": self.seed,
            "options": {name: getattr(policy.algorithm, name) for name in policy.algorithm.options},
            "returns": [e.returns.tolist() for e in episodes],
            "lengths": [e.lengths.tolist() for e in episodes],
            "won": won,
            "versions": versions(),
            "device": device(),
        }


@dataclass
class Play:
    """Film a trained team. No display is needed.

    Example: vgm2p play runs/first --video team.mp4
    """

    run_folder: RunFolder
    """The folder of a run."""
    video: Path = Path("team.mp4")
    """Where to write the film: .mp4 or .gif."""
    seed: int = 0
    """Chooses the initial state and the noise."""
    seconds: float = 10.0
    """Length of the film in simulated time."""
    noise: float | None = None
    """Scale of the noise at execution, 0 to 1; by default the run's own."""

    def run(self) -> None:
        """Film one episode."""
        from vgm2p.video import film

        where = run_task(self.run_folder)
        policy = load_policy(self.run_folder)
        policy = policy if self.noise is None else policy.with_options(noise=self.noise)
        earned = film(policy, where, self.video, self.seed, self.seconds)
        out.print(f"wrote {self.video}: return {number(earned)} in the part that is shown")


@dataclass
class Estimate:
    """Say what the data alone tell of a trained team, where there is no environment to score it in.

    Fitted Q evaluation with an interval, the advantage of its actions over the logged ones, and how likely
    the logged ones are under it. docs/deploy.md says how far such estimates can be trusted.

    Example: vgm2p estimate runs/first
    """

    run_folder: RunFolder
    """The folder of a run."""
    updates: int = 4_000
    """Gradient updates of the evaluation."""
    discount: float = 0.99
    """Factor per step on later rewards."""
    noise: float | None = None
    """Scale of the noise at execution, 0 to 1; by default the run's own."""

    def run(self) -> None:
        """Estimate, print, and keep it in the run's folder."""
        from vgm2p.estimate import FQE, estimate

        policy = load_policy(self.run_folder)
        policy = policy if self.noise is None else policy.with_options(noise=self.noise)
        fqe = FQE(self.updates, discount=self.discount)
        dataset = run_task(self.run_folder).load_data()
        trained = read_experiment(self.run_folder)[1]["data_sha256"]
        if dataset.card["sha256"] != trained:
            raise InputError(
                f"the data {dataset.id} have been made anew since {self.run_folder} learned from them (their "
                f"sha256 is {dataset.card['sha256']}, not {trained}): bring those back, or train again"
            )
        found = estimate(policy, dataset, fqe)
        table = Table("training seed", "value", "95 % interval", "data", "advantage", "log-likelihood")
        for seed, told in zip(policy.seeds, found, strict=True):
            bounds = f"{told.low:.4g} to {told.high:.4g}"
            data = "cut short" if np.isnan(told.data_value) else f"{told.data_value:.4g}"
            rest = (f"{told.advantage:.4g}", f"{told.log_likelihood:.4g}")
            table.add_row(str(seed), f"{told.value:.4g}", bounds, data, *rest)
        out.print(table)
        out.print(
            f"value: discounted by {self.discount} from the data's first states; data: what its teams earned "
            "from there (cut short: their episodes end before what the value counts). The interval covers "
            "chance in the data, not what they do not hold."
        )
        how = {"updates": self.updates, "discount": self.discount, "noise": policy.algorithm.noise}
        estimates = {str(seed): told._asdict() for seed, told in zip(policy.seeds, found, strict=True)}
        record = how | {"data_sha256": dataset.card["sha256"], "seeds": estimates}
        write_json(self.run_folder / "estimate.json", record)


@dataclass
class Export:
    """Write a trained team as graphs that run where there is no JAX: one per agent, and a model card.

    Example: vgm2p export runs/first --out team
    """

    run_folder: RunFolder
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
