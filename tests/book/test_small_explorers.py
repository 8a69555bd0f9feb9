"""The small explorers in a real browser, against the package."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from crossattn import backtest_weights, scaled_dot_product_attention

pytestmark = pytest.mark.browser
PAGE = "book/see_it_move.html"


def explorer(name):
    """Return the JavaScript of an explorer's handle for tests."""
    return f"document.querySelector('[data-explorer={name}]').crossattn"


@pytest.fixture
def page(browser, site):
    browser.visit(site + PAGE)
    browser.wait_for(explorer("costs"))
    return browser


def test_attention_by_hand_is_that_of_the_package(page):
    rng = np.random.default_rng(0)
    for k in range(5):
        query, keys, values = rng.normal(size=2), rng.normal(size=(4, 2)), rng.normal(size=4)
        opened = rng.random(4) < 0.7
        opened[k % 4] = True
        state = {"query": query.tolist(), "keys": keys.tolist(), "values": values.tolist()}
        state |= {"open": opened.tolist(), "scale": 2**0.5}
        found = page.evaluate(f"{explorer('qkv')}.attend({json.dumps(state)})")
        q, key, value = (torch.tensor(x) for x in (query[None], keys, values[:, None]))
        output, attention = scaled_dot_product_attention(q, key, value, torch.tensor(opened)[None])
        np.testing.assert_allclose(found["attention"], attention[0], atol=1e-12)
        np.testing.assert_allclose(found["output"], output[0, 0], atol=1e-12)


def test_a_key_moves_with_the_arrow_keys(page):
    key = "document.querySelectorAll('.ca-plane circle')[0]"
    page.evaluate(f"{key}.focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowUp")
    assert page.evaluate(f"{explorer('qkv')}.state.keys[0]") == [2, 1.3]
    assert page.evaluate(f"{key}.getAttribute('aria-label')") == "key A: 2.0, 1.3"


@pytest.mark.parametrize(
    ("name", "where", "attribute"),
    [
        ("leaks", '.ca-dot[tabindex="0"]', "aria-valuenow"),
        ("costs", "input[type=range]", "aria-valuetext"),
        ("forecaster", ".ca-slider input", "aria-valuetext"),
    ],
)
def test_what_can_be_dragged_can_be_moved_by_keys(page, name, where, attribute):
    handle = f"document.querySelector('[data-explorer={name}] {where}')"
    page.evaluate(f"{handle}.focus()")
    before = page.evaluate(f"{handle}.getAttribute('{attribute}')")
    page.press("ArrowUp", 38)
    assert page.evaluate(f"{handle}.getAttribute('{attribute}')") not in (None, before)


def test_the_leak_finder_is_one_stop_of_the_tab_key(page):
    stops = "[...document.querySelectorAll('[data-explorer=leaks] .ca-dot')]"
    assert page.evaluate(f"{stops}.filter(e => e.tabIndex === 0).length") == 1
    page.evaluate(f"{stops}.find(e => e.tabIndex === 0).focus()")
    page.press("ArrowLeft", 37)
    assert page.evaluate(f"{stops}.indexOf(document.activeElement)") == 25
    page.press("ArrowUp", 38)
    assert page.evaluate(f"{explorer('leaks')}.state.changed") == 25


def test_buttons_answer_to_enter(page):
    for name, pressed in {"Nobody leads": "null", "The leader changes": "switching"}.items():
        page.evaluate(
            "[...document.querySelectorAll('.ca-tabs button')]"
            f".find(b => b.textContent === '{name}').focus()"
        )
        page.press("Enter", 13, text="\r")
        assert page.evaluate(f"{explorer('forecaster')}.state.key") == pressed


def test_all_keys_masked_leave_zeros(page):
    page.evaluate(
        "document.querySelectorAll('[data-explorer=qkv] [type=checkbox]')"
        ".forEach(box => box.click())"
    )
    said = page.evaluate("document.querySelector('[data-explorer=qkv] .ca-formula').textContent")
    assert "Nothing may be read" in said


def test_three_of_six_features_leak_and_are_found(page):
    page.evaluate(f"{explorer('leaks')}.put(26, 2)")
    said = page.evaluate("[...document.querySelectorAll('.ca-leaks > div')].map(d => d.innerText)")
    assert [("leaks." in text) for text in said] == [False, False, True, True, False, True]
    assert "2 numbers of the past moved, the first at bar 25" in said[2]
    values = page.evaluate(
        f"{explorer('leaks')}.audit({explorer('leaks')}.state.returns,"
        f" {explorer('leaks')}.state.returns, 0).map(f => f.values)"
    )
    r = pd.Series(page.evaluate(f"{explorer('leaks')}.state.returns"))
    expected = [
        r.rolling(5, min_periods=1).mean(),
        r.ewm(halflife=4).mean(),
        r.rolling(5, min_periods=1, center=True).mean(),
        r - r.mean(),
        r / r.abs().cummax(),
        r.rank(method="max", pct=True),
    ]
    for ours, theirs in zip(values, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(
    ("fee", "every", "lag", "band"),
    [(0.0, 1, 0, 0.0), (1e-4, 1, 0, 0.0), (2e-3, 7, 0, 0.1), (5e-4, 5, 2, 0.0), (1e-3, 1, 3, 0.05)],
)
def test_the_account_is_that_of_the_engine(page, fee, every, lag, band):
    settings = json.dumps({"fee": fee, "every": every, "lag": lag, "band": band})
    prices, weights, found = page.evaluate(
        f"(() => {{ const c = {explorer('costs')};"
        f" return [c.prices, c.weights, c.account(c.prices, c.weights, {settings})]; }})()"
    )
    times = pd.date_range("2024-01-01", periods=len(prices), freq="h", tz="UTC")
    prices = pd.DataFrame(prices, times)
    result = backtest_weights(
        pd.DataFrame(weights, times)[::every],
        prices,
        transaction_cost=fee,
        execution_lag=lag,
        no_trade_band=band,
    )
    np.testing.assert_allclose(found["equity"], result.equity, rtol=1e-9)
    np.testing.assert_allclose(found["turnover"], result.turnover, atol=1e-9)
    assert found["paid"] == pytest.approx(result.costs.sum(), rel=1e-9, abs=1e-9)
