"""The page "What can be fitted", and the supports, distributions, containers and refusals that it lists."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import potential_energy

import distribution_cases
import fitted_page
import pushforward as pf
from container_cases import IMAGES, TABLES, VALUES
from distribution_cases import DISTRIBUTIONS
from products import few
from pushforward.density.data.source import open_samples
from pushforward.posterior.spaces.base import UnavailablePrediction
from pushforward.vae.fit import _images as read
from pushforward.vae.stored import StoredImages
from refused_cases import REFUSED, SUPPORTS


def test_the_page_is_what_its_generator_writes():
    assert fitted_page.PAGE.read_text() == fitted_page.page(), "run make fitted"


@pytest.mark.parametrize("name", SUPPORTS)
def test_supports_are_taken(name):
    constraint, value = SUPPORTS[name]
    target = pf.Target(lambda x: -jnp.sum(x**2) / 2, jnp.array(value), constraint)
    assert np.isfinite(target(target.start))
    np.testing.assert_allclose(target.constrain(target.start), value, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why(name):
    case = REFUSED[name]
    if name.startswith("pymc"):
        pytest.importorskip("pymc")
    with pytest.raises(case.error, match=case.words):
        case.build()


def prior_and_likelihood(at, y, prior):
    t = numpyro.sample("t", dist.Normal(0, 1))
    if prior:
        numpyro.sample("x", at(t))
    numpyro.sample("y", at(t), obs=y)


def test_all_distributions_are_listed():
    assert set(DISTRIBUTIONS) == set(dist.__all__) - distribution_cases.OTHERS


KINDS = (
    "Bernoulli",
    "CAR",
    "Delta",
    "Dirichlet",
    "GaussianCopula",
    "LKJCholesky",
    "Poisson",
    "ProjectedNormal",
    "Unit",
)


@pytest.mark.filterwarnings("ignore:Continuous inference poorly handles circular")
@pytest.mark.parametrize("name", few(DISTRIBUTIONS, *KINDS))
def test_distributions_are_priors_and_likelihoods(name):
    """The density is NumPyro's, its gradient is finite, and there are predictions where NumPyro can draw."""
    case = DISTRIBUTIONS[name]
    y = jnp.asarray(case.value)
    if case.refused is not None:
        with pytest.raises(ValueError, match=case.refused):
            pf.Target.from_numpyro(prior_and_likelihood, case.at, y, True)
    args = (case.at, y, case.refused is None)
    target = pf.Target.from_numpyro(prior_and_likelihood, *args)
    u = jnp.linspace(-0.4, 0.7, target.dim)
    value, gradient = jax.jit(jax.value_and_grad(target))(u)
    if target.space.discrete:
        expected = dist.Normal(0, 1).log_prob(u[0]) + case.at(u[0]).log_prob(y).sum()
    else:
        expected = -jax.jit(lambda z: potential_energy(prior_and_likelihood, args, {}, z))(target.unravel(u))
    assert value == pytest.approx(float(expected), abs=1e-9)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(jax.jit(lambda u: target.unconstrain(target.constrain(u)))(u), u, atol=1e-6)
    draw = jax.eval_shape(target.constrain, u)
    try:
        shape = jax.eval_shape(case.at(u[0]).sample, jr.key(0)).shape
    except (ImportError, NotImplementedError):
        with pytest.raises(UnavailablePrediction):
            jax.eval_shape(lambda draw: target.space.replicate(draw, jr.key(0)), draw)
    else:
        replicas = jax.eval_shape(lambda draw: target.space.replicate(draw, jr.key(0)), draw)
        assert name == "Unit" or replicas["y"].shape == shape


@pytest.mark.parametrize("kind", TABLES)
def test_tables_are_read_or_refused(kind, tmp_path):
    case = TABLES[kind]
    if "xarray" in kind:
        pytest.importorskip("xarray")
    x = case.make(tmp_path)
    if case.instead is not None:
        with pytest.raises(ValueError, match=case.found):
            pf.fit_density(x, key=jr.key(0))
        return
    values, names = open_samples(x)
    np.testing.assert_array_equal(values, VALUES)
    assert names == (None if case.found is None else list(case.found))


@pytest.mark.parametrize("kind", IMAGES)
def test_images_are_read_or_refused(kind, tmp_path):
    case = IMAGES[kind]
    if "Pillow" in kind:
        pytest.importorskip("PIL")
    images = case.make(tmp_path)
    if case.instead is not None:
        with pytest.raises((ValueError, TypeError), match=case.found):
            pf.fit_vae(images, key=jr.key(0))
        return
    found = read(images)
    assert isinstance(found, StoredImages) == ("disk" in kind)
    found = np.concatenate([*found.chunks()]) if isinstance(found, StoredImages) else found
    np.testing.assert_allclose(found, case.found, atol=1e-7)
