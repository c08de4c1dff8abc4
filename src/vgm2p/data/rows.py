"""Rows as other people's formats keep them, one per step, made into episodes: alignments live here alone.

Formats differ in what a row with its end flag up means:

    "step"  the last action that was taken. What it led to is not kept: after a true end nobody asks for it
            (the last state stands in), and an episode that a time limit cut is closed one step earlier.
    "row"   the observation after the last action, in an extra row whose action and reward mean nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from vgm2p.data.dataset import Dataset
from vgm2p.data.store import PARTIAL
from vgm2p.errors import InputError

Ends = Literal["step", "row"]
AXES = {
    "obs": ("rows", "agents", "entries"),
    "state": ("rows", "entries"),
    "reward": ("rows",),
    "terminated": ("rows",),
    "truncated": ("rows",),
    "legal": ("rows", "agents", "choices"),
    "present": ("rows", "agents"),
}


class Rows(NamedTuple):
    """Some rows of a log, one after another in time.

    reward: the team's, or one per agent, of which the mean is taken.
    terminated, truncated: is the end flag up? Where there is one per agent it stays up, and the team's
      episode ends with its last agent's: cut if any agent was cut.
    obs, legal, present: None where agents see the whole state, where actions are no choices, and where no
      agent ever leaves.
    """

    state: Float[ndarray, "t s"]
    action: Float[ndarray, "t n a"] | Int[ndarray, "t n"]
    reward: Float[ndarray, "t ..."]
    terminated: Bool[ndarray, "t ..."]
    truncated: Bool[ndarray, "t ..."]
    obs: Float[ndarray, "t n o"] | None = None
    legal: Bool[ndarray, "t n c"] | None = None
    present: Bool[ndarray, "t n"] | None = None


def checked(rows: Rows, where: str) -> Rows:
    """The rows in a dataset's types. InputError that names the field if they don't fit together.

    Negative infinity is padding in some published sets, of agents that see less than others: it becomes 0.
    """
    fields = {name: np.asarray(x) for name, x in rows._asdict().items() if x is not None}
    for name, x in fields.items():
        if x.dtype.kind not in "fiub":
            raise InputError(f"{where}: {name!r} is of type {x.dtype}; it must hold numbers")
        if len(x) != len(fields["action"]):
            raise InputError(f"{where}: {name!r} has {len(x)} rows and 'action' {len(fields['action'])}")
    reward = fields["reward"].reshape(len(fields["reward"]), -1)
    fields["reward"] = reward.mean(1, dtype=np.float64) if reward.shape[1] else np.zeros(len(reward))
    fields["terminated"], fields["truncated"] = _ends(fields["terminated"], fields["truncated"], where)
    for name, axes in AXES.items():
        if name not in fields:
            continue
        if fields[name].ndim != len(axes):
            raise InputError(
                f"{where}: {name!r} has shape {fields[name].shape}; it needs ({', '.join(axes)})"
            )
        x = _float(fields[name], where, name) if name in ("obs", "state", "reward") else fields[name] != 0
        fields[name] = np.where(np.isneginf(x), np.float32(0), x) if name in ("state", "obs") else x
    fields["action"] = _action(fields["action"], where)
    if "obs" in fields and fields["obs"].shape[1] != fields["action"].shape[1]:
        raise InputError(
            f"{where}: 'obs' is of {fields['obs'].shape[1]} agents, 'action' of {fields['action'].shape[1]}"
        )
    return Rows(**_choices(fields, where))


def episodes(blocks: Iterable[Rows], ends: Ends, time_limit: int | None, where: str) -> Iterator[Dataset]:
    """The episodes in the blocks of a log, a dataset for each block; they may cross from one to the next.

    time_limit: an episode of exactly so many steps was cut, whatever its flags say: many formats have one
      flag for both ends. Without it, what is flagged as truncated and not as terminated was cut. So is an
      episode that the log's end leaves open.
    """
    rest: Rows | None = None
    for block in blocks:
        rows = checked(block, where)
        rows = rows if rest is None else _joined([rest, rows], where)
        last = np.flatnonzero(rows.terminated | rows.truncated)
        if len(last) == 0:
            rest = rows
            continue
        done = last[-1] + 1
        if (found := _made(_part(rows, slice(done)), last, ends, time_limit)) is not None:
            yield found
        rest = _part(rows, slice(done, None))
    if rest is not None and len(rest.reward) > 1:
        left_open = rest._replace(truncated=np.arange(len(rest.reward)) == len(rest.reward) - 1)
        found = _made(left_open, np.array([len(rest.reward) - 1]), ends, None)
        if found is not None:
            yield found


def rows_of(dataset: Dataset, ends: Ends) -> Rows:
    """The inverse of `episodes`; with "step", without what each episode's last action led to."""
    episode = np.repeat(np.arange(len(dataset.lengths)), dataset.lengths + 1)
    final = np.zeros(len(dataset.state), bool)
    final[np.cumsum(dataset.lengths + 1) - 1] = True
    taken = (np.arange(len(final)) - episode).clip(max=len(dataset.reward) - 1)
    action, reward, over = dataset.action[taken], dataset.reward[taken], dataset.terminated[episode]
    action[final], reward[final] = 0, 0
    flag = final if ends == "row" else np.append(final[1:], False)
    ends_in = (flag & over, flag & ~over)
    rows = Rows(dataset.state, action, reward, *ends_in, dataset.obs, dataset.legal, dataset.present)
    return rows if ends == "row" else _part(rows, ~final)


