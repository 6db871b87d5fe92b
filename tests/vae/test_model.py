"""The VAE: its likelihood estimate, and which parts fit together."""

import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import pushforward as pf
from pushforward import bijections as bj, vae as pv
from vae_cases import KEY, SHAPE, far, images, small


def linear_gaussian(sigma=0.7):
    """x = A u + b + sigma noise with u ~ N(0, I): the marginal is known. The encoder passes the pixels on."""
    vae = small(likelihood=pv.Gaussian(sigma))
    decoder = pv.networks.Dense((2,), (1, *SHAPE), (), key=jr.key(3))
    encoder = pv.networks.Dense(SHAPE, (5,), (), key=jr.key(4))
    vae = pv.VAE(encoder, decoder, far(vae.posterior), vae.prior, vae.likelihood)
    a, b = np.asarray(decoder.layers[0].weight), np.asarray(decoder.layers[0].bias)
    return vae, scipy.stats.multivariate_normal(b, a @ a.T + sigma**2 * np.eye(len(b)))


def test_likelihood_of_a_linear_gaussian_model():
    """Importance sampling finds the exact marginal, from below, and the better the more draws."""
    vae, exact = linear_gaussian()
    rng = np.random.default_rng(0)
    x = 0.5 * rng.normal(size=(6, *SHAPE))
    truth = exact.logpdf(x.reshape(6, -1))
    bounds = []
    for count in (1, 10, 20_000):
        estimate = jax.jit(jax.vmap(lambda key, n=count: vae.log_likelihood_estimate(x, key, n, chunk=1000)))
        bounds.append(estimate(jr.split(KEY, 200 if count < 100 else 1)).mean(0))
    assert np.all(bounds[0] < bounds[1])
    assert np.all(bounds[1] < truth)
    np.testing.assert_allclose(bounds[2], truth, atol=0.05)


def test_chunks_make_no_difference_to_the_estimate():
    vae, x = far(small()), jnp.asarray(images(3))
    estimate = eqx.filter_jit(lambda x, count, chunk: vae.log_likelihood_estimate(x, KEY, count, chunk=chunk))
    np.testing.assert_allclose(estimate(x, 4000, 300), estimate(x, 4000, 4000), atol=0.1)
    assert jax.eval_shape(lambda: vae.log_likelihood_estimate(x[0], KEY, 3)).shape == ()


def test_what_does_not_fit_is_refused():
    good = small()
    narrow = pv.networks.Dense(SHAPE, (4,), (), key=KEY)
    with pytest.raises(ValueError, match=r"encoder returns 4 numbers.*Amortized Elementwise, takes 5"):
        pv.VAE(narrow, good.decoder, good.posterior, good.prior)
    with pytest.raises(ValueError, match=r"5 scalars in the arrays of Planar.* returns shape \(4,\)"):
        bj.Amortized(bj.Planar(2, key=KEY), narrow, SHAPE)
    with pytest.raises(ValueError, match=r"4 arrays .* Categorical .*returns shape \(1, 3, 4\)"):
        pv.VAE(good.encoder, good.decoder, good.posterior, good.prior, pv.Categorical(4))
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        pv.VAE(good.encoder, good.decoder, good.posterior, pv.prior("normal", 3, key=KEY))
    with pytest.raises(ValueError, match="takes no condition"):
        pv.VAE(good.encoder, good.decoder, good.prior, good.prior)
    with pytest.raises(ValueError, match="must take no condition"):
        pv.VAE(good.encoder, good.decoder, good.posterior, good.posterior)
    wrong = pv.networks.Dense((4, 4), (5,), (), key=KEY)
    with pytest.raises(ValueError, match="encoder does not accept images"):
        pv.VAE(wrong, good.decoder, good.posterior, good.prior)
    positive = pf.Flow(dist.Gamma(2.0, jnp.ones(2)).to_event(1), bj.Identity((2,)))
    with pytest.raises(ValueError, match="posterior's support"):
        pv.VAE(good.encoder, good.decoder, good.posterior, positive)
    ends = bj.Chain([good.posterior.bijection, bj.Elementwise(bj.Exp(), 2)])
    both = pv.VAE(good.encoder, good.decoder, pf.Flow(good.posterior.base, ends), positive)
    assert jnp.all(jnp.isfinite(eqx.filter_jit(both.elbo)(images(3), KEY)))
    with pytest.raises(ValueError, match=r"shape \(..., 3, 4\), but have \(5, 4\)"):
        good.elbo(np.zeros((5, 4)), KEY)
    with pytest.raises(ValueError, match="one of gaussian, planar"):
        small("plane")
    with pytest.raises(ValueError, match="one of normal, mixture"):
        small(prior="plane")


def test_models_of_version_0_1_0_load():
    """Dense and convolutional ones, with the values that they had."""
    # They were saved in single precision, in which draws differ from those in double precision.
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        x, saved = pf.load(Path(__file__).parent / "saved_by_0_1_0.vae")
        for vae, elbo in saved:
            assert isinstance(vae, pf.VAE)
            np.testing.assert_allclose(eqx.filter_jit(vae.elbo)(x, jr.key(1)), elbo, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pv.build(SHAPE, key=KEY, dim="2"), "dim must be a whole number .* is '2', in build"),
        (lambda: pv.build(SHAPE, key=0), "key must be a random key"),
        (lambda: pv.build(SHAPE, key=KEY, likelihood=pv.Bernoulli), "the class Bernoulli instead of an instance"),
        (lambda: pv.posterior("planar", 2, 3, key=KEY, num_layers=-1), "num_layers must be a whole number"),
        (lambda: pv.posterior("sylvester-orthogonal", 4, 3, key=KEY, num_units=0), "num_units must be a whole number"),
        (lambda: pv.prior("mixture", 2, key=KEY, num_components=0), "num_components must be a whole number"),
        (lambda: pv.conv_pair((8, 8), 2, 1, key=KEY, channels=()), "channels must have one entry or more"),
        (lambda: pv.dense_pair((8, 8), 2, 1, key=KEY, hidden=(4, 0)), r"hidden\[1\] must be a whole number"),
        (lambda: pv.Gaussian(float("nan")), "scale must be a number above 0 that is finite"),
        (lambda: pv.Categorical(2.5), "levels must be a whole number"),
        (lambda: pv.NegativeBound(images(), free_bits=float("nan")), "free_bits must be a number"),
        (
            lambda: pf.fit_vae(images(), key=KEY, vae=small(), objective=pv.NegativeBound(images())),
            "makes the objective",
        ),
    ],
    ids=range(12),
)
def test_arguments_of_the_parts(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
