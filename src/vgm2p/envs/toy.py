"""One-step coordination games: what a decentralised one-step policy can and can't do, in the open.

Two agents choose at once, seeing nothing but their own id, and share one reward in [0, 1].
`matching`: both must choose the same of three; the choices pay 1, 0.6 and 0.3.
`xor`: the team is paid 1 for different choices and 0 for equal ones: two optimal modes, and no product
of independent policies reaches more than one half unless it breaks the tie.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from vgm2p.data.dataset import Dataset
from vgm2p.envs.env import Step
from vgm2p.types import Sight

PAYOFFS = {
    "matching": np.diag([1.0, 0.6, 0.3]),
    "xor": 1.0 - np.eye(2),
}


class MatrixGame:
    """`copies` independent rounds of a two-agent game with payoff [choices, choices]."""

    horizon, won = 1, None

    def __init__(self, game: str, copies: int):
        self.payoff, self.copies = PAYOFFS[game], copies
        self.choices = len(self.payoff)

    def reset(self, seed: int) -> Sight:
        """A constant state; the game has no chance in it."""
        del seed
        return self.restart(np.ones(self.copies, bool))

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Begin a new round."""
        self.running = where.copy()
        return Sight(np.zeros((self.copies, 1)))

    def step(self, action: Int[ndarray, "copies n"]) -> Step:
        """Pay the team; every round ends truly."""
        reward = self.payoff[action[:, 0], action[:, 1]] * self.running
        terminated, self.running = self.running, np.zeros(self.copies, bool)
        return Sight(np.zeros((self.copies, 1))), reward, terminated, np.zeros(self.copies, bool)

    def close(self) -> None:
        """Nothing to free."""


def matrix_dataset(
    game: str, joint: Float[ndarray, "choices choices"], transitions: int, seed: int
) -> Dataset:
    """Rounds whose joint choices are drawn from the table `joint` (it need not factorise)."""
    payoff = PAYOFFS[game]
    flat = np.random.default_rng(seed).choice(payoff.size, size=transitions, p=joint.ravel() / joint.sum())
    action = np.stack(np.unravel_index(flat, payoff.shape), -1).astype(np.int32)
    return Dataset(
        state=np.zeros((2 * transitions, 1), np.float32),
        action=action,
        reward=payoff[action[:, 0], action[:, 1]].astype(np.float32),
        lengths=np.ones(transitions, np.int32),
        terminated=np.ones(transitions, bool),
        card={"id": f"toy/{game}"},
    )
