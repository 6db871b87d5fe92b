"""A large flow for image patches, trained by the clock: for an accelerator.

All is made of the library's parts. Each batch is drawn from the grey levels, turned or mirrored by one of the eight
symmetries of the square, and given fresh noise; whitened, and with tails made lighter, it is what the flow is a density
of. The learning rate follows a cosine of the time that has gone, so that training ends when time does, wherever it
runs. Held-out patches choose among the parameters on the way.
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
from pushforward.density.recipe import decayed
from pushforward.density.whitening.whiten import each
from pushforward.flow import trainable
from pushforward.training.objectives import AbstractObjective
from pushforward.training.trainer import Trainer

SIDE = 8
# Of whitened patches, whose tails are far heavier than a normal's.
TAILS = 2.0
STEPS_A_CALL = 250


def symmetries() -> np.ndarray:
    """Eight orders of a patch's pixels: rows and columns mirrored or not, and swapped or not."""
    order = np.arange(SIDE**2).reshape(SIDE, SIDE)
    turned = [a[::up, ::left] for a in (order, order.T) for up in (1, -1) for left in (1, -1)]
    return np.stack([a.ravel() for a in turned])


def centred(pixels: Float[Array, "n 64"]) -> Float[Array, "n 63"]:
    """Less the mean of each patch, and without the last pixel, which the others then give."""
    return (pixels - pixels.mean(-1, keepdims=True))[..., :-1]


def turn(x: Float[np.ndarray, "n 63"], order: np.ndarray) -> Float[np.ndarray, "n 63"]:
    """Centred patches, turned: a permutation of all pixels, which keeps volumes."""
    whole = np.concatenate([x, -x.sum(-1, keepdims=True)], axis=-1)
    return whole[:, order][:, :-1]


class Likelihood(AbstractObjective):
    """Of batches of patches with fresh noise, each turned in one of the ways; and of held-out patches as they are."""

    pixels: UInt8[Array, "n 64"]
    orders: Array
    held_out: Float[Array, "m 63"]
    back: AbstractBijection
    batch_size: int = eqx.field(static=True)

    def loss(self, flow, key):
        row_key, turn_key, noise_key = jr.split(key, 3)
        rows = jr.randint(row_key, (self.batch_size,), 0, len(self.pixels))
        orders = self.orders[jr.randint(turn_key, (self.batch_size,), 0, len(self.orders))]
        pixels = self.pixels[rows[:, None], orders]
        return -self.log_prob(flow, centred((pixels + jr.uniform(noise_key, pixels.shape)) / 256)).mean()

    def evaluate(self, flow, key):
        return -self.log_prob(flow, self.held_out).mean()

    def log_prob(self, flow: pf.Flow, x: Float[Array, "n 63"]) -> Float[Array, " n"]:
        """The flow is a density of whitened patches; this one is of patches."""
        z, log_det = self.back.batched("inverse_and_log_det", (x.T,))
        return flow.log_prob(z.T) + log_det


def whitening(x: Float[np.ndarray, "n 63"]) -> Chain:
    """From coordinates of mean 0, covariance 1 and light tails to patches."""
    factor = np.linalg.cholesky(np.cov(x.T))
    z = np.linalg.solve(factor, (x - x.mean(0)).T)
    scale = float(np.sinh(np.arcsinh(z) / TAILS).std())
    dim = x.shape[1]
    lighter = [Elementwise(Affine(scale=scale), dim), Elementwise(SinhArcsinh(tail=TAILS), dim)]
    matrix = Triangular(dim, matrix=jnp.asarray(factor, float))
    return Chain([*lighter, matrix, each(Shift, x.mean(0))])


def fit(
    pixels: UInt8[np.ndarray, "n 64"],
    held_out: UInt8[np.ndarray, "m 64"],
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
    """The log density of centred patches after so many seconds, of which at least half must be left to train in."""
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    orders = symmetries()
    some = pixels[rng.permutation(len(pixels))[:100_000]]
    sample = np.take_along_axis(some, orders[rng.integers(len(orders), size=len(some))], axis=1)
    back = whitening(np.asarray(centred((sample + rng.random(sample.shape)) / 256)))
    held_out = jnp.asarray(centred((held_out + rng.random(held_out.shape)) / 256), jnp.float32)
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
    objective = Likelihood(jnp.asarray(pixels), jnp.asarray(orders), held_out, back, batch_size)
    trainer = Trainer(objective, optimizer, static)
    # No step: compilation.
    state, losses, _ = trainer.advance(trainer.init(parameters, jr.key(1)), jnp.zeros(STEPS_A_CALL), jnp.array(0))
    jax.block_until_ready(state.best_loss)
    begin, end = time.perf_counter(), start + seconds
    if end - begin < seconds / 2:
        raise ValueError(f"to begin took {begin - start:.0f} of {seconds:.0f} seconds: give it more, or a GPU.")
    told = gone = 0.0
    while gone < 1:
        # It rises for a fiftieth of the time, and falls by a cosine.
        rate = learning_rate * min(1.0, gone / 0.02 + 0.01) * 0.5 * (1 + math.cos(math.pi * gone))
        rates = {"learning_rate": jnp.asarray(rate, jnp.float32)}
        state = eqx.tree_at(lambda s: s.optimizer_state.hyperparams, state, rates)
        state, losses, found = trainer.advance(state, losses, state.step + STEPS_A_CALL)
        found = float(found)
        gone = min(1.0, (time.perf_counter() - begin) / (end - begin))
        if gone - told >= 0.02 or gone == 1:
            told = gone
            print(
                f"{time.perf_counter() - start:.0f} s, {int(state.step)} steps: training {-jnp.nanmean(losses):.3f}, "
                f"held out {-found:.3f}, {int(jnp.isnan(losses).sum())} skipped",
                flush=True,
            )
    best, log_prob = trainer.model(state.best), eqx.filter_jit(objective.log_prob)
    return lambda x: np.asarray(log_prob(best, jnp.asarray(x, jnp.float32)), float)
