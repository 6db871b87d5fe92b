"""A flow as a scikit-learn estimator. It needs scikit-learn: `pip install pushforward[sklearn]`."""

import inspect
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pushforward import flows, serialization
from pushforward.bijections import OntoCircles
from pushforward.bijections.base import bounds, is_size
from pushforward.density import BATCH, LEARNING_RATE, fit_density


class FlowDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """The density of samples, by a normalizing flow; works in `Pipeline` and `GridSearchCV`.

    Everything is computed in double precision, whatever JAX is set to.

    Args:
        flow: the name of a recipe in `pushforward.flows`, trained on standardised samples; by default one that
            depends on how many samples there are.
        flow_options: arguments for the recipe, as `{"num_layers": 4}`; only with `flow`.
        support: where the columns lie, as NumPyro constraints: one for all, a list, or a mapping of some columns by
            index or name; by default the real line.
        discrete: columns of values a step apart, as for `fit_density`.
        validation: the share of samples that is held out to stop on.
        batch_size: samples a step.
        learning_rate: of Adam, at first.
        max_epochs: passes through the samples at most.
        patience: how long to wait for a better held-out likelihood.
        random_state: an integer, a `RandomState` or None.

    Attributes:
        flow_: the fitted `pushforward.Flow`.
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
        """Fit to samples of shape (n, dim); `y` plays no part.

        Args:
            X: the samples.
            y: nothing.
            sample_weight: how often each counts, of shape (n,).

        Raises:
            ValueError: as `fit_density` does, and for a `flow` that is no recipe, or options without one.
        """
        samples: Any = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, samples, dtype=np.float64, ensure_non_negative=True)
        key = self._key()
        with jax.enable_x64(True):
            fitted = fit_density(
                samples,
                key=jr.fold_in(key, 1),
                flow=self._recipe(samples.shape[1], jr.fold_in(key, 0)),
                support=self.support,
                discrete=self.discrete,
                weights=sample_weight,
                names=getattr(self, "feature_names_in_", None),
                validation=self.validation,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                max_epochs=self.max_epochs,
                patience=self.patience,
            ).flow
        # As NumPy's, for JAX would round arrays to single precision when they are unpickled.
        self.flow_ = jax.tree.map(lambda leaf: np.asarray(leaf) if eqx.is_array(leaf) else leaf, fitted)
        return self

    def _recipe(self, dim, key):
        if self.flow is None:
            if self.flow_options:
                raise ValueError(
                    f"flow_options are arguments of a recipe, so flow must name one, as flow='arnsf', but flow is None "
                    f"and flow_options={self.flow_options!r}."
                )
            return None
        recipes = {name: recipe for name, recipe in vars(flows).items() if inspect.isfunction(recipe)}
        if not isinstance(self.flow, str) or self.flow not in recipes:
            raise ValueError(
                f"flow must name a recipe in pushforward.flows, but is {self.flow!r}; there are {', '.join(recipes)}."
            )
        return recipes[self.flow](dim, key=key, **(self.flow_options or {}))

    def __getstate__(self):
        # Functions that flows hold, as activations, cannot be pickled; in our files they stand by name.
        state: Any = super().__getstate__()
        return state | {"flow_": serialization.to_bytes(self.flow_)} if "flow_" in state else state

    def __setstate__(self, state):
        if "flow_" in state:
            state = state | {"flow_": serialization.from_bytes(state["flow_"])}
        super().__setstate__(state)

    @property
    def _n_features_out(self) -> int:
        return self.flow_.shape[0]

    def _key(self):
        return jr.key(check_random_state(self.random_state).randint(2**31 - 1))

    def _samples(self, X) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False)

    def score_samples(self, X):
        """The log-density of each sample, in nats."""
        X = self._samples(X)
        with jax.enable_x64(True):
            return np.asarray(self.flow_.log_prob(X))

    def score(self, X, y=None):
        """The mean log-density of samples, in nats; `y` plays no part."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples=1):
        """New samples, of shape (n_samples, dim)."""
        check_is_fitted(self)
        if not is_size(n_samples):
            raise ValueError(f"n_samples must be a whole number of 1 or more, but is {n_samples!r}.")
        key = self._key()
        with jax.enable_x64(True):
            return np.asarray(self.flow_.sample(jr.fold_in(key, 2), (n_samples,)))

    def transform(self, X):
        """Carry samples to the base, where they are standard normal if the fit is good.

        Raises:
            ValueError: for samples outside of the support, which no point of the base leads to.
        """
        X = self._samples(X)
        bijection = self.flow_.bijection
        # An angle may be told by any number of turns more.
        turning = bijection.angles if isinstance(bijection, OntoCircles) else False
        lower, upper = bounds(bijection.codomain)
        with jax.enable_x64(True):
            u = np.asarray(jax.vmap(bijection.inverse)(jnp.asarray(X)))
        outside = np.argwhere(((lower > X) | (upper < X)) & ~np.asarray(turning) | ~np.isfinite(u))
        if len(outside):
            row, column = outside[0]
            raise ValueError(
                f"X has {len(outside)} values outside of the support, which cannot be carried to the base, the first "
                f"in row {row}, column {column}: {X[row, column]:g}."
            )
        return u

    def inverse_transform(self, X):
        """Carry points of the base to samples."""
        check_is_fitted(self)
        with jax.enable_x64(True):
            return np.asarray(jax.vmap(self.flow_.bijection.forward)(jnp.asarray(X, dtype=float)))
