"""Does depth make flows harder to train? For docs/vae.md.

    make vae-depth                                    # an hour on one core; continues where it was stopped
    make vae-depth ARGS="--table"                     # the tables of what has been measured
    make vae-depth ARGS="--figure"                    # draws docs/images/vae-depth.png

VAEs on scikit-learn's digits, black where the gray level is below one half, with posteriors of K layers of each family
and a standard normal prior. All have the same number of steps, without early stopping. Measured: the ELBO of the
validation images after all steps, and after the time in which the standard VAE (K = 0) takes all its steps (computed
from the fastest epoch); the skipped steps, and the falls of the ELBO to more than 1 nat below its best; and the
relative noise of the gradient of one batch of 100 images, its standard deviation over draws of the posterior divided by
the norm of its mean, for the total gradient and the path gradient.

Arms: "plain"; "warmup", 30 epochs of growing weight of the KL term; "path", the path gradient; "random", layers that do
not start as the identity.
"""

import functools
import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from command import command
from gradients import noise_and_signal

import pushforward as pf
from pushforward import vae as pv
from pushforward.bijections import MLP
from pushforward.bijections.arrays import trainable
from pushforward.vae.data import digits

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
RESULTS = Path(__file__).parent / "results" / "vae-depth.json"

CONFIG = {"dim": 4, "widths": [128], "features": 64, "prior": "normal"}
EPOCHS, BATCH, RATE, WARMUP, NOISE_DRAWS = 100, 50, 2e-3, 30, 64
FAMILIES = ("planar", "sylvester-orthogonal", "iaf", "nsf")
FAMILIES += ("radial", "sylvester-householder", "sylvester-triangular", "realnvp")
DEPTHS = (1, 2, 4, 8, 16, 32)
ARMS = ("plain", "warmup", "path", "random")


def plan() -> list[tuple[str, int, str, int]]:
    """Family, layers, arm and seed of each run, the more informative runs first."""
    first = [("gaussian", 0, arm, 0) for arm in ARMS[:3]]
    first += [(family, depth, "plain", 0) for depth in (1, 4, 16) for family in FAMILIES[:4]]
    arms = [(family, depth, arm, 0) for depth in (16, 4) for arm in ARMS[1:] for family in FAMILIES[:4]]
    rest = [(family, depth, "plain", 0) for depth in (2, 8, 32) for family in FAMILIES[:4]]
    rest += [(family, depth, "plain", 0) for depth in (4, 16, 1, 8, 32, 2) for family in FAMILIES[4:]]
    seeds = [("gaussian", 0, "plain", seed) for seed in (1, 2)]
    seeds += [(family, depth, "plain", seed) for depth in (4, 16, 1) for seed in (1, 2) for family in FAMILIES[:4]]
    return first + arms + rest + seeds


def off_identity(model: pv.VAE, seed: int) -> pv.VAE:
    """The model with random last layers in all networks of the posterior, except that of the Gaussian."""
    rng = np.random.default_rng(seed)

    def redraw(node):
        if not isinstance(node, MLP):
            return node
        last = node.weights[-1]
        drawn = jnp.asarray(rng.normal(size=last.shape) / np.sqrt(last.shape[-1]), last.dtype)
        return eqx.tree_at(lambda m: m.weights, node, (*node.weights[:-1], drawn))

    gaussian, *layers = model.posterior.bijection.bijections
    layers = jax.tree.map(redraw, layers, is_leaf=lambda node: isinstance(node, MLP))
    return eqx.tree_at(lambda m: m.posterior.bijection.bijections, model, (gaussian, *layers))


def noise(model: pv.VAE, x: np.ndarray) -> dict[str, jax.Array]:
    """Standard deviation and norm of the mean of the gradient with respect to the posterior and the encoder."""
    part = (model.encoder, model.posterior)
    arrays, rest = eqx.partition(part, trainable(part))

    def relative(path_gradient):
        objective = pv.NegativeBound(x, path_gradient=path_gradient)

        def loss(arrays, key):
            parts = eqx.combine(arrays, rest)
            whole = eqx.tree_at(lambda m: (m.encoder, m.posterior), model, parts)
            return objective.loss(whole, x, key, 0)[0]

        return jax.jit(lambda: noise_and_signal(lambda key: jax.grad(loss)(arrays, key), NOISE_DRAWS))()

    return {"total": jnp.stack(relative(False)), "path": jnp.stack(relative(True))}


def run(family: str, depth: int, arm: str, seed: int, images: dict) -> dict:
    model = pv.build((8, 8), key=jr.key(seed), posterior=family, num_layers=depth, **CONFIG)
    if arm == "random":
        model = off_identity(model, seed)
    start = time.perf_counter()
    options = {"max_epochs": EPOCHS, "patience": EPOCHS, "batch_size": BATCH, "learning_rate": RATE}
    try:
        model, history = pf.fit_vae(
            images["train"],
            key=jr.key(seed),
            vae=model,
            validation=images["valid"],
            objective=functools.partial(pv.NegativeBound, path_gradient=arm == "path"),
            warmup=WARMUP if arm == "warmup" else 0,
            **options,
        )
    except FloatingPointError as error:
        return {"failed": str(error)}
    found = {
        "elbo": np.round(-history.series("loss")[1:], 4).tolist(),
        "train_loss": np.round(history.series("training_loss")[1:], 4).tolist(),
        "skipped": history.skipped,
        # The fastest epoch, because other programs may slow down some of them.
        "epoch_seconds": min(np.diff(history.series("seconds"))),
        "seconds": time.perf_counter() - start,
    }
    if arm == "plain":
        measured = noise(model, images["train"][:100])
        found["gradient"] = {name: np.asarray(value).tolist() for name, value in measured.items()}
    return found


