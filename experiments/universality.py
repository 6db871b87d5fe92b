"""The universality theorem in pictures and numbers, for docs/universality.md.

    make universality                                  # a quarter of an hour; draws docs/images/universality-*.png
    make universality ARGS="--only accuracy"           # some parts

straighten: a banana, a mixture and the energy U4, with the lines that F maps to a square grid; and draws, mapped to the
    square.
accuracy: the accuracy of the maps: normalizing constants, KL(q || p) of pushforwards by quadrature with automatic
    Jacobians, two-sample tests in 2, 10 and 50 dimensions.
depth: triangular flows of 1 to 8 layers trained by reverse KL, and their distance to the exact map. There is only one
    increasing triangular map, so they can learn no other.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import optax
import scipy.spatial
import scipy.stats
from jaxtyping import Array

import pushforward as pf
from pushforward import bijections as bj
from pushforward.rosenblatt.transport import Rosenblatt

jax.config.update("jax_enable_x64", True)

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
RESULTS = Path(__file__).parent / "results" / "universality.json"
DEPTHS = (1, 2, 4, 8)
STEPS, BATCH, RATE = 4_000, 256, 3e-3


def banana(x):
    return -0.5 * (x[0] / 1.2) ** 2 - 0.5 * ((x[1] + 1.5 - 0.6 * x[0] ** 2) / 0.5) ** 2


def mixture(dim: int = 2, count: int = 5, seed: int = 1) -> dist.Distribution:
    rng = np.random.default_rng(seed)
    factors = np.tril(0.4 * rng.normal(size=(count, dim, dim)), -1)
    factors = factors + np.eye(dim) * rng.uniform(0.3, 0.8, (count, dim))[:, :, None]
    weights = dist.Categorical(jnp.asarray(rng.dirichlet(np.full(count, 4.0))))
    means = jnp.asarray(2.2 * rng.normal(size=(count, dim)))
    return dist.MixtureSameFamily(weights, dist.MultivariateNormal(means, scale_tril=jnp.asarray(factors)))


def u1(x):
    two = jnp.logaddexp(-0.5 * ((x[0] - 2) / 0.6) ** 2, -0.5 * ((x[0] + 2) / 0.6) ** 2)
    return two - 0.5 * ((jnp.linalg.norm(x) - 2) / 0.4) ** 2


def u4(x):
    wave, step = jnp.sin(jnp.pi * x[0] / 2), 3 * jax.nn.sigmoid((x[0] - 1) / 0.3)
    return jnp.logaddexp(-0.5 * ((x[1] - wave) / 0.4) ** 2, -0.5 * ((x[1] - wave + step) / 0.35) ** 2)


SQUARE = (np.array([-4.0, -4.0]), np.array([4.0, 4.0]))
WIDE = (np.array([-8.0, -8.0]), np.array([8.0, 12.0]))
# A log-density, the box on which it is defined, and the limits of its plot.
TARGETS: dict[str, tuple[Callable, tuple, tuple]] = {
    "banana": (banana, (np.array([-8.0, -6.0]), np.array([8.0, 45.0])), (-4, 4, -4, 7)),
    "mixture": (mixture().log_prob, WIDE, (-5, 5, -5, 5)),
    "U1": (u1, SQUARE, (-4, 4, -4, 4)),
    "U4": (u4, SQUARE, (-4, 4, -4, 4)),
}

normal = dist.Normal(jnp.zeros(2), 1.0).to_event(1)


@eqx.filter_jit
def forward(bijection: bj.AbstractBijection, x: Array) -> Array:
    return jax.vmap(bijection.forward)(x)


def straighten() -> None:
    """Draw the map F."""
    names = ("banana", "mixture", "U4")
    _, axes = plt.subplots(2, len(names), figsize=(10, 6.6), constrained_layout=True)
    for column, name in enumerate(names):
        log_density, box, (x0, x1, y0, y1) = TARGETS[name]
        straight = pf.rosenblatt(log_density, box=box)
        back = bj.Invert(straight)
        grid = np.stack(np.meshgrid(np.linspace(x0, x1, 200), np.linspace(y0, y1, 200)), -1)
        density = np.exp(jax.vmap(jax.vmap(log_density))(jnp.asarray(grid)) - straight.to_logits.log_normalizer)
        above, below = axes[:, column]
        above.contourf(grid[..., 0], grid[..., 1], density, levels=30, cmap="Blues")
        along = np.linspace(1e-3, 1 - 1e-3, 300)
        for level in np.arange(1, 10) / 10:
            for line in (np.stack([np.full(300, level), along], 1), np.stack([along, np.full(300, level)], 1)):
                curve = np.asarray(forward(back, jnp.asarray(line)))
                above.plot(*curve.T, color="C1", lw=0.6)
        above.set(title=name, xlim=(x0, x1), ylim=(y0, y1), xlabel="$x_1$", ylabel="$x_2$")
        # Draws of the density itself, without F: from its values on a grid, spread over the cells.
        rng = np.random.default_rng(0)
        cells = rng.choice(density.size, 1500, p=density.ravel() / density.sum())
        step = np.array([(x1 - x0) / 199, (y1 - y0) / 199])
        draws = grid.reshape(-1, 2)[cells] + step * rng.uniform(-0.5, 0.5, (1500, 2))
        below.scatter(*np.asarray(forward(straight, jnp.asarray(draws))).T, s=2, color="C0")
        below.set(xlim=(0, 1), ylim=(0, 1), xlabel="$u_1$", ylabel="$u_2$", aspect="equal")
        below.set_xticks(np.arange(0, 1.01, 0.1), minor=True)
        below.set_yticks(np.arange(0, 1.01, 0.1), minor=True)
        below.grid(which="both", color="C1", lw=0.4)
    plt.savefig(IMAGES / "universality-straighten.png", dpi=110)
    plt.close()


def divergence(transport: bj.AbstractBijection, log_density: Callable, log_normalizer: float, size: int = 120) -> float:
    """KL(q || p) of the pushforward of N(0, I) by the trapezoid rule in its coordinates, with automatic Jacobians."""
    line = jnp.linspace(-6.5, 6.5, size)
    z = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)

    def one(z):
        jacobian = jax.jacfwd(transport.forward)(z)
        log_base = normal.log_prob(z)
        log_q = log_base - jnp.linalg.slogdet(jacobian)[1]
        return jnp.exp(log_base) * (log_q - log_density(transport.forward(z)) + log_normalizer)

    return float(eqx.filter_jit(lambda: jax.lax.map(one, z, batch_size=500).sum())() * (line[1] - line[0]) ** 2)


def energy_statistic(x: np.ndarray, y: np.ndarray) -> float:
    distance = scipy.spatial.distance.cdist
    return 2 * distance(x, y).mean() - distance(x, x).mean() - distance(y, y).mean()


def accuracy(num_draws: int = 100_000) -> dict:
    found = {}
    for name, (log_density, box, _) in TARGETS.items():
        start = time.perf_counter()
        line = pf.rosenblatt(log_density, box=box).to_logits
        seconds = time.perf_counter() - start
        # The mixture has a closed form, whose accuracy is measured here.
        source = mixture() if name == "mixture" else Rosenblatt(line)
        kl = divergence(pf.transport(normal, source), log_density, 0.0 if name == "mixture" else line.log_normalizer)
        found[name] = {"log_z": line.log_normalizer, "error": line.error, "kl": kl, "seconds": seconds}
        print(name, found[name], flush=True)
    for dim in (2, 10, 50):
        model = mixture(dim)
        base = dist.Normal(jnp.zeros(dim), 1.0).to_event(1)
        start = time.perf_counter()
        x = np.asarray(forward(pf.transport(base, model), base.sample(jr.key(0), (num_draws,))))
        seconds = time.perf_counter() - start
        exact = np.asarray(model.sample(jr.key(1), (num_draws,)))
        p_values = [scipy.stats.ks_2samp(a, b).pvalue for a, b in zip(x.T, exact.T, strict=True)]
        # The energy statistic of 2,000 draws, compared with that of pairs of exact samples.
        parts = np.asarray(model.sample(jr.key(2), (40, 2000)))
        null = [energy_statistic(parts[2 * i], parts[2 * i + 1]) for i in range(20)]
        value = energy_statistic(x[:2000], exact[:2000])
        found[f"mixture, d = {dim}"] = {
            "smallest KS p-value times d": min(p_values) * dim,
            "energy statistic": value,
            "largest of 20 among exact draws": max(null),
            "seconds": seconds,
        }
        print(dim, found[f"mixture, d = {dim}"], flush=True)
    return found


def learn(log_density: Callable, depth: int, key: Array) -> bj.AbstractBijection:
    """A triangular flow of `depth` layers, each with few units, so that depth matters."""
    keys = jr.split(key, depth)
    layers = [bj.MaskedAutoregressive(bj.DeepSigmoidal(3), 2, hidden=(32, 32), key=k) for k in keys]
    flow = pf.Flow(normal, bj.Chain([bj.Scan(layers), bj.Triangular(2)]))
    for path, first, last in ((False, RATE, RATE / 3), (True, RATE / 3, RATE / 1000)):
        rate = optax.cosine_decay_schedule(first, STEPS // 2, alpha=last / first)
        optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate, b2=0.99))
        objective = pf.ReverseKL(log_density, BATCH, path_gradient=path)
        flow, _ = pf.train(flow, objective, key=key, steps=STEPS // 2, optimizer=optimizer, num_evaluations=4)
    return flow.bijection


def depth() -> dict:
    found = {}
    z = jr.normal(jr.key(5), (5_000, 2))
    for name in ("banana", "mixture", "U1"):
        log_density, box, _ = TARGETS[name]
        source = mixture() if name == "mixture" else pf.rosenblatt(log_density, box=box)
        log_z = 0.0 if name == "mixture" else source.to_logits.log_normalizer
        expected = forward(pf.transport(normal, source), z)
        for layers in DEPTHS:
            learned = learn(log_density, layers, jr.key(layers))
            error = jnp.sqrt(jnp.mean((forward(learned, z) - expected) ** 2) / jnp.var(expected))
            # A learned map may be steep, so the grid is finer.
            kl = divergence(learned, log_density, log_z, size=400)
            found[f"{name}, {layers} layers"] = {"relative error": float(error), "kl": kl}
            print(name, layers, found[f"{name}, {layers} layers"], flush=True)
    _, axes = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    for axis, what, label in zip(
        axes, ("relative error", "kl"), ("RMS distance / spread", "KL(q || p), nats"), strict=True
    ):
        for name in ("banana", "mixture", "U1"):
            axis.loglog(DEPTHS, [found[f"{name}, {n} layers"][what] for n in DEPTHS], "o-", label=name)
        axis.set(xlabel="layers", ylabel=label)
        axis.set_xticks(DEPTHS, [str(n) for n in DEPTHS])
        axis.minorticks_off()
    axes[0].set_title("learned map against the exact one")
    axes[1].legend()
    plt.savefig(IMAGES / "universality-depth.png", dpi=110)
    plt.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"straighten": straighten, "accuracy": accuracy, "depth": depth}
    parser.add_argument("--only", nargs="+", default=[*parts], choices=[*parts])
    options = parser.parse_args()
    for folder in (IMAGES, RESULTS.parent):
        folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.only:
        found = parts[name]()
        if found is not None:
            results[name] = found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
