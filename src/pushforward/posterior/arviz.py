"""Draws in the data structures of ArviZ."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from pushforward.posterior.predictions import bytes_per_draw, discrete, log_likelihoods, predict, replicas
from pushforward.posterior.spaces.base import UnavailablePrediction
from pushforward.posterior.target import Draw, Target
from pushforward.reports.columns import named
from pushforward.user_warnings import warn

Coords = Mapping[str, Sequence]
Dims = Mapping[str, Sequence[str]]


def import_arviz() -> Any:
    """ArviZ, imported only when it is used: that takes longer than all other imports together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.x announces 1.0, which is supported too
        import arviz
    return arviz


def rhat_and_ess(
    chains: Float[np.ndarray, "chains draws columns"], methods: Sequence[str]
) -> list[Float[np.ndarray, " columns"]]:
    """The rank-normalized split R-hat of each column, and its effective sample size by some methods of ArviZ.

    Args:
        chains: the draws.
        methods: such as "bulk" and "tail".
    """
    arviz = import_arviz()
    data = arviz.convert_to_dataset({"x": chains})
    found = [arviz.rhat(data), *(arviz.ess(data, method=method) for method in methods)]
    return [np.asarray(each["x"], float) for each in found]


def to_arviz(
    target: Target,
    draws: Draw,
    attributes: Mapping[str, Any],
    key: PRNGKeyArray | None,
    *,
    log_likelihood: bool = False,
    predictive: bool = False,
    coords: Coords | None = None,
    dims: Dims | None = None,
) -> Any:
    """`InferenceData`, or `DataTree` from ArviZ 1.0 on, of draws with leading axes (chains, draws).

    Args:
        target: the target, for the names of the axes, the observations, likelihoods and predictions.
        draws: draws of the target.
        attributes: the attributes of the group "posterior".
        key: the key for the posterior predictive draws and for discrete sites that the density sums out.
        log_likelihood: whether to add the log-likelihood of each observation, for each draw.
        predictive: whether to add observations drawn from the model, for each draw; it needs a key.
        coords: the values along named dimensions.
        dims: the names of the axes of variables.

    Raises:
        ValueError: if `predictive` is true and there is no key.
    """
    if predictive and key is None:
        raise ValueError("predictive=True draws observations, so it needs a key.")
    arviz = import_arviz()
    labels = target.space.labels()
    groups: dict[str, Any] = {"posterior": named(draws), "observed_data": target.space.observed()}
    asked_for = {"log_likelihood": (log_likelihoods, log_likelihood), "posterior_predictive": (replicas, predictive)}
    for group, (prediction, asked) in asked_for.items():
        if asked:
            groups[group] = _available(prediction, target, draws, key)
    if key is not None:
        groups["posterior"] |= _available(discrete, target, draws, key)
    groups = {group: values for group, values in groups.items() if values}
    groups = {g: {_flat(n): np.asarray(value) for n, value in values.items()} for g, values in groups.items()}
    own, given = ({_flat(n): [_flat(a) for a in axes] for n, axes in d.items()} for d in (labels.dims, dims or {}))
    names = {
        "coords": {_flat(n): list(values) for n, values in (labels.coords | dict(coords or {})).items()},
        "dims": {n: axes for n, axes in own.items() if _has_axes(n, len(axes), groups)} | given,
    }
    # ArviZ 1.0 takes the groups as one dict.
    new = int(arviz.__version__.split(".")[0]) >= 1
    data = arviz.from_dict(groups, **names) if new else arviz.from_dict(**groups, **names)
    data["posterior"].attrs.update({name: _for_files(value) for name, value in attributes.items()})
    return data


def _for_files(value: Any) -> Any:
    """An attribute without booleans and tuples of sentences, which files of ArviZ do not have."""
    if isinstance(value, tuple):
        return " ".join(value)
    return int(value) if isinstance(value, bool) else value


def num_bytes(target: Target, num_draws: int, *, log_likelihood: bool = False, predictive: bool = False) -> int:
    """The size in memory of what `to_arviz` returns, the same as that of a file before compression.

    Args:
        target: the target.
        num_draws: the number of draws, in all chains.
        log_likelihood: as in `to_arviz`.
        predictive: as in `to_arviz`.
    """
    draw = eqx.filter_eval_shape(lambda t: t.constrain(t.start), target)
    size = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(draw))
    for prediction in (*[log_likelihoods] * log_likelihood, *[replicas] * predictive):
        try:
            size += bytes_per_draw(prediction, target.space, draw)
        except UnavailablePrediction:
            continue  # `to_arviz` warns
    return num_draws * size


def _available(prediction: Any, target: Target, draws: Draw, key: PRNGKeyArray | None) -> dict[str, np.ndarray]:
    """The predictions; none, with a warning, if the model does not have them."""
    try:
        return predict(prediction, target.space, draws, key)
    except UnavailablePrediction as error:
        warn(str(error))
        return {}


def _has_axes(name: str, num_axes: int, groups: dict[str, dict[str, np.ndarray]]) -> bool:
    """Whether a variable has this number of axes in each group; a model may broadcast a site over the data."""
    leading = {group: 0 if group == "observed_data" else 2 for group in groups}
    return all(values[name].ndim == leading[g] + num_axes for g, values in groups.items() if name in values)


def _flat(name: str) -> str:
    """The name without slashes, which denote groups in files."""
    return name.replace("/", ".")
