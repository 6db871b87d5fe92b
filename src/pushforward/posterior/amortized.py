"""One training, many posteriors: a conditional flow that maps data sets to their posteriors.

The loss is the mean over data sets x of KL(q(u | x) || p(u | x)), so unlike training on simulated parameters it needs
no simulator, only data sets that are like those to come; and unlike it, each posterior has an evidence and a verdict.
"""

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import scipy.stats
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pushforward.bijections import MLP, Amortized, Chain, RescaledCondition, Triangular, num_parameters
from pushforward.flow import Flow
from pushforward.flows import nsf, realnvp
from pushforward.flows.stack import standard_normal
from pushforward.posterior.diagnostics import Diagnostics, diagnose
from pushforward.posterior.modes import with_moments
from pushforward.posterior.search import candidates
from pushforward.posterior.target import Draw, Target
from pushforward.reports.columns import by_scalar
from pushforward.training.checkpoint import Checkpoint, fingerprint
from pushforward.training.data import Rows
from pushforward.training.history import History
from pushforward.training.objectives import AbstractObjective, sample_and_path_log_prob
from pushforward.training.run import Callback, Run

DATA_PER_STEP = 32
DRAWS_PER_DATUM = 8
NUM_EVALUATION_DATA = 256
NUM_STEPS, NUM_EVALUATIONS = 6000, 20
NUM_SCALING_DATA = 8
NUM_DIAGNOSTIC_DRAWS = 10_000
Summary = Callable[[PyTree], Float[Array, " k"]]


class _Given(eqx.Module):
    """The density of a draw, given data."""

    log_density: Callable[[Draw, PyTree], Float[Array, ""]]
    data: PyTree

    def __call__(self, draw: Draw) -> Float[Array, ""]:
        return self.log_density(draw, self.data)


class ConditionalTarget(eqx.Module):
    r"""A posterior for every data set: $p(u \mid x) \propto \tilde p(u, x)$.

    Build it with `of` or `from_numpyro`.

    Attributes:
        target: the posterior of one data set.
        where: takes that target to the data set in it.
    """

    target: Target
    where: Callable[[Target], PyTree] = eqx.field(static=True)

    @classmethod
    def of(cls, log_density: Callable, example: Draw, data: PyTree, support: PyTree = None) -> "ConditionalTarget":
        r"""The posteriors of a joint density.

        Args:
            log_density: maps a draw and a data set to $\log \tilde p(u, x)$, in nats, up to a constant.
            example: a draw, as `Target` takes it.
            data: one data set, a pytree of arrays, for the structure and shapes.
            support: of the draw, as `Target` takes it.
        """
        return cls(Target(_Given(log_density, _as_arrays(data)), example, support), _density_data)

    @classmethod
    def from_numpyro(cls, model: Callable, data: PyTree, *args: Any, **kwargs: Any) -> "ConditionalTarget":
        """The posteriors of a NumPyro model whose first argument is the data set; further arguments stay as they are.

        Raises:
            ValueError: if the model looks at the values of its arguments in Python, which no compiled program can.
        """
        target = Target.from_numpyro(model, _as_arrays(data), *args, **kwargs)
        if not _space(target).args:
            raise ValueError(
                "the model looks at the values of its data in Python (an if, a size), so it cannot be compiled for all "
                "data sets at once; let it use jax.numpy.where, and sizes from shapes."
            )
        return cls(target, _model_data)

    @property
    def data(self) -> PyTree:
        """The data set that it was made with."""
        return self.where(self.target)

    def at(self, data: PyTree) -> Target:
        """The posterior of one data set, which must be shaped like the one that the target was made with."""
        data = _as_arrays(data)
        given, expected = (jax.tree.map(jnp.shape, d) for d in (data, self.data))
        if given != expected:
            raise ValueError(f"a data set must have shapes {expected}, but got {given}.")
        return eqx.tree_at(self.where, self.target, data)


def _space(target: Target) -> Any:
    """The space, which is known to have a density or arguments that hold the data."""
    return target.space


def _density_data(target: Target) -> PyTree:
    return _space(target).density.data


