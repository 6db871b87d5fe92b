"""Whether draws that the user gave agree with a fit, and which of them is at fault if not."""

import dataclasses
import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.flow import Flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.arviz import rhat_and_ess
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.latent import BATCH
from pushforward.posterior.search.candidates import gaussian_map
from pushforward.posterior.search.drawn_modes import gaussians_of
from pushforward.posterior.search.survey import num_affordable_draws
from pushforward.posterior.target import Target, finite_or_zero
from pushforward.posterior.thinning import thinned
from pushforward.posterior.verdict.diagnostics import Diagnostics
from pushforward.posterior.verdict.examination import MISSED_MASS
from pushforward.posterior.verdict.missed import missed_draws
from pushforward.training.compilation import in_batches_of, jit_quick_compilation
from pushforward.weights import effective_sample_size

# Where the fit has less than a tenth of the posterior's density, it has almost no draws.
LOG_COVERED = math.log(10.0)
# ArviZ needs this many draws of each chain.
MIN_FOR_RHAT = 4
MAX_RHAT = 1.1
# The largest difference of two distribution functions that counts as none, apart from sampling noise.
MAX_DIFFERENCE = 0.02
# The probability of a false alarm in all coordinates together.
SIGNIFICANCE = 1e-3
# An estimate of the evidence in a region needs at least this effective sample size.
MIN_ESS = 100

Verdict = Literal["agree", "fit at fault", "draws at fault", "undecided"]


class Agreement(eqx.Module):
    """How given draws compare with a fit.

    Attributes:
        verdict: "agree"; "fit at fault" or "draws at fault", if they differ; or "undecided".
        reason: the reason in a sentence.
        num_draws: the number of draws that were compared.
        rhat: the largest rank-normalized split R-hat of the draws.
        ess: the smallest effective sample size of the draws.
        uncovered: the fraction of draws where the fit has less than a tenth of the posterior's density, minus the
            fraction that the weights of the fit predict.
        difference: the largest difference of the distribution functions of the draws and of the weighted fit.
        coordinate: the unconstrained coordinate of that difference, or "the log-density".
    """

    verdict: Verdict
    reason: str
    num_draws: int
    rhat: float
    ess: float
    uncovered: float
    difference: float
    coordinate: str

    def applied(self, diagnostics: Diagnostics) -> Diagnostics:
        """The diagnostics with the reason; the verdict is "unreliable" if draws may show mass that the fit misses.

        Args:
            diagnostics: the diagnostics of the fit.
        """
        doubtful = self.verdict == "fit at fault" or (self.verdict == "undecided" and self.uncovered > MISSED_MASS)
        if not doubtful:
            return dataclasses.replace(diagnostics, reasons=(*diagnostics.reasons, self.reason))
        return dataclasses.replace(diagnostics, verdict="unreliable", reasons=(self.reason, *diagnostics.reasons))


def compare(
    density: Target | Estimate,
    target: Target,
    flow: Flow,
    diagnostics: Diagnostics,
    given: Float[np.ndarray, "chains draws dim"],
    draws: Float[np.ndarray, "fresh dim"],
    log_weights: Float[np.ndarray, " fresh"],
    key: PRNGKeyArray,
) -> Agreement:
    """Compare given draws with a fit.

    Args:
        density: the log-density that the fit was trained with.
        target: the target of the fit.
        flow: the fit, in unconstrained coordinates.
        diagnostics: the diagnostics of the fit.
        given: the given draws, as unconstrained vectors.
        draws: draws of the fit.
        log_weights: their log-weights.
        key: for further draws.
    """
    rhat, sizes = _chain_diagnostics(given)
    # Parts that can be evaluated in seconds; of the given draws from all chains.
    most = num_affordable_draws(target, BATCH)
    u, draws, log_weights = thinned(given.reshape(-1, target.dim), most), draws[:most], log_weights[:most]
    log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf).astype(float)
    if not np.isfinite(log_weights).any():
        reason = "The density is zero at all draws of the fit, so it cannot be compared with the given draws."
        return Agreement("undecided", reason, len(u), math.nan, math.nan, math.nan, math.nan, "")
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    log_ratio, log_p = _log_densities(target, flow, u)
    log_ratio = log_ratio - diagnostics.log_evidence
    bare = ~(log_ratio < LOG_COVERED)
    predicted = float(weights @ (log_weights - diagnostics.log_evidence > LOG_COVERED))
    size, fraction = effective_sample_size(weights), float(bare.mean())
    uncovered = fraction - predicted
    error = math.hypot(_binomial_error(fraction, len(u)), _binomial_error(predicted, size))
    columns = np.concatenate([u, log_p[:, None]], 1)
    sizes = np.minimum(np.append(sizes, _chain_diagnostics(log_p[None, :, None])[1]), len(u))
    names = [*target.coordinate_names(), "the log-density"]
    fresh = np.concatenate([draws, _log_densities(target, flow, draws)[1][:, None]], 1)
    differences = np.array([_difference(columns[:, i], fresh[:, i], weights) for i in range(len(names))])
    noise = math.sqrt(0.5 * math.log(2 * len(names) / SIGNIFICANCE)) * np.sqrt(1 / sizes + 1 / size)
    worst = int(np.argmax(differences - noise))

    def found(verdict: Verdict, reason: str) -> Agreement:
        return Agreement(
            verdict, reason, len(u), rhat, float(sizes.min()), uncovered, float(differences[worst]), names[worst]
        )

    if uncovered - 2 * error > MISSED_MASS:
        mass, reliable = _evidence_at(density, flow, u[bare], draws, diagnostics.log_evidence, key)
        where = f"{fraction:.1%} of the given draws lie where the fit has almost no density"
        if not reliable:
            return found("undecided", f"{where}, and the evidence there cannot be estimated.")
        if mass > MISSED_MASS:
            return found("fit at fault", f"{where}, and about {mass / (1 + mass):.1%} of the evidence is there.")
        return found(
            "draws at fault",
            f"{where}, but only about {mass:.1g} of the evidence is there: chains were stuck, or the draws are of "
            "another target.",
        )
    if diagnostics.verdict == "unreliable":
        return found("undecided", "The fit is unreliable, so it says nothing about the given draws.")
    if rhat > MAX_RHAT:
        return found("draws at fault", f"The chains of the given draws differ from each other: R-hat is {rhat:.2f}.")
    if differences[worst] - noise[worst] > MAX_DIFFERENCE:
        return found(
            "draws at fault",
            f"The distribution function of {names[worst]} differs by up to {differences[worst]:.1%} between the given "
            "draws and the fit, which covers them: the given draws have too few in some region, such as a mode that "
            "their chains did not reach.",
        )
    return found("agree", f"The fit agrees with the {len(u):,} given draws, as far as their number shows.")


