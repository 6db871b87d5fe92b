"""Checks that do not run a bijection: the kinds of its fields, and the shapes of its results."""

import dataclasses

import equinox as eqx
import jax

from pushforward import serialization
from pushforward.bijections import AbstractBijection
from pushforward.bijections.arrays import Constant


def check_structure(bijection: AbstractBijection) -> None:
    """Raise unless fields are arrays or static, and saving and loading preserve the bijection.

    Args:
        bijection: the bijection.
    """
    name = type(bijection).__name__
    _check_static(bijection, name)
    for path, leaf in jax.tree.leaves_with_path(bijection):
        assert eqx.is_array(leaf), (
            f"{name}{jax.tree_util.keystr(path)} is a {type(leaf).__name__}: fields must hold arrays, or be static"
        )

    try:
        saved = serialization.to_bytes(bijection)
    except ValueError:
        return  # local classes and functions cannot be saved
    again = serialization.from_bytes(saved)
    assert bool(eqx.tree_equal(bijection, again)), f"{name}: saving and loading changes it"


def _check_static(module: eqx.Module, name: str) -> None:
    for field in dataclasses.fields(module):
        where, value = f"{name}.{field.name}", getattr(module, field.name, None)
        if field.metadata.get("static", False):
            try:
                hash(value)
            except TypeError as error:
                raise AssertionError(
                    f"{where}: static fields must be hashable, so that JAX compiles only once: {error}"
                ) from error
            name_of_function = getattr(value, "__qualname__", "")
            assert "<" not in name_of_function, (
                f"{where}: {name_of_function} is a different function each time that it is created, so JAX would "
                "compile everything again; use a function from the top level of a module"
            )
        else:
            for part in jax.tree.leaves(value, is_leaf=lambda node: isinstance(node, eqx.Module)):
                if isinstance(part, eqx.Module) and not isinstance(part, Constant):
                    _check_static(part, where)


def check_shapes(bijection, u, condition, where) -> None:
    """Raise unless each method returns the right shapes and dtypes, without running it.

    Args:
        bijection: the bijection.
        u: a point of the domain.
        condition: a condition, or None.
        where: the beginning of the messages.
    """
    for method in ("forward_and_log_det", "inverse_and_log_det", "push_score"):
        arguments = (u, u) if method == "push_score" else (u,)
        try:
            point, log_det, *score = eqx.filter_eval_shape(getattr(bijection, method), *arguments, condition)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"{where}: {method} fails at a point of shape {u.shape}: {error}") from error
        for name, found, shape in (
            ("point", point, u.shape),
            ("log_det", log_det, ()),
            *(("score", s, u.shape) for s in score),
        ):
            assert found.shape == shape, f"{where}: {method}'s {name} has shape {found.shape}, not {shape}"
            assert found.dtype == u.dtype, f"{where}: {method}'s {name} has dtype {found.dtype}, not {u.dtype}"
