"""`fit_posterior`: from a target to draws and a verdict, without anything to tune.

The recipe, each part of which guards against a known failure of flow variational inference:

1. Newton paths offer Gaussians, N(0, I) among them, and the best ELBO wins (`precondition`).
2. In its coordinates, where the posterior is of order one, a full-rank Gaussian is trained; where paths found separate
   modes, one for each, and they make a mixture (`modes`). If it is right, it is the answer.
3. Else a flow over it that begins as the identity is trained, with a triangular affine map at its end. If that is
   neither good nor near and its weights have a heavy tail, another over a base whose tails are learned. If the best is
   far off too, couplings of splines go on top of it.
4. All train by path gradients, whose noise vanishes as the fit becomes exact, with Adam at a rate that falls
   whenever the ELBO no longer rises. Training ends when that happens at the last rate, or when the evidence that
   importance weights give is no larger than the ELBO: there is nothing left to gain.
5. Fresh draws, none of which was used before, tell the ELBO, the evidence and whether to trust it all (`diagnostics`).
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray

from pushforward.bijections import Chain, Permutation, Triangular
from pushforward.flow import Flow, Learnable, trainable
from pushforward.flows.default import default_flow, spline_flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.assessment import CALL, NUM_DRAWS, check_flow, judge, weigh
from pushforward.posterior.diagnostics import GOOD_GAP, TRUSTED_ESS_FRACTION, Diagnostics, diagnose
from pushforward.posterior.modes import pool, reweigh
from pushforward.posterior.optimizer import adam, restarted
from pushforward.posterior.result import Posterior, TracePoint
from pushforward.posterior.search import Candidate, candidates, separate
from pushforward.posterior.target import Target, Whitened
from pushforward.training.compilation import compiled_fast, split
from pushforward.training.objectives import ReverseKL
from pushforward.training.progress import progress_bar
from pushforward.training.trainer import Trainer

NUM_SAMPLES = 256
CHUNK = 250  # steps between two looks at the ELBO
DEFAULT_BUDGET = 4_000_000
# A gain in the ELBO below this over a window is none (nats).
SMALLEST_GAIN = 0.002
# A fit this near to the posterior is not improved.
EXACT_GAP = 0.003
# Above this k-hat, weights have no finite variance.
HEAVY_KHAT = 0.5
# Tails that cost less (nats) are left to weights: a funnel has a few large ones too, and no t distribution mends them.
HEAVY_GAP = GOOD_GAP / 2
# Skipped steps are reported from this share on.
SKIPPED_SHARE = 0.01
EXACT_ESS_FRACTION = 0.99


class Stage(NamedTuple):
    """How a stage trains: rates in turn, how many chunks without a gain end one, and its share of the budget."""

    name: str
    rates: tuple[float, ...]
    window: int
    share: float


GAUSSIAN = Stage("gaussian", (2e-2, 5e-3, 1e-3), window=1, share=0.25)
FLOW = Stage("flow", (3e-3, 1e-3, 3e-4, 1e-4), window=2, share=1.0)
SPLINES = FLOW._replace(name="splines")
TAILS = GAUSSIAN._replace(name="tails", share=1.0)
# Learned tails begin heavy, for from a nearly normal base they do not get there.
FIRST_DF = 4.0


Callback = Callable[[TracePoint, Flow], bool | None]


class _Run:
    """What a fit keeps while it goes on: the budget, the trace and the clock."""

    def __init__(self, budget: int, show: Callable[[float, str], None], callback: Callback | None):
        self.budget, self.show, self.callback = budget, show, callback
        self.spent, self.began = 0, time.perf_counter()
        self.trace: list[TracePoint] = []
        self.interrupted = False
        self.out_of_budget = False
        self.steps, self.skipped = 0, 0

    def record(self, stage: str, evaluations: int, elbo: float) -> None:
        self.spent += evaluations
        self.trace.append(TracePoint(stage, self.spent, time.perf_counter() - self.began, elbo))
        self.show(self.spent, f"{stage}: ELBO {elbo:.3f}")

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C ends the training, not the fit: what has been reached is judged and returned."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True


def fit_posterior(
    target: Target,
    *,
    key: PRNGKeyArray,
    flow: Flow | None = None,
    budget: int | None = None,
    progress: bool = False,
    callback: Callback | None = None,
) -> Posterior:
    """Fit a flow to a posterior, and say whether to trust it.

    Everything is done in unconstrained coordinates and in JAX's default precision: with
    `jax.config.update("jax_enable_x64", True)` in float64, which posteriors with much data need.

    Args:
        target: what to fit, `Target(...)`, `Target.from_numpyro(...)`.
        key: for all randomness; the same key gives the same result.
        flow: a flow of shape (target.dim,) to use instead of the recipe's. It is trained in whitened coordinates.
        budget: the largest number of gradients of the log-density to spend on training, by default 4 million. Most
            posteriors take less.
        progress: whether to show a progress bar.
        callback: called after each look at the ELBO with the newest point of the trace and the best flow so far, in
            the target's unconstrained coordinates (`assess` judges it); training ends if it returns True.

    Returns:
        A `Posterior`. Its `diagnostics.verdict` says whether its draws can be used.

    Raises:
        TypeError: if the target is not a `Target`.
        ValueError: if the log-density is NaN or -inf wherever the fit could start, or the flow has another shape.
    """
    if not isinstance(target, Target):
        raise TypeError(
            f"fit_posterior takes a pushforward.Target, but got {type(target).__name__}; wrap a log-density as "
            "Target(log_density, example) or a NumPyro model as Target.from_numpyro(model, *args)."
        )
    if flow is not None:
        check_flow(target, flow)
    budget = DEFAULT_BUDGET if budget is None else budget
    if budget < 1:
        raise ValueError(f"the budget must be a positive number of gradient evaluations, got {budget}.")
    start_key, gaussian_key, look_key, flow_key, train_key, mend_key, final_key, missed_key, more_key = split(key, 9)
    with progress_bar("posterior", budget, show=progress) as show:
        run = _Run(budget, show, callback)
        found = candidates(target, target.start, start_key)
        if not found:
            raise _no_start(target)
        run.record("precondition", 0, found[0].elbo)
        whitened, part = Whitened(target, found[0].affine), Flow(standard_normal(target.dim), Triangular(target.dim))
        with run.interruptible():
            if flow is not None:
                part = _train(flow, whitened, FLOW, train_key, run)
            else:
                whitened, part = _gaussians(target, separate(found), gaussian_key, run)
                if is_exact(look(whitened, part, look_key)):
                    run.out_of_budget = False
                elif not run.interrupted:
                    larger = over(part.base, default_flow(target.dim, key=flow_key))
                    part = _train(larger, whitened, FLOW, train_key, run)
                    part = _mended(whitened, part, mend_key, run)
                    part = _sharpened(whitened, part, more_key, run)
        draws, log_weights = weigh(whitened, part, final_key, NUM_DRAWS)
        fitted = _onto(whitened.affine, part)
        diagnostics = judge(target, fitted, found, draws, log_weights, missed_key, _notes(run))
        show(budget, f"ELBO {diagnostics.elbo:.3f}, {diagnostics.verdict}")
    return Posterior.of(target, fitted, diagnostics, run.trace, draws, log_weights)


def _no_start(target: Target) -> ValueError:
    value = float(target(target.start))
    return ValueError(
        f"the log-density is NaN or infinite wherever the fit tried to start; at the example it is {value}. Check the "
        "log-density there, and give an example at which it is finite."
    )


@compiled_fast
def _compose(outer: Triangular, inner: Any) -> Triangular:
    """The triangular map outer after inner."""
    return Triangular(outer.dim, outer.forward(inner.loc), jnp.tril(outer.matrix @ inner.matrix))


def _onto(affine: Triangular, part: Flow) -> Flow:
    """The flow in unconstrained coordinates, from its part in whitened ones."""
    if isinstance(part.bijection, Triangular):
        return Flow(part.base, _compose(affine, part.bijection))
    return Flow(part.base, Chain([part.bijection, affine]))


def over(base: dist.Distribution | Learnable, flow: Flow) -> Flow:
    """A flow that begins as a reordering of coordinates, over another base, so that it begins as that base."""
    order = np.argsort(np.asarray(flow.bijection.forward(jnp.arange(float(flow.shape[0])))))
    return Flow(base, Chain([Permutation(order), flow.bijection]))


def _gaussians(target: Target, modes: list[Candidate], key: PRNGKeyArray, run: _Run) -> tuple[Whitened, Flow]:
    """Coordinates in which the posterior is of order one, and the trained Gaussian or mixture of Gaussians in them."""
    trained, log_evidences = [], []
    for mode, k in zip(modes, split(key, len(modes)), strict=True):
        train_key, look_key = split(k)
        whitened = Whitened(target, mode.affine)
        start = Flow(standard_normal(target.dim), Triangular(target.dim))
        part = _train(start, whitened, GAUSSIAN, train_key, run)
        trained.append(_compose(whitened.affine, part.bijection))
        log_evidences.append(mode.elbo)
        if len(modes) > 1:
            with run.interruptible():
                log_evidences[-1] = look(whitened, part, look_key).log_evidence
    none = Triangular(target.dim)
    if len(modes) == 1:
        return Whitened(target, trained[0]), Flow(standard_normal(target.dim), none)
    affine, mixture = pool(trained, log_evidences)
    return Whitened(target, affine), Flow(mixture, none)


# A posterior takes some thousand steps, or some hundred: as much time as to compile them well.
_advance = compiled_fast(Trainer.run, level=1)


def _train(flow: Flow, target: Whitened, stage: Stage, key: PRNGKeyArray, run: _Run) -> Flow:
    """Train by path gradients until the ELBO no longer rises at the last rate, or the budget is spent."""
    if run.interrupted:
        return flow
    run.out_of_budget = False
    train_key, look_key = split(key)
    parameters, static = eqx.partition(flow, trainable(flow))
    trainer = Trainer(ReverseKL(target, NUM_SAMPLES, num_evaluation_samples=NUM_SAMPLES), adam(), static)
    state = eqx.filter_jit(trainer.init)(parameters, train_key)
    best, best_elbo = flow, -math.inf
    with run.interruptible():
        best_elbo = look(target, flow, look_key).elbo
        for rate in stage.rates:
            history = [best_elbo]
            # Each rate begins where the others got best: one that was too large leaves no trace.
            state = restarted(state, rate, eqx.filter(best, trainable(best)))
            while not _flat(history, stage.window):
                if run.spent + CHUNK * NUM_SAMPLES > stage.share * run.budget:
                    run.out_of_budget = True
                    return best
                stop = int(state.step) + CHUNK
                losses = jnp.full(CHUNK, jnp.nan)
                state, losses, _ = _advance(trainer, state, losses, jnp.array(stop))
                run.steps, run.skipped = run.steps + CHUNK, run.skipped + int(np.isnan(losses).sum())
                mean = trainer.model(state.optimizer_state.mean)
                # The same draws of the base each time, none of which is trained on: what differs is the flow.
                seen = look(target, mean, look_key)
                if not seen.elbo <= best_elbo:
                    best, best_elbo = mean, seen.elbo
                history.append(seen.elbo)
                run.record(stage.name, CHUNK * NUM_SAMPLES, seen.elbo)
                if run.callback and run.callback(run.trace[-1], _onto(target.affine, best)):
                    run.interrupted = True
                    return best
                if is_exact(seen):
                    run.out_of_budget = False
                    return mean
    return best


def _mended(target: Whitened, flow: Flow, key: PRNGKeyArray, run: _Run) -> Flow:
    """The flow over a base that is nearer to what it lacks, if that is better.

    Modes of a base are weighted anew. Else, if the flow is not good, nor near, and the weights have a heavy tail,
    another is trained over learned tails: affine couplings cannot make a Gaussian's polynomial. A few large weights
    of a fit that is near are not worth as much: weighting mends them.
    """
    change_key, look_key = split(key)
    before = look(target, flow, look_key)
    new = reweigh(target, flow, change_key)
    one_mode = not isinstance(flow.base, dist.MixtureSameFamily)
    far = before.gap >= HEAVY_GAP or before.ess_fraction < TRUSTED_ESS_FRACTION
    heavy = before.verdict != "good" and far and before.khat > HEAVY_KHAT
    if one_mode and heavy and not run.out_of_budget:
        new = _heavy_tailed(target, change_key, run)
    return new if new is not flow and look(target, new, look_key).elbo > before.elbo else flow


def _heavy_tailed(target: Whitened, key: PRNGKeyArray, run: _Run) -> Flow:
    """An affine map of learned tails, with couplings after it if it is not the posterior already."""
    base_key, look_key, flow_key, train_key = split(key, 4)
    dim = target.affine.dim
    start = Flow(student_t(dim), Triangular(dim))
    part = _train(start, target, TAILS, base_key, run)
    if run.interrupted or run.out_of_budget or is_exact(look(target, part, look_key)):
        return part
    return _train(_then(part, default_flow(dim, key=flow_key)), target, FLOW, train_key, run)


def _sharpened(target: Whitened, flow: Flow, key: PRNGKeyArray, run: _Run) -> Flow:
    """The flow, with couplings of splines on top of it if its divergence is too large: it only gets better.

    A few large weights do not ask for them. They come from the tails, which splines leave as they are.
    """
    look_key, flow_key, train_key = split(key, 3)
    if run.interrupted or run.out_of_budget or look(target, flow, look_key).gap < GOOD_GAP:
        return flow
    return _train(_then(flow, spline_flow(target.affine.dim, key=flow_key)), target, SPLINES, train_key, run)


def _then(flow: Flow, more: Flow) -> Flow:
    """The flow, and after it another that begins as a reordering of coordinates, so that it begins as the first."""
    return Flow(flow.base, Chain([flow.bijection, over(flow.base, more).bijection]))


def student_t(dim: int) -> Learnable:
    """Independent t distributions whose degrees of freedom, locations and scales are learned."""
    ones = jnp.ones(dim)
    return Learnable(dist.StudentT(FIRST_DF * ones, 0 * ones, ones).to_event(1))


def look(target: Whitened, flow: Flow, key: PRNGKeyArray) -> Diagnostics:
    """The diagnostics of a few draws."""
    return diagnose(weigh(target, flow, key, CALL)[1])


def is_exact(seen: Diagnostics) -> bool:
    """Whether there is nothing left to gain."""
    return seen.gap < EXACT_GAP and seen.ess_fraction > EXACT_ESS_FRACTION


def _flat(history: list[float], window: int) -> bool:
    """Whether the ELBO has not risen over the last chunks, as many as the window has."""
    if len(history) <= window:
        return False
    return not max(history[-window:]) - max(history[:-window]) > SMALLEST_GAIN * window


def _notes(run: _Run) -> tuple[str, ...]:
    notes = []
    if run.interrupted:
        notes.append("The fit was interrupted before the ELBO had settled.")
    if run.out_of_budget:
        notes.append(f"The budget of {run.budget} gradients was spent before the ELBO had settled; a larger may help.")
    if run.skipped > SKIPPED_SHARE * run.steps:
        notes.append(
            f"{run.skipped / run.steps:.0%} of the training steps were skipped, because the density or its gradient "
            "was not finite at one of their draws."
        )
    return tuple(notes)
