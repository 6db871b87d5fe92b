"""`fit_density`: maximum likelihood on samples."""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from pushforward import training
from pushforward.bijections import Chain, OntoCircles, RescaledCondition
from pushforward.bijections.intervals import bounds
from pushforward.density import recipe
from pushforward.density.chance import is_better, judges_enough
from pushforward.density.data.arrays import column_labels, column_names
from pushforward.density.data.column_warnings import warn_if_coarse, warn_if_rounded_to_end
from pushforward.density.data.columns import (
    Discrete,
    Support,
    check_circular_steps,
    find_steps,
    parse_discrete,
    parse_support,
)
from pushforward.density.data.source import Source, open_samples
from pushforward.density.data.splitting import split_rows
from pushforward.density.data.validation import (
    check_condition,
    check_inside,
    check_options,
    check_samples,
    check_weights,
)
from pushforward.density.objective import HeldOutLikelihood
from pushforward.density.whitening.moments import effective_sample_size
from pushforward.density.whitening.tails import ConditionScaling, condition_scaling
from pushforward.density.whitening.whiten import whiten
from pushforward.flow import Flow
from pushforward.training.checkpoint import Checkpoint
from pushforward.training.run import Callback, Progress, Run

BATCH = 512
LEARNING_RATE = 5e-3
# Of files: how many rows are in memory, and how many are held out.
ROWS_AT_ONCE, MOST_HELD_OUT = 200_000, 20_000
# Steps of the cosine decay, unless `max_epochs` says otherwise.
FEWEST_STEPS, MOST_STEPS = 2_000, 20_000
MOST_EPOCHS = 100


