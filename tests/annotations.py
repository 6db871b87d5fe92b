"""Annotations, with the shapes of arrays, are enforced while tests run."""

from beartype import BeartypeConf, beartype

# An int is a float.
enforced = beartype(conf=BeartypeConf(is_pep484_tower=True))
