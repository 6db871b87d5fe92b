"""Gaussians along Newton paths."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from posterior_cases import gaussian_target
from pushforward.posterior.search import Candidate, find_candidates, refined, separate_modes


def test_candidates_find_the_laplace_gaussian():
    target, d = gaussian_target(4, 2, 1e5)
    best = find_candidates(target, target.start, jr.key(0))[0]
    assert best.elbo == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(best.affine.loc, d.mean, rtol=1e-6, atol=1e-6 * float(jnp.sqrt(d.variance).max()))


def test_many_dimensions_use_coordinate_curvature():
    scales = jnp.asarray(10.0 ** np.random.default_rng(0).uniform(-2, 2, 300))
    best = find_candidates(lambda x: -0.5 * jnp.sum((x / scales) ** 2), jnp.ones(300), jr.key(0))[0]
    np.testing.assert_allclose(jnp.diag(best.affine.matrix), scales, rtol=1e-6)


def test_large_dimensions_have_fewer_paths():
    """The number of Hessians times their cost, `dim` gradients, does not grow beyond 64 dimensions."""

    def num_candidates(dim):
        return len(find_candidates(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(dim), jr.key(0)))

    assert num_candidates(2) == 2 * (24 + 1)
    # Natural-gradient steps give four more.
    assert num_candidates(150) == 2 * (12 + 1) + 4


def test_many_local_parameters_do_not_pull_the_search_into_the_neck():
    """Eighty local parameters with few data: the mode is at a scale of 0, the mass is not."""
    y = jnp.asarray(np.random.default_rng(0).normal(size=80)) * 1.5

    def log_density(x):
        log_scale, local = x[0], x[1:]
        prior = -0.5 * log_scale**2 - 0.5 * jnp.sum(local**2) * jnp.exp(-2 * log_scale) - 80 * log_scale
        return prior - 0.5 * jnp.sum((y - local) ** 2)

    best = find_candidates(log_density, jnp.full(81, 0.1), jr.key(0))[0]
    better = refined(log_density, best, jr.key(1))
    assert better.elbo >= best.elbo and abs(float(better.affine.loc[0]) - 0.2) < 0.5


def test_a_heavy_mode_beside_another_is_kept_apart():
    """The best Gaussian of a heavy-tailed or skewed mode is not at the mode itself."""

    def candidate(loc, elbo, decrement):
        return Candidate(pf.bijections.Triangular(1, jnp.array([loc])), elbo, 0.01, decrement)

    found = [candidate(5.3, -1.0, 0.7), candidate(5.0, -1.1, 0.1), candidate(-5.0, -1.2, 0.1)]
    assert [float(c.affine.loc[0]) for c in separate_modes(found)] == pytest.approx([5.3, -5.0])
    # Along a funnel the best Gaussian is far from any mode.
    assert separate_modes([candidate(10.0, -1.0, 0.7), *found[1:]])[1:] == []
