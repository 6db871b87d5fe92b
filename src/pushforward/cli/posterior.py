"""`pushforward demo` and `pushforward fit`: posteriors of models."""

import argparse
import importlib.util
import inspect
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.text import Text

from pushforward.cli.folders import check_folder
from pushforward.cli.results import Results
from pushforward.cli.terminal import (
    UserError,
    add_command,
    add_common,
    path_argument,
    print_error,
    set_precision,
    user_error,
    whole_number,
)

PLOTS: tuple[Literal["training", "marginals", "pairs"], ...] = ("training", "marginals", "pairs")
FILES = ("posterior.flow", "summary.json", "posterior.nc", "report.html", *(f"{kind}.png" for kind in PLOTS))

# The draws in posterior.nc, if the user gives no number.
MAX_DRAWS, MIN_DRAWS, MAX_BYTES = 4000, 400, 2**28

COLORS = {"good": "bold green", "reweight": "bold yellow", "unreliable": "bold red"}

FIT = """\
Fit the posterior of a NumPyro model.

MODEL.py:NAME is a Python file and a function in it, a NumPyro model. FILE.json holds one object; each of its entries
is passed to the model as the argument of that name, and lists of numbers are passed as arrays.

DIR will hold posterior.flow (the fitted Posterior, for pushforward.load), summary.json (the verdict, the diagnostics,
and the summary of each parameter), posterior.nc (draws, for ArviZ), report.html, training.png (the ELBO
during training), marginals.png and pairs.png.

posterior.nc has 4,000 draws; if they took more than 256 MB, as few as 400. --log-likelihood and --predictive add one
number for each draw and observation.

The verdict is "good" (use the draws), "reweight" (use the draws in posterior.nc, which are corrected by importance
weights) or "unreliable" (do not use the draws). Ctrl-C ends the training; the best flow so far is then diagnosed and
saved, and the exit code is 130.
"""
DEMO = """\
Fit the posterior of the eight-schools model (Rubin, 1981) in its non-centered and in its centered parametrization, as
an example. No data are needed.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `demo` and `fit`.

    Args:
        commands: the subparsers of the program.
    """
    demo = add_command(commands, "demo", "fit the eight-schools model in two parametrizations", DEMO)
    add_common(demo, _demo)
    fit = add_command(commands, "fit", "fit the posterior of a NumPyro model", FIT)
    fit.add_argument("model", metavar="MODEL.py:NAME", help="a file and the name of a NumPyro model in it")
    fit.add_argument("--data", metavar="FILE.json", help="the model's arguments; by default none")
    fit.add_argument("--budget", type=whole_number, metavar="N", help="the largest number of gradients for training")
    fit.add_argument(
        "--checkpoint",
        type=path_argument,
        metavar="FILE",
        help="the file to write the state of the fit to, and to resume from",
    )
    fit.add_argument("--draws", type=int, metavar="N", help="the number of draws in posterior.nc")
    fit.add_argument(
        "--log-likelihood", action="store_true", help="add the log-likelihood of each observation to posterior.nc"
    )
    fit.add_argument("--predictive", action="store_true", help="add observations drawn from the model to posterior.nc")
    fit.add_argument("--devices", metavar="N", help="how many devices share the draws of each step: a number, or all")
    add_common(fit, _fit, out_needed=True)


def _demo(options: argparse.Namespace, console: Console) -> int:
    from pushforward import examples

    models = (examples.eight_schools_noncentered, examples.eight_schools_centered)
    for model in models if options.out else ():
        check_folder(options.out / model.__name__, FILES, force=options.force)
    set_precision(options)
    codes = []
    for model in models:
        out = options.out and options.out / model.__name__
        codes.append(_run(model, examples.EIGHT_SCHOOLS, model.__name__, out, options, console))
    return max(codes)


def _fit(options: argparse.Namespace, console: Console) -> int:
    check_folder(options.out, FILES, force=options.force)
    for name, unit in (("budget", "gradients"), ("draws", "draws")):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be a positive number of {unit}, but is {value}.")
    data = _load_data(options.data)
    set_precision(options)
    model = _load_model(options.model)
    _check_arguments(model, data, options)
    settings = {"budget": options.budget, "checkpoint": options.checkpoint, "mesh": _mesh(options.devices)}
    return _run(model, data, options.model, options.out, options, console, settings)


def _mesh(devices: str | None) -> Any:
    """The mesh of some devices; None for one device."""
    if devices is None:
        return None
    import jax

    available = jax.devices()
    if devices != "all" and not (devices.isdecimal() and 1 <= int(devices) <= len(available)):
        raise UserError(f"--devices must be all, or a number from 1 to {len(available)}, but is {devices}.")
    return jax.sharding.Mesh(available if devices == "all" else available[: int(devices)], "devices")