def _model_data(target: Target) -> PyTree:
    return _space(target).args[0]


def _as_arrays(data: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.result_type(leaf)), data)


class AmortizedReverseKL(AbstractObjective):
    r"""$E_x[\mathrm{KL}(q(u \mid x) \,\|\, p(u \mid x))]$ up to the evidences, over data sets, by path gradients.

    Args:
        target: the posteriors.
        data: data sets along the first axis of its arrays.
        conditions: what the flow is given of each.
    """

    target: ConditionalTarget
    data: PyTree
    conditions: Float[Array, "n k"]

    @property
    def batches(self) -> Rows:
        return Rows((self.data, self.conditions), batch_size=DATA_PER_STEP)

    def _log_density(self, u: Float[Array, "draws batch dim"], data: PyTree) -> Array:
        def of_one(u, data):
            return jax.vmap(self.target.at(data))(u)

        return jax.vmap(of_one, in_axes=(1, 0), out_axes=1)(u, data)

    def loss(self, flow, batch, key, step):
        (data, conditions), _ = batch
        u, log_q = sample_and_path_log_prob(flow, key, (DRAWS_PER_DATUM,), conditions)
        return jnp.mean(log_q - self._log_density(u, data))

    def evaluate(self, flow, key):
        row_key, draw_key = jr.split(key)
        rows = jr.randint(row_key, (NUM_EVALUATION_DATA,), 0, self.conditions.shape[0])
        data, conditions = jax.tree.map(lambda a: a[rows], (self.data, self.conditions))
        u, log_q = flow.sample_and_log_prob(draw_key, (DRAWS_PER_DATUM,), conditions)
        return jnp.mean(log_q - self._log_density(u, data))


