"""Other people's formats in and out, by name; each is read episode by episode into a dataset folder."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vgm2p.data import store
from vgm2p.data.dataset import Dataset
from vgm2p.data.rows import Ends
from vgm2p.data.writer import Writer
from vgm2p.errors import InputError, unknown
from vgm2p.tasks import TASKS, TEAMS, Own

Kind = Literal["omiga", "vault", "folder", "minari"]


def import_data(
    kind: Kind,
    source: str,
    name: str,
    *,
    agents: int | None = None,
    ends: Ends | None = None,
    time_limit: int | None = None,
    action_range: tuple[float, float] | None = None,
    env: dict[str, Any] | None = None,
    licence: str | None = None,
) -> Dataset:
    """Read `source` and write it as the dataset `name`; returns it.

    agents: how many, where the format does not tell ("folder", "minari").
    ends, time_limit: where end flags are, and which episodes were cut ("folder", "vault"); see rows.py.
    action_range: of every entry in the source; mapped to [-1, 1], and controllers act in it again.
    env: what scores policies: {"module": ..., "options": ...} of PettingZoo, or {"team": ...} of the tasks.

    Raises InputError if the source is broken, naming file and field, or does not fit that environment;
    nothing is then left behind.
    """
    folder = store.folder_of(name, TASKS)
    if (folder / "unfinished").exists():
        raise InputError(
            f"{folder} holds an unfinished recording or import: wait for it if it still runs; else record "
            "on, or delete the folder (an import that was killed can't go on)"
        )
    known = _environment(env)
    writer = Writer(folder, {})  # tells if the name is taken, before anything is read
    try:
        card, episodes = _read(kind, source, agents, ends, time_limit)
        writer.card = {"id": name, **card, **known} | ({"licence": licence} if licence else {})
        for part in _as_played(episodes, name, writer.card, action_range):
            writer.add(part)
        return writer.finish()
    except BaseException as error:
        if (folder / "unfinished").exists():
            writer.drop()
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        # Whatever a format's library raises at a damaged file, of which it knows more than we do.
        raise InputError(f"{source} can't be read as {kind} ({type(error).__name__}: {error})") from error


def _as_played(episodes, name, card, action_range) -> Iterator[Dataset]:
    """The episodes as the card's environment shows and takes them.

    The first is held to that environment; the writer holds the others to the first.
    """
    own, scaled = Own(name, card), _scaled(action_range, card)
    whole = own.team and not TEAMS[own.team].partial
    for k, part in enumerate(map(scaled, episodes)):
        seen = _whole_state(part) if whole else part
        if k == 0:
            own.check(seen)
        yield seen


def _environment(env) -> dict[str, Any]:
    """What a card tells of an environment. InputError if it can't be made."""
    if env is None:
        return {}
    if "team" in env:
        if env["team"] not in TEAMS:
            raise unknown("team", env["team"], list(TEAMS))
        return {"env": env}
    from vgm2p.envs.pettingzoo import Layout, make

    made = make(env["module"], env.get("options", {}))
    layout = Layout.of(made)
    made.close()
    return {"env": env, "names": list(layout.agents), **layout.card(made)}


def _whole_state(part: Dataset) -> Dataset:
    """Without observations if each agent's is the whole state, as it is in an environment that shows it."""
    whole = part.state[:, None]
    same = part.obs is not None and np.array_equal(part.obs, np.repeat(whole, part.action.shape[1], 1))
    return replace(part, obs=None) if same else part


def _scaled(action_range, card) -> Callable[[Dataset], Dataset]:
    """What maps actions to [-1, 1]; the card tells the way back."""
    if action_range is None:
        return lambda part: part
    low, high = action_range
    if not low < high:
        raise InputError(f"the range of actions {low} to {high} is empty: the lower end comes first")

    def scaled(part):
        if part.legal is not None:
            raise InputError("choices have no range: leave out --action-range")
        entries = part.action.shape[2]
        card.setdefault("low", [[low] * entries] * card["agents"])
        card.setdefault("high", [[high] * entries] * card["agents"])
        return replace(part, action=(2 * (part.action - low) / (high - low) - 1).astype(np.float32))

    return scaled


def export_data(dataset: Dataset, kind: Kind, out: str, ends: Ends = "step") -> None:
    """Write a dataset in another format. InputError where that can't hold it, or if `out` exists."""
    from vgm2p.data import minari, omiga, plain, vault

    if kind == "minari":
        minari.write(dataset, out)
        return
    path = Path(out)
    if path.exists():
        raise InputError(f"{path} exists: choose another name, or delete it")
    if kind == "omiga":
        omiga.write(dataset, path)
        return
    with store.new_folder(path) as folder:
        if kind == "vault":
            vault.write(dataset, folder, ends)
        else:
            plain.write(dataset, folder)


def _read(kind, source, agents, ends, time_limit) -> tuple[dict[str, Any], Iterator[Dataset]]:
    from vgm2p.data import minari, omiga, plain, vault

    if kind not in get_args(Kind):
        raise InputError(f"unknown format {kind!r}: there are {', '.join(get_args(Kind))}")
    if kind == "minari" and not agents:
        raise InputError("Minari does not tell how many agents there are: say it with --agents")
    if kind in ("omiga", "minari") and (ends or time_limit):
        raise InputError(f"{kind} tells which episodes were cut: leave out --ends and --time-limit")
    if kind == "omiga":
        return omiga.read(Path(source))
    if kind == "vault":
        return vault.read(Path(source), ends or "step", time_limit)
    if kind == "minari":
        return minari.read(source, agents)
    return plain.read(Path(source), agents, ends, time_limit)
