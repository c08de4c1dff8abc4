"""The algorithms; `ALGORITHMS` is the only registry."""

from vgm2p.algorithms.algorithm import Fit
from vgm2p.algorithms.awr import AWR
from vgm2p.algorithms.bc import BC
from vgm2p.algorithms.cfgrl_flow import CFGRLFlow
from vgm2p.algorithms.diffusion_bc import DiffusionBC
from vgm2p.algorithms.filtered_bc import FilteredBC
from vgm2p.algorithms.flow_bc import FlowBC
from vgm2p.algorithms.meanflow_bc import MeanFlowBC
from vgm2p.algorithms.omiga import OmigaPolicy
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
}

__all__ = [
    "ALGORITHMS",
    "AWR",
    "BC",
    "VGM2P",
    "CFGRLFlow",
    "DiffusionBC",
    "FilteredBC",
    "Fit",
    "FlowBC",
    "MeanFlowBC",
    "OmigaPolicy",
]
