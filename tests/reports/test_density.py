"""Figures and tables of densities: gaps in learning curves, and names with brackets, dollars and underscores."""

import io

import numpy as np
import pytest

from pushforward.reports import calibration, charts, density, figures
from pushforward.training.history import Evaluation, History

RNG = np.random.default_rng(0)


def history(curve):
    records = (Evaluation("training", 0, step, 0.0, loss, np.nan, np.nan, 0, {}) for step, loss in curve)
    return History(np.zeros(0), tuple(records))


def test_learning_curves_with_gaps():
    for curve in ([(1, np.nan), (2, 3.0), (3, np.inf), (4, 2.0)], [(1, np.nan)], []):
        figure = figures.plot_learning(history(curve), "nats")
        figure.savefig(io.BytesIO(), format="png")
    best = figures.plot_learning(history([(1, np.nan), (2, 3.0), (4, 2.0)]), "nats").axes[0].lines[1]
    assert best.get_xdata()[0] == 4


@pytest.mark.parametrize("log_evidence", [-120.0, -99.0, np.nan])
def test_the_end_of_a_learning_curve_and_the_log_evidence_are_inside_the_axis(log_evidence):
    curve = history([*enumerate((105.0, 101.0, 100.5, 100.2, 100.0))])
    figure = figures.plot_learning(curve, "nats", log_evidence).axes[0].get_ylim()
    assert figure == tuple(charts.training(curve, "nats", log_evidence)["y"]["range"])
    low, high = figure
    assert low < min(-100.0, np.nan_to_num(log_evidence, nan=-100.0)) and high > max(-100.0, log_evidence, -100.0)


def test_names_with_brackets_and_dollars():
    """Matplotlib's formulas are not looked for in names, nor are those with an underscore hidden."""
    columns = {name: RNG.normal(size=100) for name in ("weight [kg]", "rate [/s]", "$x^$", "_hidden")}
    text = str(density.compare(columns, columns, "data [/a].csv"))
    assert all(name in text for name in (*columns, "data [/a].csv"))
    pit = {name: RNG.uniform(size=100) for name in columns}
    calibrated = calibration.plot_calibration(pit)
    for figure in (figures.plot_pairs(columns, columns), figures.plot_pairs(columns), calibrated):
        figure.savefig(io.BytesIO(), format="png")
    assert [text.get_text() for text in calibrated.axes[0].get_legend().get_texts()] == list(columns)
