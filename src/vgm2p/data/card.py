"""The card of a dataset: what it is, where it comes from, and what to expect of it."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 1)


def versions() -> dict[str, str]:
    """What decides data and results: the machine, and versions of Python, this package, JAX and others."""
    methods = ("vgm2p", "jax", "jaxlib", "equinox", "optax", "numpy", "scipy")
    worlds = ("mujoco", "gymnasium", "jaxmarl", "pettingzoo")
    found = {"python": platform.python_version(), "machine": machine()}
    for name in (*methods, *worlds):
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor's family and the latest of its instructions that NumPy uses, which rounding hangs on."""
    extensions: Any = np.show_config(mode="dicts")
    simd = extensions["SIMD Extensions"]
    return f"{platform.machine()} {[*simd['baseline'], *simd.get('found', [])][-1]}"


def describe(returns: Float[ndarray, " e"], lengths: Int[ndarray, " e"]) -> dict[str, Any]:
    """Return and length statistics of episodes, as they stand in a card."""
    return {
        "episodes": len(returns),
        "transitions": int(lengths.sum()),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_quantiles": {str(q): float(np.quantile(returns, q)) for q in QUANTILES},
        "length_mean": float(lengths.mean()),
    }
