"""The command that makes an experiment: what a reader of a record types to see the number for himself."""

import dataclasses
import re
import shlex
from typing import Any

from vgm2p.runs import Experiment, algorithm_name
from vgm2p.values import Values


def command(experiment: Experiment) -> str:
    """`vgm2p train ...`, naming every setting that differs from its default."""
    name = algorithm_name(experiment.algorithm)
    settings = _flags(experiment, Experiment(experiment.task, experiment.algorithm))
    algorithm = _flags(experiment.algorithm, type(experiment.algorithm)())
    return shlex.join(["vgm2p", "train", experiment.task, *settings, name, *algorithm])


def _flags(config: Any, default: Any, prefix: str = "") -> list[str]:
    """The words for every changed field; a value learner is a command of its own and comes last."""
    words: list[str] = []
    learner: list[str] = []
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        name = prefix + field.name.replace("_", "-")
        if value == usual:
            continue
        if field.type == Values:
            learner = [f"{name}:{_kebab(type(value).__name__)}", *_flags(value, type(value)(), f"{name}.")]
        elif dataclasses.is_dataclass(value):
            words += _flags(value, usual, f"{name}.")
        else:
            words += _words(name, value)
    return words + learner


def _words(name, value) -> list[str]:
    if isinstance(value, bool):
        *path, last = name.split(".")
        return ["--" + ".".join([*path, last if value else f"no-{last}"])]
    return [f"--{name}", *(str(x) for x in (value if isinstance(value, tuple) else (value,)))]


def _kebab(name: str) -> str:
    """The command line's name of a class: "MixedIQL" is "mixed-iql"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
