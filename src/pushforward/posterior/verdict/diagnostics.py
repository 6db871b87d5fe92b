"""Whether to trust a fit: ELBO, evidence and effective sample size, and a verdict with its reasons."""

import math
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float

from pushforward.arguments import Range, checked
from pushforward.posterior.verdict.examination import MAX_SD_ERROR, MISSED_MASS, Examination
from pushforward.posterior.verdict.missed import MISSED_RATIO
from pushforward.posterior.verdict.pareto import MAX_KHAT, pareto_smooth
from pushforward.reports.page import cell
from pushforward.reports.posterior import diagnostics_table
from pushforward.reports.verdicts import of_posterior
from pushforward.weights import effective_sample_size

Verdict = Literal["good", "reweight", "unreliable"]

# The verdict's thresholds. If the posterior is a Gaussian, a fit whose mean is off by d of its standard deviations has
# KL(q || p) >= d^2 / 2, so at a divergence below 0.03 nats a mean is within 0.25 standard deviations of the truth.
GOOD_GAP = 0.03
GOOD_ESS_FRACTION = 0.9
# If the effective sample size is below this fraction of the draws, weights are trusted only if their tail is light.
TRUSTED_ESS_FRACTION = 0.5
MIN_ESS = 400
# The smallest number of draws that can be diagnosed.
MIN_DRAWS = 100
# The largest distance of neighboring floating-point numbers at the size of the log-density, in nats.
MAX_SPACING = 0.1
# The largest distance between the mean of the draws and their weighted mean, in standard deviations.
MAX_SHIFT = 0.1
# From this dimension on, the reasons say what the divergence means for single coordinates.
PER_COORDINATE_DIM = 100


class Diagnostics(eqx.Module):
    """How good a fit is, measured on fresh draws.

    Attributes:
        elbo: the mean of the log-weights log p(u) - log q(u), a lower bound of the log evidence, in nats.
        elbo_se: the standard error of `elbo`.
        log_evidence: the logarithm of the mean weight, an estimate of the log of the target's normalizing constant.
        log_evidence_se: the standard error of `log_evidence` (delta method), which includes the rounding of large
            log-densities and the evidence that is known to be missed. If k-hat is above 0.7, or if draws far outside
            of the fit show more evidence, both are estimated with such draws.
        khat: the shape of the generalized Pareto distribution fitted to the largest weights; above 0.7 the mean of
            the weights is unreliable.
        ess: the effective sample size after weighting, (sum w)^2 / sum w^2.
        ess_fraction: ess / num_draws.
        num_draws: the number of fresh draws; 0 if the fit was interrupted before its diagnostics were computed.
        verdict: "good" (use the draws), "reweight" (use `Posterior.resample`) or "unreliable".
        reasons: the reasons of the verdict, one sentence each.
        finished: whether the training ended by itself, not by a spent budget, Ctrl-C or a callback.
    """

    elbo: float
    elbo_se: float
    log_evidence: float
    log_evidence_se: float
    khat: float
    ess: float
    ess_fraction: float
    num_draws: int
    verdict: Verdict
    reasons: tuple[str, ...]
    finished: bool = True

    @property
    def gap(self) -> float:
        """The estimate of KL(q || p): log_evidence - elbo, in nats."""
        return self.log_evidence - self.elbo

    def _repr_html_(self) -> str:
        return cell(of_posterior(self), diagnostics_table(self))


