"""Whitening finds linear relations with a condition and heavy tails before training, and refuses dependent columns."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

import pushforward as pf
from products import few, first
from pushforward.density.baselines import gaussian

RNG = np.random.default_rng(0)
GIVEN = RNG.normal(size=(800, 2)) * [1, 50] + [0, 1000]
NOISE = RNG.normal(size=(800, 1))
EXACT = GIVEN @ [[2.0], [-0.1]] + 7


def fit(x, given, **options):
    flow = pf.flows.maf(x.shape[1], key=jr.key(0), cond_dim=given.shape[1], num_layers=1, hidden=(4,))
    return pf.fit_density(x, condition=given, key=jr.key(0), flow=flow, progress=False, max_epochs=2, **options)


@pytest.mark.parametrize("noise", few([1e-2, 1e-4], 1e-4))
def test_a_linear_relation_is_found_before_training(precision, noise, tmp_path):
    x = EXACT + noise * NOISE
    flow = fit(x, GIVEN)
    best = gaussian(np.hstack([x, GIVEN]), np.hstack([x, GIVEN]), 2).mean()
    assert np.mean(flow.log_prob(x, GIVEN)) > best - 0.05
    draws = flow.sample(jr.key(1), (2000,), GIVEN[0])
    np.testing.assert_allclose([draws.mean(), draws.std()], [EXACT[0, 0], noise], rtol=0.1)
    pf.save(tmp_path / "flow", flow)
    np.testing.assert_array_equal(pf.load(tmp_path / "flow").log_prob(x, GIVEN), flow.log_prob(x, GIVEN))


def test_one_hot_condition():
    """The columns are linearly dependent: their sum is 1."""
    kinds = RNG.integers(0, 4, 800)
    x = np.array([0.0, 10.0, -10.0, 100.0])[kinds][:, None] + NOISE
    flow = fit(x, np.eye(4)[kinds])
    assert np.mean(flow.log_prob(x, np.eye(4)[kinds])) > -1.5


def test_an_independent_condition_has_no_effect():
    x, given = RNG.normal(size=(60, 2)), RNG.normal(size=(60, 50))
    flow = fit(x, given)
    fresh = RNG.normal(size=(1000, 2)), RNG.normal(size=(1000, 50))
    assert np.mean(flow.log_prob(*fresh)) > -3.1


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (EXACT, "column 0 of x is a linear function of the condition"),
        (np.hstack([NOISE, EXACT - NOISE]), "a combination of column 0, column 1 of x is a linear function"),
        (GIVEN[:, ::-1] + 0.0, "of x is a linear function"),
    ],
)
def test_error_if_a_column_is_linear_in_the_condition(precision, x, match):
    with pytest.raises(ValueError, match=match):
        fit(x, GIVEN)


@pytest.mark.parametrize(
    ("noise", "slack"),
    first((scipy.stats.t(1.5, 0, 0.1), 0.12), (scipy.stats.norm(0, 1e-3), 0.05), (scipy.stats.t(1.5), 0.15)),
)
@pytest.mark.parametrize("given", [scipy.stats.cauchy(3.0), scipy.stats.norm(3.0)])
def test_heavy_tails_of_a_condition_and_of_residuals(given, noise, slack):
    """Two epochs hardly train: whitening alone must find it."""
    rng = np.random.default_rng(0)
    c, e = given.rvs((2, 4000, 1), random_state=rng), noise.rvs((2, 4000, 1), random_state=rng)
    flow = fit(c[0] + e[0], c[0])
    assert np.mean(flow.log_prob(c[1] + e[1], c[1])) > np.mean(noise.logpdf(e[1])) - slack


def test_networks_see_a_scaled_condition(precision):
    """In the second column most values are equal; rows of weight 0 have no effect."""
    c = np.stack([np.exp(3 * GIVEN[:, 0]), (np.arange(800) < 20).astype(float)], 1)
    weights = np.where(np.arange(800) < 780, 1.0, 0.0)
    flow = fit(NOISE, np.where(weights[:, None] > 0, c, np.nan), weights=weights)
    networks = flow.flow.bijection.bijections[0]
    np.testing.assert_allclose(networks.moments.value[0], [np.median(c[:780, 0]), 20 / 780], rtol=0.01)
    np.testing.assert_allclose(networks.moments.value[1][1], c[:780, 1].std(), rtol=1e-5)
    assert np.abs(networks._rescaled(jnp.asarray(c.T))).max() < 8 and np.isfinite(flow.log_prob(NOISE, c)).all()


@pytest.mark.conformance
def test_angles_and_a_condition():
    turned = (GIVEN[:, :1] + 0.3 * NOISE) % (2 * np.pi)
    flow = pf.fit_density(
        np.hstack([turned, EXACT + NOISE]), condition=GIVEN, key=jr.key(0), progress=False, max_epochs=2,
        support=[pf.Circular(), None],
        flow=pf.flows.circular(2, angles=[True, False], cond_dim=2, num_layers=1, hidden=(4,), bins=4, key=jr.key(1)),
    )  # fmt: skip
    assert np.isfinite(flow.log_prob(np.hstack([turned, EXACT]), GIVEN)).all()
    assert flow.sample(jr.key(0), (3,), GIVEN[0]).shape == (3, 2)


@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1e30, 1e160])
def test_columns_of_any_unit(unit):
    x = np.hstack([EXACT + NOISE, NOISE]) * unit
    np.testing.assert_allclose(gaussian(x, x), gaussian(x / unit, x / unit) - 2 * np.log(unit), rtol=1e-9)
    flow = pf.fit_density(x, key=jr.key(0), flow=pf.flows.linear(2, key=jr.key(0)), progress=False, max_epochs=1)
    best = gaussian(x / unit, x / unit).mean() - 2 * np.log(unit)
    assert np.mean(flow.log_prob(x)) == pytest.approx(best, abs=0.1)
    flow = fit(x[:, :1], GIVEN * unit)
    assert np.mean(flow.log_prob(x[:, :1], GIVEN * unit)) == pytest.approx(-1.4 - np.log(unit), abs=0.1)


def test_offsets_in_single_precision():
    """A column of seconds since 1970 does not make the error check of other columns stricter."""
    time = 1.6e9 + 1e6 * RNG.normal(size=(800, 1))
    near = np.hstack([NOISE, NOISE + 1e-3 * RNG.normal(size=(800, 1)), time])
    with jax.enable_x64(False):
        flow = pf.fit_density(near, key=jr.key(0), flow=pf.flows.linear(3, key=jr.key(0)), progress=False, max_epochs=1)
        assert np.mean(flow.log_prob(near)) > gaussian(near, near).mean() - 0.1


@pytest.mark.parametrize("weight", [1e-50, 1e39, 1e-300, 1e300])
def test_weights_of_any_size(precision, weight):
    x = EXACT + NOISE
    flow = pf.flows.linear(1, key=jr.key(0))
    options = {"key": jr.key(0), "flow": flow, "progress": False, "max_epochs": 2}
    weights = RNG.uniform(size=800)
    same = pf.fit_density(x, weights=weights, **options).log_prob(x)
    np.testing.assert_allclose(pf.fit_density(x, weights=weight * weights, **options).log_prob(x), same, rtol=1e-4)
