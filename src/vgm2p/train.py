"""Training: one jitted loop over updates, seeds as an axis; a Python loop only between evaluations.

Keys come from the step number, so neither the size of a chunk nor a restart changes a bit.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.data.dataset import Replay
from vgm2p.nets import stacked
from vgm2p.types import Metrics, Spec, TrainState


class NonFiniteError(ArithmeticError):
    """A metric became NaN or infinite; the message names it, the step and the seed."""


def seed_keys(seeds: tuple[int, ...]) -> PRNGKeyArray:
    """One key per seed: what a seed draws does not depend on the seeds beside it."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def seeds_together() -> bool:
    """Should seeds train as one batch? Yes on an accelerator, which one seed can't fill.

    In return the last bits of a seed hang on how many are beside it.
    """
    return jax.default_backend() != "cpu"


def init(algorithm: Algorithm, spec: Spec, keys: PRNGKeyArray) -> TrainState:
    """Fresh states, seeds on the leading axis."""
    states = stacked(lambda key: algorithm.init(spec, jax.random.fold_in(key, 0)), keys)
    return states._replace(target=jax.tree.map(jnp.copy, states.target))  # `advance` donates both


@partial(jax.jit, static_argnames=("algorithm", "spec", "batch", "together"), donate_argnames="states")
def advance(
    algorithm: Algorithm,
    spec: Spec,
    states: TrainState,
    replay: Replay,
    keys: PRNGKeyArray,
    updates: Int[Array, ""],
    *,
    batch: int,
    together: bool = False,
) -> tuple[TrainState, Metrics]:
    """`updates` updates of every seed, and the mean of each metric over them.

    The number of updates is data, not shape: one compilation serves every chunk.

    together: train the seeds as one batch, not one after the other.
    """

    def update(state, key):
        key = jax.random.fold_in(key, state.step + 1)
        sample_key, update_key = jax.random.split(key)
        rows = replay.sample(spec.actions, algorithm.sampling.pool * batch, sample_key)
        return algorithm.update(spec, state, rows, update_key)

    def one_seed(state, key):
        def body(_, carry):
            state, sums = carry
            state, metrics = update(state, key)
            return state, jax.tree.map(jnp.add, sums, metrics)

        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(update, state, key)[1])
        state, sums = jax.lax.fori_loop(0, updates, body, (state, zeros))
        return state, jax.tree.map(lambda x: x / updates, sums)

    if together:
        return jax.vmap(one_seed)(states, keys)
    return jax.lax.map(lambda pair: one_seed(*pair), (states, keys))


@jax.jit
def extent(states: TrainState) -> Float[Array, " seeds"]:
    """The largest of each seed's parameters, slow ones too, by size; no number if one of them is none."""
    leaves = [jnp.abs(x).reshape(len(x), -1).max(1) for x in jax.tree.leaves((states.params, states.target))]
    return jnp.stack(leaves).max(0)


def check_finite(metrics: dict[str, list[float]], step: int, seeds: tuple[int, ...]) -> None:
    """Raises NonFiniteError, naming the metric, if any seed's mean over a chunk is not a number."""
    for name, values in metrics.items():
        ill = [pair for pair in zip(seeds, values, strict=True) if not jnp.isfinite(pair[1])]
        if ill:
            seed, value = ill[0]
            raise NonFiniteError(
                f"{name} is {value} for seed {seed} by update {step}: "
                "lower the learning rate, or ask for less guidance; the last checkpoint is kept"
            )
