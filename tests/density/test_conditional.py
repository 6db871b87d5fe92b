"""Conditionals of known joint densities: Gaussians, mixtures, supports, angles and discrete columns."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy import stats

import pushforward as pf
from pushforward.bijections import Affine, Chain, Elementwise, Identity, OntoBox, OntoCircles
from pushforward.density import Density

RNG = np.random.default_rng(0)
ROOT = np.tril(RNG.normal(size=(5, 5)), -1) + np.diag(RNG.uniform(0.5, 2, 5))
COVARIANCE, MEAN = ROOT @ ROOT.T, 10 * RNG.normal(size=5)


def density_of(base, *bijections, grids=None):
    found = Density.of(pf.Flow(base, Chain([Identity(base.event_shape), *bijections])))
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return Density(**fields | {"key": jr.key(0), "grids": grids or found.grids})


GAUSSIAN = density_of(dist.MultivariateNormal(jnp.asarray(MEAN), scale_tril=jnp.asarray(ROOT)))


def exact(given, at):
    left = [i for i in range(5) if i not in given]
    gain = COVARIANCE[np.ix_(left, given)] @ np.linalg.inv(COVARIANCE[np.ix_(given, given)])
    mean = MEAN[left] + gain @ (at - MEAN[given])
    return mean, COVARIANCE[np.ix_(left, left)] - gain @ COVARIANCE[np.ix_(given, left)]


@pytest.mark.parametrize("given", [[0], [1, 3], [0, 1, 2, 4]])
@pytest.mark.parametrize("away", [0.0, 3.0])
def test_conditionals_of_a_gaussian(given, away):
    at = MEAN[given] + away * np.sqrt(np.diag(COVARIANCE))[given]
    mean, covariance = exact(given, at)
    found = GAUSSIAN.condition(dict(zip(given, at, strict=True)))
    marginal = stats.multivariate_normal(MEAN[given], COVARIANCE[np.ix_(given, given)]).logpdf(at)
    one = len(given) == 4
    assert found.log_evidence == pytest.approx(marginal, abs=1e-6 if one else 0.02)
    sd = np.sqrt(np.diag(covariance))
    assert found.ess_fraction > 0.5
    np.testing.assert_allclose((found.mean() - mean) / sd, 0, atol=1e-6 if one else 0.04)
    np.testing.assert_allclose(found.std() / sd, 1, atol=1e-6 if one else 0.03)
    expected = mean + sd * stats.norm.ppf([[0.1], [0.8]])
    np.testing.assert_allclose((found.quantiles([0.1, 0.8]) - expected) / sd, 0, atol=2e-3 if one else 0.06)
    draws = np.asarray(found.sample(jr.key(1), (40, 100)))
    assert draws.shape == (40, 100, 5 - len(given)) and len(np.unique(draws.reshape(4000, -1), axis=0)) > 3990
    np.testing.assert_allclose((draws.mean((0, 1)) - mean) / sd, 0, atol=5 / 4000**0.5)
    np.testing.assert_allclose(
        np.cov(draws.reshape(4000, -1).T) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.1
    )
    log_prob = stats.multivariate_normal(mean, covariance).logpdf(draws[0])
    np.testing.assert_allclose(found.log_prob(draws[0]), log_prob, atol=1e-6 if one else 0.02)


def test_names_are_those_of_the_columns():
    found = GAUSSIAN.condition({"x3": 1.0}, x0=2.0)
    assert found.columns == ("x1", "x2", "x4") and found.given == {"x3": 1.0, "x0": 2.0}
    assert "given x3 = 1, x0 = 2" in str(found.summary())


@pytest.mark.parametrize("at", [-3.0, 0.3, 3.0])
def test_separate_modes_are_both_there(at):
    """A mixture of two Gaussians in three columns, of weights that depend on the given value."""
    locs, scales = np.array([[-3.0, -8, 5], [3.0, 8, -5]]), np.array([[2.0, 1, 0.5], [2.5, 0.5, 2]])
    parts = dist.Normal(jnp.asarray(locs), jnp.asarray(scales)).to_event(1)
    joint = density_of(dist.MixtureSameFamily(dist.Categorical(jnp.array([0.3, 0.7])), parts))
    weights = np.array([0.3, 0.7]) * stats.norm.pdf(at, locs[:, 0], scales[:, 0])
    found = joint.condition(x0=at)
    assert found.log_evidence == pytest.approx(np.log(weights.sum()), abs=0.03)
    weights /= weights.sum()
    np.testing.assert_allclose(found.mean(), weights @ locs[:, 1:], atol=0.3)
    assert (found.sample(jr.key(0), 4000)[:, 0] > 0).mean() == pytest.approx(weights[1], abs=0.03)
    alone = joint.condition(x0=at, x2=5.0)
    weights *= stats.norm.pdf(5.0, locs[:, 2], scales[:, 2])
    np.testing.assert_allclose(alone.mean(), [weights @ locs[:, 1] / weights.sum()], atol=1e-6)


def test_draws_lie_in_the_supports():
    """A positive column, one in an interval, and an angle, all functions of correlated normal variables."""
    correlated = dist.MultivariateNormal(jnp.zeros(3), jnp.full((3, 3), 0.6) + 0.4 * jnp.eye(3))
    joint = density_of(
        correlated, OntoBox([constraints.positive, constraints.interval(2.0, 4.0), constraints.less_than(-1.0)])
    )
    found = joint.condition(x2=-1.5)
    at = -np.log(0.5)
    mean, sd = 0.6 * at, np.sqrt(1 - 0.36)
    np.testing.assert_allclose(found.quantiles(0.5), [np.exp(mean), 2 + 2 / (1 + np.exp(-mean))], rtol=0.03)
    draws = found.sample(jr.key(0), 2000)
    assert (draws[:, 0] > 0).all() and ((draws[:, 1] > 2) & (draws[:, 1] < 4)).all()
    np.testing.assert_allclose(np.log(draws[:, 0]).std(), sd, rtol=0.06)
    assert found.log_prob(jnp.array([-1.0, 3.0])) == -jnp.inf
    last = joint.condition(x0=1.0, x1=3.0)
    x = np.linspace(-30, -1.0001, 200_001)
    assert np.trapezoid(np.exp(np.asarray(last.log_prob(x[:, None]))), x) == pytest.approx(1.0, abs=1e-3)


def test_angles_are_directions():
    """Two uniform angles; the given one is moved into its interval."""
    to_degrees = Elementwise.each(Affine, jnp.full(2, 180.0), jnp.full(2, 180 / jnp.pi))
    base = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    joint = density_of(base)
    fields = {name: getattr(joint, name) for name in joint.__dataclass_fields__}
    joint = Density(**fields | {"flow": pf.Flow(base, OntoCircles(to_degrees, [(0.0, 360.0), (0.0, 360.0)]))})
    found = joint.condition(x0=725.0)
    assert found.given == {"x0": 5.0}
    draws = found.sample(jr.key(0), 2000)
    assert ((draws >= 0) & (draws < 360)).all()
    # From the opposite of the mean direction, which is anywhere.
    low, median, high = found.quantiles([0.25, 0.5, 0.75])[:, 0]
    np.testing.assert_allclose([(median - low) % 360, (high - median) % 360], 90, atol=1.0)
    assert found.std()[0] == pytest.approx(360 / 12**0.5, rel=0.01)
    # Half of the last step is beyond the cut.
    grid = Density(**fields | {"flow": joint.flow, "grids": ((5.0, 10.0), None)})
    assert grid.condition(x0=355.0).log_evidence == pytest.approx(np.log(1 / 36), abs=1e-3)
    assert found.log_evidence == pytest.approx(-np.log(360), abs=1e-3)


def test_discrete_columns():
    """A dequantized standard normal column with step 1, given or left, and a column correlated with it."""
    gaussian = dist.MultivariateNormal(jnp.zeros(2), jnp.array([[1.0, 0.8], [0.8, 1.0]]))
    joint = density_of(gaussian, grids=((0.0, 1.0), None))
    found = joint.condition(x0=1.0)
    assert found.log_evidence == pytest.approx(np.log(stats.norm.cdf(2) - stats.norm.cdf(1)), abs=2e-3)
    mean = (stats.norm.pdf(1) - stats.norm.pdf(2)) / (stats.norm.cdf(2) - stats.norm.cdf(1))
    assert found.mean()[0] == pytest.approx(0.8 * mean, abs=5e-3)
    left = joint.condition(x1=1.0)
    draws = left.sample(jr.key(0), 4000)
    assert set(np.unique(draws)) <= set(range(-4, 5))
    probabilities = np.diff(stats.norm.cdf(np.arange(-5, 6), 0.8, 0.6))
    assert left.mean()[0] == pytest.approx(probabilities @ np.arange(-5, 5), abs=2e-3)
    assert draws.mean() == pytest.approx(left.mean()[0], abs=0.06)
    with pytest.raises(ValueError, match="x0. has the values 0 . k . 1, but got 0.5"):
        joint.condition(x0=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "values of one or more of the 5 columns"),
        (({i: 0.0 for i in range(5)},), "but not of all"),
        (({"y": 0.0},), "there is no column y"),
        (({7: 0.0},), "column 7"),
        (({0: [0.0, 1.0]},), "must be one number"),
        (({0: np.nan},), "must be finite"),
        (({0: 0.0, "x0": 0.0},), "given twice"),
    ],
)
def test_wrong_values_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        GAUSSIAN.condition(*arguments)


def test_values_outside_of_the_support_are_named():
    joint = density_of(dist.Normal(jnp.zeros(2), 1.0).to_event(1), OntoBox([constraints.positive, constraints.real]))
    with pytest.raises(ValueError, match="x0. lies between 0 and inf, but got -1"):
        joint.condition(x0=-1.0)


def test_angles_on_both_sides_of_the_cut():
    """Angles of N(0, 10 degrees), of which half lie just below 360, beside an independent column."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(0, 10, 1000) % 360, rng.normal(size=1000)], 1)
    joint = pf.fit_density(x, key=jr.key(0), support={0: pf.Circular(360.0)}, max_epochs=5)
    found = joint.condition(x1=0.0)
    angles = np.linspace(0, 360, 2000, endpoint=False) + 0.09
    p = np.exp(np.asarray(found.log_prob(angles[:, None]))) * 0.18
    mean = np.rad2deg(np.angle(p @ np.exp(1j * np.deg2rad(angles))))
    around = (angles - mean + 180) % 360 - 180
    sd = np.sqrt(p @ around**2 - (p @ around) ** 2)
    assert abs((found.mean()[0] - mean + 180) % 360 - 180) < 0.2 and found.std()[0] == pytest.approx(sd, rel=0.02)
    (row,) = found.summary().values()
    assert abs((row.mean - mean + 180) % 360 - 180) < 5 and row.sd == pytest.approx(sd, rel=0.02)
    assert row.q05 < row.median < row.q95 < row.q05 + 180
    np.testing.assert_allclose(found.quantiles([0.05, 0.95])[:, 0] % 360, np.array([row.q05, row.q95]) % 360, atol=0.2)
