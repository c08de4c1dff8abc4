"""Networks are made alike however many are made at once."""

import jax
import jax.numpy as jnp
import numpy as np

from vgm2p.nets import MLP, stacked

KEYS = jax.random.split(jax.random.key(0), 3)


def make(key):
    return MLP(3, (8, 8), 1, key)


def test_a_network_does_not_depend_on_those_beside_it():
    for i, weight in enumerate(stacked(make, KEYS).layers[0].weight):
        np.testing.assert_array_equal(weight, make(KEYS[i]).layers[0].weight)


def test_a_layer_keeps_lengths():
    weight = make(KEYS[0]).layers[1].weight
    np.testing.assert_allclose(
        weight @ weight.T, 2 * jnp.eye(8), atol=1e-5
    )  # the gain of a hidden layer is 2^0.5


def test_many_networks_in_one_program_decompose_no_batch():
    """A batch of QR waits for threads that another batch may hold, for ever: seen on two cores."""
    program = jax.jit(lambda keys: stacked(make, keys)).lower(KEYS).as_text()
    assert 'num_batch_dims = "0"' in program
    assert 'num_batch_dims = "1"' not in program
