"""How good a flow is as a fit of a target: weights of fresh draws, and a search for mass that the flow misses."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.arguments import MAX_COUNT, Range, checked
from pushforward.bijections import Identity
from pushforward.flow import Flow, check_flow
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.latent import BATCH, map_parts
from pushforward.posterior.search.census import Census
from pushforward.posterior.search.survey import Survey, num_affordable_draws, survey
from pushforward.posterior.spaces.large import LargeDataSpace
from pushforward.posterior.target import Target, Whitened
from pushforward.posterior.verdict.diagnostics import MIN_DRAWS, Diagnostics, diagnose
from pushforward.posterior.verdict.examination import Examination, examine
from pushforward.posterior.verdict.missed import MIN_MISSED, missed_modes
from pushforward.posterior.verdict.outliers import outlying_modes
from pushforward.training.compilation import jit_quick_compilation, one_blas_thread, split
from pushforward.training.devices import replicate, spread
from pushforward.training.interruption import never_stop

NUM_DRAWS, ENOUGH_DRAWS = 100_000, Range(MIN_DRAWS, MAX_COUNT)
# The number of draws at a time, and half of it in more dimensions, where each takes longer.
DRAWS_PER_CALL, MANY_DIMS = 2 * BATCH, 512
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
    missed, complete, examination, modes = 0.0, True, None, None
    if math.isfinite(evidence):
        more = []
        # The density of an estimate from some rows is too noisy.
        if isinstance(target, Target) and not stop():
            examination = examine(target, flow, draws, log_weights, jr.fold_in(key, 1))
            if not examination.doubts:
                more = outlying_modes(target, flow, draws, log_weights, examination.lacking, jr.fold_in(key, 2))
        modes = missed_modes(target, flow, (found.candidates, more), draws, log_weights, evidence, key, stop)
        missed, complete = modes.mass, modes.complete
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
    if modes is not None and modes.effect is not None:
        examination = (examination or Examination()).with_effect(modes.effect)
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
    at_once = DRAWS_OF_ALL_ROWS if _reads_all_rows(target) else draws_per_call(flow.bijection.shape[0])
    for k in split(key, math.ceil(num / at_once)):
        parts.append(jax.block_until_ready(_compiled_batch(target, flow, k, at_once)))
        if stop():
            break
    draws, log_weights = zip(*parts, strict=True)
    return np.concatenate(draws)[:num], np.concatenate(log_weights)[:num]


def quick_diagnostics(target: Whitened, flow: Flow, key: PRNGKeyArray, num: int | None = None) -> Diagnostics:
    """The diagnostics of a few draws.

    Args:
        target: in whitened coordinates.
        flow: in the same coordinates.
        key: for the draws.
        num: the number of draws, by default `draws_per_call`.
    """
    num = draws_per_call(flow.bijection.shape[0]) if num is None else num
    return diagnose(weighted_draws(target, flow, key, num)[1])


def draws_per_call(dim: int) -> int:
    """The number of draws at a time.

    Args:
        dim: the dimension.
    """
    return DRAWS_PER_CALL if dim <= MANY_DIMS else DRAWS_PER_CALL // 2


def weighted_batch(target: Whitened, flow: Flow, key: PRNGKeyArray, num: int) -> tuple[Array, Array]:
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


def _unseen_mass(
    census: Census, draws: Float[np.ndarray, "draws dim"], log_weights: Float[np.ndarray, " draws"]
) -> float:
    """The estimated mass of modes that the search did not find, relative to the mass that it found."""
    if not census.unseen:
        return 0.0
    usable = np.isfinite(draws).all(1) & np.isfinite(log_weights)
    weights = np.exp(log_weights[usable] - log_weights[usable].max())
    return census.separate(draws[usable], weights).unseen
