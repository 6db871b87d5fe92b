r"""Natural-gradient steps towards the best Gaussian with a sparse precision matrix, for thousands of dimensions too.

In the order of a `Structure`, the Hessian of the log-density is an arrow: dense rows for the hubs, a few diagonals for
the rest. So its products with few directions give all of it: one direction for each hub, and for the rest one for each
residue of the position modulo $2 b + 1$, where $b$ is the bandwidth. The steps are those of `natural_gradient`: the new
precision is $(1 - \rho) P - \rho H$, again an arrow. Of the lengths $\rho$ = 1, 1/2, 1/4, ... the first is taken that
does not lower the ELBO. Time and memory are proportional to the dimension.

References:
    Tan and Nott, Gaussian Variational Approximation with Sparse Precision Matrices (2018).
    Curtis, Powell and Reid, On the Estimation of Sparse Jacobian Matrices (1974): many columns from one product.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from scipy.sparse import coo_array, csr_array

from pushforward.bijections import Affine, Arrow, Banded, Chain, Elementwise, Permutation, Triangular
from pushforward.posterior.curvature import LogDensity, hessian_products
from pushforward.posterior.structure import Structure, find_pattern, structure_of
from pushforward.posterior.target import Target
from pushforward.training.compilation import jit_quick_compilation, one_blas_thread, split
from pushforward.training.interruption import never_stop

# In fewer dimensions the noise of a full matrix's numbers is small.
MIN_SPARSE_DIM = 64
# Up to this dimension the Gaussian is also needed as a full matrix, to find global coordinates and a rotation.
MAX_DIM = 1024
MAX_STEPS = 60
NUM_PAIRS = 8
# The shortest step that is tried is 2^-MAX_HALVINGS.
MAX_HALVINGS = 8
# The steps become shorter after this number, which averages the noise of the draws out.
NUM_CONSTANT = 20
# The steps end when a few of them together gain less, in nats for each coordinate.
MIN_GAIN, GAIN_STEPS = 1e-6, 5
START_SCALE = 0.3
# A fit shows whether the structure that was found elsewhere holds where the mass is. If not, it is fitted again.
MAX_FITS = 3
NUM_SCALE_DRAWS = 256
# The ELBO is the mean over this many sets of draws.
NUM_SCORES = 32


@dataclasses.dataclass(frozen=True)
class ArrowMatrix:
    """A symmetric matrix in the shape of an arrow, in the order of a structure.

    Attributes:
        head: the block of the hubs.
        cross: the rows of the hubs and the columns of the others.
        bands: the main diagonal of the others' block, then those below it, as in `Banded`.
    """

    head: np.ndarray
    cross: np.ndarray
    bands: np.ndarray

    def plus(self, other: "ArrowMatrix", weight: float) -> "ArrowMatrix":
        """(1 - weight) times this matrix plus weight times the other."""
        pairs = ((self.head, other.head), (self.cross, other.cross), (self.bands, other.bands))
        return ArrowMatrix(*((1 - weight) * a + weight * b for a, b in pairs))

    @functools.cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As a precision: the banded Cholesky factor of the rest, the precision of the hubs alone, and the regression
        on the hubs.

        Raises:
            LinAlgError: if the block of the rest is not positive definite.
        """
        if not all(np.isfinite(a).all() for a in (self.head, self.cross, self.bands)):
            raise LinAlgError("the precision is not finite.")
        factor = cholesky_banded(self.bands, lower=True)
        gain = cho_solve_banded((factor, True), self.cross.T) if len(self.head) else self.cross.T
        return factor, self.head - self.cross @ gain, gain


