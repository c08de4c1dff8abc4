"""Minari's datasets, as far as they can hold a team.

Minari keeps episodes of one agent. A team fits where every agent sees the whole state: `observations` are the
state, `actions` the joint action, agents side by side. It can't hold what each agent sees, which choices are
legal, or how many agents there are: say that when reading.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from vgm2p.data.dataset import Dataset
from vgm2p.errors import InputError, needs

AT_ONCE = 100  # episodes


def read(name: str, agents: int) -> tuple[dict[str, Any], Iterator[Dataset]]:
    """(card, episodes) of a dataset in Minari's own folder, such as mujoco/hopper/expert-v0.

    Raises InputError if it is not there, or if observations or actions are no plain vectors of numbers.
    """
    minari = _minari()
    try:
        found = minari.load_dataset(name)
    except (ValueError, FileNotFoundError, OSError, KeyError, TypeError) as error:
        raise InputError(f"Minari has no dataset {name!r} ({error}): see `minari list local`") from error
    card = {
        "source": f"Minari {name}",
        "note": "every agent sees the whole observation; joint actions are split evenly over agents",
        "licence": "not stated",
        "agents": agents,
        "env": None,
    }
    return card, _episodes(found, name, agents)


def write(dataset: Dataset, name: str) -> None:
    """Write a robot team's dataset into Minari's folder. InputError where Minari can't hold the team."""
    if dataset.obs is not None or dataset.legal is not None:
        raise InputError(f"{dataset.id}: Minari can't hold what each agent sees, or which choices are legal")
    minari = _minari()
    from gymnasium import spaces

    n, a = dataset.action.shape[1:]
    try:
        minari.dataset.minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name!r} is no name of Minari's, such as vgm2p/hopper-v0 ({error})") from error
    if name in minari.list_local_datasets():
        raise InputError(f"Minari has a dataset {name!r} already: choose another name, or delete that one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for an author, an environment and more
        minari.create_dataset_from_buffers(
            name,
            [_buffer(dataset, episode) for episode in range(len(dataset.lengths))],
            observation_space=spaces.Box(-np.inf, np.inf, dataset.state.shape[1:], np.float32),
            action_space=spaces.Box(-np.inf, np.inf, (n * a,), np.float32),
            algorithm_name="vgm2p",
            description=f"{dataset.id}: {n} agents with {a} actions each, side by side",
            requirements=[],
        )


def _buffer(dataset, episode):
    """One episode in Minari's form."""
    from minari.data_collector import EpisodeBuffer

    part = dataset.take(np.array([episode]))
    end = np.zeros(len(part.reward), bool)
    end[-1] = True
    return EpisodeBuffer(
        id=episode,
        observations=part.state,
        actions=part.action.reshape(len(part.action), -1),
        rewards=part.reward.astype(np.float64),
        terminations=end & part.terminated[0],
        truncations=end & ~part.terminated[0],
        infos={},
    )


def _episodes(found, name, agents) -> Iterator[Dataset]:
    for first in range(0, found.total_episodes, AT_ONCE):
        chosen = range(first, min(first + AT_ONCE, found.total_episodes))
        yield _joined([_episode(e, name, agents) for e in found.iterate_episodes(list(chosen))])


def _episode(episode, name, agents):
    state, action = (np.asarray(x) for x in (episode.observations, episode.actions))
    if state.dtype.kind != "f" or action.dtype.kind != "f" or state.ndim != 2 or action.ndim != 2:
        raise InputError(
            f"Minari {name}, episode {episode.id}: 'observations' {state.dtype} {state.shape} and 'actions' "
            f"{action.dtype} {action.shape} must be plain vectors of numbers"
        )
    if action.shape[1] % agents:
        raise InputError(f"Minari {name}: {action.shape[1]} actions can't be shared by {agents} agents")
    shaped = action.reshape(len(action), agents, -1).astype(np.float32)
    ended = bool(np.asarray(episode.terminations)[-1])
    return state.astype(np.float32), shaped, np.asarray(episode.rewards, np.float32), ended


def _joined(parts) -> Dataset:
    state, action, reward = (np.concatenate([part[i] for part in parts]) for i in range(3))
    lengths = np.array([len(part[2]) for part in parts], np.int32)
    return Dataset(
        state, action, reward, lengths, np.array([part[3] for part in parts]), {"id": "what is read"}
    )


def _minari():
    try:
        import minari
    except ModuleNotFoundError as error:
        raise needs("a dataset of Minari's", "minari") from error
    return minari
