"""How good a VAE is: bounds, likelihood by importance sampling, and what its latent space is used for."""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from pushforward.vae.data import check_images
from pushforward.vae.model import VAE

# A unit whose posterior mean varies less than this over images says nothing about them.
ACTIVE = 0.01
# Draws of each image for its posterior mean.
MEAN_DRAWS = 64
# Numbers in the largest array, the decoder's outputs: 0.8 GB in single precision.
LARGEST = 200_000_000


class Evaluation(NamedTuple):
    r"""Means over images in nats, with standard errors (`_se`) over images.

    `elbo` is lower than $\log p(x)$ by the posterior's divergence; `nll`, by importance sampling with `num_samples`
    draws, is an upper bound of $-\log p(x)$ that tightens as they grow; `gap` is what lies between the two. The ELBO is
    minus `reconstruction` minus `kl`. `bits_per_dim` is that of `nll`, for discrete likelihoods.
    """

    elbo: float
    elbo_se: float
    nll: float
    nll_se: float
    num_samples: int
    reconstruction: float
    kl: float
    active_units: int
    bits_per_dim: float | None

    @property
    def gap(self) -> float:
        r"""$\log p(x)$ as estimated, less the ELBO."""
        return -self.nll - self.elbo


class KLSplit(NamedTuple):
    r"""$E_x \mathrm{KL}(q(u \mid x) \,\|\, p(u)) = I_q(x; u) + \mathrm{KL}(q(u) \| p(u))$, $q(u) = E_x q(u \mid x)$.

    References:
        Hoffman and Johnson, ELBO surgery (2016).
    """

    mutual_information: float
    marginal_kl: float


def evaluate(
    vae: VAE,
    x: ArrayLike,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1000,
    elbo_samples: int = 10,
    chunk: int = 100,
    batch_size: int = 100,
) -> Evaluation:
    """Evaluate on held-out images, at full weight of the KL term.

    Args:
        vae: the model.
        x: images, of shape (n, *shape).
        key: for the draws.
        num_samples: draws of each image for the likelihood.
        elbo_samples: draws of each image for the ELBO and its parts.
        chunk: draws of each image held in memory at once; fewer where images or likelihood are large.
        batch_size: images held in memory at once; likewise.

    Raises:
        ValueError: for images that `fit_vae` would refuse.
    """
    x = _checked(vae, x)
    batch_size = bounded(batch_size, elbo_samples, vae)
    chunk = bounded(chunk, min(batch_size, len(x)), vae)
    parts = _scores(vae, x, key, num_samples, elbo_samples, chunk, batch_size)
    elbo, log_p, reconstruction, kl = (np.asarray(a, np.float64) for a in parts[:4])
    nll = float(-log_p.mean())
    size = math.prod(vae.shape)
    return Evaluation(
        elbo=float(elbo.mean()),
        elbo_se=float(elbo.std() / math.sqrt(len(x))),
        nll=nll,
        nll_se=float(log_p.std() / math.sqrt(len(x))),
        num_samples=num_samples,
        reconstruction=float(reconstruction.mean()),
        kl=float(kl.mean()),
        active_units=_active_units(*parts[4:]),
        bits_per_dim=nll / (size * math.log(2)) if vae.likelihood.discrete else None,
    )


@eqx.filter_jit
def _scores(vae, x, key, num_samples, elbo_samples, chunk, batch_size):
    def of(x, key):
        terms_key, weights_key, mean_key = jr.split(key, 3)
        terms = vae.terms(x, terms_key, elbo_samples)
        log_p = vae.log_likelihood_estimate(x, weights_key, num_samples, chunk=chunk)
        u = vae.infer(x, mean_key, (MEAN_DRAWS,))
        kl = terms.log_posterior - terms.log_prior
        means = terms.log_weight.mean(0), log_p, -terms.log_likelihood.mean(0), kl.mean(0)
        return *means, u.mean(0), u.var(0, ddof=1)

    return in_chunks(of, x, key, batch_size)


def _active_units(means: Float[Array, "n dim"], variances: Float[Array, "n dim"]) -> int:
    """How many posterior means vary over images, by more than means of MEAN_DRAWS draws do by chance."""
    return int((means.var(0) - variances.mean(0) / MEAN_DRAWS > ACTIVE).sum())


def kl_split(vae: VAE, x: ArrayLike, *, key: PRNGKeyArray, num_images: int = 256) -> KLSplit:
    """Split the KL term into what draws tell about their image, and how far their mixture is from the prior.

    Args:
        vae: the model; its posterior's density is evaluated at other images' draws, by its inverse.
        x: images.
        key: for draws and the choice of images.
        num_images: among which an image is told; at most `len(x)`. The information cannot exceed its logarithm.
    """
    x = _checked(vae, x)
    pick_key, draw_key = jr.split(key)
    rows = jr.permutation(pick_key, len(x))[:num_images]
    information, marginal = _split(vae, x[rows], draw_key)
    return KLSplit(float(information), float(marginal))


@eqx.filter_jit
def _split(vae, x, key):
    features = vae.encode(x)
    u, log_q = vae.posterior.sample_and_log_prob(key, (), features)
    log_prior = vae.prior.log_prob(u)
    # One row of features at a time: the density of all draws given that image.
    each = jax.lax.map(lambda h: vae.posterior.log_prob(u, h), features)
    log_marginal = jax.nn.logsumexp(each, axis=0) - jnp.log(len(x))
    return (log_q - log_marginal).mean(), (log_marginal - log_prior).mean()


def _checked(vae: VAE, x: ArrayLike) -> Float[Array, "n *shape"]:
    x = check_images(x)
    if x.shape[1:] != vae.shape:
        raise ValueError(f"images must have shape (n, {', '.join(map(str, vae.shape))}), but have {x.shape}.")
    vae.likelihood.check(x)
    return jnp.asarray(x)


def bounded(count: int, others: int, vae: VAE) -> int:
    """`count`, or fewer, such that the outputs for `count` x `others` images are no more than LARGEST numbers."""
    outputs = vae.likelihood.num_outputs * math.prod(vae.shape)
    return min(count, max(1, LARGEST // max(1, others * outputs)))


def in_chunks(
    fn: Callable[[Array, PRNGKeyArray], PyTree], x: Float[Array, "n *shape"], key: PRNGKeyArray, size: int
) -> PyTree:
    """Apply a function of images and a key to `size` images at a time; its results have images along the first axis."""
    full, rest = divmod(len(x), size)
    keys = jr.split(key, full + 1)
    parts = []
    if full:
        grouped = x[: full * size].reshape(full, size, *x.shape[1:])
        stacked = jax.lax.map(lambda group: fn(*group), (grouped, keys[1:]))
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), stacked))
    if rest:
        parts.append(fn(x[full * size :], keys[0]))
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)
