"""Training on samples beside FlowJAX, Zuko and nflows: rows per second of the same flow on the same data.

    make throughput                        # all; writes benchmarks/results/throughput.json
    make throughput ARGS="--quick"         # small, to see that it runs; writes nothing

All four libraries have these two flows: five masked autoregressive layers with networks of 64, 64 units, affine (MAF)
and with rational-quadratic splines of 8 bins on [-5, 5]. Each is trained with Adam at 1e-3 on batches of 256 rows, as
users of the library would do it: `fit_density` and `pf.train` here, `fit_to_data` in FlowJAX. Zuko and nflows leave
training to the caller; for them it is the loop of their documentation on data in memory. `fit_density` and
`fit_to_data` hold out a tenth of the rows and evaluate on them once per epoch; the loops do not. After one call each,
which compiles, the libraries take turns in one process. The figure is the median ratio of the turns, `pf.train` over
theirs: above 1, we are faster.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import flowjax.bijections
import flowjax.distributions
import flowjax.flows
import flowjax.train
import jax
import jax.numpy as jnp
import jax.random as jr
import nflows.distributions
import nflows.flows
import nflows.transforms as nt
import numpy as np
import optax
import paramax
import torch
import zuko

import pushforward as pf
from machine import load, machine
from pushforward import bijections as bj

RESULTS = Path(__file__).parent / "results" / "throughput.json"
LAYERS, HIDDEN, BINS, BOUND, BATCH = 5, (64, 64), 8, 5.0, 256
VALIDATION = 0.1
OPTIMIZER = optax.adam(1e-3)
KINDS = ("affine", "spline")


def ours(kind: str, dim: int) -> pf.Flow:
    transformer = {"affine": bj.Affine(), "spline": bj.RationalQuadraticSpline(BINS, BOUND)}[kind]
    layers = [
        bj.Chain(
            [
                bj.Invert(bj.MaskedAutoregressive(transformer, dim, hidden=HIDDEN, activation=jax.nn.relu, key=key)),
                bj.Permutation(np.arange(dim)[::-1]),
            ]
        )
        for key in jr.split(jr.key(0), LAYERS)
    ]
    return pf.Flow(pf.flows.realnvp(dim, key=jr.key(0)).base, bj.Scan(layers))


def flowjax_flow(kind: str, dim: int):
    spline = flowjax.bijections.RationalQuadraticSpline(knots=BINS, interval=BOUND)
    return flowjax.flows.masked_autoregressive_flow(
        jr.key(0),
        base_dist=paramax.non_trainable(flowjax.distributions.Normal(jnp.zeros(dim))),
        transformer={"affine": flowjax.bijections.Affine(), "spline": spline}[kind],
        flow_layers=LAYERS,
        nn_width=HIDDEN[0],
        nn_depth=len(HIDDEN),
    )


def zuko_flow(kind: str, dim: int):
    options = {"features": dim, "transforms": LAYERS, "hidden_features": HIDDEN}
    return zuko.flows.NSF(bins=BINS, **options) if kind == "spline" else zuko.flows.MAF(**options)


def nflows_flow(kind: str, dim: int):
    options = {
        "features": dim,
        "hidden_features": HIDDEN[0],
        "num_blocks": len(HIDDEN) - 1,
        "use_residual_blocks": False,
    }
    spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
    parts = []
    for _ in range(LAYERS):
        if kind == "spline":
            parts.append(nt.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(**options, **spline))
        else:
            parts.append(nt.MaskedAffineAutoregressiveTransform(**options))
        parts.append(nt.ReversePermutation(dim))
    return nflows.flows.Flow(nt.CompositeTransform(parts), nflows.distributions.StandardNormal([dim]))


def torch_loop(flow, loss: Callable, data: np.ndarray, epochs: int) -> int:
    """The loop of the libraries' documentation, without a data loader, which would be slower."""
    rows, optimizer, seen = torch.from_numpy(data), torch.optim.Adam(flow.parameters(), lr=1e-3), 0
    for _ in range(epochs):
        for index in torch.randperm(len(rows)).split(BATCH):
            optimizer.zero_grad()
            loss(flow, rows[index]).backward()
            optimizer.step()
            seen += len(index)
    return seen


def runs(kind: str, data: np.ndarray, epochs: int) -> dict[str, Callable[[], int]]:
    """The training of each library; it returns the number of rows it used, with repetition."""
    dim, kept = data.shape[1], int(len(data) * (1 - VALIDATION))
    steps = epochs * (kept // BATCH)
    mine, fj = ours(kind, dim), flowjax_flow(kind, dim)
    objective = pf.ForwardKL(data[:kept], batch_size=BATCH)

    def with_train():
        pf.train(mine, objective, key=jr.key(1), steps=steps, optimizer=OPTIMIZER, num_evaluations=epochs)
        return steps * BATCH

    def with_fit_density():
        pf.fit_density(
            data, key=jr.key(1), flow=mine, max_epochs=epochs, batch_size=BATCH, learning_rate=1e-3, patience=10**6,
            validation=VALIDATION,
        )  # fmt: skip
        return steps * BATCH

    def with_flowjax():
        flowjax.train.fit_to_data(
            jr.key(1), fj, data, optimizer=OPTIMIZER, max_epochs=epochs, max_patience=10**6, batch_size=BATCH,
            val_prop=VALIDATION, show_progress=False,
        )  # fmt: skip
        return steps * BATCH

    def with_zuko():
        return torch_loop(zuko_flow(kind, dim), lambda flow, x: -flow().log_prob(x).mean(), data[:kept], epochs)

    def with_nflows():
        return torch_loop(nflows_flow(kind, dim), lambda flow, x: -flow.log_prob(x).mean(), data[:kept], epochs)

    return {
        "pf.train": with_train,
        "pf.fit_density": with_fit_density,
        "flowjax": with_flowjax,
        "zuko": with_zuko,
        "nflows": with_nflows,
    }


def measure(kind: str, dim: int, size: int, epochs: int, repetitions: int) -> dict:
    factor = np.random.default_rng(0).normal(size=(dim, dim))
    data = np.sinh(np.random.default_rng(1).normal(size=(size, dim)) @ factor / dim**0.5).astype(np.float32)
    data = (data - data.mean(0)) / data.std(0)
    found = {name: [] for name in runs(kind, data, 1)}
    # Python loops need few epochs to be timed; ours need more, to make the fixed cost of a call negligible.
    trainings = {name: runs(kind, data, epochs)[name] for name in found}
    for turn in range(repetitions + 1):
        for name, run in trainings.items():
            start = time.perf_counter()
            seen = run()
            if turn:  # the first compiles
                found[name].append(seen / (time.perf_counter() - start))
    rates = {name: float(np.median(values)) for name, values in found.items()}
    best = np.array(found["pf.train"])
    ratios = {name: float(np.median(best / np.array(values))) for name, values in found.items()}
    return {"rows a second": rates, "ratio": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", nargs="+", type=int, default=[6, 32])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    size, epochs, repetitions = (2_000, 1, 1) if options.quick else (20_000, 5, 3)
    results, before = {}, load()
    for dim in options.dims:
        for kind in KINDS:
            found = results[f"{kind}, D = {dim}"] = measure(kind, dim, size, epochs, repetitions)
            print(f"{kind}, D = {dim}")
            for name, rate in found["rows a second"].items():
                print(
                    f"  {name:16} {rate:12,.0f} rows a second, ours {found['ratio'][name]:.2f} times as many",
                    flush=True,
                )
    if not options.quick:
        facts = machine() | {"load before and after": [before, load()], "torch threads": torch.get_num_threads()}
        RESULTS.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
