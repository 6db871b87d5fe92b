"""What lies in the tails of a fit, where it has hardly any draws?

Importance weights of a fit do not show mass where the fit has no draws. So the diagnostics also weigh draws of a wider
mixture: the fit itself, the fit with one coordinate of its base spread over many scales, and the fit with the radius of
its base spread over many scales. Relative to this mixture the weights of the fit are bounded, and those of the
posterior have a far lighter tail.

References:
    Hesterberg, Weighted Average Importance Sampling and Defensive Mixture Distributions (1995).
    Owen and Zhou, Safe and Effective Importance Sampling (2000), section 4: the difference to a component of the
    mixture as a control variate.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import gammaln, logsumexp

from pushforward.flow import Flow
from pushforward.generators import numpy_generator
from pushforward.posterior.latent import BATCH, has_supports, in_batches, in_parts, latent_values, map_parts
from pushforward.posterior.rounding import is_noise, smooth_log_density
from pushforward.posterior.target import Target
from pushforward.posterior.verdict.missed import MISSED_RATIO
from pushforward.posterior.verdict.saturation import is_saturated
from pushforward.training.compilation import jit_quick_compilation

# The fractions of draws of the fit, of those with one wide coordinate, and of those with a wide radius.
SHARES = np.array([0.5, 0.25, 0.25])
# The number of draws, if they have at most this many numbers, 128 MB in float64; else fewer, but one batch or more.
NUM_DRAWS, MAX_NUMBERS = 8 * BATCH, 16_000_000
# The largest logarithms of the distance in standard deviations, 55 standard deviations and 5e8, and how often.
LOG_REACHES, REACH_SHARES = np.array([4.0, 20.0]), np.array([0.75, 0.25])
# If the fit is exact, the posterior's density is at most twice that of the mixture, of which it is half.
LOG_HIGH = math.log(10.0)
# The quartiles of a normal distribution are this far apart, in its standard deviations.
QUARTILES_APART = 1.349


class TailDraws(NamedTuple):
    """Draws of the mixture of a fit q with wider distributions m, stratum by stratum.

    Attributes:
        draws: the draws, in unconstrained coordinates.
        log_p: log p - log m.
        log_q: log q - log m.
        unknown: the fraction of draws of the fit at which the density is not finite, or rounding noise.
    """

    draws: Float[np.ndarray, "draws dim"]
    log_p: Float[np.ndarray, " draws"]
    log_q: Float[np.ndarray, " draws"]
    unknown: float

    def excess(self, log_evidence: float) -> Float[np.ndarray, " draws"]:
        """(p / Z - q) / m at each draw, whose mean times a function is the function's excess under p / Z over q.

        It is zero if the fit is exact, so that no noise hides a small excess.

        Args:
            log_evidence: the logarithm of Z.
        """
        return np.exp(np.minimum(self.log_p - log_evidence, 300.0)) - np.exp(self.log_q)

    def without_noise(self, target: Target, log_evidence: float) -> "TailDraws":
        """The draws with no density where it is much higher than the mixture's, but rounding noise.

        Args:
            target: the target.
            log_evidence: the logarithm of Z.
        """
        high = np.flatnonzero(self.log_p - log_evidence > LOG_HIGH)
        high = high[np.argsort(-self.log_p[high], kind="stable")]
        # The first draws are those of the fit.
        noise = high[is_noise(target, self.draws[high], self.draws[: _sizes(len(self.draws))[0]])]
        log_p = self.log_p.copy()
        log_p[noise] = -np.inf
        return self._replace(log_p=log_p)


def _sizes(num: int) -> np.ndarray:
    """The numbers of draws of each kind."""
    return np.rint(SHARES * num).astype(int)


def stratified_mean(values: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """The mean over tail draws, and its standard error.

    Args:
        values: values at the draws.
    """
    strata = np.split(values, np.cumsum(_sizes(len(values)))[:-1])
    variance = sum(float(stratum.size * stratum.var()) for stratum in strata)
    return float(values.mean()), math.sqrt(variance) / len(values)


class Frame(NamedTuple):
    """The coordinates of the base of a flow, shifted and scaled so that its draws are of order one.

    Attributes:
        center: the medians of the base's draws.
        scale: their standard deviations, from quartiles.
        draws: draws of the base, half the number of tail draws.
    """

    center: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    draws: Float[np.ndarray, "draws dim"]

    @classmethod
    def of(cls, flow: Flow, key: PRNGKeyArray) -> "Frame":
        """The frame of a flow.

        Args:
            flow: the flow.
            key: for the draws.
        """
        num = max(BATCH, min(NUM_DRAWS, MAX_NUMBERS // flow.bijection.shape[0]))
        draws = np.asarray(_base_draws(flow, key, 2 * (num // 4)), float)
        low, center, high = np.quantile(draws, (0.25, 0.5, 0.75), axis=0)
        scale = (high - low) / QUARTILES_APART
        return cls(center, np.where(scale > 0, scale, 1.0), draws)


def tail_draws(target: Target, flow: Flow, frame: Frame, key: PRNGKeyArray) -> TailDraws:
    """Draws of the fit and of wider distributions, with the densities relative to their mixture.

    Args:
        target: the target.
        flow: the fit, in unconstrained coordinates.
        frame: the frame of the flow.
        key: for the draws.
    """
    rng = numpy_generator(key)
    dim = frame.center.size
    num_fit, *num_wide = _sizes(2 * len(frame.draws))
    one, radial = (rng.normal(size=(size, dim)) for size in num_wide)
    columns = rng.integers(dim, size=len(one))
    one[np.arange(len(one)), columns] = _wide(rng, len(one)) * rng.choice([-1.0, 1.0], len(one))
    radial *= (math.sqrt(dim) * _wide(rng, len(radial)) / np.linalg.norm(radial, axis=1))[:, None]
    inner = np.concatenate([(frame.draws - frame.center) / frame.scale, one, radial])
    del one, radial
    u, log_p, log_q = evaluate(target, flow, frame.center + frame.scale * inner)
    unknown = float(np.isnan(log_p[:num_fit]).mean())
    parts = np.stack([log_q, *_log_wide_parts(inner, frame.scale)])
    with np.errstate(invalid="ignore"):
        log_mixture = logsumexp(parts, axis=0, b=SHARES[:, None])
        log_p, log_q = log_p - log_mixture, log_q - log_mixture
    return TailDraws(
        u, np.where(np.isfinite(log_p), log_p, -np.inf), np.where(np.isfinite(log_q), log_q, -np.inf), unknown
    )


def evaluate(
    target: Target, flow: Flow, z: Float[np.ndarray, "points dim"]
) -> tuple[Float[np.ndarray, "points dim"], Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """The unconstrained vectors at points of the base, and log p and log q there, as densities of the base's space.

    Args:
        target: the target, p.
        flow: the fit, q.
        z: points of the base's space.
    """
    found = in_batches(lambda part: _densities(target, flow, part), z)
    u, log_p, log_q = found[:, :-2], found[:, -2], found[:, -1]
    return u, np.where(is_saturated(target, u), np.nan, log_p), log_q


@functools.partial(jit_quick_compilation, level=1)
def _densities(target: Target, flow: Flow, z: Float[Array, "batch dim"]) -> Array:
    def densities(z):
        u, log_det = flow.bijection.batched.forward_and_log_det(z)
        log_p = jax.vmap(lambda one: smooth_log_density(target, one))(u) + log_det
        return jnp.concatenate([u, log_p[:, None], flow.base_distribution.log_prob(z)[:, None]], 1)

    return map_parts(densities, z)


@jit_quick_compilation
def _base_draws(flow: Flow, key: PRNGKeyArray, num: int) -> Array:
    return flow.base_distribution.sample(key, (num,))


def _wide(rng: np.random.Generator, num: int) -> np.ndarray:
    """Positive numbers x, of which log(1 + x) is uniform up to one of the reaches."""
    return np.expm1(rng.uniform(size=num) * rng.choice(LOG_REACHES, num, p=REACH_SHARES))


def _log_wide(x: np.ndarray) -> np.ndarray:
    """The log-density of `_wide`."""
    logs = np.log1p(x)
    return np.log((logs[..., None] < LOG_REACHES) @ (REACH_SHARES / LOG_REACHES)) - logs


def _log_normal(inner: np.ndarray) -> np.ndarray:
    return -0.5 * (inner**2 + math.log(2 * math.pi))


def _log_wide_parts(inner: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The log-densities of the two wide distributions."""
    parts = [np.stack([_log_one_wide(part, scale), _log_radial(part, scale)]) for part in in_parts(inner)]
    return np.concatenate(parts, axis=1)


