"""A model and its arguments, from files: a Python file, JSON and tables."""

import argparse
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pushforward.cli.terminal import UserError, is_too_long, path_argument

DATA = """\
MODEL.py:NAME is a Python file and a function in it, a NumPyro model. FILE is JSON or a table, and --data may be given
several times. A JSON file holds one object: each of its entries is passed to the model as the argument of that name,
lists of numbers as arrays. A table is CSV, TSV, .npy or Parquet: each column is passed as the argument of its name, and
whole numbers stay whole. So are the arrays of an .npz file. A file without a suffix is JSON.
"""
MODEL = "MODEL.py:NAME"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the model and its data to a command.

    Args:
        command: the parser of the command.
    """
    add = command.add_argument
    add("model", metavar=MODEL, help="a file and the name of a NumPyro model in it")
    add(
        "--data", type=path_argument, action="append", default=[], metavar="FILE",
        help="the model's arguments, in JSON or as the columns of a table; by default none",
    )  # fmt: skip
    add("--columns", nargs="+", metavar="COLUMN", help="the columns of the table to pass; by default all")


def load_data(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments in the files of `--data`, by name.

    Args:
        options: the parsed arguments.

    Raises:
        UserError: if a file cannot be read, an argument is in two files, or a value is not a finite number.
    """
    tables = [path for path in options.data if _is_table(path)]
    if options.columns is not None and len(tables) != 1:
        raise UserError(f"--columns chooses columns of one table, but --data names {len(tables)} tables.")
    arguments: dict[str, Any] = {}
    for path in options.data:
        found = _load_table(path, options.columns) if path in tables else _load_json(path)
        if twice := [name for name in found if name in arguments]:
            raise UserError(f"{path} has {', '.join(twice)}, which another file of --data has, too; give each once.")
        arguments |= {name: _as_arrays(path, name, value) for name, value in found.items()}
    return arguments


def _is_table(path: Path) -> bool:
    return path.suffix != "" and "json" not in path.suffix.lower()


def _load_table(path: Path, columns: list[str] | None) -> dict[str, np.ndarray]:
    from pushforward.density.data.typed import read_typed  # imports JAX, which takes a while

    try:
        return read_typed(path, columns)
    except ValueError as error:
        raise UserError(str(error)) from None


def _load_json(path: Path) -> dict[str, Any]:
    try:
        # A byte-order mark may precede the text.
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"there is no data file {path}; --data takes the path of a JSON file or of a table.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the data file {path} cannot be read: {error}.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except RecursionError:
        raise UserError(f"{path} has too many arrays or objects inside each other.") from None
    except ValueError:
        raise UserError(f"{path} has a whole number of thousands of digits; numbers must fit into 64 bits.") from None
    if not isinstance(data, dict):
        raise UserError(
            f"{path} must hold a JSON object, whose entries are the model's arguments, as in "
            f'{{"y": [1.0, 2.0]}}, but holds a {type(data).__name__}.'
        )
    return data


def _as_arrays(path: Path, name: str, value: Any) -> Any:
    """Turn lists into arrays, also inside objects; refuse values that are not finite numbers, by name."""
    if isinstance(value, dict):
        return {key: _as_arrays(path, f"{name}.{key}", part) for key, part in value.items()}
    if isinstance(value, str):
        return value  # an option of the model
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError(f"{path}: the rows of {name} have different lengths; give a rectangular array.") from None
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: {name} must be an array of numbers, but holds other values (null, text, objects, whole "
            "numbers of more than 64 bits?)."
        )
    if not np.isfinite(array.astype(float)).all():
        raise UserError(f"{path}: {name} holds NaN or infinite values; remove those observations.")
    return array if isinstance(value, list | np.ndarray) else value


def check_precision(data: dict[str, Any], name: str = "") -> None:
    """Raise unless the values fit into the precision that is set, in which JAX would wrap them or make them infinite.

    Args:
        data: the arguments by name.
        name: the name of the object that holds them.

    Raises:
        UserError: if a value does not fit; it says which.
    """
    from jax.dtypes import canonicalize_dtype  # takes a while to import

    for key, value in data.items():
        if isinstance(value, dict):
            check_precision(value, f"{name}{key}.")
        elif not isinstance(value, str):
            array = np.asarray(value)
            with np.errstate(over="ignore", invalid="ignore"):
                kept = array.astype(canonicalize_dtype(array.dtype))
            lost = np.argwhere(~np.isfinite(kept) if array.dtype.kind == "f" else kept != array)
            if len(lost):
                place = "".join(f"[{index}]" for index in lost[0])
                raise UserError(
                    f"{name}{key}{place} is {array[tuple(lost[0])]}, which does not fit into {kept.dtype}; leave out "
                    "--float32."
                )


def load_model(spec: str) -> Callable:
    """The model that a text names.

    Args:
        spec: a file and a function in it, as MODEL.py:NAME.

    Raises:
        UserError: if there is no such file or function, or the file cannot be imported.
    """
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name:
        raise UserError(f"the model must be given as MODEL.py:NAME, a file and a function in it, but got {spec!r}.")
    path = Path(file)
    if is_too_long(file) or not path.is_file():
        raise UserError(f"there is no model file {file}; give the path of a Python file, as in models.py:{name}.")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"{file} is not a Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(module_spec)
    # As for a script, its folder can be imported from, and dataclasses find their module.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules.setdefault(module_spec.name, module)
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{file} cannot be imported: {type(error).__name__}: {error}.") from None
    model = getattr(module, name, None)
    if not callable(model):
        own = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
        raise UserError(f"{file} has no function {name}; it has {', '.join(own) or 'no functions'}.")
    return model


def check_arguments(model: Callable, data: dict[str, Any], options: argparse.Namespace) -> None:
    """Raise unless a model takes the arguments in the files.

    Args:
        model: the model.
        data: the arguments by name.
        options: the parsed arguments.

    Raises:
        UserError: if an argument is missing, or there are others than the model takes; it names them.
    """
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return
    where = ", ".join(map(str, options.data)) or "no data file"
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in named if p.default is p.empty and p.name not in data]
    if missing:
        raise UserError(
            f"the model {options.model} needs the arguments {', '.join(missing)}, which {where} does not have; it has "
            f"{', '.join(data) or 'none'}."
        )
    unknown = [name for name in data if name not in {p.name for p in named}]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        only_tables = all(map(_is_table, options.data))
        raise UserError(
            f"{where} has the {'columns' if only_tables else 'entries'} {', '.join(unknown)}, which the model "
            f"{options.model} does not take; it takes {', '.join(p.name for p in named) or 'no arguments'}."
            + (" --columns chooses the columns to pass." if only_tables and len(unknown) < len(data) else "")
        )
