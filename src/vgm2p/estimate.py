"""What the data alone tell of a policy, where there is no environment: its value, and how near it stays.

    Q(s, a) <- r + discount Q_slow(s', pi(s'))         on the data's transitions, a the joint action

Fitted Q evaluation (Le, Voloshin and Yue, 2019). Several Q are fitted, each to a random half of the episodes:
their spread is that of an estimate from all of them (half-sampling). That covers chance in the data, not what
they do not hold: where a policy does what nobody did, Q is a guess. docs/deploy.md says how well it ranks.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy  # its parts load when they are first used
from jax.lax import stop_gradient
from jaxtyping import Array, Float, PRNGKeyArray

from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.data.dataset import Dataset, Replay, Whole
from vgm2p.errors import InputError, check_positive, check_share
from vgm2p.nets import MLP, mean, stacked
from vgm2p.policy import Policy
from vgm2p.types import Params, Sampling, Spec, Transition

BANDWIDTH = 0.2  # of the kernel that turns a policy's samples into a density
SAMPLES = 32  # of the policy's actions, for that density
ROWS = 2048  # of the data, that means are taken over


@dataclass(frozen=True)
class FQE:
    """Fitted Q evaluation: its settings."""

    updates: int = 4_000
    batch: int = 128
    discount: float = 0.99
    members: int = 4
    """How many Q are fitted, each to its half of the episodes."""
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    slow_rate: float = 0.05
    """How fast the slow copies follow: a reward travels one step back in about 1 / rate updates."""

    def __post_init__(self):
        if not 0.0 <= self.discount < 1.0:
            raise InputError(f"discount {self.discount} must be at least 0 and below 1")
        if self.updates < 1 or self.members < 2:
            raise InputError(f"updates {self.updates} must be at least 1, members {self.members} at least 2")
        check_positive(self, "batch", "learning_rate")
        check_share(self, "slow_rate")


class Estimate(NamedTuple):
    """What is estimated of one training seed's policy.

    value, low, high: the discounted return from the data's first states, with its 95 % interval.
    data_value: what the data's own teams earned from there, discounted; NaN where episodes were cut so early
      that what would have followed matters, which `value` counts and the data do not show.
    advantage: Q(s, pi(s)) - Q(s, a) at the data's states, mean, in rewards.
    log_likelihood: of an agent's logged action under the policy, mean: of choices, where there was more than
      one, or of a kernel's density.
    """

    value: float
    low: float
    high: float
    data_value: float
    advantage: float
    log_likelihood: float


def estimate(policy: Policy, dataset: Dataset, fqe: FQE = FQE()) -> list[Estimate]:
    """One estimate for each training seed of the policy, acting with the options that it has."""
    sampling = Sampling(discount=fqe.discount, halves=fqe.members)
    codec, episodes = policy.spec.actions, np.arange(len(dataset.lengths))
    whole = Whole.of(dataset, episodes, sampling, codec)
    replay = dataset.replay(policy.view, sampling, codec, whole)
    scale = whole.reward_std / (1 - fqe.discount)  # what `replay` divides rewards by
    found = []
    for place in range(len(policy.seeds)):
        params = jax.tree.map(lambda x, place=place: x[place], policy.params)
        members = _fit(fqe, policy.algorithm, policy.spec, params, replay, jax.random.key(place))
        members = jax.block_until_ready(members)
        act = partial(_act, policy.algorithm, policy.spec, params)
        found.append(_told(fqe, act, members, dataset, policy, replay, scale))
    return found


@partial(jax.jit, static_argnames=("algorithm", "spec"))
def _act(algorithm: Algorithm, spec: Spec, params: Params, obs, legal, key) -> Float[Array, "b n a"]:
    """The codes of the team's actions."""
    return spec.actions.encode(algorithm.act(spec, params, obs, key, legal))


@jax.jit
def _ask(members: MLP, state, code) -> Float[Array, "m b"]:
    """What each member says of states and the team's actions there."""
    joint = jnp.concatenate([state, code.reshape(len(code), -1)], -1)
    return jax.vmap(lambda q: q(joint)[:, 0])(members)