@checked(eager=True, log_weights=None, draws=None, missed_mass=Range(0, 1))
def diagnose(
    log_weights: Float[np.ndarray, " draws"],
    *,
    draws: Float[np.ndarray, "draws dim"] | None = None,
    missed_mass: float = 0.0,
    notes: tuple[str, ...] = (),
    examination: Examination | None = None,
) -> Diagnostics:
    r"""Compute the diagnostics of a fit from the log-weights $\log w_n = \log p(u_n) - \log q(u_n)$ of draws from $q$.

    The ELBO is $\frac1N \sum_n \log w_n$, the log evidence is $\log \frac1N \sum_n w_n$, and the difference estimates
    $\mathrm{KL}(q \| p)$. The effective sample size is $(\sum_n w_n)^2 / \sum_n w_n^2$.

    Args:
        log_weights: the log-weights of 100 or more draws; -inf where p is zero. NaN counts as -inf and is reported.
        draws: the draws themselves. Their means are compared with the weighted means, because a few draws far outside
            the posterior hardly change the divergence, but they do change a mean. Without an examination, their
            standard deviations are compared too.
        missed_mass: the fraction of the evidence that is known, or estimated, to lie where q has almost no mass.
        notes: further sentences for the reasons.
        examination: what was found where q has few draws, if it was examined.

    Returns:
        The estimates with their standard errors, the verdict and its reasons.

    Raises:
        ValueError: if log_weights is not a vector of 100 or more numbers, draws are not as many vectors, or missed_mass
            is not between 0 and 1.

    References:
        Vehtari et al., Pareto Smoothed Importance Sampling (2024), on k-hat.
        https://arxiv.org/abs/1507.02646
        Kong, A Note on Importance Sampling Using Standardized Weights (1992), on the effective sample size.

    Examples:
        >>> import numpy as np, pushforward as pf
        >>> noise = np.random.default_rng(0).normal(size=5000)
        >>> pf.diagnose(0.01 * noise).verdict, pf.diagnose(0.6 * noise).verdict, pf.diagnose(5 * noise).verdict
        ('good', 'reweight', 'unreliable')
    """
    log_weights = np.asarray(log_weights)
    _check_arguments(log_weights, draws)
    spacing = _spacing(log_weights)
    log_weights = log_weights.astype(float)
    bad = np.isnan(log_weights) | (log_weights == np.inf)
    finite = np.where(bad, -np.inf, log_weights)
    num_draws = finite.size
    if not np.isfinite(finite).any():
        reason = "The density is zero or not finite at every draw of the fit."
        nan, inf = math.nan, math.inf
        return Diagnostics(-inf, nan, -inf, nan, inf, 0.0, 0.0, num_draws, "unreliable", (reason, *notes))
    elbo = float(finite.mean())
    weights = np.exp(finite - finite.max())
    mean = float(weights.mean())
    ess = effective_sample_size(weights)
    numbers = {
        "elbo": elbo,
        "elbo_se": float(finite.std() / math.sqrt(num_draws)) if math.isfinite(elbo) else math.nan,
        "log_evidence": float(finite.max() + math.log(mean)),
        "log_evidence_se": float(weights.std() / mean / math.sqrt(num_draws)),
        "khat": pareto_smooth(finite)[1],
        "ess": ess,
        "ess_fraction": ess / num_draws,
        "num_draws": num_draws,
    }
    examination = examination or Examination()
    if examination.evidence is not None:
        numbers["log_evidence"], numbers["log_evidence_se"] = examination.evidence
    # The rounding error of a large constant is about the same at all draws, so their mean does not reduce it.
    numbers["elbo_se"] = math.hypot(numbers["elbo_se"], spacing / 2)
    missed_evidence = -math.log1p(-missed_mass) if missed_mass < 1 else math.inf
    numbers["log_evidence_se"] = math.hypot(numbers["log_evidence_se"], spacing / 2, missed_evidence)
    doubts = []
    zero = float((finite == -np.inf).mean() - bad.mean())
    if zero > 0:
        outside = f"The density is zero at {zero:.2%} of the draws; if it has bounds, declare them as its support."
        notes = (outside, *notes)
    if bad.any():
        doubts.append(f"The density is NaN or infinite at {bad.mean():.2%} of the draws.")
    if spacing > MAX_SPACING:
        doubts.append(
            f"The log-density is so large that its floating-point numbers are {spacing:.2g} nats apart: the weights "
            "are rounding noise. Use float64, or subtract a constant from the log-density."
        )
    if missed_mass > MISSED_MASS:
        doubts.append(f"About {missed_mass:.0%} of the evidence lies in another region, where the fit has few draws.")
    doubts += examination.doubts
    shift = 0.0 if draws is None else largest_shift(draws, weights)
    gap = numbers["log_evidence"] - elbo
    covered, where = _covered_sample_size(weights / mean) if examination.complete else (0.0, "")
    flaws = examination.flaws
    # An examination also knows the tails.
    if draws is not None and not examination.complete:
        error, error_se = largest_sd_error(draws, weights)
        if error - 3 * error_se > MAX_SD_ERROR:
            flaws = (f"a standard deviation is off by {error:.1%} ± {error_se:.1%}", *flaws)
    found = tuple(doubts), flaws, examination.uncorrected
    verdict, reasons = decide_verdict(
        gap, ess, ess / num_draws, numbers["khat"], *found, shift=shift, covered_fraction=covered / num_draws
    )
    if verdict == "good" and ess / num_draws <= GOOD_ESS_FRACTION:
        notes = (where, *notes)
    if verdict == "reweight" and draws is not None and draws.shape[1] >= PER_COORDINATE_DIM:
        notes = (_per_coordinate(gap, draws.shape[1]), *notes)
    return Diagnostics(**numbers, verdict=verdict, reasons=(*reasons, *notes))


