"""Small real data for every test: a few thousand transitions rolled out from the shipped ladder."""

import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

# Most of a test's time is compilation: compile quickly rather than for speed. Set before JAX is imported.
# The second flag does most, but jaxlib 0.11 no longer has it and would abort.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    if version("jaxlib").startswith("0.10.")
    else "--xla_backend_optimization_level=0",
)

import pytest

from vgm2p.behaviour import twin
from vgm2p.tasks import task

SMALL = 4_000
slow = lambda *values: pytest.param(*values, marks=pytest.mark.slow)  # noqa: E731


def small(algorithm, *widths: int):
    """The algorithm with hidden layers of these widths, those of its values and critics included."""
    changes = {"fit": replace(algorithm.fit, hidden=widths)}
    if hasattr(algorithm, "hidden"):
        changes["hidden"] = widths
    if hasattr(getattr(algorithm, "values", None), "hidden"):
        changes["values"] = replace(algorithm.values, hidden=widths)
    return replace(algorithm, **changes)


@pytest.fixture(scope="session", autouse=True)
def data_home(tmp_path_factory) -> Path:
    """A data folder of this test session."""
    os.environ["VGM2P_DATA"] = str(tmp_path_factory.mktemp("data"))
    return Path(os.environ["VGM2P_DATA"])


@pytest.fixture(scope="session")
def hopper(data_home) -> str:
    """The id of a small hopper dataset that exists."""
    twin.make(task("twin/3hopper-medium"), transitions=SMALL)
    return "twin/3hopper-medium"


@pytest.fixture(scope="session")
def marines(data_home) -> str:
    """The id of a small battle dataset that exists."""
    twin.make(task("smax/3m-medium"), transitions=600)
    return "smax/3m-medium"
