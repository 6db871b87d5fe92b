"""What a fit starts from: Gaussians near the modes, and a log-density that is cheap enough to train with.

With large data the modes are found in the posterior of a random part of the rows, whose likelihood is scaled up to all.
Newton's method on all rows then moves each Gaussian to the mode of the whole posterior; that takes a few passes through
the data. Training and the search for missed modes use estimates from some of the rows, with control variates about
these modes (`estimate`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pushforward.generators import numpy_generator
from pushforward.posterior.curvature import check_gradient, inverse_factor
from pushforward.posterior.estimate import Derivatives, Estimate, Expansions, derivatives, noise
from pushforward.posterior.search.candidates import (
    MIN_DISTANCE,
    Candidate,
    apply,
    is_negligible,
    score_gaussians,
    separate_modes,
    usable,
)
from pushforward.posterior.search.census import Census
from pushforward.posterior.search.drawn_modes import drawn_modes, with_drawn
from pushforward.posterior.search.gaussians import find_candidates
from pushforward.posterior.search.newton import MAX_HESSIAN_DIM
from pushforward.posterior.search.sparse_gaussian import SparseMap, fit_sparse_gaussian
from pushforward.posterior.spaces.large import LargeDataSpace
from pushforward.posterior.structure import MAX_FULL_DIM, Structure
from pushforward.posterior.target import Target
from pushforward.training.compilation import jit_low_concurrency, one_blas_thread, split
from pushforward.training.devices import gather, on_mesh, place, replicate, spread
from pushforward.training.interruption import never_stop
from pushforward.training.processes import of_first

# The rows of the search: enough to determine each dimension.
MIN_SEARCH_ROWS, MAX_SEARCH_ROWS, SEARCH_ROWS_PER_DIM = 5_000, 20_000, 20
# Newton's method on all rows ends when the next step is shorter than this, in standard deviations.
MAX_STEPS, TOLERANCE = 20, 0.01
NUM_HALVINGS = 10
NUM_NOISE_DRAWS = 64
# An assessment evaluates at most this many pairs of a draw and a row, but has at least MIN_ASSESSED draws. A Hessian
# costs as many as it has columns.
MAX_PAIRS, MIN_ASSESSED = 1e9, 512
# A sparse Gaussian is preferred, having fewer numbers, if its ELBO is not lower by more than this (nats a dimension):
# the training that follows gains it.
MAX_LOSS = 0.01


class Survey(NamedTuple):
    """What a fit starts from.

    Attributes:
        modes: the best Gaussian of each mode, the best mode first.
        candidates: all Gaussians whose neighborhoods are searched for mass that a fit misses.
        density: the log-density for training: the target, or with large data estimates of it.
        census: how often the search reached each mode.
        sparse: the Gaussian with a sparse precision matrix, if few pairs of coordinates interact.
    """

    modes: list[Candidate]
    candidates: list[Candidate]
    density: Target | Estimate
    census: Census
    sparse: SparseMap | None = None


@one_blas_thread()
def survey(
    target: Target,
    key: PRNGKeyArray,
    *,
    structure: Structure | None = None,
    draws: Float[np.ndarray, "draws dim"] | None = None,
    stop: Callable[[], bool] = never_stop,
    mesh: Mesh | None = None,
) -> Survey:
    """The Gaussians near the modes of a target; none if the log-density is not finite at any starting point.

    Args:
        target: the target.
        key: for all randomness.
        structure: which coordinates interact, if the user gives it.
        draws: draws of the posterior that the user has, as unconstrained vectors; their modes join those of the search.
        stop: whether to end the search early.
        mesh: the devices that share the rows of a pass through large data; the rest of the search is on one device. Of
            several processes, all get what the first has found.

    Raises:
        ValueError: if the log-density has no gradient.
    """
    if not isinstance(target.space, LargeDataSpace):
        check_gradient(target, target.start)
        sparse = fit_sparse_gaussian(target, jr.fold_in(key, target.dim), given=structure, stop=stop)
        found = find_candidates(
            target, target.start, key, stop=stop, any_mass=sparse is None or target.dim <= MAX_FULL_DIM
        )
        found, sparse, drawn = of_first((found, sparse, _drawn(target, draws, key)), mesh)
        modes = with_drawn(found.modes, drawn) if drawn else found.modes
        candidates = sorted([*found.candidates, *drawn], key=lambda c: -c.elbo)
        if sparse is not None and modes and not _is_preferred(sparse, modes):
            sparse = None
        return Survey(modes, candidates, target, found.census, sparse)
    search_key, rows_key, batches_key, noise_key, score_key = split(key, 5)
    rows = _some_rows(target.space, target.dim, rows_key)
    part = Estimate(target, rows, None, batches_key)
    check_gradient(part, target.start)
    found = find_candidates(part, target.start, search_key, stop=stop)
    found, drawn = of_first((found, _drawn(part, draws, key)), mesh)
    if not found.modes and not drawn:
        return Survey([], [], part, found.census)
    # The evidence of a mode is as uncertain as the rows are few, so a mode must be negligible for these rows alone.
    relative = [[c._replace(elbo=c.elbo / part.factor) for c in each] for each in (found.candidates, drawn)]
    modes = separate_modes(relative[0]) if found.modes else []
    modes = with_drawn(modes, relative[1]) if drawn else modes
    placed = place(target, mesh)
    climbed = [each for each in (_climb(placed, mode, stop, mesh) for mode in modes) if np.isfinite(each[0].elbo)]
    if not climbed:
        return Survey([], [], part, found.census)
    climbed = _different(sorted(climbed, key=lambda each: -each[0].elbo))
    density = _with_least_noise(part, climbed, noise_key)
    scored = of_first(_scored(density, [c for c, _ in climbed] + modes, score_key), mesh)
    modes = separate_modes(sorted(scored, key=lambda c: -c.elbo)) if scored else []
    return Survey(modes, modes, density, found.census)


def _is_preferred(sparse: SparseMap, modes: list[Candidate]) -> bool:
    """Whether a sparse Gaussian is about as good as the best one near a mode, and there is no second mode.

    In more than MAX_FULL_DIM dimensions a mixture would take too long.
    """
    one_mode = len(modes) == 1 or len(sparse.order) > MAX_FULL_DIM
    return one_mode and sparse.elbo > modes[0].elbo - MAX_LOSS * len(sparse.order)


def _drawn(
    density: Target | Estimate, draws: Float[np.ndarray, "draws dim"] | None, key: PRNGKeyArray
) -> list[Candidate]:
    """The Gaussians of the modes of the user's draws."""
    return [] if draws is None else drawn_modes(density, draws, jr.fold_in(key, 0))