class SparseGaussian(NamedTuple):
    """The Gaussian with a mean and a precision matrix in the shape of an arrow.

    Attributes:
        loc: the mean, in the order of the structure.
        precision: the precision matrix.
    """

    loc: np.ndarray
    precision: ArrowMatrix

    def affine(self) -> Arrow | Banded:
        """The map from N(0, I) to the Gaussian.

        Raises:
            LinAlgError: if the precision is not positive definite.
        """
        bands, head, gain = self.precision.factors
        num = len(head)
        tail = Banded(bands.shape[1], jnp.asarray(self.loc[num:]), jnp.asarray(bands))
        if num == 0:
            return tail
        # The covariance of the hubs is the inverse of `head`.
        factor = _covariance_factor(head)
        return Arrow(Triangular(num, jnp.asarray(self.loc[:num]), jnp.asarray(factor)), tail, -gain @ factor)

    def moved(self, gradient: np.ndarray, length: float) -> "SparseGaussian":
        """The Gaussian whose mean is moved by `length` times the inverse precision times the gradient.

        Raises:
            LinAlgError: if the precision is not positive definite.
        """
        bands, head, gain = self.precision.factors
        num = len(head)
        first, rest = gradient[:num], gradient[num:]
        move_first = np.linalg.solve(head, first - gain.T @ rest) if num else first
        move_rest = cho_solve_banded((bands, True), rest) - gain @ move_first
        return self._replace(loc=self.loc + length * np.concatenate([move_first, move_rest]))

    def scaled(self, scales: np.ndarray) -> "SparseGaussian":
        """The Gaussian of the coordinates after subtracting the mean and dividing by scales.

        Args:
            scales: the scales, in the order of the structure.
        """
        head, cross, bands = self.precision.head, self.precision.cross, self.precision.bands
        num = len(head)
        first, rest = scales[:num], scales[num:]
        below = np.stack([np.concatenate([rest[j:], np.zeros(j)]) for j in range(len(bands))])
        precision = ArrowMatrix(first[:, None] * head * first, first[:, None] * cross * rest, below * bands * rest)
        return SparseGaussian(np.zeros_like(self.loc), precision)


class SparseMap(NamedTuple):
    """A Gaussian with a sparse precision matrix, in the order of a structure, as the map from N(0, I) to it.

    Attributes:
        gaussian: the Gaussian.
        scales: the scales of the coordinates.
        order: the order, as in `Structure`.
        pairs: the coordinates that interact, two in each column.
        elbo: the ELBO of the Gaussian.
    """

    gaussian: SparseGaussian
    scales: Float[np.ndarray, " dim"]
    order: Int[np.ndarray, " dim"]
    pairs: Int[np.ndarray, "2 pairs"]
    elbo: float

    @property
    def num_hubs(self) -> int:
        """The number of hubs, which come first."""
        return len(self.gaussian.precision.head)

    @property
    def pattern(self) -> csr_array:
        """Which coordinates interact, as in `Structure`."""
        dim = len(self.order)
        return coo_array((np.ones(self.pairs.shape[1], bool), tuple(self.pairs)), shape=(dim, dim)).tocsr()

    @property
    def inner(self) -> Arrow | Banded:
        """The map from N(0, I) to coordinates of order one."""
        return self.gaussian.scaled(self.scales).affine()

    @property
    def scaling(self) -> Chain:
        """The map from these to the coordinates of the target."""
        back = Permutation(np.argsort(self.order))
        return Chain([Elementwise.each(Affine, self.gaussian.loc, self.scales), back])

    @property
    def is_usable(self) -> bool:
        """Whether rounding has left the precision matrix definite in other units and as a full matrix."""
        try:
            self.inner  # noqa: B018
            if len(self.order) <= MAX_DIM:
                self.triangular()
        except LinAlgError:
            return False
        return True

    def precision(self, scales: Float[np.ndarray, " dim"]) -> Float[np.ndarray, "dim dim"]:
        """The precision matrix of the target's coordinates divided by some scales, with its zeros.

        Args:
            scales: the scales, in the order of the target.
        """
        scaled = self.gaussian.scaled(scales[self.order]).precision
        tail = sum(np.diag(band[: len(band) - j], -j) for j, band in enumerate(scaled.bands))
        back = np.argsort(self.order)
        matrix = np.block([[scaled.head, scaled.cross], [scaled.cross.T, tail + np.tril(tail, -1).T]])
        return matrix[np.ix_(back, back)]

    def triangular(self) -> Triangular:
        """The map to the same Gaussian with a full matrix.

        Raises:
            LinAlgError: if rounding has made the precision indefinite.
        """
        back = np.argsort(self.order)
        scales = self.scales[back]
        factor = _covariance_factor(self.precision(scales))
        return Triangular(len(back), self.gaussian.loc[back], scales[:, None] * factor)


