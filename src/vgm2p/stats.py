"""Statistics of scores, on SciPy.

Scores of one method are lists of tasks, each an array over training seeds. Aggregates over tasks are those of
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv 2108.13264);
their intervals resample seeds within each task (stratified bootstrap, percentiles).
"""

import math
from collections.abc import Callable

import numpy as np
import scipy  # its parts load when they are first used
from jaxtyping import Float
from numpy import ndarray

Scores = list[Float[ndarray, " seeds"]]  # one array per task
DRAWS = 2000


def interval(values: Float[ndarray, " seeds"], confidence: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean over seeds: BCa, percentile for fewer than four; nan for one.

    With three seeds the percentile interval runs at most from the lowest to the highest seed and covers
    less than its nominal level: read it as a range.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) <= 1e-14 * np.abs(values).max():  # BCa divides by a spread of the last bit, too
        return float(values[0]), float(values[0])
    method = "percentile" if len(values) < 4 else "BCa"
    found = scipy.stats.bootstrap((values,), np.mean, confidence_level=confidence, method=method, rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def interval_name(seeds: int) -> str:
    """What `interval` of so many seeds is to be called."""
    return "range" if seeds < 4 else "95 % interval"


def mean_and_interval(values: Float[ndarray, " seeds"], digits: int = 0) -> str:
    """The mean over seeds and its interval, "700 [600, 800]"; "not run" of none."""
    return with_interval(float(np.mean(values)), interval(values), digits) if len(values) else "not run"


def decimals(value: float) -> int:
    """How many a return is told with: none, two below a hundred (battles), three digits below 0.1."""
    if 0 < abs(value) < 0.1:
        return 2 - math.floor(math.log10(abs(value)))
    return 0 if abs(value) > 100 else 2


def number(value: float) -> str:
    """A return in words: "1234", "1.23", "0.00312"."""
    return f"{value:.{decimals(value)}f}"


def with_interval(value: float, bounds: tuple[float, float], digits: int = 2) -> str:
    """A value with its interval, "0.70 [0.60, 0.80]", or alone if that is not known."""
    low, high = (f"{bound:.{digits}f}" for bound in bounds)
    return f"{value:.{digits}f}" if np.isnan(bounds[0]) else f"{value:.{digits}f} [{low}, {high}]"


def normalise(scores: Float[ndarray, " k"], random: float, good: float) -> Float[ndarray, " k"]:
    """(score - random) / (good - random), `good` being the 90th percentile of the data's."""
    return (np.asarray(scores, float) - random) / (good - random)


def interquartile_mean(scores: Scores) -> Float[ndarray, ""]:
    """Mean of the middle half of all seeds of all tasks; give it normalised scores."""
    return scipy.stats.trim_mean(np.concatenate(scores, axis=-1), 0.25, axis=-1)


def profile(scores: Scores, thresholds: Float[ndarray, " k"]) -> Float[ndarray, " k"]:
    """Share of seeds whose score exceeds each threshold, averaged over tasks: the performance profile."""
    above = [(np.asarray(s)[:, None] > thresholds).mean(0) for s in scores]
    return np.mean(above, axis=0)


def stratified_interval(
    statistic: Callable[..., Float[ndarray, "*draws"]], *methods: Scores, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of `statistic(*methods)`, each drawn again within its tasks; a fixed seed decides.

    The statistic is asked once, for all draws: seeds are the last axis of its arrays, draws one before it.
    Axes before the seeds, such as values of a coefficient, are drawn together: they are the same seeds.
    nan if any task has but one seed, or there are no tasks: drawing that again tells nothing.
    """
    if not all(methods) or any(np.shape(seeds)[-1] < 2 for tasks in methods for seeds in tasks):
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    again = [[_draw(rng, np.asarray(seeds)) for seeds in tasks] for tasks in methods]
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(*again), [tail, 1 - tail])
    return float(low), float(high)


def probability_of_improvement(
    ours: Scores, theirs: Scores, confidence: float = 0.95
) -> tuple[float, float, float]:
    """(P, low, high): how likely a seed of ours beats one of theirs, averaged over tasks, ties as half.

    All nan if there are no tasks.
    """
    if not ours:
        return float("nan"), float("nan"), float("nan")

    def statistic(xs, ys):
        return np.mean([_wins(x, y) for x, y in zip(xs, ys, strict=True)], axis=0)

    return float(statistic(ours, theirs)), *stratified_interval(
        statistic, ours, theirs, confidence=confidence
    )


def _draw(rng, seeds):
    """Seeds [..., n] drawn again, DRAWS times: [..., DRAWS, n]."""
    n = seeds.shape[-1]
    return seeds[..., rng.integers(n, size=(DRAWS, n))]


def _wins(x, y):
    gap = np.sign(np.asarray(x)[..., :, None] - np.asarray(y)[..., None, :])
    return 0.5 + 0.5 * gap.mean((-2, -1))