@partial(jax.jit, static_argnames=("fqe", "algorithm", "spec"))
def _fit(fqe: FQE, algorithm, spec, params, replay: Replay, key: PRNGKeyArray) -> MLP:
    """The slow copies of all members, on the leading axis."""
    inputs = spec.state_dim + spec.n * spec.action_dim
    make = lambda key: MLP(inputs, fqe.hidden, 1, key, norm=True)  # noqa: E731
    nets = stacked(make, jax.random.split(jax.random.fold_in(key, 0), fqe.members))
    optimiser = optax.adam(optax.cosine_decay_schedule(fqe.learning_rate, fqe.updates))

    def loss(nets, slow, batch: Transition, key):
        following = _act(algorithm, spec, params, batch.next_obs, batch.next_legal, key)
        target = batch.reward + batch.discount * _ask(slow, batch.next_state, following)
        gap = _ask(nets, batch.state, batch.action) - stop_gradient(target)
        return (jnp.square(gap) * batch.halves.T).sum() / fqe.batch

    def update(step, carry):
        nets, slow, opt = carry
        draw, chance = jax.random.split(jax.random.fold_in(key, step + 1))
        batch = replay.sample(spec.actions, fqe.batch, draw)
        change, opt = optimiser.update(jax.grad(loss)(nets, slow, batch, chance), opt)
        nets = optax.apply_updates(nets, change)
        return nets, optax.incremental_update(nets, slow, fqe.slow_rate), opt

    return jax.lax.fori_loop(0, fqe.updates, update, (nets, nets, optimiser.init(nets)))[1]


def _told(fqe, act, members, dataset, policy, replay, scale) -> Estimate:
    """What the members say of the data's first states, and of some of its others."""
    key, rng = jax.random.key(1), np.random.default_rng(0)
    first = rng.choice(dataset.first, min(ROWS, len(dataset.first)), replace=False)
    state, obs, legal, _ = _shown(policy, replay, jnp.asarray(first))
    draws = [act(obs, legal, jax.random.fold_in(key, i)) for i in range(8)]
    values = scale * np.mean([_ask(members, state, code).mean(1) for code in draws], 0)  # of each member
    spread = scipy.stats.t.ppf(0.975, fqe.members - 1) * values.std(ddof=1)  # of few members

    count = len(dataset.reward)
    rows = jnp.asarray(rng.choice(count, min(ROWS, count), replace=False))
    state, obs, legal, acting = _shown(policy, replay, rows)
    logged = policy.spec.actions.encode(replay.action[rows])
    drawn = jnp.stack([act(obs, legal, jax.random.fold_in(key, 8 + i)) for i in range(SAMPLES)])
    gain = _ask(members, state, drawn[0]) - _ask(members, state, logged)
    return Estimate(
        value=float(values.mean()),
        low=float(values.mean() - spread),
        high=float(values.mean() + spread),
        data_value=_data_value(dataset, fqe.discount),
        advantage=float(scale * gain.mean()),
        log_likelihood=float(mean(_log_likelihood(policy.spec, drawn, logged), acting)),
    )


def _shown(policy, replay, rows):
    """(state, obs, legal, acting) of some transitions, as values and policy see them."""
    sight = replay.shown(replay.row[rows], replay.age[rows])
    return policy.view.state(sight.state), policy.view.obs(sight), sight.legal, sight.acting


def _data_value(dataset, discount) -> float:
    """What the data's episodes earned, discounted from their starts; NaN if cuts leave more than 1 % out."""
    left_out = np.where(dataset.terminated, 0.0, discount**dataset.lengths)
    if left_out.mean() > 0.01:
        return float("nan")
    age = np.concatenate([np.arange(length) for length in dataset.lengths])
    return float(np.add.reduceat(dataset.reward * discount**age, dataset.first).mean())


def _log_likelihood(spec, drawn, logged) -> Float[Array, "b n"]:
    """Log likelihood of each agent's logged action, from samples of the policy's [k, b, n, a]."""
    if spec.actions.discrete:  # how often the choice was drawn, with one more draw spread over all choices
        same = (drawn.argmax(-1) == logged.argmax(-1)).sum(0)
        return jnp.log((same + 1 / spec.action_dim) / (SAMPLES + 1))
    gap = jnp.square((drawn - jnp.clip(logged, -1, 1)) / BANDWIDTH).sum(-1)
    constant = spec.action_dim * np.log(BANDWIDTH * np.sqrt(2 * np.pi)) + np.log(SAMPLES)
    return jax.nn.logsumexp(-0.5 * gap, 0) - constant
