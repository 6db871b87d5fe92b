"""Writes the page "What can be fitted" from the tables of the tests: python tests/fitted_page.py."""

from pathlib import Path
from typing import Any

from container_cases import IMAGES, TABLES, Container
from distribution_cases import DISTRIBUTIONS
from model_cases import CASES
from pymc_cases import DISTRIBUTIONS as OF_PYMC
from refused_cases import REFUSED, SUPPORTS

PAGE = Path(__file__).parents[1] / "docs" / "fitted.md"
HEAD = """\
# What can be fitted

This page is generated from the tables of the tests by `make fitted`: every line is a test. [From a model, samples or
images](sources.md) shows how each of them is given, and [Models and log-densities](targets.md) what a log-density
needs. `make gallery` compares models of NumPyro's and PyMC's example
galleries with NUTS, and [Benchmarks](benchmarks.md#example-galleries) has the outcomes.
"""


def page() -> str:
    """The text of the page."""
    supports = [(name, f"`{type(constraint).__name__.strip('_')}`") for name, (constraint, _) in SUPPORTS.items()]
    kinds = [(case.kind, "yes, with a warning" if case.warns else "yes") for case in CASES.values()]
    refused = [(case.kind, "no", case.instead) for case in REFUSED.values()]
    return "\n".join(
        [
            HEAD,
            "## Supports\n\nOf a `Target`, a site of NumPyro or a variable of PyMC:\n",
            *table(("support", "class of NumPyro's constraint"), supports),
            "\n## Models of NumPyro\n\nThe log-density equals that of NumPyro's NUTS, with the same arguments:\n",
            *table(("what is special about the model or its arguments", "fitted"), kinds),
            "\n## Distributions of NumPyro\n\nThe log-density equals NumPyro's, with a finite gradient:\n",
            *distributions(DISTRIBUTIONS),
            "\n## Distributions of PyMC\n\nThe log-density equals PyMC's, with a finite gradient:\n",
            *distributions(OF_PYMC),
            "\n## What is refused\n\nThe error names the site or variable, and says what to do instead:\n",
            *table(("kind", "fitted", "instead"), refused),
            "\n## Tables\n\nOf `fit_density`, `pushforward density` and, for files, the rows of large data:\n",
            *containers(TABLES),
            "\n## Images\n\nOf `fit_vae`:\n",
            *containers(IMAGES),
            "",
        ]
    )


def distributions(cases: dict[str, Any]) -> list[str]:
    """The lines of a table of distributions."""
    rows = [(f"`{name}`", case.prior, case.likelihood) for name, case in cases.items()]
    return table(("distribution", "as a prior", "as a likelihood"), rows)


def containers(cases: dict[str, Container]) -> list[str]:
    """The lines of a table of containers."""
    rows = [(kind, "yes", "") if c.instead is None else (kind, "no", c.instead) for kind, c in cases.items()]
    return table(("kind", "read", "instead"), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


if __name__ == "__main__":
    PAGE.write_text(page())
