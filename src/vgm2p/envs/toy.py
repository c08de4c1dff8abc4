"""Coordination games: what cloned, decentralised policies can and can't do, in the open.

All agents see all there is to see (and their own id) and choose at once; the team shares one reward. An
episode's return is at most 1, and its best is reached in more than one way, so that a team must agree on
which. Datasets are mixtures of teams that do. docs/coordination.md says what follows.

matching: two agents choose among three; equal choices pay 1, 0.9 and 0.3, unequal ones nothing.
xor: two agents, two choices; different ones pay 1, equal ones nothing.
cover: three agents, three landmarks; each landmark that somebody covers pays a third.
bridge: two agents on either side of a bridge that holds one: wait or go. They earn 1 when both have crossed;
  meeting on the bridge ends the episode with nothing.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from vgm2p.data.dataset import Dataset
from vgm2p.envs.env import Step
from vgm2p.errors import InputError
from vgm2p.types import Sight

_covered = [[[len({i, j, k}) / 3 for k in range(3)] for j in range(3)] for i in range(3)]
PAYOFFS: dict[str, Float[ndarray, "*choices"]] = {
    "matching": np.diag([1.0, 0.9, 0.3]),
    "xor": 1.0 - np.eye(2),
    "cover": np.array(_covered),
}
LENGTH = 3  # steps on the bridge


class MatrixGame:
    """`copies` independent rounds of a game that pays each joint choice."""

    horizon, won, dt = 1, None, 1.0

    def __init__(self, game: str, copies: int):
        self.payoff, self.copies = PAYOFFS[game], copies
        self.choices = len(self.payoff)

    def reset(self, seed: int) -> Sight:
        """A constant state; the game has no chance in it."""
        del seed
        self.running = np.zeros(self.copies, bool)
        return self.restart(np.ones(self.copies, bool))

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Begin a new round in the copies of `where`."""
        self.running = self.running | where
        return Sight(np.zeros((self.copies, 1)))

    def step(self, action: Int[ndarray, "copies n"]) -> Step:
        """Pay the team; every round ends truly."""
        reward = self.payoff[tuple(action.T)] * self.running
        terminated, self.running = self.running, np.zeros(self.copies, bool)
        return Sight(np.zeros((self.copies, 1))), reward, terminated, np.zeros(self.copies, bool)

    def picture(self, size: int) -> ndarray:
        """Raises InputError: there is nothing to see."""
        del size
        raise InputError("a game of one step has no film: play a robot, a battle or the bridge")

    def close(self) -> None:
        """Nothing to free."""


