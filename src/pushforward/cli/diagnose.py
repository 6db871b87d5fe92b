"""`pushforward diagnose`: whether a saved fit can be trusted for a model and its data."""

import argparse
import time
from typing import Any

from rich.console import Console

from pushforward.cli.folders import check_folder
from pushforward.cli.model import DATA, add_arguments, check_arguments, check_precision, load_data, load_model
from pushforward.cli.posterior import diagnostics_summary, print_diagnostics
from pushforward.cli.results import Results
from pushforward.cli.saved import add_saved, load_saved
from pushforward.cli.terminal import UserError, add_command, add_common, set_precision, user_error, whole_number

DESCRIPTION = f"""\
Diagnose a saved fit of a NumPyro model with fresh draws: how far it is from the posterior, and whether to trust it.

SAVED is a posterior, or a flow in the unconstrained coordinates of the model.

{DATA}
The model and the data need not be those of the fit: the verdict says whether the fit serves for them. DIR, if given,
will hold posterior.flow (the fit with the fresh draws and weights), summary.json and report.html.
"""
FILES = ("posterior.flow", "summary.json", "report.html")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `diagnose`.

    Args:
        commands: the subparsers of the program.
    """
    command = add_command(commands, "diagnose", "diagnose a saved fit of a NumPyro model", DESCRIPTION)
    add_saved(command)
    add_arguments(command)
    command.add_argument(
        "--num", type=whole_number, default=100_000, metavar="N", help="the number of fresh draws (default 100000)"
    )
    add_common(command, _run)


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.out is not None:
        check_folder(options.out, FILES, force=options.force)
        fit = options.out / FILES[0]
        if options.saved.exists() and fit.exists() and options.saved.samefile(fit):
            raise UserError(f"--out {options.out} is the folder of {options.saved}, which would be replaced.")
    data = load_data(options)
    set_precision(options)
    check_precision(data)
    saved = load_saved(options)
    model = load_model(options.model)
    check_arguments(model, data, options)
    began = time.perf_counter()
    results = Results(options.model, options.out)
    options.results.append(results)
    try:
        with results.fit():
            posterior = _reassessed(saved, model, data, options)
    except Exception as error:
        raise user_error(error, options.model, "the model") from error
    summary = diagnostics_summary(posterior.diagnostics)
    facts = {"model": options.model, "saved": str(options.saved), "seed": options.seed}
    results.write("posterior.flow", posterior.save)
    results.write_summary(facts | summary | {"seconds": time.perf_counter() - began, "warnings": results.warnings})
    results.write("report.html", lambda path: posterior.report(path, title=options.model))
    console.print(f"{options.saved} as a fit of {options.model}", soft_wrap=True)
    print_diagnostics(console, posterior.diagnostics)
    if results.written:
        console.print(f"wrote {', '.join(results.written)} to {options.out}", soft_wrap=True)
    return results.exit_code


def _reassessed(saved: Any, model: Any, data: dict[str, Any], options: argparse.Namespace) -> Any:
    import jax

    from pushforward.flow import Flow
    from pushforward.posterior import Posterior, Target

    if not isinstance(saved, Posterior | Flow):
        raise ValueError(
            f"{options.saved} holds a {type(saved).__name__}, but must hold a posterior, or a flow in the "
            "unconstrained coordinates of the model."
        )
    target, key = Target.from_numpyro(model, **data), jax.random.key(options.seed)
    if isinstance(saved, Flow):
        return Posterior.of(saved, target, key=key, num_draws=options.num)
    return saved.reassess(target, key=key, num_draws=options.num)
