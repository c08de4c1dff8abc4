"""A run is a folder of plain files; this is the Python loop that fills it, and the readers.

    experiment.json      what was asked for, the data's digest, versions and device
    metrics.jsonl        one line per logged step: the mean of every metric since the last, per seed
    evaluations.jsonl    one line per evaluation: every episode's return, per seed
    state.safetensors    the last checkpoint of everything that training changes
    data.json            the card of the data
    policy.safetensors   the slow parameters and the view: what `load_policy` reads
    result.json          the last checkpoint's score with its interval, beside the data's own; no score
                         where the data name no environment
    failure.json         why it stopped, if a metric or a parameter was no longer a number
    .lock                held by the process that trains there

A run that was killed goes on from its last checkpoint and ends in the same bits.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from safetensors.numpy import save_file
from tyro.conf import Positional, arg

from vgm2p import values
from vgm2p.actions import Codec, Continuous, Discrete
from vgm2p.algorithms import ALGORITHMS
from vgm2p.algorithms.algorithm import Algorithm, Fit
from vgm2p.data.card import versions
from vgm2p.data.dataset import Dataset, Replay
from vgm2p.data.store import (
    locked,
    read_json,
    read_lines,
    read_tensors,
    replace_file,
    write_json,
    write_lines,
)
from vgm2p.data.window import Window, blocks
from vgm2p.errors import InputError, check_positive, check_share, check_words
from vgm2p.evaluate import check_episodes, evaluate
from vgm2p.flows import MeanFlow
from vgm2p.policy import Policy, check_execution
from vgm2p.stats import interval, normalise
from vgm2p.tasks import PADDING, TASKS, Own, Task, task
from vgm2p.train import NonFiniteError, advance, check_finite, extent, init, seed_keys, seeds_together
from vgm2p.types import Episodes, Spec, check_sampling, check_seed
from vgm2p.view import Standardise, TeamView

CHECKPOINT_SECONDS = 60
RECORDED = {  # in every experiment.json
    "task": str,
    "agents": int,
    "padding": int,
    "discrete": bool,
    "action_dim": int,
    "data_sha256": str,
}
KEPT = ("state.safetensors", "policy.safetensors", "result.json")  # what holds a folder for its experiment
_CHOICES = tyro.extras.subcommand_type_from_defaults(  # the command line's, each explained by its class
    {name: kind() for name, kind in ALGORITHMS.items()},
    descriptions={name: kind.__doc__ or "" for name, kind in ALGORITHMS.items()},
)
_CLASSES = {c.__name__: c for c in (*ALGORITHMS.values(), Fit, MeanFlow, *values.LEARNERS)}


@dataclass(frozen=True)
class Experiment:
    """One algorithm on one task, for some seeds. The defaults suit two cores and no GPU."""

    task: Annotated[Positional[str], arg(metavar="TASK")]
    """The task, such as twin/3hopper-medium (`vgm2p data list` shows all)."""
    algorithm: Annotated[Algorithm, arg(name="", constructor=_CHOICES)]
    """The algorithm and its hyper-parameters (`vgm2p train TASK vgm2p --help`)."""
    updates: int = 10_000
    """Gradient updates per seed, over which the learning rate falls to zero."""
    batch: int = 64
    """Transitions that the policy trains on per update; every agent of each is used."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds, all in this one run."""
    eval_every: int = 2_500
    """Updates between evaluations; the last checkpoint is always evaluated."""
    eval_episodes: int = 32
    """Episodes per seed and evaluation."""
    log_every: int = 250
    """Updates between lines of metrics."""
    regress: Literal["raw", "clipped"] = "raw"
    """Learn the logged actions as they are, or clipped to [-1, 1] as the motors saw them."""
    codes: float = 1.0
    """Size of the entries of choices' codes, plus and minus; flows add noise of size 1 to them."""
    standardise: Standardise = "dataset"
    """Scale observations with the data's statistics, or OMIGA's way, each by itself."""
    history: int = 1
    """How many of its own observations an agent sees, the current one included, where it does not see the
    whole state."""
    window: int | None = None
    """Transitions in memory at once, for data larger than it: random episodes, drawn anew at every line of
    metrics. By default all."""

    def __post_init__(self):
        check_words(self)
        counts = ("updates", "batch", "eval_every", "eval_episodes", "log_every", "history", "window")
        for name in counts:
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} {value} must be at least 1")
        check_positive(self, "codes")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds {list(self.seeds)}: name at least one, and none twice")
        for seed in self.seeds:
            check_seed(seed)
        check_episodes("eval_episodes", self.eval_episodes, len(self.seeds))
        _check_algorithm(self.algorithm)


