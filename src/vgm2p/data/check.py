"""What a careful researcher looks for in a dataset before training on it, each in one function.

Nothing here needs more memory than a block of rows and a few numbers per row, so that datasets larger than
memory can be looked at too.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from vgm2p.data.dataset import Dataset

BLOCK = 100_000  # rows that are looked at together
LIKE_A_LIMIT = 5  # episodes of just the greatest length
SAMPLE = 5_000  # rows that correlations are estimated from, all columns in memory

Level = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """One thing that was found.

    level: "error" if training on the data would learn something wrong, "warning" if it may, else "note".
    rows: of transitions, the first few of them; `many` says how many there are.
    mend: what to do about it.
    """

    level: Level
    told: str
    mend: str = ""
    rows: tuple[int, ...] = ()
    many: int = 0


def check(dataset: Dataset) -> list[Finding]:
    """All that is found, errors first."""
    found = [finding for look in LOOKS for finding in look(dataset)]
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _borders(data: Dataset) -> Iterator[Finding]:
    """Do true ends at the longest length look like a time limit?"""
    longest = int(data.lengths.max())
    at = data.lengths == longest
    last = np.cumsum(data.lengths) - 1
    yield Finding(
        "note",
        f"episodes: {len(data.lengths):,}, of {data.lengths.min():,} to {longest:,} steps; "
        f"{data.terminated.mean():.0%} truly ended, the others were cut",
    )
    if at.sum() >= LIKE_A_LIMIT and (at & data.terminated).sum() > 0.5 * at.sum() and longest > 1:
        yield _at(
            "warning",
            f"{(at & data.terminated).sum():,} episodes truly end after exactly {longest} steps, the longest "
            "there is: a time limit looks like that, and values would learn that the world ends there",
            last[at & data.terminated],
            f"if it is a limit, import again with --time-limit {longest}",
        )


def _jumps(data: Dataset) -> Iterator[Finding]:
    """Does the state jump within an episode, as it does from one episode to the next?"""
    scale = _std(data.state) + 1e-6
    step = np.concatenate([_step_sizes(data, rows, scale) for rows in _blocks(len(data.reward))])
    usual = np.median(step) + 1e-9
    ends = (np.cumsum(data.lengths + 1) - 1)[:-1]
    between = np.sqrt(np.square((data.state[ends + 1] - data.state[ends]) / scale).sum(1))
    border = np.median(between) if len(between) else np.inf
    far = np.flatnonzero(step > max(8 * usual, 0.5 * border))
    if 0 < len(far) < 0.01 * len(step):
        yield _at(
            "warning",
            f"in {len(far):,} transitions the state moves about as far as from one episode to the next",
            far,
            "if an episode ends there, its end flag is missing: look at these rows",
        )


def _padding(data: Dataset) -> Iterator[Finding]:
    """Entries that never change tell nothing; usually they are padding."""
    for name, x in (("state", data.state), ("obs", data.obs)):
        if x is None:
            continue
        low, high = _range(x)
        still = np.argwhere(low == high)
        if len(still):
            told = ", ".join(str(tuple(map(int, i)) if len(i) > 1 else int(i[0])) for i in still[:8])
            told = f"the first are {told}" if len(still) > 8 else told
            yield Finding("note", f"{len(still)} of {low.size} entries ({told}) of '{name}' never change")


def _duplicates(data: Dataset) -> Iterator[Finding]:
    """How many pairs of state and joint action are unique (SACo), and which are copies of others?"""
    keys = np.concatenate([_hashed(data, rows) for rows in _blocks(len(data.reward))])
    order = np.argsort(keys, kind="stable")
    copy = np.zeros(len(keys), bool)
    copy[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    share = 1 - copy.mean()
    yield Finding("note", f"{share:.3f} of the pairs of state and joint action are unique (SACo)")
    if share < 0.95:
        yield _at(
            "warning",
            f"{copy.mean():.0%} of the transitions are copies of earlier ones, and weigh as much as those",
            np.flatnonzero(copy),
            "drop repeated episodes, unless their weight is meant",
        )


def _actions(data: Dataset) -> Iterator[Finding]:
    """The range of actions, and whether they were clipped."""
    if data.legal is not None:
        yield from _choices(data)
        return
    blocks = (np.abs(data.action[rows]) for rows in _blocks(len(data.action)))
    size = np.concatenate([x.reshape(len(x), -1).max(1) for x in blocks])
    beyond, border = np.flatnonzero(size > 1), np.flatnonzero(size == 1)
    scaled = size.max() > 10 or np.median(size) > 2  # noise alone hardly leaves so far
    low, high = _range(data.action)
    yield Finding("note", f"actions lie in [{low.min():.3g}, {high.max():.3g}]")
    if (low == high).any():
        agent, entry = map(int, np.argwhere(low == high)[0])
        yield Finding(
            "warning",
            f"action entry {entry} of agent {agent} never changes",
            "leave it out, or say why it is there",
        )
    if len(beyond):
        yield _at(
            "warning" if scaled else "note",
            f"{len(beyond) / len(size):.1%} of the joint actions leave [-1, 1], up to {size.max():.3g}; "
            "policies act within it",
            beyond,
            "if that is another unit, import again with --action-range"
            if scaled
            else "learn them as they are, or with --regress clipped",
        )
    if len(border) > 0.02 * len(size):
        yield _at(
            "note",
            f"{len(border) / len(size):.1%} of the joint actions were clipped: an entry is exactly 1",
            border,
        )


def _choices(data: Dataset) -> Iterator[Finding]:
    """Were the choices legal?"""
    assert data.legal is not None
    illegal, stuck = [], []
    for rows in _blocks(len(data.reward)):
        legal, action = data.legal[_states(data, rows)], data.action[rows]
        taken = np.take_along_axis(legal, action[..., None].clip(0, legal.shape[2] - 1), 2)[..., 0]
        illegal.append(rows.start + np.flatnonzero(~taken.all(1)))
        stuck.append(rows.start + np.flatnonzero(~np.all(np.any(legal, 2), 1)))
    wrong, none = np.concatenate(illegal), np.concatenate(stuck)
    if len(wrong):
        yield _at(
            "error",
            f"in {len(wrong):,} transitions an agent makes a choice that is not legal there",
            wrong,
            "are 'legal' and 'action' of the same step? one of them may be a row late",
        )
    if len(none):
        yield _at(
            "error",
            f"in {len(none):,} transitions an agent has no legal choice",
            none,
            "give those who are out one choice, such as to wait",
        )
    unused = sorted(set(range(data.action_dim)) - set(np.unique(data.action).tolist()))
    if unused:
        yield Finding("note", f"nobody ever makes the choices {', '.join(map(str, unused))}")


def _rewards(data: Dataset) -> Iterator[Finding]:
    """The scale of rewards; training divides by their deviation, outliers decide that."""
    reward = np.asarray(data.reward, np.float64)
    std = reward.std()
    yield Finding(
        "note", f"rewards are {reward.mean():.3g} ± {std:.3g}, {np.mean(reward == 0):.0%} of them 0"
    )
    if std < 1e-6:
        yield Finding(
            "error", "the reward never changes: nothing tells good from bad", "is it the right column?"
        )
        return
    far = np.flatnonzero(np.abs(reward - np.median(reward)) > 50 * std)
    if len(far):
        yield _at(
            "warning",
            f"{len(far):,} rewards are over 50 deviations from the middle, up to {np.abs(reward).max():.3g}",
            far,
            "an error code, or a bonus at the end? mend the one, scale down the other",
        )


def _leaks(data: Dataset) -> Iterator[Finding]:
    """Does what agents see hold the action that they are about to take, or the reward that it will earn?

    The reward may well be seen, as a robot's speed is.
    """
    rows = _sampled(len(data.reward))
    at = data.state_rows(rows)
    coded = data.action[rows].reshape(len(rows), -1).astype(np.float64)
    sources = {
        "the action of the same step": coded,
        "the reward of the same step": data.reward[rows][:, None],
    }
    fields = {"state": data.state, "obs": data.obs}
    seen = {name: x[at] for name, x in fields.items() if x is not None}
    for (name, x), (what, told) in itertools.product(seen.items(), sources.items()):
        flat = x.reshape(len(rows), -1).astype(np.float64)
        pairs = np.argwhere(np.abs(_correlation(flat, told)) > 0.999)
        if len(pairs):
            entry = ", ".join(map(str, np.unravel_index(int(pairs[0][0]), x.shape[1:])))
            yield _leak(f"'{name}' entry {entry} is {what}", "action" in what)


def _leak(told, is_action) -> Finding:
    if not is_action:
        return Finding("note", f"{told}: fine where it is measured, such as a speed")
    return Finding(
        "error",
        f"{told}: a policy would copy it, and has nothing to copy when it acts",
        "leave the entry out, or shift it by a step",
    )


def _coverage(data: Dataset) -> Iterator[Finding]:
    """Do returns tell teams apart?"""
    returns = data.returns
    quantiles = ", ".join(f"{q:.4g}" for q in np.quantile(returns, [0, 0.1, 0.5, 0.9, 1]))
    yield Finding("note", f"returns: least, 10 %, median, 90 %, most: {quantiles}")
    if len(returns) < 20:
        yield Finding(
            "warning",
            f"there {'is one episode' if len(returns) == 1 else f'are {len(returns)} episodes'} only",
            "record more: values need some hundreds"
            + (
                ", or does no row's end flag (terminated, truncated) tell where episodes end?"
                * (len(returns) == 1)
            ),
        )
    if returns.std() < 0.02 * np.abs(returns).max():
        yield Finding(
            "note",
            "all episodes return about the same: selecting the better ones (`selection`) tells little here",
        )


LOOKS: tuple[Callable[[Dataset], Iterator[Finding]], ...] = (
    _borders,
    _jumps,
    _padding,
    _duplicates,
    _actions,
    _rewards,
    _leaks,
    _coverage,
)


def place(dataset: Dataset, row: int) -> str:
    """A transition's row, in words: "row 1203 (episode 4, step 7)"."""
    episode = int(np.searchsorted(dataset.first, row, side="right")) - 1
    return f"row {row} (episode {episode}, step {row - dataset.first[episode]})"


