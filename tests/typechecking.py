"""The type checker that enforces annotations while tests run."""

from beartype import BeartypeConf, beartype

# A number is a float where a float is expected, as PEP 484 has it.
typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
