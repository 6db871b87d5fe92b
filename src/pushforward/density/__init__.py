"""Density estimation: samples in, a flow out."""

from pushforward.density.columns import NamedFlow as NamedFlow
from pushforward.density.fit import BATCH as BATCH, LEARNING_RATE as LEARNING_RATE, fit_density as fit_density
from pushforward.density.supports import Circular as Circular
