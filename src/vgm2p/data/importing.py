"""Other people's formats in and out, by name; each is read episode by episode into a dataset folder."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

from vgm2p.data import store
from vgm2p.data.dataset import Dataset
from vgm2p.data.rows import Ends
from vgm2p.data.writer import Writer
from vgm2p.errors import InputError

Kind = Literal["omiga", "vault", "folder", "minari"]


def import_data(
    kind: Kind,
    source: str,
    name: str,
    *,
    agents: int | None = None,
    ends: Ends = "step",
    time_limit: int | None = None,
    env: dict[str, Any] | None = None,
    licence: str | None = None,
) -> Dataset:
    """Read `source` and write it as the dataset `name`; returns it.

    agents: how many, where the format does not tell ("folder", "minari").
    ends, time_limit: where end flags are, and which episodes were cut ("folder", "vault"); see rows.py.
    env: what scores policies: {"module": ..., "options": ...} of PettingZoo, or {"team": ...} of the tasks.

    Raises InputError if the source is broken, naming file and field; nothing is then left behind.
    """
    folder = store.home() / name
    if (folder / "unfinished").exists():
        raise InputError(f"{folder} holds an unfinished recording: go on with it, or delete the folder")
    writer = Writer(folder, {})  # tells if the name is taken, before anything is read
    try:
        card, episodes = _read(kind, source, agents, ends, time_limit)
        writer.card = {"id": name, **card}
        writer.card |= {"env": env} if env else {}
        writer.card |= {"licence": licence} if licence else {}
        for part in episodes:
            writer.add(part)
        return writer.finish()
    except BaseException as error:
        shutil.rmtree(folder / "unfinished", ignore_errors=True)
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        # Whatever a format's library raises at a damaged file, of which it knows more than we do.
        raise InputError(f"{source} can't be read as {kind} ({type(error).__name__}: {error})") from error


def export_data(dataset: Dataset, kind: Kind, out: str, ends: Ends = "step") -> None:
    """Write a dataset in another format. InputError where that can't hold it, or if `out` exists."""
    from vgm2p.data import minari, omiga, plain, vault

    if kind == "omiga":
        omiga.write(dataset, Path(out))
    elif kind == "vault":
        vault.write(dataset, Path(out), ends)
    elif kind == "minari":
        minari.write(dataset, out)
    else:
        plain.write(dataset, Path(out))


def _read(kind, source, agents, ends, time_limit) -> tuple[dict[str, Any], Iterator[Dataset]]:
    from vgm2p.data import minari, omiga, plain, vault

    if kind not in get_args(Kind):
        raise InputError(f"unknown format {kind!r}: there are {', '.join(get_args(Kind))}")
    if kind in ("folder", "minari") and not agents:
        raise InputError(f"a {kind} does not tell how many agents there are: say it with --agents")
    if kind == "omiga":
        return omiga.read(Path(source))
    if kind == "vault":
        return vault.read(Path(source), ends, time_limit)
    if kind == "minari":
        return minari.read(source, agents)
    return plain.read(Path(source), agents, ends, time_limit)
