"""Speed compared with FlowJAX: training steps, compilation, and sampling of a masked autoregressive flow.

    make bench                                # all parts; writes benchmarks/results/speed.json
    make bench ARGS="--only training maf"     # some parts; the file keeps the others
    make bench ARGS="--quick"                 # small, to see that it runs; writes nothing

After one call each, which compiles, the two libraries take turns in one process, so that other load on the machine
affects both. Read the ratio, theirs over ours: above 1, we are faster. It is the median of the ratios of the turns. The
ratio of processor times varies less on a busy machine, but it counts the work of all cores.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import flowjax.flows
import flowjax.train
import flowjax.train.train_utils
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import paramax
from flowjax.bijections import Affine
from flowjax.distributions import Normal
from flowjax.train.losses import ElboLoss

import pushforward as pf
from machine import load, machine
from pushforward.training.trainer import Trainer, partition

RESULTS = Path(__file__).parent / "results" / "speed.json"
HIDDEN = (50,)


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    repetitions: int = 5
    training_steps: int = 1000
    compile_repetitions: int = 3
    maf_training_steps: int = 1000
    points: int = 2000


QUICK = Effort(repetitions=3, training_steps=200, maf_training_steps=100, points=200)


def clock() -> np.ndarray:
    """Wall-clock time, and the time of all processors for this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def seconds(run: Callable[[], Any]) -> np.ndarray:
    start = clock()
    jax.block_until_ready(run())
    return clock() - start


def take_turns(ours: Callable[[], Any], theirs: Callable[[], Any], repetitions: int):
    """What each returns in its first call, which compiles; then the seconds of each in every turn."""
    runs = (ours, theirs)
    results = [jax.block_until_ready(run()) for run in runs]
    turns = [[seconds(run) for run in runs] for _ in range(repetitions)]
    return results, [np.array(times) for times in zip(*turns, strict=True)]


@dataclass
class Row:
    """One comparison: wall-clock and processor seconds of every turn, and further facts."""

    what: str
    ours: np.ndarray
    theirs: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        ratios = self.theirs / self.ours
        return {
            "what": self.what,
            "ours": float(np.median(self.ours[:, 0])),
            "theirs": float(np.median(self.theirs[:, 0])),
            "ratio": float(np.median(ratios[:, 0])),
            "ratio range": [float(ratios[:, 0].min()), float(ratios[:, 0].max())],
            "processor ratio": float(np.median(ratios[:, 1])),
            "facts": self.facts,
        }


# --- The same flows twice ---------------------------------------------------------------------------------------------


def standard_normal(dim: int):
    """FlowJAX's standard normal, not trained, like ours."""
    return paramax.non_trainable(Normal(jnp.zeros(dim)))


def our_realnvp(dim: int, num_layers: int = 8) -> pf.Flow:
    return pf.flows.realnvp(dim, key=jr.key(0), num_layers=num_layers, hidden=HIDDEN, activation=jax.nn.relu)


def their_realnvp(dim: int, num_layers: int = 8):
    return flowjax.flows.coupling_flow(
        jr.key(0),
        base_dist=standard_normal(dim),
        transformer=Affine(),
        flow_layers=num_layers,
        nn_width=HIDDEN[0],
        nn_depth=len(HIDDEN),
        invert=False,  # as its documentation advises for the reverse KL
    )


def our_maf(dim: int, num_layers: int, activation: Callable = jax.nn.relu) -> pf.Flow:
    return pf.flows.maf(dim, key=jr.key(0), num_layers=num_layers, hidden=HIDDEN, activation=activation)


def their_maf(dim: int, num_layers: int):
    return flowjax.flows.masked_autoregressive_flow(
        jr.key(0),
        base_dist=standard_normal(dim),
        transformer=Affine(),
        flow_layers=num_layers,
        nn_width=HIDDEN[0],
        nn_depth=len(HIDDEN),
        invert=True,  # its density is the fast side, as for a MAF
    )


def their_parameters(tree):
    """The trained part of a model of FlowJAX, and the rest."""
    return eqx.partition(tree, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable))


# --- Training by the reverse KL ---------------------------------------------------------------------------------------