def _log_one_wide(inner: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The log-density of a normal distribution with one wide coordinate, whichever."""
    normal = _log_normal(inner)
    with np.errstate(divide="ignore"):
        wide = _log_wide(np.abs(inner)) - math.log(2)
    # The sum of the others, not of all minus one, which would lose all digits far out.
    zero = np.zeros((len(normal), 1))
    before = np.cumsum(np.concatenate([zero, normal[:, :-1]], 1), 1)
    after = np.cumsum(np.concatenate([zero, normal[:, :0:-1]], 1), 1)[:, ::-1]
    rest = before + after
    return np.asarray(logsumexp(rest + wide, axis=1)) - math.log(inner.shape[1]) - np.log(scale).sum()


def _log_radial(inner: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The log-density of points in all directions with a wide radius."""
    dim = inner.shape[1]
    radius = np.linalg.norm(inner, axis=1)
    log_area = math.log(2) + 0.5 * dim * math.log(math.pi) - gammaln(0.5 * dim)
    with np.errstate(divide="ignore"):
        log_density = _log_wide(radius / math.sqrt(dim)) - 0.5 * math.log(dim)
        return log_density - log_area - (dim - 1) * np.log(radius) - np.log(scale).sum()


# Squared deviations are counted up to this number of standard deviations: beyond, heavy tails have no variance.
MAX_DEVIATION = 10.0
NEGLIGIBLE = 1e-9
# A tail draw is at a place that the fit lacks if it alone stands for this fraction of the evidence, and the density of
# the fit there is a tenth of the posterior's or less. At most MAX_LACKING are kept.
MIN_LACKING, MAX_LACKING = 1e-3, 24


class Excess(NamedTuple):
    """By how much the posterior exceeds a fit, measured with its tails.

    Attributes:
        mass: the excess of the evidence over its estimate from draws of the fit, as a fraction of this.
        mass_se: the standard error of `mass`.
        sd: the relative error of standard deviations of the fit; of the coordinate with the largest error and its
            standard error together.
        sd_se: the standard error of `sd`.
        sd_left: the largest part of such errors that importance weights of the fit's own draws do not correct.
        unknown: the fraction of draws of the fit at which the density is not finite, or rounding noise.
        lacking: tail draws at places that the fit lacks, those that stand for the most evidence first.
    """

    mass: float
    mass_se: float
    sd: float
    sd_se: float
    sd_left: float
    unknown: float
    lacking: Float[np.ndarray, "points dim"]


def measure_excess(
    target: Target,
    flow: Flow,
    draws: Float[np.ndarray, "draws dim"],
    log_weights: Float[np.ndarray, " draws"],
    key: PRNGKeyArray,
) -> Excess:
    """Compare a fit with the posterior by draws of the fit and of wider distributions.

    Standard deviations are those of the latent values, which users read. Those of unconstrained coordinates do not
    count: the logarithm of a scale near zero may be far out where the scale itself hardly changes.

    Args:
        target: the target.
        flow: the fit, in unconstrained coordinates.
        draws: draws of the fit, in unconstrained coordinates.
        log_weights: log p - log q of the draws, some of them finite.
        key: for further draws.
    """
    weights = np.exp(log_weights - log_weights.max())
    log_evidence = float(log_weights.max() + math.log(weights.mean()))
    weights = weights / weights.mean()
    frame_key, key = jr.split(key)
    tails = tail_draws(target, flow, Frame.of(flow, frame_key), key).without_noise(target, log_evidence)
    excess = tails.excess(log_evidence)
    mass, mass_se = stratified_mean(excess)
    counted = np.abs(excess) > NEGLIGIBLE
    worst, left = (0.0, 0.0), 0.0
    for inside, outside in zip(_values(target, draws).T, _values(target, tails.draws).T, strict=True):
        low, center, high = np.quantile(inside, (0.16, 0.5, 0.84))
        if not 0 < high - low < np.inf:
            continue
        with np.errstate(all="ignore"):
            deviations = (np.abs((x - center) / (0.5 * (high - low))) for x in (inside, outside))
            squares, far = (np.minimum(each, MAX_DEVIATION) ** 2 for each in deviations)
        variance = squares.mean()
        values = np.where(counted, excess * np.nan_to_num((far - variance) / (2 * variance)), 0.0)
        error, error_se = stratified_mean(values)
        corrected = float(((weights - 1) * (squares - variance)).mean() / (2 * variance))
        worst = max(worst, (error, error_se), key=lambda each: abs(each[0]) + each[1])
        left = max(left, abs(error - corrected) - 2 * error_se)
    return Excess(mass, mass_se, *worst, left, tails.unknown, _lacking(tails, log_evidence))


def _lacking(tails: TailDraws, log_evidence: float) -> Float[np.ndarray, "points dim"]:
    log_p = tails.log_p - log_evidence
    shares = np.where(tails.log_q < log_p - math.log(MISSED_RATIO), np.exp(np.minimum(log_p, 300.0)), 0.0) / len(log_p)
    largest = np.argsort(-shares, kind="stable")[:MAX_LACKING]
    return tails.draws[largest[shares[largest] > MIN_LACKING]]


def _values(target: Target, u: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points scalars"]:
    return latent_values(target, u) if has_supports(target) else u
