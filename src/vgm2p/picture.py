"""Pictures of results; matplotlib is imported only when one is drawn."""

from pathlib import Path

import numpy as np

from vgm2p.data.store import replace_file
from vgm2p.errors import needs

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # told apart by colour-blind readers


def _figure(width: float, height: float, columns: int = 1):
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise needs("a picture", "plot") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)


def _save(figure, path: Path) -> None:
    from matplotlib import pyplot

    replace_file(path, lambda p: figure.savefig(p, format="png", dpi=120))
    pyplot.close(figure)


def draw_run(title: str, evaluations: list[dict], data_returns: np.ndarray, path: Path) -> None:
    """Learning curve of every seed, the mean over seeds, and the data's returns on the same axis."""
    figure, axes = _figure(9, 3.6, 2)
    curve, data = axes[0]
    steps = [line["step"] for line in evaluations]
    means = np.array([np.mean(line["returns"], axis=1) for line in evaluations])
    curve.plot(steps, means, color=BLUE, alpha=0.35, linewidth=1)
    curve.plot(steps, means.mean(1), color=BLUE, linewidth=2.2, marker="o", label="policy, mean over seeds")
    curve.axhline(data_returns.mean(), color=ORANGE, linestyle="--", label="data, mean")
    curve.set(xlabel="updates", ylabel="return", title=title)
    curve.legend(loc="lower right")
    data.hist(data_returns, bins=40, density=True, color=ORANGE, alpha=0.6, label="data, per episode")
    last = np.ravel(evaluations[-1]["returns"])
    data.hist(last, bins=30, density=True, color=BLUE, alpha=0.6, label="policy, per episode")
    data.set(xlabel="return", ylabel="density", title="episodes at the last checkpoint")
    data.legend(loc="best")  # asked for, it does not warn where a slow machine takes a second
    _save(figure, path)


def draw_returns(title: str, returns: np.ndarray, path: Path) -> None:
    """Histogram of a dataset's returns."""
    figure, axes = _figure(6, 3.4)
    axes[0, 0].hist(returns, bins=60, color=ORANGE)
    axes[0, 0].set(xlabel="return", ylabel="episodes", title=title)
    _save(figure, path)
