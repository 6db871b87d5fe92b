"""Whether to trust a fit: importance weights, their tail, the evidence, and a verdict with its reasons."""

import math
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float

Verdict = Literal["good", "reweight", "unreliable"]

# The verdict's thresholds. KL(q || p) < 0.03 nats keeps a mean within 0.25 posterior standard deviations of the truth,
# for a Gaussian whose mean is off by d standard deviations has KL = d^2 / 2.
GOOD_GAP = 0.03
GOOD_ESS_FRACTION = 0.9
# Below this share of effective draws, weights are trusted only while their tail is seen to be light.
TRUSTED_ESS_FRACTION = 0.5
SMALLEST_ESS = 400
LARGEST_KHAT = 0.7
MISSED_MASS = 0.02
# How far, in standard deviations, the draws' mean may be from the weighted one.
LARGEST_SHIFT = 0.1


class Diagnostics(eqx.Module):
    """How good a fit is, measured on fresh draws.

    Attributes:
        elbo: the mean of the log-weights log p(u) - log q(u), a lower bound of the log evidence, in nats.
        elbo_se: its standard error.
        log_evidence: log of the mean weight, an estimate of the log of the target's normalising constant.
        log_evidence_se: its standard error (delta method).
        khat: shape of the generalised Pareto distribution fitted to the largest weights; above 0.7 the weights'
            mean is not to be relied on.
        ess: the effective number of draws after weighting, (sum w)^2 / sum w^2.
        ess_fraction: ess / num_draws.
        num_draws: how many fresh draws all this is from.
        verdict: "good" (use the draws), "reweight" (use `Posterior.resample`) or "unreliable".
        reasons: why, one sentence each.
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

    @property
    def gap(self) -> float:
        """The estimate of KL(q || p): log_evidence - elbo, in nats."""
        return self.log_evidence - self.elbo


def diagnose(
    log_weights: Float[np.ndarray, " draws"],
    *,
    draws: Float[np.ndarray, "draws dim"] | None = None,
    missed_mass: float = 0.0,
    notes: tuple[str, ...] = (),
) -> Diagnostics:
    """Judge a fit by the log-weights log p - log q of draws from q.

    Args:
        log_weights: at least 100 of them; -inf where p vanishes, NaN counts as -inf and is reported.
        draws: the draws themselves, whose means are compared with the weighted ones: a few draws from far beyond the
            posterior hardly count in the divergence, but in a mean they do.
        missed_mass: the share of the evidence that is known to lie where q hardly goes.
        notes: what else is to be said among the reasons.
    """
    log_weights = np.asarray(log_weights, float)
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
    ess = float(weights.sum() ** 2 / (weights**2).sum())
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
    doubts = []
    zero = float((finite == -np.inf).mean() - bad.mean())
    if zero > 0:
        outside = f"The density is zero at {zero:.2%} of the draws; where it has bounds, declare them as its support."
        notes = (outside, *notes)
    if bad.any():
        doubts.append(f"The density is NaN or infinite at {bad.mean():.2%} of the draws.")
    if missed_mass > MISSED_MASS:
        doubts.append(f"About {missed_mass:.0%} of the evidence lies in another region, where the fit hardly goes.")
    shift = 0.0 if draws is None else largest_shift(draws, weights)
    gap = numbers["log_evidence"] - elbo
    verdict, reasons = judge(gap, ess, ess / num_draws, numbers["khat"], tuple(doubts), shift=shift)
    return Diagnostics(**numbers, verdict=verdict, reasons=(*reasons, *notes))


def judge(
    gap: float, ess: float, ess_fraction: float, khat: float, doubts: tuple[str, ...] = (), *, shift: float = 0.0
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons.

    k-hat alone is wrong both ways: it can be small for a fit that is 24 nats off, and large for one that is nearly
    exact but has a heavier tail. So the evidence gap and the effective draws decide, and k-hat only says whether
    the weights of a middling fit can be relied on.
    """
    divergence = f"about {gap:.3g} nats" if math.isfinite(gap) else "infinite"
    facts = f"the KL divergence is {divergence} and {ess_fraction:.1%} of the draws are effective"
    # Of equally good draws the means differ by chance.
    allowed = LARGEST_SHIFT + 3 * math.sqrt(max(0.0, 1 - ess_fraction) / ess) if ess > 0 else 0.0
    if doubts:
        return "unreliable", (*doubts, f"Otherwise {facts}.")
    if not shift <= allowed:
        facts += f", but the draws' mean is {shift:.2g} standard deviations from the weighted one"
    elif gap < GOOD_GAP and ess_fraction > GOOD_ESS_FRACTION:
        return "good", (f"{facts[0].upper()}{facts[1:]}: the draws can be used as they are.",)
    if ess < SMALLEST_ESS:
        return "unreliable", (
            f"Only about {ess:.0f} draws are effective, and {facts}: the fit is far from the "
            "posterior, and weights cannot mend it.",
        )
    if not khat <= LARGEST_KHAT and ess_fraction < TRUSTED_ESS_FRACTION:
        return "unreliable", (
            f"K-hat is {khat:.2f}, above {LARGEST_KHAT}, with {ess_fraction:.1%} of the draws effective: the largest "
            "weights dominate, and the evidence and the weighted draws cannot be relied on.",
        )
    return "reweight", (f"{facts[0].upper()}{facts[1:]}: use resample(), which corrects the draws by their weights.",)


