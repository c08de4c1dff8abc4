"""The paper's table: every method on the twins, beside published figures, and what the scores add up to."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.algorithms import ALGORITHMS, BC, CONTINUOUS
from vgm2p.claims.grid import Cell, Options, label, read_record
from vgm2p.claims.presets import CPU, Preset
from vgm2p.claims.words import Words, short
from vgm2p.stats import (
    Scores,
    interquartile_mean,
    mean_and_interval,
    normalise,
    probability_of_improvement,
    stratified_interval,
    with_interval,
)
from vgm2p.tasks import TASKS, TWINS, published, reference, tabled

# Shown first, and the curves of these alone.
MAIN = ("vgm2p", "bc", "meanflow_bc", "filtered_bc", "omiga", "mac_flow", "diffusion_bc")
BESIDE = ("vgm2p", *(method for method in CONTINUOUS if method not in MAIN))
NOISES: tuple[Options, ...] = tuple((("noise", scale),) for scale in (0.0, 1.0))  # for all that have noise
SCALES = {label(NOISES[0]): 0.0, "": BC.noise, label(NOISES[1]): 1.0}  # by the options that ask for them
# Asked of VGM²P's networks as well: more guidance, and ten jumps instead of one.
STRENGTHS: tuple[Options, ...] = tuple((("guidance", w),) for w in (1.25, 1.5, 2.0))
TEN_JUMPS: Options = (("steps", 10),)
SCALE = (
    "Interquartile mean over the twelve sets of (return - random) / (90th percentile of the data's returns - "
    "random), at each scale of execution noise, with 95 % bootstrap intervals, seeds drawn again within each "
    "set (of three seeds they cover less, about 85 % if scores are normal); P: how likely a seed of VGM²P "
    f"beats one of the method's, over sets that both have run, with noise {BC.noise} and each with the scale "
    "that suits it best"
)
ELSEWHERE = "†"  # behind a score that was learned from other bytes of a set than VGM²P's was
OTHER_BYTES = f"{ELSEWHERE} of the set as another kind of processor makes it: other episodes, the same teams"


def cells(preset: Preset = CPU) -> list[Cell]:
    """The runs of the grid: every method on every set."""
    return [
        Cell(method, preset.run(name, method), _options(method)) for name in TWINS for method in CONTINUOUS
    ]


def _options(method) -> tuple[Options, ...]:
    if method == "vgm2p":
        return (*NOISES, *STRENGTHS, TEN_JUMPS)
    return NOISES if "noise" in ALGORITHMS[method]().options else ()


def tables(record: Path) -> str:
    """Markdown: returns of every method on every set, and what they add up to.

    Folded: the same by noise, published returns, and VGM²P asked for more.
    """
    found = Results(read_record(record))
    more = {"guidance=1.0, steps=1": ("vgm2p", "")}
    more |= {label(options): ("vgm2p", label(options)) for options in (*STRENGTHS, TEN_JUMPS)}
    open_ = (
        _returns("The main methods", found, MAIN),
        _returns("The others, beside VGM²P", found, BESIDE),
        aggregates(found),
    )
    folded = (
        *(
            _columns(f"{who} acting with {asked}", found, {m: (m, asked) for m in methods})
            for asked in map(label, NOISES)
            for who, methods in (("The main methods", MAIN), ("The others", BESIDE))
        ),
        published_returns(),
        _columns("VGM²P, asked for more of the same networks", found, more),
    )
    return "\n\n".join([*(part.markdown() for part in open_), *(part.folded() for part in folded)])


class Results:
    """The lines of a record by set and method, for some sets.

    score: what an episode's returns are worth; their mean, unless told otherwise.
    """

    def __init__(
        self, lines: list[dict], score: Callable[..., Any] = np.mean, sets: Iterable[str] = tuple(TWINS)
    ):
        self.score, self.sets = score, tuple(sets)
        self.lines: dict[tuple[str, str], list[dict]] = {}
        for line in lines:
            self.lines.setdefault((line["task"], line["algorithm"]), []).append(line)

    def seeds(self, name: str, method: str, options: str = "") -> np.ndarray:
        """Score of each seed, acting with `options`; empty where that has not run.

        A method without such an option always acts alike.
        """
        found = []
        for line in self.lines.get((name, method), []):
            asked = options if line["returns_with"] else ""
            returns = line["returns_with"].get(asked) if asked else line["returns"]
            found += [] if returns is None else [self.score(returns)]
        return np.array(found)

    def text(self, name: str, method: str, options: str = "", scale: float = 1) -> str:
        """Mean score and interval of the seeds, marked where they learned `ELSEWHERE`; "not run" of none."""
        lines = [self.data(name), *self.lines.get((name, method), [])]
        mark = ELSEWHERE if len({line["data_sha256"] for line in lines if line}) > 1 else ""
        return mean_and_interval(scale * self.seeds(name, method, options)) + mark

    def data(self, name: str) -> dict | None:
        """A line on that set, for what it says of the data."""
        return next((lines[0] for (at, _), lines in self.lines.items() if at == name), None)

    def normalised(self, method: str, options: str = "") -> Scores:
        """Scores from 0, random actions, to 1, the data's 90th percentile; of the sets that have run."""
        run = [(name, self.seeds(name, method, options), self.data(name)) for name in self.sets]
        return [
            normalise(s, TASKS[n].random_return, line["data_good"]) for n, s, line in run if line and len(s)
        ]

    def improvement(self, method: str, ours: str = "", theirs: str = "") -> tuple[float, float, float]:
        """How likely VGM²P beats the method, with its interval, over the sets that both have run.

        ours, theirs: options with which VGM²P and the method act.
        """
        pairs = [(self.seeds(name, "vgm2p", ours), self.seeds(name, method, theirs)) for name in self.sets]
        pairs = [(ours, theirs) for ours, theirs in pairs if len(ours) and len(theirs)]
        return probability_of_improvement([ours for ours, _ in pairs], [theirs for _, theirs in pairs])


