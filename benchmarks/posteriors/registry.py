"""The posteriors by name: model, data, reference draws and log evidence, read in the same way.

    problem = load("arK", find_data())
    target = pf.Target.from_numpyro(problem.model, **problem.data)

The reference's log evidence is that of its own densities. A prior that NumPyro normalizes and the reference does not
(a half-Cauchy instead of a Cauchy on the half line) adds a constant, which is `Case.offset`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, log_ndtr

from benchmarks.posteriors import models
from benchmarks.posteriors.data import read_draws, read_german_credit, read_json
from pushforward import examples

LOG_2 = math.log(2)
Arrays = dict[str, np.ndarray]


class Problem(NamedTuple):
    """A posterior and its reference values.

    Attributes:
        model: a NumPyro model.
        data: its arguments.
        draws: reference draws of the variables that are compared, constrained, with a leading axis.
        sites: the same draws as values of the model's latent sites.
        log_evidence: of the model in this benchmark, in nats; None where it is unknown.
        log_evidence_se: its standard error.
    """

    model: Callable
    data: dict[str, Any]
    draws: Arrays
    sites: Arrays
    log_evidence: float | None
    log_evidence_se: float | None


class Case(NamedTuple):
    """How to build a problem from the files of a posterior.

    Attributes:
        key: the posterior's name in the reference's index; None if the index does not contain it.
        model: the NumPyro model.
        prepare: maps the contents of the data file to the arguments of the model.
        offset: maps these arguments to the log evidence of the model minus the reference's.
        sites: maps the reference's draws to the model's latent sites.
    """

    key: str | None
    model: Callable
    prepare: Callable[[dict[str, Any]], dict[str, Any]]
    offset: Callable[[dict[str, Any]], float] = lambda data: 0.0
    sites: Callable[[Arrays], Arrays] = lambda draws: draws


def load(name: str, folder: Path) -> Problem:
    """A posterior by its name in `CASES`, from the folder of the data."""
    case = CASES[name]
    if case.key is None:
        data, draws = read_german_credit(folder / "blessing")
        return Problem(case.model, data, draws, draws, None, None)
    root = folder / "posteriordb"
    entry = read_json(root / "index.json")[case.key]
    data = case.prepare(read_json(root / entry["data"]))
    draws = read_draws(root / entry["draws"])
    log_evidence = entry["log_evidence"] + case.offset(data)
    return Problem(case.model, data, draws, case.sites(draws), log_evidence, entry["log_evidence_se"])


def keep(*names: str) -> Callable[[dict], dict]:
    return lambda data: {name: data[name] for name in names}


def design(outcome: str, *terms: str | Callable[[dict], np.ndarray]) -> Callable[[dict], dict]:
    """A regression's arguments: an intercept and the terms, by name or by formula; log(name) is understood."""

    def column(data, term):
        if callable(term):
            return term(data)
        return np.log(data[term[4:-1]]) if term.startswith("log(") else data[term]

    def prepare(data):
        columns = [column(data, term) for term in terms]
        return {"x": np.column_stack([np.ones(len(columns[0])), *columns]), "y": column(data, outcome)}

    return prepare


def lags(data):
    order, y = data["K"], data["y"]
    return {"lags": np.column_stack([y[order - k : len(y) - k] for k in range(1, order + 1)]), "y": y[order:]}


def diamonds(data):
    x = data["X"][:, 1:]
    return {"x": x - x.mean(0), "y": data["Y"]}


def centred(data):
    columns = {k: data[k] - data[k].mean() for k in ("mom_hs", "mom_iq")}
    return design("kid_score", "mom_hs", "mom_iq", product("mom_hs", "mom_iq"))(data | columns)


def product(*names: str) -> Callable[[dict], np.ndarray]:
    return lambda data: math.prod(data[name] for name in names)


def age(group: int) -> Callable[[dict], np.ndarray]:
    return lambda data: 1.0 * (data["age_discrete"] == group)


NES = design(
    "partyid7", "real_ideo", "race_adj", age(2), age(3), age(4), "educ1", "gender", "income"
)  # fmt: skip
LOGVASH = design(
    "log(weight)",
    lambda d: np.log(d["diam1"] * d["diam2"] * d["canopy_height"]),
    lambda d: np.log(d["diam1"] * d["diam2"]),
    lambda d: np.log(d["diam1"] / d["diam2"]),
    "log(total_height)",
    "group",
)
LOGVOLUME = design("log(weight)", lambda d: np.log(d["diam1"] * d["diam2"] * d["canopy_height"]))
MESQUITE = design("weight", "diam1", "diam2", "canopy_height", "total_height", "density", "group")


