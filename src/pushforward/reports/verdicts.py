"""Verdicts in words, for readers who do not know the diagnostics: what to do with a result, and what to do next."""

import math
from collections.abc import Sequence
from typing import Any

from pushforward.printable import listed
from pushforward.reports.blocks import Step, Verdict


def of_posterior(diagnostics: Any, *, in_terminal: bool = False) -> Verdict:
    """The verdict on a posterior.

    Args:
        diagnostics: an object with the attributes of `pushforward.Diagnostics`.
        in_terminal: whether the reader works in the terminal, so that the next steps are commands.
    """
    word = diagnostics.verdict
    level, headline, meaning, steps = _posterior_words(diagnostics, in_terminal)
    return Verdict(level, word, headline, meaning, diagnostics.reasons, steps)


# In the terminal, the fit is in a file, without the model's code.
LOADED = """\
target = pf.Target.from_numpyro(model, **data)
posterior = pf.load("posterior.flow").reassess(target, key=jax.random.key(0))
"""
# KL is explained where it first appears. Tests compare the numbers with the thresholds of the verdict.
DISTANCE = (
    "The KL divergence is a distance between distributions in nats, the units of natural logarithms: it is 0 for equal "
    "distributions, and below 0.03 for a good fit."
)
CHAINS = "chains = posterior.refine(jax.random.key(1))\nchains.verdict, chains.reasons"


def _posterior_words(d: Any, in_terminal: bool) -> tuple[Any, str, str, Sequence[Step]]:
    refine = Step(
        "Let Markov chains correct the fit: they start from it, and are exact if their own verdict is good.",
        (LOADED if in_terminal else "") + CHAINS,
    )
    if d.verdict == "good":
        meaning = (
            "The fit and your model's posterior agree so closely that draws of the fit can stand for draws of the "
            "posterior. The verdict allows means that are off by 0.1 standard deviations and standard deviations that "
            f"are off by 5 %, as far as the diagnostics can measure them. {DISTANCE} A good verdict says that the "
            "computation is right, not that the model describes the data; check that with predictions."
        )
        draw = _draw("", "draws = posterior.sample(jax.random.key(1), 4000)", in_terminal)
        check = Step(
            "Compare data that the model predicts (posterior_predictive) with your data (observed_data). A NumPyro "
            "model draws them:",
            "data = posterior.to_arviz(jax.random.key(2), predictive=True)\narviz.plot_ppc(data)",
        )
        if in_terminal:
            check = Step(
                "Compare data that the model predicts with your data: pushforward fit … --predictive writes both into "
                "posterior.nc, as posterior_predictive and observed_data.",
                'arviz.plot_ppc(arviz.from_netcdf("posterior.nc"))',
            )
        return "good", "You can use these draws.", meaning, (draw, check)
    if d.verdict == "reweight":
        meaning = (
            "The fit is near your model's posterior, but not near enough to use its draws as they are. Each draw has a "
            "weight, the posterior's density divided by the fit's, and weighted draws correct the difference. The "
            f"table and the plots below are already weighted. {DISTANCE}"
        )
        draw = _draw(" --resample", "draws = posterior.resample(jax.random.key(1), 4000)", in_terminal)
        return "caution", "You can use these draws after weighting.", meaning, (draw, refine)
    headline = "Do not use these draws."
    if not d.num_draws:
        meaning = "The fit was stopped before its quality was measured, so nothing is known about its draws."
        again = Step("Fit again, and let it finish. With checkpoint=FILE, a fit that was stopped continues.")
        return "bad", headline, meaning, (again,)
    if not d.ess > 0:
        meaning = (
            "The model assigns no probability to any draw of the fit, so the fit says nothing about the posterior."
        )
        check = Step("Check the model's log-density: it must be finite where its parameters can be.")
        support = Step("Declare bounded parameters as such, by their prior or by Target(..., support=...).")
        return "bad", headline, meaning, (check, support)
    meaning = (
        "The fit differs from your model's posterior, or misses a part of it, by more than weights can correct. Means "
        "and intervals of these draws can be wrong, even if they look smooth and plausible. A weight is the "
        f"posterior's density at a draw, divided by the fit's. {DISTANCE}"
    )
    budget = "--budget 20000000" if in_terminal else "pf.fit_posterior(target, key=key, budget=20_000_000)"
    steps = [
        Step("Read the reasons above: where one of them names a remedy, begin with it."),
        Step(
            "If groups share a scale (theta ~ Normal(mu, tau)), write the model in its non-centered form "
            "(z ~ Normal(0, 1), theta = mu + tau z). Funnels, the most frequent cause, then disappear."
        ),
        refine,
        Step(
            "If parameters can change roles (labels of mixture components), order them, so that one solution is left."
        ),
        Step("If the fit ended at its budget, give it more.", budget),
    ]
    return "bad", headline, meaning, steps


