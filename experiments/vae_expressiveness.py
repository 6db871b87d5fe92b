"""Do more expressive posteriors and priors make better VAEs, and better pictures? For docs/vae.md.

    make vae-expressiveness                           # an hour on one core; continues where it was stopped
    make vae-expressiveness ARGS="--table"            # the table of what has been measured
    make vae-expressiveness ARGS="--figure"           # docs/images/vae-samples.png, from the saved models

VAEs on scikit-learn's digits, black where the gray level is below one half: 1297 training images, 200 validation images
to choose the epoch, 300 test images. All have the same encoder and decoder and differ in posterior and prior. Measured
on the test images: the ELBO, and the negative log-likelihood by importance sampling. Measured on samples of each model,
against the 500 images that are not trained on, in the 32 features of a digit classifier that is trained here: the
Frechet distance (2,000 samples), precision and recall (500 samples). A perfect model would get the values that the
training images get; they are printed with the classifier's error on black and white test images.
"""

import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
import scipy.linalg
import scipy.spatial
from command import command
from schedules import cosine

import pushforward as pf
from pushforward import vae as pv
from pushforward.reports.vae import image_grid
from pushforward.vae.data import digits
from pushforward.vae.networks import Dense

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
RESULTS = Path(__file__).parent / "results" / "vae-expressiveness.json"
MODELS = Path(__file__).parent / "results" / "models"

CONFIG = {"dim": 4, "widths": [128], "features": 64, "num_layers": 4, "prior_layers": 4}
TRAINING = {"max_epochs": 300, "patience": 10_000, "batch_size": 100, "warmup": 20}
# Decays by a cosine to a hundredth; seeds differ less than with a constant rate.
RATE = 3e-3
NUM_IMPORTANCE, NUM_SAMPLES, NEIGHBORS, FEATURES = 500, 2_000, 3, 32
SEEDS = range(5)
# The pairs that answer the question come first.
MAIN = [("gaussian", "normal"), ("nsf", "normal"), ("gaussian", "nsf"), ("nsf", "nsf")]
OTHERS = [
    ("planar", "normal"), ("sylvester-orthogonal", "normal"), ("iaf", "normal"), ("gaussian", "mixture"),
    ("gaussian", "maf"), ("sylvester-householder", "normal"), ("sylvester-triangular", "normal"), ("radial", "normal"),
    ("realnvp", "normal"), ("gaussian", "realnvp"), ("iaf", "maf"), ("planar", "nsf"),
]  # fmt: skip


def binary() -> tuple[dict, dict]:
    images, labels = digits()
    return {name: (x > 0.5).astype(np.float32) for name, x in images.items()}, labels


def classifier(images: dict, labels: dict) -> Dense:
    """A network with layers of 64, 32 and 10 units; the 32 are the features."""
    network = Dense((8, 8), (10,), (64, FEATURES), key=jr.key(0))
    optimizer = optax.adamw(2e-3, weight_decay=1e-2)
    x, y = jnp.asarray(images["train"]), jnp.asarray(labels["train"])

    @eqx.filter_jit
    def train(network):
        arrays, rest = eqx.partition(network, eqx.is_inexact_array)

        def loss(arrays, rows):
            logits = jax.vmap(eqx.combine(arrays, rest))(x[rows])
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

        def step(carry, key):
            arrays, state = carry
            gradient = jax.grad(loss)(arrays, jr.randint(key, (100,), 0, len(x)))
            updates, state = optimizer.update(gradient, state, arrays)
            return (optax.apply_updates(arrays, updates), state), None

        (arrays, _), _ = jax.lax.scan(step, (arrays, optimizer.init(arrays)), jr.split(jr.key(1), 2_000))
        return eqx.combine(arrays, rest)

    return train(network)


def features(network: Dense, x: np.ndarray) -> np.ndarray:
    def one(x):
        x = x.ravel()
        for layer in network.layers[:-1]:
            x = jax.nn.silu(layer(x))
        return x

    return np.asarray(jax.vmap(one)(jnp.asarray(x)), np.float64)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The squared 2-Wasserstein distance of two Gaussians with the moments of a and b (Heusel et al., 2017)."""
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root))


def coverage(of: np.ndarray, by: np.ndarray) -> float:
    """The fraction of `of` that lies within the distance of a point of `by` to its third nearest neighbor."""
    distance = scipy.spatial.distance.cdist
    radius = np.sort(distance(by, by), axis=1)[:, NEIGHBORS]
    return float(np.mean((distance(of, by) <= radius).any(1)))


def quality(network: Dense, samples: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Frechet distance, and precision and recall (Kynkaanniemi et al., 2019) of as many samples as there are images."""
    a, b = features(network, samples), features(network, real)
    few = a[: len(b)]
    return {"frechet": frechet(a, b), "precision": coverage(few, b), "recall": coverage(b, few)}


