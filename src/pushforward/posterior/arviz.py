"""Draws as ArviZ takes them."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from pushforward.posterior.target import Draw, Target
from pushforward.reports.columns import named


def to_arviz(
    target: Target,
    draws: Draw,
    facts: dict[str, Any],
    key: PRNGKeyArray,
    coords: dict[str, Sequence] | None = None,
    dims: dict[str, Sequence[str]] | None = None,
) -> Any:
    """`InferenceData`, or `DataTree` from ArviZ 1.0 on, of draws with leading axes (chains, draws).

    Args:
        target: names the axes, and gives likelihoods and predictions where it can.
        draws: of the target.
        facts: the attributes of the group "posterior".
        key: for predictions.
        coords: values along named dimensions.
        dims: names of the axes of variables.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.x announces 1.0, which is served too
        import arviz  # here, for it takes longer to import than all else together
    labels = target.space.labels()
    groups = {"posterior": named(draws)} | target.space.predict(draws, key)
    groups = {g: {_flat(n): np.asarray(value) for n, value in values.items()} for g, values in groups.items()}
    own, asked = ({_flat(n): [_flat(a) for a in axes] for n, axes in d.items()} for d in (labels.dims, dims or {}))
    names = {
        "coords": {_flat(n): list(values) for n, values in (labels.coords | (coords or {})).items()},
        "dims": {n: axes for n, axes in own.items() if _fit(n, len(axes), groups)} | asked,
    }
    # ArviZ 1.0 takes the groups as one dict.
    new = int(arviz.__version__.split(".")[0]) >= 1
    data = arviz.from_dict(groups, **names) if new else arviz.from_dict(**groups, **names)
    data["posterior"].attrs.update(facts)
    return data


def _fit(name: str, num_axes: int, groups: dict[str, dict[str, np.ndarray]]) -> bool:
    """Whether a variable has so many axes in each group: a draw that a model repeats for many data may have fewer."""
    leading = {group: 0 if group == "observed_data" else 2 for group in groups}
    return all(values[name].ndim == leading[g] + num_axes for g, values in groups.items() if name in values)


def _flat(name: str) -> str:
    """A name without slashes, which stand for groups in files."""
    return name.replace("/", ".")
