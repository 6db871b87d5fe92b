"""Natural image patches of 63 numbers each: the likelihood after some minutes of training, compared with FlowJAX.

    make bsds                                     # both, 30 minutes each; writes benchmarks/results/bsds.json
    make bsds ARGS="--methods fit_density --minutes 5"
    make bsds ARGS="--methods large --minutes 8"  # for a GPU

The protocol of Papamakarios et al. (2017) on 8 x 8 gray patches of BSDS300, read from a folder that is not part of the
project (`--data`): uniform noise is added to the gray levels, which are divided by 256; a patch's mean is subtracted
and its last pixel dropped. The result is the mean log-likelihood of 100,000 test patches in nats, with that of a full
Gaussian for comparison.

`fit_density` has its defaults, except for the number of epochs, which is chosen to fit into the minutes (a short fit
measures the time of a step). FlowJAX has the same flow (autoregressive rational-quadratic splines), the same batches
and minutes and, because it does not whiten, whitened patches; its learning rate is 1e-3.

"large" is a flow of the size of published ones. It is built from the library's parts (patches.py) and trained on
rotated and reflected patches. "large, turned" is the mixture of its eight densities of the rotated and reflected patch,
which is a density too because these transformations preserve volume.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax.random as jr
import numpy as np

import patches
import pushforward as pf
from machine import load, machine
from pushforward.density import baselines

RESULTS = Path(__file__).parent / "results" / "bsds.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
BATCH, VALIDATION = 512, 0.05
# The choices of `fit_density` for this number of rows and columns; FlowJAX uses the same.
LAYERS, HIDDEN, BINS, RATE = 5, (128, 128), 8, 1e-3
# The flow for a GPU.
LARGE = {
    "num_layers": 10,
    "hidden": (512, 512),
    "bins": 8,
    "bound": 4.0,
    "batch_size": 2048,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
}

LogProb = Callable[[np.ndarray], np.ndarray]


class Data(NamedTuple):
    """Gray levels of training and validation patches, and the prepared training patches."""

    pixels: np.ndarray
    validation: np.ndarray
    x: np.ndarray


def prepared(pixels: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(patches.centered((pixels + np.random.default_rng(seed).random(pixels.shape)) / 256))


def ours(data: Data, seconds: float) -> dict[str, LogProb]:
    x, times = data.x, []

    def fit(x, epochs, validation, callback):
        return pf.fit_density(
            x, key=jr.key(0), max_epochs=epochs, batch_size=BATCH, validation=validation, callback=callback
        )

    # Almost without evaluation.
    fit(x[: 100 * BATCH], 1, 1e-3, lambda progress: times.append((progress.step, time.perf_counter())))
    (first, start), (last, end) = times[0], times[-1]
    steps = seconds / ((end - start) / (last - first))
    epochs = max(1, round(steps * BATCH / (len(x) * (1 - VALIDATION))))
    density = fit(x, epochs, VALIDATION, lambda progress: print(progress.step, progress.loss, flush=True))
    return {"fit_density": density.log_prob}


def flowjax(data: Data, seconds: float) -> dict[str, LogProb]:
    from density_peers import flowjax_spline

    loc, factor = data.x.mean(0), np.linalg.cholesky(np.cov(data.x.T))

    def whitened(x):
        return np.linalg.solve(factor, (x - loc).T).T.astype(np.float32)

    log_prob = flowjax_spline(whitened(data.x), 0, seconds, LAYERS, HIDDEN, BINS, (RATE,))
    return {"FlowJAX": lambda x: log_prob(whitened(x)) - np.log(np.diag(factor)).sum()}


def large(data: Data, seconds: float) -> dict[str, LogProb]:
    log_prob = patches.fit(data.pixels, data.validation, seconds, **LARGE)
    orders = patches.symmetries()

    def turned(x):
        return np.logaddexp.reduce([log_prob(patches.transform(x, order)) for order in orders]) - np.log(len(orders))

    return {"large": log_prob, "large, turned": turned}


METHODS = {"fit_density": ours, "FlowJAX": flowjax, "large": large}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["fit_density", "FlowJAX"], metavar="NAME")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the patches")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of the results")
    options = parser.parse_args()
    with np.load(options.data / "tabular" / "bsds300_patches8.npz") as archive:
        data = Data(archive["train"], archive["valid"], prepared(archive["train"], 0))
        test = prepared(archive["test"], 1)
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    results["Gaussian"] = {"nats": float(np.mean(baselines.gaussian(data.x, test)))}
    for method in options.methods:
        before, start = load(), time.perf_counter()
        found = METHODS[method](data, 60 * options.minutes)
        facts = {"seconds": time.perf_counter() - start}
        facts["machine"] = machine() | {"load before and after": [before, load()]}
        for name, log_prob in found.items():
            values = np.concatenate([np.asarray(log_prob(part), float) for part in np.array_split(test, 100)])
            results[name] = {"nats": float(values.mean()), "se": float(values.std() / len(values) ** 0.5)} | facts
            print(name, results[name], flush=True)
            options.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
