"""Samples in, a density out: how does one fit a flow to rows of numbers, and how good is it?"""

from pushforward.density.conditional import ConditionalDensity as ConditionalDensity
from pushforward.density.data.columns import Circular as Circular
from pushforward.density.evaluate import Evaluation as Evaluation, Score as Score
from pushforward.density.fit import BATCH as BATCH, LEARNING_RATE as LEARNING_RATE, fit_density as fit_density
from pushforward.density.prepare import Holdout as Holdout, hold_out as hold_out
from pushforward.density.result import Density as Density
