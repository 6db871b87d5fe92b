"""The stages of a posterior fit: Gaussians, a flow over them, and remedies for what the flow cannot do.

Each part guards against a known failure of flow variational inference:

1. Newton paths give Gaussians, and the one with the highest ELBO, or N(0, I), is kept (`search`).
2. In its coordinates, where the posterior is of order one, a full-rank Gaussian is trained. If there are several modes,
   one Gaussian is trained for each, and they form a mixture (`modes`). If it is exact, it is the result. Between 65 and
   3,072 dimensions natural-gradient steps come first, and training follows if they are near the posterior or no help.
   In more than 64 dimensions of which few pairs interact (`structure`), and with one mode, a Gaussian with a sparse
   precision matrix takes its place (`sparse_gaussian`), and the flow that follows is as sparse. Near it, a quadratic
   map is tried (`quadratic`), which is the result if it is good, or if weights correct it and no coordinate is clearly
   global.
3. If some coordinates have a large influence on the shape of the others (`influence`), a hierarchical flow is trained,
   which begins as the Gaussian; in it, coordinates depend on the few others that change their scale (`interactions`),
   and correlations on global coordinates (`rotation`). Far from the posterior, splines of each coordinate are added,
   then couplings, then couplings of splines.
4. Otherwise a flow over it, which begins as the identity, is trained. From 32 dimensions on, splines of each coordinate
   follow if it is far from the posterior. If the result is neither good nor near the posterior, and its weights have a
   heavy tail, another flow is trained over a base with learned tails. If the best flow is still far from the
   posterior, it is followed by couplings of splines, which are trained too.
5. Every stage uses path gradients, whose noise vanishes as the fit becomes exact, and Adam in rounds, in each of which
   the learning rate decays to zero. Another round, of three times the steps, follows only if the last one has raised
   the ELBO and the fit is not good enough (`enough`), and in many dimensions only if it may change the verdict.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.random as jr
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray

from pushforward.bijections import AbstractBijection, Chain, Frozen, Triangular
from pushforward.flow import Flow
from pushforward.flows import default
from pushforward.flows.stack import standard_normal
from pushforward.generators import separate_key
from pushforward.posterior.composed import (
    composed,
    composed_affine,
    marginals_in_axes_of,
    student_t,
    unwhitened,
    with_base,
    without_permutation,
)
from pushforward.posterior.enough import FEW_DIMS, HEAVY_KHAT, NEAR_GOOD_GAP, is_exact
from pushforward.posterior.globals_first import globals_first
from pushforward.posterior.quadratic import identity, is_promising, quadratic_fit
from pushforward.posterior.search.candidates import Candidate, GaussianMap
from pushforward.posterior.search.gaussians import refined, uses_natural_gradient
from pushforward.posterior.search.influence import CLEAR_RATIO, MAX_GLOBAL, MIN_RATIO, find_global
from pushforward.posterior.search.interactions import find_interactions
from pushforward.posterior.search.modes import mixture_base, reweight_modes
from pushforward.posterior.search.rotation import find_rotation
from pushforward.posterior.search.sparse_gaussian import MAX_DIM, SparseMap
from pushforward.posterior.stage_fit import StageFit
from pushforward.posterior.stages import (
    COUPLINGS,
    FLOW,
    GAUSSIAN,
    GIVEN,
    HIERARCHICAL,
    MARGINALS,
    POLISH,
    SPLINES,
    TAILS,
)
from pushforward.posterior.target import Target, Whitened
from pushforward.posterior.verdict.assessment import MANY_DIMS
from pushforward.posterior.verdict.diagnostics import TRUSTED_ESS_FRACTION, Diagnostics
from pushforward.training.compilation import jit_quick_compilation, split
from pushforward.training.processes import of_first
from pushforward.training.trainer import Trained

# If the Gaussian of natural-gradient steps is within this (nats), it is trained.
NEAR_GAP = 0.1

# Each is compiled as a whole; otherwise its construction compiles a hundred small programs.
affine_map = jit_quick_compilation(default.affine_map)
default_flow = jit_quick_compilation(default.default_flow)
hierarchical_flow = jit_quick_compilation(default.hierarchical_flow)
marginal_splines = jit_quick_compilation(default.marginal_splines)
spline_flow = jit_quick_compilation(default.spline_flow)


class StageKeys(NamedTuple):
    """A key for each random part of a fit."""

    gaussians: PRNGKeyArray
    check: PRNGKeyArray
    flow: PRNGKeyArray
    training: PRNGKeyArray
    base: PRNGKeyArray
    splines: PRNGKeyArray
    structure: PRNGKeyArray


class Recipe(StageFit):
    """The stages of a fit."""

    def train(
        self, modes: list[Candidate], sparse: SparseMap | None, flow: Flow | None, keys: StageKeys
    ) -> tuple[Whitened, Trained[Flow]]:
        """Coordinates in which the posterior is of order one, and the best flow in them."""
        if flow is not None:
            # The better one, since it is not trained.
            if sparse is None or (modes and modes[0].elbo > sparse.elbo):
                affine = modes[0].affine
            else:
                affine = Chain([sparse.inner, sparse.scaling])
            whitened = Whitened(self.target, affine)
            return whitened, self.stage(flow, whitened, GIVEN, keys.training)
        if sparse is not None and self.target.dim > MAX_DIM:
            return self.sparse(sparse, keys)
        if sparse is not None:
            affine, gaussian = sparse.triangular(), Flow(standard_normal(self.target.dim), affine_map(self.target.dim))
            gaussian = Trained(gaussian, math.nan, 0, "reached")
        else:
            affine, gaussian = self.gaussians(modes, keys.gaussians)
        whitened = Whitened(self.target, affine)
        if self.run.ended:
            return whitened, gaussian
        found = self.diagnostics(whitened, gaussian.model, keys.check)
        if is_exact(found):
            return whitened, dataclasses.replace(gaussian, reason="reached")
        near, is_good = self.quadratic(found, whitened, gaussian.model, jr.fold_in(keys.flow, 0))
        first_ratio = MIN_RATIO if near is None else CLEAR_RATIO
        structured = None if is_good else self.hierarchical(affine, gaussian.model, keys, sparse, first_ratio)
        if near is not None:
            if structured is None:
                return whitened, Trained(near, math.nan, 0, "reached")
            fits = [(whitened, Trained(near, math.nan, 0, structured[1].reason)), structured]
            return max(fits, key=lambda fit: self.diagnostics(fit[0], fit[1].model, keys.check).elbo)
        if structured is not None:
            whitened, trained = structured
            # In more dimensions a base with learned tails is trained too slowly.
            if self.target.dim <= FEW_DIMS:
                trained = self.with_better_base(whitened, trained, keys.base)
            return whitened, self.with_splines(whitened, trained, keys.splines)
        larger = with_base(gaussian.model.base, default_flow(self.target.dim, key=keys.flow))
        trained = self.stage(larger, whitened, FLOW, keys.training)
        if self.target.dim >= default.MODERATE_DIM and isinstance(affine, Triangular):
            marginals = functools.partial(marginals_in_axes_of, affine)
            trained = self.with_marginals(whitened, trained, marginals, separate_key(keys.flow))
        trained = self.with_better_base(whitened, trained, keys.base)
        return whitened, self.with_splines(whitened, trained, keys.splines)

    def quadratic(
        self, gaussian: Diagnostics, target: Whitened, flow: Flow, key: PRNGKeyArray
    ) -> tuple[Flow | None, bool]:
        """A quadratic map near the posterior, and whether it is good; in few dimensions it must be."""
        dim, steps_key, check_key, confirm_key = self.target.dim, *split(key, 3)
        if not isinstance(self.target, Target) or not is_promising(gaussian, flow, self.budget):
            return None, False

        def fitted(took):
            return quadratic_fit(target, dim, steps_key, stop=lambda: self.run.ended, took=took)

        to_result = functools.partial(unwhitened, target.affine)
        new = self.run.train_by("quadratic", identity(dim), fitted, to_result=to_result).model
        if self.run.ended:
            return new, True
        if dim < default.MODERATE_DIM:
            is_good = self.is_enough(0, 0.0, target, new, check_key)
            return new if is_good else None, is_good
        if self.needs_layers(self.diagnostics(target, new, check_key), target, new, confirm_key):
            return None, False
        return new, self.full_diagnostics(target, new, confirm_key).verdict == "good"

    def hierarchical(
        self, affine: GaussianMap, flow: Flow, keys: StageKeys, sparse: SparseMap | None, first_ratio: float
    ) -> tuple[Whitened, Trained[Flow]] | None:
        """Other coordinates, global ones first, and a hierarchical flow in them; None if it does not suit the target.

        Couplings are put before it if it is too far from the posterior; in few dimensions also if it is almost good.
        `first_ratio` says how clearly a coordinate must be global.
        """
        target, dim = self.target, self.target.dim
        if not isinstance(affine, Triangular) or isinstance(flow.base, dist.MixtureSameFamily):
            return None
        # In fewer dimensions all coordinates can be treated alike.
        if dim < default.MODERATE_DIM or self.run.ended:
            return None
        influence_key, check_key, confirm_key, couplings_key, train_key, marginals_key = split(keys.structure, 6)
        neighbors_key, rotation_key = (jr.fold_in(influence_key, i) for i in range(2))
        order, num_global = of_first(find_global(target, affine, influence_key, first_ratio), self.run.mesh)
        if num_global == 0 and dim <= FEW_DIMS:
            return None
        whitened, factor = globals_first(target, affine, order, num_global, sparse)
        pairs = of_first(find_interactions(whitened, factor, num_global, neighbors_key), self.run.mesh)
        # A step that trains a full matrix of thousands of rows takes three times as long.
        is_large = dim > MANY_DIMS and isinstance(factor, Triangular)
        inner = Frozen(factor) if is_large else factor
        rotation = None if is_large else find_rotation(whitened, factor, num_global, rotation_key)
        rotation = of_first(rotation, self.run.mesh)
        flow = hierarchical_flow(inner, num_global, None if pairs is None else pairs[:3], rotation, key=keys.flow)
        trained = self.stage(flow, whitened, HIERARCHICAL, keys.training)
        trained = self.with_marginals(whitened, trained, functools.partial(marginal_splines, dim), marginals_key)
        if not self.can_have_layers(trained):
            return whitened, trained
        before = self.diagnostics(whitened, trained.model, check_key)
        # In few dimensions couplings are cheap, and improve also flows that are almost good.
        if dim <= FEW_DIMS:
            is_far = self.is_confirmed(_is_not_near, before, whitened, trained.model, confirm_key)
        else:
            is_far = self.needs_layers(before, whitened, trained.model, confirm_key)
        if not is_far:
            return whitened, trained
        couplings = without_permutation(default_flow(dim, key=couplings_key).bijection)
        more = Flow(trained.model.base, Chain([couplings, trained.model.bijection]))
        return whitened, self.stage(more, whitened, COUPLINGS, train_key)

    def sparse(self, found: SparseMap, keys: StageKeys) -> tuple[Whitened, Trained[Flow]]:
        """The Gaussian with a sparse precision matrix if it is exact, otherwise a hierarchical flow that begins as it.

        The hubs are the global coordinates.
        """
        whitened = Whitened(self.target, found.scaling)
        gaussian = Flow(standard_normal(self.target.dim), found.inner)
        if self.run.ended or is_exact(self.diagnostics(whitened, gaussian, keys.check)):
            return whitened, Trained(gaussian, math.nan, 0, "reached")
        num_global = min(found.num_hubs, MAX_GLOBAL)
        flow = hierarchical_flow(found.inner, num_global, key=keys.flow)
        return whitened, self.stage(flow, whitened, HIERARCHICAL, keys.training)

    def gaussians(self, modes: list[Candidate], key: PRNGKeyArray) -> tuple[GaussianMap, Trained[Flow]]:
        """The affine map of whitened coordinates, and in them the Gaussian or the mixture of the Gaussians of modes.

        Without matrices there is no mixture, but only the best Gaussian.
        """
        modes = modes if self.target.dim <= default.MAX_DENSE_DIM else modes[:1]
        target, affines, log_evidences, reason = self.target, [], [], "reached"
        for mode, k in zip(modes, split(key, len(modes)), strict=True):
            train_key, check_key = split(k)
            stage = GAUSSIAN
            if uses_natural_gradient(target.dim) and not self.run.ended:
                better = of_first(refined(target, mode, train_key), self.run.mesh)
                # A density without curvature, such as a Laplace distribution's, needs the training.
                mode, stage = better, POLISH if better.elbo > mode.elbo else GAUSSIAN
            whitened = Whitened(target, mode.affine)
            trained = Trained(Flow(standard_normal(target.dim), affine_map(target.dim)), math.nan, 0, "reached")
            if stage is GAUSSIAN or self.diagnostics(whitened, trained.model, check_key).gap < NEAR_GAP:
                trained = self.stage(trained.model, whitened, stage, train_key)
            affines.append(composed_affine(mode.affine, trained.model.bijection))
            ended = len(modes) == 1 or self.run.ended
            found = None if ended else self.diagnostics(whitened, trained.model, check_key)
            log_evidences.append(mode.elbo if found is None else found.log_evidence)
            reason = trained.reason
        identity = affine_map(target.dim)
        if len(modes) == 1:
            affine, base = affines[0], standard_normal(target.dim)
        else:
            affine, base = mixture_base(affines, log_evidences)
        return affine, Trained(Flow(base, identity), math.nan, 0, reason)

    def with_marginals(
        self, target: Whitened, trained: Trained[Flow], marginals: Callable[[], AbstractBijection], key: PRNGKeyArray
    ) -> Trained[Flow]:
        """The flow, if it is too far from the posterior followed by what `marginals` makes: splines of each coordinate.

        Skewed or peaked marginal distributions of a hundred coordinates are out of reach of couplings, which see all
        coordinates at once; these splines see one each, and leave the copula to the flow.
        """
        check_key, confirm_key, train_key = split(key, 3)
        if not self.can_go_on(trained):
            return trained
        before = self.diagnostics(target, trained.model, check_key)
        if not self.needs_layers(before, target, trained.model, confirm_key):
            return trained
        more = Flow(trained.model.base, Chain([trained.model.bijection, marginals()]))
        return self.stage(more, target, MARGINALS, train_key)

    def with_better_base(self, target: Whitened, trained: Trained[Flow], key: PRNGKeyArray) -> Trained[Flow]:
        """The flow over a base that is closer to the posterior's shape, if that is better.

        The modes of a base get new weights. Otherwise, if the flow is not good and far from the posterior, and the
        weights have a heavy tail, another flow is trained over a base with learned tails: affine couplings cannot
        turn Gaussian tails into polynomial ones. A few large weights of a flow near the posterior do not matter:
        resampling corrects them.
        """
        change_key, check_key, tail_key = split(key, 3)
        before = self.diagnostics(target, trained.model, check_key)
        new = dataclasses.replace(trained, model=reweight_modes(target, trained.model, change_key))
        one_mode = not isinstance(trained.model.base, dist.MixtureSameFamily)
        possible = one_mode and self.can_go_on(trained)
        if possible and self.is_confirmed(_has_heavy_tail, before, target, trained.model, tail_key):
            new = self.with_heavy_tails(target, change_key)
        if new.model is trained.model:
            return trained
        better = self.diagnostics(target, new.model, check_key).elbo > before.elbo
        return dataclasses.replace(new if better else trained, reason=new.reason)

    def with_heavy_tails(self, target: Whitened, key: PRNGKeyArray) -> Trained[Flow]:
        """An affine map of a base with learned tails, followed by couplings unless it is exact."""
        base_key, check_key, flow_key, train_key = split(key, 4)
        dim = self.target.dim
        part = self.stage(Flow(student_t(dim), affine_map(dim)), target, TAILS, base_key)
        if not self.can_go_on(part) or is_exact(self.diagnostics(target, part.model, check_key)):
            return part
        return self.stage(composed(part.model, default_flow(dim, key=flow_key)), target, FLOW, train_key)

    def with_splines(self, target: Whitened, trained: Trained[Flow], key: PRNGKeyArray) -> Trained[Flow]:
        """The flow, followed by couplings of splines if it is too far from the posterior.

        A few large weights are no reason to add splines: they come from the tails, which splines leave unchanged.
        """
        check_key, confirm_key, flow_key, train_key = split(key, 4)
        if not self.can_have_layers(trained):
            return trained
        before = self.diagnostics(target, trained.model, check_key)
        if not self.needs_layers(before, target, trained.model, confirm_key):
            return trained
        more = spline_flow(self.target.dim, key=flow_key)
        return self.stage(composed(trained.model, more), target, SPLINES, train_key)


def _is_not_near(found: Diagnostics) -> bool:
    return found.gap >= NEAR_GOOD_GAP


def _has_heavy_tail(found: Diagnostics) -> bool:
    """Whether the weights have a heavy tail, and the flow is neither good nor near the posterior."""
    far = found.gap >= NEAR_GOOD_GAP or found.ess_fraction < TRUSTED_ESS_FRACTION
    return found.verdict != "good" and far and found.khat > HEAVY_KHAT
