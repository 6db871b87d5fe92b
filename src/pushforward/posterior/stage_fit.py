"""How a stage of a posterior fit is trained, when its flow is good enough, and when it needs more layers."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import PRNGKeyArray

from pushforward.flow import Flow
from pushforward.flows import default
from pushforward.posterior.composed import unwhitened
from pushforward.posterior.enough import FEW_DIMS, NEAR_GOOD_GAP, gap_of_most, good_gap, is_another_round_too_much
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.objective import PosteriorKL
from pushforward.posterior.stages import Stage, adam, chunk
from pushforward.posterior.target import Target, Whitened
from pushforward.posterior.verdict.assessment import draws_per_call, quick_diagnostics, weighted_draws
from pushforward.posterior.verdict.diagnostics import GOOD_GAP, Diagnostics, diagnose
from pushforward.training.compilation import split
from pushforward.training.processes import of_first
from pushforward.training.run import Run
from pushforward.training.trainer import Trained

# How many times as many draws must confirm that a flow is good, or needs another base or more layers.
CONFIRMATION, CONFIRMATION_IN_MANY = 8, 2
# A few large weights among few draws can make the divergence appear this number of times as large as it is.
FEW_DRAWS_ERROR = 2
# Where steps take long, weights with this effective fraction are enough. In more than MAX_COUPLING_DIM dimensions the
# couplings' networks are as wide as the posterior, and training gains too little.
CORRECTED_ESS_FRACTION = 0.3
MAX_COUPLING_DIM = 256


class StageFit(NamedTuple):
    """What all stages of a fit need: the target, the run that they are part of, and its budget of gradients."""

    target: Target | Estimate
    run: Run
    budget: int

    def diagnostics(self, target: Whitened, flow: Flow, key: PRNGKeyArray, num: int | None = None) -> Diagnostics:
        """The diagnostics of a few draws, the same in all processes."""
        return of_first(quick_diagnostics(target, flow, key, num), self.run.mesh)

    def full_diagnostics(self, target: Whitened, flow: Flow, key: PRNGKeyArray) -> Diagnostics:
        """The diagnostics of more draws, with those of each coordinate."""
        draws, log_weights = weighted_draws(target, flow, key, self.num_confirming)
        return of_first(diagnose(log_weights, draws=draws), self.run.mesh)

    @property
    def num_confirming(self) -> int:
        """The number of draws that confirm what a few draws show: fewer in many dimensions, where each takes longer."""
        dim = self.target.dim
        return draws_per_call(dim) * max(CONFIRMATION_IN_MANY, CONFIRMATION * FEW_DIMS // max(FEW_DIMS, dim))

    def is_confirmed(
        self,
        has_problem: Callable[[Diagnostics], bool],
        before: Diagnostics,
        target: Whitened,
        flow: Flow,
        key: PRNGKeyArray,
    ) -> bool:
        """Whether a problem found with few draws is also found with more draws.

        A single large weight does not justify minutes of training.
        """
        return has_problem(before) and has_problem(self.diagnostics(target, flow, key, self.num_confirming))

    def is_enough(self, index: int, gain: float, target: Whitened, flow: Flow, key: PRNGKeyArray) -> bool:
        """Whether a flow, and each coordinate of its draws, is so near the posterior that another round is too much."""
        dim, limit = self.target.dim, good_gap(self.target.dim, index)
        found = self.diagnostics(target, flow, key)
        if found.gap < FEW_DRAWS_ERROR * limit:
            found = self.full_diagnostics(target, flow, key)
        if found.gap >= limit:
            return is_another_round_too_much(found, dim, index, gain)
        return found.verdict == "good"

    def can_go_on(self, trained: Trained[Flow]) -> bool:
        """Whether a flow can be trained further: neither the run nor its budget has ended."""
        return not self.run.ended and trained.reason != "steps"

    def can_have_layers(self, trained: Trained[Flow]) -> bool:
        """Whether further couplings could follow a flow, or be put before it."""
        return self.can_go_on(trained) and self.target.dim <= MAX_COUPLING_DIM

    def needs_layers(self, before: Diagnostics, target: Whitened, flow: Flow, key: PRNGKeyArray) -> bool:
        """Whether a flow is so far from the posterior that it needs further layers.

        From MODERATE_DIM dimensions on their training takes long, so there a divergence that resampling corrects is
        near enough, and one that is in a few weights alone is no reason. More draws decide, because a few may not show
        a heavy tail of the weights.
        """
        if before.gap < GOOD_GAP:
            return False
        log_weights = weighted_draws(target, flow, key, self.num_confirming)[1]
        found, most = of_first((diagnose(log_weights), gap_of_most(log_weights)), self.run.mesh)
        corrected = found.verdict != "unreliable" and found.ess_fraction >= CORRECTED_ESS_FRACTION
        is_of_no_use = corrected or most < NEAR_GOOD_GAP
        return found.gap >= GOOD_GAP and not (is_of_no_use and self.target.dim >= default.MODERATE_DIM)

    def stage(self, flow: Flow, target: Whitened, stage: Stage, key: PRNGKeyArray) -> Trained[Flow]:
        """Train by path gradients until another round is of no use, or the budget is spent."""
        train_key, check_key = split(key)

        def enough(flow, index, gain):
            return self.is_enough(index, gain, target, flow, check_key)

        return self.run.train(
            stage.name, flow, PosteriorKL(target), train_key,
            optimizer=adam(),
            steps=stage.num_steps(self.budget, self.run.steps),
            evaluate_every=chunk(self.target.dim),
            rounds=stage.rounds(self.target.dim, enough),
            to_result=lambda flow: unwhitened(target.affine, flow),
            quick_compilation=True,
        )  # fmt: skip
