"""What a flow is worth as a fit of a target: fresh draws and their weights, and a search for what they miss."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import Triangular
from pushforward.flow import Flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.diagnostics import Diagnostics, diagnose
from pushforward.posterior.search import Candidate, candidates
from pushforward.posterior.target import Target, Whitened
from pushforward.training.compilation import compiled_fast, split

NUM_DRAWS = 100_000
BATCH = 4096  # draws at a time, which bounds the memory
FIRST_BATCH = 256  # draws of each candidate that show whether to look closer
SMALLEST_MISSED = 1e-4  # of the evidence: less is not looked at more closely
CALL = 2 * BATCH  # draws of one call


def assess(target: Target, flow: Flow, key: PRNGKeyArray, *, num_draws: int = NUM_DRAWS) -> Diagnostics:
    """Judge any flow as a fit of a target, as `fit_posterior` judges its own: on fresh draws, with a verdict.

    Args:
        target: what the flow should be.
        flow: of shape (target.dim,), in the target's unconstrained coordinates, however it was trained.
        key: for all randomness.
        num_draws: how many draws to judge by.

    Raises:
        ValueError: if the flow has another shape or takes a condition, or num_draws is below 100.
    """
    check_flow(target, flow)
    if num_draws < 100:
        raise ValueError(f"a flow is judged by 100 draws or more, got num_draws={num_draws}.")
    search_key, draw_key, missed_key = split(key, 3)
    found = candidates(target, target.start, search_key)
    draws, log_weights = weigh(Whitened(target, Triangular(target.dim)), flow, draw_key, num_draws)
    return judge(target, flow, found, draws, log_weights, missed_key)


def check_flow(target: Target, flow: Flow) -> None:
    """Raise unless the flow can be a fit of the target."""
    if not isinstance(target, Target):
        raise TypeError(f"the target must be a pushforward.Target, but is a {type(target).__name__}.")
    if flow.shape != (target.dim,) or flow.cond_shape is not None:
        raise ValueError(
            f"the flow must have shape ({target.dim},) and no condition, for the target has {target.dim} unconstrained "
            f"dimensions, but it has shape {flow.shape} and cond_shape {flow.cond_shape}."
        )


def judge(
    target: Target,
    flow: Flow,
    found: Sequence[Candidate],
    draws: Float[np.ndarray, "draws dim"],
    log_weights: Float[np.ndarray, " draws"],
    key: PRNGKeyArray,
    notes: tuple[str, ...] = (),
) -> Diagnostics:
    """The diagnostics of weighted draws, and of what the flow misses of the mass near other candidates."""
    evidence = diagnose(log_weights).log_evidence
    missed = _missed_mass(target, flow, found, evidence, key) if math.isfinite(evidence) else 0.0
    return diagnose(log_weights, draws=draws, missed_mass=missed, notes=notes)


def weigh(
    target: Whitened, flow: Flow, key: PRNGKeyArray, num: int, *, stop: Callable[[], bool] = lambda: False
) -> tuple[np.ndarray, np.ndarray]:
    """Draws in unconstrained coordinates, and their log-weights.

    Args:
        target: in whitened coordinates.
        flow: in the same coordinates.
        key: for the draws.
        num: how many.
        stop: asked before each part of the draws after the first; if it returns True, there are fewer draws.
    """
    parts = []
    for k in split(key, math.ceil(num / CALL)):
        if parts and stop():
            break
        parts.append(_weigh(target, flow, k))
    draws, log_weights = zip(*parts, strict=True)
    return np.concatenate(draws)[:num], np.concatenate(log_weights)[:num]


def weighted_draws(target: Whitened, flow: Flow, key: PRNGKeyArray) -> tuple[Array, Array]:
    """CALL draws in unconstrained coordinates, and their log-weights; the memory is that of BATCH draws."""

    def batch(key):
        w, log_q = flow.sample_and_log_prob(key, (BATCH,))
        return jax.vmap(target.affine.forward)(w), jax.vmap(target)(w) - log_q

    draws, log_weights = jax.lax.map(batch, jr.split(key, CALL // BATCH))
    return draws.reshape(-1, draws.shape[-1]), log_weights.reshape(-1)


# The same number of draws for every use, so that it is compiled once.
_weigh = compiled_fast(weighted_draws, level=1)


def _missed_mass(
    target: Target, flow: Flow, found: Sequence[Candidate], log_evidence: float, key: PRNGKeyArray
) -> float:
    """The share of the evidence near other candidates where the fit has under a tenth of the posterior's density.

    A fit cannot see a mode that it does not visit, but the paths that led elsewhere can.
    """
    most = 0.0
    for candidate, k in zip(found, split(key, len(found)), strict=True):
        other = Flow(standard_normal(target.dim), candidate.affine)
        # Most candidates lie where the fit goes, as a few draws tell.
        if _missed(target, flow, other, log_evidence, k, FIRST_BATCH).mean() < SMALLEST_MISSED:
            continue
        missed = _missed(target, flow, other, log_evidence, k, BATCH)
        # One lucky draw is no evidence of a mode.
        if missed.sum() ** 2 > 20 * (missed**2).sum():
            most = max(most, float(missed.mean()))
    return most / (1 + most)


def _missed(target: Target, flow: Flow, other: Flow, log_evidence: float, key: PRNGKeyArray, num: int) -> np.ndarray:
    """At draws of another distribution, their share of the evidence where the fit misses it, else 0."""
    log_other, log_q = _elsewhere(target, flow, other, key, num)
    weights = np.exp(np.where(log_other - log_evidence < 30, log_other - log_evidence, 30))
    return np.where(log_q + log_evidence < math.log(0.1), weights, 0.0)


@compiled_fast
def _elsewhere(target, flow, other, key, num):
    """At draws of another distribution: the logarithms of p / other and of q / p."""
    u, log_other = other.sample_and_log_prob(key, (num,))
    log_p = jax.vmap(target)(u)
    log_p = jnp.where(jnp.isnan(log_p), -jnp.inf, log_p)
    # An inverse that fails, fails far from where the flow goes.
    log_q = flow.log_prob(u)
    log_q = jnp.where(jnp.isnan(log_q), -jnp.inf, log_q)
    return log_p - log_other, log_q - log_p
