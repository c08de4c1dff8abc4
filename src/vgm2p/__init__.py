"""Offline multi-agent reinforcement learning with one-step flow policies.

>>> from vgm2p import Experiment, VGM2P, run
>>> result = run(Experiment("twin/3hopper-medium", VGM2P()), "runs/first")  # doctest: +SKIP
"""

from typing import Any

from vgm2p.algorithms import (
    ALGORITHMS,
    AWR,
    BC,
    CQL,
    OM2P,
    TD3BC,
    VGM2P,
    CategoricalCFG,
    CFGRLFlow,
    DiffusionBC,
    FilteredBC,
    Fit,
    FlowBC,
    MacFlow,
    MeanFlowBC,
    OmigaPolicy,
)
from vgm2p.data.dataset import Dataset
from vgm2p.errors import InputError, needs
from vgm2p.evaluate import evaluate
from vgm2p.flows import MeanFlow
from vgm2p.policy import Policy
from vgm2p.runs import Experiment, load_policy, run
from vgm2p.stats import interval
from vgm2p.tasks import TASKS, Task, load_dataset, task
from vgm2p.values import (
    OMIGA,
    CentralAdvantage,
    EpisodeReturn,
    LinearAdvantage,
    MixedIQL,
    ReturnToGo,
)

__all__ = [
    "ALGORITHMS",
    "AWR",
    "BC",
    "CQL",
    "OM2P",
    "OMIGA",
    "TASKS",
    "TD3BC",
    "VGM2P",
    "CFGRLFlow",
    "CategoricalCFG",
    "CentralAdvantage",
    "Dataset",
    "DiffusionBC",
    "EpisodeReturn",
    "Experiment",
    "FilteredBC",
    "Fit",
    "FlowBC",
    "InputError",
    "LinearAdvantage",
    "MacFlow",
    "MeanFlow",
    "MeanFlowBC",
    "MixedIQL",
    "OmigaPolicy",
    "Policy",
    "ReturnToGo",
    "Task",
    "evaluate",
    "interval",
    "load_dataset",
    "load_policy",
    "record",
    "run",
    "task",
]


def __getattr__(name: str) -> Any:
    """`vgm2p.record` needs PettingZoo: it is imported when it is asked for."""
    if name != "record":
        raise AttributeError(f"module 'vgm2p' has no attribute {name!r}")
    try:
        from vgm2p.recording import record
    except ModuleNotFoundError as error:
        raise needs("vgm2p.record", "pettingzoo") from error
    return record