def beside_ours(found: Results, method: str, caption: str, scale: float = 1) -> Words:
    """The scores of a method, of VGM²P and of `bc` on every set that the method has run on."""
    shown = (method, "vgm2p", "bc")
    rows = [
        (short(name), *(found.text(name, column, scale=scale) for column in shown))
        for name in found.sets
        if len(found.seeds(name, method))
    ]
    return Words(explained(caption, rows), ("set", *shown), rows)


def _returns(caption, found, methods) -> Words:
    rows = []
    for name in TWINS:
        line = found.data(name)
        data = f"{line['data_mean']:.0f} ± {line['data_std']:.0f}" if line else ""
        texts = [found.text(name, method) for method in methods]
        rows.append((short(name), data, *texts, str(published(name) or "not found")))
    heads = ("set", "data", *methods, "VGM²P, published, on OMIGA's data")
    return Words(explained(caption, rows), heads, rows)


def _columns(caption, found, columns: dict[str, tuple[str, str]]) -> Words:
    """Returns on every set that has run; of each column a method and the options that it acts with."""
    rows = [
        (short(name), *(found.text(name, *column) for column in columns.values()))
        for name in filter(found.data, TWINS)
    ]
    return Words(explained(caption, rows), ("set", *columns), rows)


def published_returns() -> Words:
    """What papers report on the sets that the twins are matched to; the sources stand in the caption."""
    found = reference()["scores"]
    rows = []
    for name in TWINS:
        where = tabled(name)
        returns = [scores[where.team].get(where.tier) for scores in found.values()]
        rows.append((short(name), *map(_figure, returns)))
    sources = "; ".join(f"{method}: {scores['source']}" for method, scores in found.items())
    return Words(f"Published returns, on OMIGA's data ({sources})", ("set", *found), rows)


def _figure(figure: float | list[float] | None) -> str:
    """A published mean, with its deviation over seeds where the source has one."""
    if figure is None:
        return "not found"
    return f"{figure[0]:.0f} ± {figure[1]:.0f}" if isinstance(figure, list) else f"{figure:.0f}"


def explained(caption: str, rows: Iterable[Iterable[str]]) -> str:
    """The caption, and what the mark `ELSEWHERE` means if a cell of the rows bears it."""
    marked = any(text.endswith(ELSEWHERE) for row in rows for text in row)
    return f"{caption} ({OTHER_BYTES})" if marked else caption


def aggregates(found: Results) -> Words:
    """Interquartile means of the methods that have run on all sets, by noise, and who beats whom.

    The largest at the usual noise first; what has not run on all sets last.
    """

    def place(method):
        normal = found.normalised(method)
        return -float(interquartile_mean(normal)) if len(normal) == len(TWINS) else np.inf

    rows, ours = [], best_noise(found, "vgm2p")
    for method in sorted(CONTINUOUS, key=place):
        middles = [_middle(found, method, options) for options in SCALES]
        better = found.improvement(method), found.improvement(method, ours, best_noise(found, method))
        rows.append((method, *middles, *(chance(x, method) for x in better)))
    heads = (*(f"noise {scale}" for scale in SCALES.values()), f"P, noise {BC.noise}", "P, best noise")
    return Words(SCALE, ("method", *heads), rows)


def chance(better: tuple[float, float, float], method: str) -> str:
    """A cell of how likely VGM²P beats a method, with its interval."""
    p, low, high = better
    return "" if method == "vgm2p" else "not run" if np.isnan(p) else with_interval(p, (low, high))


def best_noise(found: Results, method: str) -> str:
    """The options of `SCALES` with the highest interquartile mean over the sets that it has run on."""

    def middle(options: str) -> float:
        normal = found.normalised(method, options)
        return float(interquartile_mean(normal)) if normal else -np.inf

    return max(SCALES, key=middle)


def _middle(found, method, options) -> str:
    normal = found.normalised(method, options)
    if len(normal) < len(TWINS):
        return f"{len(normal)} of {len(TWINS)} sets run"
    return with_interval(float(interquartile_mean(normal)), stratified_interval(interquartile_mean, normal))
