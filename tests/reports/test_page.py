"""Pages as readers open them: what is inside, what is escaped, and what a browser does with them."""

import json
import re
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from browser import CHROMIUM, chromium
from pushforward.flows.stack import standard_normal
from pushforward.posterior.verdict.diagnostics import unassessed
from pushforward.reports import charts
from pushforward.reports.blocks import Chart, Section
from pushforward.reports.page import page
from pushforward.training import Evaluation, History

MARKUP = "<img src=x onerror=alert(1)>&{{7*7}}</script>%{x}$y$"


def posterior_of(dim, name="a", scale=1.0, curve=((0, 1.0, 3.0), (250, 2.0, 0.1)), num=2000):
    """A posterior of N(0, I) by N(0, scale^2 I), without training."""
    target = pf.Target(lambda x: -0.5 * jnp.sum(x[name] ** 2), {name: jnp.zeros(dim)})
    flow = pf.Flow(standard_normal(dim), pf.bijections.Triangular(dim, jnp.zeros(dim), scale * jnp.eye(dim)))
    u, log_q = flow.sample_and_log_prob(jr.key(2), (num,))
    log_weights = np.asarray(jax.vmap(target)(u) - log_q)
    records = tuple(Evaluation("flow", 0, step, seconds, loss, 0.2, 1.0, 0, {}) for step, seconds, loss in curve)
    diagnostics = pf.diagnose(log_weights, draws=np.asarray(u))
    return pf.Posterior.from_draws(
        target, flow, diagnostics, History(np.zeros(250), records), np.asarray(u), log_weights
    )


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports of a good fit, one with many parameters, one with markup in names, a bad and an unfinished one."""
    folder = tmp_path_factory.mktemp("pages")
    bad = posterior_of(2, scale=0.05)
    assert bad.diagnostics.verdict == "unreliable"
    unfinished = pf.Posterior.from_draws(
        bad.target, bad.flow, unassessed(), History(np.zeros(0), ()), np.zeros((0, 2)), np.zeros(0)
    )
    made = {
        "good": posterior_of(3), "many": posterior_of(1000, num=1000), "markup": posterior_of(2, MARKUP),
        "bad": bad, "unfinished": unfinished,
    }  # fmt: skip
    for name, posterior in made.items():
        posterior.report(folder / f"{name}.html", title=MARKUP if name == "markup" else name, command=f"run {name}")
    return folder


NAMES = ("good", "many", "markup", "bad", "unfinished")


@pytest.mark.parametrize("name", NAMES)
def test_structure(pages, name):
    """One verdict, headings in order, alternative texts, data that parse, and nothing from elsewhere."""
    text = (pages / f"{name}.html").read_text()
    tags = Tags(text).found
    assert len(text) < (7e6 if name == "many" else 3e6)
    assert [tag for tag, _ in tags].count("h1") == 1 and ("html", {"lang": "en"}) in tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    addresses = [a[key] for _, a in tags for key in ("src", "href") if key in a]
    assert all(address.startswith("data:") for address in addresses)
    assert all(a.get("alt") for tag, a in tags if tag == "img")
    assert all(a.get("aria-label") for tag, a in tags if "plot" in a.get("class", "").split())
    for content in re.findall(r'<script type="application/json">(.*?)</script>', text, re.S):
        json.loads(content, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert f"run {name}" in text and "What to do next" in text


def test_markup_is_text(pages):
    text = (pages / "markup.html").read_text()
    assert "<img" not in text and "49" not in re.findall(r"<h1>(.*?)</h1>", text)[0]
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_words_for_each_verdict(pages):
    texts = {name: (pages / f"{name}.html").read_text() for name in NAMES}
    assert "You can use these draws." in texts["good"] and "pushforward sample posterior.flow" in texts["good"]
    assert "Do not use these draws." in texts["bad"] and "non-centered" in texts["bad"]
    assert (
        "stopped before its quality was measured" in texts["unfinished"]
        and '<table class="summary">' not in texts["unfinished"]
    )
    assert texts["many"].count('type="checkbox"') == 1000


def test_pages_without_plots_have_no_script():
    assert "plotly" not in page("title", "Result", None, [Section("Text", [])])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)")
def test_in_a_browser(pages, tmp_path):
    """No errors, no requests, no blank panel; controls choose, filter and order; dark, narrow and printed pages."""
    with chromium(tmp_path / "profile") as browser:
        for name, width, scheme in [*((n, 1200, "light") for n in NAMES), ("good", 360, "dark"), ("bad", 360, "dark")]:
            browser.open(pages / f"{name}.html", width=width, scheme=scheme)
            assert browser.requests == [f"file://{pages / name}.html"] and not browser.complaints
            wide = browser.js("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, f"{name} is {wide} pixels too wide"
            shares = "[...document.querySelectorAll('button')].some(b => /share|cloud/i.test(b.outerHTML))"
            assert not browser.js(shares)  # Plotly can send charts to a server
            blank = "[...document.querySelectorAll('.main-svg')].filter(svg => svg.getBoundingClientRect().height < 50)"
            assert browser.js(f"{blank}.length") == 0
            plots = "document.querySelectorAll('.marginals .bars path, .chart .trace path').length"
            assert name == "unfinished" or browser.js(plots) > 50
        _check_controls(browser, pages)


def _check_controls(browser, pages):
    browser.open(pages / "many.html")
    titles = "[...document.querySelectorAll('.marginals figcaption b')].map(b => b.textContent).join(' ')"
    assert browser.js(titles) == "a[0] a[1] a[2] a[3] a[4] a[5]"
    browser.js("""{
        const filter = document.querySelector('.filter');
        filter.value = 'a[99'; filter.dispatchEvent(new Event('input'));
        document.querySelector('.first').click();
    }""")
    browser.wait_for(f"{titles} === 'a[99] a[990] a[991] a[992] a[993] a[994]'")
    assert browser.js("document.querySelector('.count').textContent") == "11 of 1000 listed, 6 chosen"
    browser.js("document.querySelectorAll('thead button')[1].click()")
    means = "[...document.querySelectorAll('.summary tbody tr')].map(row => Number(row.cells[2].textContent))"
    assert browser.js(means) == sorted(browser.js(means))
    browser.wait_for("document.querySelectorAll('.pairs .scatterlayer .trace').length === 10")
    assert "first 5" in browser.js("document.querySelector('.omitted').textContent")  # 6 are chosen
    before = browser.js("getComputedStyle(document.body).backgroundColor")
    browser.js("document.getElementById('theme').click()")
    assert browser.js("getComputedStyle(document.body).backgroundColor") != before
    browser.js("document.querySelector('.none').click()")
    browser.wait_for("document.querySelectorAll('.marginals figure').length === 0")
    assert len(browser.call("Page.printToPDF")["data"]) > 50_000 and not browser.complaints


def test_weights_and_curves_without_numbers():
    """Weights of zero, equal weights, and histories with gaps give charts that are JSON."""
    for values in (np.ones(5), np.array([0.0, 1.0, 1e-300]), np.array([1.0, 0.0])):
        json.dumps(charts.weights(values), allow_nan=False)
    for curve in ([(1, 1.0, np.nan), (2, 1.0, 3.0)], [(1, 1.0, np.inf)], []):
        records = tuple(Evaluation("a", 0, step, seconds, loss, 0.2, 1.0, 0, {}) for step, seconds, loss in curve)
        json.dumps(charts.training(History(np.zeros(0), records), "nats", np.inf), allow_nan=False)
    columns = {"x": np.array([1.0, np.nan, np.inf, 2.0]), "huge": 1e9 + np.arange(4.0), "none": np.full(4, np.nan)}
    json.dumps(charts.draws(columns), allow_nan=False)
    assert page("t", "k", None, [Section("s", [Chart("c", charts.weights(np.ones(3)), "text")])]).count("<figure") == 1
