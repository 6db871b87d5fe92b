"""Density estimation: samples in, a flow out."""

from pushforward.density.columns import NamedFlow as NamedFlow
from pushforward.density.data.columns import Circular as Circular
from pushforward.density.fit import BATCH as BATCH, LEARNING_RATE as LEARNING_RATE, fit_density as fit_density
