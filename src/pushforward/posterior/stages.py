"""How the stages of a posterior fit train: Adam, in rounds in which the learning rate decays."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from pushforward.posterior.enough import FEW_DIMS
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.verdict.assessment import MANY_DIMS
from pushforward.training.optimizers import averaged, clip_by_running_norm, cosine_decay
from pushforward.training.rounds import Round, Rounds

CHUNK = 250
# A smaller gain of the ELBO in a round is a plateau (nats), in proportion to the dimension beyond FEW_DIMS. A flow
# follows a Gaussian, so there the last hundredths of a nat are of no use.
MIN_GAIN, MIN_GAUSSIAN_GAIN = 0.002, 0.1
# A round of more steps follows only after a larger gain (nats), in the same proportion.
MANY_STEPS, LONG_GAIN = 10_000, 0.1
# In 10 dimensions a thousand steps of couplings end at two thirds of the divergence of Adam with 0.9. With 0.97 they
# end lower still, but the first rounds of hierarchical flows may end higher than Adam's.
MOMENTUM = 0.95
# Beyond this dimension the rates fall with its square root: in 35 dimensions half the rate is better, in 10 worse.
FULL_RATE_DIM = 10


def chunk(dim: int) -> int:
    """The number of steps between evaluations of the ELBO, which in many dimensions take as long as dozens of steps.

    Args:
        dim: the dimension of the posterior.
    """
    return CHUNK if dim <= MANY_DIMS else 2 * CHUNK


class Stage(NamedTuple):
    """How a stage trains.

    Attributes:
        name: its name.
        rate: the first learning rate of its rounds.
        steps: the steps of its rounds.
        min_gain: the gain of a round for which another follows, in nats.
        share: its share of the budget.
        two_rounds: whether the second round follows in any case: new layers next to a trained flow may gain nothing
            in the first one.
    """

    name: str
    rate: float
    steps: tuple[int, ...]
    min_gain: float
    share: float
    two_rounds: bool = False

    def rounds(self, dim: int, enough: Callable[[Any, int, float], bool]) -> Rounds:
        """The rounds of the stage.

        Args:
            dim: the dimension of the posterior.
            enough: whether a flow is good enough to end with after the round of an index, which has gained some nats.
        """
        rate = self.rate * min(1.0, math.sqrt(FULL_RATE_DIM / dim))
        more = max(1.0, dim / FEW_DIMS)
        gains = [LONG_GAIN if num > MANY_STEPS else self.min_gain for num in self.steps]
        if self.two_rounds:
            gains[1] = -math.inf
        return Rounds([Round(num, rate, gain * more) for num, gain in zip(self.steps, gains, strict=True)], enough)

    def num_steps(self, budget: int, taken: int) -> int:
        """The largest number of steps of the stage, whole chunks.

        Args:
            budget: the number of gradients of the whole fit.
            taken: the steps of earlier stages.
        """
        return max(0, int(self.share * budget) // NUM_SAMPLES - taken) // CHUNK * CHUNK


GAUSSIAN = Stage("gaussian", 2e-2, (500, 1500), MIN_GAUSSIAN_GAIN, share=0.25)
# After natural-gradient steps.
POLISH = GAUSSIAN._replace(rate=5e-3)
FLOW = Stage("flow", 1e-2, (1000, 3000, 6000), MIN_GAIN, share=1.0)
# Of a user's flow nothing is known, so more cautiously.
GIVEN = FLOW._replace(rate=5e-3)
HIERARCHICAL = FLOW._replace(name="hierarchical", rate=2e-2, steps=(500, 1500, 4500, 13500))
# A spline of one coordinate has few numbers: at this rate it needs half as many steps as at 1e-2.
MARGINALS = FLOW._replace(name="marginals", rate=3e-2)
# At 1e-2, couplings before a trained flow of 102 dimensions diverged.
COUPLINGS = FLOW._replace(name="couplings", rate=3e-3, two_rounds=True)
TAILS = FLOW._replace(name="tails", rate=GAUSSIAN.rate)
# At 1e-2, splines over a flow in 35 dimensions diverged, and 1,000 steps were too few for them to gain anything.
SPLINES = FLOW._replace(name="splines", rate=3e-3, steps=(3000, 9000))


@functools.cache
def adam() -> optax.GradientTransformation:
    """Adam with Nesterov's momentum: one object for all fits, so that targets of one structure compile once.

    Its rates are part of its state.

    References:
        Dozat, Incorporating Nesterov Momentum into Adam (2016). https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    nesterov = optax.scale_by_adam(b1=MOMENTUM, b2=0.99, nesterov=True)
    return averaged(optax.chain(clip_by_running_norm(10.0), nesterov, cosine_decay()))
