"""How good a density is on test rows: log-likelihoods compared with baselines, and calibration."""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from pushforward.density import baselines
from pushforward.density.data.columns import wrap
from pushforward.flow import Flow
from pushforward.reports.blocks import Text
from pushforward.reports.calibration import LEVEL, outside_band
from pushforward.reports.density import scores_table
from pushforward.reports.page import cell
from pushforward.reports.summary import text_table

NUM_DRAWS = 20_000
# For the calibration of a conditional density: the number of draws for each row, and the largest number of rows. The
# Kolmogorov-Smirnov band does not include the Monte Carlo error of the draws; with few rows it is wide compared with
# that error.
DRAWS_PER_ROW, MAX_ROWS_FOR_CALIBRATION = 200, 1000
# The number of rows whose log-density is computed together: the networks' arrays of all rows could fill the memory.
ROWS_TOGETHER = 20_000


class Samples(NamedTuple):
    """Rows, with their condition and their weights.

    Attributes:
        x: the rows.
        condition: the condition of each row; None if the density is unconditional.
        weights: the weight of each row; None if all are equal.
    """

    x: Float[np.ndarray, "n dim"]
    condition: Float[np.ndarray, "n cond_dim"] | None = None
    weights: Float[np.ndarray, " n"] | None = None

    def equally_weighted(self, key: PRNGKeyArray) -> "Samples":
        """Rows of equal weight: these rows if they have no weights, otherwise rows drawn in proportion to the weights.

        Args:
            key: the key for the draws.
        """
        if self.weights is None:
            return self
        rows = np.asarray(jr.choice(key, len(self.x), (len(self.x),), p=jnp.asarray(self.weights)))
        return Samples(self.x[rows], None if self.condition is None else self.condition[rows])

    def joint(self) -> Float[np.ndarray, "n columns"]:
        """The columns of `x`, followed by those of the condition, as one array."""
        return self.x if self.condition is None else np.concatenate([self.x, self.condition], axis=1)


class Score(NamedTuple):
    """The log-likelihood of test rows under a density, in nats per row.

    Attributes:
        mean: the mean over the rows.
        standard_error: the standard error of the mean.
    """

    mean: float
    standard_error: float

    @classmethod
    def of(cls, log_prob: Float[np.ndarray, " n"]) -> "Score":
        """The score of test rows.

        Args:
            log_prob: the log-density of each row.
        """
        with np.errstate(invalid="ignore"):
            return cls(float(np.mean(log_prob)), float(np.std(log_prob) / len(log_prob) ** 0.5))


class Evaluation(eqx.Module):
    """How good a density is on test rows.

    Attributes:
        scores: the log-likelihood of the rows under the flow and under the baselines, by the name of the density.
        pit: the probability integral transforms (PIT) of the rows, by column: uniform if the density is correct.
        data: the rows, by column; discrete columns are dequantized.
        draws: draws of the density, by column; discrete columns are not rounded.
        mixture: the number of components of the mixture, or the reason why there is no mixture.
        rows_label: the name of the rows in texts, such as "test rows".
    """

    scores: dict[str, Score]
    pit: dict[str, Float[np.ndarray, " calibration"]]
    data: dict[str, Float[np.ndarray, " test"]]
    draws: dict[str, Float[np.ndarray, " draws"]]
    mixture: str = eqx.field(static=True)
    rows_label: str = eqx.field(static=True, default="test rows")

    @property
    def num_rows(self) -> int:
        """The number of test rows."""
        return len(next(iter(self.data.values())))

    @property
    def miscalibrated(self) -> list[str]:
        """The columns whose PIT values are outside of the Kolmogorov-Smirnov band of all columns together."""
        return outside_band(self.pit)

    @property
    def calibration(self) -> str:
        """The result of the Kolmogorov-Smirnov tests, in words."""
        names = ", ".join(self.miscalibrated) or "none"
        return f"columns outside of the Kolmogorov-Smirnov band ({LEVEL:.0%} level for all together): {names}"

    @property
    def remarks(self) -> list[str]:
        """Notes on the scores, one paragraph each."""
        return [f"mixture: {self.mixture}", f"calibration: {self.calibration}"]

    def __str__(self) -> str:
        scores = [(f"  {name}", f"{s.mean:.4f} ± {s.standard_error:.4f}") for name, s in self.scores.items()]
        head = f"log-likelihood of {self.num_rows:,} {self.rows_label}, in nats per row:"
        return "\n".join([head, text_table(scores), *self.remarks])

    def _repr_html_(self) -> str:
        head = f"Log-likelihood of {self.num_rows:,} {self.rows_label}:"
        return cell(Text(head), scores_table(self.scores), *map(Text, self.remarks))


