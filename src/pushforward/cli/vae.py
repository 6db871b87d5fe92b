"""`pushforward vae`: a variational autoencoder of images."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pushforward.cli.terminal import UserError, add_command, check_writable, user_error

DESCRIPTION = """\
Train a variational autoencoder whose posterior and prior are normalizing flows, and judge it by images that it has not
seen.

FILE.npz holds images in [0, 1], or of 8 bits: an array "train" of shape (n, height, width), and "valid" and "test" if
there are any; without a file, scikit-learn's handwritten digits.

DIR will hold model.vae (for pushforward.load), checkpoint.vae, summary.json, and reconstructions.png, samples.png,
traversals.png and interpolations.png. If training is interrupted, the same command goes on from the checkpoint.
"""
LIKELIHOODS = ("bernoulli", "categorical", "gaussian")
CHECKPOINT = "checkpoint.vae"
HELD_OUT = 0.1
SHOWN = 8


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `vae`."""
    from pushforward.vae.posteriors import POSTERIORS, PRIORS
    from pushforward.vae.recipe import NETWORKS

    command = add_command(commands, "vae", "train a variational autoencoder of images", DESCRIPTION)
    add = command.add_argument
    add("--data", type=Path, metavar="FILE.npz", help="the images; scikit-learn's digits if left out")
    add("--out", required=True, type=Path, metavar="DIR", help="the folder for the results")
    add("--posterior", choices=POSTERIORS, default="nsf", help='default nsf; "gaussian" is the plain VAE\'s')
    add("--prior", choices=PRIORS, default="nsf", help='default nsf; "normal" is the plain VAE\'s')
    add("--layers", type=int, default=4, metavar="N", help="of the posterior's flow (default 4)")
    add("--latent", type=int, default=8, metavar="D", help="the dimension of the latent space (default 8)")
    add("--network", choices=NETWORKS, default="dense", help="of encoder and decoder (default dense)")
    add(
        "--likelihood", choices=LIKELIHOODS, default="bernoulli",
        help="of a pixel (default bernoulli: greys are drawn as black or white, afresh every epoch)",
    )  # fmt: skip
    add("--levels", type=int, default=256, metavar="N", help="grey levels of the categorical likelihood (default 256)")
    add("--epochs", type=int, default=300, metavar="N", help="passes through the images at most (default 300)")
    add("--warmup", type=int, default=20, metavar="N", help="epochs until the KL term has its full weight (default 20)")
    add("--importance", type=int, default=500, metavar="N", help="draws an image for its likelihood (default 500)")
    add("--seed", type=int, default=0, help="for all randomness (default 0)")
    add("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, console: Console) -> int:
    for name in ("latent", "epochs", "importance", "levels"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be 1 or more, but is {getattr(options, name)}.")
    check_writable(options.out)
    try:
        summary = _train(options)
    except (ValueError, ImportError, FloatingPointError) as error:
        raise user_error(error, str(options.data or "digits"), "training") from error
    except KeyboardInterrupt:
        if not (options.out / CHECKPOINT).exists():
            raise
        print(f"pushforward: interrupted; the same command goes on from {options.out / CHECKPOINT}", file=sys.stderr)
        return 130
    table = Table(title=f"{summary['test images']} images that were not seen, in nats")
    for head in ("", "mean", "standard error"):
        table.add_column(head, justify="right" if head else "left")
    table.add_row("ELBO", f"{summary['elbo']:.3f}", f"{summary['elbo_se']:.3f}")
    table.add_row(f"NLL, {options.importance} draws", f"{summary['nll']:.3f}", f"{summary['nll_se']:.3f}")
    table.add_row("KL", f"{summary['kl']:.3f}", "")
    if summary["bits_per_dim"] is not None:
        table.add_row("NLL, bits a pixel", f"{summary['bits_per_dim']:.3f}", "")
    console.print(table)
    console.print(f"{summary['active_units']} of {options.latent} latent coordinates tell something about the image.")
    console.print(f"{summary['epochs']} epochs; wrote the model and its pictures to {options.out}", soft_wrap=True)
    return 0


def _train(options: argparse.Namespace) -> dict:
    """Train, evaluate and write; returns the summary."""
    # JAX is slow to import: errors in the arguments come before it.
    import jax.random as jr
    import numpy as np

    from pushforward.serialization import save
    from pushforward.vae import Bernoulli, Categorical, Gaussian, build, evaluate, fit_vae
    from pushforward.vae.data import digits, load_images

    images = digits()[0] if options.data is None else load_images(options.data)
    images = _checked(images)
    split_at = round(HELD_OUT * len(images["train"]))
    if "test" not in images:
        if split_at < 1:
            raise ValueError(f"there are {len(images['train'])} images; 10 are needed at least.")
        rows = np.random.default_rng(options.seed).permutation(len(images["train"]))
        images["train"], images["test"] = images["train"][rows[split_at:]], images["train"][rows[:split_at]]
    categorical = Categorical(17 if options.data is None and options.levels == 256 else options.levels)
    likelihood = {"bernoulli": Bernoulli(), "categorical": categorical, "gaussian": Gaussian()}[options.likelihood]
    grey = any(np.any((x > 0) & (x < 1)) for x in images.values())
    binarize = options.likelihood == "bernoulli" and grey
    for x in () if binarize else images.values():
        likelihood.check(x)
    model = build(
        images["train"].shape[1:], key=jr.key(options.seed), dim=options.latent, posterior=options.posterior,
        prior=options.prior, num_layers=options.layers, network=options.network, likelihood=likelihood,
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    model, history = fit_vae(
        images["train"], key=jr.key(options.seed), vae=model, validation=images.get("valid", HELD_OUT),
        binarize=binarize, warmup=options.warmup, max_epochs=options.epochs,
        checkpoint=options.out / CHECKPOINT, progress=not options.quiet,
    )  # fmt: skip
    # What took long is kept before anything else can fail.
    save(options.out / "model.vae", model)
    test = np.asarray(images["test"], np.float32)
    if binarize:
        test = (np.random.default_rng(options.seed).random(test.shape) < test).astype(np.float32)
    found = evaluate(model, test, key=jr.key(options.seed + 1), num_samples=options.importance)
    chosen = {name: value for name, value in vars(options).items() if isinstance(value, (str, int))}
    chosen.pop("command", None)
    summary = {
        **found._asdict(), "test images": len(test), "epochs": len(history.loss), "binarised": binarize,
        "options": chosen, "validation_elbo": history.validation_elbo,
    }  # fmt: skip
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    _draw(model, test, options.out, jr.key(options.seed + 2))
    return summary


def _checked(images: dict) -> dict:
    """All arrays, before the long training on one of them."""
    from pushforward.vae.data import check_images

    shape = images["train"].shape[1:]
    for name, x in images.items():
        if x.ndim not in (3, 4):
            raise ValueError(
                f'the array "{name}" must have shape (n, height, width), or (n, channels, height, width), but has '
                f"shape {x.shape}."
            )
        if x.shape[1:] != shape:
            raise ValueError(f'the images of "{name}" have shape {x.shape[1:]}, but those of "train" have {shape}.')
    checked = {}
    for name, x in images.items():
        try:
            checked[name] = check_images(x)
        except ValueError as error:
            raise ValueError(f'the array "{name}": {error}') from error
    return checked


def _draw(model, test, out: Path, key) -> None:
    import equinox as eqx
    import jax.random as jr
    import numpy as np
    from matplotlib.image import imsave

    from pushforward.vae import pictures

    count = min(2 * SHOWN, len(test) // 2 * 2)
    half = count // 2
    draw = eqx.filter_jit(lambda key: model.sample(key, (SHOWN, 2 * SHOWN), expected=True))
    drawn = {
        "reconstructions": eqx.filter_jit(pictures.reconstructions)(model, test[:count], key),
        "samples": draw(jr.fold_in(key, 1)),
        "traversals": eqx.filter_jit(pictures.traversals)(model, test[0], key),
        "interpolations": eqx.filter_jit(pictures.interpolations)(model, test[:half], test[half:count], key),
    }
    for name, images in drawn.items():
        sheet = pictures.sheet(images)
        larger = max(1, 800 // max(sheet.shape[:2]))
        sheet = np.repeat(np.repeat(sheet, larger, 0), larger, 1)
        sheet = sheet if sheet.ndim == 3 else np.repeat(sheet[..., None], 3, -1)
        imsave(out / f"{name}.png", sheet)