def _made(rows: Rows, last: Int[ndarray, " e"], ends: Ends, time_limit: int | None) -> Dataset | None:
    """Whole episodes, whose flags are up in the rows `last`; None if none of them has a step."""
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + (ends == "step")
    cut = rows.truncated[last] & ~rows.terminated[last]
    if time_limit is not None:
        cut = cut | (length == time_limit)
    length = length - (cut & (ends == "step"))  # what the last action led to is not kept
    kept = np.flatnonzero(length > 0)
    if len(kept) == 0:
        return None
    step = [np.arange(first[e], first[e] + length[e]) for e in kept]
    state = [np.arange(first[e], first[e] + length[e] + 1).clip(max=last[e]) for e in kept]
    row, at = np.concatenate(step), np.concatenate(state)
    return Dataset(
        state=rows.state[at],
        action=rows.action[row],
        reward=rows.reward[row],
        lengths=length[kept].astype(np.int32),
        terminated=~cut[kept],
        card={"id": "what is read"},
        **{name: x[at] for name in PARTIAL if (x := getattr(rows, name)) is not None},
    )


def _ends(terminated, truncated, where) -> tuple[Bool[ndarray, " t"], Bool[ndarray, " t"]]:
    """The team's (terminated, truncated) flags of its own or of all its agents' flags."""
    rows, both = len(terminated), (terminated, truncated)
    flags = [x.reshape(rows, -1) != 0 if x.size else np.zeros((rows, 1), bool) for x in both]
    widths = [x.shape[1] for x in flags]
    if len(set(widths)) > 1 and 1 not in widths:
        raise InputError(f"{where}: 'terminated' has {widths[0]} flags in a row, 'truncated' {widths[1]}")
    ended = flags[0] | flags[1]
    over = np.asarray(ended.all(1))
    fallen = (ended[:-1] & ~ended[1:]).any(1) & ~over[:-1]
    if fallen.any():
        row = int(np.flatnonzero(fallen)[0])
        raise InputError(
            f"{where}: an agent's end flag is up in row {row} and down in the next, and the team goes on: "
            "keep flags up until the last agent's, or give one flag for the team"
        )
    cut = np.asarray(over & (flags[1] & ~flags[0]).any(1))
    return over & ~cut, cut


def _float(x, where, name):
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32)
    bad = ~np.isfinite(narrow)
    if name in ("obs", "state"):
        bad &= ~np.isneginf(x)  # turned into 0 there
    if bad.any():
        at = tuple(map(int, np.argwhere(bad)[0]))
        entry = f" at {at[1:]}" if at[1:] else ""
        raise InputError(f"{where}: {name!r} holds {x[at]} in row {at[0]}{entry}: repair or drop it")
    return narrow


def _action(action, where):
    if action.dtype.kind == "f":
        if action.ndim != 3:
            raise InputError(
                f"{where}: 'action' has shape {action.shape}; it needs (rows, agents, entries), or, of "
                "choices, (rows, agents) in whole numbers"
            )
        return _float(action, where, "action")
    action = action[..., 0] if action.ndim == 3 and action.shape[2] == 1 else action
    if action.ndim != 2:
        raise InputError(f"{where}: 'action' has shape {action.shape}; choices need (rows, agents)")
    if action.size and action.max() > np.iinfo(np.int32).max:
        raise InputError(f"{where}: 'action' holds the choice {action.max()}; choices count from 0")
    return action.astype(np.int32)


def _choices(fields, where) -> dict[str, Any]:
    """Choices and which of them are legal fit together, or there are none of either."""
    action, legal = fields["action"], fields.get("legal")
    if action.dtype.kind == "f":
        if legal is not None:
            raise InputError(f"{where}: 'legal' is there, but 'action' holds {action.dtype}, no choices")
        return fields
    if action.size and action.min() < 0:
        raise InputError(f"{where}: 'action' holds the choice {action.min()}; choices count from 0")
    if legal is None:
        raise InputError(
            f"{where}: 'action' holds choices, and no 'legal' tells how many there are: add it, (rows, "
            "agents, choices), all True where every choice always is"
        )
    if legal.shape[:2] != action.shape or (action.size and action.max() >= legal.shape[2]):
        raise InputError(
            f"{where}: 'legal' has shape {legal.shape}, which does not fit choices up to {action.max()} in "
            f"'action' of shape {action.shape}"
        )
    return fields


def _part(rows: Rows, where: slice | Bool[ndarray, " t"]) -> Rows:
    return Rows(**{name: x[where] for name, x in rows._asdict().items() if x is not None})


def _joined(parts: list[Rows], where: str) -> Rows:
    try:
        first = parts[0]._asdict()
        return Rows(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name, x in first.items()
                if x is not None
            }
        )
    except ValueError as error:
        raise InputError(f"{where}: its rows change their shape on the way ({error})") from error
