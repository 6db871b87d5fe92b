"""Bounds: the standard VAE by hand, every family of posteriors and priors, and the options."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.stats

import pushforward as pf
from pushforward import vae as pv
from pushforward.bijections.arrays import trainable
from vae_cases import KEY, far, images, small


def test_without_a_flow_it_is_the_plain_vae():
    """Loss and gradient are those of a Gaussian VAE written down, at the same draws."""
    vae, x = far(small()), jnp.asarray(images())
    gaussian = vae.posterior.bijection.bijections[0]

    def plain(encoder, decoder, x, key):
        h = jax.vmap(encoder)(x)
        out = h @ gaussian.network.weights[0].T + gaussian.network.biases[0]
        affine = gaussian.bijection.scalars
        loc, raw = affine.loc + out[:, :2], affine.raw_scale + out[:, 2:]
        scale = (raw + jnp.sqrt(raw**2 + 4)) / 2
        noise = jr.normal(key, (1, len(x), 2))[0]
        u = loc + scale * noise
        logits = jax.vmap(decoder)(u)[:, 0]
        log_likelihood = jnp.sum(x * logits - jnp.logaddexp(0, logits), axis=(1, 2))
        log_prior = jnp.sum(-0.5 * u**2 - 0.5 * jnp.log(2 * jnp.pi), axis=1)
        log_q = jnp.sum(-0.5 * noise**2 - 0.5 * jnp.log(2 * jnp.pi) - jnp.log(scale), axis=1)
        return -jnp.mean(log_likelihood + log_prior - log_q)

    bound = pv.NegativeBound(x)

    def ours(encoder, decoder, x, key):
        model = eqx.tree_at(lambda m: (m.encoder, m.decoder), vae, (encoder, decoder))
        return bound.loss(model, x, key, 0)[0]

    def both(fn):
        return eqx.filter_jit(eqx.filter_value_and_grad(lambda parts: fn(*parts, x, KEY)))((vae.encoder, vae.decoder))

    (value, gradient), (expected, expected_gradient) = both(ours), both(plain)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


FAMILIES = [(name, "normal") for name in pv.POSTERIORS] + [("gaussian", name) for name in pv.PRIORS if name != "normal"]


@pytest.mark.parametrize(("posterior", "prior"), FAMILIES)
def test_every_family(posterior, prior):
    """A finite bound, and a gradient for every array of every part; the flow begins as the identity."""
    vae, x = small(posterior, prior), jnp.asarray(images(4))
    moved, bound = far(vae), pv.NegativeBound(x)

    @eqx.filter_jit
    @functools.partial(eqx.filter_value_and_grad, has_aux=True)
    def loss(vae):
        value, parts = bound.loss(vae, x, KEY, 0)
        return value, parts["kl"]

    (value, _), gradient = loss(moved)
    assert jnp.isfinite(value)
    arrays = jax.tree.leaves(eqx.filter(moved, trainable(moved)))
    gradients = jax.tree.leaves(eqx.filter(gradient, trainable(moved)))
    assert len(arrays) == len(gradients)
    # Householder vectors of length one stand for their sign alone; unused entries of arrays have none.
    still = [a.shape for a, g in zip(arrays, gradients, strict=True) if a.size > 1 and not jnp.any(g != 0)]
    assert not still
    assert all(bool(jnp.isfinite(g).all()) for g in gradients)
    (value, kl), _ = loss(vae)
    assert jnp.isfinite(value)
    if prior != "mixture":
        np.testing.assert_allclose(kl, 0, atol=1e-6)


def test_path_gradient_has_the_same_mean():
    vae, x = far(small("planar"), 0.2), jnp.asarray(images(4))

    def gradient(path_gradient):
        bound = pv.NegativeBound(x, path_gradient=path_gradient)

        @jax.jit
        @jax.vmap
        def of(key):
            arrays, rest = eqx.partition(vae.posterior, trainable(vae.posterior))

            def loss(arrays):
                model = eqx.tree_at(lambda m: m.posterior, vae, eqx.combine(arrays, rest))
                return bound.loss(model, x, key, 0)[0]

            return jnp.concatenate([g.ravel() for g in jax.tree.leaves(jax.grad(loss)(arrays))])

        draws = of(jr.split(KEY, 2000))
        return draws.mean(0), draws.std(0) / 2000**0.5

    (one, one_se), (two, two_se) = gradient(False), gradient(True)
    z = (one - two) / jnp.sqrt(one_se**2 + two_se**2 + 1e-16)
    assert jnp.abs(z).max() < 5


def test_bounds():
    """Free bits, the weight of the KL term and the importance-weighted bound do what they say."""
    vae, x = far(small()), jnp.asarray(images())

    @eqx.filter_jit
    def bound(step=0, **options):
        return pv.NegativeBound(x, batch_size=5, **options).loss(vae, x, KEY, step)

    loss, parts = bound()
    np.testing.assert_allclose(loss, parts["reconstruction"] + parts["kl"])
    # An epoch has four steps.
    for step, beta in ((0, 0.5), (3, 0.5), (4, 1.0), (9, 1.0)):
        weaker, weaker_parts = bound(step, warmup=2)
        assert weaker_parts["beta"] == beta
        np.testing.assert_allclose(weaker, parts["reconstruction"] + beta * parts["kl"])
    many = float(parts["kl"]) + 3
    np.testing.assert_allclose(bound(free_bits=many)[0], parts["reconstruction"] + many)
    weighted, _ = bound(num_samples=7)
    terms = eqx.filter_jit(vae.terms)(x, KEY, 7)
    np.testing.assert_allclose(weighted, -np.mean(scipy.special.logsumexp(terms.log_weight, 0) - np.log(7)))
    with pytest.raises(ValueError, match="num_samples=7"):
        pv.NegativeBound(x, num_samples=7, path_gradient=True)
    with pytest.raises(ValueError, match="batch_size must be a whole number .* is 0, in NegativeBound"):
        pv.NegativeBound(x, batch_size=0)


def test_the_evaluation_is_minus_the_elbo_of_validation_images():
    """At full weight of the KL term, with the same draws each time; gray images are drawn black and white once."""
    vae, x = far(small()), images(60)
    bound = pv.NegativeBound(x[:50], x[50:], warmup=5, num_evaluation_samples=300)
    value = eqx.filter_jit(bound.evaluate)(vae, KEY)
    exact = pv.evaluate(vae, x[50:], key=KEY, num_samples=2, elbo_samples=300)
    assert value == eqx.filter_jit(bound.evaluate)(vae, KEY)
    np.testing.assert_allclose(value, -exact.elbo, rtol=0.01)
    gray = pv.NegativeBound(x, 0.5 * x, binarize=True)
    black = gray._binarized(gray.validation, KEY)
    assert set(np.unique(black)) == {0.0, 1.0}
    assert black.sum() < gray.images.sum()


def test_train_trains_a_vae():
    """The ordinary trainer takes the objective, and its history has the parts of the loss."""
    x = images(200)
    bound = pv.NegativeBound(x[:150], x[150:], batch_size=50, warmup=2)
    start = eqx.filter_jit(bound.evaluate)(small(), KEY)
    vae, history = pf.train(small(), bound, key=KEY, steps=60, num_evaluations=20, optimizer=optax.adam(1e-2))
    assert eqx.filter_jit(bound.evaluate)(vae, KEY) < start - 0.5
    np.testing.assert_array_equal(history.series("beta")[1:], [0.5] + [1.0] * 19)
    found = history.series("reconstruction") + history.series("beta") * history.series("kl")
    np.testing.assert_allclose(found[1:], history.series("training_loss")[1:])
