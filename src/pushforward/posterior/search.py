"""Location, scales and modes of a posterior: Gaussians along Newton paths and others, compared by their ELBO.

Scales of real posteriors differ by factors of 10^5, too much for any learning rate. So before any training, Newton's
method, which does not depend on the scales of coordinates, climbs the log-density from several starting points. Each
point on the path gives the Gaussian of the local curvature, and the Gaussian with the highest ELBO is kept. At a mode
it is the Laplace approximation; the mode of a funnel is at infinity, and there a point before the mode is better. This
is Pathfinder with exact curvature. To find other modes, more paths start far from the best Gaussian, at distances
measured in its standard deviations; then from other modes, until no new mode is found.

In many dimensions the curvature at one point says little about the mass around it, and the necks of funnels attract the
paths. There, natural-gradient steps from some broad Gaussians find the mass (`natural_gradient`).

References:
    Zhang et al., Pathfinder: Parallel Quasi-Newton Variational Inference (2022). https://arxiv.org/abs/2108.03782
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import Triangular
from pushforward.posterior.curvature import LogDensity, has_forward_mode, hessian, inverse_factor
from pushforward.posterior.natural_gradient import natural_gradient_steps
from pushforward.posterior.target import Whitened
from pushforward.training.compilation import jit_quick_compilation, one_blas_thread, split
from pushforward.training.interruption import never_stop

# Up to this dimension the curvature is the exact Hessian, beyond it only the Hessian's diagonal.
MAX_DENSE_DIM = 256
NUM_ITERATIONS = 40
# A Hessian costs `dim` gradients. So up to MANY_PATHS_DIM there are 24 paths in each of at most 6 rounds, and beyond it
# fewer, in proportion: the cost of the search grows no further.
MANY_PATHS_DIM = 64
MAX_ROUNDS, MIN_ROUNDS = 6, 2
# Distances of later starting points from a Gaussian, in its standard deviations times a normal variable. The points
# come in opposite pairs, so that one of each pair is on the side of another mode.
RADII = (2, 3, 4, 6, 6, 8, 12, 12, 16, 16, 24, 24)
# Modes with a smaller fraction of the mass are left out, and so are the smallest modes beyond this number.
MIN_EVIDENCE_FRACTION = 1e-3
MAX_MODES = 16
# Both in standard deviations: the smallest distance between two modes, in the scales of either, and the largest Newton
# step at a mode.
MIN_DISTANCE = 4.0
MAX_DECREMENT = 0.3
MIN_GAIN = 1e-6
NUM_PATH_DRAWS = 24
NUM_SCORE_DRAWS = 1024
# Natural-gradient steps from some broad Gaussians, and of the best Gaussian of each mode.
BROAD_SCALE = 0.3
NUM_BROAD_STEPS, NUM_REFINEMENT_STEPS = 20, 80
# Step lengths of the line search along the Newton direction, all evaluated at once.
STEP_LENGTHS = 2.0 ** np.arange(1, -20, -1)


class Candidate(NamedTuple):
    """A Gaussian that may fit the target.

    Attributes:
        affine: the affine bijection from N(0, I) to the Gaussian.
        elbo: its ELBO.
        elbo_se: the standard error of the ELBO.
        decrement: the length of the Newton step at its mean, in its standard deviations; near 0 at a mode.
    """

    affine: Triangular
    elbo: float
    elbo_se: float
    decrement: float


@one_blas_thread()
def find_candidates(
    target: LogDensity, start: Float[Array, " dim"], key: PRNGKeyArray, *, stop: Callable[[], bool] = never_stop
) -> list[Candidate]:
    """Gaussians that may fit the target, in decreasing order of their ELBO.

    Args:
        target: the log-density.
        start: the first point of one path; another path starts at 0, the others at random.
        key: for starting points and draws.
        stop: whether to end the search early; it is called before each further round of paths, and before
            each run of natural-gradient steps.
    """
    dim = start.size
    start_key, near_key, far_key = split(key, 3)
    found = _walk_within(target, Triangular(dim), _near(start, start_key), near_key)
    if not found:
        return []
    explored: list[Candidate] = []
    for k in split(far_key, _fewer(MAX_ROUNDS, MIN_ROUNDS, dim)):
        found.sort(key=lambda c: -c.elbo)
        new = [c for c in separate_modes(found) if all(_distance(c, e) > MIN_DISTANCE for e in explored)]
        # First around the best Gaussian, whatever it is; then around other modes, which may have further neighbors.
        new = [c for c in new if not explored or c.decrement <= MAX_DECREMENT]
        if not new or stop():
            break
        explored.append(new[0])
        around_key, k = split(k)
        found += _walk_within(target, new[0].affine, _around(start, around_key), k)
    if uses_natural_gradient(dim):
        broad_key, random_key = split(jr.fold_in(key, dim))
        random = jr.uniform(random_key, start.shape, start.dtype, -2, 2)
        broad = [Triangular(dim, loc, BROAD_SCALE * jnp.eye(dim)) for loc in (start, jnp.zeros_like(start), random)]
        best = max(found, key=lambda c: c.elbo)
        for affine, k in zip((best.affine, *broad), split(broad_key, len(broad) + 1), strict=True):
            found += [] if stop() else _natural_gradient(target, affine, k, NUM_BROAD_STEPS)
    return sorted(found, key=lambda c: -c.elbo)


def uses_natural_gradient(dim: int) -> bool:
    """Whether natural-gradient steps replace the training of Gaussians, which needs more steps in more dimensions.

    Args:
        dim: the dimension.
    """
    return MANY_PATHS_DIM < dim <= MAX_DENSE_DIM


@one_blas_thread()
def refined(target: LogDensity, candidate: Candidate, key: PRNGKeyArray) -> Candidate:
    """The candidate after further natural-gradient steps, if its ELBO is higher.

    Args:
        target: the log-density.
        candidate: where to start.
        key: for the draws.
    """
    found = [candidate, *_natural_gradient(target, candidate.affine, key, NUM_REFINEMENT_STEPS)]
    return max(found, key=lambda c: c.elbo)


def _natural_gradient(target: LogDensity, affine: Triangular, key: PRNGKeyArray, num_steps: int) -> list[Candidate]:
    """The Gaussian after natural-gradient steps, in a list, which is empty if it is not usable."""
    # As arrays, so that all numbers share one program.
    steps = jnp.array(num_steps), jnp.array(max(num_steps // 2, NUM_BROAD_STEPS))
    return _usable(Triangular(len(affine.loc)), _compiled_steps(target, affine.loc, affine.matrix, key, *steps))


@functools.partial(jit_quick_compilation, level=1)
def _compiled_steps(
    target: LogDensity, loc: Array, factor: Array, key: PRNGKeyArray, num_steps: Array, num_constant: Array
):
    step_key, score_key = jr.split(key)
    loc, factor = natural_gradient_steps(target, loc, factor, step_key, num_steps, num_constant)
    locs, factors = loc[None], factor[None]
    return locs, factors, *score_gaussians(target, locs, factors, score_key)


def _fewer(most: int, least: int, dim: int) -> int:
    """A number that is smaller in large dimensions."""
    return max(least, most * MANY_PATHS_DIM // max(dim, MANY_PATHS_DIM))


def _radii(dim: int) -> tuple[int, ...]:
    """The distances of later starting points, one for each pair of paths; the first round has as many paths."""
    return RADII[:: len(RADII) // _fewer(len(RADII), 2, dim)]


@jit_quick_compilation
def _near(start: Float[Array, " dim"], key: PRNGKeyArray) -> Float[Array, "paths dim"]:
    """The starting points of the first paths."""
    random = jr.uniform(key, (2 * len(_radii(start.size)) - 2, start.size), start.dtype, -2, 2)
    return jnp.concatenate([start[None], jnp.zeros((1, start.size), start.dtype), random])


@jit_quick_compilation
def _around(start: Float[Array, " dim"], key: PRNGKeyArray) -> Float[Array, "paths dim"]:
    """The starting points of later paths, in the coordinates of a Gaussian; `start` gives the shape."""
    radii = jnp.asarray(_radii(start.size), start.dtype)
    around = radii[:, None] * jr.normal(key, (radii.size, start.size), start.dtype)
    return jnp.concatenate([around, -around])


# Compiled, so that the constructor skips its checks: only usable values come here.
_affine = jit_quick_compilation(Triangular)


def separate_modes(found: Sequence[Candidate]) -> list[Candidate]:
    """The best candidate and, if it is near a mode, the best candidates of other modes that are not negligible.

    Args:
        found: in decreasing order of the ELBO.
    """
    kept = [found[0]]
    # The best Gaussian of a skewed or heavy-tailed mode is near that mode; in a funnel it is far from any mode.
    if not any(c.decrement <= MAX_DECREMENT and _distance(c, kept[0]) <= MIN_DISTANCE for c in found):
        return kept
    for other in found[1:]:
        share = math.exp(other.elbo - found[0].elbo)
        if share < MIN_EVIDENCE_FRACTION or len(kept) == MAX_MODES:
            break
        if other.decrement < MAX_DECREMENT and all(_distance(other, k) > MIN_DISTANCE for k in kept):
            kept.append(other)
    return kept


def _distance(one: Candidate, other: Candidate) -> float:
    between = np.asarray(one.affine.loc - other.affine.loc)
    lengths = [np.linalg.solve(np.asarray(c.affine.matrix), between) for c in (one, other)]
    return float(min(np.linalg.norm(length) for length in lengths))


def _walk_within(
    target: LogDensity, within: Triangular, starts: Float[Array, "paths dim"], key: PRNGKeyArray
) -> list[Candidate]:
    """The usable Gaussians of Newton paths in the coordinates of an affine map."""
    return _usable(within, _compiled_search(Whitened(target, within), starts, key))


def _usable(within: Triangular, results: Sequence[Array]) -> list[Candidate]:
    """The usable ones of some Gaussians in the coordinates of an affine map."""
    locs, factors, elbos, errors, decrements = (np.asarray(a) for a in results)
    usable = np.isfinite(elbos) & np.isfinite(locs).all(1) & np.isfinite(factors).all((1, 2))
    usable &= (np.diagonal(factors, axis1=1, axis2=2) > 0).all(1)
    outer_loc, outer = np.asarray(within.loc), np.asarray(within.matrix)
    return [
        Candidate(
            _affine(len(outer_loc), outer_loc + outer @ locs[i], np.tril(outer @ factors[i])),
            float(elbos[i]),
            float(errors[i]),
            float(decrements[i]),
        )
        for i in np.flatnonzero(usable)
    ]


def _search(target: LogDensity, starts: Float[Array, "paths dim"], key: PRNGKeyArray):
    """Means, factors, ELBOs, standard errors and Newton decrements of each path's best Gaussian and of N(0, I)."""
    path_key, score_key = jr.split(key)
    dim = starts.shape[1]
    locs, factors = newton_paths(target, starts, path_key)
    locs = jnp.concatenate([locs, jnp.zeros((1, dim), starts.dtype)])
    factors = jnp.concatenate([factors, jnp.eye(dim, dtype=starts.dtype)[None]])
    return locs, factors, *score_gaussians(target, locs, factors, score_key)


