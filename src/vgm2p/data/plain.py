"""Logs of your own as plain files: a folder of NumPy arrays, or of Parquet files; read, and written for all.

One row per step, in time, episode after episode; Parquet files in the order of the numbers in their names:

| name | NumPy, shape | Parquet, type | |
|---|---|---|---|
| `state` | [t, s] | list of float | optional: without it the observations side by side |
| `obs` | [t, n, o] | list of n * o float | optional: without it agents see the whole state |
| `action` | [t, n, a] float, [t, n] int | list of n * a float, of n int | in [-1, 1], or choices from 0 |
| `legal` | [t, n, c] bool | list of n * c bool | which choices there were; of choices only |
| `reward` | [t] or [t, n] | float, or list of n float | of several, the mean is taken |
| `terminated` | [t] bool | bool | the row's end flag is up: a true end |
| `truncated` | [t] bool | bool | likewise: the episode was cut (optional) |

What we write has a layout.json beside them, which tells how many agents there are and where end flags are.

Nothing is unpickled: arrays of objects are refused.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from vgm2p.data.dataset import Dataset
from vgm2p.data.rows import Ends, Rows, episodes, rows_of
from vgm2p.data.store import read_json, write_json
from vgm2p.errors import InputError, needs, unknown

LAYOUT = "layout.json"  # what the columns don't tell: {"agents": 3, "ends": "row"}
COLUMNS = ("state", "obs", "action", "legal", "present", "reward", "terminated", "truncated")
BLOCK = 50_000  # rows that are read at once


def read(
    path: Path, agents: int | None, ends: Ends | None, time_limit: int | None
) -> tuple[dict[str, Any], Iterator[Dataset]]:
    """(card, episodes) of a folder of `<name>.npy` or `*.parquet` files.

    agents, ends: where they are not given, what the folder's layout.json says; end flags else on the "step".

    Raises InputError that names file and column if one is missing, broken, or does not fit to the others.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder: name one that holds <name>.npy or *.parquet files")
    layout = {"ends": "step"} | (read_json(path / LAYOUT) if (path / LAYOUT).exists() else {})
    ends, agents = ends or layout["ends"], agents or layout.get("agents")
    if ends not in get_args(Ends):
        raise InputError(f"{path / LAYOUT}: 'ends' is {ends!r}; end flags are on the step or on an extra row")
    if not agents:
        raise InputError(f"{path} does not tell how many agents there are: say it with --agents")
    arrays, tables = sorted(path.glob("*.npy")), sorted(path.glob("*.parquet"), key=_in_order)
    if bool(arrays) == bool(tables):
        raise InputError(f"{path} must hold .npy files or .parquet files, and one kind only")
    blocks = _numpy(arrays, path) if arrays else _parquet(tables, agents)
    card = {
        "source": f"{'NumPy' if arrays else 'Parquet'} files in {path.name}",
        "ends": ends,
        "time_limit": time_limit,
        "licence": "not stated",
        "agents": agents,
        "env": None,
    }
    return card, episodes((_rows(block, agents, path) for block in blocks), ends, time_limit, str(path))


def _numpy(paths, folder):
    """Blocks of columns, each array mapped into memory."""
    columns = {}
    for path in paths:
        _check_names([path.stem], path)
        try:
            columns[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
            raise InputError(f"{path} is truncated, or no array of numbers ({error})") from error
        if columns[path.stem].ndim == 0:
            raise InputError(f"{path} holds a single number; it needs one row per step")
    lengths = {name: len(x) for name, x in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{folder}: columns differ in length: {lengths}")
    for first in range(0, max(lengths.values()), BLOCK):
        yield {name: np.asarray(x[first : first + BLOCK]) for name, x in columns.items()}


def _parquet(paths, agents):
    """Blocks of columns, lists unfolded to [t, n, ...]."""
    for path in paths:
        for batch in _batches(path):
            yield {name: _unfolded(batch.column(name), name, agents, path) for name in batch.schema.names}


def _batches(path):
    """The rows of one file, some at a time."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise needs("a Parquet file", "parquet") from error
    try:
        with ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, path)
            yield from file.iter_batches(BLOCK)
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is truncated or damaged ({error})") from error


def _check_names(names, path):
    if strange := [name for name in names if name not in COLUMNS]:
        raise InputError(f"{path}: {unknown('column', strange[0], COLUMNS)}")


def _in_order(path: Path) -> list:
    """What sorts names as people count: part-2 before part-10."""
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.name)]


def _unfolded(column, name, agents, path):
    import pyarrow.compute

    if column.null_count:
        raise InputError(f"{path}: column {name!r} has {column.null_count} empty entries: fill or drop them")
    if not hasattr(column, "flatten") or column.type.num_fields == 0:
        return column.to_numpy(zero_copy_only=False)
    flat = column.flatten()
    if flat.null_count:
        raise InputError(f"{path}: column {name!r} has empty entries in its lists: fill or drop them")
    values, rows = flat.to_numpy(zero_copy_only=False), len(column)
    width = len(values) // max(rows, 1)
    lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    if (other := np.flatnonzero(lengths != width)).size:
        row, found = other[0], lengths[other[0]]
        raise InputError(
            f"{path}: the lists of column {name!r} differ in length: row {row} has {found} entries"
        )
    if name in ("state", "reward", "present"):
        return values.reshape(rows, width)
    if width % agents:
        raise InputError(f"{path}: lists of {width} in column {name!r} can't be shared by {agents} agents")
    return values.reshape(rows, agents, width // agents)


def _rows(block, agents, path) -> Rows:
    """A block of columns as rows; what is optional is filled in."""
    missing = [name for name in ("action", "reward", "terminated") if name not in block]
    if missing or not {"state", "obs"} & set(block):
        lacks = missing or ["state or obs"]
        raise InputError(f"{path} lacks the columns {', '.join(lacks)}; it has {', '.join(sorted(block))}")
    action = block["action"]
    if action.ndim < 2 or action.shape[1] != agents:
        raise InputError(
            f"{path}: 'action' has shape {action.shape}, and there are {agents} agents (--agents)"
        )
    obs = block.get("obs")
    state = block["state"] if "state" in block else obs.reshape(len(obs), -1)
    truncated = block.get("truncated", np.zeros(len(action), bool))
    flags = (block["terminated"], truncated)
    return Rows(state, action, block["reward"], *flags, obs, block.get("legal"), block.get("present"))


def write(dataset: Dataset, path: Path) -> None:
    """Write a dataset as a folder of NumPy arrays, its end flags on the "row"."""
    path.mkdir()
    write_json(path / LAYOUT, {"agents": dataset.action.shape[1], "ends": "row"})
    for name, x in rows_of(dataset, "row")._asdict().items():
        if x is not None:
            np.save(path / f"{name}.npy", x, allow_pickle=False)
