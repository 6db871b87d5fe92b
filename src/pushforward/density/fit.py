"""`fit_density`: maximum likelihood on samples."""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from pushforward import training
from pushforward.arguments import checked
from pushforward.bijections.arrays import ArrayLike
from pushforward.density import recipe
from pushforward.density.data.column_warnings import warn_if_coarse, warn_if_rounded_to_end
from pushforward.density.data.columns import Discrete, Support
from pushforward.density.data.splitting import split_rows
from pushforward.density.data.validation import check_options
from pushforward.density.evaluate import Samples
from pushforward.density.missing import fit_incomplete
from pushforward.density.objective import MaximumLikelihood
from pushforward.density.prepare import Prepared, prepare
from pushforward.density.result import Density, default_names
from pushforward.density.significance import has_enough_validation_rows, improves
from pushforward.density.whitened_flow import check_whitened_flow, in_original_units, with_rescaled_condition
from pushforward.density.whitening.shrinkage import are_few_rows
from pushforward.density.whitening.tails import condition_scaling
from pushforward.density.whitening.whiten import whiten
from pushforward.flow import Flow
from pushforward.reports.provenance import provenance
from pushforward.training.callbacks import Callback
from pushforward.training.checkpoint import Checkpoint, fingerprint, shapes
from pushforward.training.devices import check_mesh
from pushforward.training.run import Run
from pushforward.training.stopping import RATE_AFTER_DIVERGENCE, has_diverged
from pushforward.user_warnings import warn
from pushforward.weights import effective_sample_size

BATCH = 512
LEARNING_RATE = 5e-3
# Of files: how many rows are in memory, and the largest number of validation rows.
ROWS_AT_ONCE, MAX_VALIDATION_ROWS = 200_000, 20_000
# Steps of the cosine decay, unless `max_epochs` says otherwise.
MIN_STEPS, MAX_STEPS = 2_000, 20_000
MAX_EPOCHS = 100