def _check_algorithm(algorithm):
    """InputError for what is none, and for settings that its own class does not check."""
    if not isinstance(algorithm, tuple(ALGORITHMS.values())):
        raise InputError(f"algorithm is {algorithm!r}: give an object, such as vgm2p.VGM2P()")
    try:
        hash(algorithm)
    except TypeError as error:
        raise InputError(f"{algorithm!r} holds a list: write a tuple, as in hidden=(256, 256)") from error
    if hasattr(algorithm, "value_rate"):
        check_share(algorithm, "value_rate")
    check_execution(algorithm)
    check_sampling(algorithm.sampling)


class Setup(NamedTuple):
    """What an experiment needs before its first update: all the data, and those that it learns from then."""

    dataset: Dataset
    spec: Spec
    view: TeamView
    replay: Callable[[int], Replay]  # for the updates after that step


def prepare(experiment: Experiment) -> Setup:
    """Load the data and put on the device what the algorithm learns from.

    Observations are standardised with the selected episodes too: with those of teams that lie on their back,
    what a running team sees would be squeezed together.
    """
    where, sampling = task(experiment.task), experiment.algorithm.sampling
    dataset = where.load_data()
    padding = PADDING.get(where.team, 0)
    shown = (experiment.standardise, padding, experiment.history)
    chosen = np.arange(len(dataset.lengths))
    if sampling.selection is not None:
        chosen = dataset.best(sampling.selection)
    if experiment.window is not None:
        return _prepare_window(experiment, where, dataset, chosen, shown)
    selected = dataset if len(chosen) == len(dataset.lengths) else dataset.take(chosen)
    view = selected.view(*shown)
    spec = _spec(experiment, view, dataset.legal is not None, dataset.action_dim)
    replay = selected.replay(view, sampling, spec.actions)
    return Setup(dataset, spec, view, lambda step: replay)


