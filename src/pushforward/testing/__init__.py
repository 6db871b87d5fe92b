"""The conformance suite for bijections. Every bijection of this package passes it; use it for your own bijections."""

from pushforward.testing.conformance import check_bijection as check_bijection
from pushforward.testing.parameters import map_to_domain as map_to_domain, randomize as randomize