def _run(
    model: Callable,
    data: dict[str, Any],
    name: str,
    out: Path | None,
    options: argparse.Namespace,
    console: Console,
    settings: dict[str, Any] | None = None,
) -> int:
    """Fit, write and print; returns the exit code."""
    # Imported late, because JAX is slow to import, and errors in the arguments should appear at once.
    import jax

    from pushforward.posterior import Target, fit_posterior
    from pushforward.reports.posterior import diagnostics_rows
    from pushforward.reports.summary import text_table

    began = time.perf_counter()
    key = jax.random.key(options.seed)
    results = Results(name, out)
    options.results.append(results)
    try:
        with results.fit():
            target = Target.from_numpyro(model, **data)
            posterior = fit_posterior(target, key=key, progress=not options.quiet, **(settings or {}))
    except Exception as error:
        raise user_error(error, name, "the model") from error
    seconds = time.perf_counter() - began

    def plot(kind: Literal["training", "marginals", "pairs"]) -> Callable[[Path], None]:
        return lambda path: posterior.plot(kind).savefig(path, dpi=120)

    # The fit is written first, so that an error in the rest does not lose it.
    try:
        posterior.target.detached()
    except ValueError as error:
        # Known from the model, so not a failure.
        print_error(f"posterior.flow is not written: {error}")
    else:
        results.write("posterior.flow", posterior.save)
    diagnostics = posterior.diagnostics
    results.write_summary(_summary(posterior, name, options) | {"seconds": seconds, "warnings": results.warnings})
    results.write("posterior.nc", lambda path: _write_draws(posterior, key, path, options, console))
    results.write("report.html", lambda path: posterior.report(path, title=name, command=options.command_line))
    for kind in PLOTS:
        results.write(f"{kind}.png", plot(kind))
    console.print(name)
    if diagnostics.num_draws:
        console.print(str(posterior.summary()), soft_wrap=True)
    console.print(text_table(diagnostics_rows(diagnostics)), soft_wrap=True)
    console.print(Text("verdict: ", style="bold").append(diagnostics.verdict, style=COLORS[diagnostics.verdict]))
    for reason in diagnostics.reasons:
        console.print(f"  {reason}")
    console.print(f"{seconds:.1f} s with compilation, {len(posterior.history.losses):,} steps of training")
    if results.written:
        console.print(f"wrote {', '.join(results.written)} to {out}", soft_wrap=True)
    console.print()
    return results.exit_code


def _summary(posterior: Any, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The numbers of summary.json and --json."""
    diagnostics = {field: getattr(posterior.diagnostics, field) for field in posterior.diagnostics.__dataclass_fields__}
    return {
        "model": name,
        "verdict": diagnostics.pop("verdict"),
        "reasons": diagnostics.pop("reasons"),
        "diagnostics": diagnostics,
        "parameters": posterior.summary() if posterior.diagnostics.num_draws else {},
        "steps": len(posterior.history.losses),
        "seed": options.seed,
    }


def _write_draws(posterior: Any, key: Any, path: Path, options: argparse.Namespace, console: Console) -> None:
    """Write the draws for ArviZ, and say before how large they are."""
    groups = {name: getattr(options, name, False) for name in ("log_likelihood", "predictive")}
    per_draw = posterior.arviz_bytes(1, **groups)
    draws = getattr(options, "draws", None) or min(MAX_DRAWS, max(MIN_DRAWS, MAX_BYTES // per_draw))
    size = draws * per_draw
    console.print(f"posterior.nc: {draws:,} draws, {size / 1e6:,.1f} MB before compression ({size:,} bytes)")
    posterior.to_arviz(key, draws, **groups).to_netcdf(str(path))


def _load_data(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        # A byte-order mark may precede the text.
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"there is no data file {path}; --data takes the path of a JSON file.") from None
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
    return {name: _as_arrays(path, name, value) for name, value in data.items()}


def _as_arrays(path: str, name: str, value: Any) -> Any:
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
    return array if isinstance(value, list) else value


def _load_model(spec: str) -> Callable:
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name:
        raise UserError(f"the model must be given as MODEL.py:NAME, a file and a function in it, but got {spec!r}.")
    path = Path(file)
    if not path.is_file():
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


def _check_arguments(model: Callable, data: dict[str, Any], options: argparse.Namespace) -> None:
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return
    where = options.data or "no data file"
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in named if p.default is p.empty and p.name not in data]
    if missing:
        raise UserError(
            f"the model {options.model} needs the arguments {', '.join(missing)}, which {where} does not have; it has "
            f"{', '.join(data) or 'none'}."
        )
    unknown = [name for name in data if name not in {p.name for p in named}]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise UserError(
            f"{where} has the entries {', '.join(unknown)}, which the model {options.model} does not take; it takes "
            f"{', '.join(p.name for p in named) or 'no arguments'}."
        )
