"""The result of `fit_density`: draws, densities, scores, files."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.arguments import FROM_ZERO, checked
from pushforward.bijections.arrays import ArrayLike
from pushforward.density.conditional import ConditionalDensity, condition_on, on_grids
from pushforward.density.data.arrays import as_matrix, column_labels, column_names
from pushforward.density.data.validation import check_finite
from pushforward.density.evaluate import Evaluation, Samples, by_name, dequantize, evaluate
from pushforward.files import write_text
from pushforward.flow import Flow
from pushforward.generators import separate_key
from pushforward.reports.density import density_page
from pushforward.reports.figures import plot_pairs
from pushforward.reports.provenance import Facts as Provenance, command_of
from pushforward.reports.summary import Facts
from pushforward.reports.verdicts import VALIDATION_ROWS
from pushforward.serialization import Picklable, save
from pushforward.training.history import History

# For densities that were saved before they had a history.
NO_HISTORY = History(np.zeros(0), ())
# The draws on the page of a density without rows.
NUM_DRAWN = 10_000


class Density(Picklable):
    """A fitted density of columns that have names.

    Methods that draw take a `key`. `evaluate`, `plot` and `report` use the density's own `key` by default, so that they
    return the same results each time.

    Attributes:
        flow: the density, in the units of the columns.
        columns: the names of the columns.
        condition_names: the names of the columns of the condition; empty for an unconditional density.
        grids: one value and the step of each discrete column; None for other columns.
        history: the history of the training; its losses are negative log-likelihoods per row.
        facts: the facts on the fit that `summary` shows, as names and values.
        interrupted: whether the user ended the training, by Ctrl-C or by the callback.
        key: the default key of `evaluate`, `plot` and `report`.
        training: the training rows, for baselines; they are not saved.
        validation: the validation rows, for plots; they are not saved.
        provenance: facts on the call, the key and the versions, for the report.
    """

    flow: Flow
    columns: tuple[str, ...] = eqx.field(static=True)
    condition_names: tuple[str, ...] = eqx.field(static=True)
    grids: tuple[tuple[float, float] | None, ...] = eqx.field(static=True)
    history: History
    facts: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    interrupted: bool = eqx.field(static=True)
    key: PRNGKeyArray | None
    training: Samples | None
    validation: Samples | None
    provenance: Provenance = eqx.field(static=True, default=())

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a density of an earlier version; in version 0.1.0 it had only a flow, names and grids.

        Args:
            fields: the fields in the file.
        """
        fields = {"condition_names" if name == "given" else name: value for name, value in fields.items()}
        if "history" in fields:
            return fields
        kept = {
            "history": NO_HISTORY, "facts": (), "interrupted": False, "key": None, "training": None, "validation": None,
            **fields,
        }  # fmt: skip
        kept["condition_names"] = kept.get("condition_names", ())
        kept["grids"] = kept.get("grids") or (None,) * len(fields["columns"])
        return kept

    @classmethod
    @checked()
    def of(cls, flow: Flow) -> "Density":
        """A flow over vectors as a density, with columns x0, x1, ..., conditional on c0, c1, ...

        Args:
            flow: a flow of shape (dim,) and cond_shape (cond_dim,) or None.

        Raises:
            ValueError: for a flow of other shapes.
        """
        if len(flow.shape) != 1 or len(flow.cond_shape or (0,)) != 1:
            raise ValueError(
                "Density.of needs a flow over vectors: shape (dim,) and cond_shape (cond_dim,) or None, but the flow "
                f"has shape {flow.shape} and cond_shape {flow.cond_shape}."
            )
        columns, condition_names = default_names("x", flow.shape[0]), default_names("c", sum(flow.cond_shape or ()))
        return cls(flow, columns, condition_names, (None,) * len(columns), NO_HISTORY, (), False, None, None, None)

    @checked()
    def log_prob(
        self, x: ArrayLike, condition: ArrayLike | Mapping[str, ArrayLike] | None = None
    ) -> Float[Array, " ..."]:
        """The log-density of rows, in nats and in the units of the columns.

        For a discrete column, this is the density of the dequantized values: the probability of a value is the integral
        over [value, value + step).

        Args:
            x: an array of shape (..., dim), or a data frame.
            condition: an array of shape (..., cond_dim), a data frame, or a mapping from the names of its columns to
                numbers.
        """
        return self.flow.log_prob(_values(x, self.columns), self._condition(condition))

    @checked(sample_shape=FROM_ZERO)
    def sample(
        self,
        key: PRNGKeyArray,
        sample_shape: int | tuple[int, ...] = (),
        condition: ArrayLike | Mapping[str, ArrayLike] | None = None,
    ) -> Float[Array, "... dim"]:
        """Draws, of shape sample_shape + batch of the condition + (dim,); discrete columns are rounded to their values.

        Args:
            key: the key for the draws.
            sample_shape: the number of draws (for each condition), or their shape.
            condition: the condition, as for `log_prob`.
        """
        shape = sample_shape if isinstance(sample_shape, tuple) else (sample_shape,)
        draws = self.flow.sample(key, shape, self._condition(condition))
        return on_grids(draws, self.grids, self.flow.bijection.circles)

    @checked()
    def condition(
        self,
        given: Mapping[int | str, float] | None = None,
        /,
        *,
        on: ArrayLike | Mapping[str, ArrayLike] | None = None,
        key: PRNGKeyArray | None = None,
        **columns: float,
    ) -> ConditionalDensity:
        """The density of the other columns, given values of some: `density.condition(age=40.0, sex=1.0)`.

        With one column left it is normalized by quadrature, otherwise by adaptive importance sampling, whose effective
        sample size the result has; below 400 there is a warning. Each column is given by one number.

        Args:
            given: values by the names or the indices of columns.
            on: the condition of a conditional density, one row, as for `log_prob`.
            key: the key for importance sampling, by default the density's own.
            **columns: values by the names of columns.

        Returns:
            An object with `sample(key, shape)`, `log_prob(x)`, `mean()`, `std()`, `quantiles(levels)`, `summary()`, and
            the log-density of the given values, `log_evidence`.

        Raises:
            ValueError: if a column does not exist, or all or none are given; if a value is not a finite number, or not
                inside the support or among the values of its column; or if the density of the values is zero.
        """
        if twice := [name for name in columns if name in (given or {})]:
            raise ValueError(f"condition: the column {twice[0]} is given twice.")
        row = self._condition(on)
        if row is not None and row.ndim != 1:
            raise ValueError(f"on must be one condition, of shape ({len(self.condition_names)},), but got {row.shape}.")
        values = {**(given or {}), **columns}
        return condition_on(self.flow, self.columns, self.grids, values, row, self._key(key))

    @checked()
    def evaluate(
        self,
        x_test: ArrayLike,
        condition: ArrayLike | None = None,
        *,
        key: PRNGKeyArray | None = None,
        baselines: bool = True,
    ) -> Evaluation:
        """Evaluate the density on rows that it was not fitted to.

        Args:
            x_test: an array of shape (n, dim), or a data frame.
            condition: an array of shape (n, cond_dim), or a data frame.
            key: the key for the dequantization of discrete columns and for draws, by default the density's own.
            baselines: whether to fit baselines to the training rows and to evaluate them too. A density that was loaded
                from a file has no training rows, so it is evaluated without baselines.

        Returns:
            The log-likelihood of the flow and of the baselines, and the calibration of the flow.

        Raises:
            ValueError: for rows of another shape, or with values that are not finite.
        """
        x = _checked("x_test", x_test, self.columns)
        if self.condition_names:
            if condition is None:
                raise ValueError(f"this density is conditional: it needs values of {', '.join(self.condition_names)}.")
            condition = _checked("condition", condition, self.condition_names)
            if len(condition) != len(x):
                raise ValueError(
                    f"x_test and condition must have equally many rows, but have {len(x)} and {len(condition)}."
                )
        elif condition is not None:
            raise ValueError("this density is unconditional, but condition= was given.")
        training = self.training if baselines else None
        return self._evaluate(Samples(x, condition), self._key(key), training, "test rows")

    def _evaluate(self, rows: Samples, key: PRNGKeyArray, training: Samples | None, rows_label: str) -> Evaluation:
        return evaluate(self.flow, rows, training, self.columns, self.steps, key, rows_label)

    @property
    def steps(self) -> Float[np.ndarray, " dim"]:
        """The steps of discrete columns, 0 for the others."""
        return np.array([0.0 if grid is None else grid[1] for grid in self.grids])

    def summary(self) -> Facts:
        """The columns, and how the density was fitted."""
        facts: dict[str, Any] = {"columns": ", ".join(self.columns)}
        if self.condition_names:
            facts["condition"] = ", ".join(self.condition_names)
        facts |= dict(self.facts)
        if self.history.evaluations:
            facts["seconds"] = self.history.evaluations[-1].seconds
        if len(losses := self.history.series("loss")):
            facts["validation log-likelihood"] = -float(np.nanmin(losses))
        return Facts(facts)

    @checked()
    def plot(self, *, key: PRNGKeyArray | None = None) -> Any:
        """A Matplotlib figure of the validation rows and of draws.

        Args:
            key: the key for the draws, by default the density's own.

        Raises:
            ValueError: if the density was loaded from a file, which keeps no rows.
        """
        rows, (dequantization_key, draw_key) = self._validation(), jr.split(self._key(key))
        x = dequantize(self.flow, rows.x, self.steps, dequantization_key)
        draws = self.flow.sample(draw_key, () if self.condition_names else (len(x),), self._condition(rows.condition))
        return plot_pairs(by_name(self.columns, np.asarray(draws)), by_name(self.columns, x))

    @checked()
    def report(
        self,
        path: str | os.PathLike,
        evaluation: Evaluation | None = None,
        *,
        title: str | None = None,
        warnings: Sequence[str] = (),
        command: str = "",
    ) -> None:
        """Write one HTML page: a verdict in words, scores, plots of data and draws, calibration and the learning curve.

        Args:
            path: the file to write; it is replaced if it exists.
            evaluation: the result of `evaluate` for test rows. By default the density is evaluated on the validation
                rows, which early stopping has used: scores on test rows are more reliable. A density from a file, which
                keeps no rows, then has a page without scores.
            title: the title of the page, by default the names of the columns.
            warnings: paragraphs that are emphasized.
            command: the command that repeats the fit, for the page; by default that of the terminal that made it, or
                the call of `fit_density`.
        """
        draws = None
        if evaluation is None and self.validation is not None:
            evaluation = self._evaluate(self._validation(), self._key(None), self.training, VALIDATION_ROWS)
        elif evaluation is None and not self.condition_names:
            key = jr.key(0) if self.key is None else self.key
            draws = by_name(self.columns, np.asarray(self.sample(key, NUM_DRAWN)))
        content = density_page(
            title or f"density of {', '.join(self.columns)}", self.summary(), evaluation, self.history, warnings,
            dict(self.provenance), command or command_of(self.provenance), draws,
        )  # fmt: skip
        write_text(path, content)

    def _validation(self) -> Samples:
        if self.validation is None:
            raise ValueError(
                "this density has no validation rows, because files do not keep them; evaluate it on test rows, "
                "density.evaluate(x_test), and pass the result: density.report(path, evaluation)."
            )
        return self.validation.equally_weighted(separate_key(self._key(None)))

    @checked()
    def save(self, path: str | os.PathLike) -> None:
        """Save to one file, without the training and validation rows; `pushforward.load` reads it.

        Args:
            path: the path of the file; it is replaced if it exists.
        """
        save(path, self.as_saved())

    def as_saved(self) -> "Density":
        """The density without the training and validation rows."""
        rows = lambda density: (density.training, density.validation)  # noqa: E731
        return eqx.tree_at(rows, self, (None, None), is_leaf=lambda node: node is None)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _key(self, key: PRNGKeyArray | None) -> PRNGKeyArray:
        found = self.key if key is None else key
        if found is None:
            raise ValueError("this density was saved without a key; pass one, as in key=jax.random.key(0).")
        return found

    def _condition(self, condition: ArrayLike | Mapping[str, ArrayLike] | None) -> Array | None:
        """The condition as an array with the columns along the last axis."""
        if condition is None and self.condition_names:
            condition = {}
        if not isinstance(condition, Mapping):
            return None if condition is None else _values(condition, self.condition_names)
        if missing := [name for name in self.condition_names if name not in condition]:
            raise ValueError(f"this density is conditional: it needs values of {', '.join(missing)}.")
        if unknown := [name for name in condition if name not in self.condition_names]:
            raise ValueError(
                f"this density is not conditional on {', '.join(unknown)}; it is conditional on "
                f"{', '.join(self.condition_names) or 'nothing'}."
            )
        if not self.condition_names:
            return None
        values = jnp.broadcast_arrays(*(jnp.asarray(condition[name], float) for name in self.condition_names))
        return jnp.stack(values, axis=-1)


