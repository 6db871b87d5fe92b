"""Structures that users give, and those that do not match."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.posterior.given_structure import given_structure


def schools(draw):
    mu, tau, theta = draw["mu"], draw["tau"], draw["theta"]
    return -0.5 * (mu**2 + tau**2 + jnp.sum((theta - mu) ** 2) * jnp.exp(-tau) + jnp.sum(theta**2))


SCHOOLS = pf.Target(schools, {"mu": jnp.zeros(()), "tau": jnp.zeros(()), "theta": jnp.zeros(8)})
PARENTS = {"mu": [], "tau": [], "theta": ["mu", "tau"], "y": "theta"}


def test_parents_and_matrices_give_the_same_structure():
    by_parents = given_structure(SCHOOLS, PARENTS)
    by_matrix = given_structure(SCHOOLS, SCHOOLS.structure.pattern.toarray())
    for found in (by_parents, by_matrix, given_structure(SCHOOLS, by_matrix)):
        np.testing.assert_array_equal(found.order[:2], [0, 1])
        assert found.num_hubs == 2 and found.bandwidth == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.eye(3), r"shape \(10, 10\).* got \(3, 3\)"),
        (np.eye(10), "interact, but not in the structure"),
        ({"mu": [], "tau": []}, r"lacks \['theta'\]"),
        (PARENTS | {"theta": ["sigma"]}, r"\['sigma'\] are not"),
        (PARENTS | {"theta": 3}, "of 'theta' it gives 3"),
        (np.full((10, 10), "a"), "must be a matrix .* is an array of <U1"),
        (PARENTS | {"mu": ["theta"]}, "cycle: .*mu.*theta"),
        (PARENTS | {"theta": ["mu"]}, "tau interact, but not"),
        ("theta", "must be a matrix .* is 'theta'"),
    ],
)
def test_structures_that_do_not_match(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pf.fit_posterior(SCHOOLS, key=jr.key(0), structure=given)


def test_a_fit_uses_the_given_structure():
    posterior = pf.fit_posterior(SCHOOLS, key=jr.key(0), structure=PARENTS, budget=100_000)
    assert posterior.diagnostics.verdict == "good"
    assert "Arrow(" in repr(posterior.flow)


def test_large_data_have_no_structure():
    target = pf.Target(
        lambda u: -(u**2).sum(), jnp.zeros(2), log_likelihood=lambda u, x: -((x - u[0]) ** 2), data=jnp.zeros(9)
    )
    with pytest.raises(ValueError, match="structure= is not used with large data"):
        pf.fit_posterior(target, key=jr.key(0), structure=np.eye(2))
