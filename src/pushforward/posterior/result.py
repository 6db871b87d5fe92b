"""The result of a fit: draws, densities, diagnostics, and files."""

import dataclasses
import os
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pushforward.arguments import checked
from pushforward.files import write_text
from pushforward.flow import Flow
from pushforward.posterior.arviz import Coords, Dims, num_bytes, to_arviz
from pushforward.posterior.log_prob import log_prob_of_draws
from pushforward.posterior.page import Kind, figure, notebook_cell, page, summary
from pushforward.posterior.refine import Chains, Method, run_chains
from pushforward.posterior.same_coordinates import check_same_coordinates
from pushforward.posterior.stored import rows_at, stored
from pushforward.posterior.target import Draw, Target, constrain
from pushforward.posterior.verdict.agreement import Agreement
from pushforward.posterior.verdict.assessment import ENOUGH_DRAWS, NUM_DRAWS, assess_with_draws
from pushforward.posterior.verdict.diagnostics import Diagnostics
from pushforward.reports.provenance import Facts
from pushforward.reports.summary import Summary
from pushforward.serialization import Picklable, save
from pushforward.training.history import History
from pushforward.user_warnings import UnfinishedFit, warn_once

UNFINISHED = (
    "the training of this posterior was ended before its ELBO reached a plateau, by a spent budget, Ctrl-C or a "
    "callback; its diagnostics describe the fit as it is."
)
NO_HISTORY = History(np.zeros(0), ())


