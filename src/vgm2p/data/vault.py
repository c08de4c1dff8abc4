"""OG-MARL's Flashbax Vaults: read, and written so that their users can read ours.

A vault holds `observations` [b, t, n, o], `actions` [b, t, n, a] or choices [b, t, n], `rewards`, `terminals`
and `truncations` [b, t, n], `infos/state` [b, t, s] and, of choices, `infos/legals` [b, t, n, c]. The leading
axis b is 1, or one per seed of the behaviour (`omar`). Sources align `terminals` in more than one way: say
which with `ends` (rows.py).
"""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.data.dataset import Dataset
from vgm2p.data.rows import Ends, Rows, episodes, rows_of
from vgm2p.errors import InputError, needs

BLOCK = 200e6  # bytes that are read at once, about
FIELDS = ("observations", "actions", "rewards", "terminals", "truncations")


def read(path: Path, ends: Ends, time_limit: int | None) -> tuple[dict[str, Any], Iterator[Dataset]]:
    """(card, episodes) of `<name>.vlt/<uid>`. InputError that names folder and column if it is no vault."""
    vault = _opened(path)
    shapes = _fields(vault, path)
    b, _, n, *_ = shapes["observations"]
    card = {
        "source": f"Flashbax vault {path.parent.name}/{path.name}",
        "ends": ends,
        "time_limit": time_limit,
        "licence": "not stated",
        "agents": n,
        "env": None,
    }

    def stream(seed):
        choices = _choices(vault, shapes, path)
        for first, last in _intervals(vault, shapes):
            yield _rows(vault, shapes, np.s_[seed, first:last], choices, path)

    parts = (part for seed in range(b) for part in episodes(stream(seed), ends, time_limit, f"{path}"))
    return card, parts


def write(dataset: Dataset, path: Path, ends: Ends = "step") -> None:
    """Write a dataset as the vault `<name>.vlt/<uid>`.

    "step" is what OG-MARL's own systems expect; it has no place for what an episode's last action led to.
    "row" keeps it in an extra row, so that reading gives the same dataset.
    """
    flashbax, state_type = _flashbax()
    vault = None
    for first in range(0, len(dataset.lengths), 100):
        part = dataset.take(np.arange(first, min(first + 100, len(dataset.lengths))))
        experience = {k: _nested(v) for k, v in _columns(part, ends).items()}
        state = state_type(experience=experience, current_index=len(experience["rewards"][0]), is_full=False)
        if vault is None:
            vault = _vault(flashbax, path, experience)
        vault._last_received_fbx_index = 0  # every block is a buffer of its own
        vault.write(state)


def _columns(part: Dataset, ends: Ends) -> dict[str, Any]:
    """A vault's columns of some episodes, with the leading axis of one."""
    rows, n = rows_of(part, ends), part.action.shape[1]
    each = lambda x: np.repeat(x[:, None], n, 1)[None]  # noqa: E731
    infos = {"state": rows.state, "legals": rows.legal}
    return {
        "observations": each(rows.state) if rows.obs is None else rows.obs[None].astype(np.float32),
        "actions": rows.action[None],
        "rewards": each(rows.reward),
        "terminals": each(rows.terminated),
        "truncations": each(rows.truncated),
        "infos": {name: x[None] for name, x in infos.items() if x is not None},
    }


def _nested(value):
    import jax.numpy as jnp

    return {k: jnp.asarray(x) for k, x in value.items()} if isinstance(value, dict) else jnp.asarray(value)


def _fields(vault, path) -> dict[str, tuple[int, ...]]:
    """The shape of every column; InputError if one is missing, or if they do not fit together."""
    metadata = json.loads((path / "metadata.json").read_text())
    stored = _flat(metadata["structure_shape"])
    missing = [name for name in FIELDS if name not in stored]
    if missing:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(stored) or 'none'}"
        )
    shapes = {}
    for name, text in stored.items():
        try:
            shapes[name] = tuple(int(x) for x in str(text).strip("()").split(",") if x.strip())
        except ValueError as error:
            raise InputError(f"{path}: column {name!r} has the shape {text!r} in metadata.json") from error
    b, _, n = (*shapes["observations"], 0, 0, 0)[:3]
    for name, shape in shapes.items():
        agents = shape[2] if len(shape) > 2 and name != "infos/state" else n
        if len(shape) < 2 or shape[0] != b or agents != n or not n:
            raise InputError(
                f"{path}: column {name!r} has shape {shape}, 'observations' {shapes['observations']}"
            )
    if vault.vault_index < 1:
        raise InputError(f"{path} is empty: nothing was written into it")
    return shapes


def _flat(tree, prefix="") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value}
    return found


def _intervals(vault, shapes) -> Iterator[tuple[int, int]]:
    """Intervals of time that hold about a block each."""
    row = sum(4 * int(np.prod(shape[:1] + shape[2:])) for shape in shapes.values())
    size = max(1, int(BLOCK / row))
    for first in range(0, vault.vault_index, size):
        yield first, min(first + size, vault.vault_index)


def _column(vault, name, part, path) -> np.ndarray:
    """A part of a column. (`Vault.read` knows whole percentages only.)"""
    try:
        return np.asarray(_flat(vault._all_datastores)[name][part].read().result())
    except ValueError as error:
        raise InputError(f"{path}: column {name!r} can't be read ({error}); it is damaged") from error


def _rows(vault, shapes, part, choices, path) -> Rows:
    known = set(FIELDS) | {"infos/state", "infos/legals"}
    found = {name: _column(vault, name, part, path) for name in known & set(shapes)}
    obs = found["observations"]
    state = found.get("infos/state")
    legal = found.get("infos/legals")
    if choices:
        legal = np.ones((*found["actions"].shape[:2], choices), bool)
    return Rows(
        state=obs.reshape(len(obs), -1) if state is None else state,
        action=found["actions"],
        reward=found["rewards"],
        terminated=found["terminals"],
        truncated=found["truncations"],
        obs=obs,
        legal=legal,
    )


def _choices(vault, shapes, path) -> int:
    """How many choices there are, if the vault does not tell: one more than any seed's highest; else 0."""
    if "infos/legals" in shapes or _column(vault, "actions", np.s_[:, :1], path).dtype.kind not in "iu":
        return 0
    parts = (np.s_[:, first:last] for first, last in _intervals(vault, shapes))
    return 1 + max(int(_column(vault, "actions", part, path).max()) for part in parts)


def _opened(path):
    if not (path / "metadata.json").exists():
        raise InputError(f"{path} is no vault: name the folder <name>.vlt/<uid>, which holds metadata.json")
    flashbax, _ = _flashbax()
    try:
        return _vault(flashbax, path, None)
    except (ValueError, KeyError, SyntaxError, TypeError, AttributeError, AssertionError) as error:
        raise InputError(f"{path} is damaged or no Flashbax vault ({error})") from error


def _vault(flashbax, path, experience):
    names = {"rel_dir": str(path.parent.parent), "vault_name": path.parent.name, "vault_uid": path.name}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its plans
        return flashbax.Vault(experience_structure=experience, **names)


def _flashbax():
    try:
        from flashbax import vault
        from flashbax.buffers.trajectory_buffer import TrajectoryBufferState
    except ModuleNotFoundError as error:
        raise needs("a vault", "vault") from error
    return vault, TrajectoryBufferState
