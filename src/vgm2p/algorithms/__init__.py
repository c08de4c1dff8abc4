"""The algorithms; `ALGORITHMS` is the only registry."""

from vgm2p.algorithms.algorithm import Fit
from vgm2p.algorithms.awr import AWR
from vgm2p.algorithms.bc import BC
from vgm2p.algorithms.categorical_cfg import CategoricalCFG
from vgm2p.algorithms.cfgrl_flow import CFGRLFlow
from vgm2p.algorithms.cql import CQL
from vgm2p.algorithms.diffusion_bc import DiffusionBC
from vgm2p.algorithms.filtered_bc import FilteredBC
from vgm2p.algorithms.flow_bc import FlowBC
from vgm2p.algorithms.mac_flow import MacFlow
from vgm2p.algorithms.meanflow_bc import MeanFlowBC
from vgm2p.algorithms.om2p import OM2P
from vgm2p.algorithms.omiga import OmigaPolicy
from vgm2p.algorithms.td3_bc import TD3BC
from vgm2p.algorithms.vgm2p import VGM2P

ALGORITHMS = {
    "vgm2p": VGM2P,
    "bc": BC,
    "meanflow_bc": MeanFlowBC,
    "filtered_bc": FilteredBC,
    "flow_bc": FlowBC,
    "diffusion_bc": DiffusionBC,
    "cfgrl_flow": CFGRLFlow,
    "awr": AWR,
    "omiga": OmigaPolicy,
    "mac_flow": MacFlow,
    "om2p": OM2P,
    "td3_bc": TD3BC,
    "cql": CQL,
    "categorical_cfg": CategoricalCFG,  # for agents that choose, alone
}

CONTINUOUS = tuple(name for name in ALGORITHMS if name != "categorical_cfg")  # what robots can learn with

__all__ = [
    "ALGORITHMS",
    "AWR",
    "BC",
    "CONTINUOUS",
    "CQL",
    "OM2P",
    "TD3BC",
    "VGM2P",
    "CFGRLFlow",
    "CategoricalCFG",
    "DiffusionBC",
    "FilteredBC",
    "Fit",
    "FlowBC",
    "MacFlow",
    "MeanFlowBC",
    "OmigaPolicy",
]
