"""The summary, figures and page of a posterior, from its stored draws."""

import html

import numpy as np
import pytest

from posterior_cases import gaussian_fit


@pytest.mark.parametrize(("loc", "scale", "verdict"), [(0.0, 1.0, "good"), (0.4, 1.2, "reweight")])
def test_summary_is_of_the_posterior_and_needs_no_key(loc, scale, verdict):
    posterior = gaussian_fit(loc, scale)
    assert posterior.diagnostics.verdict == verdict
    summary = posterior.summary()
    assert set(summary) == {"a[0]", "a[1]"}
    error = 5 / np.sqrt(posterior.diagnostics.ess)
    for row in summary.values():
        assert row.mean == pytest.approx(0.0, abs=error)
        assert row.sd == pytest.approx(1.0, abs=error)
        assert row.median == pytest.approx(0.0, abs=2 * error)
        assert row.q05 == pytest.approx(-1.645, abs=3 * error) and row.q95 == pytest.approx(1.645, abs=3 * error)
    assert str(posterior.summary()) == str(summary) and f"verdict: {verdict}" in str(summary)
    assert ("importance weights" in str(summary)) == (verdict == "reweight")
    draws = posterior.stored_draws(3000)["a"]
    assert draws.shape == (3000, 2) and (len(np.unique(draws[:, 0])) == 3000) == (verdict == "good")


def test_page_and_figures(tmp_path):
    posterior = gaussian_fit(0.4, 1.2)
    posterior.report(tmp_path / "report.html", title="a < b")
    page = (tmp_path / "report.html").read_text()
    assert page.count('<figure class="chart"') == 2 and "a &lt; b" in page and "Verdict: reweight" in page
    assert all(html.escape(reason) in page for reason in posterior.diagnostics.reasons)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "<td>a[0]" in posterior._repr_html_()
    assert posterior.plot("training").axes[0].get_ylabel() == "ELBO (nats)"
    assert len(posterior.plot().axes) == 4 and len(posterior.plot("marginals").axes) == 2
    with pytest.raises(ValueError, match="'trace'"):
        posterior.plot("trace")