class Bridge:
    """`copies` bridges. State: how far each agent has come, from 0 (its own side) to 1 (the other)."""

    horizon, choices, won, dt = 4 * LENGTH, 2, None, 0.25

    def __init__(self, copies: int):
        self.copies = copies

    def reset(self, seed: int) -> Sight:
        """Both on their own side; there is no chance in it."""
        del seed
        self.running, self._at = np.zeros(self.copies, bool), np.zeros((self.copies, 2), int)
        return self.restart(np.ones(self.copies, bool))

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Begin anew in the copies of `where`."""
        self._at[where] = 0
        self._age = np.where(where, 0, getattr(self, "_age", 0))
        self.running = self.running | where
        return self._sight()

    def step(self, action: Int[ndarray, "copies n"]) -> Step:
        """Those that go (1) move on by a step; two on the bridge have met."""
        self._at += np.where(self.running[:, None], action, 0) * (self._at <= LENGTH)
        self._age += self.running
        crossed = self.running & (self._at > LENGTH).all(-1)
        met = self.running & ((self._at >= 1) & (self._at <= LENGTH)).all(-1)
        terminated = crossed | met
        truncated = self.running & ~terminated & (self._age >= self.horizon)
        self.running = self.running & ~(terminated | truncated)
        return self._sight(), crossed.astype(float), terminated, truncated

    def picture(self, size: int) -> ndarray:
        """The first bridge, one agent from the left and one from the right."""
        image, cell, middle = np.full((size, size, 3), 245, np.uint8), size // (LENGTH + 2), size // 2
        image[middle - cell // 2 : middle + cell // 2, cell : size - cell] = 200
        places = (self._at[0, 0], LENGTH + 1 - self._at[0, 1])
        for place, colour in zip(places, ((0, 114, 178), (213, 94, 0)), strict=True):
            columns = slice(cell * place + cell // 4, cell * place + 3 * cell // 4)
            image[middle - cell // 4 : middle + cell // 4, columns] = colour
        return image

    def close(self) -> None:
        """Nothing to free."""

    def _sight(self):
        return Sight(self._at / (LENGTH + 1))


def make_env(game: str, copies: int) -> MatrixGame | Bridge:
    """The game of that name."""
    return Bridge(copies) if game == "bridge" else MatrixGame(game, copies)


def dataset(game: str, transitions: int, seed: int) -> Dataset:
    """What a mixture of teams did: those that agree, each in its own way, and some that don't."""
    if game == "bridge":
        return _bridge_dataset(transitions, seed)
    joint = {
        "matching": np.diag([0.5, 0.5, 0.0]),
        "xor": np.array([[0.1, 0.4], [0.4, 0.1]]),
        "cover": np.where(PAYOFFS["cover"] == 1.0, 0.8 / 6, 0.2 / 21),
    }[game]
    return matrix_dataset(game, joint, transitions, seed)


def matrix_dataset(game: str, joint: Float[ndarray, "*choices"], transitions: int, seed: int) -> Dataset:
    """Rounds whose joint choices are drawn from the table `joint` (it need not factorise)."""
    payoff = PAYOFFS[game]
    flat = np.random.default_rng(seed).choice(payoff.size, size=transitions, p=joint.ravel() / joint.sum())
    action = np.stack(np.unravel_index(flat, payoff.shape), -1).astype(np.int32)
    return Dataset(
        state=np.zeros((2 * transitions, 1), np.float32),
        action=action,
        reward=payoff[tuple(action.T)].astype(np.float32),
        lengths=np.ones(transitions, np.int32),
        terminated=np.ones(transitions, bool),
        card={"id": f"toy/{game}"},
        legal=np.ones((2 * transitions, action.shape[1], len(payoff)), bool),
    )


def _bridge_dataset(transitions, seed) -> Dataset:
    """Teams with a rule, four in ten each: the first agent goes first, or the second; others go at random."""
    copies = 1 + transitions // LENGTH
    env, rng = Bridge(copies), np.random.default_rng(seed)
    rule, sight = rng.choice(3, size=copies, p=(0.4, 0.4, 0.2)), env.reset(0)
    states, actions, rewards = [sight.state], [], []
    ended, lengths = np.zeros(copies, bool), np.zeros(copies, int)
    while env.running.any():
        lengths += env.running
        over = states[-1] == 1.0
        orderly = np.stack([np.where(rule == 0, True, over[:, 1]), np.where(rule == 1, True, over[:, 0])], 1)
        action = np.where(rule[:, None] == 2, rng.random((copies, 2)) < 0.5, orderly).astype(np.int32)
        sight, reward, terminated, _ = env.step(action)
        states.append(sight.state)
        actions.append(action)
        rewards.append(reward)
        ended |= terminated
    kept = np.flatnonzero(np.cumsum(lengths) - lengths < transitions)
    rows = lambda x, more: np.concatenate([np.stack(x, 1)[i, : lengths[i] + more] for i in kept])  # noqa: E731
    state = rows(states, 1).astype(np.float32)
    return Dataset(
        state=state,
        action=rows(actions, 0),
        reward=rows(rewards, 0).astype(np.float32),
        lengths=lengths[kept].astype(np.int32),
        terminated=ended[kept],
        card={"id": "toy/bridge"},
        legal=np.ones((len(state), 2, 2), bool),
    )
