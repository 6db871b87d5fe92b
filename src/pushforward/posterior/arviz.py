"""Draws in the data structures of ArviZ."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from pushforward.posterior.target import Draw, Target
from pushforward.reports.columns import named

Coords = Mapping[str, Sequence]
Dims = Mapping[str, Sequence[str]]


def to_arviz(
    target: Target,
    draws: Draw,
    attributes: Mapping[str, Any],
    key: PRNGKeyArray | None,
    coords: Coords | None = None,
    dims: Dims | None = None,
) -> Any:
    """`InferenceData`, or `DataTree` from ArviZ 1.0 on, of draws with leading axes (chains, draws).

    Args:
        target: the target, for the names of the axes and, if it is a NumPyro model, for likelihoods and predictions.
        draws: draws of the target.
        attributes: the attributes of the group "posterior".
        key: the key for the posterior predictive draws; None omits that group.
        coords: the values along named dimensions.
        dims: the names of the axes of variables.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.x announces 1.0, which is supported too
        import arviz  # only here: it takes longer to import than everything else together
    labels = target.space.labels()
    groups = {"posterior": named(draws)} | target.space.predict(draws, key)
    groups = {g: {_flat(n): np.asarray(value) for n, value in values.items()} for g, values in groups.items()}
    own, asked = ({_flat(n): [_flat(a) for a in axes] for n, axes in d.items()} for d in (labels.dims, dims or {}))
    names = {
        "coords": {_flat(n): list(values) for n, values in (labels.coords | dict(coords or {})).items()},
        "dims": {n: axes for n, axes in own.items() if _has_axes(n, len(axes), groups)} | asked,
    }
    # ArviZ 1.0 takes the groups as one dict.
    new = int(arviz.__version__.split(".")[0]) >= 1
    data = arviz.from_dict(groups, **names) if new else arviz.from_dict(**groups, **names)
    data["posterior"].attrs.update(attributes)
    return data


def _has_axes(name: str, num_axes: int, groups: dict[str, dict[str, np.ndarray]]) -> bool:
    """Whether a variable has this number of axes in each group; a model may broadcast a site over the data."""
    leading = {group: 0 if group == "observed_data" else 2 for group in groups}
    return all(values[name].ndim == leading[g] + num_axes for g, values in groups.items() if name in values)


def _flat(name: str) -> str:
    """The name without slashes, which denote groups in files."""
    return name.replace("/", ".")
