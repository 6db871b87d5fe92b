"""Modes that the search has found and a fit does not have: how much mass is there, and what does it change?

A mode with little mass can be so far away that it changes a standard deviation: with a share s of the mass at a
distance of d standard deviations, the variance is larger by s d^2.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.flow import Flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.latent import BATCH, has_supports, latent_values, map_parts
from pushforward.posterior.rounding import cautious_log_density, is_noise
from pushforward.posterior.search.candidates import MIN_DISTANCE, Candidate, is_near_mode
from pushforward.posterior.target import Target, finite_or_zero
from pushforward.posterior.thinning import thinned
from pushforward.training.compilation import jit_quick_compilation, split

# A fit misses evidence where the posterior density is more than this times its own.
MISSED_RATIO = 10.0
FIRST_BATCH = 256  # the number of draws that decide whether a candidate gets BATCH draws
# A candidate gets BATCH draws if the first ones show at least this fraction of missed evidence, or if they show that it
# raises a variance by this fraction.
MIN_MISSED, MIN_RAISED = 1e-4, 0.02
# A few draws with large weights are not enough evidence of a mode.
MIN_ESS = 20
# The number of draws of the fit that show the means and standard deviations of the latent values.
NUM_DRAWS = 10_000


class Effect(NamedTuple):
    """What missed modes change in the marginal distribution of the latent value that they change most.

    Attributes:
        name: the name of the value.
        sd: the fraction by which its standard deviation in the fit is too small.
        shift: the change of its mean, in standard deviations of the fit.
        mass: the missed mass, as a fraction of the evidence.
    """

    name: str
    sd: float
    shift: float
    mass: float


class Missed(NamedTuple):
    """What a fit misses near candidates.

    Attributes:
        mass: the missed mass, as a fraction of the evidence.
        complete: whether all candidates were examined.
        effect: what it changes; None if there is none.
    """

    mass: float
    complete: bool
    effect: Effect | None


class _Marginals:
    """Powers of the latent values, in standard deviations from their means in the fit."""

    def __init__(self, target: Target, draws: np.ndarray, log_weights: np.ndarray):
        self._target = target
        usable = np.flatnonzero(np.isfinite(log_weights) & np.isfinite(draws).all(1))
        usable = thinned(usable, NUM_DRAWS)
        weights = np.exp(log_weights[usable] - log_weights[usable].max())
        weights /= weights.sum()
        values = self._values(draws[usable])
        with np.errstate(all="ignore"):
            self._mean = weights @ values
            self._sd = np.sqrt(weights @ (values - self._mean) ** 2)

    def _values(self, u: np.ndarray) -> np.ndarray:
        return latent_values(self._target, u) if has_supports(self._target) else u

    @property
    def names(self) -> list[str]:
        names = self._target.coordinate_names()
        return names if len(names) == len(self._mean) else [f"number {i} of the draw" for i in range(len(self._mean))]

    def moments(self, u: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The first and second moments of weighted draws, each 0 where it depends on a few draws or is not finite."""
        with np.errstate(all="ignore"):
            deviations = (self._values(u) - self._mean) / self._sd
            powers = weights[:, None] * np.stack([deviations, deviations**2])
            reliable = np.abs(powers).sum(1) ** 2 > MIN_ESS * (powers**2).sum(1)
        return np.where(reliable & np.isfinite(powers).all(1), powers.mean(1), 0.0)


