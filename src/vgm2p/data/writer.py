"""Writing a dataset episode by episode: nothing recorded is lost, and none of it need fit into memory."""

import json
import os
import shutil
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from vgm2p.data.card import describe, versions
from vgm2p.data.dataset import Dataset
from vgm2p.data.store import (
    FIELDS,
    PARTIAL,
    UnwrittenError,
    load,
    locked,
    read_json,
    read_lines,
    replace_file,
    sha256,
    unwritten,
    write_json,
    write_lines,
)
from vgm2p.errors import InputError

DTYPES = {"f4": "F32", "f2": "F16", "i4": "I32", "b1": "BOOL"}  # NumPy's names and safetensors'
PER_STEP = tuple(name for name in (*FIELDS, *PARTIAL) if name not in ("lengths", "terminated"))


class Writer:
    """Appends episodes to a folder, in raw files beside a journal; `finish` makes the dataset of them.

    One that was killed is opened again, with the same card, and goes on after the last whole episode.
    """

    def __init__(self, folder: Path, card: dict[str, Any]):
        """`card`: what is known beside the numbers: id, source, note, licence, agents, env.

        Raises InputError if the folder holds a finished dataset or episodes of another card, if another
        process writes it, or if JSON can't hold the card.
        """
        if (folder / "card.json").exists():
            raise InputError(f"{folder} holds a dataset already: choose another name, or delete the folder")
        try:
            card = json.loads(json.dumps(card))
        except TypeError as error:
            raise InputError(f"{folder}: its card can't be written ({error}); it holds {card}") from error
        self.folder, self.card = folder, card
        self._parts = folder / "unfinished"
        self._journal = self._parts / "episodes.jsonl"
        self._layout, self._begun = self._parts / "layout.json", self._parts / "begun.json"
        self._lock = self._locked()
        self._episodes: list[dict] = read_lines(self._journal)
        write_lines(self._journal, self._episodes)  # without a line that a kill cut
        self._told = self._journal.stat().st_size
        self.transitions = sum(line["length"] for line in self._episodes)  # that are written
        if self._episodes:
            self._go_on()
        else:
            write_json(self._begun, card)

    def add(self, episodes: Dataset) -> None:
        """Append episodes, whole or not at all.

        InputError if their fields are shaped unlike the first's; UnwrittenError where the disk refuses them,
        and the same may be added again.
        """
        parts = {name: getattr(episodes, name) for name in PER_STEP}
        parts = {name: np.ascontiguousarray(x) for name, x in parts.items() if x is not None}
        layout = {name: [x.dtype.str[1:], *x.shape[1:]] for name, x in parts.items()}
        if not self._episodes:
            write_json(self._layout, layout)
        elif layout != (first := read_json(self._layout)):
            raise InputError(f"{self.folder}: an episode is laid out as {layout}, the first was as {first}")
        lines = [
            {"length": int(length), "terminated": bool(ended), "return": float(earned)}
            for length, ended, earned in zip(
                episodes.lengths, episodes.terminated, episodes.returns, strict=True
            )
        ]
        try:
            self._append(parts, lines)
        except OSError as error:
            raise unwritten(self._parts, error) from error
        self._told = self._journal.stat().st_size
        self._episodes += lines
        self.transitions += sum(line["length"] for line in lines)

    def finish(self) -> Dataset:
        """Make `data.safetensors` and `card.json` of what was added. InputError if that is nothing."""
        if not self._episodes:
            self.drop()
            raise InputError(f"{self.folder}: no episode was finished, so there is no dataset to write")
        self._cut()
        data = self.folder / "data.safetensors"
        replace_file(data, self._compose)
        lengths, returns = (np.array([line[key] for line in self._episodes]) for key in ("length", "return"))
        card = {**self.card, "horizon": int(lengths.max()), "versions": versions()}
        card |= describe(returns, lengths) | {"sha256": sha256(data)}
        try:
            write_json(self.folder / "card.json", card)
        except UnwrittenError:
            data.unlink()
            raise
        self._release()
        return load(self.folder)

    def drop(self) -> None:
        """Forget what was added; an empty folder goes too."""
        self._release()
        with suppress(OSError):  # not empty
            self.folder.rmdir()

    def _go_on(self):
        """Episodes of one card only: another environment's do not belong to them."""
        begun = read_json(self._begun)
        for name in begun | self.card:
            before, now = begun.get(name), self.card.get(name)
            if before != now:
                self._lock.release()
                raise InputError(
                    f"{self.folder} holds an unfinished recording whose {name!r} is {before}, not {now}: go "
                    "on as it was begun, choose another name, or delete the folder"
                )
        self._cut()

    def _append(self, parts, lines):
        """The arrays first: only what the journal tells of counts."""
        self._cut()
        for name, x in parts.items():
            with self._raw(name).open("ab") as file:
                file.write(x.tobytes())
        with self._journal.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def _release(self):
        self._lock.release()
        shutil.rmtree(self._parts, ignore_errors=True)  # already gone where it is dropped a second time

    def _compose(self, path):
        """A safetensors file: the length of a JSON header, the header, and the arrays one after another."""
        lengths = np.array([line["length"] for line in self._episodes], "i4")
        small = {"lengths": lengths, "terminated": np.array([line["terminated"] for line in self._episodes])}
        layout = {
            name: (dtype, [len(x), *shape])
            for name, (dtype, *shape) in read_json(self._layout).items()
            for x in [range(self._rows(name))]
        }
        layout |= {name: (x.dtype.str[1:], [*x.shape]) for name, x in small.items()}
        names = sorted(layout, key=lambda name: -np.dtype(layout[name][0]).itemsize)  # keeps all aligned
        with path.open("wb") as out:
            out.write(_header({name: layout[name] for name in names}))
            for name in names:
                with BytesIO(small[name].tobytes()) if name in small else self._raw(name).open("rb") as file:
                    shutil.copyfileobj(file, out, 2**20)

    def _locked(self) -> FileLock:
        return locked(
            self._parts / "lock",
            f"{self.folder} is being written by another process, or by another recording in this one: "
            "close that, or choose another name",
        )

    def _cut(self):
        """Drop what was written of an episode that did not become whole."""
        os.truncate(self._journal, self._told)
        for name, (dtype, *shape) in read_json(self._layout).items():
            self._raw(name).touch()
            size = self._rows(name) * int(np.prod(shape)) * np.dtype(dtype).itemsize
            if (found := self._raw(name).stat().st_size) < size:
                raise InputError(
                    f"{self._raw(name)} has {found} bytes where {self._journal} tells of {size}: the file is "
                    f"damaged; delete {self._parts} and record again"
                )
            os.truncate(self._raw(name), size)

    def _rows(self, name):
        return self.transitions + (len(self._episodes) if name in ("state", *PARTIAL) else 0)

    def _raw(self, name):
        return self._parts / f"{name}.raw"


def _header(layout: dict[str, tuple[str, list[int]]]) -> bytes:
    """What a safetensors file with these arrays, of (dtype, shape), begins with."""
    header, at = {}, 0
    for name, (dtype, shape) in layout.items():
        end = at + int(np.prod(shape)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text
