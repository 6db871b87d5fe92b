"""Does depth make flows harder to train, on posteriors of models? For docs/posteriors.md.

    make posterior-depth                              # an hour on one core; goes on where it was stopped
    make posterior-depth ARGS="--table"               # the tables of what is there
    make posterior-depth ARGS="--figure"              # draws docs/images/posterior-depth.png

The eight schools in both parametrisations: 10 dimensions, nearly Gaussian (non-centred) and a funnel (centred). Flows
of K layers of each family with a triangular affine map at the end, in the coordinates of the best Gaussian along Newton
paths, all trained by reverse KL for as many steps. Measured: KL(q || p) = log evidence - ELBO after all steps, and
after as much time as one layer of the family takes for all its steps, by the least seconds that a tenth of the training
took; steps that were skipped; and the noise of the gradient at the start and at the end, the standard deviation over
batches over the size of the mean. The log evidence is `fit_posterior`'s.

Arms: "plain" (path gradient, layers that begin as the identity); "total", the total gradient; "warmup", the density to
a power that grows from 0.1 to 1 over the first third of the steps; "random", layers that do not begin as the identity.
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
from command import command
from gradients import spread_and_size

import pushforward as pf
from pushforward import examples
from pushforward.bijections import Chain, Triangular
from pushforward.flow import Flow, trainable
from pushforward.posterior.search import find_candidates
from pushforward.posterior.target import Whitened
from pushforward.testing import randomize

RESULTS = Path(__file__).parent / "results" / "posterior-depth.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "posterior-depth.png"

MODELS = {"centred": examples.eight_schools_centered, "non-centred": examples.eight_schools_noncentered}
FAMILIES = ("planar", "radial", "sylvester", "realnvp", "iaf", "nsf")
DEPTHS = (1, 2, 4, 8, 16, 32)
ARMS = ("plain", "total", "warmup", "random")
STEPS, SAMPLES, CHUNKS, RATE, HIDDEN, NOISE_BATCHES = 3000, 256, 10, 3e-3, (32, 32), 64
WARM = {"share": 1 / 3, "from": 0.1}


class Tempered(eqx.Module):
    """The density to a power."""

    target: Whitened
    power: jax.Array

    def __call__(self, u):
        return self.power * self.target(u)


class Judged(pf.ReverseKL):
    """Trains to the density to a power, and is judged by the density: else the best would be of a small power."""

    def evaluate(self, flow, key):
        return super(Judged, eqx.tree_at(lambda o: o.target.power, self, jnp.array(1.0))).evaluate(flow, key)


def plan() -> list[tuple[str, str, int, str, int]]:
    """Model, family, layers, arm and seed of each run."""
    plain = [(model, family, depth, "plain", 0) for model in MODELS for depth in DEPTHS for family in FAMILIES]
    arms = [("centred", family, depth, arm, 0) for arm in ARMS[1:] for depth in (4, 16) for family in FAMILIES]
    seeds = [("centred", family, depth, "plain", s) for s in (1, 2) for depth in (1, 4, 16) for family in FAMILIES]
    return plain + arms + seeds


def build(family: str, depth: int, arm: str, seed: int, dim: int) -> Flow:
    sizes = {} if family in ("planar", "radial", "sylvester") else {"hidden": HIDDEN}
    flow = getattr(pf.flows, family)(dim, num_layers=depth, key=jr.key(seed), **sizes)
    if arm == "random":
        flow = randomize(flow, jr.key(100 + seed), 0.5)
    return Flow(flow.base, Chain([flow.bijection, Triangular(dim)]))


def noise(flow: Flow, objective: pf.ReverseKL) -> float | None:
    """Standard deviation of the gradient of a batch, over the size of its mean; None if that cannot be told from 0."""
    spread, size = map(float, _noise(flow, objective))
    return spread / size if size > 0 else None


@eqx.filter_jit
def _noise(flow: Flow, objective: pf.ReverseKL) -> tuple[jax.Array, jax.Array]:
    arrays, static = eqx.partition(flow, trainable(flow))

    def gradient(key):
        return jax.grad(lambda arrays: objective.loss(eqx.combine(arrays, static), key))(arrays)

    return spread_and_size(gradient, NOISE_BATCHES)


def run(target: Whitened, family: str, depth: int, arm: str, seed: int) -> dict:
    flow = build(family, depth, arm, seed, target.affine.dim)

    def objective(power: float) -> Judged:
        tempered = Tempered(target, jnp.array(power))
        return Judged(tempered, SAMPLES, path_gradient=arm != "total", num_evaluation_samples=20_000)

    def warmer(objective, steps):
        power = min(1.0, WARM["from"] + (1 - WARM["from"]) * steps / (WARM["share"] * STEPS))
        return eqx.tree_at(lambda o: o.target.power, objective, jnp.array(power))

    plain, kls, ends = objective(1.0), [], [time.perf_counter()]
    before = noise(flow, plain)

    def look(steps, loss):
        kls.append(loss)
        ends.append(time.perf_counter())

    try:
        optimizer = optax.chain(
            optax.clip_by_global_norm(100.0), optax.adam(optax.cosine_decay_schedule(RATE, STEPS), b2=0.99)
        )
        warm = {"refresh": warmer} if arm == "warmup" else {}
        first = objective(WARM["from"]) if arm == "warmup" else plain
        flow, losses = pf.train(
            flow, first, jr.key(seed), steps=STEPS, optimizer=optimizer, num_evaluations=CHUNKS, callback=look, **warm
        )
    except FloatingPointError as error:
        return {"failed": str(error)}
    return {
        "minus_elbo": kls,
        "best": float(plain.evaluate(flow, jr.key(1))),
        "skipped": int(np.isnan(losses).sum()),
        # The least: what else runs on the machine slows some of them down.
        "seconds": CHUNKS * min(np.diff(ends)[1:]),
        "noise": [before, noise(flow, plain)],
    }


def measure() -> None:
    jax.config.update("jax_enable_x64", True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["config"] = {"steps": STEPS, "samples": SAMPLES, "rate": RATE, "hidden": HIDDEN, "warmup": WARM}
    runs, evidences, targets = results.setdefault("runs", {}), results.setdefault("log_evidence", {}), {}
    for name, model in MODELS.items():
        target = pf.Target.from_numpyro(model, **examples.EIGHT_SCHOOLS)
        targets[name] = Whitened(target, find_candidates(target, target.start, jr.key(0))[0].affine)
        if name not in evidences:
            evidences[name] = pf.fit_posterior(target, key=jr.key(0)).diagnostics.log_evidence
    for model, family, depth, arm, seed in plan():
        name = f"{model}/{family}/{depth}/{arm}/{seed}"
        if name not in runs:
            runs[name] = run(targets[model], family, depth, arm, seed)
            print(name, summary(name, results), flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            # Compiled programs that are kept exhaust the memory maps that a process may have.
            jax.clear_caches()


def summary(name: str, results: dict) -> dict[str, float]:
    """What the tables show of a run."""
    found, (model, family, *_, seed) = results["runs"][name], name.split("/")
    if "failed" in found:
        return {"failed": 1}
    evidence = results["log_evidence"][model]
    row = {"KL": evidence + found["best"], "skipped": found["skipped"], "seconds": found["seconds"]}
    noises = zip(("first", "last"), found["noise"], strict=True)
    row |= {f"noise at {when}": noise for when, noise in noises if noise is not None}
    one = results["runs"].get(f"{model}/{family}/1/plain/{seed}")
    if one is not None:
        chunks = int(max(1, min(CHUNKS, round(CHUNKS * one["seconds"] / found["seconds"]))))
        row["KL, equal time"] = evidence + found["minus_elbo"][chunks - 1]
    return {key: round(float(value), 4) for key, value in row.items()}


def rows_of(results: dict) -> dict[tuple[str, ...], dict[str, float]]:
    return {tuple(name.split("/")): summary(name, results) for name in results["runs"]}


def table() -> None:
    rows = rows_of(json.loads(RESULTS.read_text()))
    for model in MODELS:
        for column in ("KL", "KL, equal time", "noise at first", "noise at last", "seconds", "skipped"):
            print(f"\n{model}: {column}, arm plain, median over seeds\n\n| family |", " | ".join(map(str, DEPTHS)), "|")
            print("|" + "---|" * (len(DEPTHS) + 1))
            for family in FAMILIES:
                cells = []
                for depth in DEPTHS:
                    of = (model, family, str(depth), "plain")
                    values = [row[column] for key, row in rows.items() if key[:4] == of and column in row]
                    cells.append(f"{np.median(values):.3g}" if values else "")
                print("|", family, "|", " | ".join(cells), "|")
    print("\ncentred: KL by arm, seed 0\n\n| family | K |", " | ".join(ARMS), "|")
    print("|" + "---|" * (len(ARMS) + 2))
    for family in FAMILIES:
        for depth in ("4", "16"):
            cells = [rows.get(("centred", family, depth, arm, "0"), {}) for arm in ARMS]
            shown = ["failed" if "failed" in row else f"{row['KL']:.3g}" if row else "" for row in cells]
            print("|", family, "|", depth, "|", " | ".join(shown), "|")


def figure() -> None:
    rows = rows_of(json.loads(RESULTS.read_text()))
    _, axes = plt.subplots(1, 4, figsize=(13, 3.4), constrained_layout=True)
    panels = [("centred", "KL"), ("non-centred", "KL"), ("centred", "KL, equal time"), ("centred", "noise at last")]
    for axis, (model, column) in zip(axes, panels, strict=True):
        for family in FAMILIES:
            points = {d: rows.get((model, family, str(d), "plain", "0"), {}).get(column) for d in DEPTHS}
            shown = {d: value for d, value in points.items() if value is not None and value > 0}
            axis.plot(list(shown), list(shown.values()), "o-", ms=3, label=family)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(DEPTHS, map(str, DEPTHS))
        axis.set(xlabel="layers K", title=f"{model}: {column}")
    axes[0].legend(fontsize=7)
    plt.savefig(PICTURE, dpi=110)
    plt.close()


if __name__ == "__main__":
    command(__doc__, measure, table, figure)