@eqx.filter_jit
def draw(model: pv.VAE) -> jax.Array:
    return model.sample(jr.key(101), (NUM_SAMPLES,))


def run(posterior: str, prior: str, seed: int, images: dict, network: Dense, real: np.ndarray) -> dict:
    start = time.perf_counter()
    model = pv.build((8, 8), key=jr.key(seed), posterior=posterior, prior=prior, **CONFIG)
    model, history = pf.fit_vae(
        images["train"],
        key=jr.key(seed),
        vae=model,
        validation=images["valid"],
        learning_rate=cosine(RATE, TRAINING["max_epochs"], len(images["train"]), TRAINING["batch_size"]),
        **TRAINING,
    )
    seconds = time.perf_counter() - start
    found = pv.evaluate(model, images["test"], key=jr.key(100), num_samples=NUM_IMPORTANCE)
    samples = np.asarray(draw(model))
    MODELS.mkdir(parents=True, exist_ok=True)
    pf.save(MODELS / f"{posterior}-{prior}-{seed}", model)
    return {
        **found._asdict(),
        "gap": found.gap,
        **quality(network, samples, real),
        "epochs": len(history.evaluations) - 1,
        "skipped": history.skipped,
        "seconds": seconds,
        "epoch_seconds": float(np.median(np.diff(history.series("seconds")))),
    }


def measure() -> None:
    images, labels = binary()
    network = classifier(images, labels)
    error = float(np.mean(np.argmax(jax.vmap(network)(jnp.asarray(images["test"])), 1) != labels["test"]))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["config"] = {
        **CONFIG,
        **TRAINING,
        "learning rate": RATE,
        "importance samples": NUM_IMPORTANCE,
        "samples": NUM_SAMPLES,
    }
    real = np.concatenate([images["valid"], images["test"]])
    results["training images"] = {"classifier error": error, **quality(network, images["train"], real)}
    runs = results.setdefault("runs", {})
    plan = [(*pair, seed) for seed in SEEDS for pair in MAIN]
    plan[4:4] = [(*pair, 0) for pair in OTHERS[:5]]
    plan += [(*pair, seed) for pair in OTHERS for seed in SEEDS]
    for posterior, prior, seed in plan:
        name = f"{posterior}/{prior}/{seed}"
        if name not in runs:
            runs[name] = run(posterior, prior, seed, images, network, real)
            print(name, {k: round(v, 3) for k, v in runs[name].items() if v is not None}, flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def table() -> None:
    results = json.loads(RESULTS.read_text())
    groups = {}
    for name, found in results["runs"].items():
        groups.setdefault(tuple(name.split("/")[:2]), []).append(found)
    columns = ("elbo", "nll", "gap", "kl", "frechet", "precision", "recall")
    print("| posterior | prior | seeds |", " | ".join(("-ELBO", *columns[1:], "epoch, ms")), "|")
    print("|" + "---|" * (4 + len(columns)))
    for (posterior, prior), found in groups.items():
        cells = []
        for column in columns:
            values = np.array([run[column] for run in found]) * (-1 if column == "elbo" else 1)
            spread = f" ± {values.std(ddof=1):.2f}" if len(found) > 1 else ""
            cells.append(f"{values.mean():.2f}{spread}")
        cells.append(f"{1e3 * np.median([run['epoch_seconds'] for run in found]):.0f}")
        print("|", posterior, "|", prior, "|", len(found), "|", " | ".join(cells), "|")
    print(results["training images"])


def figure() -> None:
    """Test images, and samples of the main models."""
    images, _ = binary()
    _, axes = plt.subplots(1, len(MAIN) + 1, figsize=(12, 2.8), constrained_layout=True)
    axes[0].imshow(image_grid(images["test"][:64].reshape(8, 8, 8, 8)), cmap="gray")
    axes[0].set_title("test images", fontsize=9)
    for axis, (posterior, prior) in zip(axes[1:], MAIN, strict=True):
        model = pf.load(MODELS / f"{posterior}-{prior}-0")
        axis.imshow(image_grid(model.sample(jr.key(3), (8, 8))), cmap="gray")
        axis.set_title(f"{posterior} posterior, {prior} prior", fontsize=9)
    for axis in axes:
        axis.axis("off")
    plt.savefig(IMAGES / "vae-samples.png", dpi=110)
    plt.close()


if __name__ == "__main__":
    command(__doc__, measure, table, figure)