# Level 1, because most of its time is spent in hundreds of Hessians.
_compiled_search = jit_quick_compilation(_search, level=1)


def score_gaussians(target: LogDensity, locs: Array, factors: Array, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """ELBOs of Gaussians N(loc, factor factor^T), their standard errors, and Newton decrements.

    Args:
        target: the log-density.
        locs: the means.
        factors: triangular factors of the covariances.
        key: for the draws, which all Gaussians share.
    """
    noise = jr.normal(key, (NUM_SCORE_DRAWS, locs.shape[-1]), locs.dtype)

    def one(loc, factor):
        log_weights = _log_weights(target, loc, factor, noise)
        decrement = jnp.linalg.norm(factor.T @ jax.grad(target)(loc))
        return _truncated_elbo(log_weights), _spread(log_weights) / NUM_SCORE_DRAWS**0.5, decrement

    return jax.lax.map(lambda gaussian: one(*gaussian), (locs, factors))


def _log_weights(target: LogDensity, loc: Array, factor: Array, noise: Array) -> Array:
    """Log p - log q at draws of N(loc, factor factor^T); -inf where log p is not finite."""
    log_q = -0.5 * jnp.sum(noise**2, 1) - 0.5 * loc.size * jnp.log(2 * jnp.pi) - jnp.log(jnp.diag(factor)).sum()
    log_p = jax.vmap(target)(loc + noise @ factor.T)
    return jnp.where(jnp.isfinite(log_p), log_p - log_q, -jnp.inf)


def _truncated_elbo(log_weights: Array) -> Array:
    r"""The ELBO of q restricted to where p is positive, $E[\log p - \log q \mid p > 0] + \log P_q(p > 0)$.

    It equals the ELBO if p is positive everywhere, and is finite if it is not.
    """
    finite = jnp.isfinite(log_weights)
    share = finite.mean()
    return jnp.sum(jnp.where(finite, log_weights, 0)) / (share * log_weights.size) + jnp.log(share)


def _spread(log_weights: Array) -> Array:
    finite = jnp.isfinite(log_weights)
    return jnp.std(jnp.where(finite, log_weights, 0), where=finite)


def newton_paths(target: LogDensity, starts: Float[Array, "paths dim"], key: PRNGKeyArray) -> tuple[Array, Array]:
    """The best Gaussian on the Newton path from each start, as means and triangular factors of the covariances.

    Args:
        target: the log-density.
        starts: the starting points.
        key: for draws, and for probes of the Hessian's diagonal.
    """
    dim = starts.shape[1]
    key, probe_key = jr.split(key)
    noise = jr.normal(key, (NUM_PATH_DRAWS, dim), starts.dtype)
    dense = dim <= MAX_DENSE_DIM
    probes = jr.rademacher(probe_key, (16, dim), starts.dtype)
    forward = has_forward_mode(target, starts[0])
    hessian_at = hessian(target, starts[0])

    def curvature(u):
        """The gradient, and a triangular factor of the inverse of minus the Hessian with positive eigenvalues."""
        gradient = jax.grad(target)(u)
        if dense:
            return gradient, inverse_factor(-hessian_at(u))
        if forward:
            products = jax.vmap(lambda v: jax.jvp(jax.grad(target), (u,), (v,))[1])(probes)
        else:
            products = jax.vmap(jax.vjp(jax.grad(target), u)[1])(probes)[0]
        diagonal = jnp.abs(jnp.mean(probes * products, 0))
        return gradient, jnp.diag(jax.lax.rsqrt(jnp.maximum(diagonal, jnp.finfo(u.dtype).tiny ** 0.5)))

    def step(state):
        iteration, u, value, best, _ = state
        gradient, factor = curvature(u)
        move = factor @ (factor.T @ gradient)
        # The mean of the Gaussian of the local curvature is the end of the full Newton step.
        locs = jnp.stack([u + move, u])
        elbos = jax.vmap(lambda loc: _truncated_elbo(_log_weights(target, loc, factor, noise)))(locs)
        elbos = jnp.where(jnp.isfinite(elbos), elbos, -jnp.inf)
        better = (jnp.max(elbos) > best[0]) & jnp.isfinite(factor).all()
        new = jnp.max(elbos), locs[jnp.argmax(elbos)], factor
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), new, best)
        values = jax.vmap(lambda length: target(u + length * move))(jnp.asarray(STEP_LENGTHS, u.dtype))
        values = jnp.where(jnp.isfinite(values), values, -jnp.inf)
        longest = jnp.argmax(values)
        climbs = values[longest] > value
        u = jnp.where(climbs, u + jnp.asarray(STEP_LENGTHS, u.dtype)[longest] * move, u)
        gain = jnp.where(climbs, values[longest] - value, 0.0)
        return iteration + 1, u, jnp.where(climbs, values[longest], value), best, gain

    def path(start):
        value = target(start)
        value = jnp.where(jnp.isfinite(value), value, -jnp.inf)
        minus = jnp.array(-jnp.inf, start.dtype)
        best = (minus, start, jnp.eye(dim, dtype=start.dtype))
        state = (0, start, value, best, jnp.array(jnp.inf, start.dtype))
        state = jax.lax.while_loop(lambda s: (s[0] < NUM_ITERATIONS) & (s[-1] > MIN_GAIN), step, state)
        return state[3][1:]

    return jax.lax.map(path, starts)