def _covariance_factor(precision: Float[np.ndarray, "dim dim"]) -> Float[np.ndarray, "dim dim"]:
    r"""The lower triangular L with $L L^T = P^{-1}$."""
    return np.tril(np.linalg.inv(np.linalg.cholesky(precision[::-1, ::-1])[::-1, ::-1]).T)


def sparse_map(precision: Float[np.ndarray, "dim dim"], structure: Structure) -> Arrow | Banded:
    """The map from N(0, I) to the Gaussian with mean 0 and a precision matrix.

    Args:
        precision: the precision matrix, in the order of the structure.
        structure: its pattern; entries outside of it count as 0.

    Raises:
        LinAlgError: if the precision is not positive definite.
    """
    num = structure.num_hubs
    rest = precision[num:, num:]
    bands = np.stack([np.pad(np.diagonal(rest, -j), (0, j)) for j in range(structure.bandwidth + 1)])
    arrow = ArrowMatrix(precision[:num, :num], precision[:num, num:], bands)
    return SparseGaussian(np.zeros(len(precision)), arrow).affine()


@one_blas_thread()
def fit_sparse_gaussian(
    target: Target,
    key: PRNGKeyArray,
    *,
    given: Structure | None = None,
    stop: Callable[[], bool] = never_stop,
) -> SparseMap | None:
    """The best Gaussian with a sparse precision matrix; None in few dimensions, or if most coordinates interact.

    The structure is that of the Hessian at some points around the start. After the fit, it is that of the Hessian at
    draws of the Gaussian too; if that adds interactions, the fit is repeated.

    Args:
        target: the target.
        key: for the draws.
        given: the structure that the user gives, in any dimension; it is not computed then.
        stop: whether to end early.
    """
    dim = target.dim
    if given is None and dim <= MIN_SPARSE_DIM:
        return None
    near_key, *keys = split(key, MAX_FITS + 1)
    near = jr.normal(near_key, (2, dim), target.start.dtype)
    points = jnp.concatenate([target.start[None], target.start + near])
    pattern = find_pattern(target, points) if given is None else given.pattern
    for fit_key in keys:
        if pattern is None or stop():
            return None
        structure = structure_of(pattern, target.coordinate_names())
        if not (structure.is_sparse if given else structure.has_few_entries):
            return None
        climb_key, draw_key, score_key = split(fit_key, 3)
        gaussian = _climb(target, structure, np.asarray(target.start), climb_key, stop)
        if gaussian is None:
            return None
        back, affine = np.argsort(structure.order), gaussian.affine()
        # Without the mean, which float32 may round to more than a standard deviation.
        centered = gaussian._replace(loc=np.zeros(dim)).affine()
        noise = jr.normal(draw_key, (dim, NUM_SCALE_DRAWS), near.dtype)
        deviations = np.asarray(centered.forward_batch(noise)[0])
        draws, scales = (gaussian.loc[:, None] + deviations[:, :2])[back].T, np.std(deviations, axis=1)
        more = pattern if given else find_pattern(target, jnp.asarray(draws), scales[back])
        if more is not None and (more + pattern).nnz == pattern.nnz:
            place = jnp.asarray(back)
            elbo = float(np.mean([_elbo(target, place, affine, k) for k in jr.split(score_key, NUM_SCORES)]))
            found = SparseMap(gaussian, scales, structure.order, np.stack(pattern.nonzero()), elbo)
            return found if found.is_usable else None
        pattern = None if more is None else more + pattern
    return None


def _climb(
    target: LogDensity, structure: Structure, start: np.ndarray, key: PRNGKeyArray, stop: Callable[[], bool]
) -> SparseGaussian | None:
    """The Gaussian after natural-gradient steps, or None if the log-density is not finite around the start."""
    dim, num = structure.dim, structure.num_hubs
    rest = dim - num
    bands = np.zeros((structure.bandwidth + 1, rest))
    bands[0] = START_SCALE**-2
    unit = ArrowMatrix(START_SCALE**-2 * np.eye(num), np.zeros((num, rest)), bands)
    state = SparseGaussian(start[structure.order], unit)
    back = jnp.asarray(np.argsort(structure.order))
    gains: list[float] = []
    for i, step_key in enumerate(split(key, MAX_STEPS)):
        averages = _averages(target, back, state.affine(), step_key, num, structure.bandwidth)
        if not math.isfinite(float(averages[0])):
            return None
        longest = 1 / (1 + 0.5 * max(0, i - NUM_CONSTANT))
        new, gain = _best_step(target, back, state, step_key, averages, longest)
        if new is None or stop():
            break
        state = new
        gains.append(gain)
        if len(gains) >= GAIN_STEPS and sum(gains[-GAIN_STEPS:]) < MIN_GAIN * dim:
            break
    return state


