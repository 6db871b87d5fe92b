"""Does depth make flows harder to train, on posteriors of models? For docs/posteriors.md.

    make posterior-depth                              # an hour on one core; continues where it was stopped
    make posterior-depth ARGS="--table"               # the tables of what has been measured
    make posterior-depth ARGS="--figure"              # draws docs/images/posterior-depth.png

The eight schools in both parametrizations: 10 dimensions, nearly Gaussian (non-centered) and a funnel (centered). Flows
of K layers of each family with a triangular affine map at the end, in the coordinates of the best Gaussian along Newton
paths, all trained by reverse KL with the same number of steps. Measured: KL(q || p) = log evidence - ELBO after all
steps, and after the time in which one layer of the family takes all its steps (computed from the fastest tenth of the
training); the skipped steps; and the relative noise of the gradient at the start and at the end, its standard deviation
over batches divided by the norm of its mean. The log evidence is that of `fit_posterior`.

Arms: "plain" (path gradient, layers that start as the identity); "total", the total gradient; "warmup", the density to
a power that grows from 0.1 to 1 over the first third of the steps; "random", layers that do not start as the identity.
"""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from command import command
from gradients import noise_and_signal

import pushforward as pf
from pushforward import examples
from pushforward.bijections import Chain, Triangular
from pushforward.bijections.arrays import trainable
from pushforward.flow import Flow
from pushforward.posterior.search.gaussians import find_candidates
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


class WarmedUp(pf.ReverseKL):
    """Reverse KL to the density to a power that grows to 1; evaluations use the density itself."""

    def loss(self, flow, batch, key, step):
        power = jnp.minimum(1.0, WARM["from"] + (1 - WARM["from"]) * step / (WARM["share"] * STEPS))
        tempered = eqx.tree_at(lambda o: o.target, self, Tempered(self.target, power))
        return super(WarmedUp, tempered).loss(flow, batch, key, step)


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
    """Standard deviation of the gradient of a batch, divided by the norm of its mean; None if that norm is near 0."""
    spread, size = map(float, _noise(flow, objective))
    return spread / size if size > 0 else None


@eqx.filter_jit
def _noise(flow: Flow, objective: pf.ReverseKL) -> tuple[jax.Array, jax.Array]:
    arrays, static = eqx.partition(flow, trainable(flow))

    def gradient(key):
        return jax.grad(lambda arrays: objective.loss(eqx.combine(arrays, static), None, key, 0))(arrays)

    return noise_and_signal(gradient, NOISE_BATCHES)


def run(target: Whitened, family: str, depth: int, arm: str, seed: int) -> dict:
    flow = build(family, depth, arm, seed, target.affine.dim)

    kind = WarmedUp if arm == "warmup" else pf.ReverseKL
    objective = kind(target, SAMPLES, path_gradient=arm != "total", num_evaluation_samples=20_000)
    plain = pf.ReverseKL(target, SAMPLES, path_gradient=arm != "total", num_evaluation_samples=20_000)
    before = noise(flow, plain)

    try:
        optimizer = optax.chain(
            optax.clip_by_global_norm(100.0), optax.adam(optax.cosine_decay_schedule(RATE, STEPS), b2=0.99)
        )
        flow, history = pf.train(
            flow, objective, key=jr.key(seed), steps=STEPS, optimizer=optimizer, num_evaluations=CHUNKS
        )
    except FloatingPointError as error:
        return {"failed": str(error)}
    return {
        "minus_elbo": history.series("loss")[1:].tolist(),
        "best": float(plain.evaluate(flow, jr.key(1))),
        "skipped": history.skipped,
        # The fastest chunk, because other programs may slow down some of them; the first one is compiled.
        "seconds": CHUNKS * min(np.diff(history.series("seconds"))[1:]),
        "noise": [before, noise(flow, plain)],
    }


def measure() -> None:
    jax.config.update("jax_enable_x64", True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["config"] = {"steps": STEPS, "samples": SAMPLES, "rate": RATE, "hidden": HIDDEN, "warmup": WARM}
    runs, evidences, targets = results.setdefault("runs", {}), results.setdefault("log_evidence", {}), {}
    for name, model in MODELS.items():
        target = pf.Target.from_numpyro(model, **examples.EIGHT_SCHOOLS)
        targets[name] = Whitened(target, find_candidates(target, target.start, jr.key(0)).modes[0].affine)
        if name not in evidences:
            evidences[name] = pf.fit_posterior(target, key=jr.key(0)).diagnostics.log_evidence
    for model, family, depth, arm, seed in plan():
        name = f"{model}/{family}/{depth}/{arm}/{seed}"
        if name not in runs:
            runs[name] = run(targets[model], family, depth, arm, seed)
            print(name, summary(name, results), flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            # A process may have a limited number of memory maps, and every compiled program uses some.
            jax.clear_caches()


def summary(name: str, results: dict) -> dict[str, float]:
    """The numbers of a run that the tables show."""
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
