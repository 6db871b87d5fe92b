"""Amortized inference: `fit_amortized` trains one conditional flow that maps data sets to their posteriors.

The loss is the mean over data sets x of KL(q(u | x) || p(u | x)). So it needs no simulated parameters, only data sets
from the same distribution as the data sets of interest; and each posterior has an evidence and a verdict.
"""

import functools
import math
import os
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pushforward.arguments import check, checked
from pushforward.bijections import MLP, Amortized, Chain, RescaledCondition, Triangular, num_parameters
from pushforward.flow import Flow, check_flow
from pushforward.flows import nsf, realnvp
from pushforward.flows.stack import standard_normal
from pushforward.posterior.amortized import AllNumbers, AmortizedPosterior, Statistics
from pushforward.posterior.conditional import ConditionalTarget, as_arrays
from pushforward.posterior.search.gaussians import find_candidates
from pushforward.posterior.search.modes import match_moments
from pushforward.posterior.spaces.rows import AbstractRows, RandomNumbers, RowsInMemory, data_rows
from pushforward.reports.provenance import provenance
from pushforward.training.callbacks import Callback
from pushforward.training.checkpoint import Checkpoint, fingerprint, shapes
from pushforward.training.data import evenly_spaced
from pushforward.training.devices import check_mesh
from pushforward.training.objectives import AbstractObjective, sample_and_path_log_prob
from pushforward.training.run import Run

DATA_PER_STEP = 32
DRAWS_PER_DATUM = 8
NUM_EVALUATION_DATA = 256
NUM_STEPS, NUM_EVALUATIONS = 6000, 20
NUM_SCALING_DATA = 8
# Of data sets on disk: how many are in memory at once, and how many a checkpoint compares.
CHUNK, COMPARED = 1_000, 1_000


class AmortizedReverseKL(AbstractObjective):
    r"""$E_x[\mathrm{KL}(q(u \mid x) \,\|\, p(u \mid x))]$ up to the evidences, over data sets, by path gradients.

    Args:
        target: the posteriors.
        rows: pairs of a data set and its condition of the flow.
    """

    target: ConditionalTarget
    rows: AbstractRows

    @property
    def batches(self) -> RandomNumbers:
        return RandomNumbers(self.rows.num_rows, DATA_PER_STEP)

    def _log_density(self, u: Float[Array, "draws batch dim"], data: PyTree) -> Array:
        def of_one(u, data):
            return jax.vmap(self.target.at(data))(u)

        return jax.vmap(of_one, in_axes=(1, 0), out_axes=1)(u, data)

    def loss(self, flow, batch, key, step):
        data, conditions = self.rows.at(batch[0])
        u, log_q = sample_and_path_log_prob(flow, key, (DRAWS_PER_DATUM,), conditions)
        return jnp.mean(log_q - self._log_density(u, data))

    def evaluate(self, flow, key):
        row_key, draw_key = jr.split(key)
        data, conditions = self.rows.at(jr.randint(row_key, (NUM_EVALUATION_DATA,), 0, self.rows.num_rows))
        u, log_q = flow.sample_and_log_prob(draw_key, (DRAWS_PER_DATUM,), conditions)
        return jnp.mean(log_q - self._log_density(u, data))


class _WithStatistics(AbstractRows):
    """Pairs of a data set on disk and its statistics, which are computed when they are needed."""

    rows: AbstractRows
    statistics: Statistics = eqx.field(static=True)

    @property
    def num_rows(self):
        return self.rows.num_rows

    def at(self, indices):
        data = self.rows.at(indices)
        return data, jax.vmap(self.statistics)(data)