def num_affordable_draws(target: Target, num: int) -> int:
    """The number of draws of an assessment at which all rows can be evaluated.

    Args:
        target: the target.
        num: the number without large data.
    """
    if not isinstance(target.space, LargeDataSpace):
        return num
    return min(num, max(MIN_ASSESSED, int(MAX_PAIRS / target.space.num_rows)))


def _some_rows(space: LargeDataSpace, dim: int, key: PRNGKeyArray) -> PyTree[Array]:
    num = min(space.num_rows, max(MIN_SEARCH_ROWS, min(SEARCH_ROWS_PER_DIM * dim, MAX_SEARCH_ROWS)))
    # NumPy's generator draws without replacement in the memory of the drawn rows.
    chosen = numpy_generator(key).choice(space.num_rows, num, replace=False)
    return space.rows.at(jnp.asarray(np.sort(chosen)))


@jit_low_concurrency
def _derivatives(target: Target, u: Float[Array, " dim"], order: int) -> tuple[Derivatives, Derivatives]:
    """The derivatives at a point of the log-likelihood of all rows, in one pass, and of the log-prior."""
    space: LargeDataSpace = target.space  # pyright: ignore[reportAssignmentType]

    def of_chunk(rows, mask):
        rows, mask = spread((rows, mask))

        def likelihood(u):
            return jnp.sum(jnp.where(mask, space.log_likelihoods(target.unravel(u), rows), 0.0))

        return derivatives(likelihood, u[None], order)

    prior = derivatives(lambda u: space.log_prior(target.unravel(u)), u[None], order)
    return replicate((space.rows.total(of_chunk, space.batch_size), prior))


