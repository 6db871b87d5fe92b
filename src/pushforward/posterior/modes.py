"""Posteriors with several modes: a mixture of their Gaussians as the base of the flow.

A flow over a Gaussian has to tear its base apart to cover two modes, and the reverse KL would rather leave one out.
Over a mixture with one component a mode, weighted by the evidences around them, it begins near the posterior.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import Triangular
from pushforward.flow import Flow
from pushforward.posterior.search import SMALLEST_SHARE
from pushforward.posterior.target import Whitened

NUM_DRAWS = 20_000


def with_moments(weights: np.ndarray, locs: np.ndarray, matrices: np.ndarray) -> Triangular:
    """The affine map that gives N(0, I) the moments of a mixture of Gaussians, each of them affine maps of N(0, I)."""
    mean = weights @ locs
    covariance = np.einsum("k,kij,klj->il", weights, matrices, matrices)
    covariance += np.einsum("k,ki,kj->ij", weights, locs - mean, locs - mean)
    return Triangular(len(mean), jnp.asarray(mean), jnp.asarray(np.linalg.cholesky(covariance)))


def pool(affines: Sequence[Triangular], log_evidences: Sequence[float]) -> tuple[Triangular, dist.Distribution]:
    """An affine map with the moments of a mixture of Gaussians, and the mixture in its coordinates.

    Args:
        affines: what makes each Gaussian from N(0, I).
        log_evidences: the logarithms of their weights, up to a constant.
    """
    weights = np.exp(np.asarray(log_evidences) - max(log_evidences))
    weights = weights / weights.sum()
    kept = weights > SMALLEST_SHARE
    weights = weights[kept] / weights[kept].sum()
    locs, matrices = (np.stack([np.asarray(getattr(a, n)) for a in affines])[kept] for n in ("loc", "matrix"))
    affine = with_moments(weights, locs, matrices)
    mean, factor = np.asarray(affine.loc), np.asarray(affine.matrix)
    inner_locs = np.linalg.solve(factor, (locs - mean).T).T
    inner = np.tril(np.linalg.solve(factor, matrices))
    parts = dist.MultivariateNormal(jnp.asarray(inner_locs), scale_tril=jnp.asarray(inner))
    return affine, dist.MixtureSameFamily(dist.Categorical(jnp.asarray(weights)), parts)


@eqx.filter_jit
def _shares(target: Whitened, flow: Flow, key: PRNGKeyArray) -> Float[Array, " modes"]:
    """The share of the target's mass in what each component of the base is carried to."""
    z = flow.base_distribution.sample(key, (NUM_DRAWS,))
    x, log_det = flow.bijection.batched("forward_and_log_det", (z.T,))
    log_base = flow.base_distribution.log_prob(z)
    log_weights = jax.lax.map(target, x.T, batch_size=1000) - log_base + log_det
    log_weights = jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)
    mixing = flow.base_distribution.mixing_distribution.probs
    parts = flow.base_distribution.component_distribution.log_prob(z[:, None])
    return jax.nn.softmax(log_weights) @ jax.nn.softmax(parts + jnp.log(mixing), axis=-1)


def reweigh(target: Whitened, flow: Flow, key: PRNGKeyArray) -> Flow:
    """The flow with the weights of its base's components as its own draws tell them.

    A flow hardly moves mass from mode to mode, and need not: the importance weights of draws say how much is where.
    """
    base = flow.base_distribution
    if not isinstance(base, dist.MixtureSameFamily):
        return flow
    shares = np.asarray(_shares(target, flow, key), float)
    if not np.isfinite(shares).all() or not (shares > 0).all():
        return flow
    probs: Any = base.mixing_distribution.probs
    mixing = dist.Categorical(jnp.asarray(shares / shares.sum(), probs.dtype))
    return Flow(dist.MixtureSameFamily(mixing, base.component_distribution), flow.bijection)
