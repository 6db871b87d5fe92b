"""Location, scales and modes of a posterior: Gaussians along Newton paths and others, compared by their ELBO.

Scales of real posteriors differ by factors of 10^5, too much for any learning rate. So before any training, Newton's
method, which does not depend on the scales of coordinates, climbs the log-density from several starting points. Each
point on the path gives the Gaussian of the local curvature, and the Gaussian with the highest ELBO is kept. At a mode
it is the Laplace approximation; the mode of a funnel is at infinity, and there a point before the mode is better. This
is Pathfinder with exact curvature. To find other modes, more paths start far from the best Gaussian, at distances
measured in its standard deviations; then from other modes, until no new mode is found. If the paths reached some modes
only once, there are probably others, and more paths start over the spread of the modes (`census`).

In many dimensions the curvature at one point says little about the mass around it, and the necks of funnels attract the
paths. There, natural-gradient steps from each mode, and from some broad Gaussians, find the mass (`natural_gradient`).

References:
    Zhang et al., Pathfinder: Parallel Quasi-Newton Variational Inference (2022). https://arxiv.org/abs/2108.03782
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.flows.default import MAX_DENSE_DIM
from pushforward.posterior.curvature import LogDensity
from pushforward.posterior.rounding import is_noise
from pushforward.posterior.search.candidates import (
    MIN_DISTANCE,
    AnyArray,
    Candidate,
    gaussian_map,
    is_distant,
    is_near_mode,
    is_negligible,
    score_gaussians,
    separate,
    separate_modes,
    usable,
)
from pushforward.posterior.search.census import Census, Round
from pushforward.posterior.search.natural_gradient import natural_gradient_steps
from pushforward.posterior.search.newton import MANY_PATHS_DIM, MAX_HESSIAN_DIM, newton_paths, unit_factor
from pushforward.posterior.target import Whitened
from pushforward.training.compilation import jit_quick_compilation, one_blas_thread, split
from pushforward.training.interruption import never_stop

# A Hessian costs `dim` gradients, each of which costs more in more dimensions. So up to MANY_PATHS_DIM there are 24
# paths in each of at most 6 rounds, beyond it fewer, in proportion to the square of the dimension, and fewer rounds.
MAX_ROUNDS, MIN_ROUNDS = 6, 2
# Distances of later starting points from a Gaussian, in its standard deviations times a normal variable. The points
# come in opposite pairs, so that one of each pair is on the side of another mode.
RADII = (2, 3, 4, 6, 6, 8, 12, 12, 16, 16, 24, 24)
# One more round starts far away, up to MANY_PATHS_DIM: scales may say little about how far modes are from each other.
FAR_RADII = tuple(2.0 ** np.arange(5, 11, 0.5))
# Further rounds start at distances that are a fraction of these, in standard deviations of all modes together, until
# this number of rounds reaches no new mode, and modes that no path reached probably have less than this mass.
NUM_QUIET_ROUNDS, MAX_UNSEEN = 3, 0.005
MAX_FURTHER_ROUNDS, MIN_FURTHER_ROUNDS = 12, 2
FRACTION_OF_SPREAD = 1 / 8
# Natural-gradient steps from some broad Gaussians and from each mode, then of the best Gaussian of each mode: how many,
# up to a dimension; in more dimensions there are fewer, in proportion.
BROAD_SCALE = 0.3
BROAD_STEPS, MIN_BROAD_STEPS = (20, MAX_HESSIAN_DIM), 5
REFINEMENT_STEPS, MIN_REFINEMENT_STEPS = (80, 200), 5
# Antithetic pairs of draws in each step, in few, in hundreds and in thousands of dimensions: a Hessian costs as many
# gradients as there are dimensions. In a refinement the noise of all Hessians together counts. So where a step without
# Hessians takes as long as several of them, its few steps have more pairs.
MAX_PAIRS, SOME_PAIRS, MIN_PAIRS = 8, 3, 1
REFINEMENT_PAIRS, LONG_STEPS_DIM = 4, 512
# The refinement is repeated, at most this often, if it has raised the ELBO by more than this (nats a dimension).
MAX_REFINEMENTS, MIN_REFINEMENT_GAIN = 6, 0.05


class Found(NamedTuple):
    """The result of the search.

    Attributes:
        modes: the best Gaussian of each mode that is not negligible, the best mode first.
        candidates: all Gaussians that may fit the target, in decreasing order of their ELBO.
        census: how often the paths reached each mode.
    """

    modes: list[Candidate]
    candidates: list[Candidate]
    census: Census


@one_blas_thread()
def find_candidates(
    target: LogDensity,
    start: Float[Array, " dim"],
    key: PRNGKeyArray,
    *,
    stop: Callable[[], bool] = never_stop,
    any_mass: bool = True,
) -> Found:
    """Gaussians that may fit the target; none if the log-density is not finite at any starting point.

    Args:
        target: the log-density.
        start: the first point of one path; another path starts at 0, the others at random.
        key: for starting points and draws.
        stop: whether to end the search early; it is called before each further round of paths, and before
            each run of natural-gradient steps.
        any_mass: whether to look for mass far from the modes too, by natural-gradient steps in many dimensions.
    """
    start_key, near_key, far_key = split(key, 3)
    unit = np.zeros_like(start), np.asarray(unit_factor(start))
    found = _walk_within(target, unit, _near(start, start_key), near_key)
    if not found:
        return Found([], [], Census([], -math.inf))
    explored: list[Candidate] = []
    rounds = [Round(None, _without(found, unit[0]))]
    for k in split(far_key, _fewer(MAX_ROUNDS, MANY_PATHS_DIM, MIN_ROUNDS, start.size)):
        found.sort(key=lambda c: -c.elbo)
        new = [c for c in separate_modes(found) if all(c.distance(e) > MIN_DISTANCE for e in explored)]
        # First around the best Gaussian, whatever it is; then around other modes, which may have further neighbors.
        new = [c for c in new if not explored or c.is_mode]
        if not new or stop():
            break
        explored.append(new[0])
        around_key, k = split(k)
        ends = _walk_within(target, (new[0].loc, new[0].factor), _around(start, around_key), k)
        rounds.append(Round(new[0], _without(ends, new[0].loc)))
        found += ends
    best = max(found, key=lambda c: c.elbo)
    far, distant = _far_round(target, rounds, best, start, jr.fold_in(far_key, start.size + 1), stop)
    further, census = _further_rounds(target, [*rounds, *far], start, jr.fold_in(far_key, start.size), stop)
    further += Census.of(far).beyond(Census.of(rounds)) if far else []
    found = sorted([*found, *further, *distant], key=lambda c: -c.elbo)
    modes = separate_modes(found)
    if any_mass and uses_natural_gradient(start.size):
        modes, more = _with_mass(target, modes, start, jr.fold_in(key, start.size), stop)
        found = sorted([*found, *more], key=lambda c: -c.elbo)
    return Found(modes, found, census)


def _far_round(
    target: LogDensity,
    rounds: list[Round],
    best: Candidate,
    start: Float[Array, " dim"],
    key: PRNGKeyArray,
    stop: Callable[[], bool],
) -> tuple[list[Round], list[Candidate]]:
    """The round of paths from far away, in a list, which is empty if they reach no new mode, and its distant modes.

    Those may have too little mass for a census, but matter by their distance from the best Gaussian.

    There are no such paths if further rounds follow anyway: if there are many modes, or points of a ridge.
    """
    known = Census.of(rounds)
    if start.size > MANY_PATHS_DIM or not known.is_complete or stop():
        return [], []
    around_key, key = split(key)
    ends = _walk_within(target, (best.loc, best.factor), _around(start, around_key, FAR_RADII), key)
    far = Round(None, _without(ends, best.loc))
    distant = [end for end in far.ends if is_distant(end, best) and is_near_mode(end, far.ends)]
    distant = [*separate(sorted(distant, key=lambda c: -c.elbo))]
    return [far] if Census.of([*rounds, far]).beyond(known) else [], distant


def _further_rounds(
    target: LogDensity,
    rounds: list[Round],
    start: Float[Array, " dim"],
    key: PRNGKeyArray,
    stop: Callable[[], bool],
) -> tuple[list[Candidate], Census]:
    """The Gaussians of modes that only paths over the spread of the modes reach, and the census of all rounds.

    There are no such paths if there is one mode, or if there are two that are reached again and again.
    """
    census = Census.of(rounds)
    new: list[Candidate] = []
    num_quiet = NUM_QUIET_ROUNDS if census.is_complete else 0
    for k in split(key, _fewer(MAX_FURTHER_ROUNDS, MANY_PATHS_DIM, MIN_FURTHER_ROUNDS, start.size)):
        if (num_quiet >= NUM_QUIET_ROUNDS and census.unseen <= MAX_UNSEEN) or stop():
            break
        around_key, k = split(k)
        loc, factor = census.spread
        ends = _walk_within(target, (loc, FRACTION_OF_SPREAD * factor), _around(start, around_key), k)
        rounds = [*rounds, Round(None, _without(ends, loc))]
        known, census = census, Census.of(rounds)
        found = census.beyond(known)
        num_quiet = 0 if found else num_quiet + 1
        new += found
    return new, census


def _without(ends: list[Candidate], center: np.ndarray) -> list[Candidate]:
    """The Gaussians without the last one, if it is that of the center, which no path found."""
    return ends[:-1] if ends and np.array_equal(ends[-1].loc, center) else ends[:]


def candidates_from(target: LogDensity, points: Float[np.ndarray, "points dim"], key: PRNGKeyArray) -> list[Candidate]:
    """The best Gaussians of the modes that Newton paths from some points reach.

    Args:
        target: the log-density.
        points: the points, the best first; there are as many paths as in a round of the search.
        key: for draws.
    """
    dim = points.shape[1]
    unit = np.zeros(dim), np.asarray(unit_factor(jnp.asarray(points[0])))
    starts = np.resize(points, (2 * len(_radii(dim)), dim))
    return separate_modes(_without(_walk_within(target, unit, jnp.asarray(starts), key), unit[0]))


def uses_natural_gradient(dim: int) -> bool:
    """Whether natural-gradient steps replace the training of Gaussians, which needs more steps in more dimensions.

    Args:
        dim: the dimension.
    """
    return MANY_PATHS_DIM < dim <= MAX_DENSE_DIM


def _with_mass(
    target: LogDensity,
    modes: list[Candidate],
    start: Float[Array, " dim"],
    key: PRNGKeyArray,
    stop: Callable[[], bool],
) -> tuple[list[Candidate], list[Candidate]]:
    """The modes after natural-gradient steps, and all Gaussians after such steps, also those that began broad.

    The mean of the best Gaussian of a skewed mode can be far from that mode. So it is the Newton paths that find
    separate modes, and a Gaussian that began broad replaces or joins them only if it is the best.
    """
    key, random_key = split(key)
    centers = [start, jnp.zeros_like(start), jr.uniform(random_key, start.shape, start.dtype, -2, 2)]
    broad = [(center, BROAD_SCALE * jnp.eye(start.size, dtype=start.dtype)) for center in centers]
    if start.size > MAX_HESSIAN_DIM:
        broad = broad[:1]
    begun = [*((mode.loc, mode.matrix) for mode in modes), *broad]
    num_steps = _fewer(*BROAD_STEPS, MIN_BROAD_STEPS, start.size)
    ended = [
        [] if stop() else _natural_gradient(target, loc, factor, k, num_steps)
        for (loc, factor), k in zip(begun, split(key, len(begun)), strict=True)
    ]
    more = [candidate for each in ended for candidate in each]
    improved = [max([mode, *each], key=lambda c: c.elbo) for mode, each in zip(modes, ended, strict=False)]
    best = max([*improved, *more], key=lambda c: c.elbo)
    if len(modes) == 1:
        return [best], more
    others = [mode for mode in improved if mode.distance(best) > MIN_DISTANCE]
    modes = sorted([best, *others], key=lambda c: -c.elbo)
    return [mode for mode in modes if not is_negligible(mode, best)], more


@one_blas_thread()
def refined(target: LogDensity, candidate: Candidate, key: PRNGKeyArray) -> Candidate:
    """The candidate after further natural-gradient steps, as long as they raise its ELBO. Its factor is a matrix.

    Args:
        target: the log-density.
        candidate: where to start.
        key: for the draws.
    """
    num_steps = _fewer(*REFINEMENT_STEPS, MIN_REFINEMENT_STEPS, candidate.loc.size)
    best = candidate._replace(factor=candidate.matrix)
    for index in range(MAX_REFINEMENTS):
        round_key = key if index == 0 else jr.fold_in(key, index)
        new = _natural_gradient(target, best.loc, best.factor, round_key, num_steps, refine=True)
        before, best = best, max([best, *new], key=lambda c: c.elbo)
        if not best.elbo > before.elbo + MIN_REFINEMENT_GAIN * best.loc.size:
            break
    return best


def _natural_gradient(
    target: LogDensity, loc: AnyArray, factor: AnyArray, key: PRNGKeyArray, num_steps: int, *, refine: bool = False
) -> list[Candidate]:
    """The Gaussian after natural-gradient steps, in a list, which is empty if it is not usable.

    The second half of the steps of a refinement become shorter.
    """
    # As arrays, so that all numbers share one program.
    steps = jnp.array(num_steps), jnp.array(num_steps // 2 if refine else num_steps)
    num_pairs = _num_pairs(loc.size, refine)
    return usable(_compiled_steps(target, jnp.asarray(loc), jnp.asarray(factor), key, *steps, num_pairs))


def _num_pairs(dim: int, refine: bool) -> int:
    num = max(MIN_PAIRS, min(MAX_PAIRS, max(SOME_PAIRS, 512 // dim), 2048 // dim))
    return max(num, REFINEMENT_PAIRS) if refine and dim > LONG_STEPS_DIM else num


@functools.partial(jit_quick_compilation, level=1)
def _compiled_steps(
    target: LogDensity,
    loc: Array,
    factor: Array,
    key: PRNGKeyArray,
    num_steps: Array,
    num_constant: Array,
    num_pairs: int,
):
    step_key, score_key = jr.split(key)
    loc, factor = natural_gradient_steps(target, loc, factor, step_key, num_steps, num_constant, num_pairs)
    locs, factors = loc[None], factor[None]
    return locs, factors, *score_gaussians(target, locs, factors, score_key)


def _fewer(most: int, many: int, least: int, dim: int) -> int:
    """A number that is smaller in more than `many` dimensions, in proportion."""
    return max(least, most * many // max(dim, many))


def _radii(dim: int) -> tuple[int, ...]:
    """The distances of later starting points, one for each pair of paths; the first round has as many paths."""
    num = _fewer(len(RADII), MANY_PATHS_DIM, 2, max(dim, dim**2 // MANY_PATHS_DIM))
    return RADII[:: -(-len(RADII) // num)]


@jit_quick_compilation
def _near(start: Float[Array, " dim"], key: PRNGKeyArray) -> Float[Array, "paths dim"]:
    """The starting points of the first paths."""
    random = jr.uniform(key, (2 * len(_radii(start.size)) - 2, start.size), start.dtype, -2, 2)
    return jnp.concatenate([start[None], jnp.zeros((1, start.size), start.dtype), random])


def _around(
    start: Float[Array, " dim"], key: PRNGKeyArray, radii: tuple[float, ...] | None = None
) -> Float[Array, "paths dim"]:
    """The starting points of later paths, in the coordinates of a Gaussian; `start` gives the shape."""
    return _pairs(start, jnp.asarray(_radii(start.size) if radii is None else radii, start.dtype), key)


@jit_quick_compilation
def _pairs(start: Float[Array, " dim"], radii: Float[Array, " pairs"], key: PRNGKeyArray) -> Float[Array, "paths dim"]:
    around = radii[:, None] * jr.normal(key, (radii.size, start.size), start.dtype)
    return jnp.concatenate([around, -around])


def _walk_within(
    target: LogDensity,
    within: tuple[np.ndarray, np.ndarray],
    starts: Float[Array, "paths dim"],
    key: PRNGKeyArray,
) -> list[Candidate]:
    """The usable Gaussians of Newton paths in the coordinates of an affine map, given by its b and S."""
    found = usable(_compiled_search(Whitened(target, gaussian_map(*map(jnp.asarray, within))), starts, key), within)
    return _without_noise(target, found)


def _without_noise(target: LogDensity, found: list[Candidate]) -> list[Candidate]:
    """The Gaussians without those in rounding noise, if the best one makes another mode negligible; else all."""
    best = max(found, key=lambda c: c.elbo, default=None)
    if best is None or not any(c.is_mode and is_negligible(c, best) and c.distance(best) > MIN_DISTANCE for c in found):
        return found
    noise = is_noise(target, np.stack([c.loc for c in found]), np.empty((0, best.loc.size)))
    return found if noise.all() else [c for c, of_noise in zip(found, noise, strict=True) if not of_noise]


# Level 1, because most of its time is spent in hundreds of Hessians.
@functools.partial(jit_quick_compilation, level=1)
def _compiled_search(target: Whitened, starts: Float[Array, "paths dim"], key: PRNGKeyArray):
    """Means, factors, ELBOs, standard errors and Newton decrements of each path's best Gaussian and of N(0, I)."""
    path_key, score_key = jr.split(key)
    locs, factors = newton_paths(target, starts, path_key)
    locs = jnp.concatenate([locs, jnp.zeros_like(locs[:1])])
    factors = jnp.concatenate([factors, unit_factor(starts[0])[None]])
    return locs, factors, *score_gaussians(target, locs, factors, score_key)
