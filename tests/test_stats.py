"""Statistics: cases worked by hand, and how often intervals hold the truth."""

import numpy as np
import pytest

from vgm2p.stats import interval, probability_of_improvement


def test_one_seed_has_no_interval():
    assert np.isnan(interval(np.array([3.0]))).all()


def test_equal_seeds_have_a_point():
    assert interval(np.array([3.0, 3.0, 3.0])) == (3.0, 3.0)


def test_interval_lies_within_the_seeds():
    low, high = interval(np.array([1.0, 2.0, 6.0]))
    assert 1.0 <= low < 3.0 < high <= 6.0


def test_intervals_of_twenty_seeds_hold_the_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = interval(rng.normal(5.0, 2.0, 20))
        held += low <= 5.0 <= high
    assert 0.87 <= held / 200 <= 0.99


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [([3, 4, 5], [0, 1, 2], 1.0), ([0, 1, 2], [3, 4, 5], 0.0), ([1, 2], [1, 2], 0.5), ([1, 3], [2, 2], 0.5)],
)
def test_probability_of_improvement_counts_pairs(ours, theirs, expected):
    p, low, high = probability_of_improvement([np.array(ours)], [np.array(theirs)])
    assert p == expected
    assert low <= p <= high


def test_probability_of_improvement_averages_over_tasks():
    ours, theirs = [np.array([1.0, 1.0]), np.array([0.0, 0.0])], [np.array([0.0, 0.0]), np.array([1.0, 1.0])]
    assert probability_of_improvement(ours, theirs)[0] == 0.5