def default_names(letter: str, number: int) -> tuple[str, ...]:
    """Names for columns without names: x0, x1, ...

    Args:
        letter: the letter that the names begin with.
        number: the number of columns.
    """
    return tuple(f"{letter}{i}" for i in range(number))


def _values(values: ArrayLike, names: tuple[str, ...]) -> Array:
    """The values as an array; if they are a data frame with columns of these names, those columns in this order."""
    return jnp.asarray(values if column_names(values) is None else _matrix("x", values, names))


def _matrix(name: str, values: ArrayLike, names: tuple[str, ...]) -> Float[np.ndarray, "n dim"]:
    own = column_names(values)
    rows = as_matrix(name, values, own)
    if not own or not set(names) & set(own):
        return rows
    if missing := [column for column in names if column not in own]:
        raise ValueError(f"{name} has no column {', '.join(missing)}; it has {', '.join(own)}.")
    return rows[:, [own.index(column) for column in names]]


def _checked(name: str, values: ArrayLike, names: tuple[str, ...]) -> Float[np.ndarray, "n dim"]:
    """The values as a matrix, after a check that they are finite."""
    rows = _matrix(name, values, names)
    if rows.shape[1] != len(names):
        raise ValueError(f"{name} must have {len(names)} columns, {', '.join(names)}, but has shape {rows.shape}.")
    check_finite(name, rows, column_labels(len(names), names), np.arange(len(rows)))
    return rows