def missed_modes(
    target: Target | Estimate,
    flow: Flow,
    found: tuple[Sequence[Candidate], Sequence[Candidate]],
    draws: Float[np.ndarray, "draws dim"],
    log_weights: Float[np.ndarray, " draws"],
    log_evidence: float,
    key: PRNGKeyArray,
    stop: Callable[[], bool],
) -> Missed:
    """What a fit misses near candidates.

    For one candidate this is the evidence near it in the region where the fit has less than a tenth of the posterior
    density. The sum is over candidates that are separate; many paths end at the same mode, which counts once. Draws of
    the fit do not show a mode that it does not have, but the Newton paths of the search may have found it, or paths
    from draws whose weights stand out.

    Args:
        target: the log-density.
        flow: the fit, in unconstrained coordinates.
        found: the candidates of the search, and those near draws whose weights stand out.
        draws: draws of the fit.
        log_weights: log p - log q of the draws, some of them finite.
        log_evidence: the logarithm of the evidence that they show.
        key: for draws of the candidates.
        stop: a function that returns whether to end early; it is called before each candidate.
    """
    # Only if a candidate needs them.
    whole = target.target if isinstance(target, Estimate) else target
    marginals = functools.cache(lambda: _Marginals(whole, draws, log_weights))
    complete, misses = True, []
    candidates = [candidate for part in found for candidate in part]
    keys = [*split(key, len(found[0])), *split(jr.fold_in(key, 3), len(found[1]))]
    for candidate, k in zip(candidates, keys, strict=True):
        if stop():
            complete = False
            break
        near = Flow(standard_normal(target.dim), candidate.affine)
        # The fit covers most candidates; a few draws are enough to see that.
        first = missed_draws(target, flow, near, log_evidence, k, FIRST_BATCH)
        if not _matters(*first, marginals):
            continue
        _, missed = missed_draws(target, flow, near, log_evidence, k, BATCH)
        if missed.sum() ** 2 > MIN_ESS * (missed**2).sum():
            misses.append((float(missed.mean()), candidate, k))
    separate: list[Candidate] = []
    total, moments = 0.0, np.zeros((2, 1))
    for _, candidate, k in sorted(misses, key=lambda each: -each[0]):
        if any(candidate.distance(other) <= MIN_DISTANCE for other in separate):
            continue
        separate.append(candidate)
        near = Flow(standard_normal(target.dim), candidate.affine)
        # The same draws again: to keep those of all candidates would take much memory.
        u, missed = missed_draws(target, flow, near, log_evidence, k, BATCH, draws)
        total += float(missed.mean())
        # A point in a tail is no mode: tails may have no variance, and are examined by their own draws.
        if is_near_mode(candidate, candidates):
            moments = moments + marginals().moments(u, missed)
    return Missed(total / (1 + total), complete, _effect(total, moments, marginals().names) if total > 0 else None)


def _matters(u: np.ndarray, missed: np.ndarray, marginals: Callable[[], _Marginals]) -> bool:
    """Whether draws show that much mass is missed, or some mass that is far away."""
    if missed.mean() >= MIN_MISSED:
        return True
    return bool(missed.any() and marginals().moments(u, missed)[1].max() >= MIN_RAISED)


def _effect(mass: float, moments: Float[np.ndarray, "2 values"], names: list[str]) -> Effect:
    """What mass that a fit misses changes, if it has these first and second moments."""
    shift = moments[0] / (1 + mass)
    variance = (1 + moments[1]) / (1 + mass) - shift**2
    errors = 1 - 1 / np.sqrt(np.maximum(variance, 1.0))
    worst = int(np.argmax(errors))
    return Effect(names[worst], float(errors[worst]), float(shift[worst]), mass / (1 + mass))


def missed_draws(
    target: Target | Estimate,
    flow: Flow,
    other: Flow,
    log_evidence: float,
    key: PRNGKeyArray,
    num: int,
    draws: Float[np.ndarray, "draws dim"] | None = None,
) -> tuple[Float[np.ndarray, "num dim"], Float[np.ndarray, " num"]]:
    """Draws of another distribution, and their importance weights, divided by the estimated evidence.

    They are 0 where the fit's density is at least a tenth of the estimated posterior density, and, if draws of the fit
    are given, where the posterior density is rounding noise unlike that of these draws.

    Args:
        target: the log-density.
        flow: the fit, in unconstrained coordinates.
        other: the other distribution.
        log_evidence: the logarithm of the estimated evidence.
        key: for the draws.
        num: the number of draws.
        draws: draws of the fit.
    """
    u, log_other, log_q = map(np.asarray, _log_ratios(target, flow, other, key, num))
    weights = np.exp(np.where(log_other - log_evidence < 30, log_other - log_evidence, 30))
    weights = np.where(log_q + log_evidence < -math.log(MISSED_RATIO), weights, 0.0)
    if draws is not None:
        largest = np.argsort(-weights, kind="stable")[: np.count_nonzero(weights)]
        weights[largest[is_noise(target, u[largest], draws)]] = 0.0
    return u, weights


@functools.partial(jit_quick_compilation, level=1)
def _log_ratios(target, flow, other, key, num) -> tuple[Array, Array, Array]:
    """Draws of the distribution `other`, and the logarithms of p / other and of q / p there, without rounding noise."""

    def cautious(u):
        return cautious_log_density(target, u)

    u, log_other = other.sample_and_log_prob(key, (num,))
    # A numerical inverse can fail only far from the draws of the flow.
    log_p, log_q = map_parts(lambda u: (jax.vmap(cautious)(u), flow.log_prob(u)), u)
    log_p, log_q = finite_or_zero(log_p), finite_or_zero(log_q)
    return u, log_p - log_other, log_q - log_p
