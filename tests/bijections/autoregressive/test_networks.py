"""Network outputs depend exactly on the inputs that the adjacency allows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cases import random_adjacency, strictly_before
from pushforward import bijections as bj
from pushforward.bijections.autoregressive.networks import SkipMLP, layer_masks
from pushforward.testing import randomize

ADJACENCIES = {
    "autoregressive": strictly_before(6),
    "random": random_adjacency(0, 7, 4),
    "random_with_empty_rows": random_adjacency(1, 9, 3) & (np.arange(9) % 3 > 0)[:, None],
    "diagonal": np.eye(5, dtype=bool),
    "all": np.ones((3, 4), bool),
    "none": np.zeros((3, 4), bool),
}


def jacobian(adjacency, hidden, seed=0):
    outputs, inputs = adjacency.shape
    network = bj.MLP(inputs, outputs, hidden, key=jr.key(seed), adjacency=adjacency)
    network = randomize(network, jr.key(seed + 1), 1.0)
    return np.asarray(jax.jacfwd(network)(jr.normal(jr.key(seed + 2), (inputs,))))


@pytest.mark.parametrize("hidden", [(), (64,), (64, 96)], ids=str)
@pytest.mark.parametrize("adjacency", ADJACENCIES.values(), ids=ADJACENCIES)
def test_jacobian_is_zero_just_where_the_adjacency_is_false(adjacency, hidden):
    np.testing.assert_array_equal(jacobian(adjacency, hidden) != 0, adjacency)


@pytest.mark.parametrize("hidden", [(1,), (2, 3), (3, 1, 2)], ids=str)
@pytest.mark.parametrize("adjacency", ADJACENCIES.values(), ids=ADJACENCIES)
def test_narrow_layers_lose_dependence_and_add_none(adjacency, hidden):
    assert not np.any((jacobian(adjacency, hidden) != 0) & ~adjacency)


def made_connectivity(dim, degrees):
    """Germain et al. (2015), equations 12 to 14: the inputs that each output depends on, in loops over units."""
    layers = [list(range(1, dim + 1)), *degrees, list(range(1, dim + 1))]
    sees = np.eye(dim, dtype=int)
    for n, (inner, outer) in enumerate(zip(layers[:-1], layers[1:], strict=True)):
        last = n == len(layers) - 2
        mask = np.zeros((len(outer), len(inner)), int)
        for k, degree in enumerate(outer):
            for j, degree_below in enumerate(inner):
                mask[k, j] = degree > degree_below if last else degree >= degree_below
        sees = mask @ sees
    return sees > 0


@pytest.mark.parametrize(
    ("dim", "hidden"), [(2, (3,)), (5, (8,)), (6, (20, 15)), (6, (3, 4)), (9, (8, 8, 8)), (9, (2,))]
)
def test_masks_are_those_of_made(dim, hidden):
    """Degrees 1 to dim - 1 are evenly spread over the units of each layer, including the first and the last."""
    degrees = [
        [1 + (k * (dim - 1) // width if width >= dim - 1 else round(k * (dim - 2) / (width - 1))) for k in range(width)]
        for width in hidden
    ]
    sees = np.eye(dim, dtype=int)
    for mask in layer_masks(strictly_before(dim), hidden):
        sees = mask.astype(int) @ sees
    np.testing.assert_array_equal(sees > 0, made_connectivity(dim, degrees))
    if min(hidden) >= dim - 1:
        np.testing.assert_array_equal(sees > 0, strictly_before(dim))


def test_made_needs_a_hidden_layer_to_differ_from_a_linear_map():
    [mask] = layer_masks(strictly_before(4), ())
    np.testing.assert_array_equal(mask, strictly_before(4))


def test_a_new_network_gives_zeros():
    network = bj.MLP(3, 4, (8,), key=jr.key(0))
    np.testing.assert_array_equal(network(jnp.ones(3)), np.zeros(4))


def test_a_linear_map_from_inputs_to_outputs_is_added():
    network = SkipMLP(3, 4, (8,), key=jr.key(0))
    np.testing.assert_array_equal(network(jnp.ones(3)), np.zeros(4))
    network = eqx.tree_at(lambda n: (n.direct, n.biases[-1]), network, (jnp.arange(12.0).reshape(4, 3), jnp.ones(4)))
    np.testing.assert_allclose(network(jnp.array([1.0, 0.0, 2.0])), [5.0, 14.0, 23.0, 32.0])
    np.testing.assert_allclose(network(jnp.array([1.0, 0.0, 2.0]), jnp.array([2, 0])), [23.0, 5.0])


@pytest.mark.parametrize("hidden", [(0,), (8, 0), (-1,)], ids=str)
def test_a_layer_without_units_is_an_error(hidden):
    with pytest.raises(ValueError, match="at least one unit"):
        bj.MLP(3, 4, hidden, key=jr.key(0))