def largest_shift(draws: Float[np.ndarray, "draws dim"], weights: Float[np.ndarray, " draws"]) -> float:
    """The largest distance of a coordinate's mean from its weighted mean, in weighted standard deviations."""
    shares = weights / weights.sum()

    def shift(column: np.ndarray) -> np.floating:
        deviations = column - shares @ column
        return np.abs(deviations.mean()) / np.sqrt(shares @ deviations**2)

    # Column by column, for all at once might not fit into the memory; what is not finite is infinitely far.
    with np.errstate(all="ignore"):
        shifts = np.array([shift(column.astype(float)) for column in draws.T])
    return float(np.where(np.isnan(shifts), np.inf, shifts).max())


def pareto_smooth(log_weights: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], float]:
    """Pareto-smoothed log-weights, normalised to sum to one, and k-hat.

    The largest min(n/5, 3 sqrt(n)) weights are replaced by the quantiles of a generalised Pareto distribution fitted
    to them, and none may exceed the largest raw weight.

    References:
        Vehtari et al., Pareto Smoothed Importance Sampling (2024). https://arxiv.org/abs/1507.02646
    """
    smoothed = np.array(log_weights, float)
    smoothed -= smoothed.max()
    n = smoothed.size
    num_tail = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    order = np.argsort(smoothed, kind="stable")
    tail = order[n - num_tail :]
    cutoff = max(smoothed[order[n - num_tail - 1]], math.log(np.finfo(float).tiny))
    excess = np.exp(smoothed[tail]) - math.exp(cutoff)
    if excess[-1] <= 1e-10:
        khat = 0.0  # weights that are equal, up to rounding, have no tail
    elif num_tail < 5 or excess[_quartile(num_tail)] <= 0:
        khat = math.inf  # a few weights have it all: too few to fit a shape to
    else:
        khat, scale = fit_generalized_pareto(excess)
        probabilities = (np.arange(num_tail) + 0.5) / num_tail
        survival = np.log1p(-probabilities)
        quantiles = scale * (np.expm1(-khat * survival) / khat if khat else -survival)
        smoothed[tail] = np.minimum(np.log(quantiles + math.exp(cutoff)), 0.0)
    return smoothed - _log_sum_exp(smoothed), khat


def fit_generalized_pareto(excess: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution, given increasing excesses over its threshold.

    The profile posterior mean of Zhang and Stephens, its shape drawn to 0.5 by a prior worth ten observations.

    References:
        Zhang and Stephens, A New and Efficient Estimation Method for the Generalized Pareto Distribution (2009).
        Vehtari et al. (2024), appendix C.
    """
    n = excess.size
    num_grid = 30 + int(math.sqrt(n))
    quartile = excess[_quartile(n)]
    grid = (1 - np.sqrt(num_grid / (np.arange(num_grid) + 0.5))) / (3 * quartile) + 1 / excess[-1]
    shapes = np.log1p(-grid[:, None] * excess).mean(1)
    log_likelihood = n * (np.log(-grid / shapes) - shapes - 1)
    posterior = np.exp(log_likelihood - _log_sum_exp(log_likelihood))
    theta = float(posterior @ grid)
    shape = float(np.log1p(-theta * excess).mean())
    return (n * shape + 5) / (n + 10), -shape / theta


def _quartile(n: int) -> int:
    return int(n / 4 + 0.5) - 1


def _log_sum_exp(a: np.ndarray) -> float:
    top = a.max()
    return float(top + np.log(np.exp(a - top).sum()))
