"""`train`: minimize any objective."""

import functools
import math
import os
from typing import TypeVar

import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from pushforward.arguments import checked
from pushforward.training.callbacks import Callback
from pushforward.training.checkpoint import Checkpoint, fingerprint, fingerprint_optimizer, shapes
from pushforward.training.data import AbstractBatches
from pushforward.training.devices import check_mesh
from pushforward.training.history import History
from pushforward.training.objectives import AbstractObjective
from pushforward.training.run import Run
from pushforward.training.stopping import EarlyStopping
from pushforward.training.trainer import partition

M = TypeVar("M")


@functools.lru_cache
def _default_optimizer(steps: int) -> optax.GradientTransformation:
    """One object for equal arguments, so that fits with equal arguments share one compiled program."""
    return optax.adam(optax.cosine_decay_schedule(1e-3, steps))


@checked(eager=True, mesh=None)
def train(
    model: M,
    objective: AbstractObjective,
    *,
    key: PRNGKeyArray,
    steps: int = 1000,
    optimizer: optax.GradientTransformation | None = None,
    batches: AbstractBatches | None = None,
    num_evaluations: int = 20,
    stopping: EarlyStopping | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
    mesh: Mesh | None = None,
) -> tuple[M, History]:
    """Minimize an objective.

    The steps run in one compiled program, in `num_evaluations` equal chunks. After each chunk, a fresh estimate of
    the loss decides whether the parameters are the best so far. The best parameters are returned, also after Ctrl-C.

    Args:
        model: a flow, or any other pytree that the objective takes. Its inexact arrays are trained, except those of a
            NumPyro distribution (use `Learnable`) and of `Frozen` bijections.
        objective: what to minimize, such as `ReverseKL` or `ForwardKL`.
        key: for all randomness.
        steps: the largest number of steps.
        optimizer: any Optax optimizer, by default Adam at 1e-3 with a cosine decay.
        batches: the source of batches, by default the objective's own.
        num_evaluations: how often to evaluate.
        stopping: a rule for early stopping, by default none.
        progress: whether to show a progress bar.
        callback: called after each evaluation with a `Progress`; training stops if it returns True.
        checkpoint: a file that keeps the state of the training. If it exists, training resumes from it, with a result
            that is bitwise identical to that of an uninterrupted training.
        mesh: a `jax.sharding.Mesh` whose devices share the draws or rows of each step, each with all parameters; the
            result equals that of one device up to rounding.

    Returns:
        The best model, which may be the one given, and the history. A step whose loss or gradient is not finite is
        skipped: it changes nothing, its loss in the history is NaN, and a warning says how many there were. After
        Ctrl-C, a warning says so.

    Raises:
        FloatingPointError: if no evaluation was finite.
        TypeError: if the objective does not take such a model.
        ValueError: if the model has no trainable arrays, a number is too small, the number of devices does not divide
            the draws or rows of a step, or the checkpoint is of another training.
        OSError: if the checkpoint cannot be written.

    Examples:
        >>> import jax, pushforward as pf
        >>> x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (500, 2))
        >>> flow = pf.flows.linear(2, key=jax.random.key(1))
        >>> flow, history = pf.train(flow, pf.ForwardKL(x), key=jax.random.key(2), steps=200)
        >>> bool(history.losses[-1] < history.losses[0])
        True
    """
    check_mesh(mesh, {})
    parameters, _ = partition(model)
    objective.check_model(model)
    optimizer = _default_optimizer(steps) if optimizer is None else optimizer

    def facts():
        return {
            "fit": "train",
            "model": fingerprint(model),
            "shapes": shapes((objective, batches)),
            "objective": f"{type(objective).__name__} {fingerprint(objective)}",
            "batches": fingerprint(batches),
            "optimizer": fingerprint_optimizer(optimizer, parameters),
            "steps": steps,
            "num_evaluations": num_evaluations,
        }

    file = Checkpoint(checkpoint, facts, key, mesh)
    with Run("training", steps, file, progress=progress, callback=callback, mesh=mesh) as run:
        best = run.train(
            "training", model, objective, key,
            optimizer=optimizer, steps=steps, evaluate_every=math.ceil(steps / num_evaluations),
            batches=batches, stopping=stopping,
        )  # fmt: skip
    run.conclude(best.loss)
    return best.model, run.history
