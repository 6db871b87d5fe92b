"""The summary, the figures and the page of a posterior, from its stored draws."""

from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from pushforward.bijections import num_parameters
from pushforward.posterior.target import Target
from pushforward.reports.blocks import Section, Table
from pushforward.reports.columns import by_scalar, named
from pushforward.reports.figures import plot_learning, plot_pairs
from pushforward.reports.page import cell
from pushforward.reports.posterior import (
    diagnostics_table,
    parameters,
    plot_marginals,
    posterior_page,
    settings,
    training,
    weights,
)
from pushforward.reports.provenance import command_of
from pushforward.reports.summary import HEAD, Summary, summarize
from pushforward.reports.verdicts import of_posterior

NUM_SUMMARIZED, NUM_PLOTTED = 20_000, 4_000
# The draws for a summary or a figure have at most this number of entries, but at least a thousand draws.
MAX_ENTRIES = 50_000_000

Kind = Literal["pairs", "marginals", "training"]


def summary(posterior: Any) -> Summary:
    """The mean, standard deviation and quantiles of each scalar.

    Args:
        posterior: the posterior.
    """
    verdict = posterior.diagnostics.verdict
    remarks = ["training was not finished"] * (not posterior.diagnostics.finished)
    remarks += ["draws corrected by importance weights"] * (verdict != "good")
    return summarize(_columns(posterior, NUM_SUMMARIZED), remarks, verdict)


def figure(posterior: Any, kind: Kind) -> Any:
    """A Matplotlib figure.

    Args:
        posterior: the posterior.
        kind: what it shows.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind == "training":
        return plot_learning(posterior.history, "ELBO (nats)", posterior.diagnostics.log_evidence)
    if kind not in ("pairs", "marginals"):
        raise ValueError(f'kind must be "pairs", "marginals" or "training", got {kind!r}.')
    columns = _columns(posterior, NUM_PLOTTED)
    return plot_pairs(columns) if kind == "pairs" else plot_marginals(columns)


def page(posterior: Any, title: str, command: str) -> str:
    """The report as one HTML page.

    Args:
        posterior: the posterior.
        title: the title of the page.
        command: the command that repeats the fit; if it is empty, the one that made it, or the call.
    """
    found, sections, command = posterior.diagnostics, [], command or command_of(posterior.provenance)
    if len(posterior.pool):
        columns = _columns(posterior, NUM_SUMMARIZED)
        sections = [parameters(columns, posterior.summary()), Section("Diagnostics", [diagnostics_table(found)])]
    sections.append(training(posterior.history, log_evidence=found.log_evidence))
    if len(posterior.pool):
        sections.append(weights(np.asarray(posterior.pool_weights)))
    sections.append(settings(_facts(posterior), command))
    return posterior_page(title, of_posterior(found, in_terminal=bool(command)), sections)


def notebook_cell(posterior: Any) -> str:
    """The verdict, the summary and the diagnostics as HTML for a notebook.

    Args:
        posterior: the posterior.
    """
    blocks: list[Any] = [of_posterior(posterior.diagnostics)]
    if len(posterior.pool):
        found = posterior.summary()
        blocks += [Table(found.cells, HEAD, " · ".join(found.notes)), diagnostics_table(posterior.diagnostics)]
    return cell(*blocks)


def _columns(posterior: Any, most: int) -> dict[str, Float[np.ndarray, " n"]]:
    return by_scalar(posterior.stored_draws(_num_draws(posterior.target, most)))


def _num_draws(target: Target, most: int) -> int:
    """A number of draws that fits into memory if the draws are large, as deterministic sites of all rows are."""
    draw = eqx.filter_eval_shape(lambda target: target.constrain(target.start), target)
    entries = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(draw))
    return min(most, max(1000, MAX_ENTRIES // entries))


def _facts(posterior: Any) -> dict[str, Any]:
    target = posterior.target
    shapes = {name: leaf.shape for name, leaf in named(target.constrain(target.start)).items()}
    facts = {
        "variables": ", ".join(f"{name} {shape}" if shape else name for name, shape in shapes.items()),
        "unconstrained dimensions": target.dim,
        "parameters of the flow": num_parameters(posterior.flow),
    }
    return facts | dict(posterior.provenance)