def effects(draws: Arrays) -> Arrays:
    """Standardised effects of the schools, the sites of the model that is not centred."""
    mu, tau = draws["mu"], draws["tau"]
    return {"mu": mu, "tau": tau, "t": (draws["theta"] - mu[:, None]) / tau[:, None]}


def dirichlet_constant(data) -> float:
    return float((gammaln(data["alpha"].sum(1)) - gammaln(data["alpha"]).sum(1)).sum())


def gaussian_process_constant(data) -> float:
    gamma = 25 * math.log(4) - math.lgamma(25)
    return gamma + 2 * LOG_2 - len(data["y"]) / 2 * math.log(2 * math.pi)


def half(count: int) -> Callable[[dict], float]:
    """Half distributions are twice their full ones."""
    return lambda data: count * LOG_2


# Two of the rates lie 2 standard deviations above the bound at 0, the others one.
TRUNCATED = float(-2 * log_ndtr(2) - 2 * log_ndtr(1))

CASES = {
    "eight_schools_noncentered": Case(
        "eight_schools-eight_schools_noncentered",
        examples.eight_schools_noncentered,
        keep("sigma", "y"),
        half(1),
        effects,
    ),
    "eight_schools_centered": Case(
        "eight_schools-eight_schools_centered", examples.eight_schools_centered, keep("sigma", "y"), half(1)
    ),
    "lotka_volterra": Case(
        "hudson_lynx_hare-lotka_volterra", models.lotka_volterra, keep("y_init", "y"), lambda data: TRUNCATED
    ),
    "hmm_drive_1": Case(
        "bball_drive_event_1-hmm_drive_1",
        models.hmm_drive,
        keep("alpha", "u", "v", "tau", "rho"),
        dirichlet_constant,
    ),
    "hmm_example": Case("hmm_example-hmm_example", models.hmm_example, keep("y")),
    "arK": Case("arK-arK", models.autoregression, lags, half(1)),
    "diamonds": Case("diamonds-diamonds", models.diamonds, diamonds, half(1)),
    "earn_height": Case("earnings-earn_height", models.flat_regression, design("earn", "height")),
    "logearn_height": Case("earnings-logearn_height", models.flat_regression, design("log(earn)", "height")),
    "logearn_interaction": Case(
        "earnings-logearn_interaction",
        models.flat_regression,
        design("log(earn)", "height", "male", product("height", "male")),
    ),
    "kidscore_interaction": Case(
        "kidiq-kidscore_interaction",
        models.cauchy_regression,
        design("kid_score", "mom_hs", "mom_iq", product("mom_hs", "mom_iq")),
        half(1),
    ),
    "kidscore_momiq": Case("kidiq-kidscore_momiq", models.cauchy_regression, design("kid_score", "mom_iq"), half(1)),
    "kidscore_interaction_c": Case("kidiq_with_mom_work-kidscore_interaction_c", models.flat_regression, centred),
    "mesquite": Case("mesquite-mesquite", models.flat_regression, MESQUITE),
    "logmesquite_logvash": Case("mesquite-logmesquite_logvash", models.flat_regression, LOGVASH),
    "logmesquite_logvolume": Case("mesquite-logmesquite_logvolume", models.flat_regression, LOGVOLUME),
    "nes1972": Case("nes1972-nes", models.flat_regression, NES),
    "nes2000": Case("nes2000-nes", models.flat_regression, NES),
    "kilpisjarvi": Case(
        "kilpisjarvi_mod-kilpisjarvi", models.kilpisjarvi, keep("x", "y", "pmualpha", "psalpha", "pmubeta", "psbeta")
    ),
    "low_dim_gauss_mix": Case("low_dim_gauss_mix-low_dim_gauss_mix", models.low_dim_gauss_mix, keep("y"), half(2)),
    "gp_regr": Case("gp_pois_regr-gp_regr", models.gaussian_process, keep("x", "y"), gaussian_process_constant),
    "blr": Case("sblrc-blr", models.normal_regression, lambda data: {"x": data["X"], "y": data["y"]}, half(1)),
    "german_credit": Case(None, models.logistic_regression, lambda data: data),
}