def _prepare_window(experiment, where, dataset, chosen, shown) -> Setup:
    """The same, with a window of the chosen episodes on the device and the others on disk."""
    view = TeamView.over(blocks(dataset, chosen), dataset.action.shape[1], *shown)
    spec = _spec(experiment, view, dataset.legal is not None, dataset.action_dim)
    sampling = experiment.algorithm.sampling
    window = Window(dataset, chosen, view, sampling, spec.actions, experiment.window)
    return Setup(dataset, spec, view, lambda step: window.replay(step // experiment.log_every))


class Watcher:
    """What the loop tells while it runs; the CLI shows it, a library user may ignore it."""

    def advanced(self, step: int, metrics: dict[str, list[float]]) -> None:
        """After each logged chunk."""

    def evaluated(self, step: int, episodes: list[Episodes]) -> None:
        """After each evaluation."""


def run(experiment: Experiment, folder: Path | str, watcher: Watcher | None = None) -> dict[str, Any]:
    """Train, evaluate and save into `folder`, going on where an earlier run of the same stopped.

    Returns the content of `result.json`. Raises InputError if the folder holds another experiment that has
    come as far as a checkpoint, if another process trains there, or if the data's environment is shaped
    unlike the data; NonFiniteError if a metric or a parameter is not a number (the last good checkpoint
        stays).
    """
    folder, where, setup = Path(folder), task(experiment.task), prepare(experiment)
    if isinstance(where, Own):
        where.check(setup.dataset)
    lock = locked(
        folder / ".lock", f"{folder} is being trained by another process: choose another with --out"
    )
    try:
        _claim(folder, _record(experiment, setup))
        write_json(folder / "data.json", setup.dataset.card)
        if not (folder / "result.json").exists():
            seconds = _train(experiment, setup, where, folder, watcher or Watcher())
            write_json(folder / "result.json", _result(experiment, setup, folder, seconds))
    finally:
        lock.release()
    return read_json(folder / "result.json")


def _train(experiment, setup, where, folder, watcher) -> float:
    """Update, log, evaluate and save from where the folder stands to the end; the seconds spent in all."""
    keys, updates = seed_keys(experiment.seeds), experiment.updates
    states, seconds = _restore(experiment, setup, folder, keys)
    (folder / "failure.json").unlink(missing_ok=True)
    step, saved, began = int(states.step[0]), time.monotonic(), time.monotonic()
    spent = lambda: seconds + time.monotonic() - began  # noqa: E731
    while True:
        due = step > 0 and (step % experiment.eval_every == 0 or step == updates)
        if due and where.has_env and step not in _scored(folder):
            policy = Policy(experiment.algorithm, setup.spec, setup.view, states.target, experiment.seeds)
            _score(policy, where, experiment.eval_episodes, step, folder, watcher)
        if step == updates:
            return spent()
        chunk = min(updates - step, *(b - step % b for b in (experiment.log_every, experiment.eval_every)))
        states, metrics = advance(
            experiment.algorithm,
            setup.spec,
            states,
            setup.replay(step),
            keys,
            jnp.int32(chunk),
            batch=experiment.batch,
            together=seeds_together(),
        )
        step += chunk
        line = {name: np.asarray(value).tolist() for name, value in metrics.items()}
        _check(line, step, experiment.seeds, folder)
        _append(folder / "metrics.jsonl", {"step": step, **line})
        watcher.advanced(step, line)
        if (
            step % experiment.eval_every == 0
            or step == updates
            or time.monotonic() - saved > CHECKPOINT_SECONDS
        ):
            _check({"the largest parameter": extent(states).tolist()}, step, experiment.seeds, folder)
            _checkpoint(folder, states, setup.view, spent())
            saved = time.monotonic()


def _scored(folder) -> set[int]:
    """The updates after which there has been an evaluation."""
    return {line["step"] for line in read_lines(folder / "evaluations.jsonl")}


def load_policy(folder: Path | str) -> Policy:
    """The trained team of a run, every seed of it.

    Raises InputError if the folder is not a run, or if its parameters do not fit its experiment.
    """
    folder = Path(folder)
    experiment, record = read_experiment(folder)
    tensors = read_tensors(folder / "policy.safetensors")
    mean, std, *own = (jnp.asarray(x) for x in _view_arrays(tensors, folder / "policy.safetensors"))
    sizes = (record["agents"], experiment.standardise, record["padding"], experiment.history)
    view = TeamView(mean, std, tuple(own), *sizes)
    spec = _spec(experiment, view, record["discrete"], record["action_dim"])
    skeleton = jax.eval_shape(lambda k: init(experiment.algorithm, spec, k), seed_keys(experiment.seeds))
    params = _unflatten(skeleton.target, tensors, "params", folder / "policy.safetensors")
    return Policy(experiment.algorithm, spec, view, params, experiment.seeds)


def changed_fields(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as JSON."""
    default = type(config)()
    return {
        field.name: encode(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(default, field.name)
    }


def encode(config: Any) -> Any:
    """A (nested) dataclass as JSON, each with its class name."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {f.name: encode(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"class": type(config).__name__, **fields}
    return list(config) if isinstance(config, tuple) else config


def decode(content: Any) -> Any:
    """The inverse of `encode`; only classes of this package are ever built."""
    if isinstance(content, dict):
        fields = {name: decode(value) for name, value in content.items() if name != "class"}
        try:
            return _CLASSES[content["class"]](**fields)
        except (KeyError, TypeError) as error:
            raise InputError(f"the run was made with another version of vgm2p: {error}") from error
    return tuple(decode(x) for x in content) if isinstance(content, list) else content


def experiment_fields(experiment: Experiment) -> dict[str, Any]:
    """All of an experiment in JSON's types; `experiment_from` reads it back."""
    return {f.name: encode(getattr(experiment, f.name)) for f in dataclasses.fields(Experiment)}


def experiment_from(record: dict[str, Any]) -> Experiment:
    """The experiment of an `experiment.json`; a field that was not there yet has its default.

    Raises InputError if it is not one that this version can run.
    """
    known = [f.name for f in dataclasses.fields(Experiment) if f.name in record]
    try:
        return Experiment(**{name: decode(record[name]) for name in known})
    except TypeError as error:
        raise InputError(f"the run was made with another version of vgm2p: {error}") from error


def read_experiment(folder: Path) -> tuple[Experiment, dict[str, Any]]:
    """A run's experiment, and all that its experiment.json holds.

    InputError if the folder is none of a run, or the file damaged or of another version.
    """
    path = folder / "experiment.json"
    if not path.exists():
        what = "is a file" if folder.is_file() else "holds no experiment.json"
        raise InputError(f"{folder} {what}: name the folder that training wrote")
    record = read_json(path)
    known = record if isinstance(record, dict) else {}
    if wrong := [name for name, kind in RECORDED.items() if not isinstance(known.get(name), kind)]:
        raise InputError(
            f"{path} lacks the fields {', '.join(wrong)}, or holds others in their place: it is damaged, or "
            "the run was made with another version of vgm2p; train again"
        )
    try:
        return experiment_from(record), record
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def run_task(folder: Path) -> Task | Own:
    """What a run was trained on; of your own data, as their card was then."""
    name = read_experiment(folder)[0].task
    return TASKS[name] if name in TASKS else Own(name, read_json(folder / "data.json"))


def algorithm_name(algorithm: Algorithm) -> str:
    """Its name in `ALGORITHMS`."""
    return next(name for name, kind in ALGORITHMS.items() if isinstance(algorithm, kind))


def device() -> str:
    """The device that JAX computes on, in words."""
    first = jax.devices()[0]
    return f"{first.device_kind} ({len(jax.devices())} {first.platform})"


def _spec(experiment, view, discrete, action_dim) -> Spec:
    """The sizes of an experiment's networks. InputError for settings that mean nothing to such actions."""
    for name, kind, here in (("regress", "choices", discrete), ("codes", "numbers", not discrete)):
        value = getattr(experiment, name)
        if here and value != getattr(Experiment, name):
            raise InputError(f"{name} {value}: these agents' actions are {kind}; leave it out")
    actions: Codec = Discrete(action_dim, experiment.codes)
    if not discrete:
        actions = Continuous(action_dim, experiment.regress)
    return Spec(view.n, view.obs_dim, view.mean.shape[-1], actions, experiment.updates)


def _record(experiment, setup):
    return {
        **experiment_fields(experiment),
        "agents": setup.view.n,
        "padding": setup.view.padding,
        "action_dim": setup.spec.action_dim,
        "discrete": setup.spec.actions.discrete,
        "data_sha256": setup.dataset.card["sha256"],
        "versions": versions(),
        "device": device(),
    }


def _claim(folder, record):
    """Write experiment.json, or make sure that the one there, if it came to anything, asks for the same."""
    path = folder / "experiment.json"
    if not path.exists() or not any((folder / name).exists() for name in KEPT):
        write_json(path, record)
        return
    old = read_json(path)
    old = old | experiment_fields(experiment_from(old))
    for name in (*(f.name for f in dataclasses.fields(Experiment)), "data_sha256"):
        if old.get(name) != record[name]:
            why = {
                "data_sha256": "; its data were made anew since",
                "updates": "; a run can't be lengthened, for its learning rate falls to zero at its end",
            }.get(name, "")
            raise InputError(
                f"{folder} holds another experiment: its {name!r} is {old.get(name)}, not {record[name]}"
                f"{why}. Choose another folder with --out, or delete this one"
            )


def _check(metrics, step, seeds, folder):
    """Stop at what is not a number; failure.json says so to whoever looks at the folder later."""
    try:
        check_finite(metrics, step, seeds)
    except NonFiniteError as error:
        write_json(folder / "failure.json", {"error": str(error), "step": step})
        raise


def _restore(experiment, setup, folder, keys):
    """(states, seconds already spent), from the last checkpoint or fresh; cuts logs that ran ahead of it."""
    path = folder / "state.safetensors"
    if not path.exists():
        states, seconds = init(experiment.algorithm, setup.spec, keys), 0.0
    else:
        skeleton = jax.eval_shape(lambda k: init(experiment.algorithm, setup.spec, k), keys)
        tensors = read_tensors(path)
        states = _unflatten(skeleton, tensors, "state", path)
        seconds = float(_of(tensors, ("seconds",), path)[0])
    step = int(states.step[0])
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        write_lines(folder / name, [line for line in read_lines(folder / name) if line["step"] <= step])
    return states, seconds


def _checkpoint(folder, states, view, seconds):
    state = {**_flatten(states, "state"), "seconds": np.array(seconds)}
    policy = {**_flatten(states.target, "params"), **_flatten(view, "view")}
    replace_file(folder / "policy.safetensors", lambda p: save_file(policy, p))
    replace_file(folder / "state.safetensors", lambda p: save_file(state, p))


def _view_arrays(tensors, path):
    """A view's arrays, in the order of its fields."""
    own = tuple(name for name in ("view.own[0]", "view.own[1]") if name in tensors)
    return _of(tensors, ("view.mean", "view.std", *own), path)


def _of(tensors, names, path):
    if missing := [name for name in names if name not in tensors]:
        raise InputError(f"{path} lacks {', '.join(missing)}: put the right file back or train again")
    return [tensors[name] for name in names]


def _flatten(tree, prefix):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _unflatten(skeleton, tensors, prefix, path):
    def fill(key, leaf):
        name = prefix + jax.tree_util.keystr(key)
        found = tensors[name].shape if name in tensors else "missing"
        if found != leaf.shape:
            raise InputError(
                f"{path}: {name} is {found} but the experiment's networks need {leaf.shape}: "
                "the file belongs to a policy of another shape; put the right file back or train again"
            )
        return jnp.asarray(tensors[name])

    return jax.tree_util.tree_map_with_path(fill, skeleton)


def _score(policy, where, count, step, folder, watcher):
    episodes = evaluate(policy, where, count)
    returns = [[float(f"{x:.8g}") for x in e.returns] for e in episodes]  # the digits that mean something
    line: dict[str, Any] = {"step": step, "returns": returns}
    if episodes[0].wins is not None:
        line["win_rate"] = [round(float(e.wins.mean()), 4) for e in episodes]
    _append(folder / "evaluations.jsonl", line)
    watcher.evaluated(step, episodes)


def _append(path, line):
    try:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}; mend that and run again to go on") from error


def _normalised(experiment, means, good) -> float | None:
    """The mean score from 0, random actions, to 1, the data's 90th percentile; None without random's."""
    if means is None or experiment.task not in TASKS:
        return None
    return float(normalise(means, TASKS[experiment.task].random_return, good).mean())


def _result(experiment, setup, folder, seconds):
    """The score of the last checkpoint, never the best."""
    scored = read_lines(folder / "evaluations.jsonl")
    last: dict[str, Any] = scored[-1] if scored else {}
    means = np.mean(last["returns"], axis=1) if scored else None
    good = float(np.quantile(setup.dataset.returns, 0.9))
    return {
        "task": experiment.task,
        "algorithm": algorithm_name(experiment.algorithm),
        "fields": changed_fields(experiment.algorithm),
        "updates": experiment.updates,
        "seeds": list(experiment.seeds),
        "returns": last.get("returns"),  # of each seed; None where there is no environment
        "win_rate": last.get("win_rate"),  # of each seed; None where there is nothing to win
        "mean": None if means is None else float(means.mean()),
        "interval": None if means is None else interval(means),
        "normalised": _normalised(experiment, means, good),
        "data_mean": float(setup.dataset.returns.mean()),
        "data_std": float(setup.dataset.returns.std()),
        "data_win_rate": setup.dataset.card.get("win_rate"),
        "data_good": good,
        "data_sha256": setup.dataset.card["sha256"],
        "seconds": round(seconds, 1),
        "versions": versions(),
        "device": device(),
    }