def _covered_sample_size(weights: Float[np.ndarray, " draws"]) -> tuple[float, str]:
    """The effective sample size without what the fit misses, and a sentence about that; 0 if that is not little.

    A fit misses evidence where it has less than a tenth of the posterior density (as in `missed_modes`). One draw of
    100,000 there, with 0.5 % of the evidence, reduces the effective sample size to 30 %.

    Args:
        weights: the weights, divided by their mean.
    """
    missed = weights > MISSED_RATIO
    mass = float(weights[missed].sum() / len(weights))
    if mass > MISSED_MASS:
        return 0.0, ""
    covered = effective_sample_size(weights[~missed])
    sentence = (
        f"{np.count_nonzero(missed):,} of the draws, with {mass:.1%} of the evidence, lie where the fit has less than "
        f"a tenth of the posterior density; without them the effective sample size is {covered / len(weights):.1%}."
    )
    return covered, sentence


def _per_coordinate(gap: float, dim: int) -> str:
    """What the divergence of all coordinates means for one of them."""
    share = max(gap, 0.0) / dim
    return (
        f"The divergence is that of all {dim:,} coordinates together, on average {share:.1g} nats for each: evenly "
        f"spread, it shifts means by about {math.sqrt(2 * share):.1g} standard deviations. No coordinate has a larger "
        "divergence than all together."
    )


def _check_arguments(log_weights: np.ndarray, draws: np.ndarray | None) -> None:
    if log_weights.ndim != 1 or log_weights.size < MIN_DRAWS:
        raise ValueError(
            f"log_weights must be a vector of at least {MIN_DRAWS} numbers, one for each draw, but has the shape "
            f"{log_weights.shape}."
        )
    if draws is not None and (np.ndim(draws) != 2 or len(draws) != len(log_weights)):
        raise ValueError(
            f"draws must have the shape ({len(log_weights)}, dim), one for each of the log_weights, but have "
            f"the shape {np.shape(draws)}."
        )


def _spacing(log_weights: np.ndarray) -> float:
    """The distance of neighboring floating-point numbers at the median size of the log-weights, in their dtype."""
    dtype = log_weights.dtype if np.issubdtype(log_weights.dtype, np.floating) else np.dtype(float)
    sizes = np.abs(log_weights[np.isfinite(log_weights)])
    return float(np.spacing(np.median(sizes).astype(dtype))) if sizes.size else 0.0


def unassessed(notes: tuple[str, ...] = ()) -> Diagnostics:
    """The diagnostics of a fit that was interrupted before they were computed: its quality is unknown, so unreliable.

    Args:
        notes: further sentences for the reasons.
    """
    reasons = ("The fit was interrupted before its diagnostics were computed.", *notes)
    nan = math.nan
    return Diagnostics(nan, nan, nan, nan, nan, 0.0, 0.0, 0, "unreliable", reasons)


