"""Datasets on disk: a folder with `data.safetensors` and `card.json`, written whole or not at all."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from vgm2p.data.card import describe
from vgm2p.data.dataset import Dataset
from vgm2p.errors import InputError

FIELDS = ("state", "action", "reward", "lengths", "terminated")
PARTIAL = ("obs", "legal", "present")  # of teams that see or may do less than all
CARD: dict[str, Any] = {  # what every card tells
    "id": str,
    "sha256": str,
    "agents": int,
    "transitions": int,
    "return_mean": int | float,
    "return_std": int | float,
}


def home() -> Path:
    """Where datasets are kept: $VGM2P_DATA, or `~/.cache/vgm2p/data`."""
    return Path(os.environ.get("VGM2P_DATA", Path.home() / ".cache" / "vgm2p" / "data")).expanduser()


def folder_of(name: str, taken: Iterable[str] = ()) -> Path:
    """Where your dataset of that name lies. InputError if the name leaves the data's home or is `taken`."""
    parts = name.split("/")
    if not name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise InputError(
            f"{name!r} can't name a dataset: use words joined by single slashes, like own/spread"
        )
    if name in taken:
        raise InputError(f"{name} is the name of a dataset of ours: choose another, like own/{parts[-1]}")
    return home() / name


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name beside `path`, then rename it.

    Raises InputError where the folder can't be written or the disk is full; `path` is then as it was.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise unwritten(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A name to make a folder under, beside `path`, which it is renamed to at the end; if not, it is removed.

    Raises InputError where the disk is full or the folder above can't be written.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class UnwrittenError(InputError):
    """The disk is at fault and not what was to be written: it may be tried again."""


def unwritten(path: Path, error: Exception) -> UnwrittenError:
    """What to raise where `path` can't be written: why not, and what to do."""
    reason = getattr(error, "strerror", None) or str(error)
    return UnwrittenError(
        f"can't write {path}: {reason}. Free some space, mend the permissions, or choose another folder "
        "(data: $VGM2P_DATA; runs: --out)"
    )


def locked(path: Path, told: str) -> FileLock:
    """A lock on the file `path`, until it is released or this process ends, however it ends.

    Raises InputError, with what is told, if another holds it.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(told) from error
    except OSError as error:
        raise unwritten(path, error) from error
    return lock


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON, whole or not at all; a number that is none becomes null."""
    text = json.dumps(_numbers(content), indent=1, allow_nan=False)
    replace_file(path, lambda p: p.write_text(text + "\n"))


def _numbers(content):
    """The same with None for what JSON has no number for."""
    if isinstance(content, dict):
        return {name: _numbers(x) for name, x in content.items()}
    if isinstance(content, list | tuple):
        return [_numbers(x) for x in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise InputError(f"{path} is not valid JSON ({error}): delete it and make it again") from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; InputError if it is missing or truncated."""
    with _told(path):
        return load_file(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; none if it is missing. From a line that was cut by a kill on, none."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """A JSONL file, whole or not at all."""
    replace_file(path, lambda p: p.write_text("".join(json.dumps(line) + "\n" for line in lines)))


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, read from the disk when they are looked at; InputError as above.

    The library checks the header; it has no lazy NumPy arrays, so their places are read from it here.
    """
    names = {"F32": "f4", "F16": "f2", "I32": "i4", "BOOL": "?", "F64": "f8", "I64": "i8", "U8": "u1"}
    with _told(path), safe_open(path, framework="numpy") as checked:
        keys = list(checked.keys())
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    found = {}
    for name in keys:
        dtype, shape = header[name]["dtype"], tuple(header[name]["shape"])
        if dtype not in names:
            raise InputError(f"{path}: field {name!r} is of type {dtype}; known are {', '.join(names)}")
        at = 8 + size + header[name]["data_offsets"][0]
        empty = math.prod(shape) == 0
        array = np.zeros(shape, names[dtype]) if empty else np.memmap(path, names[dtype], "r", at, shape)
        found[name] = np.asarray(array)
    return found


@contextmanager
def _told(path):
    """Turns what a missing or truncated safetensors file raises into an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except SafetensorError as error:
        raise InputError(
            f"{path} is truncated or not a safetensors file ({path.stat().st_size} bytes; {error}): "
            "delete it and make it again"
        ) from error


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(folder: Path) -> dict[str, Any]:
    """The card of the dataset in a folder; InputError if it is missing, broken, or lacks one of `CARD`."""
    card = read_json(folder / "card.json")
    known = card if isinstance(card, dict) else {}
    if wrong := [name for name, kind in CARD.items() if not isinstance(known.get(name), kind)]:
        raise InputError(
            f"{folder / 'card.json'} lacks the fields {', '.join(wrong)}, or holds others in their place: "
            "delete the folder, make it again"
        )
    return card


def find_card(folder: Path) -> dict[str, Any] | None:
    """The card of the dataset in a folder; None if there is none."""
    return read_card(folder) if (folder / "card.json").exists() else None


def save(dataset: Dataset, folder: Path) -> Dataset:
    """Write a dataset; returns it with the file's digest and what describes it in its card.

    The card is written last: one that was there before tells another digest until then, and `load` refuses.
    """
    path = folder / "data.safetensors"
    found = {name: getattr(dataset, name) for name in (*FIELDS, *PARTIAL)}
    arrays = {name: np.ascontiguousarray(x) for name, x in found.items() if x is not None}
    replace_file(path, lambda p: save_file(arrays, p))
    told = {"agents": dataset.action.shape[1], **describe(dataset.returns, dataset.lengths)}
    card = {**dataset.card, **told, "sha256": sha256(path)}
    write_json(folder / "card.json", card)
    return Dataset(**arrays, card=card)


def load(folder: Path) -> Dataset:
    """Read a dataset and check it against its card. Its arrays stay on the disk until they are looked at.

    Raises InputError for a missing or truncated file, a wrong digest, missing fields, rows that do not fit
    together, and non-finite numbers.
    """
    card, path = read_card(folder), folder / "data.safetensors"
    arrays = map_tensors(path)
    if (found := sha256(path)) != card["sha256"]:
        raise InputError(
            f"{path} has sha256 {found[:12]}... but its card says {card['sha256'][:12]}...: the file was "
            "changed or damaged; delete the folder and make it again"
        )
    if missing := [name for name in FIELDS if name not in arrays]:
        raise InputError(f"{path} lacks the fields {', '.join(missing)}: make it again")
    return Dataset(**{name: arrays[name] for name in (*FIELDS, *PARTIAL) if name in arrays}, card=card)
