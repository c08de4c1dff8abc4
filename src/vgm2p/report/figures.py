"""The page's figures: SVG text without a file around it, in the page's own font and ink.

Drawn with matplotlib in two stand-in colours that become CSS afterwards, so that a figure follows the page
from light to dark.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vgm2p.algorithms import ALGORITHMS
from vgm2p.errors import needs
from vgm2p.report.content import Curve
from vgm2p.stats import Scores, profile

INK, RULE = "#010203", "#040506"  # stand-ins; real figures hardly ever need these two
CSS = {INK: "currentColor", RULE: "var(--rule)"}
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)  # Okabe and Ito's
DASHES = ("solid", (0, (4, 2)), (0, (1, 1.5)))
MARKERS = "osD^vP*"
WIDTH, HEIGHT = 3.8, 2.6  # inches: one column of a phone


class Style(NamedTuple):
    """How a method is drawn everywhere: told apart by marker and dashes where colours are not."""

    color: str
    dashes: Any
    marker: str


STYLES = {
    name: Style(
        HUES[i % len(HUES)],
        DASHES[i // len(HUES) % len(DASHES)],
        MARKERS[(i + i // len(HUES)) % len(MARKERS)],
    )
    for i, name in enumerate(ALGORITHMS)
}


class Dot(NamedTuple):
    """A named value with its interval (nan: none)."""

    name: str
    value: float
    low: float
    high: float


def dots(found: Sequence[Dot], label: str, middle: float | None = None) -> str:
    """Values with their intervals, one row each, the largest on top; a rule at `middle`."""
    figure, axes = _axes(height=0.55 + 0.26 * len(found))
    ordered = sorted(found, key=lambda dot: dot.value)
    for row, (name, value, low, high) in enumerate(ordered):
        style = STYLES.get(name, STYLES["vgm2p"])
        axes.plot([low, high], [row, row], color=style.color, linewidth=2)
        axes.plot([value], [row], color=style.color, marker=style.marker, markersize=6)
    axes.set_yticks(range(len(ordered)), [dot.name for dot in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel(label)
    if middle is not None:
        axes.axvline(middle, color=INK, linewidth=0.8, linestyle=":")
    return _svg(figure)


def curves(found: dict[str, Curve], data: float | None) -> str:
    """Return over updates: mean over seeds, a band from the lowest to the highest; dotted, the data's."""
    figure, axes = _axes()
    for name, (steps, returns) in found.items():
        look = _line(name)
        axes.fill_between(steps, returns.min(0), returns.max(0), color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(steps, returns.mean(0), **look)
    if data is not None:
        axes.axhline(data, color=INK, linewidth=0.9, linestyle=":")
    axes.set(xlabel="updates", ylabel="return")
    return _svg(figure)


def profiles(scores: dict[str, Scores]) -> str:
    """Share of seeds above each normalised score, averaged over sets."""
    figure, axes = _axes()
    top = max((float(np.max(seeds)) for tasks in scores.values() for seeds in tasks), default=1.0)
    thresholds = np.linspace(0, max(1.2, 1.05 * top), 200)
    for i, (name, tasks) in enumerate(scores.items()):
        axes.plot(thresholds, profile(tasks, thresholds), **_line(name), markevery=(3 * i, 40))
    axes.set(xlabel="normalised score", ylabel="share of seeds above", ylim=(-0.03, 1.03))
    return _svg(figure)


def histogram(values: Float[ndarray, " k"], label: str) -> str:
    """How often values occur; a bar for each whole number if they span a few."""
    figure, axes = _axes()
    few = values.dtype.kind in "iu" and np.ptp(values) < 40
    edges = np.arange(values.min(), values.max() + 2) - 0.5 if few else 40
    axes.hist(values, bins=edges, color=HUES[0])
    axes.set(xlabel=label, ylabel="how often")
    return _svg(figure)


def sweep(name: str, values: Sequence[float], scores: Float[ndarray, "values sets"]) -> str:
    """Score against a coefficient, values evenly spaced: the mean over sets, each set thin."""
    figure, axes = _axes()
    places = np.arange(len(values))  # the values are about a constant factor apart; one may be 0
    for column, marker in zip(scores.T, MARKERS, strict=False):
        axes.plot(places, column, color=INK, linewidth=0.8, marker=marker, markersize=3, alpha=0.6)
    axes.plot(places, scores.mean(1), color=HUES[0], linewidth=2.4, marker="o", markersize=5)
    axes.set_xticks(places, [f"{value:g}" for value in values])
    axes.set(xlabel=name, ylabel="score", ylim=(min(0, scores.min()), max(1, 1.05 * scores.max())))
    return _svg(figure)


def costs(found: dict[str, float], unit: str) -> str:
    """Costs on a logarithmic axis, one row each, the smallest on top."""
    figure, axes = _axes(height=0.55 + 0.26 * len(found))
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    names, values = [name for name, _ in ordered], [value for _, value in ordered]
    colors = [HUES[0] if name == "vgm2p" else HUES[5] for name in names]
    axes.barh(names, values, color=colors, height=0.62)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 3)
    for row, value in enumerate(values):
        axes.text(value * 1.08, row, f"{value:.3g}", va="center", color=INK, fontsize=8)
    axes.set_xlabel(unit)
    return _svg(figure)


def growth(sizes: Sequence[int], found: Mapping[str, Sequence[float]], label: str, unit: str) -> str:
    """Costs against a size, both logarithmic."""
    figure, axes = _axes()
    for name, values in found.items():
        axes.plot(sizes, values, **_line(name))
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel=unit)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    return _svg(figure)


def sample(name: str) -> str:
    """A short piece of a method's line, for a legend in HTML."""
    figure, axes = _axes(0.42, 0.16)
    axes.axis("off")
    axes.plot([0, 1, 2], [0, 0, 0], **_line(name), markevery=[1])
    return _svg(figure)


def _line(name) -> dict[str, Any]:
    """How matplotlib draws the line of a method, ours thick."""
    color, dashes, marker = STYLES[name]
    look = {"color": color, "linestyle": dashes, "marker": marker, "markersize": 4}
    return look | {"linewidth": 2.4 if name == "vgm2p" else 1.4}


def _axes(width: float = WIDTH, height: float = HEIGHT):
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise needs("a report", "report") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.edgecolor": RULE,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
    }
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure) -> str:
    """The figure as an <svg> that scales with its column; names that nothing refers to are dropped."""
    import matplotlib
    from matplotlib import pyplot

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vgm2p"}):  # equal parts, equal names
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<style.*?</style>\s*", "", svg, flags=re.S)  # it would style the whole page
    for size in ("width", "height"):
        svg = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", svg, count=1)
    named = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in named else "", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)  # its caption speaks for it
    for stand_in, css in CSS.items():
        svg = svg.replace(stand_in, css)
    return svg.strip()
