"""Learning from a dataset that stays on disk: a window of random episodes in memory, another now and then."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from numpy import ndarray

from vgm2p.actions import Codec
from vgm2p.data.dataset import Dataset, Replay, Whole
from vgm2p.errors import InputError
from vgm2p.types import Sampling, Sight
from vgm2p.view import TeamView

BLOCK = 50_000  # transitions that are read together


def blocks(dataset: Dataset, episodes: Int[ndarray, " k"]) -> Iterator[Sight]:
    """What is shown in the named episodes, some episodes at a time."""
    for part in np.split(episodes, _cuts(dataset.lengths[episodes], BLOCK)):
        if len(part):
            yield dataset.take(part).sight


class Window:
    """Random episodes of a dataset, as many as `size` transitions hold, padded to the same shapes every time.

    Every episode is as likely to be in a window; within it transitions are drawn uniformly, so that over the
    windows all transitions count alike (but for episodes about as long as the window). Scales, halves and
    habits are those of all the data.
    """

    def __init__(
        self,
        dataset: Dataset,
        episodes: Int[ndarray, " k"],
        view: TeamView,
        sampling: Sampling,
        codec: Codec,
        size: int,
    ):
        """`episodes`: those that may be learned from. InputError if the longest is longer than `size`."""
        lengths = dataset.lengths[episodes]
        if lengths.max() > size:
            raise InputError(
                f"window {size} is shorter than the longest episode, {lengths.max()}: enlarge it"
            )
        size = min(size, int(lengths.sum()))
        self._data, self._episodes, self._size = dataset, episodes, size
        self._how = (view, sampling, codec)
        self._whole = Whole.of(dataset, episodes, sampling, codec)
        self._most = int(np.searchsorted(np.cumsum(np.sort(lengths)), size, side="right"))
        self._turn, self._replay = 0, self._made(0)

    def replay(self, turn: int) -> Replay:
        """The window of that turn: the same turn, the same window."""
        if turn != self._turn:
            self._turn, self._replay = turn, self._made(turn)
        return self._replay

    def _made(self, turn) -> Replay:
        order = np.random.default_rng((turn, 7)).permutation(len(self._episodes))
        fits = np.cumsum(self._data.lengths[self._episodes[order]]) <= self._size
        chosen = np.sort(order[: fits.sum()])
        part = self._data.take(self._episodes[chosen])
        found = part.replay(*self._how, self._whole.take(chosen))
        return self._padded(found, len(chosen))

    def _padded(self, found: Replay, episodes: int) -> Replay:
        """Every array as long as it could ever be, so that one compilation serves all windows."""
        steps, rows = self._size - len(found.row), self._size + self._most - len(found.sight.state)
        by_step = ("action", "row", "next_row", "age", "reward", "discount", "outcome", "halves")
        habits = found.habits
        habits = habits._replace(**_longer(habits, ("episode", "early"), steps))
        habits = habits._replace(**_longer(habits, ("total", "seen"), self._most - episodes))
        sight = jax.tree.map(lambda x: _zeros_after(x, rows), found.sight)
        return found._replace(sight=sight, habits=habits, **_longer(found, by_step, steps))


def _longer(tree, names, missing) -> dict:
    return {name: _zeros_after(getattr(tree, name), missing) for name in names}


def _zeros_after(x, missing):
    return jnp.concatenate([x, jnp.zeros((missing, *x.shape[1:]), x.dtype)])


def _cuts(lengths, size) -> list[int]:
    """Where to split episodes so that parts hold about `size` transitions."""
    total = np.cumsum(lengths)
    return np.searchsorted(total, np.arange(size, total[-1], size)).tolist()
