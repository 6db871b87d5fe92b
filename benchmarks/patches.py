"""A large flow for image patches, trained for a fixed time on an accelerator.

It consists of the library's parts. Each patch of a batch is rotated or reflected by one of the eight symmetries of the
square and dequantized with new uniform noise. The flow is a density of whitened patches with lighter tails. The
learning rate follows a cosine of the elapsed time, so that training ends at the same time on every machine. The
parameters with the highest likelihood of validation patches are kept.
"""

import math
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

import pushforward as pf
from pushforward.bijections import AbstractBijection, Affine, Chain, Elementwise, Shift, SinhArcsinh, Triangular
from pushforward.bijections.arrays import trainable
from pushforward.density.recipe import decayed
from pushforward.training.data import Rows
from pushforward.training.objectives import AbstractObjective
from pushforward.training.trainer import Trainer

SIDE = 8
# The tail parameter for whitened patches, whose tails are far heavier than those of a normal distribution.
TAILS = 2.0
STEPS_PER_CALL = 250


def symmetries() -> np.ndarray:
    """Eight orders of the pixels of a patch: rows and columns reflected or not, and swapped or not."""
    order = np.arange(SIDE**2).reshape(SIDE, SIDE)
    orders = [a[::up, ::left] for a in (order, order.T) for up in (1, -1) for left in (1, -1)]
    return np.stack([a.ravel() for a in orders])


def centered(pixels: Float[Array, "n 64"]) -> Float[Array, "n 63"]:
    """Subtract the mean of each patch, and drop its last pixel, which is then minus the sum of the others."""
    return (pixels - pixels.mean(-1, keepdims=True))[..., :-1]


def transform(x: Float[np.ndarray, "n 63"], order: np.ndarray) -> Float[np.ndarray, "n 63"]:
    """Permute all pixels of centered patches; this preserves volume."""
    whole = np.concatenate([x, -x.sum(-1, keepdims=True)], axis=-1)
    return whole[:, order][:, :-1]


class NegativeLogLikelihood(AbstractObjective):
    """Of dequantized patches, each transformed by a random symmetry; evaluated on validation patches."""

    pixels: UInt8[Array, "n 64"]
    orders: Array
    validation: Float[Array, "m 63"]
    back: AbstractBijection
    batch_size: int = eqx.field(static=True)

    @property
    def batches(self):
        return Rows(self.pixels, batch_size=self.batch_size)

    def loss(self, flow, batch, key, step):
        pixels, _ = batch
        order_key, noise_key = jr.split(key)
        orders = self.orders[jr.randint(order_key, (len(pixels),), 0, len(self.orders))]
        pixels = jnp.take_along_axis(pixels, orders, axis=1)
        return -self.log_prob(flow, centered((pixels + jr.uniform(noise_key, pixels.shape)) / 256)).mean()

    def evaluate(self, flow, key):
        return -self.log_prob(flow, self.validation).mean()

    def log_prob(self, flow: pf.Flow, x: Float[Array, "n 63"]) -> Float[Array, " n"]:
        """The log-density of patches; the flow itself is a density of whitened patches."""
        return pf.Flow(flow.base, Chain([flow.bijection, self.back])).log_prob(x)


def whitening(x: Float[np.ndarray, "n 63"]) -> Chain:
    """A map from coordinates with mean 0, identity covariance and light tails to patches."""
    factor = np.linalg.cholesky(np.cov(x.T))
    z = np.linalg.solve(factor, (x - x.mean(0)).T)
    scale = float(np.sinh(np.arcsinh(z) / TAILS).std())
    dim = x.shape[1]
    lighter = [Elementwise(Affine(scale=scale), dim), Elementwise(SinhArcsinh(tail=TAILS), dim)]
    matrix = Triangular(dim, matrix=jnp.asarray(factor, float))
    return Chain([*lighter, matrix, Elementwise.each(Shift, x.mean(0))])


def fit(
    pixels: UInt8[np.ndarray, "n 64"],
    validation: UInt8[np.ndarray, "m 64"],
    seconds: float,
    *,
    num_layers: int,
    hidden: tuple[int, ...],
    bins: int,
    bound: float,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
) -> Callable[[np.ndarray], np.ndarray]:
    """The log-density of centered patches, trained until `seconds` have passed since the call.

    Raises:
        ValueError: if more than half of the time has passed before the first step.
    """
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    orders = symmetries()
    some = pixels[rng.permutation(len(pixels))[:100_000]]
    sample = np.take_along_axis(some, orders[rng.integers(len(orders), size=len(some))], axis=1)
    back = whitening(np.asarray(centered((sample + rng.random(sample.shape)) / 256)))
    validation = jnp.asarray(centered((validation + rng.random(validation.shape)) / 256), jnp.float32)
    flow = pf.flows.arnsf(
        pixels.shape[1] - 1, key=jr.key(0), num_layers=num_layers, hidden=hidden, bins=bins, bound=bound, fast="density"
    )
    optimizer = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(
            optax.clip_by_global_norm(5.0),
            optax.adamw(learning_rate, b2=0.99, weight_decay=weight_decay, mask=decayed),
        )
    )(learning_rate=0.0)
    parameters, static = eqx.partition(flow, trainable(flow))
    objective = NegativeLogLikelihood(jnp.asarray(pixels), jnp.asarray(orders), validation, back, batch_size)
    trainer = Trainer(objective, optimizer, static)
    # Without a step, this only compiles and evaluates.
    state, _ = Trainer.advance(trainer, trainer.init(parameters, jr.key(1)), objective.batches, jnp.array(0))
    jax.block_until_ready(state.best_loss)
    begin, end = time.perf_counter(), start + seconds
    if end - begin < seconds / 2:
        raise ValueError(f"the start took {begin - start:.0f} of {seconds:.0f} seconds; give more time, or use a GPU.")
    reported = elapsed = 0.0
    while elapsed < 1:
        # A linear rise for a fiftieth of the time, then a cosine decay.
        rate = learning_rate * min(1.0, elapsed / 0.02 + 0.01) * 0.5 * (1 + math.cos(math.pi * elapsed))
        rates = {"learning_rate": jnp.asarray(rate, jnp.float32)}
        state = eqx.tree_at(lambda s: s.optimizer_state.hyperparams, state, rates)
        state, chunk = Trainer.advance(trainer, state, objective.batches, state.step + STEPS_PER_CALL)
        losses, validation_loss = chunk.losses[:STEPS_PER_CALL], float(chunk.loss)
        elapsed = min(1.0, (time.perf_counter() - begin) / (end - begin))
        if elapsed - reported >= 0.02 or elapsed == 1:
            reported = elapsed
            print(
                f"{time.perf_counter() - start:.0f} s, {int(state.step)} steps: training {-jnp.nanmean(losses):.3f}, "
                f"validation {-validation_loss:.3f}, {int(jnp.isnan(losses).sum())} skipped",
                flush=True,
            )
    best, log_prob = trainer.model(state.best), eqx.filter_jit(objective.log_prob)
    return lambda x: np.asarray(log_prob(best, jnp.asarray(x, jnp.float32)), float)
