"""The parts of a bijection as a tree, with shapes and numbers of parameters, for texts and notebooks."""

import dataclasses
import html
from typing import Any, NamedTuple

import equinox as eqx

from pushforward.bijections.arrays import num_parameters
from pushforward.bijections.base import AbstractBijection


class Outline(NamedTuple):
    """A part with its own parts.

    Attributes:
        name: the class of the part.
        shape: the shape of an event, with that of the condition; empty for networks.
        parameters: the number of parameters, those of its parts included.
        parts: its parts.
    """

    name: str
    shape: str
    parameters: int
    parts: tuple["Outline", ...] = ()

    @property
    def line(self) -> str:
        """The part in one line, without its parts."""
        plural = "" if self.parameters == 1 else "s"
        return ", ".join(filter(None, (f"{self.name} {self.shape}".strip(), f"{self.parameters:,} parameter{plural}")))

    def __str__(self) -> str:
        below = [f"  {line}" for part in self.parts for line in str(part).splitlines()]
        return "\n".join([self.line, *below])

    def _repr_html_(self) -> str:
        return f'<div class="pushforward"><ul>{self._item(0)}</ul></div>'

    def _item(self, depth: int) -> str:
        line = html.escape(self.line)
        if not self.parts:
            return f"<li>{line}</li>"
        parts = "".join(part._item(depth + 1) for part in self.parts)
        # Deeper parts are unfolded by the reader.
        return f"<li><details{' open' * (depth < 2)}><summary>{line}</summary><ul>{parts}</ul></details></li>"


def outline(part: AbstractBijection) -> Outline:
    """The tree of a bijection: the bijections and networks in its fields.

    Args:
        part: the bijection.
    """
    return _outline(part)


def _outline(part: Any) -> Outline:
    if not isinstance(part, AbstractBijection):
        return Outline(type(part).__name__, "", num_parameters(part))
    shape = f"{part.shape}" if part.cond_shape is None else f"{part.shape} given {part.cond_shape}"
    values = [getattr(part, field.name) for field in dataclasses.fields(part)]
    inside = [each for value in values for each in (value if isinstance(value, (tuple, list)) else (value,))]
    parts = tuple(
        _outline(each)
        for each in inside
        if isinstance(each, AbstractBijection) or (isinstance(each, eqx.Module) and num_parameters(each))
    )
    return Outline(type(part).__name__, shape, num_parameters(part), parts)
