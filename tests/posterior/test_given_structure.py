"""Structures that users give, and those that do not match."""

import jax
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
    """In few dimensions as the first Gaussian, which is then trained as always."""
    posterior = pf.fit_posterior(SCHOOLS, key=jr.key(0), structure=PARENTS, budget=100_000)
    assert posterior.diagnostics.verdict == "good"
    assert "structure=structure" in dict(posterior.provenance)["call"]


def test_a_structure_does_not_limit_a_fit_in_few_dimensions():
    """Six curved pairs, which a Gaussian map and its marginals cannot represent."""

    def log_density(x):
        return -0.5 * jnp.sum(x[::2] ** 2) - jnp.sum((x[1::2] - x[::2] ** 2) ** 2)

    target = pf.Target(log_density, jnp.zeros(12))
    posterior = pf.fit_posterior(target, key=jr.key(0), structure=np.kron(np.eye(6), np.ones((2, 2))), budget=100_000)
    assert posterior.diagnostics.verdict != "unreliable" and posterior.diagnostics.ess_fraction > 0.5


@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
def test_weak_interactions_are_noticed(precision):
    """A stationary autoregressive process with a coefficient of 0.3."""

    def log_density(x):
        return -0.5 * (x[0] ** 2 * 0.91 + jnp.sum((x[1:] - 0.3 * x[:-1]) ** 2)) / 0.91

    target = pf.Target(log_density, jnp.zeros(40))
    with pytest.raises(ValueError, match="interact, but not in the structure"):
        given_structure(target, np.eye(40))
    chain = np.abs(np.subtract.outer(np.arange(40), np.arange(40))) <= 1
    assert given_structure(target, chain).bandwidth == 1


def test_a_structure_is_checked_near_the_start_where_the_density_is_finite():
    def log_density(x):
        return jnp.sum(jnp.sqrt(0.25 - x**2)) - 0.5 * jnp.sum(x) ** 2

    with pytest.raises(ValueError, match="interact, but not in the structure"):
        given_structure(pf.Target(log_density, jnp.zeros(10)), np.eye(10))


@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
def test_rounding_is_no_interaction(precision):
    """The Markov structure of a process of long correlations, whose covariance is nearly singular."""
    times = jnp.arange(70.0)
    factor = jnp.linalg.cholesky(jnp.exp(-jnp.abs(times[:, None] - times) / 1000))

    def log_density(x):
        return -0.5 * jnp.sum(jax.scipy.linalg.solve_triangular(factor, x, lower=True) ** 2) - 0.5 * jnp.sum(x**2)

    chain = np.abs(np.subtract.outer(np.arange(70), np.arange(70))) <= 1
    assert given_structure(pf.Target(log_density, jnp.zeros(70)), chain).bandwidth == 1