def evaluate(
    flow: Flow,
    test: Samples,
    training: Samples | None,
    columns: tuple[str, ...],
    steps: Float[np.ndarray, " dim"],
    key: PRNGKeyArray,
    rows_label: str = "test rows",
) -> Evaluation:
    """Evaluate a flow on test rows.

    Discrete columns are dequantized, for the flow and for the baselines.

    Args:
        flow: the density, in the units of the rows.
        test: the test rows.
        training: the rows that baselines are fitted to; None for no baselines.
        columns: the names of the columns.
        steps: the step of each discrete column, 0 for others.
        key: the key for the dequantization of discrete columns and for the draws.
        rows_label: the name of the test rows in texts.
    """
    dequantization_key, training_key, draw_key = jr.split(key, 3)
    test = test._replace(x=dequantize(flow, test.x, steps, dequantization_key))
    log_probs = {"flow": _log_prob(flow, test)}
    mixture = "no baselines; they need the training rows, which files do not keep"
    if training is not None:
        training = training.equally_weighted(jr.fold_in(training_key, 1))
        training = training._replace(x=dequantize(flow, training.x, steps, training_key))
        found, mixture = _baselines(training, test)
        log_probs |= found
    draws, pit = _draws_and_pit(flow, test, draw_key)
    return Evaluation(
        scores={name: Score.of(log_prob) for name, log_prob in log_probs.items()},
        pit=by_name(columns, pit),
        data=by_name(columns, test.x),
        draws=by_name(columns, draws),
        mixture=mixture,
        rows_label=rows_label,
    )


def by_name(columns: tuple[str, ...], values: Float[np.ndarray, "n dim"]) -> dict[str, Float[np.ndarray, " n"]]:
    """The columns of an array by name.

    Args:
        columns: the names of the columns.
        values: the array of rows and columns.
    """
    return dict(zip(columns, values.T, strict=True))


def dequantize(flow: Flow, x: Float[np.ndarray, "n dim"], steps: Float[np.ndarray, " dim"], key: PRNGKeyArray):
    """Dequantize the discrete columns: add uniform noise on [0, step).

    Args:
        flow: the density; its angles are wrapped into the intervals of their circles.
        x: the rows.
        steps: the step of each discrete column, 0 for others.
        key: the key for the noise.
    """
    if steps.any():
        x = x + steps * np.asarray(jr.uniform(key, x.shape))
    return wrap(x, flow.bijection.circles)


def _log_prob(flow: Flow, rows: Samples) -> Float[np.ndarray, " n"]:
    parts = []
    for start in range(0, len(rows.x), ROWS_TOGETHER):
        part = slice(start, start + ROWS_TOGETHER)
        condition = None if rows.condition is None else jnp.asarray(rows.condition[part])
        parts.append(np.asarray(flow.log_prob(jnp.asarray(rows.x[part]), condition)))
    return np.concatenate(parts)


def _baselines(training: Samples, test: Samples) -> tuple[Mapping[str, Float[np.ndarray, " test"]], str]:
    """The log-density of the test rows under each baseline, and a remark on the mixture."""
    cond_dim = 0 if test.condition is None else test.condition.shape[1]
    if len(training.x) < 2:
        return {}, "none; one training row has no covariance"
    found = {"Gaussian": baselines.gaussian(training.joint(), test.joint(), cond_dim)}
    mixture = baselines.mixture(training.joint(), test.joint(), cond_dim)
    if mixture is None:
        return found, "none; it needs scikit-learn (pip install 'pushforward[sklearn]')"
    found["mixture of Gaussians"] = mixture.log_prob
    return found, f"{mixture.size} component{'s' * (mixture.size > 1)}, chosen by the Bayesian information criterion"


def _draws_and_pit(flow: Flow, test: Samples, key: PRNGKeyArray) -> tuple[np.ndarray, np.ndarray]:
    r"""Draws, and estimates of $P(X_i \le x_i)$ by draws, for each column of some test rows and the row's condition."""
    row_key, draw_key, rank_key = jr.split(key, 3)
    rows = np.asarray(jr.permutation(row_key, len(test.x)))[:MAX_ROWS_FOR_CALIBRATION]
    x = test.x[rows]
    if test.condition is None:
        draws = np.asarray(flow.sample(draw_key, (NUM_DRAWS,)))
        ranked = np.sort(draws, axis=0)
        below = [np.searchsorted(ranked[:, i], x[:, i]) for i in range(x.shape[1])]
        return draws, np.stack(below, axis=1) / NUM_DRAWS
    draws = np.asarray(flow.sample(draw_key, (DRAWS_PER_ROW,), jnp.asarray(test.condition[rows])))
    ranks = (draws < x).sum(0)
    # Dequantize the ranks: ranks among a finite number of draws are discrete, so they cannot be uniform on [0, 1].
    return draws[0], (ranks + np.asarray(jr.uniform(rank_key, ranks.shape))) / (DRAWS_PER_ROW + 1)
