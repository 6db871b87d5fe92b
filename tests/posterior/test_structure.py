"""Which coordinates interact, and the order that keeps interacting ones close."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.sparse import csr_array

import pushforward as pf
from pushforward.posterior.structure import Structure, find_pattern, find_structure, structure_of


def hierarchical(order):
    """Two hubs, two chains of local coordinates."""

    def log_density(x):
        x = x[order]
        hubs, chains = x[:2], x[2:].reshape(2, -1)
        steps = chains[:, 1:] - chains[:, :-1]
        return -0.5 * jnp.sum(steps**2 * jnp.exp(hubs[0])) - jnp.sum((chains - hubs[1]) ** 2) - jnp.sum(hubs**2)

    return log_density


def test_hubs_and_chains_in_any_order():
    order = np.random.default_rng(0).permutation(42)
    names = [f"x[{i}]" for i in range(42)]
    found = find_structure(hierarchical(order), jr.normal(jr.key(0), (2, 42)), names)
    assert set(found.order[: found.num_hubs]) == set(order[:2])
    assert found.bandwidth == 1 and found.is_sparse
    assert sorted(found.order) == list(range(42))
    dense = found.pattern.toarray()
    np.testing.assert_array_equal(dense, dense.T)
    # Neighbors in the chains interact, coordinates of different chains do not.
    assert dense[order[3], order[4]] and not dense[order[3], order[5]] and not dense[order[5], order[30]]
    assert "2 interact with many others" in str(found)
    assert found.plot().axes


def test_hubs_that_are_asked_for_come_first():
    names = [f"x[{i}]" for i in range(42)]
    found = find_structure(hierarchical(np.arange(42)), jr.normal(jr.key(0), (2, 42)), names)
    other = structure_of(found.pattern, names, [7, 1])
    assert list(other.order[:2]) == [7, 1] and other.num_hubs >= 3 and set(other.order[: other.num_hubs]) >= {0, 1, 7}
    assert sorted(other.order) == list(range(42)) and other.bandwidth == 1


def test_few_entries_are_a_quarter_of_a_full_matrix_or_cheaper_in_many_dimensions():
    for dim, num_hubs, expected in ((100, 5, True), (100, 20, False), (600, 120, True), (600, 590, False)):
        structure = Structure((), csr_array(np.eye(dim, dtype=bool)), np.arange(dim), num_hubs, 1)
        assert structure.has_few_entries == expected


def test_a_dense_density_has_no_pattern():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(20, 20)))
    found = find_structure(lambda x: -jnp.sum((matrix @ x) ** 2), jnp.ones((1, 20)), ["x"] * 20)
    assert found.pattern is None and not found.is_sparse
    assert "most of which interact" in str(found) and found.plot().axes


def test_damaged_entries_count_as_interactions():
    found = find_pattern(lambda x: -jnp.sum(x**2) + jnp.where(x[0] > 0, jnp.nan, 0.0) * x[1] ** 2, jnp.ones((1, 8)))
    assert found is not None and found.toarray()[1, 1]


@pytest.mark.parametrize(
    ("example", "names"),
    [
        ({"mu": 0.0, "theta": jnp.zeros((2, 1))}, ("mu", "theta[0, 0]", "theta[1, 0]")),
        (jnp.zeros(2), ("the draw[0]", "the draw[1]")),
    ],
)
def test_targets_show_their_structure(example, names):
    target = pf.Target(lambda draw: -sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(draw)), example)
    assert target.structure.names == names
    assert target.structure.bandwidth == 0 and target.structure.num_hubs == 0


def test_interactions_through_kinks():
    """The Hessian of a fused lasso is diagonal, that of a median regression is that of the prior."""

    def fused(x):
        return -3 * jnp.sum(jnp.abs(jnp.diff(x))) - 0.5 * jnp.sum((x - jnp.sin(jnp.arange(60.0))) ** 2)

    chain = find_pattern(fused, jr.normal(jr.key(0), (6, 60)), np.full(60, 2.0))
    assert chain is not None
    row, column = chain.nonzero()
    assert np.abs(row - column).max() == 1 and len(row) > 150
    x = jr.normal(jr.key(1), (100, 40))
    assert find_pattern(lambda b: -jnp.sum(jnp.abs(1 - x @ b)) - 0.5 * jnp.sum(b**2), jnp.zeros((1, 40))) is None
