"""Draws of a user: forms, errors, and fits that take them."""

import functools

import arviz
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.posterior.given_draws import given_draws

RNG = np.random.default_rng(0)
FAR, NARROW = 60.0, 0.3


def log_density(x):
    """A broad mode, and a narrow one so far away that no path of the search ends there."""
    broad = jnp.log(0.7) + dist.Normal(0.0, 1.0).log_prob(x).sum()
    narrow = jnp.log(0.3) + dist.Normal(FAR, NARROW).log_prob(x).sum()
    return jnp.logaddexp(broad, narrow)


def exact_draws(fraction, num=1000):
    z = RNG.normal(size=(4, num // 4, 4))
    return np.where(RNG.uniform(size=(4, num // 4, 1)) < fraction, z, FAR + NARROW * z)


TARGET = pf.Target(log_density, jnp.zeros(4))


@functools.cache
def fit(fraction):
    return pf.fit_posterior(TARGET, key=jr.key(0), draws=exact_draws(fraction), budget=200_000)


def test_a_mode_of_the_draws_is_fitted_that_the_search_misses(tmp_path):
    alone = pf.fit_posterior(TARGET, key=jr.key(0), budget=200_000)
    assert alone.diagnostics.log_evidence == pytest.approx(np.log(0.7), abs=0.01) and alone.agreement is None
    found = fit(0.7)
    assert found.diagnostics.verdict == "good"
    assert found.diagnostics.log_evidence == pytest.approx(0.0, abs=0.01)
    assert found.agreement.verdict == "agree" and "agrees with the 1,000 given draws" in found.diagnostics.reasons[-1]
    found.save(tmp_path / "posterior.flow")
    assert pf.load(tmp_path / "posterior.flow").agreement.verdict == "agree"


def test_wrong_proportions_of_modes_are_the_fault_of_the_draws():
    found = fit(0.3)
    assert found.diagnostics.verdict == "good"
    assert found.diagnostics.log_evidence == pytest.approx(0.0, abs=0.01)
    assert found.agreement.verdict == "draws at fault"
    assert found.agreement.difference == pytest.approx(0.4, abs=0.08)


SITES = {"scale": jnp.ones(2), "p": jnp.array(0.5)}
SUPPORT = {"scale": constraints.positive, "p": constraints.unit_interval}
WITH_SUPPORT = pf.Target(lambda x: -x["scale"].sum() + jnp.log(x["p"]), SITES, SUPPORT)


def draws_by_site(*leading):
    return {"scale": RNG.exponential(size=(*leading, 2)), "p": RNG.uniform(0.1, 0.9, leading)}


def test_all_forms_of_draws_give_the_same_vectors(tmp_path):
    draws = draws_by_site(2, 100)
    expected = given_draws(WITH_SUPPORT, draws)
    assert expected.shape == (2, 100, 3)
    np.testing.assert_allclose(expected[..., 1:], np.log(draws["scale"]), rtol=1e-12)
    data = arviz.from_dict(posterior=draws | {"further": draws["p"]}) if hasattr(arviz, "InferenceData") else None
    if data is not None:
        data.to_netcdf(str(tmp_path / "draws.nc"))
        for form in (data, data["posterior"], tmp_path / "draws.nc", str(tmp_path / "draws.nc")):
            np.testing.assert_array_equal(given_draws(WITH_SUPPORT, form), expected)
    flat = {name: value.reshape(200, *value.shape[2:]) for name, value in draws.items()}
    np.testing.assert_array_equal(given_draws(WITH_SUPPORT, flat), expected.reshape(1, 200, 3))


def changed(name, value, *leading):
    return draws_by_site(*(leading or (200,))) | {name: value}


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({"scale": np.ones((200, 2))}, "draws has no p; the target's sites are p, scale"),
        (
            changed("p", np.full((200, 2), 0.5)),
            r"same numbers of chains and draws for all sites, but have p: .200, 2., scale: .200,.",
        ),
        (changed("scale", np.ones((200, 3))), r"draws of scale must have the shape .chains, draws, 2. or"),
        (changed("p", np.full((100,), 0.5)), "same numbers of chains and draws"),
        (changed("p", np.full(200, np.nan)), "draws of p hold NaN or infinite values, the first at chain 0, draw 0"),
        (changed("p", np.linspace(0.1, 1.1, 200)), "20 of 200 draws are outside of the support"),
        (changed("p", np.full(200, "a")), "draws of p must be real numbers"),
        (draws_by_site(50), "draws has 50 draws, 50 of them different, but at least 100"),
        ({name: np.repeat(v[:1], 200, 0) for name, v in draws_by_site(1).items()}, "1 of them different"),
        ("nowhere.nc", "there is no file nowhere.nc"),
        (arviz.from_dict(prior=draws_by_site(1, 200)), "draws has no group posterior; it has prior"),
    ],
)
def test_draws_that_cannot_be_those_of_the_target_are_refused(draws, message):
    with pytest.raises(ValueError, match=message):
        pf.fit_posterior(WITH_SUPPORT, key=jr.key(0), draws=draws)


def test_draws_of_another_type_or_target_are_refused(tmp_path):
    with pytest.raises(TypeError, match="a dict of arrays, but is of type float"):
        pf.fit_posterior(WITH_SUPPORT, key=jr.key(0), draws=1.0)
    bounded = pf.Target(lambda x: jnp.where(x > 0, -x, -jnp.inf), jnp.array(1.0))
    with pytest.raises(ValueError, match="not finite at .* of 200 draws"):
        pf.fit_posterior(bounded, key=jr.key(0), draws=RNG.normal(size=200))
    (tmp_path / "draws.nc").write_text("no NetCDF")
    with pytest.raises(ValueError, match="not a NetCDF file of draws"):
        pf.fit_posterior(WITH_SUPPORT, key=jr.key(0), draws=tmp_path / "draws.nc")