def fit_density(
    x: ArrayLike | str | os.PathLike,
    *,
    key: PRNGKeyArray,
    condition: ArrayLike | None = None,
    flow: Flow | None = None,
    support: Support = None,
    discrete: Discrete = (),
    weights: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    validation: float = 0.1,
    batch_size: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    max_epochs: int | None = None,
    patience: int = 20,
    rows_at_once: int = ROWS_AT_ONCE,
    progress: bool = True,
    callback: Callback | None = None,
) -> Flow:
    r"""Fit a flow to samples by maximum likelihood.

    The samples are carried to the whole space, if they have a bounded support, and whitened; a share of the rows is
    held out; Adam with decoupled weight decay (of networks), clipped gradients and a cosine decay trains until the
    held-out likelihood has not risen for `patience` evaluations. If that is before the learning rate had decayed, it
    goes on from the best parameters with one that decays at once. The parameters that did best on held-out rows are
    returned, with whitening and support folded into the flow: its densities are in the units of `x`, and draws
    lie in the support. If their mean gain on these rows is no more than its standard error, or if the rows are fewer
    than five and nothing is trained, they are those that training starts from: by default those of a Gaussian.

    The values of a discrete column are a step apart, as counts are. Each is spread evenly over the step that begins
    with it, afresh whenever it is used. The flow is a density of such spread values: a value's probability (given
    the other columns) is its integral over the value's step, and a draw becomes a value by rounding down.

    Args:
        x: samples, of shape (n, dim); or the path of a file of them, .npy, CSV, TSV or Parquet, which like a
            `numpy.memmap` may be larger than memory (`pushforward.density.data.tables.open_mapped`).
        key: for all randomness.
        condition: what each row is given, of shape (n, cond_dim): then the flow is conditional, $q(x \mid c)$.
        flow: what to train, on whitened samples; by default autoregressive splines whose size depends on n and dim.
        support: where the columns lie: one for all, one for each, or a mapping of some by index or name; intervals, as
            NumPyro constraints, or `Circular` for angles, whose density goes on across the ends. None is the real line.
        discrete: columns of values a step apart, by index or name, or a boolean for each column; a mapping tells the
            steps, which are else found.
        weights: of rows, not negative: how often each counts. Rows of weight 0 play no part at all.
        names: of the columns; by default those of the file or data frame, if it has some.
        validation: the share of rows that is held out. Equal rows (with equal conditions) are held out together, unless
            they are equal by chance, as those of discrete columns alone.
        batch_size: rows a step.
        learning_rate: at first; it decays to a hundredth.
        max_epochs: passes through the data at most; by default as many as make 2,000 to 20,000 steps.
        patience: evaluations without a better held-out likelihood, after which training ends, or goes on with a
            learning rate that decays sooner.
        rows_at_once: of a memory-mapped `x`, how many are in memory; which they are changes in the course of training.
            They are read in blocks from anywhere.
        progress: whether to show a bar, and to say which flow was chosen and why.
        callback: called with the number of steps done and the negative log-likelihood of held-out rows, in nats a row;
            once, with 0, if nothing is trained.

    Returns:
        A flow with `log_prob` in nats and in the units of `x`, and `sample`.

    Raises:
        ValueError: for samples that are not finite, not in the support, constant or duplicated columns, too few rows,
            and shapes that do not go together. The message names rows and columns.
        TypeError: for a flow that is none, as the recipe of one.

    References:
        Papamakarios et al. (2021), section 2.3.1. https://arxiv.org/abs/1912.02762
    """
    check_options(
        key, validation=validation, learning_rate=learning_rate, batch_size=batch_size, patience=patience,
        rows_at_once=rows_at_once, max_epochs=1 if max_epochs is None else max_epochs,
    )  # fmt: skip
    samples, found = open_samples(x)
    names = found if names is None else [str(name) for name in names]
    size, dim = samples.shape
    columns = column_labels(dim, names)
    to_support, circles = parse_support(support, names, columns)
    weights = None if weights is None else check_weights(weights, size, dim)
    if condition is not None:
        condition = check_condition(condition, size, column_names(condition), weights)
    angles = tuple(circle is not None for circle in circles)
    if flow is not None:
        _check_flow(flow, dim, condition, angles)
    source = Source(samples, condition, weights, circles, rows_at_once)
    check_samples(source.chunks(), samples.shape, columns)
    steps = find_steps(source.chunks(), parse_discrete(discrete, names, columns), columns)
    check_circular_steps(steps, circles, columns)
    for rows, chunk in source.chunks():
        check_inside(chunk, to_support.ends, steps, columns, rows)
    warn_if_rounded_to_end(source.chunks(), to_support.ends, steps, columns)

    flow_key, split_key, train_key, noise_key, stream_key = jr.split(key, 5)
    rows, part = source.read_part(split_key)
    warn_if_coarse(part, steps, columns)
    back = whiten(source, steps, to_support, circles, columns, noise_key)
    if flow is None:
        telling = size if weights is None else int(effective_sample_size(weights))
        flow, reason = recipe.choose(telling, dim, None if condition is None else condition.shape[1], angles, flow_key)
        if progress:
            print(reason)
    if condition is not None:
        counting = np.arange(size) if weights is None else np.flatnonzero(weights)
        flow = _rescale_condition(flow, condition_scaling(condition[counting], source.weights_of(counting)))

    lots = split_rows(
        rows, part, source.condition_of(rows), steps, recipe.num_held_out(len(rows), validation), split_key
    )
    num_held_out = recipe.num_held_out(size, validation)
    most_held_out = min(num_held_out, MOST_HELD_OUT)
    num_parts = math.ceil(most_held_out / (validation * rows_at_once))
    held_out, training = (
        source.held_out_rows(split_key, lots, num_parts, most_held_out),
        source.training_rows(stream_key, lots),
    )
    num_kept = size - num_held_out if source.streams else len(training)
    objective = HeldOutLikelihood(
        training,
        held_out,
        back,
        jnp.asarray(steps, float) if steps.any() else None,
        angles,
        batch_size=min(batch_size, num_kept),
    )
    epoch = math.ceil(num_kept / batch_size)
    num_steps = min(max(FEWEST_STEPS, MOST_EPOCHS * epoch), MOST_STEPS) if max_epochs is None else max_epochs * epoch
    num_evaluations = min(100, num_steps)
    batches: Any = None
    if source.streams:
        # New rows whenever as many were drawn as there are in memory.
        num_evaluations = max(num_evaluations, min(num_steps, num_steps * batch_size // rows_at_once))
        batches = _Streamed(
            lambda step: source.training_rows(jr.fold_in(stream_key, step), lots).batches(objective.batch_size)
        )

    if judges_enough(held_out):
        start = flow
        with Run("density", num_steps, Checkpoint(None, {}, key), progress=progress, callback=callback) as run:
            flow = _trained(
                run, flow, objective, train_key, num_steps, learning_rate, num_evaluations, patience, batches
            )
        if not is_better(objective, flow, start, train_key):
            flow = start
            if progress:
                print(f"training gained no more on {len(held_out)} held-out rows than chance: the flow is as it began.")
    else:
        warnings.warn(
            f"nothing is trained, and the density is the one it would begin with: {len(held_out)} held-out rows (as "
            f"weights count them) of {size} are too few to judge by; more rows, or a larger validation=, would do.",
            stacklevel=2,
        )
        if callback is not None:
            loss = float(objective.evaluate(flow, train_key))
            callback(Progress("density", 0, loss, loss, 0.0, {}, flow))
    if isinstance(flow.bijection, OntoCircles):
        return Flow(flow.base, OntoCircles(Chain([flow.bijection.bijection, back]), circles))
    return Flow(flow.base, Chain([flow.bijection, back]))


class _Streamed(NamedTuple):
    """Rows of a file, read again as training goes on."""

    at: Callable[[int], training.Rows]


def _trained(
    run: Run,
    flow: Flow,
    objective: HeldOutLikelihood,
    key: PRNGKeyArray,
    num_steps: int,
    learning_rate: float,
    num_evaluations: int,
    patience: int,
    batches: Any,
) -> Flow:
    """Train until early stopping; with the steps that are left then, at a rate that decays at once."""

    def stage(name, flow, key, steps, rate, num_evaluations):
        return run.train(
            name, flow, objective, key,
            optimizer=recipe.optimizer(rate, steps), steps=steps, evaluate_every=math.ceil(steps / num_evaluations),
            batches=batches, stopping=training.EarlyStopping(patience),
        )  # fmt: skip

    first = stage("training", flow, key, num_steps, learning_rate, num_evaluations)
    if first.reason == "plateau":
        left = min(recipe.num_steps_of_decay(first.best_step), num_steps - run.steps)
        first = stage("decay", first.model, jr.fold_in(key, 1), left, learning_rate / 2, min(30, left))
    run.check_finite(first.loss)
    return first.model


def _check_flow(flow: Any, dim: int, condition, angles: tuple[bool, ...]) -> None:
    if not isinstance(flow, Flow):
        what = flow if isinstance(flow, str) else getattr(flow, "__name__", type(flow).__name__)
        raise TypeError(
            f"flow must be a Flow of {dim} columns, as pushforward.flows.maf({dim}, key=key), but is {what!r}."
        )
    if flow.shape != (dim,) or flow.cond_shape != (None if condition is None else condition.shape[1:]):
        raise ValueError(
            f"the flow must have shape ({dim},) and the condition's shape, but has shape {flow.shape} and cond_shape "
            f"{flow.cond_shape}, with a condition of shape {None if condition is None else condition.shape}."
        )
    its = flow.bijection.angles if isinstance(flow.bijection, OntoCircles) else (False,) * dim
    if its != angles:
        raise ValueError(
            f"the flow must have angles where the support is circular, as pushforward.flows.circular({dim}, "
            f"angles={list(angles)}) has, but has them at {list(its)}."
        )
    lower, upper = bounds(flow.bijection.codomain)
    if not np.all(np.isinf(lower) & np.isinf(upper) | np.array(angles)):
        raise ValueError(
            f"the flow must have the whole space for its codomain, but has {flow.bijection.codomain}: samples are "
            "whitened before it sees them; say where columns lie by support=."
        )


def _rescale_condition(flow: Flow, scaling: ConditionScaling) -> Flow:
    """The flow, given the condition in its own units, in which its networks see none that is far away."""
    if isinstance(flow.bijection, OntoCircles):
        inner = RescaledCondition(flow.bijection.bijection, *scaling)
        return Flow(flow.base, OntoCircles(inner, flow.bijection.circles))
    return Flow(flow.base, RescaledCondition(flow.bijection, *scaling))