def _draw(option: str, call: str, in_terminal: bool) -> Step:
    """How to get draws, weighted ones with an option of the command."""
    if in_terminal:
        command = f"pushforward sample posterior.flow --num 4000{option} --out draws.csv"
        return Step(
            "Use the draws in posterior.nc (for ArviZ), or, in the folder of this page, make a table of draws.", command
        )
    text = "Use weighted draws, not those of sample()." if option else "Draw as many samples as you need."
    return Step(text, call)


def of_chains(verdict: str, reasons: Sequence[str]) -> Verdict:
    """The verdict on Markov chains.

    Args:
        verdict: "good" or "unreliable".
        reasons: its reasons.
    """
    if verdict == "good":
        meaning = "Chains that started at different points agree, so their draws can stand for draws of the posterior."
        steps = (Step("Use the draws of all chains.", "chains.draws"),)
        return Verdict("good", verdict, "You can use these draws.", meaning, reasons, steps)
    meaning = "The chains have not reached the same distribution, so their draws do not represent the posterior."
    steps = (
        Step("Run them for longer.", "posterior.refine(key, num_warmup=2000, num_samples=4000)"),
        Step("If trajectories diverge, write the model in another form, such as the non-centered one."),
    )
    return Verdict("bad", verdict, "Do not use these draws.", meaning, reasons, steps)


def of_amortized() -> Verdict:
    """The page of an amortized posterior has no verdict on data sets, because it has seen none."""
    meaning = (
        "This fit answers for all data sets that resemble those it was trained on. Its quality differs between them, "
        "so each of your data sets has a verdict of its own."
    )
    steps = (
        Step(
            "Before you use the draws for a data set, look at its verdict.",
            "posterior = fitted.posterior(key, data)\nposterior.report('data.html')",
        ),
        Step("Check the calibration over simulated data sets.", "fitted.ranks(key, truths, data).p_values()"),
    )
    return Verdict("caution", "one for each data set", "Ask for the verdict of each data set.", meaning, (), steps)


# What a density without test rows is evaluated on.
VALIDATION_ROWS = "validation rows"


def of_density(evaluation: Any, warnings: Sequence[str], *, in_terminal: bool = False) -> Verdict:
    """The verdict on a density: how its scores compare with those of simple densities, and whether it is calibrated.

    Args:
        evaluation: an object with the attributes of `pushforward.density.Evaluation`.
        warnings: the warnings of the fit.
        in_terminal: whether the reader works in the terminal, so that the next steps are commands.
    """
    rows = evaluation.rows_label
    flow, others = evaluation.scores["flow"], {n: s for n, s in evaluation.scores.items() if n != "flow"}
    reasons = []
    worse = not math.isfinite(flow.mean)
    nats = "nats (units of natural logarithms)"
    for name, score in others.items():
        gain = flow.mean - score.mean
        noise = flow.standard_error + score.standard_error
        worse |= not gain >= -noise
        words = "higher than" if gain >= 0 else "lower than"
        reasons.append(f"The log-likelihood of the {rows} is {abs(gain):.3g} {nats} per row {words} that of a {name}.")
        nats = "nats"
    if not others:
        reasons.append(
            f"The log-likelihood of the {rows} is {flow.mean:.4g} {nats} per row; nothing to compare it with."
        )
    wrong = evaluation.miscalibrated
    reasons.append(
        f"In {listed(wrong, 10)}, values lie below the density's quantiles significantly more or less often than they "
        "should."
        if wrong
        else "The values of each column lie below the density's quantiles as often as they should, up to chance."
    )
    use = Step("Draw new rows, and compute densities.", "density.sample(key, (1000,))\ndensity.log_prob(x)")
    if in_terminal:
        use = Step("Draw new rows.", "pushforward sample density.flow --num 1000 --out draws.csv")
    more = Step("Use more rows, or declare the supports of bounded, circular and discrete columns, then fit again.")
    look = Step("Look at these columns in the plots below: where draws and data differ, do not rely on the density.")
    if evaluation.num_rows < 100:
        reasons.append(f"There are only {evaluation.num_rows} {rows}, so these comparisons are rough.")
    if worse:
        meaning = (
            f"A simpler density describes the {rows} better, or this density is zero or not finite at some of them."
        )
        return Verdict("bad", "unreliable", "Do not rely on this density.", meaning, reasons, (more, look))
    if wrong or warnings:
        meaning = "There are doubts about this density."
        if others:
            meaning = f"No simpler density describes the {rows} clearly better, but there are doubts."
        return Verdict("caution", "with care", "Use this density with care.", meaning, reasons, (look, more, use))
    if not others:
        meaning = "No test of its columns contradicts the density, but it was compared with no other density."
        compare = Step("Compare this log-likelihood with that of other densities of the same rows: higher is better.")
        return Verdict("caution", "with care", "Use this density with care.", meaning, reasons, (compare, use))
    meaning = (
        f"No simpler density describes the {rows} clearly better, and no test of its columns contradicts the density."
    )
    steps = [use]
    if rows == VALIDATION_ROWS:
        meaning += " Validation rows decide when training ends, so new rows can be described a little worse."
        code = "density.report('density.html', density.evaluate(x_test))"
        steps.append(Step("For a test by rows that the fit did not use at all, evaluate it on some.", code))
    return Verdict("good", "good", "You can use this density.", meaning, reasons, steps)


