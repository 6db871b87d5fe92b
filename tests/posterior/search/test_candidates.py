"""Gaussians that belong to different modes, and their scores."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.posterior.search.candidates import (
    Candidate,
    is_distant,
    is_near_mode,
    score_gaussians,
    separate_modes,
    usable,
)


def candidate(loc, elbo, decrement):
    return Candidate(np.array([loc]), np.eye(1), elbo, 0.01, decrement)


def test_a_heavy_mode_beside_another_is_kept_apart():
    """The best Gaussian of a heavy-tailed or skewed mode is not at the mode itself."""
    found = [candidate(5.3, -1.0, 0.7), candidate(5.0, -1.1, 0.1), candidate(-5.0, -1.2, 0.1)]
    assert [float(c.loc[0]) for c in separate_modes(found)] == pytest.approx([5.3, -5.0])
    # Along a funnel the best Gaussian is far from any mode.
    assert separate_modes([candidate(10.0, -1.0, 0.7), *found[1:]])[1:] == []


def test_diagonals_count_as_matrices():
    loc, diagonal = jnp.array([1.0, 2.0]), jnp.array([0.5, 3.0])
    target = lambda x: -0.5 * jnp.sum(x**2)  # noqa: E731
    dense = score_gaussians(target, loc[None], jnp.diag(diagonal)[None], jr.key(0))
    np.testing.assert_allclose(score_gaussians(target, loc[None], diagonal[None], jr.key(0)), dense, rtol=1e-12)
    one, other = (usable((loc[None], factor[None], *dense)) for factor in (diagonal, jnp.diag(diagonal)))
    far = candidate(0.0, 0.0, 0.0)._replace(loc=np.array([3.0, 2.0]), factor=np.eye(2))
    assert one[0].distance(far) == other[0].distance(far) == 2.0
    x = jnp.array([0.3, -0.7])
    np.testing.assert_allclose(one[0].affine.forward(x), other[0].affine.forward(x), rtol=1e-15)


def test_what_is_not_finite_is_not_usable():
    locs, factors = jnp.array([[0.0], [jnp.nan], [0.0], [0.0]]), jnp.array([[1.0], [1.0], [0.0], [jnp.inf]])
    assert len(usable((locs, factors, jnp.zeros(4), jnp.zeros(4), jnp.zeros(4)))) == 1


def test_what_is_far_away_matters_however_little_its_mass_is():
    best, near, far = candidate(0.0, 0.0, 0.0), candidate(5.0, -8.5, 0.0), candidate(118.0, -8.5, 0.9)
    assert not is_distant(near, best) and is_distant(far, best)
    assert not is_distant(far._replace(elbo=-15.0), best) and not is_distant(candidate(3.0, 1.0, 0.0), best)
    assert not is_near_mode(far, [best, far]) and is_near_mode(far, [candidate(119.0, -9.0, 0.1)])
