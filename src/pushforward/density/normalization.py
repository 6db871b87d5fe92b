r"""The density of some columns given values of the others, $q(x_A \mid x_B = b) = q(x_A, b) / q(b)$.

The numerator is the joint density, so only the normalizing constant $q(b) = \int q(x_A, b)\,\mathrm dx_A$ is missing.
With one column left it is computed by quadrature, otherwise by adaptive importance sampling: the proposal is a mixture
of Student's t distributions, at first fitted to draws of the joint density near $b$, then in some rounds to its own
weighted draws.

Both work in unconstrained coordinates, so supports hold. The value of a discrete column stands for the interval
[value, value + step) of the dequantized column, over which the density is averaged.

References:
    Cappé et al., Adaptive Importance Sampling in General Mixture Classes (2008). https://arxiv.org/abs/0710.4242
    Tierney, Markov Chains for Exploring Posterior Distributions (1994), section 2.3.3, on independence chains.
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints

from pushforward.bijections import OntoBox
from pushforward.bijections.intervals import bounds
from pushforward.density.data.columns import wrap
from pushforward.density.proposal import Proposal
from pushforward.flow import Flow
from pushforward.generators import numpy_generator
from pushforward.training.compilation import in_batches_of
from pushforward.weights import effective_sample_size

BATCH = 8192
# Points of the dequantized values of given discrete columns, together.
NUM_OFFSETS = 32
# Quadrature: the number of points, first and at most; the largest relative change of the integral when it doubles; and
# how far below the largest log-density the density counts.
FEWEST_POINTS, MOST_POINTS, TOLERANCE, DEPTH = 2**13, 2**18, 1e-6, 40.0
MAX_ZOOMS = 30
# Importance sampling.
NUM_JOINT_DRAWS, NUM_NEAR = 20_000, 1_000
NUM_ROUNDS, ENOUGH_ESS_FRACTION = 8, 0.7
NUM_DRAWS = 4 * BATCH
NUM_CHAIN_STEPS = 10

Points = Float[np.ndarray, "points free"]
Vector = Float[np.ndarray, " points"]


class JointAt(eqx.Module):
    """A joint density at given values, as a function of the unconstrained values of the free columns.

    Args:
        flow: the joint density.
        condition: its condition, if it takes one.
        free: the indices of the free columns.
        given: the values of the other columns, one row for each offset of discrete ones.
        log_step: the logarithm of the volume of the steps of discrete given columns.
        box: from the whole space onto the supports of the free columns.
    """

    flow: Flow
    condition: Array | None
    given: Float[Array, "offsets given"]
    free: tuple[int, ...] = eqx.field(static=True)
    log_step: float = eqx.field(static=True)
    box: OntoBox = eqx.field(static=True)

    def log_prob(self, x: Float[Array, "n free"]) -> Float[Array, " n"]:
        """The log-density of the free columns and the given values together.

        Args:
            x: values of the free columns.
        """
        dim = self.flow.shape[0]
        others = [i for i in range(dim) if i not in self.free]
        rows = jnp.zeros((len(self.given), len(x), dim), x.dtype).at[..., list(self.free)].set(x)
        rows = rows.at[..., others].set(self.given[:, None])
        log_prob = jax.lax.map(lambda part: self.flow.log_prob(part, self.condition), rows)
        return jax.nn.logsumexp(log_prob, axis=0) - math.log(len(self.given)) + self.log_step

    def __call__(self, z: Points) -> Vector:
        """The log-density at unconstrained values; where it is NaN it is zero."""
        found = in_batches_of(lambda part: _unconstrained(self, part), z, BATCH)
        return np.where(np.isfinite(found), found, -np.inf)

    def values(self, z: Points) -> Points:
        """The values of the free columns.

        Args:
            z: their unconstrained values.
        """
        return np.asarray(self.box.batched.forward(jnp.asarray(z, float)))


@eqx.filter_jit
def _unconstrained(joint: JointAt, z: Any) -> Array:
    x, log_det = joint.box.batched.forward_and_log_det(jnp.asarray(z, float))
    return joint.log_prob(x) + log_det


@eqx.filter_jit
def joint_log_prob(joint: JointAt, x: Array) -> Array:
    """The log-density of free columns and given values, compiled.

    Args:
        joint: the joint density at the given values.
        x: values of the free columns.
    """
    return joint.log_prob(x)


class Solution(NamedTuple):
    """A normalized conditional density as weighted points.

    Attributes:
        z: unconstrained points; in increasing order, equally spaced, for one column.
        weights: their weights, with sum 1.
        log_evidence: the log-density of the given values.
        log_evidence_se: its standard error; 0 for quadrature.
        ess_fraction: the effective sample size, as a fraction of the number of points; 1 for quadrature.
        proposal: the mixture that the points are drawn from; None for quadrature.
    """

    z: Points
    weights: Vector
    log_evidence: float
    log_evidence_se: float
    ess_fraction: float
    proposal: Proposal | None

    @property
    def ess(self) -> float:
        """The effective sample size."""
        return self.ess_fraction * len(self.z)

    def sample(self, joint: JointAt, key: PRNGKeyArray, num: int) -> Points:
        """Draws, as unconstrained vectors.

        With a proposal they are resampled points, each moved by steps of an independence sampler, which leave the
        conditional density invariant, so that equal points become different ones.

        Args:
            joint: the joint density.
            key: the key for the draws.
            num: the number of draws.
        """
        generator = numpy_generator(key)
        if self.proposal is None:
            levels = np.cumsum(self.weights) - 0.5 * self.weights
            return np.interp(generator.random(num), levels, self.z[:, 0])[:, None]
        rows = generator.choice(len(self.z), num, p=self.weights)
        z = self.z[rows]
        log_weights = joint(z) - self.proposal.log_prob(z)
        for _ in range(NUM_CHAIN_STEPS):
            new = self.proposal.sample(generator, num)
            new_log_weights = joint(new) - self.proposal.log_prob(new)
            accepted = np.log(generator.random(num)) < new_log_weights - log_weights
            z = np.where(accepted[:, None], new, z)
            log_weights = np.where(accepted, new_log_weights, log_weights)
        return z


def joint_at(flow: Flow, condition: Array | None, given: dict[int, float], steps: Float[np.ndarray, " dim"]) -> JointAt:
    """The joint density at given values.

    Args:
        flow: the joint density, of dequantized columns.
        condition: its condition, if it takes one.
        given: the values of some columns by their index.
        steps: the steps of discrete columns, 0 for others.
    """
    dim = flow.shape[0]
    free = tuple(i for i in range(dim) if i not in given)
    columns = sorted(given)
    offsets, widths = np.zeros((1, len(columns))), steps[columns]
    discrete = np.flatnonzero(widths)
    if len(discrete):
        from scipy.stats import qmc  # only here: it is slow to import

        offsets = np.zeros((NUM_OFFSETS, len(columns)))
        offsets[:, discrete] = qmc.Sobol(len(discrete), scramble=False).random(NUM_OFFSETS) + 0.5 / NUM_OFFSETS
    circles = flow.bijection.circles or (None,) * dim
    # The last step of a circle may end beyond its cut.
    values = wrap(np.array([given[i] for i in columns]) + offsets * widths, [circles[i] for i in columns])
    log_step = float(np.log(widths[discrete]).sum())
    return JointAt(flow, condition, jnp.asarray(values, float), free, log_step, box_of(flow, free))


def box_of(flow: Flow, columns: tuple[int, ...]) -> OntoBox:
    """The bijection from the whole space onto the supports of some columns.

    Args:
        flow: the joint density.
        columns: the indices of the columns.
    """
    circles = flow.bijection.circles or (None,) * flow.shape[0]
    lower, upper = (np.broadcast_to(end, flow.shape) for end in bounds(flow.bijection.codomain))
    ends = [circles[i] or (float(lower[i]), float(upper[i])) for i in columns]
    return OntoBox([interval(*each) for each in ends])


def interval(lower: float, upper: float) -> constraints.Constraint:
    """The constraint of an interval, whose ends may be infinite.

    Args:
        lower: the lower end.
        upper: the upper end.
    """
    if math.isinf(lower) and math.isinf(upper):
        return constraints.real
    if math.isinf(upper):
        return constraints.greater_than(lower)
    return constraints.less_than(upper) if math.isinf(lower) else constraints.interval(lower, upper)


def solve(joint: JointAt, key: PRNGKeyArray) -> Solution:
    """Normalize the density of the free columns.

    Args:
        joint: the joint density at the given values.
        key: for all randomness.
    """
    draw_key, round_key = jr.split(key)
    x = _sample(joint.flow, joint.condition, draw_key)
    z = np.asarray(joint.box.batched.inverse(x[:, list(joint.free)]), float)
    if len(joint.free) == 1:
        return _quadrature(joint, z[np.isfinite(z)])
    others = tuple(i for i in range(joint.flow.shape[0]) if i not in joint.free)
    box = box_of(joint.flow, others)
    given = np.asarray(box.batched.inverse(x[:, list(others)]), float)
    # Not the mean, which is far from all of them if they lie on both sides of the cut of a circle.
    at = np.asarray(box.batched.inverse(joint.given[0]), float)
    finite = np.isfinite(z).all(1) & np.isfinite(given).all(1)
    return _importance_sampling(joint, _near(z[finite], given[finite], at), numpy_generator(round_key))


@eqx.filter_jit
def _sample(flow: Flow, condition: Array | None, key: PRNGKeyArray) -> Array:
    return flow.sample(key, (NUM_JOINT_DRAWS,), condition)


def _quadrature(joint: JointAt, z: Vector) -> Solution:
    """By the trapezoidal rule, on an interval that contains all points whose density counts."""
    span = z.max() - z.min()
    lower, upper = z.min() - 5 * span, z.max() + 5 * span
    for _ in range(MAX_ZOOMS):
        points = np.linspace(lower, upper, FEWEST_POINTS)
        log_density = joint(points[:, None])
        counts = np.flatnonzero(log_density > log_density.max() - DEPTH)
        if not len(counts):
            return _impossible(points[:, None])
        first, last = points[max(counts[0] - 1, 0)], points[min(counts[-1] + 1, len(points) - 1)]
        small = last - first < 0.5 * (upper - lower)
        lower, upper = first, last
        if not small:
            break
    before, num = math.nan, FEWEST_POINTS
    while True:
        points = np.linspace(lower, upper, num)
        log_density = joint(points[:, None])
        weights = np.exp(log_density - log_density.max())
        weights[[0, -1]] *= 0.5
        log_evidence = float(np.log(weights.sum() * (points[1] - points[0])) + log_density.max())
        if abs(log_evidence - before) < TOLERANCE or num >= MOST_POINTS:
            break
        before, num = log_evidence, 2 * num
    return Solution(points[:, None], weights / weights.sum(), log_evidence, 0.0, 1.0, None)


def _impossible(z: Points) -> Solution:
    return Solution(z, np.full(len(z), 1 / len(z)), -math.inf, 0.0, 0.0, None)


def _near(
    z: Points, given: Float[np.ndarray, "points given"], at: Float[np.ndarray, " given"]
) -> Float[np.ndarray, "near free"]:
    """Draws whose given columns are near the given values, moved there by a linear regression."""
    scale = given.std(0) + 1e-300
    deviations = (given - at) / scale
    nearest = np.argsort((deviations**2).sum(1))[: max(NUM_NEAR, 20 * z.shape[1])]
    x, y = deviations[nearest], z[nearest]
    design = np.column_stack([np.ones(len(x)), x])
    coefficients = np.linalg.solve(design.T @ design + 1e-6 * len(x) * np.eye(design.shape[1]), design.T @ y)
    return y - x @ coefficients[1:]


def _importance_sampling(joint: JointAt, near: Points, generator: np.random.Generator) -> Solution:
    """In rounds, each with the mixture that is fitted to the weighted points of the one before."""
    best, best_fraction, proposal = None, -1.0, Proposal.fit(near, generator)
    for _ in range(NUM_ROUNDS):
        z, log_weights = _weighted(joint, proposal, generator, BATCH)
        if not np.isfinite(log_weights).any():
            break
        fraction = effective_sample_size(np.exp(log_weights - log_weights.max())) / BATCH
        if fraction > best_fraction:
            best, best_fraction = proposal, fraction
        if fraction > ENOUGH_ESS_FRACTION:
            break
        proposal = Proposal.fit(z, generator, _tempered(log_weights, 20 * (z.shape[1] + 1)))
    if best is None:
        return _impossible(near)
    z, log_weights = _weighted(joint, best, generator, NUM_DRAWS)
    if not np.isfinite(log_weights).any():
        return _impossible(near)
    weights = np.exp(log_weights - log_weights.max())
    mean = weights.mean()
    error = float(weights.std() / mean / math.sqrt(len(weights)))
    fraction = effective_sample_size(weights) / len(weights)
    log_evidence = float(np.log(mean) + log_weights.max())
    return Solution(z, weights / weights.sum(), log_evidence, error, fraction, best)


def _weighted(joint: JointAt, proposal: Proposal, generator: Any, num: int) -> tuple[Points, Vector]:
    z = proposal.sample(generator, num)
    return z, joint(z) - proposal.log_prob(z)


def _tempered(log_weights: Vector, min_ess: float) -> Vector:
    """The weights to the largest power up to 1 with this effective sample size."""
    relative = log_weights - log_weights.max()
    for power in 2.0 ** -np.arange(0, 20):
        weights = np.exp(power * relative)
        if effective_sample_size(weights) >= min_ess:
            return weights
    return np.isfinite(relative) * 1.0
