"""The conformance suite for bijections, which every bijection of this package passes; run it on your own."""

from pushforward.testing.conformance import check_bijection as check_bijection
from pushforward.testing.parameters import into as into, randomize as randomize
