"""NumPyro models as targets."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.util import initialize_model, potential_energy

import pushforward as pf
from model_cases import CASES
from pushforward.posterior.latent import latent_values


@pytest.mark.parametrize("name", CASES)
def test_density_and_predictions_of_each_kind_of_model(name):
    case = CASES[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        target = pf.Target.from_numpyro(case.model, *case.args)
        messages = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    if case.warns is None:
        assert not messages
    else:
        with pytest.warns(UserWarning, match=case.warns):
            warnings.warn(" ".join(messages), stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of NumPyro
        args = case.args if case.nuts is None else case.nuts
        info = initialize_model(jr.key(0), case.model, model_args=args, validate_grad=False)
        z = {site: value + 0.1 for site, value in info.param_info.z.items()}
        assert float(target.space.log_density(z)) == pytest.approx(-float(info.potential_fn(z)), rel=1e-10)
    observed = target.space.observed()
    assert set(observed) >= ({case.predicted} - {None})
    if case.predicted is not None:
        draw = eqx.filter_eval_shape(target.constrain, target.start)
        replicas = eqx.filter_eval_shape(lambda draw: target.space.replicate(draw, jr.key(0)), draw)
        assert replicas[case.predicted].shape == observed[case.predicted].shape


def hierarchical(groups, x, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    correlation = numpyro.sample("correlation", dist.LKJCholesky(2, 1.0))
    upper = numpyro.sample("upper", dist.Uniform(1.0, 2.0))
    with numpyro.plate("groups", 3):
        offset = numpyro.sample("offset", dist.Normal(0, scale))
    mean = numpyro.deterministic("mean", offset[groups] + upper * x + weights[0] + correlation[1, 0])
    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.fixture
def hierarchical_target():
    data = np.array([0, 1, 2, 0]), np.array([0.1, 0.2, 0.3, 0.4])
    return pf.Target.from_numpyro(hierarchical, *data, y=np.array([1.0, 2.0, 0.5, 0.7])), data


def test_numpyro_density_is_numpyros(hierarchical_target):
    target, data = hierarchical_target
    assert target.dim == 1 + 2 + 1 + 1 + 3
    for key in jr.split(jr.key(0), 3):
        u = jr.normal(key, (target.dim,))
        kwargs = {"y": jnp.array([1.0, 2.0, 0.5, 0.7])}
        expected = -potential_energy(hierarchical, tuple(map(jnp.asarray, data)), kwargs, target.unravel(u))
        assert target(u) == pytest.approx(float(expected))


def test_numpyro_draws_have_all_sites(hierarchical_target):
    target, _ = hierarchical_target
    u = jr.normal(jr.key(1), (target.dim,))
    draw = target.constrain(u)
    assert set(draw) == {"scale", "weights", "correlation", "upper", "offset", "mean"}
    assert 1 < draw["upper"] < 2
    np.testing.assert_allclose(target.unconstrain(draw), u, atol=1e-9)
    # The same volume as without the model's code.
    assert target.log_volume(u) == pytest.approx(float(target.detached().log_volume(u)))
    for name, value in target.detached().constrain(u).items():
        np.testing.assert_allclose(value, draw[name])


def test_numpyro_dynamic_support():
    def model():
        top = numpyro.sample("top", dist.LogNormal(0.0, 1.0))
        numpyro.sample("below", dist.Uniform(0.0, top))

    target = pf.Target.from_numpyro(model)
    for key in jr.split(jr.key(0), 5):
        u = 2 * jr.normal(key, (2,))
        draw = target.constrain(u)
        assert 0 < draw["below"] < draw["top"]
        np.testing.assert_allclose(target.unconstrain(draw), u, atol=1e-6)
    with pytest.raises(ValueError, match="depends on another site"):
        target.detached()


BOUNDS = {
    "clipped": lambda x: jnp.clip(x, 3.0, 10.0),
    "at least": lambda x: jnp.maximum(x, 5.0),
    "chosen": lambda x: jnp.where(x > 4, 1.0, 2.0),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_supports_that_are_equal_near_the_start_only_are_not_saved(name):
    def model():
        x = numpyro.sample("x", dist.Normal(0.0, 5.0))
        numpyro.sample("w", dist.Uniform(0.0, BOUNDS[name](x)))

    target = pf.Target.from_numpyro(model)
    with pytest.raises(ValueError, match="depends on another site"):
        target.detached()
    assert target.coordinate_names() == ["w", "x"]
    u = np.array([0.0, 9.0])
    draw = target.constrain(jnp.asarray(u))
    assert draw["w"] == BOUNDS[name](draw["x"]) / 2
    np.testing.assert_allclose(latent_values(target, u[None])[0, 0], draw["w"])


def test_fixed_supports_in_scans_and_plates_are_saved():
    def model():
        loc = numpyro.sample("loc", dist.Normal(0, 1))
        with numpyro.plate("groups", 2):
            numpyro.sample("share", dist.Uniform(0.0, jnp.array([1.0, 2.0])))

        def step(before, _):
            now = numpyro.sample("now", dist.TruncatedNormal(before, 1.0, low=-3.0))
            return now, now

        scan(step, loc, None, 3)

    target = pf.Target.from_numpyro(model)
    u = jnp.linspace(-1, 1, target.dim)
    draw = target.constrain(u)
    for name, value in target.detached().constrain(u).items():
        np.testing.assert_allclose(value, draw[name])


def scaled():
    with handlers.scale(scale=3.0):
        numpyro.sample("x", dist.HalfNormal(1.0))


def masked():
    with handlers.mask(mask=False):
        x = numpyro.sample("x", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(x, 1.0), obs=2.0)


def cut():
    x = numpyro.sample("x", dist.HalfNormal(1.0))
    numpyro.factor("f", jnp.where(x < 1, 0.0, -jnp.inf))


def many():
    x = numpyro.sample("x", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(0.0, x), obs=1e5 * jnp.ones(1000))


def enumerated():
    x = numpyro.sample("x", dist.HalfNormal(1.0))
    with numpyro.plate("rows", 3):
        k = numpyro.sample("k", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(k * x, 1.0), obs=jnp.arange(3.0))


@pytest.mark.parametrize("model", [scaled, masked, cut, many, enumerated])
def test_log_volume_is_that_of_the_transform(model):
    """Whatever the density is: NumPyro scales and masks its terms, and it may be zero or a huge number."""
    target = pf.Target.from_numpyro(model)
    assert target.log_volume(jnp.array([0.7])) == pytest.approx(0.7, abs=1e-12)


def test_factors_are_no_observations():
    def model(y):
        x = numpyro.sample("x", dist.Normal(0, 1))
        with numpyro.plate("rows", 3):
            numpyro.factor("scalar", -0.5 * x**2)
            with handlers.mask(mask=jnp.array([True, False, True])):
                numpyro.factor("masked", -0.5 * (x - y) ** 2)
            numpyro.sample("y", dist.Normal(x, 1), obs=y)

    space = pf.Target.from_numpyro(model, jnp.arange(3.0)).space
    draw = {"x": jnp.array(0.5)}
    for found in (space.observed(), space.pointwise_log_likelihood(draw), space.replicate(draw, jr.key(0))):
        assert set(found) == {"y"}


def test_log_volume_of_supports_that_depend_on_other_sites():
    def model():
        start = numpyro.sample("start", dist.HalfNormal(1.0))

        def step(top, _):
            with numpyro.plate("two", 2):
                now = numpyro.sample("now", dist.Uniform(0.0, top))
            return 1 + now[0], now

        scan(step, start, None, 3)
        with handlers.scale(scale=2.0):
            numpyro.sample("shares", dist.Uniform(0.0, start).expand([2]).to_event(1))

    target = pf.Target.from_numpyro(model)
    u = jnp.linspace(-1.0, 1.0, target.dim)
    jacobian = jax.jacobian(lambda u: ravel_pytree(target.constrain(u))[0])(u)
    assert target.log_volume(u) == pytest.approx(jnp.linalg.slogdet(jacobian)[1])


def test_supports_that_depend_on_a_discrete_site_are_refused():
    def model():
        with numpyro.plate("rows", 3):
            k = numpyro.sample("k", dist.Bernoulli(0.3))
            numpyro.sample("x", dist.Uniform(0.0, 1.0 + k))

    with pytest.raises(ValueError, match="supports of the sites x depend on discrete latent sites"):
        pf.Target.from_numpyro(model)


def test_numpyro_model_that_looks_at_its_data():
    def model(groups):
        with numpyro.plate("groups", int(groups.max()) + 1):
            numpyro.sample("x", dist.Normal(0, 1))

    assert pf.Target.from_numpyro(model, np.array([0, 1, 2, 4])).dim == 5


@pytest.mark.parametrize(
    "prior, match",
    [
        (dist.Poisson(3.0), "x are discrete and cannot be enumerated"),
        (dist.Delta(1.0), "x are dist.Delta"),
        (dist.Delta(jnp.zeros(3)).to_event(1), "x are dist.Delta"),
        (dist.Delta(0.0).expand([3]), "x are dist.Delta"),
        (dist.Delta(jnp.zeros(3)).mask(False), "x are dist.Delta"),
        (dist.ProjectedNormal(jnp.ones(3)), "spherical sample site 'x'"),
    ],
)
def test_site_without_a_transform_is_named(prior, match):
    def model():
        numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("x", prior)

    with pytest.raises(ValueError, match=match):
        pf.Target.from_numpyro(model)


def test_only_what_must_be_static_becomes_static():
    case = CASES["size_from_data"]
    groups, y = pf.Target.from_numpyro(case.model, *case.args).space.args
    assert isinstance(groups.value, np.ndarray)
    np.testing.assert_array_equal(y, case.args[1])


def test_predictions_are_of_the_network_that_was_fitted():
    for name in ("network", "key_in_model"):
        case = CASES[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            space = pf.Target.from_numpyro(case.model, *case.args).space
        # With a tiny scale, predictions are the mean of the likelihood.
        draw = {"b": jnp.zeros(2), "s": jnp.asarray(1e-9)}
        first, second = (space.replicate(draw, jr.key(seed))["y"] for seed in (0, 1))
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_no_latent():
    with pytest.raises(ValueError, match="no continuous latent"):
        pf.Target.from_numpyro(lambda: numpyro.sample("y", dist.Normal(0, 1), obs=1.0))


def test_random_numbers_that_do_not_matter_are_no_warning(recwarn):
    def model():
        start = jr.normal(numpyro.prng_key(), (2,))
        numpyro.sample("x", dist.Normal(jnp.zeros_like(start), 1.0).to_event(1))

    pf.Target.from_numpyro(model)
    assert not [w for w in recwarn if "held fixed" in str(w.message)]
