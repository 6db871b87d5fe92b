"""The conformance suite for bijections: what every bijection of this package passes, for those that you write."""

from pushforward.testing.conformance import check_bijection as check_bijection
from pushforward.testing.parameters import into as into, randomize as randomize
