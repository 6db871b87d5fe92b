"""`pushforward demo` and `pushforward fit`: posteriors of models."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from pushforward.cli.devices import add_devices, connect, mesh, writes
from pushforward.cli.folders import check_folder
from pushforward.cli.model import DATA, add_arguments, check_arguments, check_precision, load_data, load_model
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
MOST_WRITTEN, FEWEST_WRITTEN, MAX_BYTES = 4000, 400, 2**28

COLORS = {"good": "bold green", "reweight": "bold yellow", "unreliable": "bold red"}

FIT = f"""\
Fit the posterior of a NumPyro model.

{DATA}
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
    add_arguments(fit)
    fit.add_argument("--budget", type=whole_number, metavar="N", help="the largest number of gradients for training")
    fit.add_argument("--seconds", type=float, metavar="N", help="about how many seconds the fit may take")
    fit.add_argument(
        "--checkpoint",
        type=path_argument,
        metavar="FILE",
        help="the file to write the state of the fit to, and to resume from",
    )
    fit.add_argument(
        "--draws",
        metavar="FILE.nc",
        help="draws that you have of this posterior, as ArviZ writes them: the fit begins with them, and they are "
        "compared with it. (A number is taken as --num-draws, whose name this was.)",
    )
    fit.add_argument("--num-draws", type=int, metavar="N", help="the number of draws in posterior.nc")
    fit.add_argument(
        "--log-likelihood", action="store_true", help="add the log-likelihood of each observation to posterior.nc"
    )
    fit.add_argument("--predictive", action="store_true", help="add observations drawn from the model to posterior.nc")
    add_devices(fit, "draws")
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
    if options.draws is not None and options.draws.lstrip("-").isdecimal():
        options.num_draws, options.draws = int(options.draws), None
    for name, unit in (("budget", "gradients"), ("seconds", "seconds"), ("num-draws", "draws")):
        value = getattr(options, name.replace("-", "_"))
        if value is not None and not value > 0:
            raise UserError(f"--{name} must be a positive number of {unit}, but is {value}.")
    data = load_data(options)
    set_precision(options)
    check_precision(data)
    connect(options, console)
    model = load_model(options.model)
    check_arguments(model, data, options)
    settings = {name: getattr(options, name) for name in ("budget", "seconds", "checkpoint", "draws")}
    settings["mesh"] = mesh(options)
    return _run(model, data, options.model, options.out if writes(options) else None, options, console, settings)


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
    from pushforward.reports.provenance import with_command

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
    posterior = with_command(posterior, options.command_line)

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
    results.write("report.html", lambda path: posterior.report(path, title=name))
    for kind in PLOTS:
        results.write(f"{kind}.png", plot(kind))
    console.print(name)
    if diagnostics.num_draws:
        # The verdict follows below.
        console.print(str(posterior.summary().without_verdict()), soft_wrap=True)
    print_diagnostics(console, diagnostics)
    console.print(f"{seconds:.1f} s with compilation, {len(posterior.history.losses):,} steps of training")
    if results.written:
        console.print(f"wrote {', '.join(results.written)} to {out}", soft_wrap=True)
    console.print()
    return results.exit_code


def print_diagnostics(console: Console, diagnostics: Any) -> None:
    """Print the diagnostics of a fit, and its verdict with the reasons.

    Args:
        console: the console.
        diagnostics: the diagnostics.
    """
    from pushforward.reports.posterior import diagnostics_rows
    from pushforward.reports.summary import text_table

    console.print(text_table(diagnostics_rows(diagnostics)), soft_wrap=True)
    console.print(Text("verdict: ", style="bold").append(diagnostics.verdict, style=COLORS[diagnostics.verdict]))
    for reason in diagnostics.reasons:
        console.print(f"  {reason}")


def diagnostics_summary(diagnostics: Any) -> dict[str, Any]:
    """The verdict and the diagnostics of a fit, for summary.json and --json.

    Args:
        diagnostics: the diagnostics.
    """
    fields = {field: getattr(diagnostics, field) for field in diagnostics.__dataclass_fields__}
    return {"verdict": fields.pop("verdict"), "reasons": fields.pop("reasons"), "diagnostics": fields}


def _summary(posterior: Any, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The numbers of summary.json and --json."""
    agreement = posterior.agreement
    return {
        "model": name,
        **diagnostics_summary(posterior.diagnostics),
        "agreement": agreement and {field: getattr(agreement, field) for field in agreement.__dataclass_fields__},
        "parameters": posterior.summary() if posterior.diagnostics.num_draws else {},
        "steps": len(posterior.history.losses),
        "seed": options.seed,
    }


def _write_draws(posterior: Any, key: Any, path: Path, options: argparse.Namespace, console: Console) -> None:
    """Write the draws for ArviZ, and say before how large they are."""
    groups = {name: getattr(options, name, False) for name in ("log_likelihood", "predictive")}
    per_draw = posterior.arviz_bytes(1, **groups)
    draws = getattr(options, "num_draws", None) or min(MOST_WRITTEN, max(FEWEST_WRITTEN, MAX_BYTES // per_draw))
    size = draws * per_draw
    console.print(f"posterior.nc: {draws:,} draws, {size / 1e6:,.1f} MB before compression ({size:,} bytes)")
    posterior.to_arviz(key, draws, **groups).to_netcdf(str(path))
