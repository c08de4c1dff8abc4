"""What every command prints with: one console, one kind of progress bar, one way to write a score."""

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vgm2p.stats import decimals, interval_name, number

out = Console()


def progress_bar() -> Progress:
    """A progress bar with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=out)


def interval_text(bounds: tuple[float, float], seeds: int) -> str:
    """A confidence interval over training seeds; of few it is about their range, and says so."""
    low, high = bounds
    if seeds == 1:
        return "one seed, so no interval"
    return f"{interval_name(seeds)} over {seeds} seeds {number(low)} to {number(high)}"


def score_text(episodes) -> str:
    """Mean return over seeds and, of battles, how many were won."""
    won = "" if episodes[0].wins is None else f", won {np.mean([e.wins.mean() for e in episodes]):.0%}"
    return f"return {number(np.mean([e.returns.mean() for e in episodes]))}{won}"


def returns_text(mean: float, std: float) -> str:
    """Mean and standard deviation of a dataset's returns."""
    return f"{number(mean)} ± {std:.{decimals(mean)}f}"
