r"""Rows with missing values: stochastic expectation-maximization.

Missing values are drawn from their distribution given the observed values of the same row, first under a Gaussian that
is fitted to all observed values, then under the density itself, which is fitted again to the completed rows, in a few
rounds. Complete rows alone would be a biased sample unless values are missing independently of everything; the draws
are right if what is missing depends on observed values only (missing at random).

The draws under the density are those of an independence sampler, whose proposal is the Gaussian's conditional
distribution with heavier tails, in unconstrained coordinates.

References:
    Little and Rubin, Statistical Analysis with Missing Data (2019), chapters 8 and 11.
    Celeux and Diebolt, The SEM Algorithm (1985); Nielsen, The Stochastic EM Algorithm (2000).
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pushforward.bijections import AbstractBijection, Affine, Chain, Elementwise, OntoBox
from pushforward.density.conditional import on_grids
from pushforward.density.data.arrays import column_names
from pushforward.density.data.columns import Circle, wrap
from pushforward.density.data.incomplete import IncompleteRows, read_incomplete
from pushforward.density.data.validation import check_condition, check_weights
from pushforward.density.normalization import interval
from pushforward.density.prepare import prepare
from pushforward.flow import Flow
from pushforward.generators import numpy_generator
from pushforward.reports.provenance import key_text
from pushforward.user_warnings import warn

if TYPE_CHECKING:
    from pushforward.density.result import Density

# Fits of the density, each to rows that were completed under the one before.
NUM_ROUNDS = 3
NUM_CHAIN_STEPS = 50
MAX_EM_STEPS, TOLERANCE = 200, 1e-6
# The proposals are t distributions with these degrees of freedom.
DF = 5.0
RIDGE = 1e-6
# With a lower rate of acceptance, chains hardly move in this number of steps.
MIN_ACCEPTANCE = 0.02
Matrix = Float[np.ndarray, "n dim"]
Mask = Bool[np.ndarray, "n dim"]


class Gaussian(NamedTuple):
    """A Gaussian of rows, of which some columns may be missing.

    Attributes:
        mean: the mean.
        covariance: the covariance.
    """

    mean: Float[np.ndarray, " dim"]
    covariance: Float[np.ndarray, "dim dim"]

    def given(self, z: Matrix, missing: Bool[np.ndarray, " dim"]) -> tuple[Float[np.ndarray, "n missing"], np.ndarray]:
        """The conditional means of the missing columns of some rows, and their conditional covariance.

        Args:
            z: rows that miss the same columns.
            missing: which columns are missing.
        """
        seen = ~missing
        gain = np.linalg.solve(self.covariance[np.ix_(seen, seen)], self.covariance[np.ix_(seen, missing)]).T
        mean = self.mean[missing] + (z[:, seen] - self.mean[seen]) @ gain.T
        covariance = self.covariance[np.ix_(missing, missing)] - gain @ self.covariance[np.ix_(seen, missing)]
        return mean, covariance

    @classmethod
    def fit(cls, z: Matrix, missing: Mask, weights: Float[np.ndarray, " n"]) -> "Gaussian":
        """The maximum of the likelihood of the observed values, by expectation-maximization.

        Args:
            z: standardized rows; missing values are not read.
            missing: which values are missing.
            weights: the weights of the rows, with sum 1.
        """
        dim = z.shape[1]
        found, filled = cls(np.zeros(dim), np.eye(dim)), np.where(missing, 0.0, z)
        patterns = list(_patterns(missing))
        for _ in range(MAX_EM_STEPS):
            added = np.zeros((dim, dim))
            for rows, pattern in patterns:
                mean, covariance = found.given(filled[rows], pattern)
                filled[np.ix_(rows, np.flatnonzero(pattern))] = mean
                added[np.ix_(pattern, pattern)] += weights[rows].sum() * covariance
            mean = weights @ filled
            deviations = filled - mean
            covariance = (deviations * weights[:, None]).T @ deviations + added + RIDGE * np.eye(dim)
            change = max(np.abs(mean - found.mean).max(), np.abs(covariance - found.covariance).max())
            found = cls(mean, covariance)
            if change < TOLERANCE:
                break
        return found


def _patterns(missing: Mask) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of each pattern of missing columns, and the pattern; complete rows are left out."""
    patterns, rows_of = np.unique(missing, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        if pattern.any():
            yield np.flatnonzero(rows_of.ravel() == i), pattern


class Incomplete(NamedTuple):
    """Rows with missing values, in unconstrained, standardized coordinates.

    Attributes:
        x: the rows in their units; missing values are NaN.
        missing: which values are missing.
        condition: the standardized condition of each row, of no columns without a condition.
        to_units: the bijection from unconstrained values to rows in their units.
        grids: one value and the step of each discrete column; None for others.
        circles: the ends of the interval of each angle; None for others.
        gaussian: the Gaussian of the unconstrained values and the condition.
    """

    x: Matrix
    missing: Mask
    condition: Float[np.ndarray, "n cond_dim"]
    to_units: AbstractBijection
    grids: Sequence[tuple[float, float] | None]
    circles: Sequence[Circle | None]
    gaussian: Gaussian

    def completed(self, z: Matrix) -> Matrix:
        """Rows in their units: observed values are unchanged, and missing ones lie on the grids and circles.

        Args:
            z: unconstrained values of all columns.
        """
        units = on_grids(np.asarray(self.to_units.batched.forward(jnp.asarray(z, float))), self.grids, self.circles)
        return np.where(self.missing, units, self.x)

    def propose(self, z: Matrix, generator: np.random.Generator, df: float | None) -> tuple[Matrix, np.ndarray]:
        """The rows with new missing values, and the log-density of the proposal at the present and at the new ones.

        Args:
            z: unconstrained values of all columns.
            generator: for the draws.
            df: the degrees of freedom of the proposal; None for the Gaussian itself.
        """
        new, log_densities = z.copy(), np.zeros((2, len(z)))
        for rows, pattern in _patterns(self.missing):
            joint = np.concatenate([z[rows], self.condition[rows]], 1)
            whole = np.append(pattern, np.zeros(self.condition.shape[1], bool))
            mean, covariance = self.gaussian.given(joint, whole)
            factor = np.linalg.cholesky(covariance + RIDGE * np.eye(len(covariance)))
            noise = generator.normal(size=mean.shape)
            if df is not None:
                noise /= np.sqrt(generator.chisquare(df, len(rows)) / df)[:, None]
            columns = np.ix_(rows, np.flatnonzero(pattern))
            before = np.linalg.solve(factor, (z[columns] - mean).T).T
            new[columns] = mean + noise @ factor.T
            if df is not None:
                for i, each in enumerate((before, noise)):
                    squares = (each**2).sum(1)
                    log_densities[i, rows] = -(df + mean.shape[1]) / 2 * np.log1p(squares / df)
        return new, log_densities

    def redrawn(
        self, flow: Flow, condition: np.ndarray | None, z: Matrix, generator: np.random.Generator
    ) -> tuple[Matrix, float]:
        """Missing values after steps of the independence sampler, and its mean rate of acceptance.

        Args:
            flow: the density of dequantized rows, in their units.
            condition: the condition of each row, in its units.
            z: the present unconstrained values of all columns.
            generator: for the draws.
        """
        rows = np.flatnonzero(self.missing.any(1))
        part = self._replace(x=self.x[rows], missing=self.missing[rows], condition=self.condition[rows])
        given = None if condition is None else jnp.asarray(condition[rows], float)
        z, z_part, rates = z.copy(), z[rows], []
        log_p = np.asarray(_log_prob(flow, self.to_units, z_part, given), float)
        for _ in range(NUM_CHAIN_STEPS):
            new, (log_before, log_new) = part.propose(z_part, generator, DF)
            new_log_p = np.asarray(_log_prob(flow, self.to_units, new, given), float)
            new_log_p = np.where(np.isfinite(new_log_p), new_log_p, -np.inf)
            with np.errstate(invalid="ignore"):
                accepted = np.log(generator.random(len(rows))) < new_log_p - log_p + log_before - log_new
            accepted |= np.isneginf(log_p) | np.isnan(log_p)
            z_part, log_p = np.where(accepted[:, None], new, z_part), np.where(accepted, new_log_p, log_p)
            rates.append(accepted.mean())
        z[rows] = z_part
        return z, float(np.mean(rates))


@eqx.filter_jit
def _log_prob(flow: Flow, to_units: AbstractBijection, z: Any, condition: Array | None) -> Array:
    x, log_det = to_units.batched.forward_and_log_det(jnp.asarray(z, float))
    return flow.log_prob(x, condition) + log_det


def fit_incomplete(fit: Callable[..., "Density"], x: Any, key: PRNGKeyArray, options: dict[str, Any]) -> "Density":
    """Fit a density to rows of which some values are missing.

    Args:
        fit: `fit_density`.
        x: the samples; NaN, None, masked and empty values are missing.
        key: for all randomness.
        options: the other arguments of `fit_density`.

    Raises:
        ValueError: if a column has fewer than two different observed values, or for what `fit_density` refuses.
    """
    found = read_incomplete(x, options["names"])
    missing, options = found.missing, options | {"names": found.names}
    if options["condition_names"] is None:
        options["condition_names"] = column_names(options["condition"])
    facts = {"rows with missing values": int(missing.any(1).sum()), "missing values": int(missing.sum())}
    if without := int(missing.all(1).sum()):
        facts["rows without any value, left out"] = without
    kept, options = _rows_of_use(missing, options)
    if not missing[kept].any():
        density = fit(x if len(kept) == len(missing) else found.x[kept], key=key, **options)
        return dataclasses.replace(density, facts=(*density.facts, *facts.items())) if missing.any() else density
    start_key, *keys = jr.split(key, 1 + 2 * NUM_ROUNDS)
    generator = numpy_generator(start_key)
    rows, options, z = _prepared(found._replace(x=found.x[kept], missing=missing[kept]), options, generator)
    z, _ = rows.propose(z, generator, None)
    *earlier, last = _checkpoints(options.pop("checkpoint"))
    rate = math.nan
    for number, file in enumerate([*earlier, last], 1):
        fit_key = keys.pop()
        density = fit(rows.completed(z), key=fit_key, checkpoint=file, **options)
        if number == NUM_ROUNDS or density.interrupted:
            break
        z, rate = rows.redrawn(density.flow, options["condition"], z, numpy_generator(keys.pop()))
    if last is not None and not density.interrupted:
        for file in earlier:
            file.unlink(missing_ok=True)
    if rate < MIN_ACCEPTANCE:
        warn(
            f"only {rate:.1%} of the proposals for missing values were accepted, so they are hardly distributed as "
            "under the density; use fewer columns, or rows with fewer missing values."
        )
    facts["rounds of imputation"] = number
    # The call of the whole fit, not of its last round.
    call = dict(density.provenance)["call"].replace(key_text(fit_key), key_text(key))
    origin = dict(density.provenance) | {"call": f'{call[:-1]}, missing="impute")'}
    return dataclasses.replace(density, facts=(*density.facts, *facts.items()), provenance=tuple(origin.items()))


def _checkpoints(last: Any) -> list[Any]:
    """The file of each round; None without a checkpoint."""
    if last is None:
        return [None] * NUM_ROUNDS
    return [*(Path(f"{os.fspath(last)}-round{number}") for number in range(1, NUM_ROUNDS)), last]


def _rows_of_use(missing: Mask, options: dict[str, Any]) -> tuple[Int[np.ndarray, " kept"], dict[str, Any]]:
    """The rows that have a value and a positive weight, and the arguments of the fit for these rows."""
    size, is_of_use, weights = len(missing), ~missing.all(1), None
    if options["weights"] is not None:
        weights = check_weights(options["weights"], size, 1)
        is_of_use &= weights > 0
    kept = np.flatnonzero(is_of_use)
    options = options | {"weights": None if weights is None else weights[kept]}
    if (condition := options["condition"]) is not None:
        options["condition"] = check_condition(condition, size, options["condition_names"], weights)[kept]
    return kept, options


def _prepared(
    found: IncompleteRows, options: dict[str, Any], generator: np.random.Generator
) -> tuple[Incomplete, dict[str, Any], Matrix]:
    """The rows in unconstrained coordinates, the arguments of the fits of completed rows, and the observed values."""
    x, missing, filled = found.x, found.missing, found.filled(generator)
    names = ("condition", "support", "discrete", "weights", "names", "condition_names")
    prepared = prepare(filled, **{name: options[name] for name in names}, rows_at_once=len(x))
    steps, circles = prepared.steps, prepared.circles
    grids = [(float(np.nanmin(x[:, i])), float(step)) if step else None for i, step in enumerate(steps)]
    box = OntoBox([interval(*(c or ends)) for c, ends in zip(circles, prepared.to_support.ends, strict=True)])
    # The last step of a circle may end beyond its cut.
    filled = wrap(wrap(filled, circles) + steps * generator.random(x.shape), circles)
    z = np.asarray(box.batched.inverse(jnp.asarray(filled, float)), float)
    weights = np.ones(len(x)) if prepared.source.weights is None else prepared.source.weights
    weights = weights / weights.sum()
    observed = np.where(missing, 0.0, weights[:, None])
    observed = observed / observed.sum(0)
    loc = (observed * z).sum(0)
    scale = np.sqrt((observed * (z - loc) ** 2).sum(0))
    to_units = Chain([Elementwise.each(Affine, loc, scale), box])
    z, condition = (z - loc) / scale, np.zeros((len(x), 0))
    if prepared.source.condition is not None:
        given = prepared.source.condition
        condition = (given - given.mean(0)) / given.std(0)
    joint, hidden = np.concatenate([z, condition], 1), np.zeros(condition.shape, bool)
    gaussian = Gaussian.fit(joint, np.concatenate([missing, hidden], 1), weights)
    options = options | {
        "condition": prepared.source.condition, "weights": prepared.source.weights, "names": prepared.names,
        "condition_names": prepared.condition_names,
        "discrete": {i: float(step) for i, step in enumerate(steps) if step},
    }  # fmt: skip
    return Incomplete(x, missing, condition, to_units, grids, circles, gaussian), options, z
