"""Evaluation of a VAE: the ELBO, the likelihood by importance sampling, active units, and a split of the KL term.

A parameter `vae` is a `VAE`. This module does not import that class, because its methods use this module.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Real

from pushforward.arguments import checked, in_words
from pushforward.bijections.arrays import ArrayLike
from pushforward.generators import separate_key
from pushforward.vae.data import check_images

# A latent coordinate is active if the variance of its posterior mean over images, divided by the variance of the prior,
# is larger than this.
ACTIVE_VARIANCE = 0.01
# The number of draws per image for the posterior mean, and of draws for the variance of the prior.
MEAN_DRAWS, PRIOR_DRAWS = 64, 1000
# The number of entries of the largest array, that of the decoder's outputs: 0.8 GB in single precision.
MAX_OUTPUTS = 200_000_000


class Evaluation(NamedTuple):
    r"""Means over images in nats per image, with standard errors over images.

    Attributes:
        elbo: the ELBO, a lower bound of $\log p(x)$: minus `reconstruction` minus `kl`.
        elbo_se: the standard error of `elbo`; this and the others are NaN for one image.
        nll: $-\log p(x)$, estimated by importance sampling: in expectation an upper bound, which decreases to
            $-\log p(x)$ as the number of draws grows.
        nll_se: the standard error of `nll`.
        num_samples: the number of draws per image for `nll`.
        reconstruction: $-E_q \log p(x \mid u)$.
        kl: $\mathrm{KL}(q(u \mid x) \,\|\, p(u))$.
        active_units: the number of latent coordinates whose posterior mean depends on the image; None for one image.
        bits_per_dim: `nll` in bits per pixel and channel; None if the likelihood is continuous.
        gap_se: the standard error of `gap`.

    References:
        Burda et al., Importance Weighted Autoencoders (2016), section 4.2 (active units).
        https://arxiv.org/abs/1509.00519
    """

    elbo: float
    elbo_se: float
    nll: float
    nll_se: float
    num_samples: int
    reconstruction: float
    kl: float
    active_units: int | None
    bits_per_dim: float | None
    gap_se: float

    @property
    def gap(self) -> float:
        r"""The estimated $\log p(x)$ minus the ELBO."""
        return -self.nll - self.elbo


class KLSplit(NamedTuple):
    r"""$E_x \mathrm{KL}(q(u \mid x) \,\|\, p(u)) = I_q(x; u) + \mathrm{KL}(q(u) \| p(u))$, $q(u) = E_x q(u \mid x)$.

    Attributes:
        mutual_information: $I_q(x; u)$.
        marginal_kl: $\mathrm{KL}(q(u) \| p(u))$.

    References:
        Hoffman and Johnson, ELBO surgery (2016).
    """

    mutual_information: float
    marginal_kl: float


@checked(x=None)
def evaluate(
    vae: Any,
    x: ArrayLike,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1000,
    elbo_samples: int = 10,
    chunk: int = 100,
    batch_size: int = 100,
) -> Evaluation:
    """Evaluate a VAE on test images.

    Args:
        vae: the model.
        x: the test images, of shape (n, *shape).
        key: the key for the draws.
        num_samples: the number of draws per image for the likelihood.
        elbo_samples: the number of draws per image for the ELBO and its parts.
        chunk: the largest number of draws of each image that are in memory at the same time.
        batch_size: the largest number of images that are in memory at the same time.

    Raises:
        ValueError: for images of another shape, or images that the likelihood cannot have generated.
    """
    x = _checked(vae, x, "evaluate")
    batch_size = max_chunk_size(batch_size, elbo_samples, vae)
    chunk = max_chunk_size(chunk, min(batch_size, len(x)), vae)
    scores = _scores(vae, x, key, num_samples, elbo_samples, chunk, batch_size)
    elbo, log_p, reconstruction, kl = (np.asarray(a, np.float64) for a in scores[:4])
    nll = float(-log_p.mean())
    size = math.prod(vae.shape)
    return Evaluation(
        elbo=float(elbo.mean()),
        elbo_se=_standard_error(elbo),
        nll=nll,
        nll_se=_standard_error(log_p),
        num_samples=num_samples,
        reconstruction=float(reconstruction.mean()),
        kl=float(kl.mean()),
        active_units=_active_units(vae, scores[4], scores[5], separate_key(key)) if len(x) > 1 else None,
        bits_per_dim=nll / (size * math.log(2)) if vae.likelihood.discrete else None,
        gap_se=_standard_error(log_p - elbo),
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

    return map_in_chunks(of, x, key, batch_size)


def _standard_error(values: Float[np.ndarray, " n"]) -> float:
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _active_units(vae: Any, means: Float[Array, "n dim"], variances: Float[Array, "n dim"], key: PRNGKeyArray) -> int:
    """The number of coordinates whose posterior mean varies over images, beyond the noise of MEAN_DRAWS draws."""
    # In units of the prior's variance, because the scale of a latent coordinate is arbitrary.
    prior_variance = vae.prior.sample(key, (PRIOR_DRAWS,)).var(0)
    return int((means.var(0) - variances.mean(0) / MEAN_DRAWS > ACTIVE_VARIANCE * prior_variance).sum())


@checked(x=None)
def kl_split(vae: Any, x: ArrayLike, *, key: PRNGKeyArray, num_images: int = 256) -> KLSplit:
    """Split the KL term into a mutual information and the KL divergence of the aggregate posterior from the prior.

    The mutual information is that of image and latent vector under the posterior.

    Args:
        vae: the model. The density of its posterior is evaluated at the draws for other images, through its inverse.
        x: images, of shape (n, *shape).
        key: the key for draws and the choice of images.
        num_images: the number of images, at most n. The estimate of the mutual information is at most the logarithm of
            this number.

    Raises:
        ValueError: for images of another shape, or images that the likelihood cannot have generated.
    """
    x = _checked(vae, x, "kl_split")
    pick_key, draw_key = jr.split(key)
    rows = jr.permutation(pick_key, len(x))[:num_images]
    information, marginal = _split(vae, x[rows], draw_key)
    return KLSplit(float(information), float(marginal))


@eqx.filter_jit
def _split(vae, x, key):
    features = vae.encode(x)
    u, log_q = vae.posterior.sample_and_log_prob(key, (), features)
    log_prior = vae.prior.log_prob(u)
    # For one image at a time, the density of all draws under its posterior.
    each = jax.lax.map(lambda h: vae.posterior.log_prob(u, h), features)
    log_marginal = jax.nn.logsumexp(each, axis=0) - jnp.log(len(x))
    return (log_q - log_marginal).mean(), (log_marginal - log_prior).mean()


def _checked(vae: Any, x: ArrayLike, owner: str) -> Float[Array, "n *shape"]:
    if not hasattr(vae, "likelihood"):
        raise TypeError(f"vae must be a VAE, but is {in_words(vae)}, in {owner}.")
    x = check_images(x)
    if x.shape[1:] != vae.shape:
        raise ValueError(f"images must have shape (n, {', '.join(map(str, vae.shape))}), but have {x.shape}.")
    vae.likelihood.check(x)
    return jnp.asarray(x)


def max_chunk_size(count: int, outputs_per_item: int, vae: Any) -> int:
    """The largest number of images or draws, at most `count`, for which the decoder's outputs fit into memory.

    Args:
        count: an upper bound of the result.
        outputs_per_item: the number of decoder outputs for each image or draw.
        vae: the model.
    """
    outputs = vae.likelihood.num_outputs * math.prod(vae.shape)
    return min(count, max(1, MAX_OUTPUTS // max(1, outputs_per_item * outputs)))


def map_in_chunks(
    fn: Callable[[Array, PRNGKeyArray], PyTree], x: Real[Array, "n *shape"], key: PRNGKeyArray, size: int
) -> PyTree:
    """Apply a function to `size` images at a time.

    Args:
        fn: a function of images and a key, whose results have the images along their first axis.
        x: the images, or the indices of images on disk.
        key: the key for the function; each chunk has its own key.
        size: the number of images in a chunk.
    """
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