@checked(
    eager=True, x=None, condition=None, flow=None, support=None, discrete=None, weights=None, names=None,
    condition_names=None, validation=None, batch_size=None, learning_rate=None, max_epochs=None, patience=None,
    rows_at_once=None, mesh=None,
)  # fmt: skip
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
    condition_names: Sequence[str] | None = None,
    validation: float = 0.1,
    batch_size: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    max_epochs: int | None = None,
    patience: int = 20,
    rows_at_once: int = ROWS_AT_ONCE,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
    mesh: Mesh | None = None,
    missing: Literal["error", "impute"] = "error",
) -> Density:
    r"""Fit a flow to samples by maximum likelihood.

    The samples are mapped to the whole space, if their support is bounded, and whitened. A fraction of the rows is
    used for validation. Adam with decoupled weight decay (of networks), clipped gradients and a cosine decay of the
    learning rate trains until the likelihood of the validation rows has not improved for `patience` evaluations. If
    that happens before the learning rate has decayed, training continues from the best parameters with half the
    learning rate and a short cosine decay; after a divergence with a quarter, for the steps that are left. The flow
    with the highest validation likelihood is returned. It includes the whitening and the transform to the support:
    its densities are in the units of `x`, and its draws lie in the support. If the mean gain of training on the
    validation rows is at most its standard error, or if there are fewer than five validation rows, the initial flow
    is returned instead, by default a Gaussian. If no more rows than columns are distinct, it is a Gaussian whose
    correlations are shrunk, with a warning.

    The values of a discrete column, such as counts, lie on a grid with a constant step. They are dequantized: uniform
    noise on [0, step) is added, with new random numbers at every use. The flow is a density of the dequantized values.
    The probability of a value (given the other columns) is the integral over [value, value + step), and a draw is
    rounded down to the grid.

    Ctrl-C ends the training, and the best density so far is returned, with a warning.

    Args:
        x: samples, of shape (n, dim); or the path of a file of them, .npy, CSV, TSV, Parquet or Arrow, which like
            a `numpy.memmap` may be larger than memory.
        key: for all randomness; the same key gives the same result. The density keeps a key derived from it, for
            `evaluate`, `plot` and `report`.
        condition: the condition of each row, of shape (n, cond_dim): then the density is conditional, $q(x \mid c)$.
        flow: the flow to train, on whitened samples; by default autoregressive splines whose size depends on n and dim.
        support: where the columns lie: one constraint for all, one for each, or a mapping of some columns by index or
            name; intervals, as NumPyro constraints, or `Circular` for angles, whose density is continuous across the
            ends. None is the real line.
        discrete: columns of values with a constant step, by index or name, or a boolean for each column; a mapping
            also gives the steps, which are otherwise found in the samples.
        weights: the weights of the rows, not negative; only their ratios matter. Rows of weight 0 are ignored.
        names: the names of the columns; by default those of the file or data frame, or x0, x1, ...
        condition_names: the names of the columns of the condition; by default those of the data frame, or c0, c1, ...
        validation: the fraction of validation rows. Equal rows (with equal conditions) stay together, unless they are
            equal by coincidence, as rows of discrete columns alone are.
        batch_size: rows per step.
        learning_rate: the initial one; it decays to a hundredth.
        max_epochs: the largest number of passes through the data; by default as many as make 2,000 to 20,000 steps.
        patience: the number of evaluations without a higher validation likelihood after which the learning rate
            decays, and training ends.
        rows_at_once: how many rows of a memory-mapped `x` are in memory. They are read in blocks from random places,
            and are replaced by others during training.
        progress: whether to show a progress bar.
        callback: called after each evaluation with a `Progress`, whose `loss` is the negative log-likelihood of the
            validation rows, in nats per row, and whose `model` is the best flow so far, in the units of `x`; training
            stops if it returns True. If nothing is trained, it is called once.
        checkpoint: a file that keeps the state of the training. If it exists, training resumes from it, with a result
            that is bitwise identical to that of an uninterrupted training. Of a memory-mapped `x` the content is
            compared, not the path; that takes one more pass through the file.
        mesh: a `jax.sharding.Mesh` whose devices share the rows of each step, each with all parameters; the
            result equals that of one device up to rounding.
        missing: what to do with missing values of `x`: NaN, None, masked values and empty cells. "error" refuses them.
            "impute" draws them given the observed values of their row, first under a Gaussian and then under the fitted
            density, which is fitted three times in all (stochastic expectation-maximization). That is right if what is
            missing depends on observed values only. `x` is read into memory. Until the last fit ends, the earlier ones
            have a `checkpoint` each, of the same name with "-round1" or "-round2" after it.

    Returns:
        A `Density`, with `log_prob` in nats and in the units of `x`, and `sample`.

    Raises:
        ValueError: for samples that are not finite or not in the support, constant or duplicated columns, too few rows,
            shapes that do not match, and the checkpoint of another fit. The message names rows and columns.
        TypeError: for a `flow` that is not a `Flow`, such as a recipe.
        FloatingPointError: if no estimate of the loss was finite.
        OSError: if the checkpoint cannot be written.

    References:
        Papamakarios et al. (2021), section 2.3.1. https://arxiv.org/abs/1912.02762

    Examples:
        >>> import numpy as np, jax, pushforward as pf
        >>> from numpyro.distributions import constraints
        >>> x = np.random.default_rng(0).gamma(2.0, size=(300, 1))
        >>> density = pf.fit_density(x, key=jax.random.key(0), support=constraints.positive, max_epochs=5)
        >>> density.log_prob(x[:4]).shape
        (4,)
        >>> bool(density.sample(jax.random.key(1), (100,)).min() > 0)
        True
    """
    check_options(
        key, validation=validation, learning_rate=learning_rate, batch_size=batch_size, patience=patience,
        rows_at_once=rows_at_once, max_epochs=1 if max_epochs is None else max_epochs,
    )  # fmt: skip
    if missing == "impute":
        return fit_incomplete(
            fit_density, x, key,
            {
                "condition": condition, "flow": flow, "support": support, "discrete": discrete, "weights": weights,
                "names": names, "condition_names": condition_names, "validation": validation, "batch_size": batch_size,
                "learning_rate": learning_rate, "max_epochs": max_epochs, "patience": patience,
                "rows_at_once": rows_at_once, "progress": progress, "callback": callback, "checkpoint": checkpoint,
                "mesh": mesh,
            },
        )  # fmt: skip
    samples = prepare(
        x, condition, support=support, discrete=discrete, weights=weights, names=names,
        condition_names=condition_names, rows_at_once=rows_at_once,
    )  # fmt: skip
    if flow is not None:
        check_whitened_flow(flow, samples.dim, samples.cond_dim, samples.angles)
    options = {
        "validation": validation, "batch_size": batch_size, "learning_rate": learning_rate, "max_epochs": max_epochs,
        "patience": patience, "rows_at_once": rows_at_once if samples.source.streams else None,
    }  # fmt: skip
    file = Checkpoint(checkpoint, lambda: _checkpoint_facts(samples, flow) | options, key, mesh)
    given = {"condition": condition, "flow": flow, "support": support, "weights": weights, "names": names}
    call = _call(options, **given, discrete=discrete if len(discrete) else None)
    flow_key, split_key, train_key, noise_key, rows_key, kept_key, decay_key = jr.split(key, 7)
    source, steps, size = samples.source, samples.steps, samples.size
    warn_if_rounded_to_end(source.chunks(), samples.to_support.ends, steps, samples.labels)
    rows, part = source.read_part(split_key)
    warn_if_coarse(part, steps, samples.labels)
    # Dequantization makes all rows of discrete columns distinct.
    few = len(part) <= samples.dim if steps.any() else are_few_rows(part)
    whitening = whiten(
        source, steps, samples.to_support, samples.circles, samples.labels, noise_key, few_rows=few
    )  # fmt: skip
    facts: dict[str, Any] = {"rows": size}
    if flow is None:
        effective_size = size if source.weights is None else int(effective_sample_size(source.weights))
        flow, facts["flow"] = recipe.choose(effective_size, samples.dim, samples.cond_dim, samples.angles, flow_key)
    if source.condition is not None:
        counting = np.arange(size) if source.weights is None else np.flatnonzero(source.weights)
        scaling = condition_scaling(source.condition[counting], source.weights_of(counting))
        flow = with_rescaled_condition(flow, scaling)
    start = flow

    num_in_part = recipe.num_validation_rows(len(rows), validation)
    split = split_rows(rows, part, source.condition_of(rows), steps, num_in_part, split_key)
    num_validation = recipe.num_validation_rows(size, validation)
    most = min(num_validation, MAX_VALIDATION_ROWS)
    held_out = source.validation_rows(split_key, split, math.ceil(most / (validation * rows_at_once)), most)
    kept = source.training_rows(rows_key, split, batch_size)
    facts["validation rows"] = len(held_out)
    discrete_steps = jnp.asarray(steps, float) if steps.any() else None
    objective = MaximumLikelihood(kept, held_out, whitening, discrete_steps, samples.angles)
    epoch = math.ceil((size - num_validation if source.streams else len(kept)) / batch_size)
    num_steps = min(max(MIN_STEPS, MAX_EPOCHS * epoch), MAX_STEPS) if max_epochs is None else max_epochs * epoch
    num_evaluations, batches = min(100, num_steps), None
    if source.streams:
        # New rows are read when about as many rows have been drawn as are in memory.
        num_evaluations = max(num_evaluations, min(num_steps, num_steps * batch_size // rows_at_once))
        batches = training.Reread(lambda step: source.training_rows(jr.fold_in(rows_key, step), split, batch_size))

    to_result = lambda flow: in_original_units(flow, whitening, samples.circles)  # noqa: E731
    enough = not few and has_enough_validation_rows(held_out)
    if few:
        warn(
            "training is skipped, and the initial density is returned, by default a Gaussian with shrunk correlations: "
            f"no more rows than columns are distinct, so the correlations of all {samples.dim} columns cannot be "
            "estimated. Use more rows, or fewer columns."
        )
    elif not enough:
        warn(
            f"training is skipped, and the initial density is returned: {len(held_out)} validation rows of {size} rows "
            f"(or the effective sample size of their weights) are fewer than {recipe.MIN_VALIDATION_ROWS}, too few for "
            "early stopping. Use more rows, or a larger validation=."
        )
    if not enough:
        num_steps = num_evaluations = 0
    check_mesh(mesh, {"rows of a step": kept.batch_size or len(kept)})
    with Run(
        "density", num_steps, file, progress=progress, callback=callback, mesh=mesh, format_loss=_format_loss
    ) as run:
        flow, reason = _trained(
            run, start, objective, (train_key, decay_key), learning_rate=learning_rate, num_steps=num_steps,
            num_evaluations=num_evaluations, patience=patience, batches=batches, to_result=to_result,
        )  # fmt: skip
        facts |= {"steps": len(run.history.losses), "ended by": ENDINGS[reason]}
        if not enough:
            too_few = "rows" if few else "validation rows"
            facts["result"] = f"not trained, because of too few {too_few}; this is the initial flow"
        elif not improves(objective, flow, start, train_key):
            flow, facts["result"] = start, "no significant improvement on the validation rows; this is the initial flow"
        rows_kept, x_kept = source.assigned(rows, part, split, held_out=False)
        training_rows = (x_kept, *(None if a is None else a[rows_kept] for a in (source.condition, source.weights)))
        # Inside the block, so that Ctrl-C does not lose a finished fit.
        return Density(
            flow=to_result(flow),
            columns=tuple(samples.names or default_names("x", samples.dim)),
            condition_names=tuple(samples.condition_names or default_names("c", samples.cond_dim or 0)),
            grids=tuple((float(part[:, i].min()), float(step)) if step else None for i, step in enumerate(steps)),
            history=run.history,
            facts=tuple(facts.items()),
            interrupted=run.ended,
            key=kept_key,
            training=Samples(*training_rows),
            validation=Samples(np.asarray(held_out.values[0]), *map(_on_host, (held_out.values[1], held_out.weights))),
            provenance=provenance(call, key),
        )


def _call(options: dict[str, Any], **given: Any) -> str:
    """The call of a fit: the options that are not the default, and the names of the objects that were given."""
    defaults = {
        "validation": 0.1, "batch_size": BATCH, "learning_rate": LEARNING_RATE, "patience": 20,
        "rows_at_once": ROWS_AT_ONCE,
    }  # fmt: skip
    chosen = {name: value for name, value in options.items() if value not in (None, defaults.get(name))}
    objects = [name for name, value in given.items() if value is not None]
    texts = [*(f"{name}={name}" for name in objects), *(f"{name}={value!r}" for name, value in chosen.items())]
    return f"pf.fit_density({', '.join(['x', 'key={key}', *texts])})"


def _on_host(array: Array | None) -> np.ndarray | None:
    return None if array is None else np.asarray(array)


ENDINGS = {"steps": "the largest number of steps", "plateau": "early stopping", "stopped": "the user"}


def _format_loss(loss: float) -> str:
    return f"{-loss:.4f} nats per row"


def _trained(
    run: Run,
    flow: Flow,
    objective: MaximumLikelihood,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    *,
    learning_rate: float,
    num_steps: int,
    num_evaluations: int,
    patience: int,
    batches: Any,
    to_result: Callable[[Flow], Flow],
) -> tuple[Flow, str]:
    """Train until early stopping; then, with the steps that are left, at a rate that decays at once.

    A training that has diverged is no plateau: it goes on from its best parameters at a lower learning rate.
    """

    def stage(name, flow, key, steps, rate, num_evaluations):
        return run.train(
            name, flow, objective, key,
            optimizer=recipe.optimizer(rate, max(1, steps)),
            steps=steps, evaluate_every=math.ceil(steps / max(1, num_evaluations)),
            batches=batches, stopping=training.EarlyStopping(patience), to_result=to_result,
            # Without steps, the program only evaluates.
            quick_compilation=steps == 0,
        )  # fmt: skip

    def goes_on(name, reason):
        return reason == "plateau" and run.steps < num_steps and has_diverged(run.history.stage(name))

    name, restarts = "training", 0
    trained = stage(name, flow, keys[0], num_steps, learning_rate, num_evaluations)
    while goes_on(name, trained.reason):
        left, restarts = num_steps - run.steps, restarts + 1
        name, learning_rate = f"restart {restarts}", learning_rate * RATE_AFTER_DIVERGENCE
        most = math.ceil(num_evaluations * left / num_steps)
        again = stage(name, trained.model, jr.fold_in(keys[0], restarts), left, learning_rate, most)
        # If the user stops the fit just before, nothing is evaluated.
        trained = dataclasses.replace(again, loss=min(again.loss, trained.loss))
    if trained.reason == "plateau":
        left = min(recipe.num_steps_of_decay(trained.best_step), num_steps - run.steps)
        decayed = stage("decay", trained.model, keys[1], left, learning_rate / 2, min(30, left))
        trained = decayed if np.isfinite(decayed.loss) else trained
    run.conclude(trained.loss)
    return trained.model, trained.reason


def _checkpoint_facts(samples: Prepared, flow: Flow | None) -> dict[str, Any]:
    """What identifies a fit: all numbers that it is made from."""
    source = samples.source
    # Transposed where columns are contiguous, so that a file is read in the order of its content.
    x = source.x if source.x.flags.c_contiguous else source.x.T
    return {
        "fit": "fit_density",
        "shapes": shapes((source.x, source.condition)),
        "x": fingerprint(x),
        "condition": fingerprint(source.condition),
        "weights": fingerprint(source.weights),
        "support": repr((samples.to_support.ends, samples.circles)),
        "discrete": samples.steps.tolist(),
        "flow": "default" if flow is None else fingerprint(flow),
    }
