"""OMIGA's HDF5 files (MA-MuJoCo): read, and written so that reading gives the same dataset.

Keys `s`, `o` [T, n, d], `a` [T, n, a], `r` [T, 1], `d` [T, 1], rows one after another in time. An extra row
with d = 1 closes each episode: its observation alone means something. Each agent's vector, the state and the
one-hot id, is shifted and scaled to zero mean and unit variance over its own entries. With z_on and z_off its
entries for the id's one and zeros, raw = (z - z_off) / (z_on - z_off): exact, since 0 and 1 went in.

Episodes of 1000 steps are cut by the time limit, though d = 1 there too, and no others are.

Ant's vectors hold 84 contact forces that MuJoCo 2.0 left at zero; states are kept without them, as the
environment here shows them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.data.dataset import Dataset
from vgm2p.data.rows import Rows, episodes
from vgm2p.data.store import replace_file
from vgm2p.errors import InputError, needs
from vgm2p.tasks import PADDING

NAMES = {"HalfCheetah-v2-6x1": "6halfcheetah", "Hopper-v2-3x1": "3hopper", "Ant-v2-2x4": "2ant"}
STATE = {"6halfcheetah": 17, "3hopper": 11, "2ant": 27}
TIME_LIMIT, BLOCK = 1000, 50_000


def name_of(path: Path) -> str:
    """`omiga/<team>-<tier>` of a file named as theirs are, such as Hopper-v2-3x1-medium.hdf5."""
    for prefix, team in NAMES.items():
        if path.stem.startswith(prefix + "-"):
            return f"omiga/{team}-{path.stem.removeprefix(prefix + '-')}"
    raise InputError(
        f"{path.name} is not named as OMIGA's files are ({', '.join(NAMES)}, then -<tier>.hdf5): rename it"
    )


def file_of(name: str, folder: Path) -> Path | None:
    """The inverse: where in a folder the file of that name would lie; None if no file is called so."""
    for prefix, team in NAMES.items():
        if name.startswith(f"omiga/{team}-"):
            return folder / f"{prefix}-{name.removeprefix(f'omiga/{team}-')}.hdf5"
    return None


def read(path: Path) -> tuple[dict[str, Any], Iterator[Dataset]]:
    """(card, episodes) of a file. InputError that names file and field if it is not one of theirs."""
    team = next(team for team in STATE if name_of(path).startswith(f"omiga/{team}-"))
    file = _opened(path)
    rows = len(file["d"])
    agents, width = file["s"].shape[1:]
    expected = STATE[team] + PADDING.get(team, 0) + agents
    if width != expected:
        raise InputError(f"{path}: 's' has vectors of {width} entries; {team} has {expected}")
    card = {
        "source": f"OMIGA's file {path.name}",
        "note": "states recovered from standardised vectors; actions as logged, not clipped",
        "licence": "not stated by its authors",
        "agents": agents,
        "env": {"team": team},
    }
    if not file["d"][rows - 1].any():
        raise InputError(
            f"{path}: the last row has d = 0, so the file ends within an episode: it is truncated"
        )

    def blocks():
        with file, np.errstate(divide="ignore", invalid="ignore"):
            for first in range(0, rows, BLOCK):
                yield _rows(file, slice(first, first + BLOCK), team, path)

    return card, episodes(blocks(), "row", TIME_LIMIT, str(path))


def write(dataset: Dataset, path: Path) -> None:
    """Write a robot team's dataset in their format, vectors in float64, so that states come back exactly.

    Raises InputError for teams that do not see the whole state, for episodes whose length would tell another
    end than theirs, and where h5py is missing.
    """
    if dataset.obs is not None or dataset.legal is not None:
        raise InputError(f"{dataset.id}: OMIGA's format holds robots whose agents see the whole state only")
    wrong = np.flatnonzero(dataset.terminated == (dataset.lengths == TIME_LIMIT))
    if len(wrong):
        steps, ended = dataset.lengths[wrong[0]], dataset.terminated[wrong[0]]
        raise InputError(
            f"{dataset.id}: OMIGA's files can't say that episode {wrong[0]}, of {steps} steps, "
            f"{'ended truly' if ended else 'was cut short'}: there those of {TIME_LIMIT} steps were cut, and "
            "no others; export it as a folder or a vault"
        )
    padding = PADDING["2ant"] if dataset.state.shape[1] == STATE["2ant"] else 0
    replace_file(path, lambda p: _write(dataset, padding, p))


def _write(dataset, padding, path):
    n, a = dataset.action.shape[1:]
    with _h5py().File(path, "w", libver="latest") as file:  # whose structures have checksums
        width = dataset.state.shape[1] + padding + n
        shapes = {"s": (n, width), "o": (n, width), "a": (n, a), "r": (1,), "d": (1,)}
        for key, shape in shapes.items():
            kind = "f8" if key in ("s", "o") else "f4"
            file.create_dataset(
                key, (len(dataset.state), *shape), kind, chunks=True, compression="lzf", fletcher32=True
            )
        at = 0
        for episode in range(len(dataset.lengths)):
            part = dataset.take(np.array([episode]))
            rows = slice(at, at + len(part.state))
            file["s"][rows] = file["o"][rows] = standardised(part.state, n, padding)
            file["a"][rows] = np.concatenate([part.action, np.zeros((1, n, a), np.float32)])
            file["r"][rows, 0] = np.append(part.reward, 0)
            file["d"][rows, 0] = np.append(np.zeros(len(part.reward)), 1)
            at = rows.stop


def standardised(state: np.ndarray, n: int, padding: int) -> np.ndarray:
    """Every agent's vector [t, n, d]: state, zeros and id, with zero mean and unit variance over itself."""
    ids = np.broadcast_to(np.eye(n), (len(state), n, n))
    shown = np.broadcast_to(state[:, None].astype(np.float64), (len(state), n, state.shape[1]))
    vector = np.concatenate([shown, np.zeros((len(state), n, padding)), ids], -1)
    return (vector - vector.mean(-1, keepdims=True)) / vector.std(-1, keepdims=True)