class Posterior(Picklable):
    """A fitted posterior.

    Attributes:
        target: the target that was fitted.
        flow: the fit, in the target's unconstrained coordinates.
        diagnostics: the quality of the fit, with a verdict.
        history: the history of the training; its losses are minus the ELBO.
        pool: the draws of the flow from which the diagnostics were computed, in unconstrained coordinates; empty if the
            fit was interrupted before.
        pool_weights: the normalized, Pareto-smoothed importance weights of `pool`.
        provenance: facts on the call, the key and the versions, for the report.
        agreement: how the draws that `fit_posterior(draws=...)` took compare with the fit; None without such draws.

    Examples:
        The examples of the methods use this posterior, of two numbers:

        >>> import jax, numpyro, pushforward as pf
        >>> import numpyro.distributions as dist
        >>> def model(y):
        ...     mean = numpyro.sample("mean", dist.Normal(0, 1))
        ...     scale = numpyro.sample("scale", dist.LogNormal(0, 0.5))
        ...     numpyro.sample("y", dist.Normal(mean, scale).expand([3]).to_event(1), obs=y)
        >>> target = pf.Target.from_numpyro(model, jax.numpy.array([0.3, 1.1, 0.7]))
        >>> posterior = pf.fit_posterior(target, key=jax.random.key(0))
        >>> posterior.diagnostics.verdict
        'good'
    """

    target: Target
    flow: Flow
    diagnostics: Diagnostics
    history: History
    pool: Float[Array, "pool dim"]
    pool_weights: Float[Array, " pool"]
    provenance: Facts = eqx.field(static=True, default=())
    agreement: Agreement | None = None

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a posterior of version 0.1.0, which had a trace instead of a history."""
        if "trace" not in fields:
            return fields
        kept = {name: value for name, value in fields.items() if name != "trace"}
        return kept | {"history": History(np.zeros(0), fields["trace"])}

    @classmethod
    def from_draws(
        cls,
        target: Target,
        flow: Flow,
        diagnostics: Diagnostics,
        history: History,
        draws: Float[np.ndarray, "draws dim"],
        log_weights: Float[np.ndarray, " draws"],
        provenance: Facts = (),
        agreement: Agreement | None = None,
    ) -> "Posterior":
        """A posterior that stores some of the draws of its diagnostics, with their smoothed weights.

        Args:
            target: the target that was fitted.
            flow: the fit.
            diagnostics: the diagnostics, computed from the draws.
            history: the history of the training.
            draws: draws of the flow, in unconstrained coordinates; may be empty.
            log_weights: log p - log q of the draws.
            provenance: facts on the call, the key and the versions, for the report.
            agreement: how given draws compare with the fit.
        """
        pool, pool_weights = stored(draws, log_weights)
        return cls(target, flow, diagnostics, history, pool, pool_weights, provenance, agreement)

    @classmethod
    @checked(num_draws=ENOUGH_DRAWS)
    def of(cls, flow: Flow, target: Target, *, key: PRNGKeyArray, num_draws: int = NUM_DRAWS) -> "Posterior":
        """Any flow as a fit of a target, with its diagnostics, weights and report.

        Args:
            flow: a flow of shape (target.dim,), in the target's unconstrained coordinates, trained in any way.
            target: the target of the fit.
            key: the key for all randomness.
            num_draws: the number of draws for the diagnostics, at least 100.

        Raises:
            TypeError: as `pushforward.assess` raises it.
            ValueError: as `pushforward.assess` raises it.
        """
        diagnostics, draws, log_weights = assess_with_draws(target, flow, key, num_draws)
        return cls.from_draws(target, flow, diagnostics, NO_HISTORY, draws, log_weights)

    @checked()
    def sample(self, key: PRNGKeyArray, num_samples: int = 1000) -> Draw:
        """Draws of the fitted flow: a pytree like the target's example, or a dict of sites, with a leading axis.

        Args:
            key: the key for the draws.
            num_samples: the number of draws.

        Examples:
            >>> draws = posterior.sample(jax.random.key(1), 100)
            >>> {name: values.shape for name, values in draws.items()}
            {'mean': (100,), 'scale': (100,)}
        """
        self._warn_if_unfinished()
        return constrain(self.target, self.flow.sample(key, (num_samples,)))

    @checked()
    def resample(self, key: PRNGKeyArray, num_samples: int = 1000) -> Draw:
        """Draws corrected by Pareto-smoothed importance weights.

        They are drawn by systematic resampling from the stored draws of the diagnostics, so a draw with a large weight
        can occur more than once.

        Args:
            key: the key for the draws.
            num_samples: the number of draws.

        Raises:
            ValueError: if the fit was interrupted before its diagnostics were computed.

        Examples:
            >>> posterior.resample(jax.random.key(1), 100)["mean"].shape
            (100,)
        """
        self._warn_if_unfinished()
        offset_key, order_key = jr.split(key)
        rows = rows_at(self.pool_weights, (jnp.arange(num_samples) + jr.uniform(offset_key)) / num_samples)
        return constrain(self.target, self.pool[jr.permutation(order_key, rows)])

    def stored_draws(self, num_samples: int = 4000) -> Draw:
        """Draws without a key: the same ones at each call, from the stored draws of the diagnostics.

        If the verdict is "good", they are the first stored draws, at most all of them. Otherwise they are corrected by
        the weights, by systematic resampling at fixed points; equal draws follow each other.

        Args:
            num_samples: the number of draws.

        Raises:
            ValueError: if the fit was interrupted before its diagnostics were computed.
        """
        if self.diagnostics.verdict == "good":
            return constrain(self.target, self.pool[:num_samples])
        rows = rows_at(self.pool_weights, (jnp.arange(num_samples) + 0.5) / num_samples)
        return constrain(self.target, self.pool[rows])

    @checked()
    def refine(self, key: PRNGKeyArray, *, method: Method = "nuts", **options: Any) -> Chains:
        """Exact draws by Markov chains preconditioned by the flow, with R-hat and effective sample size.

        It helps if the verdict is "reweight" or "unreliable" but the flow is still near the posterior. Chains do not
        find modes that the flow does not have.

        Args:
            key: the key for all randomness.
            method: "nuts" or "independence", as in `pushforward.posterior.refine.run_chains`.
            **options: further arguments of `run_chains`: num_warmup, num_samples, num_chains and progress.

        Examples:
            >>> chains = posterior.refine(jax.random.key(1), method="independence")
            >>> chains.verdict
            'good'
        """
        return run_chains(self.target, self.flow, key, method=method, **options)

    @checked(num_draws=ENOUGH_DRAWS)
    def reassess(self, target: Target, *, key: PRNGKeyArray, num_draws: int = NUM_DRAWS) -> "Posterior":
        """The same fit with fresh draws, weights and diagnostics; a loaded posterior gets its density back.

        The target may be of other data than the fit: the verdict then says whether the fit serves for them too.

        Args:
            target: a target with the same variables and supports.
            key: the key for all randomness.
            num_draws: the number of fresh draws, at least 100.

        Raises:
            TypeError: if the target is not a `Target`.
            ValueError: if the variables, their shapes or their supports are others, or as `pushforward.assess` raises
                it.
        """
        check_same_coordinates(self.target, target, self.flow.sample(key, (100,)))
        fresh = Posterior.of(self.flow, target, key=key, num_draws=num_draws)
        diagnostics = dataclasses.replace(fresh.diagnostics, finished=self.diagnostics.finished)
        kept = {"history": self.history, "provenance": self.provenance}
        return dataclasses.replace(fresh, diagnostics=diagnostics, **kept)

    @checked()
    def log_prob(self, draws: PyTree[ArrayLike]) -> Float[Array, " draws"]:
        """The fitted log-density of draws in their own space, in nats; minus infinity outside of the support.

        Args:
            draws: draws with one leading axis, in the form that `sample` returns.

        Raises:
            ValueError: if the structure or a shape of the draws is another.

        Examples:
            >>> posterior.log_prob(posterior.sample(jax.random.key(1), 100)).shape
            (100,)
        """
        return log_prob_of_draws(self.target, self.flow, draws)

    def summary(self) -> Summary:
        """The mean, standard deviation and quantiles of each scalar, from `stored_draws`.

        Raises:
            ValueError: if the fit was interrupted before its diagnostics were computed.

        Examples:
            >>> row = posterior.summary()["mean"]
            >>> row.q05 < row.median < row.q95
            True
        """
        self._warn_if_unfinished()
        return summary(self)

    @checked()
    def plot(self, kind: Kind = "pairs") -> Any:
        """A Matplotlib figure.

        Args:
            kind: "pairs" and "marginals" show the stored draws of the first scalars, "training" the ELBO.

        Raises:
            ValueError: if the kind is unknown, or if the fit was interrupted before its diagnostics were computed.
        """
        return figure(self, kind)

    @checked()
    def report(self, path: str | os.PathLike, *, title: str = "posterior", command: str = "") -> None:
        """Write one self-contained HTML page: the verdict in words, a summary, and interactive plots.

        The page needs no network. Its plots show the stored draws, weighted unless the verdict is "good".

        Args:
            path: the path of the page; its folder must exist.
            title: the title of the page.
            command: the command that repeats the fit, for the page; by default that of the terminal that made it, or
                the call of `fit_posterior`.

        Examples:
            >>> posterior.report("posterior.html")
        """
        write_text(path, page(self, title, command))

    def _warn_if_unfinished(self) -> None:
        if not self.diagnostics.finished:
            warn_once(self, UNFINISHED, UnfinishedFit)

    def _repr_html_(self) -> str:
        return notebook_cell(self)

    @checked()
    def to_arviz(
        self,
        key: PRNGKeyArray | None = None,
        num_samples: int = 4000,
        *,
        log_likelihood: bool = False,
        predictive: bool = False,
        coords: Coords | None = None,
        dims: Dims | None = None,
    ) -> Any:
        """The posterior for ArviZ: `InferenceData`, or `DataTree` from ArviZ 1.0 on.

        The diagnostics are the attributes of the group "posterior". NumPyro's plates and PyMC's coordinates name the
        axes. Models also give the group observed_data and, on request, log_likelihood and posterior_predictive, which
        have one number for each draw and observation: `arviz_bytes` is their size. They are computed in chunks and
        stored in 32 bits. With a key, the discrete latent sites of a NumPyro model, which the density sums out, are
        drawn given each draw.

        Args:
            key: the key for fresh draws, from the flow if the verdict is "good", otherwise resampled by importance
                weights. Without a key, the draws are those of `stored_draws`.
            num_samples: the number of draws.
            log_likelihood: whether to add the log-likelihood of each observation, for `arviz.loo` and `arviz.compare`.
            predictive: whether to add observations drawn from a NumPyro model; it needs a key.
            coords: the values along named dimensions, in addition to the model's or instead of them.
            dims: the names of the axes of variables, in addition to the model's or instead of them.

        Raises:
            ValueError: if `predictive` is true and there is no key.

        Examples:
            >>> posterior.to_arviz()["posterior"]["mean"].dims
            ('chain', 'draw')
        """
        self._warn_if_unfinished()
        if key is None:
            draws, predict_key = self.stored_draws(num_samples), None
        else:
            draw_key, predict_key = jr.split(key)
            direct = self.diagnostics.verdict == "good" or not len(self.pool)
            draws = (self.sample if direct else self.resample)(draw_key, num_samples)
        draws = jax.tree.map(lambda a: a[None], draws)
        return to_arviz(
            self.target, draws, dataclasses.asdict(self.diagnostics), predict_key,
            log_likelihood=log_likelihood, predictive=predictive, coords=coords, dims=dims,
        )  # fmt: skip

    @checked()
    def arviz_bytes(self, num_samples: int = 4000, *, log_likelihood: bool = False, predictive: bool = False) -> int:
        """The size of what `to_arviz` returns, in bytes; a file is smaller if it can be compressed.

        Args:
            num_samples: the number of draws.
            log_likelihood: as in `to_arviz`.
            predictive: as in `to_arviz`.
        """
        return num_bytes(self.target, num_samples, log_likelihood=log_likelihood, predictive=predictive)

    @checked()
    def save(self, path: str | os.PathLike) -> None:
        """Save to one file, without the model's density and code; `pushforward.load` reads it.

        The deterministic sites of a model are omitted, because they are computed by its code.

        Args:
            path: the path of the file.

        Raises:
            ValueError: if the support of a site depends on another site, because draws then need the model's code.

        Examples:
            >>> posterior.save("posterior.flow")
            >>> pf.load("posterior.flow").diagnostics.verdict
            'good'
        """
        save(path, self.as_saved())

    def as_saved(self) -> "Posterior":
        """The posterior without the model's density and code."""
        return eqx.tree_at(lambda p: p.target, self, self.target.detached())
