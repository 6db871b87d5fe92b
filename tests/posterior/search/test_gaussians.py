"""Gaussians along Newton paths."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

from posterior_cases import absorbing, far_mode, gaussian_target
from pushforward.posterior.search.gaussians import find_candidates, refined


def test_candidates_find_the_laplace_gaussian():
    target, d = gaussian_target(4, 2, 1e5)
    best = find_candidates(target, target.start, jr.key(0)).modes[0]
    assert best.elbo == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(best.loc, d.mean, rtol=1e-6, atol=1e-6 * float(jnp.sqrt(d.variance).max()))


def test_many_dimensions_use_coordinate_curvature():
    scales = jnp.asarray(10.0 ** np.random.default_rng(0).uniform(-2, 2, 4000))
    best = find_candidates(lambda x: -0.5 * jnp.sum((x / scales) ** 2), jnp.ones(4000), jr.key(0)).modes[0]
    np.testing.assert_allclose(best.factor, scales, rtol=1e-6)


def test_large_dimensions_have_fewer_paths():
    """The number of Hessians times their cost, `dim` gradients, falls beyond 64 dimensions."""

    def num_candidates(dim):
        return len(find_candidates(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(dim), jr.key(0)).candidates)

    assert num_candidates(2) == 2 * (24 + 1)
    # Natural-gradient steps give four more.
    assert num_candidates(150) == 2 * (4 + 1) + 4


def test_rounding_noise_far_out_is_not_climbed():
    """The density of a beta distribution with a huge concentration is the difference of numbers beyond 1e25."""

    hits = jnp.array([8, 9, 10, 11])

    def log_density(u):
        center, concentration, chances = jax.nn.sigmoid(u[0]), 1 + jnp.exp(u[1]), jax.nn.sigmoid(u[2:])
        shared = dist.Beta(center * concentration, (1 - center) * concentration)
        log_volume = u[1] + jnp.sum(jax.nn.log_sigmoid(u[2:]) + jax.nn.log_sigmoid(-u[2:]))
        log_prior = -0.5 * u[0] ** 2 + dist.Pareto(1, 1.5).log_prob(concentration) + shared.log_prob(chances).sum()
        return log_prior + dist.Binomial(45, chances).log_prob(hits).sum() + log_volume

    best = find_candidates(log_density, jnp.zeros(6), jr.key(0)).modes[0]
    assert best.elbo < 0 and best.loc[1] < 20


def test_many_local_parameters_do_not_pull_the_search_into_the_neck():
    """Eighty local parameters with few data: the mode is at a scale of 0, the mass is not."""
    y = jnp.asarray(np.random.default_rng(0).normal(size=80)) * 1.5

    def log_density(x):
        log_scale, local = x[0], x[1:]
        prior = -0.5 * log_scale**2 - 0.5 * jnp.sum(local**2) * jnp.exp(-2 * log_scale) - 80 * log_scale
        return prior - 0.5 * jnp.sum((y - local) ** 2)

    best = find_candidates(log_density, jnp.full(81, 0.1), jr.key(0)).modes[0]
    better = refined(log_density, best, jr.key(1))
    assert better.elbo >= best.elbo and abs(float(better.loc[0]) - 0.2) < 0.5


def test_skewed_modes_in_many_dimensions_are_found_apart():
    """The best Gaussian of a product of log-gamma densities is not at its mode: there are two such products."""

    def one(x):
        return jnp.sum(x - jnp.exp(x))

    def log_density(x):
        shift = jnp.zeros(100).at[:4].set(8.0)
        return jnp.logaddexp(one(x - shift), one(-(x + shift)))

    modes = find_candidates(log_density, jnp.zeros(100), jr.key(0)).modes
    assert len(modes) == 2
    np.testing.assert_allclose(sorted(mode.loc[0] for mode in modes), [-7.5, 7.5], atol=0.5)


def test_correlation_is_found_beyond_the_dimensions_of_newton_paths():
    """An autoregressive process of 300 steps."""
    steps = jnp.concatenate([jnp.ones(1), jnp.full(299, 0.3)])

    def log_density(x):
        noise = jnp.diff(x, prepend=0.0) / steps
        return -0.5 * jnp.sum(noise**2) - jnp.log(steps).sum() - 150 * jnp.log(2 * jnp.pi)

    best = find_candidates(log_density, jnp.ones(300), jr.key(0)).modes[0]
    better = refined(log_density, best, jr.key(1))
    assert best.elbo > -20 and better.elbo == pytest.approx(0.0, abs=0.01)
    np.testing.assert_allclose((better.factor**2).sum(1), np.cumsum(steps**2), rtol=0.01)


def test_a_mode_a_thousand_standard_deviations_away_is_found():
    centers = jnp.array([[0.0, 0.0], [600.0, -800.0]])
    modes = dist.MixtureSameFamily(dist.Categorical(jnp.array([0.95, 0.05])), dist.Normal(centers, 1.0).to_event(1))
    found = find_candidates(modes.log_prob, jnp.zeros(2), jr.key(0))
    assert len(found.modes) == 2
    np.testing.assert_allclose(found.modes[1].loc, centers[1], atol=1e-3)


def test_modes_of_rounding_noise_are_left_out():
    """Far out, where all digits are lost, the density is computed as 45,000 nats higher than at its mode."""
    found = find_candidates(absorbing, jnp.array([200.0]), jr.key(0))
    assert len(found.modes) == 1 and found.modes[0].loc == pytest.approx(0.0, abs=1e-6)
    assert all(abs(candidate.loc[0]) < 34 for candidate in found.candidates)


def test_a_mode_that_matters_by_its_distance_is_kept():
    """It has 0.002 % of the mass and is 400 standard deviations away: the variance is four times as large."""
    found = find_candidates(far_mode(2e-5, 400.0, 5), jnp.zeros(5), jr.key(0))
    assert any(abs(candidate.loc[0] - 400) < 0.1 for candidate in found.candidates)
