"""`pushforward report`: the page of anything that was saved."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

from rich.console import Console

from pushforward.cli.folders import check_page
from pushforward.cli.results import Results
from pushforward.cli.saved import add_saved, load_saved
from pushforward.cli.terminal import (
    UserError,
    add_command,
    add_output,
    add_precision,
    add_seed,
    path_argument,
    set_precision,
    user_error,
)

DESCRIPTION = """\
Write the page of a saved result: a posterior, chains, an amortized posterior, a density, a flow or a VAE.

The page begins with the verdict in words, and needs no network. Files of densities and VAEs hold no rows or images, so
these are evaluated on those of --data: a table with the columns of the density, or an .npz file of images, as for
`pushforward vae`, of which only the array "test" is used, or a file of one array.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `report`.

    Args:
        commands: the subparsers of the program.
    """
    command = add_command(commands, "report", "write the page of a saved result", DESCRIPTION)
    add_saved(command)
    add = command.add_argument
    add(
        "--out", type=path_argument, metavar="PAGE.html",
        help="the page, or a folder for report.html (default: SAVED with the suffix .html)",
    )  # fmt: skip
    add("--data", type=path_argument, metavar="FILE", help="test rows of a density, or test images of a VAE")
    add_seed(command)
    add_precision(command)
    add("--force", action="store_true", help="replace a page that pushforward did not write")
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.saved.is_dir():
        raise UserError(f"{options.saved} cannot be read: Is a directory.")
    page = _page(options.out, options.saved)
    if page == options.saved:
        raise UserError(f"the page {page} would replace the saved file; give another --out.")
    check_page(page, force=options.force)
    set_precision(options)
    saved = load_saved(options)
    results = Results(str(options.saved), page.parent)
    options.results.append(results)
    try:
        write, verdict = _writer(saved, options)
    except UserError:
        raise
    except Exception as error:
        raise user_error(error, str(options.data or options.saved), "the report") from error
    results.summary = {"kind": type(saved).__name__, "verdict": verdict}
    results.write(page.name, write)
    if results.written:
        console.print(f"wrote {page}", soft_wrap=True)
    return results.exit_code


def _page(out: Path | None, saved: Path) -> Path:
    if out is None:
        return saved.with_suffix(".html")
    is_page = out.suffix.lower() in (".html", ".htm") and not out.is_dir()
    return out if is_page else out / "report.html"


def _writer(saved: Any, options: argparse.Namespace) -> tuple[Any, str | None]:
    """The function that writes the page, and the page's verdict; what `--data` is needed for is computed before."""
    import jax.random as jr

    from pushforward.density import Density
    from pushforward.flow import Flow
    from pushforward.posterior import AmortizedPosterior, Chains, Posterior
    from pushforward.reports.verdicts import of_density, of_vae, unevaluated_density, unevaluated_vae
    from pushforward.vae import VAE

    title, key = options.saved.name, jr.key(options.seed)
    saved = Density.of(saved) if isinstance(saved, Flow) else saved
    if isinstance(saved, Density):
        evaluation = None if options.data is None else _evaluation(saved, options, key)
        verdict = unevaluated_density() if evaluation is None else of_density(evaluation, ())
        return lambda path: saved.report(path, evaluation, title=title), verdict.word
    if isinstance(saved, VAE):
        images = None if options.data is None else _images(options.data, saved, options.seed)
        evaluation = None if images is None else _vae_evaluation(saved, images, key)
        verdict = unevaluated_vae() if evaluation is None else of_vae(evaluation)
        return lambda path: saved.report(
            path, images, key=key, evaluation=evaluation, title=title, command=options.command_line
        ), verdict.word
    if not isinstance(saved, Posterior | Chains | AmortizedPosterior):
        raise ValueError(f"{options.saved} holds a {type(saved).__name__}, which has no report.")
    if options.data is not None:
        raise ValueError("a posterior has its diagnostics in its file; remove --data.")
    verdict = getattr(getattr(saved, "diagnostics", saved), "verdict", None)
    return lambda path: saved.report(path, title=title), verdict


def _evaluation(density: Any, options: argparse.Namespace, key: Any) -> Any:
    from pushforward.density.data import tables

    columns = [*density.columns, *density.condition_names]
    table = tables.read(options.data, columns)
    size = len(density.columns)
    x, condition = table.values[:, :size], table.values[:, size:]
    return density.evaluate(x, condition if density.condition_names else None, key=key)


def _images(path: Path, model: Any, seed: int) -> Any:
    """The test images of a file; binarized for a Bernoulli likelihood, as for training."""
    from pushforward.vae import Bernoulli
    from pushforward.vae.data import binarized, load_images

    found = load_images(path)
    if "test" not in found and _names_training_images(path):
        raise ValueError(
            'it has an array "train", but no array "test": training images do not show how good a model is. Give the '
            "test images under this name, or alone in a file."
        )
    images = found.get("test", found["train"])
    return binarized(images, seed) if isinstance(model.likelihood, Bernoulli) else images


def _names_training_images(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return "train.npy" in file.namelist()


def _vae_evaluation(model: Any, images: Any, key: Any) -> Any:
    from pushforward.vae import evaluate

    if images.shape[1:] != model.shape:
        raise ValueError(f"its images have shape {images.shape[1:]}, but those of the model have {model.shape}.")
    return evaluate(model, images, key=key)
