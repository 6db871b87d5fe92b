"""Posteriors with several modes: the base of the flow is a mixture with one Gaussian for each mode.

A flow is continuous, so with a Gaussian base it cannot separate two modes, and the minimum of the reverse KL often
misses one of them. With a mixture as base, weighted by the evidence near each mode, the fit starts near the posterior.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import Triangular
from pushforward.flow import Flow
from pushforward.posterior.search.candidates import MIN_EVIDENCE_FRACTION
from pushforward.posterior.target import Whitened, finite_or_zero
from pushforward.training.compilation import jit_low_concurrency

NUM_DRAWS = 20_000


def match_moments(weights: np.ndarray, locs: np.ndarray, matrices: np.ndarray) -> Triangular:
    """The affine map of N(0, I) that has the mean and covariance of a mixture of Gaussians.

    Args:
        weights: the weights of the components, with sum 1.
        locs: the means of the components.
        matrices: the triangular factors of the covariances of the components.
    """
    mean = weights @ locs
    covariance = np.einsum("k,kij,klj->il", weights, matrices, matrices)
    covariance += np.einsum("k,ki,kj->ij", weights, locs - mean, locs - mean)
    return Triangular(len(mean), jnp.asarray(mean), jnp.asarray(np.linalg.cholesky(covariance)))


def mixture_base(affines: Sequence[Triangular], log_evidences: Sequence[float]) -> tuple[Triangular, dist.Distribution]:
    """An affine map with the mean and covariance of a mixture of Gaussians, and the mixture in its coordinates.

    Args:
        affines: the affine map from N(0, I) to each Gaussian.
        log_evidences: the logarithms of the weights of the Gaussians, up to a constant.
    """
    weights = np.exp(np.asarray(log_evidences) - max(log_evidences))
    weights = weights / weights.sum()
    kept = weights > MIN_EVIDENCE_FRACTION
    weights = weights[kept] / weights[kept].sum()
    locs, matrices = (np.stack([np.asarray(getattr(a, n)) for a in affines])[kept] for n in ("loc", "matrix"))
    affine = match_moments(weights, locs, matrices)
    mean, factor = np.asarray(affine.loc), np.asarray(affine.matrix)
    inner_locs = np.linalg.solve(factor, (locs - mean).T).T
    inner = np.tril(np.linalg.solve(factor, matrices))
    parts = dist.MultivariateNormal(jnp.asarray(inner_locs), scale_tril=jnp.asarray(inner))
    return affine, dist.MixtureSameFamily(dist.Categorical(jnp.asarray(weights)), parts)


@jit_low_concurrency
def _mode_weights(target: Whitened, flow: Flow, key: PRNGKeyArray) -> Float[Array, " modes"]:
    """The fraction of the target's mass in the image of each component of the base."""
    z = flow.base_distribution.sample(key, (NUM_DRAWS,))
    x, log_det = flow.bijection.batched.forward_and_log_det(z)
    log_base = flow.base_distribution.log_prob(z)
    log_weights = finite_or_zero(jax.lax.map(target, x, batch_size=1000) - log_base + log_det)
    mixing = flow.base_distribution.mixing_distribution.probs
    parts = flow.base_distribution.component_distribution.log_prob(z[:, None])
    return jax.nn.softmax(log_weights) @ jax.nn.softmax(parts + jnp.log(mixing), axis=-1)


def reweight_modes(target: Whitened, flow: Flow, key: PRNGKeyArray) -> Flow:
    """The flow with new weights of the components of its base, estimated from importance weights of its draws.

    Training hardly moves mass from one mode to another, but importance weights measure the mass of each mode.

    Args:
        target: the posterior in whitened coordinates.
        flow: the flow; it is returned unchanged if its base is not a mixture, or if an estimate is zero or not finite.
        key: the key for the draws.
    """
    base = flow.base_distribution
    if not isinstance(base, dist.MixtureSameFamily):
        return flow
    weights = np.asarray(_mode_weights(target, flow, key), float)
    if not np.isfinite(weights).all() or not (weights > 0).all():
        return flow
    probs: Any = base.mixing_distribution.probs
    mixing = dist.Categorical(jnp.asarray(weights / weights.sum(), probs.dtype))
    return Flow(dist.MixtureSameFamily(mixing, base.component_distribution), flow.bijection)
