"""`pushforward vae`: a variational autoencoder of images."""

import argparse
import functools

from rich.console import Console

from pushforward.cli.folders import check_folder, folder
from pushforward.cli.results import Results
from pushforward.cli.terminal import (
    UserError,
    add_command,
    add_out,
    add_output,
    add_seed,
    path_argument,
    user_error,
    whole_number,
)

DESCRIPTION = """\
Train a variational autoencoder whose posterior and prior are normalizing flows, and evaluate it on test images.

FILE.npz contains images with pixels in [0, 1] or of 8 bits: an array "train", and optionally "valid" and "test". Their
shape is (n, height, width), or that with an axis of 1, 3 or 4 channels before or after height and width, which is
detected. FILE.npy contains one such array. Without a file, the images are scikit-learn's handwritten digits.

DIR will contain model.vae (for pushforward.load), summary.json, report.html, and reconstructions.png, samples.png,
traversals.png and interpolations.png. While the command runs, DIR also holds checkpoint.vae: if it is killed or
interrupted, the same command continues from there. Ctrl-C ends the training; the best model so far is then saved and
evaluated, and the exit code is 130.
"""
LIKELIHOODS = ("bernoulli", "categorical", "gaussian")
MODEL, CHECKPOINT = "model.vae", "checkpoint.vae"
PICTURES = ("reconstructions.png", "samples.png", "traversals.png", "interpolations.png")
FILES = (MODEL, "summary.json", "report.html", *PICTURES)
# The fraction of the images that become test images, and that of the remaining ones that become validation images, if
# the file has none.
FRACTION = 0.1


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `vae`.

    Args:
        commands: the subparsers of the program.
    """
    from pushforward.vae.layout import CHANNELS
    from pushforward.vae.posteriors import POSTERIORS
    from pushforward.vae.priors import PRIORS
    from pushforward.vae.recipe import NETWORKS

    command = add_command(commands, "vae", "train a variational autoencoder of images", DESCRIPTION)
    add = command.add_argument
    add("--data", type=path_argument, metavar="FILE.npz", help="the images (default: scikit-learn's digits)")
    add("--channels", choices=CHANNELS, help="where the channels of the images are (default: detected)")
    add_out(command, needed=True)
    add(
        "--posterior", choices=POSTERIORS, default="nsf",
        help='the posterior family; "gaussian" gives the standard VAE (default nsf)',
    )  # fmt: skip
    add("--prior", choices=PRIORS, default="nsf", help='the prior; "normal" gives the standard VAE (default nsf)')
    add("--layers", type=whole_number, default=4, metavar="N", help="layers of the posterior's flow (default 4)")
    add("--latent", type=whole_number, default=8, metavar="D", help="the dimension of the latent space (default 8)")
    add("--network", choices=NETWORKS, default="dense", help="the encoder and decoder (default dense)")
    add(
        "--likelihood", choices=LIKELIHOODS, default="bernoulli",
        help="the likelihood of a pixel (default bernoulli: each batch draws black and white pixels from gray levels)",
    )  # fmt: skip
    add(
        "--levels",
        type=whole_number,
        default=256,
        metavar="N",
        help="gray levels of the categorical likelihood (default 256)",
    )
    add("--epochs", type=whole_number, default=300, metavar="N", help="the largest number of epochs (default 300)")
    add(
        "--warmup",
        type=whole_number,
        default=20,
        metavar="N",
        help="epochs until the KL term has full weight (default 20)",
    )
    add(
        "--importance", type=whole_number, default=500, metavar="N",
        help="importance samples per test image for the estimate of log p(x) (default 500)",
    )  # fmt: skip
    add_seed(command)
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, console: Console) -> int:
    for name in ("latent", "epochs", "importance", "levels"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, but is {getattr(options, name)}.")
    check_folder(options.out, FILES, force=options.force)
    try:
        return _train_and_evaluate(options, console)
    except UserError:
        raise
    except Exception as error:
        raise user_error(error, str(options.data or "digits"), "training") from error


def _train_and_evaluate(options: argparse.Namespace, console: Console) -> int:
    """Train; write the model; then evaluate it and write the rest."""
    # Imported late, because JAX takes a while to import, and errors in the arguments should appear at once.
    import jax.random as jr
    import numpy as np

    from pushforward.reports.summary import text_table
    from pushforward.reports.vae import EVALUATION_HEAD, evaluation_rows, write_image_grid
    from pushforward.vae import Bernoulli, Categorical, Gaussian, build, evaluate, fit_vae
    from pushforward.vae.data import binarized, digits, load_images, with_test_images
    from pushforward.vae.layout import find_channels
    from pushforward.vae.pictures import all_pictures

    images = digits()[0] if options.data is None else load_images(options.data)
    channels = find_channels(images["train"].shape[1:], options.channels)
    images = with_test_images(images, FRACTION, options.seed)
    categorical = Categorical(17 if options.data is None and options.levels == 256 else options.levels)
    likelihood = {"bernoulli": Bernoulli(), "categorical": categorical, "gaussian": Gaussian()}[options.likelihood]
    gray = any(np.any((x > 0) & (x < 1)) for x in images.values())
    binarize = options.likelihood == "bernoulli" and gray
    for x in () if binarize else images.values():
        likelihood.check(x)
    if channels is not None and not options.quiet:
        console.print(f"the images have shape {images['train'].shape}, with channels {channels}", soft_wrap=True)
    model = build(
        images["train"].shape[1:], key=jr.key(options.seed), dim=options.latent, posterior=options.posterior,
        prior=options.prior, num_layers=options.layers, network=options.network, likelihood=likelihood,
        channels=channels,
    )  # fmt: skip
    results = Results(str(options.data or "digits"), options.out)
    options.results.append(results)
    with results.fit(), folder(options.out):
        model, history = fit_vae(
            images["train"], key=jr.key(options.seed), vae=model, validation=images.get("valid", FRACTION),
            binarize=binarize, warmup=options.warmup, max_epochs=options.epochs,
            checkpoint=options.out / CHECKPOINT, progress=not options.quiet,
        )  # fmt: skip
        # Save first, so that an error in the evaluation does not lose the result of the training.
        model.save(options.out / MODEL)
    results.written.append(MODEL)
    if results.interrupted:
        console.print(f"the same command continues the training from {options.out / CHECKPOINT}", soft_wrap=True)
    # The first evaluation is before training.
    epochs = len(history.evaluations) - 1
    test = np.asarray(images["test"], np.float32)
    if binarize:
        test = binarized(test, options.seed)
    key, picture_key = jr.key(options.seed + 1), jr.key(options.seed + 2)
    evaluation = results.attempt(
        "the model was not evaluated, so there is no report",
        lambda: evaluate(model, test, key=key, num_samples=options.importance),
    )
    if evaluation is not None:
        chosen = {name: value for name, value in vars(options).items() if isinstance(value, (str, int))}
        for name in ("command", "command_line"):
            chosen.pop(name, None)
        summary = {
            **evaluation._asdict(), "test images": len(test), "epochs": epochs, "binarized": binarize,
            "channels": channels,
            "options": chosen, "validation_elbo": (-history.series("loss")).tolist(),
        }  # fmt: skip
        results.write_summary(summary)
        page = {"evaluation": evaluation, "history": history, "command": options.command_line}
        results.write("report.html", lambda path: model.report(path, test, key=key, **page))
        console.print(f"{len(test)} test images, in nats:")
        console.print(text_table(evaluation_rows(evaluation), EVALUATION_HEAD), soft_wrap=True)
    pictures = results.attempt("there are no pictures", lambda: all_pictures(model, test, picture_key))
    for name, grid in (pictures or {}).items():
        results.write(f"{name}.png", functools.partial(write_image_grid, grid))
    if not results.exit_code:
        (options.out / CHECKPOINT).unlink(missing_ok=True)
    console.print(f"{epochs} epochs; wrote {', '.join(results.written)} to {options.out}", soft_wrap=True)
    return results.exit_code
