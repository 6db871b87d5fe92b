"""What weights of a fit's own draws cannot show: its tails, impropriety, and supports that saturate."""

import math
from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from pushforward.flow import Flow
from pushforward.posterior.target import Target
from pushforward.posterior.verdict.missed import Effect
from pushforward.posterior.verdict.pareto import MAX_KHAT, pareto_smooth
from pushforward.posterior.verdict.propriety import is_improper
from pushforward.posterior.verdict.saturation import is_saturated, saturated_mass
from pushforward.posterior.verdict.tails import Excess, measure_excess

# The largest fractions that count as none: missed evidence, mass where supports saturate, draws with unknown density.
MISSED_MASS = 0.02
SATURATED_MASS = 0.005
UNKNOWN = 0.01
# The largest relative error of a standard deviation.
MAX_SD_ERROR = 0.05
SATURATED = (
    "About {:.1%} of the posterior lies where numbers of a support are equal in floating point, as 1 and 1 - 1e-17 "
    "are, so its density cannot be computed there."
)


class Examination(NamedTuple):
    """What was found.

    Attributes:
        doubts: reasons why the fit is unreliable.
        flaws: reasons why its draws cannot be used as they are.
        uncorrected: reasons why weights do not correct the draws, if they cannot be used as they are.
        evidence: the log evidence and its standard error, if the fit's own draws do not show it; else None.
        lacking: points in places of much evidence that the fit lacks, if some were found; else None.
        complete: whether everything was examined.
    """

    doubts: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    uncorrected: tuple[str, ...] = ()
    evidence: tuple[float, float] | None = None
    lacking: Float[np.ndarray, "points dim"] | None = None
    complete: bool = False

    def with_effect(self, effect: Effect) -> "Examination":
        """What was found, with the effect of modes that the fit misses, if that is not small.

        Args:
            effect: what the modes change.
        """
        if effect.sd <= MAX_SD_ERROR:
            return self
        error = f"the standard deviation of {effect.name} is too small by about {effect.sd:.0%}"
        reason = (
            f"A mode with about {effect.mass:.1g} of the evidence, which the fit does not have, is so far away "
            f"that {error} and its mean off by {effect.shift:.2g} standard deviations; weights cannot correct this."
        )
        return self._replace(flaws=(*self.flaws, error), uncorrected=(reason, *self.uncorrected))


def examine(
    target: Target,
    flow: Flow,
    draws: Float[np.ndarray, "draws dim"],
    log_weights: Float[np.ndarray, " draws"],
    key: PRNGKeyArray,
) -> Examination:
    """Examine a fit where it has few draws or none.

    Args:
        target: the target of the fit.
        flow: the fit, in unconstrained coordinates.
        draws: draws of the fit, in unconstrained coordinates.
        log_weights: log p - log q of the draws, some of them finite.
        key: for further draws.
    """
    tail_key, line_key = jr.split(key)
    finite = np.isfinite(draws).all(1)
    # In many dimensions the draws are most of the memory, so they are copied only if necessary.
    draws, log_weights = (x if finite.all() else x[finite] for x in (draws, log_weights))
    draws, log_weights = (np.asarray(x, float) for x in (draws, log_weights))
    log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf)
    if not np.isfinite(log_weights).any():
        return Examination()
    saturated = saturated_mass(target, draws, np.exp(log_weights - log_weights.max()))
    # A density that cannot be computed says nothing about the evidence, however large it seems.
    log_weights = np.where(is_saturated(target, draws), -np.inf, log_weights)
    if not np.isfinite(log_weights).any():
        return Examination((SATURATED.format(1.0),), evidence=(math.nan, math.inf))
    excess = measure_excess(target, flow, draws, log_weights, tail_key)
    doubts, flaws = [], []
    if is_improper(target, draws, line_key):
        doubts.append(
            "The log-density does not fall along a line far outside of the fit: the posterior is improper. Give every "
            "parameter a proper prior."
        )
    if excess.unknown > UNKNOWN:
        doubts.append(f"The log-density is NaN, infinite or rounding noise at {excess.unknown:.1%} of the draws.")
    if excess.mass - 2 * excess.mass_se > MISSED_MASS:
        doubts.append(
            f"About {excess.mass / (1 + excess.mass):.0%} of the evidence lies in the tails of the fit, where it has "
            "few draws."
        )
    elif excess.mass + 2 * excess.mass_se > MISSED_MASS:
        flaws.append(f"the evidence in its tails may be {excess.mass + 2 * excess.mass_se:.1%} larger than in the fit")
    if saturated > SATURATED_MASS:
        doubts.append(SATURATED.format(min(saturated, 1.0)))
    if abs(excess.sd) + excess.sd_se > MAX_SD_ERROR:
        flaws.append(f"a standard deviation is off by {abs(excess.sd):.1%} ± {excess.sd_se:.1%}")
    uncorrected = ()
    if excess.sd_left > MAX_SD_ERROR:
        uncorrected = (
            f"Because of the tails of the fit, a standard deviation of its weighted draws is off by about "
            f"{excess.sd_left:.0%}; Markov chains from the fit (refine) correct it.",
        )
    evidence = _evidence(log_weights, excess, saturated)
    return Examination(tuple(doubts), tuple(flaws), uncorrected, evidence, excess.lacking, complete=True)


def _evidence(log_weights: Float[np.ndarray, " draws"], excess: Excess, saturated: float) -> tuple[float, float] | None:
    """The log evidence with tails, unless the fit's own draws show it more precisely, and its standard error."""
    weights = np.exp(log_weights - log_weights.max())
    estimate = float(log_weights.max() + math.log(weights.mean()))
    error = float(weights.std() / weights.mean() / math.sqrt(len(weights)))
    # If a fraction of the mass is unknown, the evidence may be larger by this factor.
    unseen = [-math.log1p(-part) if part < 1 else math.inf for part in (saturated, excess.unknown)]
    precise = pareto_smooth(log_weights)[1] <= MAX_KHAT and error <= excess.mass_se
    if precise and abs(excess.mass) < 3 * math.hypot(excess.mass_se, error):
        return None if not saturated else (estimate, math.hypot(error, *unseen))
    ratio = max(1 + excess.mass, 0.5)
    return estimate + math.log(ratio), math.hypot(excess.mass_se / ratio, *unseen)