class Target(eqx.Module):
    """Normals of unequal width, pulled together by a quartic term."""

    scale: jax.Array

    def __init__(self, dim: int):
        self.scale = jnp.linspace(0.5, 2.0, dim)

    def __call__(self, x):
        return -0.5 * jnp.sum((x / self.scale) ** 2) - 0.1 * jnp.sum(x[1:] * x[:-1]) ** 2 / x.size


def in_a_compiled_loop(tree, loss: Callable, optimizer: optax.GradientTransformation, steps: int) -> Callable:
    """FlowJAX's training step under `jax.lax.scan`: the ratio without the cost of its Python loop."""
    parameters, static = their_parameters(tree)

    @eqx.filter_jit
    def run(parameters, static, keys):
        def step(carry, key):
            parameters, state = carry
            value, gradient = eqx.filter_value_and_grad(loss)(parameters, static, key)
            updates, state = optimizer.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, updates), state), value

        return jax.lax.scan(step, (parameters, optimizer.init(parameters)), keys)[1]

    return lambda: run(parameters, static, jr.split(jr.key(1), steps))


def training_rows(dim: int, *, path_gradient: bool, effort: Effort) -> list[Row]:
    target, optimizer, steps, key = Target(dim), optax.adam(5e-4), effort.training_steps, jr.key(1)
    our_flow, objective = our_realnvp(dim), pf.ReverseKL(target, 128, path_gradient=path_gradient)
    their_flow, loss = their_realnvp(dim), ElboLoss(target, 128, stick_the_landing=path_gradient)

    def ours():
        return pf.train(our_flow, objective, key=key, steps=steps, optimizer=optimizer, num_evaluations=10)[1].losses

    def theirs():
        return flowjax.train.fit_to_key_based_loss(
            key, their_flow, loss_fn=loss, steps=steps, optimizer=optimizer, show_progress=False
        )[1]

    def row(what, theirs):
        losses, times = take_turns(ours, theirs, effort.repetitions)
        last = [float(np.mean(loss[-steps // 10 :])) for loss in losses]
        return Row(what, *(t / steps for t in times), facts={"loss of the last tenth": last})

    name = f"training step, {'path' if path_gradient else 'total'} gradient, D = {dim}"
    compiled = in_a_compiled_loop(their_flow, loss, optimizer, steps)
    return [row(name, theirs), row(f"{name}; its step in a compiled loop", compiled)]


def training(effort: Effort) -> list[Row]:
    """Training steps of a RealNVP of 8 layers, 128 draws per step."""
    rows = []
    for dim in (10, 64):
        for path_gradient in (False, True):
            rows += training_rows(dim, path_gradient=path_gradient, effort=effort)
    return rows


# --- Compilation ------------------------------------------------------------------------------------------------------


def lower_ours(num_layers: int, dim: int, *, path_gradient: bool) -> Callable:
    """A function that traces and lowers our training program, which contains the evaluation."""
    parameters, static = partition(our_realnvp(dim, num_layers))
    objective = pf.ReverseKL(Target(dim), 128, path_gradient=path_gradient)
    trainer = Trainer(objective, optax.adam(5e-4), static)
    state = trainer.init(parameters, jr.key(1))
    return lambda: Trainer.advance.lower(trainer, state, objective.batches, jnp.array(100))


def lower_theirs(num_layers: int, dim: int, *, path_gradient: bool) -> Callable:
    """A function that traces and lowers FlowJAX's training step."""
    parameters, static = their_parameters(their_realnvp(dim, num_layers))
    optimizer, loss = optax.adam(5e-4), ElboLoss(Target(dim), 128, stick_the_landing=path_gradient)
    state = optimizer.init(parameters)
    return lambda: flowjax.train.train_utils.step.lower(
        parameters, static, optimizer=optimizer, opt_state=state, loss_fn=loss, key=jr.key(1)
    )


def compile_seconds(prepare: Callable, num_layers: int, **options) -> np.ndarray:
    """Trace, lower and compile with empty caches."""
    lower = prepare(num_layers, **options)
    jax.clear_caches()
    eqx.clear_caches()
    start = clock()
    lower().compile()
    return clock() - start


def compilation(effort: Effort) -> list[Row]:
    """Compiling the training step of a RealNVP of 4 and of 32 layers."""
    rows = []
    for path_gradient in (False, True):
        options = {"dim": 10, "path_gradient": path_gradient}
        times = {(prepare, n): [] for n in (4, 32) for prepare in (lower_ours, lower_theirs)}
        for turn in range(effort.compile_repetitions + 1):
            for (prepare, n), found in times.items():
                elapsed = compile_seconds(prepare, n, **options)
                if turn:  # the first turn warms up the compiler itself
                    found.append(elapsed)
        times = {case: np.array(found) for case, found in times.items()}
        growth = [float(np.median(times[p, 32] / times[p, 4], axis=0)[0]) for p in (lower_ours, lower_theirs)]
        name = f"compile, {'path' if path_gradient else 'total'} gradient"
        rows += [
            Row(f"{name}, 4 layers", times[lower_ours, 4], times[lower_theirs, 4]),
            Row(f"{name}, 32 layers", times[lower_ours, 32], times[lower_theirs, 32], {"32 layers / 4": growth}),
        ]
    return rows


# --- Sampling of a masked autoregressive flow -------------------------------------------------------------------------


def series(key, size: int, dim: int) -> np.ndarray:
    """Time series of strongly dependent steps, with a volatility that follows the last value."""
    noise = np.asarray(jr.normal(key, (size, dim)))
    x = np.zeros((size, dim))
    x[:, 0] = noise[:, 0]
    for i in range(1, dim):
        x[:, i] = 0.95 * x[:, i - 1] + (0.2 + 0.3 / (1 + x[:, i - 1] ** 2)) * noise[:, i]
    return x.astype(np.float32)


def fit_ours(flow: pf.Flow, data: np.ndarray, steps: int) -> pf.Flow:
    objective = pf.ForwardKL(data, batch_size=256)
    return pf.train(flow, objective, key=jr.key(2), steps=steps, optimizer=optax.adam(3e-3))[0]


def fit_theirs(flow, data: np.ndarray, steps: int):
    share = 0.1
    epochs = -(-steps // int(len(data) * (1 - share) // 256))
    options = {"batch_size": 256, "max_epochs": epochs, "max_patience": epochs, "val_prop": share}
    optimizer = optax.adam(3e-3)
    return flowjax.train.fit_to_data(jr.key(2), flow, data, optimizer=optimizer, show_progress=False, **options)[0]


def randomize_ours(flow: pf.Flow, key, scale: float) -> pf.Flow:
    return pf.Flow(flow.base, pf.testing.randomize(flow.bijection, key, scale))


def randomize_theirs(flow, key, scale: float):
    parameters, static = their_parameters(flow)
    return eqx.combine(pf.testing.randomize(jax.tree.map(jnp.asarray, parameters), key, scale), static)


@eqx.filter_jit
def draw(flow, key, size: int):
    return flow.sample(key, (size,))


def round_trip_error(there: Callable, back: Callable, u) -> float:
    """The largest error of u -> x -> u, relative where |u| is large. NumPy's maximum, because XLA's may skip NaN."""
    found = np.asarray(jax.jit(jax.vmap(lambda u: back(there(u))))(u))
    return float(np.max(np.abs(found - u) / (1 + np.abs(u))))


class PassCounter:
    """An activation that counts how often the network runs, for any flow."""

    def __init__(self):
        self.calls = 0

    def count(self):
        self.calls += 1

    def __call__(self, x):
        jax.debug.callback(self.count)
        return jax.nn.relu(x)


def passes_per_layer(flow: pf.Flow, num_layers: int, size: int) -> float:
    """Network passes per layer for a draw of `size` points, without the one for the log-determinant."""
    counter = PassCounter()
    counting = our_maf(flow.shape[0], num_layers, activation=counter)
    counting = jax.tree.unflatten(jax.tree.structure(counting), jax.tree.leaves(flow))
    jax.block_until_ready(draw(counting, jr.key(3), size))
    jax.effects_barrier()
    return counter.calls / num_layers - 1


def sampling_row(what: str, ours: pf.Flow, theirs, num_layers: int, effort: Effort, facts=None) -> Row:
    size, dim, key = effort.points, ours.shape[0], jr.key(3)
    _, times = take_turns(lambda: draw(ours, key, size), lambda: draw(theirs, key, size), effort.repetitions)
    u = jr.normal(jr.key(4), (size, dim))
    b, c = ours.bijection, paramax.unwrap(theirs).bijection
    return Row(
        f"sampling, {what}",
        *times,
        facts={
            "passes a layer": [passes_per_layer(ours, num_layers, size), float(dim)],
            "round trip": [round_trip_error(b.forward, b.inverse, u), round_trip_error(c.transform, c.inverse, u)],
        }
        | (facts or {}),
    )


def trained_row(num_layers: int, dim: int, effort: Effort) -> Row:
    data, unseen = series(jr.key(5), 20_000, dim), series(jr.key(6), 2_000, dim)
    ours = fit_ours(our_maf(dim, num_layers), data, effort.maf_training_steps)
    theirs = fit_theirs(their_maf(dim, num_layers), data, effort.maf_training_steps)
    log_probs = [float(np.mean(eqx.filter_jit(lambda f: f.log_prob(unseen))(flow))) for flow in (ours, theirs)]
    name = f"trained, {num_layers} layer{'s'[: num_layers - 1]}"
    return sampling_row(name, ours, theirs, num_layers, effort, {"log_prob of unseen data": log_probs})


def maf(effort: Effort) -> list[Row]:
    """Sampling of a MAF, D = 64: trained on strongly dependent data; and 8 layers at their start and at random."""
    dim, num_layers = 64, 8
    ours, theirs = our_maf(dim, num_layers), their_maf(dim, num_layers)
    random = randomize_ours(ours, jr.key(7), 0.5), randomize_theirs(theirs, jr.key(7), 0.5)
    return [
        trained_row(num_layers, dim, effort),
        # One layer must model all the dependence: the worst case for sweeps.
        trained_row(1, dim, effort),
        sampling_row("at the start, 8 layers", ours, theirs, num_layers, effort),
        sampling_row("arrays moved by 0.5 x normal, 8 layers", *random, num_layers, effort),
    ]


# --- The report -------------------------------------------------------------------------------------------------------


def show(rows: list[Row]) -> None:
    for row in rows:
        s = row.summary()
        low, high = s["ratio range"]
        times = f"{1e3 * s['ours']:10.2f} ms {1e3 * s['theirs']:10.2f} ms"
        print(f"  {row.what:68} {times} {s['ratio']:6.2f} ({low:.2f} to {high:.2f}) {s['processor ratio']:6.2f}")
        for name, value in row.facts.items():
            values = value if isinstance(value, list) else [value]
            print(f"      {name}: {', '.join(f'{v:.4g}' for v in values)}")


def save(parts: dict[str, Any]) -> None:
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept | parts, indent=1) + "\n")
    print(f"\nwrote {RESULTS}")


def main() -> None:
    parts = {"training": training, "compile": compilation, "maf": maf}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="parts to measure")
    parser.add_argument("--quick", action="store_true", help="a small measurement, to see that it runs; writes nothing")
    arguments = parser.parse_args()
    # A program from a cache on disk takes no time to compile.
    jax.config.update("jax_enable_compilation_cache", False)

    results = {}
    for name in arguments.only:
        before = load()
        print(f"\n{parts[name].__doc__}", flush=True)
        print(f"  {'':68} {'ours':>13} {'FlowJAX':>13} {'ratio':>6} (range), of processor time")
        rows = parts[name](QUICK if arguments.quick else Effort())
        show(rows)
        # Our process is a load of about 1; any more is of other processes, and adds noise.
        facts = machine() | {"load before and after": [before, load()]}
        print("  load before and after: {:.1f}, {:.1f}".format(*facts["load before and after"]))
        results[name] = {"machine": facts, "rows": [row.summary() for row in rows]}
    if not arguments.quick:
        save(results)


if __name__ == "__main__":
    main()