def _best_step(
    target: LogDensity,
    back: Array,
    state: SparseGaussian,
    key: PRNGKeyArray,
    averages: tuple[Array, Array, tuple[Array, Array, Array]],
    longest: float,
) -> tuple[SparseGaussian | None, float]:
    """The first of shorter and shorter steps that does not lower the ELBO on the same draws, and its gain."""
    before, gradient, hessian = averages
    minus = ArrowMatrix(*(-np.asarray(a) for a in hessian))
    for halvings in range(MAX_HALVINGS + 1):
        length = longest * 0.5**halvings
        try:
            new = state._replace(precision=state.precision.plus(minus, length)).moved(np.asarray(gradient), length)
            gain = float(_elbo(target, back, new.affine(), key) - before)
        except LinAlgError:
            continue
        if gain >= 0:
            return new, gain
    return None, 0.0


@jit_quick_compilation
def _elbo(target: LogDensity, back: Array, affine: Arrow | Banded, key: PRNGKeyArray) -> Float[Array, ""]:
    """The ELBO of a Gaussian, on the same draws for the same key."""
    return _elbo_and_draws(target, back, affine, key)[0]


def _elbo_and_draws(target: LogDensity, back: Array, affine: Arrow | Banded, key: PRNGKeyArray) -> tuple[Array, Array]:
    dim = affine.shape[0]
    half = jr.normal(key, (dim, NUM_PAIRS))
    noise = jnp.concatenate([half, -half], 1)
    draws, log_det = affine.forward_batch(noise)
    log_q = -0.5 * jnp.sum(noise**2, 0) - 0.5 * dim * math.log(2 * math.pi) - log_det
    return jnp.mean(jax.lax.map(lambda v: target(v[back]), draws.T) - log_q), draws.T


@jit_quick_compilation
def _averages(
    target: LogDensity, back: Array, affine: Arrow | Banded, key: PRNGKeyArray, num_hubs: int, bandwidth: int
) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """The ELBO, and the means of the gradient and of the parts of the Hessian, in the order of the structure."""

    def in_order(v):
        return target(v[back])

    elbo, draws = _elbo_and_draws(target, back, affine, key)
    dim, period = draws.shape[1], 2 * bandwidth + 1
    rest = dim - num_hubs
    residues = jnp.arange(rest) % period
    hubs = jnp.eye(num_hubs, dim, dtype=draws.dtype)
    others = (residues == jnp.arange(min(period, rest))[:, None]).astype(draws.dtype)
    directions = jnp.concatenate([hubs, jnp.concatenate([jnp.zeros((len(others), num_hubs)), others], 1)])
    products_at = hessian_products(in_order, draws[0])

    def one(sums, v):
        gradient, products = jax.grad(in_order)(v), products_at(v, directions)
        usable = jnp.isfinite(gradient).all() & jnp.isfinite(products).all()
        terms = (jnp.where(usable, term, 0) for term in (gradient, products, 1.0))
        return tuple(total + term for total, term in zip(sums, terms, strict=True)), None

    zeros = jnp.zeros(dim, draws.dtype), jnp.zeros(directions.shape, draws.dtype), jnp.zeros((), draws.dtype)
    (gradient, products, count), _ = jax.lax.scan(one, zeros, draws)
    gradient, products = gradient / count, products / count
    head, cross, rows = products[:num_hubs, :num_hubs], products[:num_hubs, num_hubs:], products[num_hubs:, num_hubs:]
    # The entry of positions i + j and i is in the product with the direction of i + j, at i.
    position = jnp.arange(rest)
    bands = jnp.stack(
        [
            jnp.where(position + j < rest, rows[(position + j) % period % len(rows), position], 0)
            for j in range(bandwidth + 1)
        ]
    )
    return elbo, gradient, (0.5 * (head + head.T), cross, bands)