def _climb(
    target: Target, candidate: Candidate, stop: Callable[[], bool], mesh: Mesh | None
) -> tuple[Candidate, Derivatives]:
    """The Gaussian moved to the mode of the whole posterior, and the derivatives of the log-likelihood there.

    Up to MAX_HESSIAN_DIM dimensions the steps are Newton's. Beyond it they use the covariance of the candidate, and the
    Hessian is computed once, at the mode, if that is affordable.
    """
    dim = candidate.loc.size
    space: LargeDataSpace = target.space  # pyright: ignore[reportAssignmentType]
    order = 2 if dim <= MAX_HESSIAN_DIM else 1

    def at(u, order=order):
        with on_mesh(mesh):
            likelihood, prior = gather(_derivatives(target, place(jnp.asarray(u), mesh), order), mesh)
        value, gradient = (np.asarray(a + b)[0] for a, b in zip(likelihood[:2], prior[:2], strict=True))
        factor = candidate.factor
        if likelihood[2] is not None and prior[2] is not None:
            factor = np.asarray(inverse_factor(-(likelihood[2] + prior[2])[0]))
        return likelihood, float(value), gradient, factor

    u = candidate.loc
    likelihood, value, gradient, factor = at(u)
    for _ in range(MAX_STEPS):
        direction = apply(factor.T, gradient)
        decrement = float(np.linalg.norm(direction))
        if not decrement > TOLERANCE or stop():
            break
        for length in 0.5 ** np.arange(NUM_HALVINGS):
            new = at(u + length * apply(factor, direction))
            # Near the mode the gain may be below rounding, but the gradient shrinks.
            if new[1] > value or np.linalg.norm(apply(factor.T, new[2])) < 0.5 * decrement:
                break
        else:
            break
        u, (likelihood, value, gradient, factor) = u + length * apply(factor, direction), new
    if order == 1 and factor.ndim == 2 and dim * space.num_rows <= MAX_PAIRS and not stop():
        likelihood, value, gradient, factor = at(u, 2)
    diagonal = factor if factor.ndim == 1 else np.diag(factor)
    # Exact for a Gaussian.
    elbo = value + 0.5 * u.size * np.log(2 * np.pi) + np.log(diagonal).sum()
    decrement = float(np.linalg.norm(apply(factor.T, gradient)))
    return Candidate(u, factor, float(elbo), 0.0, decrement), likelihood


def _different(climbed: list[tuple[Candidate, Derivatives]]) -> list[tuple[Candidate, Derivatives]]:
    """Without those that ended at the same mode as a better one, and without negligible ones."""
    kept: list[tuple[Candidate, Derivatives]] = []
    for candidate, found in climbed:
        if kept and is_negligible(candidate, kept[0][0]):
            break
        if all(candidate.distance(other) > MIN_DISTANCE for other, _ in kept):
            kept.append((candidate, found))
    return kept


def _with_least_noise(part: Estimate, climbed: list[tuple[Candidate, Derivatives]], key: PRNGKeyArray) -> Estimate:
    """The estimate with the control variates, of order 2, 1 or none, that leave the least noise."""
    best = climbed[0][0]
    parts = [
        None if any(p is None for p in each) else jnp.concatenate(each)  # pyright: ignore[reportArgumentType]
        for each in zip(*(found for _, found in climbed), strict=True)
    ]
    locs = jnp.stack([jnp.asarray(candidate.loc) for candidate, _ in climbed])
    scales = np.abs(best.factor) if best.factor.ndim == 1 else np.linalg.norm(best.factor, axis=1)
    full = Expansions(locs, jnp.asarray(scales), tuple(parts))  # pyright: ignore[reportArgumentType]
    orders = [full, full.first_order(), None] if full.order == 2 else [full, None]
    draws = np.stack(
        [best.loc + apply(best.factor, z) for z in np.asarray(jr.normal(key, (NUM_NOISE_DRAWS, part.dim)))]
    )
    estimates = [Estimate(part.target, part.rows, expansions, part.key) for expansions in orders]
    noises = [float(noise(estimate, jnp.asarray(draws))) for estimate in estimates]
    return estimates[int(np.argmin(np.where(np.isfinite(noises), noises, np.inf)))]


@jit_low_concurrency
def _score(density: Estimate, locs: Array, factors: Array, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    return score_gaussians(density, locs, factors, key)


def _scored(density: Estimate, found: list[Candidate], key: PRNGKeyArray) -> list[Candidate]:
    locs, factors = (jnp.asarray(np.stack([getattr(c, n) for c in found])) for n in ("loc", "factor"))
    return usable((locs, factors, *_score(density, locs, factors, key)))