def recovered(vector: np.ndarray, n: int) -> np.ndarray:
    """The states [t, d - n] in vectors [t, n, d], from the first agent's."""
    first = vector[:, 0].astype(np.float64)
    on, off = first[:, -n], first[:, 1 - n]
    return (first[:, :-n] - off[:, None]) / (on - off)[:, None]


def _rows(file, where, team, path) -> Rows:
    vector, action, reward, ended = (_read(file, key, where, path) for key in "sard")
    n = vector.shape[1]
    ids = vector[..., -n:].astype(np.float64)
    on = np.diagonal(ids, axis1=1, axis2=2)
    off = (ids.sum(-1) - on) / (n - 1)
    spread = np.abs(np.where(np.eye(n, dtype=bool), on[..., None], off[..., None]) - ids).max(initial=0)
    if not ((on > off).all() and spread < 1e-4):
        raise InputError(f"{path}: the vectors in 's' don't end with the agents' standardised one-hot ids")
    state = recovered(vector, n)
    state, rest = state[:, : STATE[team]], state[:, STATE[team] :]
    if np.abs(rest).max(initial=0) > 1e-3:
        raise InputError(
            f"{path}: contact forces in 's' reach {np.abs(rest).max():.2g}; the environment here shows none"
        )
    ended = ended.reshape(len(vector), -1)[:, 0] != 0
    return Rows(state, action, reward, ended, np.zeros_like(ended))


def _read(file, key, where, path):
    try:
        return file[key][where]
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: field {key!r} can't be read ({error}); the file is damaged") from error


def _opened(path):
    """The HDF5 file, its fields of the shapes that they must have."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    try:
        file = _h5py().File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is truncated or no HDF5 file ({error})") from error
    missing = [key for key in "sard" if key not in file]
    if missing:
        raise InputError(f"{path} lacks the fields {', '.join(missing)}; it has {', '.join(file) or 'none'}")
    for key in "sard":
        field, axes = file[key], 3 if key in "sa" else (1, 2)
        if getattr(field, "dtype", None) is None or field.dtype.kind not in "fiub":
            raise InputError(f"{path}: field {key!r} holds {getattr(field, 'dtype', 'a group')}, no numbers")
        if field.ndim not in np.atleast_1d(axes):
            raise InputError(f"{path}: field {key!r} has shape {field.shape}; it needs {axes} axes")
        if len(field) != len(file["d"]) or len(field) == 0:
            raise InputError(f"{path}: field {key!r} has {len(field)} rows and 'd' {len(file['d'])}")
    if file["s"].shape[1] < 2 or file["s"].shape[1] != file["a"].shape[1]:
        raise InputError(f"{path}: 's' has shape {file['s'].shape} and 'a' {file['a'].shape}: agents differ")
    return file


def _h5py():
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise needs("a file of OMIGA's", "hdf5") from error
    return h5py