def _binomial_error(fraction: float, size: float) -> float:
    return math.sqrt(max(0.0, fraction * (1 - fraction)) / size)


def _log_densities(
    target: Target, flow: Flow, u: Float[np.ndarray, "draws dim"]
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """The logarithms of p / q and of p at unconstrained vectors."""
    size = num_affordable_draws(target, BATCH)
    log_p, log_q = in_batches_of(lambda part: _compiled_densities(target, flow, part), u, size).T
    return log_p - log_q, log_p


@jit_quick_compilation
def _compiled_densities(target: Target, flow: Flow, u: Float[Array, "draws dim"]) -> Float[Array, "draws 2"]:
    # A numerical inverse can fail only far from the draws of the flow.
    return jnp.stack([jax.lax.map(target, u, batch_size=256), finite_or_zero(flow.log_prob(u))], 1)


def _evidence_at(
    density: Target | Estimate,
    flow: Flow,
    u: Float[np.ndarray, "draws dim"],
    draws: Float[np.ndarray, "fresh dim"],
    log_evidence: float,
    key: PRNGKeyArray,
) -> tuple[float, bool]:
    """The evidence around draws where the fit has little density, relative to its own, and whether that is reliable."""
    total, reliable = 0.0, True
    for i, (loc, factor) in enumerate(gaussians_of(u)):
        near = Flow(standard_normal(loc.size), gaussian_map(loc, factor))
        weights = missed_draws(density, flow, near, log_evidence, jr.fold_in(key, i), BATCH, draws)[1]
        total += float(weights.mean())
        reliable &= bool(weights.any()) and effective_sample_size(weights) > MIN_ESS
    return total, reliable


def _chain_diagnostics(
    columns: Float[np.ndarray, "chains draws columns"],
) -> tuple[float, Float[np.ndarray, " columns"]]:
    """The largest R-hat of halves of chains, and the effective sample size of each column.

    Chains too short for halves are taken as they are, and shorter ones one after the other, as a single chain.
    """
    if columns.shape[1] < MIN_FOR_RHAT:
        columns = columns.reshape(1, -1, columns.shape[-1])
    half = columns.shape[1] // 2
    parts = columns if half < MIN_FOR_RHAT else np.concatenate([columns[:, :half], columns[:, half : 2 * half]])
    rhats, sizes = rhat_and_ess(parts, ("bulk",))
    # NaN where a column is constant.
    sizes = np.where(np.isfinite(sizes), np.clip(sizes, 1, columns.shape[0] * columns.shape[1]), 1.0)
    return float(np.nanmax(rhats, initial=1.0)), sizes


def _difference(
    x: Float[np.ndarray, " draws"], y: Float[np.ndarray, " fresh"], weights: Float[np.ndarray, " fresh"]
) -> float:
    """The largest difference of the distribution functions of draws and of weighted draws."""
    values = np.concatenate([x, y])
    order = np.argsort(values, kind="stable")
    jumps = np.concatenate([np.full(len(x), 1 / len(x)), -weights])[order]
    values, sums = values[order], np.cumsum(jumps)
    # Only after all equal values.
    last = np.append(values[1:] != values[:-1], True)
    return float(np.abs(sums[last]).max())