def measure() -> None:
    images = {name: (x > 0.5).astype(np.float32) for name, x in digits()[0].items()}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["config"] = {**CONFIG, "epochs": EPOCHS, "batch": BATCH, "learning rate": RATE, "warmup": WARMUP}
    runs = results.setdefault("runs", {})
    for family, depth, arm, seed in plan():
        name = f"{family}/{depth}/{arm}/{seed}"
        if name not in runs:
            runs[name] = run(family, depth, arm, seed, images)
            print(name, summary(runs[name], runs["gaussian/0/plain/0"]), flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            # A process may have a limited number of memory maps, and every compiled program uses some.
            jax.clear_caches()


def summary(found: dict, plain: dict) -> dict[str, float]:
    """The numbers of a run that the tables show. ELBOs are means of the last five epochs, or of five at equal time."""
    if "failed" in found:
        return {"failed": 1}
    elbo = np.array(found["elbo"])
    affordable = int(round(EPOCHS * plain["epoch_seconds"] / found["epoch_seconds"]))
    until = min(max(affordable, 1), EPOCHS)
    best = np.maximum.accumulate(elbo)
    row = {
        "final": elbo[-5:].mean(),
        "equal time": elbo[max(0, until - 5) : until].mean(),
        "epochs in that time": until,
        "falls": int(np.sum((elbo[5:] < best[5:] - 1) & (elbo[4:-1] >= best[4:-1] - 1))),
        "skipped": found["skipped"],
        "epoch ms": 1e3 * found["epoch_seconds"],
    }
    if "gradient" in found:
        row |= {
            f"noise, {kind}": spread / size if size else np.inf for kind, (spread, size) in found["gradient"].items()
        }
    return {name: round(float(value), 3) for name, value in row.items()}


def table() -> None:
    runs = json.loads(RESULTS.read_text())["runs"]
    rows = {tuple(name.split("/")): summary(found, runs["gaussian/0/plain/0"]) for name, found in runs.items()}
    families = [family for family in ("gaussian", *FAMILIES) if any(name[0] == family for name in rows)]
    for column in ("final", "equal time", "noise, total", "noise, path", "epoch ms"):
        print(f"\n{column}, arm plain, mean over seeds\n")
        print("| family | K =", " | ".join(map(str, (0, *DEPTHS))), "|")
        print("|" + "---|" * (len(DEPTHS) + 2))
        for family in families:
            cells = []
            for depth in (0, *DEPTHS):
                values = [r[column] for n, r in rows.items() if n[:3] == (family, str(depth), "plain") and column in r]
                cells.append(f"{np.mean(values):.2f}" if values else "")
            print("|", family, "|", " | ".join(cells), "|")
    print("\narms: final ELBO, falls, skipped steps (seed 0)\n")
    print("| family | K |", " | ".join(ARMS), "|")
    print("|" + "---|" * (len(ARMS) + 2))
    for family, depth in sorted({name[:2] for name in rows if name[2] != "plain"}, key=lambda n: (n[0], int(n[1]))):
        cells = []
        for arm in ARMS:
            row = rows.get((family, depth, arm, "0"), {})
            cells.append("failed" if "failed" in row else "")
            if "final" in row:
                cells[-1] = f"{row['final']:.2f} ({row['falls']:.0f}, {row['skipped']:.0f})"
        print("|", family, "|", depth, "|", " | ".join(cells), "|")


def figure() -> None:
    runs = json.loads(RESULTS.read_text())["runs"]
    rows = {tuple(name.split("/")): summary(found, runs["gaussian/0/plain/0"]) for name, found in runs.items()}
    _, axes = plt.subplots(1, 3, figsize=(11, 3.4), constrained_layout=True)
    for axis, column, label in zip(
        axes, ("final", "equal time", "noise, total"),
        ("validation ELBO, equal steps", "validation ELBO, equal time", "gradient noise / signal"), strict=True,
    ):  # fmt: skip
        for family in FAMILIES:
            points = {}
            for name, row in rows.items():
                if (name[0] == family or name[1] == "0") and name[2] == "plain" and column in row:
                    points.setdefault(int(name[1]), []).append(row[column])
            if len(points) > 2:
                depths = sorted(points)
                axis.plot(depths, [np.mean(points[d]) for d in depths], "o-", ms=3, label=family)
        axis.set_xscale("symlog", base=2, linthresh=1)
        axis.set_xticks((0, *DEPTHS), map(str, (0, *DEPTHS)))
        axis.set(xlabel="layers K", title=label)
    axes[0].legend(fontsize=7)
    plt.savefig(IMAGES / "vae-depth.png", dpi=110)
    plt.close()


if __name__ == "__main__":
    command(__doc__, measure, table, figure)