def unevaluated_density(*, in_terminal: bool = False) -> Verdict:
    """The page of a density that was loaded from a file: files keep no rows to compare it with.

    Args:
        in_terminal: whether the reader works in the terminal.
    """
    meaning = "The file holds the density, but no rows to compare it with, so this page cannot say how good it is."
    code = "pushforward report density.flow --data test.csv"
    if not in_terminal:
        code = "density.report('density.html', density.evaluate(x_test))"
    evaluate = Step("Evaluate it on rows that it was not fitted to.", code)
    return Verdict("caution", "not evaluated", "Evaluate this density before you rely on it.", meaning, (), (evaluate,))


def unevaluated_vae(*, in_terminal: bool = False) -> Verdict:
    """The page of a VAE without test images.

    Args:
        in_terminal: whether the reader works in the terminal.
    """
    meaning = "There are no test images to evaluate the model on, so this page cannot say how good it is."
    code = (
        "pushforward report model.vae --data images.npz" if in_terminal else "vae.report('vae.html', images, key=key)"
    )
    evaluate = Step("Evaluate it on images that it was not trained on.", code)
    return Verdict("caution", "not evaluated", "Evaluate this model before you rely on it.", meaning, (), (evaluate,))


# In nats per image: posteriors with this mean divergence from the exact ones are near them.
MAX_VAE_GAP = 2.0
# With fewer draws per image, importance sampling hardly sees what the posterior misses.
MIN_IMPORTANCE_DRAWS = 100


def of_vae(evaluation: Any, *, in_terminal: bool = False) -> Verdict:
    """The verdict on a VAE: whether its posterior is close to the exact one, and whether its latent space is used.

    Args:
        evaluation: an object with the attributes of `pushforward.vae.Evaluation`.
        in_terminal: whether the reader works in the terminal, where the model is in a file.
    """
    gap, noise, active = evaluation.gap, 2 * evaluation.gap_se, evaluation.active_units
    if not math.isfinite(gap):
        meaning = "The log-likelihood or the ELBO of test images is NaN or infinite."
        check = Step("Check that the likelihood can generate the test images, and that training converged.")
        return Verdict("bad", "not finite", "Do not rely on this model.", meaning, (), (check,))
    above = "above" if gap >= 0 else "below"
    reasons = (
        f"By importance sampling with {evaluation.num_samples} draws per image, the log-likelihood of test images is "
        f"{abs(gap):.3g} ± {noise:.2g} nats per image {above} the ELBO. The exact log-likelihood is above it, by the "
        "distance of the posteriors of latent vectors from the exact ones.",
        *(() if active is None else (f"{active} latent coordinates depend on the image.",)),
    )
    compare = Step("Compare this NLL with that of other models of the same test images: lower is better.")
    load = 'model = pf.load("model.vae")\n' if in_terminal else ""
    draw = Step("Draw images.", f"{load}model.sample(jax.random.key(0), (16,), expected=True)")
    wider = Step("Use a more flexible posterior, or more layers, if the gap matters.")
    if active is None:
        meaning = "One image does not show whether latent vectors depend on the image, nor how much the NLL varies."
        more = Step("Evaluate the model on more test images.")
        return Verdict("caution", "unclear", "Evaluate this model on more images.", meaning, reasons, (more,))
    if not active:
        meaning = (
            "The posterior does not depend on the image, so latent vectors say nothing about it. Often the decoder "
            "ignores them, or the encoder has not learned to find those that the decoder needs."
        )
        warm = Step("Increase the KL term slowly (warmup=50), or keep some of it free (free_bits).")
        return Verdict("bad", "unused", "Latent vectors do not depend on the image.", meaning, reasons, (warm,))
    if gap - noise > MAX_VAE_GAP:
        meaning = "The posteriors of latent vectors are far from the exact ones, so the ELBO underrates the model."
        return Verdict(
            "caution", "loose", "Compare models by the NLL, not by the ELBO.", meaning, reasons, (wider, compare)
        )
    if evaluation.num_samples < MIN_IMPORTANCE_DRAWS or not abs(gap) + noise < MAX_VAE_GAP:
        meaning = "These draws and images are too few to say how far the posteriors are from the exact ones."
        more = Step(f"Evaluate with more draws per image, at least {MIN_IMPORTANCE_DRAWS}, or with more test images.")
        return Verdict("caution", "unclear", "The NLL is not known well enough.", meaning, reasons, (more,))
    meaning = (
        "The posteriors of latent vectors are near the exact ones, and the latent space is used. How well the model "
        "describes images is another question, which its NLL answers: minus the log-likelihood of test images."
    )
    return Verdict("good", "consistent", "The parts of this model fit together.", meaning, reasons, (compare, draw))
