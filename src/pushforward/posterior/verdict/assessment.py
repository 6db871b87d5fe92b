"""How good a flow is as a fit of a target: weights of fresh draws, and a search for mass that the flow misses."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.arguments import MAX_COUNT, Range, checked
from pushforward.bijections import Identity
from pushforward.flow import Flow, check_flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.latent import BATCH, map_parts
from pushforward.posterior.rounding import cautious_log_density, is_noise
from pushforward.posterior.search.candidates import MIN_DISTANCE, Candidate
from pushforward.posterior.search.census import Census
from pushforward.posterior.search.survey import Survey, num_affordable_draws, survey
from pushforward.posterior.spaces.large import LargeDataSpace
from pushforward.posterior.target import Target, Whitened, finite_or_zero
from pushforward.posterior.verdict.diagnostics import MIN_DRAWS, Diagnostics, diagnose
from pushforward.posterior.verdict.examination import examine
from pushforward.posterior.verdict.outliers import outlying_modes
from pushforward.training.compilation import jit_quick_compilation, one_blas_thread, split
from pushforward.training.devices import replicate, spread
from pushforward.training.interruption import never_stop

NUM_DRAWS, ENOUGH_DRAWS = 100_000, Range(MIN_DRAWS, MAX_COUNT)
FIRST_BATCH = 256  # the number of draws that decide whether a candidate gets BATCH draws
MIN_MISSED = 1e-4  # a candidate gets BATCH draws if the first ones show at least this fraction of missed evidence
DRAWS_PER_CALL = 2 * BATCH
DRAWS_OF_ALL_ROWS = 512  # the number of draws of which all rows of large data are evaluated at a time


@checked(eager=True, target=None, flow=None, num_draws=ENOUGH_DRAWS)
def assess(target: Target, flow: Flow, key: PRNGKeyArray, *, num_draws: int = NUM_DRAWS) -> Diagnostics:
    """Compute the diagnostics of any flow as a fit of a target.

    It does what `fit_posterior` does for its own flow: diagnostics on fresh draws, a search for missed modes, and a
    verdict.

    Args:
        target: the target of the fit.
        flow: a flow of shape (target.dim,), in the target's unconstrained coordinates, trained in any way.
        key: the key for all randomness.
        num_draws: the number of draws, at least 100. With large data there are fewer, but 512 or more.

    Raises:
        TypeError: if the target is not a `Target` or the flow is not a `Flow`.
        ValueError: if the flow has another shape or takes a condition, the log-density has no gradient, or num_draws
            is below 100.
    """
    return assess_with_draws(target, flow, key, num_draws)[0]


@one_blas_thread()
def assess_with_draws(
    target: Target, flow: Flow, key: PRNGKeyArray, num_draws: int
) -> tuple[Diagnostics, Float[np.ndarray, "draws dim"], Float[np.ndarray, " draws"]]:
    """The diagnostics of `assess`, with the draws in unconstrained coordinates and their log-weights.

    Args:
        target: as in `assess`.
        flow: as in `assess`.
        key: as in `assess`.
        num_draws: as in `assess`.

    Raises:
        TypeError: as `assess` raises it.
        ValueError: as `assess` raises it.
    """
    check_fit(target, flow)
    search_key, draw_key, missed_key = split(key, 3)
    found = survey(target, search_key)
    whitened, num_draws = Whitened(target, Identity((target.dim,))), num_affordable_draws(target, num_draws)
    draws, log_weights = weighted_draws(whitened, flow, draw_key, num_draws)
    return assess_draws(found, flow, draws, log_weights, missed_key), draws, log_weights


def check_fit(target: Target, flow: Flow) -> None:
    """Raise unless the flow can be a fit of the target.

    Args:
        target: a `Target`.
        flow: a flow of shape (target.dim,), without a condition.

    Raises:
        TypeError: if the target is not a `Target` or the flow is not a `Flow`.
        ValueError: if the flow has another shape or takes a condition.
    """
    if not isinstance(target, Target):
        raise TypeError(f"the target must be a pushforward.Target, but is a {type(target).__name__}.")
    check_flow(flow, (target.dim,), None, "the target in unconstrained coordinates")


def assess_draws(
    found: Survey,
    flow: Flow,
    draws: Float[np.ndarray, "draws dim"],
    log_weights: Float[np.ndarray, " draws"],
    key: PRNGKeyArray,
    notes: tuple[str, ...] = (),
    *,
    stop: Callable[[], bool] = never_stop,
) -> Diagnostics:
    """The diagnostics of weighted draws, including the mass that the flow misses, near other candidates and elsewhere.

    Args:
        found: what the search found: the neighborhoods of its candidates are searched for missed mass in its density,
            which is the target or, with large data, estimates of it.
        flow: the fit, in unconstrained coordinates.
        draws: draws of the flow, in unconstrained coordinates.
        log_weights: log p - log q of the draws.
        key: the key for draws of the candidates.
        notes: further sentences for the reasons.
        stop: a function that returns whether to end the search early; it is called before each candidate.
    """
    target = found.density
    if isinstance(target, Estimate):
        notes = (
            *notes,
            f"The weights are computed from all {target.space.num_rows:,} rows, for {len(log_weights):,} draws; the "
            "search for missed modes uses estimates from some rows.",
        )
    evidence = diagnose(log_weights).log_evidence
    missed, complete, examination = 0.0, True, None
    if math.isfinite(evidence):
        more = []
        # The density of an estimate from some rows is too noisy.
        if isinstance(target, Target) and not stop():
            examination = examine(target, flow, draws, log_weights, jr.fold_in(key, 1))
            if not examination.doubts:
                more = outlying_modes(target, flow, draws, log_weights, examination.lacking, jr.fold_in(key, 2))
        missed, complete = _missed_mass(target, flow, draws, (found.candidates, more), evidence, key, stop)
        unseen = _unseen_mass(found.census, draws, log_weights)
        if unseen > MIN_MISSED:
            missed = 1 - (1 - missed) / (1 + unseen)
            notes = (
                *notes,
                f"Probably about {unseen / (1 + unseen):.1%} of the evidence is in modes that the search did not find, "
                "because it reached others only once.",
            )
        complete = complete and not stop()
    if not complete:
        examination = None
        interrupted = "The diagnostics were interrupted: not all regions were searched for missed mass."
        notes = (*notes, interrupted)
    raised = _num_errors(target, draws[np.isneginf(log_weights)]) / len(draws)
    if raised > 0:
        notes = (f"The log-density raises an error at {raised:.2%} of the draws, which counts as zero density.", *notes)
    return diagnose(log_weights, draws=draws, missed_mass=missed, notes=notes, examination=examination)


def _num_errors(target: Target | Estimate, draws: np.ndarray) -> int:
    """The number of draws at which the log-density raises an error."""
    if not isinstance(target, Target) or not target.can_raise or not len(draws):
        return 0
    # Of one size, so that all fits share one program.
    parts = np.resize(draws, (math.ceil(len(draws) / BATCH), BATCH, draws.shape[1]))
    raised = np.concatenate([np.asarray(_raise(target, jnp.asarray(part))) for part in parts])
    return int(raised[: len(draws)].sum())


@jit_quick_compilation
def _raise(target, draws):
    return jax.vmap(target.raises)(draws)


def weighted_draws(
    target: Whitened, flow: Flow, key: PRNGKeyArray, num: int, *, stop: Callable[[], bool] = never_stop
) -> tuple[np.ndarray, np.ndarray]:
    """Draws in unconstrained coordinates, and their log-weights.

    Args:
        target: the target, in whitened coordinates.
        flow: the flow, in the same coordinates.
        key: the key for the draws.
        num: the number of draws.
        stop: a function that returns whether to end with fewer draws; it is called after each part of the draws.
    """
    parts = []
    at_once = DRAWS_OF_ALL_ROWS if _reads_all_rows(target) else DRAWS_PER_CALL
    for k in split(key, math.ceil(num / at_once)):
        parts.append(jax.block_until_ready(_compiled_batch(target, flow, k, at_once)))
        if stop():
            break
    draws, log_weights = zip(*parts, strict=True)
    return np.concatenate(draws)[:num], np.concatenate(log_weights)[:num]


def weighted_batch(target: Whitened, flow: Flow, key: PRNGKeyArray, num: int = DRAWS_PER_CALL) -> tuple[Array, Array]:
    """Some draws in unconstrained coordinates, and their log-weights, in the memory of a few draws.

    Args:
        target: the target, in whitened coordinates.
        flow: the flow, in the same coordinates.
        key: the key for the draws.
        num: the number of draws, at most BATCH or a multiple of it.
    """
    size = min(num, BATCH)
    base = flow.base_distribution

    def weigh(u):
        w, log_det = flow.bijection.batched.forward_and_log_det(u)
        w, log_q = spread((w, base.log_prob(u) - log_det))
        return target.affine.batched.forward(w), jax.vmap(target)(w) - log_q

    def batch(key):
        u = base.sample(key, (size,))
        # Each part would read the rows again.
        return weigh(u) if _reads_all_rows(target) else map_parts(weigh, u)

    draws, log_weights = jax.lax.map(batch, jr.split(key, num // size))
    return replicate((draws.reshape(-1, draws.shape[-1]), log_weights.reshape(-1)))


def _reads_all_rows(target: Whitened) -> bool:
    """Whether the density takes a pass through large data."""
    return isinstance(target.target, Target) and isinstance(target.target.space, LargeDataSpace)


# Almost all uses take the same number of draws, so that it is compiled once.
_compiled_batch = jit_quick_compilation(weighted_batch, level=1)


def _missed_mass(
    target: Target | Estimate,
    flow: Flow,
    draws: Float[np.ndarray, "draws dim"],
    found: tuple[Sequence[Candidate], Sequence[Candidate]],
    log_evidence: float,
    key: PRNGKeyArray,
    stop: Callable[[], bool],
) -> tuple[float, bool]:
    """The fraction of the evidence that the fit misses near candidates, and whether the search is complete.

    For one candidate this is the evidence near it in the region where the fit has less than a tenth of the posterior
    density. The sum is over candidates that are separate; many paths end at the same mode, which counts once. Draws of
    the fit do not show a mode that it does not have, but the Newton paths of the search may have found it (the first
    candidates), or paths from draws whose weights stand out (the second).
    """
    complete, misses = True, []
    candidates = [candidate for part in found for candidate in part]
    keys = [*split(key, len(found[0])), *split(jr.fold_in(key, 3), len(found[1]))]
    for candidate, k in zip(candidates, keys, strict=True):
        if stop():
            complete = False
            break
        other = Flow(standard_normal(target.dim), candidate.affine)
        # The fit covers most candidates; a few draws are enough to see that.
        if missed_weights(target, flow, other, log_evidence, k, FIRST_BATCH).mean() < MIN_MISSED:
            continue
        missed = missed_weights(target, flow, other, log_evidence, k, BATCH)
        # A single draw with a large weight is not enough evidence of a mode.
        if missed.sum() ** 2 > 20 * (missed**2).sum():
            misses.append((float(missed.mean()), candidate, k))
    separate: list[tuple[float, Candidate]] = []
    for _, candidate, k in sorted(misses, key=lambda each: -each[0]):
        if all(candidate.distance(other) > MIN_DISTANCE for _, other in separate):
            near = Flow(standard_normal(target.dim), candidate.affine)
            missed = missed_weights(target, flow, near, log_evidence, k, BATCH, draws).mean()
            separate.append((float(missed), candidate))
    total = sum(missed for missed, _ in separate)
    return total / (1 + total), complete


def _unseen_mass(
    census: Census, draws: Float[np.ndarray, "draws dim"], log_weights: Float[np.ndarray, " draws"]
) -> float:
    """The estimated mass of modes that the search did not find, relative to the mass that it found."""
    if not census.unseen:
        return 0.0
    usable = np.isfinite(draws).all(1) & np.isfinite(log_weights)
    weights = np.exp(log_weights[usable] - log_weights[usable].max())
    return census.separate(draws[usable], weights).unseen


def missed_weights(
    target: Target | Estimate,
    flow: Flow,
    other: Flow,
    log_evidence: float,
    key: PRNGKeyArray,
    num: int,
    draws: Float[np.ndarray, "draws dim"] | None = None,
) -> np.ndarray:
    """Importance weights of draws of another distribution, divided by the estimated evidence.

    They are 0 where the fit's density is at least a tenth of the estimated posterior density, and, if draws of the fit
    are given, where the posterior density is rounding noise unlike that of these draws.
    """
    u, log_other, log_q = _log_ratios(target, flow, other, key, num)
    weights = np.exp(np.where(log_other - log_evidence < 30, log_other - log_evidence, 30))
    weights = np.where(log_q + log_evidence < math.log(0.1), weights, 0.0)
    if draws is not None:
        largest = np.argsort(-weights, kind="stable")[: np.count_nonzero(weights)]
        weights[largest[is_noise(target, np.asarray(u)[largest], draws)]] = 0.0
    return weights


@functools.partial(jit_quick_compilation, level=1)
def _log_ratios(target, flow, other, key, num):
    """Draws of the distribution `other`, and the logarithms of p / other and of q / p there, without rounding noise."""

    def cautious(u):
        return cautious_log_density(target, u)

    u, log_other = other.sample_and_log_prob(key, (num,))
    # A numerical inverse can fail only far from the draws of the flow.
    log_p, log_q = map_parts(lambda u: (jax.vmap(cautious)(u), flow.log_prob(u)), u)
    log_p, log_q = finite_or_zero(log_p), finite_or_zero(log_q)
    return u, log_p - log_other, log_q - log_p
