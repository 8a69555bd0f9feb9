"""Reports in a real browser: hostile names stay text, the explorer runs, thirty assets fit."""

import numpy as np
import pandas as pd
import pytest
from standin.hostile import HOSTILE, edges_between

from crossattn.evidence.explorer import explore_attention
from crossattn.evidence.maps import AttentionMaps
from crossattn.report import Section, leaders_section, render_report

PLAIN = [f"S{k}" for k in range(len(HOSTILE))]


def maps_of(names, heads=1):
    n = len(names)
    shares = np.random.default_rng(0).dirichlet(np.ones(4 * n), (9, heads, n))
    return AttentionMaps(shares.reshape(9, heads, n, n, 4), tuple(names), pd.RangeIndex(9))


def page_of(names):
    table = pd.DataFrame({name: [name] for name in names})
    shown = Section("Attention", explorer=explore_attention(maps_of(names)))
    sections = [
        leaders_section(edges_between(names, names[1:] + names[:1])),
        shown,
        *(Section(name, name, table=table) for name in names[:5]),
    ]
    return render_report(names[0], sections, lead=names[1], facts={name: name for name in names})


@pytest.mark.browser
def test_hostile_symbol_names_stay_text(browser, serve, tmp_path):
    for file, names in {"plain": PLAIN, "hostile": HOSTILE}.items():
        (tmp_path / f"{file}.html").write_text(page_of(names), encoding="utf-8")
    count = "$$('*').length"
    with serve(tmp_path) as address:
        browser.visit(f"{address}plain.html")
        elements = browser.evaluate(count)
        browser.visit(f"{address}hostile.html")
        assert browser.evaluate(count) == elements
        assert browser.evaluate("document.scripts.length") == 2  # the explorer's data and code
        assert browser.evaluate("$('.crossattn-explorer td').title")
        assert browser.evaluate("document.body.innerText").count("<script>alert(1)</script>") > 0
        assert browser.from_elsewhere() == []
        kinds = {event["method"] for event in browser.events}
    assert "Page.javascriptDialogOpening" not in kinds
    assert "Runtime.exceptionThrown" not in kinds


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1300, False), (390, True)])
def test_thirty_assets_can_be_read_and_operated_by_keyboard(
    browser, serve, tmp_path, accessibility, width, dark
):
    names = [f"ASSET{k:02d}" for k in range(30)]
    (tmp_path / "index.html").write_text(page_of(names), encoding="utf-8")
    with serve(tmp_path) as address:
        browser.visit(f"{address}index.html", width=width, dark=dark)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("$('.crossattn-explorer table').scrollWidth") < 900
        told = "$('input[type=range]').getAttribute('aria-valuetext')"
        assert browser.evaluate(told) == "mean of 9"
        browser.evaluate("$('input[type=range]').focus()")
        browser.press("ArrowRight", 39)
        assert browser.evaluate(told) == "window 0"
        assert accessibility(browser) == []
        assert [c for c in browser.complaints() if "favicon" not in c] == []


CELLS = """
$$('.crossattn-explorer').map(e => [...e.querySelectorAll('td')].map(cell => cell.textContent))
"""
SLIDE = """
[6, 3, 2].forEach((value, k) => { $$('input[type=range]')[k].value = value });
$('input[type=range]').dispatchEvent(new Event('input'));
$('td:nth-of-type(3)').click()
"""


@pytest.mark.browser
def test_the_sliders_of_an_explorer_leave_another_on_the_page_alone(browser, serve, tmp_path):
    maps = maps_of(PLAIN[:3], heads=2)
    page = "<!doctype html><meta charset=utf-8><link rel=icon href='data:,'>"
    (tmp_path / "index.html").write_text(page + 2 * explore_attention(maps).html)
    with serve(tmp_path) as address:
        browser.visit(f"{address}index.html")
        before = browser.evaluate(CELLS)
        browser.evaluate(SLIDE)  # window, lag, head; a pair
        first, second = browser.evaluate(CELLS)
        pair = browser.evaluate("$$('select').slice(0, 2).map(select => Number(select.value))")
        assert browser.complaints() == []
    shown = maps.values[5, 1, :, :, 2].ravel()
    np.testing.assert_allclose(np.array(first, float), shown, atol=0.01)
    assert second == before[1] and pair == [0, 2]
