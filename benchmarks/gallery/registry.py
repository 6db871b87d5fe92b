"""The examples by their names."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

MODULES = (
    "regressions",
    "hierarchies",
    "series",
    "curves",
    "discrete",
    "covariances",
    "pymc_regressions",
    "pymc_others",
)


class Example(NamedTuple):
    """A model of a gallery.

    Attributes:
        title: what the gallery's example is about.
        build: a function of a random generator, which returns a PyMC model, or a NumPyro model and its arguments.
    """

    title: str
    build: Callable[[np.random.Generator], Any]


EXAMPLES: dict[str, Example] = {}


def example(title: str) -> Callable:
    """Add a model to the gallery, under the name of its function.

    Args:
        title: what the gallery's example is about.
    """

    def add(build):
        assert build.__name__ not in EXAMPLES
        EXAMPLES[build.__name__] = Example(title, build)
        return build

    return add


def examples() -> dict[str, Example]:
    """All examples."""
    for module in MODULES:
        importlib.import_module(f"benchmarks.gallery.{module}")
    return EXAMPLES