@checked(eager=True, target=None, flow=None, mesh=None)
def fit_amortized(
    target: ConditionalTarget,
    data: PyTree,
    *,
    key: PRNGKeyArray,
    statistics: Statistics | None = None,
    flow: Flow | None = None,
    steps: int = NUM_STEPS,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
    mesh: Mesh | None = None,
) -> AmortizedPosterior:
    r"""Fit one conditional flow to the posteriors of many data sets.

    Args:
        target: `ConditionalTarget(...)` or `ConditionalTarget.from_numpyro(...)`.
        data: training data sets, along the first axis of the arrays, from the same distribution as the data sets to
            which the result will be applied; for example a few thousand simulated data sets. Arrays that are a
            `numpy.memmap`, or the path of a table file (CSV, TSV, .npy or Parquet), stay on disk and are read in parts.
        key: for all randomness.
        statistics: summary statistics: a function from the top level of a module that maps a data set to a vector, the
            condition of the flow; by default, all numbers of the data set.
        flow: a conditional flow of shape (dim,) to train instead of the default: affine couplings (in one dimension
            splines) and a triangular affine map that depends on the data, in coordinates scaled by Gaussian fits to
            some of the data sets.
        steps: the number of training steps, each with 32 data sets and 8 draws for each of them.
        progress: whether to show a progress bar.
        callback: called after each evaluation with a `Progress`, whose `model` is the best flow so far; training
            stops if it returns True.
        checkpoint: a file that keeps the state of the fit. If it exists, the fit resumes from it, with a result that is
            bitwise identical to that of an uninterrupted fit.
        mesh: a `jax.sharding.Mesh` whose devices share the 32 data sets of each step, each with all parameters; the
            result equals that of one device up to rounding.

    Returns:
        An `AmortizedPosterior`, whose flow minimizes the mean over data sets $x$ of
        $\mathrm{KL}(q(u \mid x) \,\|\, p(u \mid x))$, up to the evidences.

    Raises:
        TypeError: if the target is not a `ConditionalTarget` or the flow is not a `Flow`.
        ValueError: if the data sets have other shapes than the target's or hold NaN, if the density is not finite at
            any starting point; if the flow has another shape or condition; or if the checkpoint is of another fit.
        FloatingPointError: if no estimate of the loss was finite.
        OSError: if the checkpoint cannot be written.

    Examples:
        >>> import jax, numpyro, pushforward as pf
        >>> import numpyro.distributions as dist
        >>> def model(y):  # the first argument is the data set
        ...     mean = numpyro.sample("mean", dist.Normal(0, 1))
        ...     numpyro.sample("y", dist.Normal(mean, 1).expand([4]).to_event(1), obs=y)
        >>> data_sets = numpyro.infer.Predictive(model, num_samples=200)(jax.random.key(0), None)["y"]
        >>> target = pf.ConditionalTarget.from_numpyro(model, data_sets[0])
        >>> amortized = pf.fit_amortized(target, data_sets, key=jax.random.key(1), steps=50)
        >>> amortized.sample(jax.random.key(2), data_sets[7], 100)["mean"].shape
        (100,)
    """
    if not isinstance(target, ConditionalTarget):
        raise TypeError(
            f"fit_amortized takes a pushforward.ConditionalTarget, but got {type(target).__name__}; make one by "
            "ConditionalTarget.from_numpyro(model, one_data_set) or ConditionalTarget(log_density, example, data)."
        )
    check_mesh(mesh, {"data sets of a step": DATA_PER_STEP})
    statistics = statistics or AllNumbers()
    rows = _checked_rows(target, data, statistics)
    mean, spread = _moments(rows)
    dim, size = target.target.dim, len(mean)
    scale_key, flow_key, train_key = jr.split(key, 3)
    if flow is None:
        flow = _default_flow(mean, spread, _pooled(target, rows, scale_key), flow_key)
    check_flow(flow, (dim,), (size,), "the target in unconstrained coordinates and the statistics of a data set")
    objective = AmortizedReverseKL(target, rows)

    def facts():
        return {
            "fit": "fit_amortized",
            "target": fingerprint(target),
            "shapes": shapes(jax.eval_shape(rows.at, jax.ShapeDtypeStruct((rows.num_rows,), jnp.result_type(int)))),
            "data": fingerprint(rows.values if isinstance(rows, RowsInMemory) else _some(rows, COMPARED)),
            "flow": fingerprint(flow),
            "steps": steps,
        }

    file = Checkpoint(checkpoint, facts, key, mesh)
    with Run("amortized", steps, file, progress=progress, callback=callback, mesh=mesh) as run:
        trained = run.train(
            "amortized", flow, objective, train_key,
            optimizer=_optimizer(steps), steps=steps, evaluate_every=math.ceil(steps / NUM_EVALUATIONS),
        )  # fmt: skip
    run.conclude(trained.loss)
    call = f"pf.fit_amortized(target, data, key={{key}}, steps={steps})"
    return AmortizedPosterior(target, trained.model, statistics, run.history, provenance(call, key))


@functools.lru_cache
def _optimizer(steps: int) -> optax.GradientTransformation:
    """One object for equal arguments, so that fits with equal arguments share one compiled program."""
    rates = optax.cosine_decay_schedule(2e-3, steps, alpha=1e-2)
    return optax.chain(optax.clip_by_global_norm(100.0), optax.adam(rates, b2=0.99))


