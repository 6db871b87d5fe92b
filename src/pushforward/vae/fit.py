"""Training a VAE: images in, a VAE out. One epoch is one compiled program."""

import dataclasses
import functools
import math
import os
import time
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from pushforward.flow import trainable
from pushforward.serialization import save
from pushforward.training.optimizers import clip_by_running_norm
from pushforward.training.progress import progress_bar
from pushforward.training.trainer import update_where
from pushforward.vae.checkpoint import History, State, digest, resume
from pushforward.vae.data import check_images
from pushforward.vae.evaluation import fitting_size, map_in_chunks
from pushforward.vae.model import VAE
from pushforward.vae.objective import NegativeBound
from pushforward.vae.recipe import build

# Of a gradient's typical norm. Those of some layers, such as planar ones that are almost singular, have heavy tails.
CLIP = 2.0
# Draws of each held-out image for the comparison of epochs.
VALIDATION_SAMPLES = 4
VALIDATION_CHUNK = 500


def fit_vae(
    x: ArrayLike,
    *,
    key: PRNGKeyArray,
    vae: VAE | None = None,
    validation: float | ArrayLike = 0.1,
    binarize: bool = False,
    objective: NegativeBound | None = None,
    warmup: int = 0,
    batch_size: int = 100,
    learning_rate: float | optax.Schedule = 1e-3,
    optimizer: optax.GradientTransformation | None = None,
    max_epochs: int = 300,
    patience: int = 30,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 20,
    progress: bool = True,
) -> tuple[VAE, History]:
    r"""Train a VAE on images by Adam, until the ELBO of held-out images has not risen for `patience` epochs.

    Gradients longer than twice their typical length so far are shortened to that. A step whose loss or gradient is not
    finite changes nothing, and after an epoch without any that is, training goes on from the best parameters.

    Args:
        x: images, of shape (n, *shape), pixels in [0, 1].
        key: for all randomness.
        vae: what to train; by default `build` for the images' shape, with spline couplings in posterior and prior.
        validation: the share of images that is held out, or the held-out images.
        binarize: whether to draw black and white pixels with the greys for probabilities, afresh each time; the
            held-out images are drawn once.
        objective: by default the negative ELBO; `NegativeBound` has free bits, path gradients and more samples.
        warmup: epochs over which the weight $\beta$ of the KL term grows linearly to 1. Held-out images are always
            compared at 1, and patience counts only after warm-up.
        batch_size: images a step.
        learning_rate: of Adam, a number or an Optax schedule. Programs are compiled anew for each schedule.
        optimizer: any Optax optimiser, in the place of Adam and the shortening of gradients.
        max_epochs: passes through the images at most.
        patience: epochs without a better held-out ELBO, after which training ends.
        checkpoint: a file that the state is written to every `checkpoint_every` epochs and at the end. If it is there,
            training continues from it, to the bit as if it had not stopped; that of other images or another
            configuration is refused, but `max_epochs` and `patience` may change. (Of an optimiser of your own, only the
            structure of its state is compared.)
        checkpoint_every: epochs between.
        progress: whether to show a bar.

    Returns:
        The VAE of the epoch with the best held-out ELBO, and what happened. How many steps were skipped, for they were
        not finite, is in the history, and a warning says it.

    Raises:
        ValueError: for images that are not finite, outside of [0, 1], of another shape than the VAE's, or such as the
            likelihood cannot have made; for the checkpoint of another training; and for a model that cannot be saved,
            if there is a checkpoint.
        FloatingPointError: if the held-out ELBO was never finite.
    """
    x = check_images(x)
    if warmup < 0 or min(batch_size, max_epochs, patience, checkpoint_every) < 1:
        raise ValueError(
            f"fit_vae needs warmup >= 0, and batch_size, max_epochs, patience and checkpoint_every of 1 or more, but "
            f"got {warmup}, {batch_size}, {max_epochs}, {patience} and {checkpoint_every}."
        )
    build_key, split_key, state_key = jr.split(key, 3)
    vae = build(x.shape[1:], key=build_key) if vae is None else vae
    x, held_out = _split(x, validation, split_key)
    for name, images in (("x", x), ("validation", held_out)):
        if images.shape[1:] != vae.shape:
            raise ValueError(f"{name} must hold images of the VAE's shape {vae.shape}, but has shape {images.shape}.")
        if not binarize:
            vae.likelihood.check(images)
    learning_rate = learning_rate if callable(learning_rate) else float(learning_rate)
    if binarize:
        held_out = np.asarray(jr.bernoulli(split_key, held_out), held_out.dtype)
    trainer = _Trainer(
        NegativeBound() if objective is None else objective,
        _adam(learning_rate) if optimizer is None else optimizer,
        min(batch_size, len(x)),
        binarize,
    )
    state, history = trainer.init(vae, state_key), History(*([] for _ in dataclasses.fields(History)))
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        # Of a schedule, some of its values.
        rates = (
            [np.asarray(learning_rate(10**n)).item() for n in range(7)] if callable(learning_rate) else learning_rate
        )
        rule = f"Adam({rates})" if optimizer is None else "given"
        facts = {
            "training images": digest(x),
            "held-out images": digest(held_out),
            "binarize": binarize,
            "warmup": warmup,
            "batch_size": trainer.batch_size,
            "optimiser": rule,
            "objective": repr(trainer.objective),
        }
        if path.exists():
            state, history = resume(path, state, facts)
        # What cannot be saved, or not there, is better known now than after hours.
        save(path, (state, history, facts))
    x, held_out = jnp.asarray(x), jnp.asarray(held_out)
    with progress_bar("epochs", max_epochs, show=progress) as advance:
        while int(state.epoch) < max_epochs and int(state.waited) < patience:
            start = time.perf_counter()
            epoch = int(state.epoch)
            beta = min(1.0, (epoch + 1) / warmup) if warmup else 1.0
            state, numbers = trainer.epoch(state, x, held_out, jnp.asarray(beta, x.dtype), jnp.asarray(epoch >= warmup))
            for name, value in numbers.items():
                getattr(history, name).append(value.item())
            history.beta.append(beta)
            history.seconds.append(time.perf_counter() - start)
            advance(epoch + 1, f"held-out ELBO {history.validation_elbo[-1]:.3f}, best {float(state.best_elbo):.3f}")
            if path is not None and (epoch + 1) % checkpoint_every == 0:
                save(path, (state, history, facts))
    if path is not None:
        save(path, (state, history, facts))
    if not np.isfinite(state.best_elbo):
        raise FloatingPointError(
            f"the held-out ELBO was not finite in any of {int(state.epoch)} epochs; lower the learning rate, or begin "
            "with a simpler posterior."
        )
    if skipped := sum(history.skipped):
        steps = len(history.skipped) * max(1, len(x) // trainer.batch_size)
        warnings.warn(f"{skipped} of {steps} steps were skipped: not finite.", stacklevel=2)
    return state.best, history


class _Trainer(eqx.Module):
    """How an epoch goes."""

    objective: NegativeBound
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    binarize: bool = eqx.field(static=True)

    def init(self, vae: VAE, key: PRNGKeyArray) -> State:
        parameters = eqx.filter(vae, trainable(vae))
        zero = jnp.array(0)
        return State(vae, self.optimizer.init(parameters), vae, jnp.array(-jnp.inf, float), zero, zero, key)

    @eqx.filter_jit
    def epoch(self, state: State, x: Array, held_out: Array, beta: Array, counts: Array):
        """One pass through the images in a new order, then the held-out ELBO, at draws that all epochs share."""
        which = trainable(state.vae)
        parameters, static = eqx.partition(state.vae, which)
        order_key, step_key = jr.split(jr.fold_in(state.key, state.epoch))
        steps = len(x) // self.batch_size
        rows = jr.permutation(order_key, len(x))[: steps * self.batch_size].reshape(steps, self.batch_size)

        def loss(parameters, batch, key):
            value = self.objective(eqx.combine(parameters, static), batch, key, beta)
            return value.loss, value

        def step(carry, inputs):
            parameters, optimizer_state = carry
            rows, key = inputs
            batch = x[rows]
            if self.binarize:
                batch = jr.bernoulli(jr.fold_in(key, 1), batch).astype(x.dtype)
            (_, value), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, batch, key)
            norm = optax.tree.norm(gradient)
            finite = jnp.isfinite(value.loss) & jnp.isfinite(norm)
            carry = update_where(finite, self.optimizer, gradient, parameters, optimizer_state)
            return carry, jax.tree.map(lambda a: jnp.where(finite, a, jnp.nan), (value, norm))

        keys = jr.split(step_key, steps)
        (parameters, optimizer_state), (value, norm) = jax.lax.scan(
            step, (parameters, state.optimizer_state), (rows, keys)
        )
        reached = eqx.combine(parameters, static)
        chunk = fitting_size(VALIDATION_CHUNK, VALIDATION_SAMPLES, reached)
        elbo = map_in_chunks(lambda x, key: reached.elbo(x, key, VALIDATION_SAMPLES), held_out, state.key, chunk).mean()
        better = elbo > state.best_elbo
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), parameters, eqx.filter(state.best, which))
        waited = jnp.where(better | ~counts, 0, state.waited + 1)
        skipped = jnp.isnan(value.loss).sum()
        # Where no step is finite the parameters cannot leave by themselves.
        lost = skipped == steps
        parameters = jax.tree.map(lambda a, b: jnp.where(lost, b, a), parameters, best)
        best_elbo = jnp.where(better, elbo, state.best_elbo).astype(state.best_elbo.dtype)
        numbers = {
            "loss": jnp.nanmean(value.loss),
            "reconstruction": jnp.nanmean(value.reconstruction),
            "kl": jnp.nanmean(value.kl),
            "validation_elbo": elbo,
            "gradient_norm": jnp.nanmean(norm),
            "skipped": skipped,
        }
        vae, best = eqx.combine(parameters, static), eqx.combine(best, static)
        return State(vae, optimizer_state, best, best_elbo, state.epoch + 1, waited, state.key), numbers


@functools.lru_cache
def _adam(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
    """One object for equal arguments, so that equal trainings compile once."""
    return optax.chain(clip_by_running_norm(CLIP), optax.adam(learning_rate))


def _split(x: np.ndarray, validation: float | ArrayLike, key: PRNGKeyArray) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(validation, (int, float)):
        return x, check_images(validation)
    if not 0 < validation < 1 or len(x) < 2:
        raise ValueError(
            f"validation must be a share between 0 and 1 of two or more images, or images, but is {validation} of "
            f"{len(x)}."
        )
    rows = np.asarray(jr.permutation(key, len(x)))
    count = min(max(1, math.ceil(validation * len(x))), len(x) - 1)
    return x[rows[count:]], x[rows[:count]]
