"""A density as a scikit-learn estimator; it needs scikit-learn (`pip install pushforward[sklearn]`)."""

import inspect
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pushforward import flows
from pushforward.bijections.checks import is_size
from pushforward.bijections.intervals import bounds
from pushforward.density import BATCH, LEARNING_RATE, fit_density
from pushforward.flow import Flow


class FlowDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """The density of samples by a normalizing flow, for `Pipeline` and `GridSearchCV`.

    All computations are in double precision, whatever the setting of JAX.

    Args:
        flow: the name of a recipe in `pushforward.flows`, trained on whitened samples; by default one that depends on
            the number of samples and columns.
        flow_options: arguments of the recipe, such as `{"num_layers": 4}`; only with `flow`.
        support: the supports of the columns, as NumPyro constraints: one for all columns, a list, or a mapping from
            some columns (by index or name) to constraints; by default the real line.
        discrete: the discrete columns, as for `fit_density`.
        validation: the fraction of the samples that is used for early stopping.
        batch_size: the number of samples per step.
        learning_rate: the initial learning rate of Adam.
        max_epochs: the largest number of passes through the samples.
        patience: training stops after this number of evaluations without a higher validation likelihood.
        random_state: an integer, a `RandomState` or None.

    Attributes:
        density_: the result of `fit_density`, with `evaluate`, `report` and `history`.
        flow_: its `pushforward.Flow`.
        n_features_in_: the number of columns.
    """

    def __init__(
        self,
        flow: str | None = None,
        *,
        flow_options: dict[str, Any] | None = None,
        support: Any = None,
        discrete: Any = (),
        validation: float = 0.1,
        batch_size: int = BATCH,
        learning_rate: float = LEARNING_RATE,
        max_epochs: int | None = None,
        patience: int = 20,
        random_state: Any = None,
    ):
        self.flow = flow
        self.flow_options = flow_options
        self.support = support
        self.discrete = discrete
        self.validation = validation
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.patience = patience
        self.random_state = random_state

    def fit(self, X, y=None, sample_weight=None):
        """Fit the density to samples.

        Args:
            X: the samples, of shape (n, dim).
            y: ignored.
            sample_weight: the weight of each sample, of shape (n,).

        Raises:
            ValueError: if `flow` is not the name of a recipe, if there are `flow_options` without `flow`, and for the
                errors of `fit_density`.
        """
        samples: Any = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, samples, dtype=np.float64, ensure_non_negative=True)
        key, names = self._key(), getattr(self, "feature_names_in_", None)
        with jax.enable_x64(True):
            density = fit_density(
                samples,
                key=jr.fold_in(key, 1),
                flow=self._recipe(samples.shape[1], jr.fold_in(key, 0)),
                support=self.support,
                discrete=self.discrete,
                weights=sample_weight,
                names=None if names is None else [*names],
                validation=self.validation,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                max_epochs=self.max_epochs,
                patience=self.patience,
            )
        # NumPy arrays, because JAX might round its arrays to single precision when they are unpickled.
        self.density_ = jax.tree.map(lambda leaf: np.asarray(leaf) if eqx.is_inexact_array(leaf) else leaf, density)
        return self

    @property
    def flow_(self) -> Flow:
        """The flow of the fitted density."""
        check_is_fitted(self)
        return self.density_.flow

    def _recipe(self, dim, key):
        if self.flow is None:
            if self.flow_options:
                raise ValueError(
                    "flow_options are arguments of a recipe, so flow must name one, such as flow='arnsf', but flow is "
                    f"None and flow_options={self.flow_options!r}."
                )
            return None
        recipes = {name: recipe for name, recipe in vars(flows).items() if inspect.isfunction(recipe)}
        if not isinstance(self.flow, str) or self.flow not in recipes:
            raise ValueError(
                f"flow must name a recipe in pushforward.flows, but is {self.flow!r}; the recipes are "
                f"{', '.join(recipes)}."
            )
        return recipes[self.flow](dim, key=key, **(self.flow_options or {}))

    @property
    def _n_features_out(self) -> int:
        return self.flow_.shape[0]

    def _key(self):
        return jr.key(check_random_state(self.random_state).randint(2**31 - 1))

    def _samples(self, X) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False)

    def score_samples(self, X):
        """The log-density of each sample, in nats.

        Args:
            X: samples, of shape (n, dim).
        """
        X = self._samples(X)
        with jax.enable_x64(True):
            return np.asarray(self.density_.log_prob(X))

    def score(self, X, y=None):
        """The mean log-density of samples, in nats.

        Args:
            X: samples, of shape (n, dim).
            y: ignored.
        """
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples=1):
        """Draws from the density, of shape (n_samples, dim); those of discrete columns are values on their grids.

        Args:
            n_samples: the number of draws.

        Raises:
            ValueError: if it is not a positive integer.
        """
        check_is_fitted(self)
        if not is_size(n_samples):
            raise ValueError(f"n_samples must be a whole number of 1 or more, but is {n_samples!r}.")
        key = self._key()
        with jax.enable_x64(True):
            return np.asarray(self.density_.sample(jr.fold_in(key, 2), n_samples))

    def transform(self, X):
        """Map samples to the space of the base distribution, where they are standard normal if the fit is good.

        Args:
            X: samples, of shape (n, dim).

        Raises:
            ValueError: for samples outside the support, which have no preimage.
        """
        X = self._samples(X)
        bijection = self.flow_.bijection
        # Angles of more than a full turn have a preimage.
        is_angle = [circle is not None for circle in bijection.circles or (None,) * X.shape[1]]
        lower, upper = bounds(bijection.codomain)
        with jax.enable_x64(True):
            u = np.asarray(bijection.batched.inverse(X))
        outside = np.argwhere(((lower > X) | (upper < X)) & ~np.array(is_angle) | ~np.isfinite(u))
        if len(outside):
            row, column = outside[0]
            raise ValueError(
                f"X has {len(outside)} values outside the support, which have no preimage, the first in row {row}, "
                f"column {column}: {X[row, column]:g}."
            )
        return u

    def inverse_transform(self, X):
        """Map points in the space of the base distribution to samples.

        Args:
            X: the points, of shape (n, dim).
        """
        check_is_fitted(self)
        with jax.enable_x64(True):
            return np.asarray(self.flow_.bijection.batched.forward(X))