def _checked_rows(target: ConditionalTarget, data: PyTree, statistics: Statistics) -> AbstractRows:
    """The pairs of data sets and statistics, in memory if the data are."""
    if any(isinstance(leaf, np.memmap | str | os.PathLike) for leaf in jax.tree.leaves(data)):
        rows = data_rows(data)
        some = rows.at(jnp.zeros(1, int))
        _check_shapes(target, some, jax.tree.map(lambda a: (rows.num_rows, *a.shape[1:]), some))
        return _WithStatistics(rows, statistics)
    check("data", data, PyTree[ArrayLike], owner="fit_amortized")
    data = as_arrays(data)
    _check_shapes(target, data, jax.tree.map(jnp.shape, data))
    for path, leaf in jax.tree.leaves_with_path(data):
        bad = ~np.isfinite(np.asarray(leaf, float)).reshape(leaf.shape[0], -1).all(1)
        if bad.any():
            raise ValueError(
                f"data{jax.tree_util.keystr(path)} holds NaN or infinite values in data set {bad.argmax()}."
            )
    return RowsInMemory((data, jax.vmap(statistics)(data)))


def _check_shapes(target: ConditionalTarget, data: PyTree, found: PyTree) -> None:
    expected = jax.tree.map(jnp.shape, target.data)
    given = jax.tree.map(lambda leaf: leaf.shape[1:], data)
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(data)}
    if given != expected or len(sizes) != 1:
        raise ValueError(f"data must hold data sets of shapes {expected} along a first axis, but has shapes {found}.")


def _moments(rows: AbstractRows) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """The means and standard deviations of the statistics, of a file in two passes."""
    if isinstance(rows, RowsInMemory):
        conditions = rows.values[1]
        _check_statistics(conditions)
        return conditions.mean(0), jnp.std(conditions, axis=0)
    at = eqx.filter_jit(lambda indices: rows.at(indices)[1])

    def mean_of(fn: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        total = np.zeros(())
        for start in range(0, rows.num_rows, CHUNK):
            # All of one length: compiled once.
            indices = np.minimum(np.arange(start, start + CHUNK), rows.num_rows - 1)
            conditions = at(jnp.asarray(indices))[: rows.num_rows - start]
            _check_statistics(conditions)
            total = total + fn(np.asarray(conditions, float)).sum(0)
        return total / rows.num_rows

    mean = mean_of(lambda c: c)
    spread = np.sqrt(mean_of(lambda c: (c - mean) ** 2))
    return jnp.asarray(mean, jnp.result_type(float)), jnp.asarray(spread, jnp.result_type(float))


def _check_statistics(conditions: Array) -> None:
    if conditions.ndim != 2 or not bool(jnp.isfinite(conditions).all()):
        raise ValueError(
            "the statistics of a data set must be a vector of finite numbers, but those of the data have shape "
            f"{conditions.shape[1:]}" + ("." if conditions.ndim != 2 else " and are not all finite.")
        )


def _some(rows: AbstractRows, most: int) -> PyTree:
    """Some of the pairs, evenly spaced."""
    return rows.at(jnp.asarray(evenly_spaced(rows.num_rows, most)))


def _pooled(target: ConditionalTarget, rows: AbstractRows, key: PRNGKeyArray) -> Triangular:
    """The Gaussian with the mean and covariance of the mixture of Gaussian fits to some of the data sets."""
    found, data = [], _some(rows, NUM_SCALING_DATA)[0]
    for i, k in zip(range(rows.num_rows), jr.split(key, NUM_SCALING_DATA), strict=False):
        one = target.at(jax.tree.map(lambda a, i=i: a[i], data))
        found += find_candidates(one, one.start, k).modes[:1]
    if not found:
        raise ValueError("the log-density is NaN or infinite at all starting points of all data sets that were tried.")
    locs, matrices = np.stack([mode.loc for mode in found]), np.stack([mode.matrix for mode in found])
    return match_moments(np.full(len(found), 1 / len(found)), locs, matrices)


def _default_flow(mean: Float[Array, " k"], spread: Float[Array, " k"], scaling: Triangular, key: PRNGKeyArray) -> Flow:
    dim, size = scaling.dim, len(mean)
    coupling_key, network_key = jr.split(key)
    # An affine coupling of one coordinate has no other coordinate to depend on.
    recipe = functools.partial(nsf, num_layers=2, bins=16) if dim == 1 else functools.partial(realnvp, num_layers=8)
    couplings = recipe(dim, hidden=(64, 64), cond_dim=size, key=coupling_key)
    affine = Triangular(dim)
    network = MLP(size, num_parameters(affine), (128, 128), key=network_key)
    chain = Chain([couplings.bijection, Amortized(affine, network, (size,)), scaling])
    scale = jnp.where(spread > 0, spread, 1.0)
    return Flow(standard_normal(dim), RescaledCondition(chain, mean, scale))
