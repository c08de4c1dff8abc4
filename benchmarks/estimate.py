"""How well do estimates from data alone rank policies? Rank correlation with returns that were played.

    python benchmarks/estimate.py twin/3hopper-medium-replay

Trains 21 teams (seven algorithms, stopped at three lengths), estimates each from the dataset alone, plays
32 episodes of each, and prints Spearman's rank correlation with its 95 % bootstrap interval over teams.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from vgm2p import ALGORITHMS, Experiment, load_policy, run, task
from vgm2p.estimate import FQE, estimate

METHODS = ("bc", "meanflow_bc", "flow_bc", "filtered_bc", "vgm2p", "omiga", "td3_bc")
LENGTHS = (200, 1000, 4000)


def correlation(estimates, returns):
    """Spearman's rank correlation and its bootstrap interval over teams."""
    rng, count = np.random.default_rng(0), len(returns)
    drawn = (rng.integers(count, size=count) for _ in range(2000))
    again = [spearmanr(estimates[i], returns[i]).statistic for i in drawn]
    return spearmanr(estimates, returns).statistic, *np.nanquantile(again, [0.025, 0.975])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", nargs="?", default="twin/3hopper-medium-replay")
    parser.add_argument("--updates", type=int, default=FQE.updates, help="of each evaluation")
    parser.add_argument(
        "--runs", type=Path, help="folder of the teams, to go on with; by default none is kept"
    )
    asked = parser.parse_args()
    dataset, rows = task(asked.task).load_data(), []
    root = asked.runs or Path(tempfile.mkdtemp())
    for method in METHODS:
        for updates in LENGTHS:
            experiment = Experiment(asked.task, ALGORITHMS[method](), updates, seeds=(0,), eval_every=updates)
            folder = root / f"{method}-{updates}"
            played = run(experiment, folder)["mean"]
            began = time.monotonic()
            (told,) = estimate(load_policy(folder), dataset, FQE(asked.updates))
            rows.append((played, told.value, told.advantage, told.log_likelihood))
            print(
                f"{method:12} {updates:5} updates: return {played:8.1f}, estimate {told.value:8.1f} "
                f"[{told.low:.1f}, {told.high:.1f}], advantage {told.advantage:7.2f}, log-likelihood "
                f"{told.log_likelihood:6.2f}, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    played, *columns = np.array(rows).T
    print(f"{asked.task}, {len(rows)} teams; rank correlation with the return that was played:")
    for name, column in zip(("value", "advantage", "log-likelihood"), columns, strict=True):
        print("  {}: {:.2f} [{:.2f}, {:.2f}]".format(name, *correlation(column, played)))


if __name__ == "__main__":
    main()