def _at(level: Level, told: str, rows: Int[ndarray, " k"], mend: str = "") -> Finding:
    return Finding(level, told, mend, tuple(map(int, rows[:5])), len(rows))


def _blocks(count) -> Iterator[slice]:
    for first in range(0, count, BLOCK):
        yield slice(first, min(first + BLOCK, count))


def _sampled(count) -> Int[ndarray, " k"]:
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))


def _states(data, rows: slice) -> Int[ndarray, " k"]:
    """The states' rows of a block of transitions."""
    return data.state_rows(np.arange(rows.start, rows.stop))


def _step_sizes(data, rows, scale) -> Float[ndarray, " k"]:
    """How far the state moves in each transition, in its deviations."""
    at = _states(data, rows)
    return np.sqrt(np.square((data.state[at + 1] - data.state[at]) / scale).sum(1))


def _range(x) -> tuple[ndarray, ndarray]:
    low, high = np.full(x.shape[1:], np.inf), np.full(x.shape[1:], -np.inf)
    for rows in _blocks(len(x)):
        low, high = np.minimum(low, x[rows].min(0)), np.maximum(high, x[rows].max(0))
    return low, high


def _std(x) -> ndarray:
    return np.asarray(x[_sampled(len(x))], np.float64).std(0)


def _hashed(data, rows) -> ndarray:
    """A 64-bit number for each pair of state and joint action: equal pairs have equal ones."""
    at = _states(data, rows)
    parts = (np.ascontiguousarray(x).reshape(len(at), -1) for x in (data.state[at], data.action[rows]))
    words = np.concatenate([part.view(np.uint32) for part in parts], 1).astype(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64) | np.uint64(1)
    mixed = (words + np.uint64(0x9E3779B97F4A7C15)) * odd
    return (mixed ^ (mixed >> np.uint64(29))).sum(1, dtype=np.uint64)


def _correlation(x, y) -> Float[ndarray, "i j"]:
    """Of every column of x with every column of y; 0 where one does not change."""
    x, y = (z - z.mean(0) for z in (x, y))
    norms = np.outer(np.sqrt(np.square(x).sum(0)), np.sqrt(np.square(y).sum(0)))
    return np.divide(x.T @ y, norms, out=np.zeros_like(norms), where=norms > 1e-9)
