"""The result of amortized inference: a conditional flow that maps data sets to their posteriors."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pushforward.arguments import checked
from pushforward.bijections import AtCondition, num_parameters
from pushforward.files import write_text
from pushforward.flow import Flow
from pushforward.posterior.conditional import ConditionalTarget, as_arrays
from pushforward.posterior.log_prob import log_prob_of_draws
from pushforward.posterior.ranks import Ranks
from pushforward.posterior.result import Posterior
from pushforward.posterior.target import Draw, Target, constrain
from pushforward.posterior.verdict.assessment import assess_with_draws
from pushforward.posterior.verdict.diagnostics import Diagnostics, diagnose
from pushforward.reports.figures import plot_learning
from pushforward.reports.posterior import posterior_page, settings, training
from pushforward.reports.provenance import Facts as Provenance
from pushforward.reports.summary import Facts
from pushforward.reports.verdicts import of_amortized
from pushforward.serialization import Picklable, save
from pushforward.training.compilation import jit_low_concurrency
from pushforward.training.history import History

NUM_DIAGNOSTIC_DRAWS = 10_000
NOT_SEARCHED = "Modes that the flow misses were not searched for."
Statistics = Callable[[PyTree], Float[Array, " k"]]


class AllNumbers(eqx.Module):
    """The default statistics of a data set: all of its numbers, as one vector."""

    def __call__(self, data: PyTree) -> Float[Array, " k"]:
        return ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), data))[0]


class AmortizedPosterior(Picklable):
    """An amortized posterior: approximate posteriors for all data sets from the distribution of the training data sets.

    Attributes:
        target: the target that was fitted.
        flow: the conditional fit, in the target's unconstrained coordinates.
        statistics: the function from a data set to the condition of the flow.
        history: the history of the training; its losses are minus the mean ELBO over data sets.
        provenance: facts on the call, the key and the versions, for the report.
    """

    target: ConditionalTarget
    flow: Flow
    statistics: Statistics = eqx.field(static=True)
    history: History
    provenance: Provenance = eqx.field(static=True, default=())

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of version 0.1.0: the losses without a history, and "summary" for the statistics."""
        if "losses" not in fields:
            return fields
        statistics = AllNumbers() if fields["summary"] is AllNumbers else fields["summary"]
        history = History(fields["losses"], ())
        return {n: fields[n] for n in ("target", "flow")} | {"statistics": statistics, "history": history}

    @eqx.filter_jit
    def _draw(self, key: PRNGKeyArray, data: PyTree[ArrayLike], num_samples: int) -> tuple[Array, Array]:
        """Unconstrained draws and their log-densities."""
        return self.flow.sample_and_log_prob(key, (num_samples,), self.statistics(data))

    @checked()
    def sample(self, key: PRNGKeyArray, data: PyTree[ArrayLike], num_samples: int = 1000) -> Draw:
        """Draws of the posterior of one data set: a pytree with a leading axis.

        Args:
            key: the key for the draws.
            data: one data set.
            num_samples: the number of draws.
        """
        return constrain(self.target.at(data), self._draw(key, as_arrays(data), num_samples)[0])

    @checked()
    def log_prob(self, draws: PyTree[ArrayLike], data: PyTree[ArrayLike]) -> Float[Array, " draws"]:
        """The fitted log-density of draws of the posterior of one data set, in their own space, in nats.

        It is minus infinity outside of the support.

        Args:
            draws: the draws, with one leading axis, as `sample` returns them.
            data: one data set.

        Raises:
            ValueError: if the structure or a shape of the draws is another.
        """
        return log_prob_of_draws(self.target.at(data), self.flow, draws, self.statistics(as_arrays(data)))

    @checked()
    def posterior(self, key: PRNGKeyArray, data: PyTree[ArrayLike], num_draws: int = NUM_DIAGNOSTIC_DRAWS) -> Posterior:
        """The posterior of one data set with its diagnostics, summary, figures and report.

        Its verdict is that of `assess`, which searches for modes that the flow misses, as `fit_posterior` does.

        Args:
            key: the key for the draws from which the diagnostics are computed, and for the search.
            data: one data set.
            num_draws: the number of these draws, at least 100.
        """
        target = self.target.at(data)
        flow = Flow(self.flow.base, AtCondition(self.flow.bijection, self.statistics(as_arrays(data))))
        diagnostics, draws, log_weights = assess_with_draws(target, flow, key, num_draws)
        return Posterior.from_draws(target, flow, diagnostics, History(np.zeros(0), ()), draws, log_weights)

    @checked()
    def diagnose(
        self, key: PRNGKeyArray, data: PyTree[ArrayLike], num_samples: int = NUM_DIAGNOSTIC_DRAWS
    ) -> Diagnostics:
        """How good the posterior of one data set is, with its evidence and a verdict, from draws of the flow alone.

        It takes milliseconds, and does not see a mode that the flow misses: `posterior` searches for these.

        Args:
            key: the key for the draws.
            data: one data set.
            num_samples: the number of draws, at least 100.
        """
        u, log_q = self._draw(key, as_arrays(data), num_samples)
        log_weights = np.asarray(evaluate(self.target.at(data), u) - log_q)
        return diagnose(log_weights, draws=np.asarray(u), notes=(NOT_SEARCHED,))

    @checked()
    def ranks(
        self, key: PRNGKeyArray, truths: PyTree[ArrayLike], data: PyTree[ArrayLike], num_samples: int = 255
    ) -> Ranks:
        """Simulation-based calibration: the ranks of true values among draws of the posteriors of their data.

        Args:
            key: the key for the draws.
            truths: draws of the prior, with a leading axis; sites that are not latent are ignored.
            data: data sets simulated from them, with the same leading axis.
            num_samples: the number of draws of each posterior; the ranks lie between 0 and this number.
        """
        names = [n for n in truths if n in self.target.target.example] if isinstance(truths, Mapping) else None
        pick = (lambda draws: {n: draws[n] for n in names}) if names else (lambda draws: draws)
        truths = pick(truths)

        @jax.jit
        def one(key, truth, datum):
            draws = pick(self.sample(key, datum, num_samples))
            return jax.tree.map(lambda d, t: jnp.sum(d < t, axis=0), draws, truth)

        keys = jr.split(key, jax.tree.leaves(truths)[0].shape[0])
        return Ranks(jax.lax.map(lambda args: one(*args), (keys, truths, data)), num_samples)

    def summary(self) -> Facts:
        """The sizes of the problem and the result of the training; `posterior` summarizes a single data set."""
        elbos = -self.history.series("loss")
        facts: dict[str, Any] = {
            "dimensions": self.target.target.dim,
            "statistics": sum(self.flow.cond_shape or ()),
            "parameters": num_parameters(self.flow),
            "steps": len(self.history.losses),
        }
        if np.isfinite(elbos).any():
            facts |= {"seconds": self.history.evaluations[-1].seconds, "mean ELBO (nats)": float(np.nanmax(elbos))}
        return Facts(facts)

    def plot(self) -> Any:
        """A Matplotlib figure of the mean ELBO over data sets against training steps."""
        return plot_learning(self.history, "mean ELBO (nats)")

    @checked()
    def report(self, path: str | os.PathLike, *, title: str = "amortized posterior") -> None:
        """Write one self-contained HTML page with the summary and the course of the training.

        The quality differs between data sets, so the page has no verdict; `posterior(key, data)` has one.

        Args:
            path: the path of the page; its folder must exist.
            title: the title of the page.
        """
        text = "The mean ELBO over data sets; it has reached its largest value when the curve is flat."
        sections = [
            training(self.history, "mean ELBO (nats)", text=text),
            settings({**self.summary(), **dict(self.provenance)}),
        ]
        write_text(path, posterior_page(title, of_amortized(), sections))

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @checked()
    def save(self, path: str | os.PathLike) -> None:
        """Save to one file, without the model's density and code; `pushforward.load` reads it.

        A loaded object can draw samples, but cannot compute diagnostics, because the file does not hold the model's
        density. A user-defined `statistics` function is saved by name: pass its module to
        `pushforward.load(..., trusted=...)`.

        Args:
            path: the path of the file.

        Raises:
            ValueError: if the support of a site depends on another site, or if `statistics` is not a function from the
                top level of a module.
        """
        save(path, self.as_saved())

    def as_saved(self) -> "AmortizedPosterior":
        """The posterior without the model's density and code."""
        return eqx.tree_at(lambda p: p.target, self, self.target.detached())


@jit_low_concurrency
def evaluate(target: Target, u: Float[Array, "draws dim"]) -> Float[Array, " draws"]:
    """The log-densities of draws; compiled.

    Args:
        target: the target.
        u: draws, as unconstrained vectors.
    """
    return jax.vmap(target)(u)
