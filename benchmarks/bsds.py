"""Natural image patches, 63 numbers each: what so many minutes of training on a processor give, beside FlowJAX.

    make bsds                                     # both, 30 minutes each; writes benchmarks/results/bsds.json
    make bsds ARGS="--methods fit_density --minutes 5"

The protocol of Papamakarios et al. (2017) on 8 x 8 grey patches of BSDS300, read from a folder that is no part of the
project (`--data`): uniform noise is added to the grey levels, which are divided by 256; a patch's mean is subtracted
and its last pixel dropped. The figure is the mean log-likelihood of 100,000 test patches in nats, beside a full
Gaussian's.

`fit_density` is called as it is, but for the number of epochs, which is what fits into the minutes (a short fit tells
how long a step takes). FlowJAX is given the same flow (autoregressive rational-quadratic splines), the same batches and
minutes and, as it does not whiten, whitened patches; its learning rate is 1e-3.
"""

import argparse
import json
import time
from pathlib import Path

import equinox as eqx
import jax.random as jr
import numpy as np

import pushforward as pf
from pushforward.density import baselines
from speed import load, machine

RESULTS = Path(__file__).parent / "results" / "bsds.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
BATCH, HELD_OUT = 512, 0.05
# What `fit_density` chooses for so many rows and columns, for FlowJAX to have the same.
LAYERS, HIDDEN, BINS, RATE = 5, (128, 128), 8, 1e-3


def read(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Patches for training and for the test."""
    rng = np.random.default_rng(0)

    def prepared(patches):
        x = (patches + rng.random(patches.shape)) / 256
        return (x - x.mean(1, keepdims=True))[:, :-1]

    with np.load(data / "tabular" / "bsds300_patches8.npz") as archive:
        return prepared(archive["train"]), prepared(archive["test"])


def ours(x: np.ndarray, seconds: float):
    times = []

    def fit(x, epochs, held_out, callback):
        return pf.fit_density(
            x, key=jr.key(0), max_epochs=epochs, batch_size=BATCH, validation=held_out, callback=callback
        )

    # With next to no evaluation.
    fit(x[: 100 * BATCH], 1, 1e-3, lambda step, loss: times.append((step, time.perf_counter())))
    (first, start), (last, end) = times[0], times[-1]
    steps = seconds / ((end - start) / (last - first))
    epochs = max(1, round(steps * BATCH / (len(x) * (1 - HELD_OUT))))
    flow = fit(x, epochs, HELD_OUT, lambda *found: print(*found, flush=True))
    return eqx.filter_jit(flow.log_prob)


def flowjax(x: np.ndarray, seconds: float):
    from density_peers import flowjax_spline

    loc, factor = x.mean(0), np.linalg.cholesky(np.cov(x.T))

    def whitened(x):
        return np.linalg.solve(factor, (x - loc).T).T.astype(np.float32)

    log_prob = flowjax_spline(whitened(x), 0, seconds, LAYERS, HIDDEN, BINS, (RATE,))
    return lambda x: log_prob(whitened(x)) - np.log(np.diag(factor)).sum()


METHODS = {"fit_density": ours, "FlowJAX": flowjax}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS], metavar="NAME")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the patches")
    options = parser.parse_args()
    x, test = read(options.data)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["Gaussian"] = {"nats": float(np.mean(baselines.gaussian(x, test)))}
    for method in options.methods:
        before, start = load(), time.perf_counter()
        log_prob = METHODS[method](x, 60 * options.minutes)
        seconds = time.perf_counter() - start
        values = np.concatenate([np.asarray(log_prob(part), float) for part in np.array_split(test, 100)])
        facts = {"seconds": seconds, "machine": machine() | {"load before and after": [before, load()]}}
        results[method] = {"nats": float(values.mean()), "se": float(values.std() / len(values) ** 0.5)} | facts
        print(method, results[method], flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
