"""The algorithms; `ALGORITHMS` is the only registry."""

from vgm2p.algorithms.algorithm import Fit
from vgm2p.algorithms.bc import BC
from vgm2p.algorithms.filtered_bc import FilteredBC
from vgm2p.algorithms.meanflow_bc import MeanFlowBC
from vgm2p.algorithms.vgm2p import VGM2P

ALGORITHMS = {"vgm2p": VGM2P, "bc": BC, "meanflow_bc": MeanFlowBC, "filtered_bc": FilteredBC}

__all__ = ["ALGORITHMS", "BC", "VGM2P", "FilteredBC", "Fit", "MeanFlowBC"]
