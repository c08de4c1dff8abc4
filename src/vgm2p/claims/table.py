"""The paper's table: every method on the twins, beside published figures, and what the scores add up to."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.algorithms import ALGORITHMS, BC, CONTINUOUS
from vgm2p.claims.grid import Cell, Options, label, read_record
from vgm2p.claims.presets import CPU, Preset
from vgm2p.stats import (
    Scores,
    interquartile_mean,
    mean_and_interval,
    normalise,
    probability_of_improvement,
    stratified_interval,
    told,
)
from vgm2p.tasks import TASKS, TWINS, published

MAIN = ("vgm2p", "bc", "meanflow_bc", "filtered_bc", "omiga", "mac_flow", "diffusion_bc")  # on every set
FOUR = tuple(  # where every method runs
    f"twin/{name}"
    for name in (
        "6halfcheetah-medium-replay",
        "6halfcheetah-medium-expert",
        "3hopper-medium",
        "2ant-medium-replay",
    )
)
NOISES: tuple[Options, ...] = tuple((("noise", scale),) for scale in (0.0, 1.0))  # for all that have noise
SCALES = {label(NOISES[0]): 0.0, "": BC.noise, label(NOISES[1]): 1.0}  # by the options that ask for them
# Asked of VGM²P's networks as well: more guidance, and ten jumps instead of one.
STRENGTHS: tuple[Options, ...] = tuple((("guidance", w),) for w in (1.25, 1.5, 2.0))
TEN_JUMPS: Options = (("steps", 10),)
SCALE = (
    "Interquartile mean of (return - random) / (90th percentile of the data's returns - random), "
    "with 95 % intervals over seeds drawn again within each set; P: how likely a seed of VGM²P beats one of "
    "the method's, over the sets that both have run:"
)
SUITED = (
    "The same over all twelve at each scale of execution noise; P: how likely a seed of VGM²P beats one of "
    "the method's, each acting with the scale that suits it best over the sets that it has run on:"
)


def cells(preset: Preset = CPU) -> list[Cell]:
    """The runs of the grid: all methods on the four sets, then the main ones on the others."""
    names = [(name, method) for name in FOUR for method in CONTINUOUS]
    names += [(name, method) for name in TWINS if name not in FOUR for method in MAIN]
    return [Cell(method, preset.run(name, method), _options(method)) for name, method in names]


def _options(method) -> tuple[Options, ...]:
    if method == "vgm2p":
        return (*NOISES, *STRENGTHS, TEN_JUMPS)
    return NOISES if "noise" in ALGORITHMS[method]().options else ()


def tables(record: Path) -> str:
    """Markdown: returns of the main methods on every set and of all on the four; what they add up to."""
    found = Results(read_record(record))
    parts = ["The main methods:", _returns(found, list(TWINS), MAIN)]
    parts += ["Every method on four sets:", _returns(found, list(FOUR), CONTINUOUS)]
    parts += [SCALE, _aggregates(found), SUITED, _suited(found)]
    for options in NOISES:
        parts += [f"The main methods acting with {label(options)}:", _noises(found, label(options))]
    return "\n\n".join([*parts, "VGM²P, asked for more of the same networks:", _asked(found)])


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

    def data(self, name: str) -> dict | None:
        """A line on that set, for what it says of the data."""
        return next((lines[0] for (at, _), lines in self.lines.items() if at == name), None)

    def normalised(self, names: list[str], method: str, options: str = "") -> Scores:
        """Scores from 0, random actions, to 1, the data's best tenth; of the sets that have run."""
        run = [(name, self.seeds(name, method, options), self.data(name)) for name in names]
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


def _returns(found, names, methods) -> str:
    rows = ["| set | data | " + " | ".join(methods) + " | VGM²P, published, on OMIGA's data |"]
    rows.append("|" + "---|" * (3 + len(methods)))
    for name in names:
        line = found.data(name)
        data = f"{line['data_mean']:.0f} ± {line['data_std']:.0f}" if line else ""
        texts = [mean_and_interval(found.seeds(name, method)) for method in methods]
        theirs = str(published(name) or "not found")
        rows.append("| " + " | ".join([name.removeprefix("twin/"), data, *texts, theirs]) + " |")
    return "\n".join(rows)


def _noises(found, options) -> str:
    rows = ["| set | " + " | ".join(MAIN) + " |", "|" + "---|" * (1 + len(MAIN))]
    for name in filter(found.data, TWINS):
        texts = [mean_and_interval(found.seeds(name, method, options)) for method in MAIN]
        rows.append("| " + " | ".join([name.removeprefix("twin/"), *texts]) + " |")
    return "\n".join(rows)


def _asked(found) -> str:
    asked = ["", *(label(options) for options in (*STRENGTHS, TEN_JUMPS))]
    heads = ["guidance=1.0, steps=1", *asked[1:]]
    rows = ["| set | " + " | ".join(heads) + " |", "|" + "---|" * (1 + len(heads))]
    for name in filter(found.data, TWINS):
        texts = [mean_and_interval(found.seeds(name, "vgm2p", options)) for options in asked]
        rows.append("| " + " | ".join([name.removeprefix("twin/"), *texts]) + " |")
    return "\n".join(rows)


def _aggregates(found) -> str:
    """Interquartile mean of normalised scores, for methods that have run on all the sets."""
    rows = ["| method | the four sets | all twelve | P(vgm2p is better) |", "|---|---|---|---|"]
    for method in CONTINUOUS:
        middles = [_middle(found, list(names), method) for names in (FOUR, TWINS)]
        p, low, high = found.improvement(method)
        chance = "" if method == "vgm2p" else "not run" if np.isnan(p) else told(p, (low, high))
        rows.append("| " + " | ".join([method, *middles, chance]) + " |")
    return "\n".join(rows)


def _suited(found) -> str:
    """Interquartile means at each scale of noise; who beats whom, each with the scale that suits it best."""
    rows = ["| method | " + " | ".join(f"noise {x}" for x in SCALES.values()) + " | P(vgm2p is better) |"]
    rows.append("|" + "---|" * (2 + len(SCALES)))
    for method in CONTINUOUS:
        middles = [_middle(found, list(TWINS), method, options) for options in SCALES]
        p, low, high = found.improvement(method, best_noise(found, "vgm2p"), best_noise(found, method))
        chance = "" if method == "vgm2p" or np.isnan(p) else told(p, (low, high))
        rows.append("| " + " | ".join([method, *middles, chance]) + " |")
    return "\n".join(rows)


def best_noise(found: Results, method: str) -> str:
    """The options of `SCALES` with the highest interquartile mean over the sets that it has run on."""

    def middle(options: str) -> float:
        normal = found.normalised(list(TWINS), method, options)
        return float(interquartile_mean(normal)) if normal else -np.inf

    return max(SCALES, key=middle)


def _middle(found, names, method, options="") -> str:
    normal = found.normalised(names, method, options)
    if len(normal) < len(names):
        return f"{len(normal)} of {len(names)} sets run"
    return told(float(interquartile_mean(normal)), stratified_interval(interquartile_mean, normal))