def decide_verdict(
    gap: float,
    ess: float,
    ess_fraction: float,
    khat: float,
    doubts: tuple[str, ...] = (),
    flaws: tuple[str, ...] = (),
    uncorrected: tuple[str, ...] = (),
    *,
    shift: float = 0.0,
    covered_fraction: float = 0.0,
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons.

    k-hat alone can be wrong in both directions: small for a fit that is 24 nats off, and large for a fit that is nearly
    exact but has a heavier tail. So the evidence gap and the effective sample size decide, and k-hat only shows
    whether the weights of a fit of medium quality are reliable.

    Args:
        gap: the estimate of KL(q || p), in nats.
        ess: the effective sample size.
        ess_fraction: ess / number of draws.
        khat: the shape of the tail of the weights.
        doubts: reasons why the fit is unreliable, independent of the other arguments.
        flaws: reasons why its draws cannot be used as they are, independent of the other arguments.
        uncorrected: reasons why weights do not correct the draws, if they cannot be used as they are.
        shift: the largest distance between the mean of the draws and their weighted mean, in standard deviations.
        covered_fraction: `ess_fraction` without draws where the fit misses a little of the evidence.
    """
    divergence = f"about {gap:.3g} nats" if math.isfinite(gap) else "infinite"
    size, flawed = f"the effective sample size is {ess_fraction:.1%} of the number of draws", ""
    facts = f"the KL divergence is {divergence} and {size}"
    # The two means also differ because of sampling noise.
    allowed = MAX_SHIFT + 3 * math.sqrt(max(0.0, 1 - ess_fraction) / ess) if ess > 0 else 0.0
    if doubts:
        return "unreliable", (*doubts, f"Apart from this, {facts}.")
    if not shift <= allowed:
        flaws = (f"the mean of the draws is {shift:.2g} standard deviations from their weighted mean", *flaws)
    if flaws:
        flawed = f", but {' and '.join(flaws)}"
        facts += flawed
    elif gap < GOOD_GAP and max(ess_fraction, covered_fraction) > GOOD_ESS_FRACTION:
        return "good", (f"{facts[0].upper()}{facts[1:]}: the draws can be used as they are.",)
    if uncorrected:
        return "unreliable", (*uncorrected, f"Apart from this, {facts}.")
    if ess < MIN_ESS:
        return "unreliable", (
            f"The effective sample size is only about {ess:.0f}, {ess_fraction:.1%} of the number of draws, and the KL "
            f"divergence is {divergence}{flawed}: the fit is far from the posterior, and weights cannot correct it.",
        )
    if not khat <= MAX_KHAT and ess_fraction < TRUSTED_ESS_FRACTION:
        return "unreliable", (
            f"K-hat is {khat:.2f}, above {MAX_KHAT}, and {size}: the largest weights dominate, so the evidence and the "
            "weighted draws are unreliable.",
        )
    return "reweight", (f"{facts[0].upper()}{facts[1:]}: use weighted draws, which correct the difference.",)


def largest_shift(draws: Float[np.ndarray, "draws dim"], weights: Float[np.ndarray, " draws"]) -> float:
    """The largest distance between the mean of a coordinate and its weighted mean, in weighted standard deviations.

    Args:
        draws: the draws; if values are infinite, the distance is infinite.
        weights: the weights of the draws, not negative, up to a constant factor.
    """
    normalized_weights = weights / weights.sum()

    def shift(column: np.ndarray) -> np.floating:
        deviations = column - normalized_weights @ column
        return np.abs(deviations.mean()) / np.sqrt(normalized_weights @ deviations**2)

    # One column at a time, to limit the memory. NaN means that values were infinite.
    with np.errstate(all="ignore"):
        shifts = np.array([shift(column.astype(float)) for column in draws.T])
    return float(np.where(np.isnan(shifts), np.inf, shifts).max())


def largest_sd_error(
    draws: Float[np.ndarray, "draws dim"], weights: Float[np.ndarray, " draws"]
) -> tuple[float, float]:
    """The largest relative error of a coordinate's standard deviation, as far as it is significant, and its own error.

    Args:
        draws: the draws; coordinates with values that are not finite are left out.
        weights: the weights of the draws, not negative, up to a constant factor.

    Returns:
        The error, in weighted standard deviations, and its standard error by the delta method.
    """
    normalized_weights = weights / weights.sum()

    def error(column: np.ndarray) -> tuple[float, float]:
        squares = (column - normalized_weights @ column) ** 2
        variance = normalized_weights @ squares
        spread = np.sqrt(np.sum((normalized_weights * (squares - variance)) ** 2)) / (2 * variance)
        return abs(column.std() / np.sqrt(variance) - 1), spread

    # One column at a time, to limit the memory.
    with np.errstate(all="ignore"):
        errors = [error(column.astype(float)) for column in draws.T]
    finite = [pair for pair in errors if np.isfinite(pair).all()]
    return max(finite, key=lambda pair: pair[0] - 3 * pair[1], default=(0.0, math.inf))
