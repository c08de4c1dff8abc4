"""Statistics of scores, on SciPy."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import bootstrap


def interval(values: Float[ndarray, " seeds"], confidence: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean over seeds: BCa, percentile for fewer than four; nan for one.

    With three seeds the percentile interval runs at most from the lowest to the highest seed and covers
    less than its nominal level: read it as a range.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    method = "percentile" if len(values) < 4 else "BCa"
    found = bootstrap((values,), np.mean, confidence_level=confidence, method=method, rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def probability_of_improvement(
    ours: list[Float[ndarray, " seeds"]], theirs: list[Float[ndarray, " seeds"]], confidence: float = 0.95
) -> tuple[float, float, float]:
    """(P, low, high): how likely a seed of ours beats one of theirs, averaged over tasks, ties as half.

    The interval resamples seeds within each task (stratified bootstrap; Agarwal et al., 2108.13264).
    """

    def statistic(xs, ys):
        return np.mean([_wins(x, y) for x, y in zip(xs, ys, strict=True)])

    rng = np.random.default_rng(0)
    again = lambda groups: [rng.choice(g, len(g)) for g in groups]  # noqa: E731
    draws = [statistic(again(ours), again(theirs)) for _ in range(2000)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(statistic(ours, theirs)), float(low), float(high)


def _wins(x, y):
    x, y = np.asarray(x)[:, None], np.asarray(y)[None, :]
    return float(((x > y) + 0.5 * (x == y)).mean())