class AmortizedPosterior(eqx.Module):
    """Posteriors of all data sets that are like those of the training.

    Attributes:
        target: what was fitted.
        flow: the conditional fit, in the target's unconstrained coordinates.
        summary: what the flow is given of a data set.
        history: of the training.
    """

    target: ConditionalTarget
    flow: Flow
    summary: Summary = eqx.field(static=True)
    history: History

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of version 0.1.0, which had the losses alone instead of a history."""
        if "losses" not in fields:
            return fields
        kept = {name: value for name, value in fields.items() if name != "losses"}
        return kept | {"history": History(fields["losses"], ())}

    @eqx.filter_jit
    def _draw(self, key: PRNGKeyArray, data: PyTree, num_samples: int) -> tuple[Draw, Array, Array]:
        target = self.target.at(data)
        u, log_q = self.flow.sample_and_log_prob(key, (num_samples,), self.summary(data))
        return jax.vmap(target.constrain)(u), log_q, jax.vmap(target)(u)

    def sample(self, key: PRNGKeyArray, data: PyTree, num_samples: int = 1000) -> Draw:
        """Draws of the posterior of one data set: a pytree with a leading axis."""
        return self._draw(key, data, num_samples)[0]

    def diagnose(self, key: PRNGKeyArray, data: PyTree, num_samples: int = NUM_DIAGNOSTIC_DRAWS) -> Diagnostics:
        """How good the posterior of one data set is, with its evidence and a verdict."""
        _, log_q, log_p = self._draw(key, data, num_samples)
        return diagnose(np.asarray(log_p - log_q))

    def ranks(self, key: PRNGKeyArray, truths: Draw, data: PyTree, num_samples: int = 255) -> "Ranks":
        """Simulation-based calibration: the ranks of true values among draws of the posteriors of their data.

        Args:
            key: for the draws.
            truths: draws of the prior, with a leading axis; names that are no latent sites do not count.
            data: data sets simulated from them, with the same leading axis.
            num_samples: draws of each posterior; a rank lies between 0 and this.

        References:
            Talts et al., Validating Bayesian Inference Algorithms with Simulation-Based Calibration (2018).
            https://arxiv.org/abs/1804.06788
        """
        names = [n for n in truths if n in self.target.target.example] if isinstance(truths, Mapping) else None
        pick = (lambda draws: {n: draws[n] for n in names}) if names else (lambda draws: draws)
        truths = pick(truths)

        @jax.jit
        def one(key, truth, datum):
            draws = pick(self._draw(key, datum, num_samples)[0])
            return jax.tree.map(lambda d, t: jnp.sum(d < t, axis=0), draws, truth)

        keys = jr.split(key, jax.tree.leaves(truths)[0].shape[0])
        return Ranks(jax.lax.map(lambda args: one(*args), (keys, truths, data)), num_samples)


class Ranks(NamedTuple):
    """Ranks of true values, uniform over 0, ..., `num_samples` where posteriors are calibrated."""

    ranks: Draw
    num_samples: int

    def p_values(self, bins: int = 16) -> dict[str, float]:
        """For each scalar the p-value of a chi-square test for uniformity; small ones speak against calibration.

        Of many scalars one will have a small one by chance: compare the least with 0.05 / their number.
        """
        bins = min(bins, self.num_samples + 1)
        edges = np.linspace(0, self.num_samples + 1, bins + 1) - 0.5
        # How many of the possible ranks are in a bin: they need not be as many in each.
        possible, _ = np.histogram(np.arange(self.num_samples + 1), edges)

        def p_value(ranks):
            counts, _ = np.histogram(ranks, edges)
            return float(scipy.stats.chisquare(counts, possible / possible.sum() * ranks.size).pvalue)

        return {name: p_value(ranks) for name, ranks in by_scalar(self.ranks).items()}

    def transforms(self) -> dict[str, Float[np.ndarray, " n"]]:
        """For each scalar the ranks as numbers in (0, 1), spread evenly over the steps between them."""
        spread = np.random.default_rng(0)
        return {
            name: (ranks + spread.uniform(size=ranks.size)) / (self.num_samples + 1)
            for name, ranks in by_scalar(self.ranks).items()
        }


def fit_amortized(
    target: ConditionalTarget,
    data: PyTree,
    *,
    key: PRNGKeyArray,
    summary: Summary | None = None,
    flow: Flow | None = None,
    steps: int = NUM_STEPS,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> AmortizedPosterior:
    """Fit one conditional flow to the posteriors of many data sets.

    Args:
        target: `ConditionalTarget.of(...)` or `ConditionalTarget.from_numpyro(...)`.
        data: data sets like those to come, along the first axis of its arrays; simulated ones will do, some thousands.
        key: for all randomness.
        summary: maps a data set to the vector that the flow is given, by default all of its numbers; a module-level
            function.
        flow: a conditional flow of shape (dim,) to train instead of the default: affine couplings (in one dimension
            splines) and a triangular affine map that depends on the data, in coordinates scaled by Gaussian fits to
            some of the data sets.
        steps: how many steps of training, each with 32 data sets and 8 draws for each of them.
        progress: whether to show a progress bar.
        callback: called after each evaluation with a `Progress`, whose `model` is the best flow so far; training
            stops if it returns True.
        checkpoint: a file that keeps the state of the fit. If it exists, the fit resumes from it, to the bit as if it
            had not stopped.

    Raises:
        ValueError: if the data are not like the target's, hold NaN, or no posterior could be started from, or the flow
            has another shape or condition.
    """
    if not isinstance(target, ConditionalTarget):
        raise TypeError(
            f"fit_amortized takes a pushforward.ConditionalTarget, but got {type(target).__name__}; make one by "
            "ConditionalTarget.from_numpyro(model, one_data_set) or ConditionalTarget.of(log_density, example, data)."
        )
    data = _checked(target, data)
    summary = summary or _all_numbers
    conditions = jax.vmap(summary)(data)
    if conditions.ndim != 2 or not bool(jnp.isfinite(conditions).all()):
        raise ValueError(
            f"a summary must be a vector of finite numbers, but those of the data have shape {conditions.shape[1:]}"
            + ("." if conditions.ndim != 2 else " and are not all finite.")
        )
    dim, size = target.target.dim, conditions.shape[1]
    scale_key, flow_key, train_key = jr.split(key, 3)
    if flow is None:
        flow = _default_flow(conditions, _pooled(target, data, scale_key), flow_key)
    if flow.shape != (dim,) or flow.cond_shape != (size,):
        raise ValueError(
            f"the flow must have shape ({dim},) and take a condition of shape ({size},), but has shape {flow.shape} "
            f"and cond_shape {flow.cond_shape}."
        )
    optimizer = optax.chain(
        optax.clip_by_global_norm(100.0), optax.adam(optax.cosine_decay_schedule(2e-3, steps, alpha=1e-2), b2=0.99)
    )
    objective = AmortizedReverseKL(target, data, conditions)
    facts = {}
    if checkpoint is not None:
        facts = {
            "fit": "fit_amortized",
            "target": fingerprint(target),
            "data": fingerprint((data, conditions)),
            "flow": fingerprint(flow),
            "steps": steps,
        }
    with Run("amortized", steps, Checkpoint(checkpoint, facts, key), progress=progress, callback=callback) as run:
        trained = run.train(
            "amortized", flow, objective, train_key,
            optimizer=optimizer, steps=steps, evaluate_every=math.ceil(steps / NUM_EVALUATIONS),
        )  # fmt: skip
    run.check_finite(trained.loss)
    return AmortizedPosterior(target, trained.model, summary, run.history)


def _all_numbers(data: PyTree) -> Float[Array, " k"]:
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), data))[0]


def _checked(target: ConditionalTarget, data: PyTree) -> PyTree:
    data = _as_arrays(data)
    expected = jax.tree.map(jnp.shape, target.data)
    given = jax.tree.map(lambda leaf: leaf.shape[1:], data)
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(data)}
    if given != expected or len(sizes) != 1:
        raise ValueError(
            f"data must hold data sets of shapes {expected} along a first axis, but has shapes "
            f"{jax.tree.map(jnp.shape, data)}."
        )
    for path, leaf in jax.tree.leaves_with_path(data):
        bad = ~np.isfinite(np.asarray(leaf, float)).reshape(leaf.shape[0], -1).all(1)
        if bad.any():
            raise ValueError(
                f"data{jax.tree_util.keystr(path)} holds NaN or infinite values in data set {bad.argmax()}."
            )
    return data


def _pooled(target: ConditionalTarget, data: PyTree, key: PRNGKeyArray) -> Triangular:
    """The Gaussian with the moments of the mixture of Gaussian fits to some of the data sets."""
    num = jax.tree.leaves(data)[0].shape[0]
    affines = []
    for row, k in zip(np.linspace(0, num - 1, min(num, NUM_SCALING_DATA)).astype(int), jr.split(key, 8), strict=False):
        one = target.at(jax.tree.map(lambda a, row=row: a[row], data))
        found = candidates(one, one.start, k)
        if found:
            affines.append(found[0].affine)
    if not affines:
        raise ValueError("the log-density is NaN or infinite wherever a fit could start, for each data set tried.")
    locs, matrices = (np.stack([np.asarray(getattr(a, n)) for a in affines]) for n in ("loc", "matrix"))
    return with_moments(np.full(len(affines), 1 / len(affines)), locs, matrices)


def _default_flow(conditions: Float[Array, "n k"], scaling: Triangular, key: PRNGKeyArray) -> Flow:
    dim, size = scaling.dim, conditions.shape[1]
    coupling_key, network_key = jr.split(key)
    # One coordinate has no other that could bend it.
    recipe = partial(nsf, num_layers=2, bins=16) if dim == 1 else partial(realnvp, num_layers=8)
    couplings = recipe(dim, hidden=(64, 64), cond_dim=size, key=coupling_key)
    affine = Triangular(dim)
    network = MLP(size, num_parameters(affine), (128, 128), key=network_key)
    chain = Chain([couplings.bijection, Amortized(affine, network, (size,)), scaling])
    spread = jnp.std(conditions, axis=0)
    scale = jnp.where(spread > 0, spread, 1.0)
    return Flow(standard_normal(dim), RescaledCondition(chain, conditions.mean(0), scale))
