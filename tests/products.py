"""Which cases of a product of cases are run before each commit."""

from collections.abc import Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], *kept: Any) -> list[Any]:
    """The values for `pytest.mark.parametrize`: those of `kept` for `make test`, the others for `make conformance`."""
    values = list(values)
    assert set(kept) <= set(values), f"not among the cases: {set(kept) - set(values)}"
    return [v if v in kept else pytest.param(v, marks=pytest.mark.conformance) for v in values]


def first(*cases: tuple[Any, ...]) -> list[Any]:
    """Values of several arguments each: those of the first case for `make test`, the others for `make conformance`."""
    return [cases[0], *(pytest.param(*case, marks=pytest.mark.conformance) for case in cases[1:])]
