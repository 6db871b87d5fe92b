"""`fit_posterior`: from a target to draws and a verdict, without anything to tune."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from pushforward.arguments import POSITIVE, checked
from pushforward.flow import Flow
from pushforward.flows.default import MAX_DENSE_DIM
from pushforward.memory import check_memory
from pushforward.posterior.composed import unwhitened
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.given_draws import given_draws
from pushforward.posterior.given_structure import given_structure
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.properness import check_proper
from pushforward.posterior.recipe import Recipe, StageKeys
from pushforward.posterior.result import Posterior
from pushforward.posterior.search.survey import num_affordable_draws, survey
from pushforward.posterior.spaces.large import LargeDataSpace
from pushforward.posterior.structure import Structure
from pushforward.posterior.target import Target, Whitened
from pushforward.posterior.verdict.agreement import compare
from pushforward.posterior.verdict.assessment import DRAWS_PER_CALL, NUM_DRAWS, assess_draws, check_fit, weighted_draws
from pushforward.posterior.verdict.diagnostics import unassessed
from pushforward.reports.provenance import provenance
from pushforward.training.callbacks import Callback
from pushforward.training.checkpoint import Checkpoint, fingerprint, shapes
from pushforward.training.compilation import split
from pushforward.training.data import evenly_spaced
from pushforward.training.devices import check_mesh, on_mesh, place
from pushforward.training.processes import spans_processes
from pushforward.training.run import Run
from pushforward.training.trainer import Trained

DEFAULT_BUDGET = 4_000_000
# The draws of the assessment have at most this many numbers, 64 MB in float64, but there are at least FEWEST_DRAWS.
MAX_NUMBERS, FEWEST_DRAWS = 8_000_000, 2 * DRAWS_PER_CALL
# What a fit holds at once: copies of the draws of one call, and matrices.
COPIES, MATRICES = 4, 12
# Of a time limit: what is kept for the assessment, as a fraction and at most (seconds).
RESERVED_SHARE, MAX_RESERVED = 0.25, 60.0
# Skipped steps are reported if their fraction is larger.
MAX_SKIPPED_FRACTION = 0.01
# The number of rows of large data at which the log-likelihood of a checkpoint is compared.
COMPARED_ROWS = 10_000


@checked(eager=True, budget=None, seconds=POSITIVE, target=None, flow=None, mesh=None)
def fit_posterior(
    target: Target,
    *,
    key: PRNGKeyArray,
    flow: Flow | None = None,
    budget: int | None = None,
    seconds: float | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
    mesh: Mesh | None = None,
    structure: Any = None,
    draws: Any = None,
) -> Posterior:
    """Fit a flow to a posterior, and say whether to trust it.

    All computation is in unconstrained coordinates and in JAX's default precision. Posteriors with much data need
    float64: `jax.config.update("jax_enable_x64", True)`.

    Ctrl-C ends the training, and the best flow so far is assessed and returned. Another Ctrl-C reduces the number of
    draws for the assessment, and the fourth one ends it: then the verdict is "unreliable".

    Args:
        target: what to fit, `Target(...)`, `Target.from_numpyro(...)` or `Target.from_pymc(...)`.
        key: for all randomness; the same key gives the same result.
        flow: a flow of shape (target.dim,) to use instead of the recipe's. It is trained in whitened coordinates.
        budget: the largest number of gradients of the log-density to spend on training, by default 4 million. Most
            posteriors need less. A step in the history has 64. The search for modes and their Gaussians is not counted.
        seconds: about how long the fit may take, by the clock, with compilation and assessment. Training ends early
            enough for the assessment, which is not cut short, and no stage is begun that cannot be finished. The
            result then depends on the speed of the machine. By default there is no limit.
        progress: whether to show a progress bar.
        callback: called after each evaluation of the ELBO with a `Progress`, whose `model` is the best flow so far in
            the target's unconstrained coordinates (`assess` gives its diagnostics); training stops if it returns True.
        checkpoint: a file that keeps the state of the fit. If it exists, the fit resumes from it, with a result that is
            bitwise identical to that of an uninterrupted fit, unless `seconds` ended the training.
        mesh: a `jax.sharding.Mesh` whose devices share the draws of each step, each with all parameters; the
            result equals that of one device up to rounding.
        structure: which coordinates interact, by default found from the Hessian: a square matrix from NumPy or SciPy,
            or a dict from the name of each array of a draw to the names of its parents, on which its prior depends;
            further names may stand for data. Arrays of the same shape interact entry by entry, as in a plate. The first
            Gaussian then has a sparse precision matrix in any dimension, if that saves time. Not with large data.
        draws: draws of the posterior that you have, of Stan's or other chains: ArviZ's `InferenceData` or `DataTree`,
            the path of a NetCDF file of it, or a dict of arrays by site, with the axes (chains, draws, *shape) or
            (draws, *shape). Their modes join those that the search finds, and the fit begins with their moments. It is
            then trained and assessed as always; `agreement` says whether the draws agree with it.

    Returns:
        A `Posterior`. Its `diagnostics.verdict` says whether its draws can be used.

    Raises:
        TypeError: if the target is not a `Target`, the flow is not a `Flow`, or the draws are of another type.
        ValueError: if the log-density has no gradient, is NaN or infinite at all starting points, or does not fall
            along some coordinates; if the flow has another shape, the budget or the seconds are not positive, the
            number of devices does not divide the draws or rows of a step, the structure does not match the target or
            the target has large data, the machine has too little memory, or the checkpoint is of another fit; if draws
            have other names or shapes, are fewer than 100, NaN, outside of the support or of density zero.
        OSError: if the checkpoint cannot be written.

    Examples:
        >>> import jax, pushforward as pf
        >>> import numpyro.distributions as dist
        >>> log_density = lambda draw: dist.Gamma(3.0, 2.0).log_prob(draw["rate"]) + jax.numpy.log(5.0)
        >>> target = pf.Target(log_density, {"rate": 1.0}, {"rate": dist.constraints.positive})
        >>> posterior = pf.fit_posterior(target, key=jax.random.key(0))
        >>> posterior.diagnostics.verdict
        'good'
        >>> posterior.sample(jax.random.key(1), 1000)["rate"].shape
        (1000,)
        >>> round(posterior.diagnostics.log_evidence, 2)  # log 5, because the density integrates to 5
        1.61
    """
    if not isinstance(target, Target):
        raise TypeError(
            f"fit_posterior takes a pushforward.Target, but got {type(target).__name__}; wrap a log-density as "
            "Target(log_density, example) or a NumPyro model as Target.from_numpyro(model, *args)."
        )
    if flow is not None:
        check_fit(target, flow)
    budget = _whole_budget(DEFAULT_BUDGET if budget is None else budget)
    _check_memory(target)
    if structure is not None and isinstance(target.space, LargeDataSpace):
        raise ValueError(
            "structure= is not used with large data (log_likelihood=, subsampled plates or minibatches): leave it out, "
            "or give the target all of the data in its log-density."
        )
    if structure is not None:
        structure = given_structure(target, structure)
    given = None if draws is None else given_draws(target, draws)
    rows = {"rows of a batch": target.space.batch_size} if isinstance(target.space, LargeDataSpace) else {}
    check_mesh(mesh, {"draws of a step": NUM_SAMPLES} | rows)
    if seconds is not None and spans_processes(mesh):
        raise ValueError("seconds= needs one clock, but the mesh has devices of several processes; use budget=.")
    start_key, *stage_keys, final_key, missed_key, splines_key = split(key, 9)
    file = Checkpoint(checkpoint, lambda: _facts(target, flow, budget, structure, given), key, mesh)
    steps = budget // NUM_SAMPLES
    with Run(
        "posterior",
        steps,
        file,
        progress=progress,
        callback=callback,
        mesh=mesh,
        seconds=None if seconds is None else seconds - min(RESERVED_SHARE * seconds, MAX_RESERVED),
        format_loss=_format_elbo,
    ) as run:
        vectors = None if given is None else given.reshape(-1, target.dim)
        found = survey(target, start_key, structure=structure, draws=vectors, stop=lambda: run.ended, mesh=mesh)
        if not found.modes:
            raise _no_start(target)
        if isinstance(found.density, Target):
            check_proper(found.density, found.candidates[0])
        keys = StageKeys(*stage_keys, splines=splines_key, structure=jr.fold_in(splines_key, 1))
        whitened, trained = Recipe(found.density, run, budget).train(found.modes, found.sparse, flow, keys)
        run.warn_if_interrupted()
        # Before the assessment, which takes time too.
        ended = run.ended
        notes = _notes(run, trained, budget, seconds)
        requests = run.interruption.count

        def stop() -> bool:
            # Several processes must do the same, but each has its own signals.
            return not spans_processes(mesh) and run.interruption.count > requests

        def no_more_draws() -> bool:
            return stop() or (seconds is not None and run.seconds > seconds)

        fitted = unwhitened(whitened.affine, trained.model)
        agreement = None
        try:
            num_draws = min(NUM_DRAWS, max(FEWEST_DRAWS, MAX_NUMBERS // target.dim))
            num_draws = num_affordable_draws(target, num_draws)
            exact, model = place((Whitened(target, whitened.affine), trained.model), mesh)
            with on_mesh(mesh):
                fresh, log_weights = weighted_draws(exact, model, final_key, num_draws, stop=no_more_draws)
            if len(fresh) < num_draws:
                why = "The fit was interrupted" if stop() else "The time was up"
                notes = (*notes, f"{why} during the assessment: {len(fresh):,} draws were used.")
            diagnostics = assess_draws(found, fitted, fresh, log_weights, missed_key, notes, stop=stop)
            if given is not None and not stop():
                agreement_key = jr.fold_in(missed_key, 2)
                agreement = compare(
                    found.density, target, fitted, diagnostics, given, fresh, log_weights, agreement_key
                )
                diagnostics = agreement.applied(diagnostics)
        except KeyboardInterrupt:
            fresh, log_weights = np.zeros((0, target.dim)), np.zeros(0)
            diagnostics = unassessed(notes)
        finished = not ended and not run.interrupted and trained.reason != "steps"
        diagnostics = dataclasses.replace(diagnostics, finished=finished)
        run.show(steps, f"ELBO {diagnostics.elbo:.3f}, {diagnostics.verdict}")
        # Inside the block, so that Ctrl-C does not lose a finished fit.
        facts = provenance(
            _call(flow, budget, seconds, structure, draws),
            key,
            model=target.space.description,
            budget=f"{budget:,} gradients of the log-density",
        )
        return Posterior.from_draws(target, fitted, diagnostics, run.history, fresh, log_weights, facts, agreement)


def _call(flow: Flow | None, budget: int, seconds: float | None, structure: Structure | None, draws: Any) -> str:
    options = ["flow=flow"] * (flow is not None) + [f"budget={budget}"] * (budget != DEFAULT_BUDGET)
    options += [f"seconds={seconds}"] * (seconds is not None)
    options += ["structure=structure"] * (structure is not None)
    options += ["draws=draws"] * (draws is not None)
    return f"pf.fit_posterior({', '.join(['target', 'key={key}', *options])})"


def _format_elbo(loss: float) -> str:
    return f"ELBO {-loss:.3f}"


def _whole_budget(budget: Any) -> int:
    try:
        whole = int(budget)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if isinstance(budget, bool) or whole < 1 or whole != budget:
        raise ValueError(f"the budget must be a positive whole number of gradient evaluations, got {budget!r}.")
    return whole


def _check_memory(target: Target) -> None:
    dim, size = target.dim, target.start.dtype.itemsize
    numbers = COPIES * DRAWS_PER_CALL * dim + (MATRICES * dim**2 if dim <= MAX_DENSE_DIM else 0)
    check_memory(size * numbers, f"the draws and matrices of {dim} dimensions", "fit fewer parameters")


def _facts(
    target: Target, flow: Flow | None, budget: int, structure: Structure | None, given: np.ndarray | None
) -> dict[str, Any]:
    """What identifies a fit: code cannot be compared, but the values of the density at some points can."""
    points, density = target.start + jnp.linspace(-1.0, 1.0, 3)[:, None], target
    data: Any = target
    if isinstance(target.space, LargeDataSpace):
        size = jax.ShapeDtypeStruct((target.space.num_rows,), jnp.result_type(int))
        data = jax.eval_shape(target.space.rows.at, size)
        # Each process compares its own rows, and a file would take long to read.
        rows = evenly_spaced(target.space.num_rows, COMPARED_ROWS)
        density = Estimate(target, target.space.rows.at(jnp.asarray(rows)), None, jr.key(0))
    facts = {
        "fit": "fit_posterior",
        "shapes": shapes(data),
        "target": fingerprint((target, jax.vmap(density)(points))),
        "flow": "default" if flow is None else fingerprint(flow),
        "budget": budget,
    }
    if structure is not None:
        pattern = structure.pattern
        facts["structure"] = fingerprint(None if pattern is None else (pattern.indptr, pattern.indices))
    return facts | ({} if given is None else {"draws": fingerprint(given)})


def _no_start(target: Target) -> ValueError:
    value = f"it is {float(target(target.start))}"
    if target.raises(target.start):
        value = "it raises an error, as the call of the function there shows"
    return ValueError(
        f"the log-density is NaN or infinite at all starting points; at the example {value}. Check the log-density "
        "there, and give an example at which it is finite."
    )


def _notes(run: Run, trained: Trained, budget: int, seconds: float | None) -> tuple[str, ...]:
    notes = []
    if run.limit.is_up and not (run.interrupted or run.stopped):
        what = "A further stage was not begun, because it" if run.limit.left_out else "Training"
        notes.append(
            f"{what} could not be finished within {seconds:g} seconds; use larger seconds=, or a checkpoint= to resume."
        )
    elif run.ended:
        notes.append("Training was interrupted before the ELBO reached a plateau.")
    elif trained.reason == "steps":
        notes.append(
            f"The ELBO had not reached a plateau after the budget of {budget} gradient evaluations; use a larger "
            "budget=."
        )
    history = run.history
    if history.skipped > MAX_SKIPPED_FRACTION * len(history.losses):
        notes.append(
            f"{history.skipped / len(history.losses):.0%} of the training steps were skipped, because the density or "
            "its gradient was not finite at one of their draws."
        )
    return tuple(notes)
