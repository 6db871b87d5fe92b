"""How good a flow is as a fit of a target: weights of fresh draws, and a search for mass that the flow misses."""

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
from pushforward.posterior.search import Candidate, find_candidates
from pushforward.posterior.target import Target, Whitened
from pushforward.training.compilation import jit_quick_compilation, split
from pushforward.training.interruption import never_stop

NUM_DRAWS = 100_000
MIN_DRAWS = 100
BATCH = 4096  # draws at a time, which bounds the memory
FIRST_BATCH = 256  # draws of each candidate that decide whether it gets more draws
MIN_MISSED = 1e-4  # candidates that show less missed evidence get no more draws
CALL = 2 * BATCH  # draws of one call


def assess(target: Target, flow: Flow, key: PRNGKeyArray, *, num_draws: int = NUM_DRAWS) -> Diagnostics:
    """Judge any flow as a fit of a target, as `fit_posterior` judges its own flow: on fresh draws, with a verdict.

    Args:
        target: what the flow should fit.
        flow: of shape (target.dim,), in the target's unconstrained coordinates, trained in any way.
        key: the key for all randomness.
        num_draws: the number of draws, at least 100.

    Raises:
        ValueError: if the flow has another shape or takes a condition, or num_draws is below 100.
    """
    check_flow(target, flow)
    if num_draws < MIN_DRAWS:
        raise ValueError(f"a flow is judged by {MIN_DRAWS} draws or more, got num_draws={num_draws}.")
    search_key, draw_key, missed_key = split(key, 3)
    found = find_candidates(target, target.start, search_key)
    draws, log_weights = weighted_draws(Whitened(target, Triangular(target.dim)), flow, draw_key, num_draws)
    return assess_draws(target, flow, found, draws, log_weights, missed_key)


def check_flow(target: Target, flow: Flow) -> None:
    """Raise unless the flow can be a fit of the target.

    Args:
        target: a `Target`.
        flow: of shape (target.dim,), without a condition.

    Raises:
        TypeError: if the target is not a `Target`.
        ValueError: if the flow has another shape or takes a condition.
    """
    if not isinstance(target, Target):
        raise TypeError(f"the target must be a pushforward.Target, but is a {type(target).__name__}.")
    if flow.shape != (target.dim,) or flow.cond_shape is not None:
        raise ValueError(
            f"the target has {target.dim} unconstrained dimensions, so the flow must have shape ({target.dim},) and no "
            f"condition, but it has shape {flow.shape} and cond_shape {flow.cond_shape}."
        )


def assess_draws(
    target: Target,
    flow: Flow,
    found: Sequence[Candidate],
    draws: Float[np.ndarray, "draws dim"],
    log_weights: Float[np.ndarray, " draws"],
    key: PRNGKeyArray,
    notes: tuple[str, ...] = (),
    *,
    stop: Callable[[], bool] = never_stop,
) -> Diagnostics:
    """The diagnostics of weighted draws, including the mass near other candidates that the flow misses.

    Args:
        target: what the flow should fit.
        flow: in unconstrained coordinates.
        found: candidates of `search`; their neighborhoods are searched for missed mass.
        draws: of the flow, in unconstrained coordinates.
        log_weights: log p - log q of the draws.
        key: the key for draws of the candidates.
        notes: further sentences for the reasons.
        stop: whether to end the search early; it is called before each candidate.
    """
    evidence = diagnose(log_weights).log_evidence
    missed, complete = 0.0, True
    if math.isfinite(evidence):
        missed, complete = _missed_mass(target, flow, found, evidence, key, stop)
    if not complete:
        notes = (*notes, "The fit was interrupted while it was judged: not all regions were searched for missed modes.")
    return diagnose(log_weights, draws=draws, missed_mass=missed, notes=notes)


def weighted_draws(
    target: Whitened, flow: Flow, key: PRNGKeyArray, num: int, *, stop: Callable[[], bool] = never_stop
) -> tuple[np.ndarray, np.ndarray]:
    """Draws in unconstrained coordinates, and their log-weights.

    Args:
        target: in whitened coordinates.
        flow: in the same coordinates.
        key: the key for the draws.
        num: the number of draws.
        stop: whether to end with fewer draws; it is called after each part of them.
    """
    parts = []
    for k in split(key, math.ceil(num / CALL)):
        parts.append(jax.block_until_ready(_compiled_batch(target, flow, k)))
        if stop():
            break
    draws, log_weights = zip(*parts, strict=True)
    return np.concatenate(draws)[:num], np.concatenate(log_weights)[:num]


def weighted_batch(target: Whitened, flow: Flow, key: PRNGKeyArray) -> tuple[Array, Array]:
    """CALL draws in unconstrained coordinates, and their log-weights, in the memory of BATCH draws.

    Args:
        target: in whitened coordinates.
        flow: in the same coordinates.
        key: the key for the draws.
    """

    def batch(key):
        w, log_q = flow.sample_and_log_prob(key, (BATCH,))
        return jax.vmap(target.affine.forward)(w), jax.vmap(target)(w) - log_q

    draws, log_weights = jax.lax.map(batch, jr.split(key, CALL // BATCH))
    return draws.reshape(-1, draws.shape[-1]), log_weights.reshape(-1)


# All uses take the same number of draws, so that it is compiled once.
_compiled_batch = jit_quick_compilation(weighted_batch, level=1)


def _missed_mass(
    target: Target,
    flow: Flow,
    found: Sequence[Candidate],
    log_evidence: float,
    key: PRNGKeyArray,
    stop: Callable[[], bool],
) -> tuple[float, bool]:
    """The fraction of the evidence near a candidate where the fit has less than a tenth of the posterior's density.

    The draws of a fit do not show a mode that it does not have, but Newton paths may have led there. Returns the
    largest fraction of all candidates, and whether the search is complete.
    """
    most, complete = 0.0, True
    for candidate, k in zip(found, split(key, len(found)), strict=True):
        if stop():
            complete = False
            break
        other = Flow(standard_normal(target.dim), candidate.affine)
        # The fit covers most candidates, which a few draws show.
        if _missed(target, flow, other, log_evidence, k, FIRST_BATCH).mean() < MIN_MISSED:
            continue
        missed = _missed(target, flow, other, log_evidence, k, BATCH)
        # A single draw with a large weight is not enough evidence of a mode.
        if missed.sum() ** 2 > 20 * (missed**2).sum():
            most = max(most, float(missed.mean()))
    return most / (1 + most), complete


def _missed(target: Target, flow: Flow, other: Flow, log_evidence: float, key: PRNGKeyArray, num: int) -> np.ndarray:
    """At draws of another distribution: their weights as fractions of the evidence where the fit misses it, else 0."""
    log_other, log_q = _log_ratios(target, flow, other, key, num)
    weights = np.exp(np.where(log_other - log_evidence < 30, log_other - log_evidence, 30))
    return np.where(log_q + log_evidence < math.log(0.1), weights, 0.0)


@jit_quick_compilation
def _log_ratios(target, flow, other, key, num):
    """At draws of another distribution: the logarithms of p / other and of q / p."""
    u, log_other = other.sample_and_log_prob(key, (num,))
    log_p = jax.vmap(target)(u)
    log_p = jnp.where(jnp.isnan(log_p), -jnp.inf, log_p)
    # A numerical inverse can fail only far from the draws of the flow.
    log_q = flow.log_prob(u)
    log_q = jnp.where(jnp.isnan(log_q), -jnp.inf, log_q)
    return log_p - log_other, log_q - log_p
