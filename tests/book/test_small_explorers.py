"""The small explorers in a real browser, against the package."""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from crossattn import backtest_weights, scaled_dot_product_attention

pytestmark = pytest.mark.browser


def explorer(name):
    """Return the JavaScript of an explorer's handle for tests."""
    return f"$('[data-explorer={name}]').crossattn"


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


def operate(page, handle, device, up):
    """Move a handle upwards, by so many pixels or with the arrow key."""
    if device == "pointer":
        return page.drag(handle, 0, up)
    page.evaluate(f"{handle}.focus()")
    return page.press("ArrowUp", 38)


def number(text):
    return float(text.replace("\u2212", "-").replace(",", ""))


@pytest.mark.parametrize("device", ["pointer", "keyboard"])
def test_a_moved_key_gives_the_numbers_of_the_package(page, device):
    key = "$$('.ca-plane circle')[0]"
    operate(page, key, device, 20)
    state = page.evaluate(f"{explorer('qkv')}.state")
    assert state["keys"][0][0] == pytest.approx(2, abs=0.05) and state["keys"][0][1] > 1.25
    assert (device == "pointer") or state["keys"][0][1] == 1.3
    said = f"key A: 2.0, {state['keys'][0][1]:.1f}"
    assert page.evaluate(f"{key}.getAttribute('aria-label')") == said
    query, keys, values = (
        torch.tensor(x, dtype=torch.double)
        for x in ([state["query"]], state["keys"], np.array(state["values"])[:, None])
    )
    output, attention = scaled_dot_product_attention(query, keys, values)
    shown = page.evaluate("$$('.ca-numbers tbody tr').map(r => r.cells[3].textContent)")
    np.testing.assert_allclose([float(x) for x in shown], attention[0], atol=5.1e-4)
    text = page.evaluate("$('[data-explorer=qkv] .ca-formula').textContent")
    shown = re.search(r"value = (\S+?)\. ", text)[1]
    assert number(shown) == pytest.approx(output.item(), abs=5.1e-4)


@pytest.mark.parametrize(
    ("name", "where", "attribute"),
    [
        ("leaks", '.ca-dot[tabindex="0"]', "aria-valuenow"),
        ("costs", "input[type=range]", "aria-valuetext"),
        ("forecaster", ".ca-slider input", "aria-valuetext"),
    ],
)
def test_what_can_be_dragged_can_be_moved_by_keys(page, name, where, attribute):
    handle = f"$('[data-explorer={name}] {where}')"
    page.evaluate(f"{handle}.focus()")
    before = page.evaluate(f"{handle}.getAttribute('{attribute}')")
    page.press("ArrowUp", 38)
    assert page.evaluate(f"{handle}.getAttribute('{attribute}')") not in (None, before)


def test_the_leak_finder_is_one_stop_of_the_tab_key(page):
    stops = "$$('[data-explorer=leaks] .ca-dot')"
    assert page.evaluate(f"{stops}.filter(e => e.tabIndex === 0).length") == 1
    page.evaluate(f"{stops}.find(e => e.tabIndex === 0).focus()")
    page.press("ArrowLeft", 37)
    assert page.evaluate(f"{stops}.indexOf(document.activeElement)") == 25
    page.press("ArrowUp", 38)
    assert page.evaluate(f"{explorer('leaks')}.state.changed") == 25


def test_buttons_answer_to_enter(page):
    for name, pressed in {"Nobody leads": "null", "The leader changes": "switching"}.items():
        page.evaluate(f"$$('.ca-tabs button').find(b => b.textContent === '{name}').focus()")
        page.press("Enter", 13, text="\r")
        assert page.evaluate(f"{explorer('forecaster')}.state.key") == pressed


def test_all_keys_masked_leave_zeros(page):
    page.evaluate("$$('[data-explorer=qkv] [type=checkbox]').forEach(box => box.click())")
    text = "$('[data-explorer=qkv] .ca-formula').textContent"
    assert "Nothing may be read" in page.evaluate(text)


@pytest.mark.parametrize("device", ["pointer", "keyboard"])
def test_three_of_six_features_leak_and_are_found(page, device):
    before = pd.Series(page.evaluate(f"{explorer('leaks')}.state.returns"))
    operate(page, "$$('[data-explorer=leaks] .ca-dot')[26]", device, 60)
    after = pd.Series(page.evaluate(f"{explorer('leaks')}.state.returns"))
    assert list(np.flatnonzero(before != after)) == [26]
    said = page.evaluate("$$('.ca-leaks > div').map(d => d.innerText)")
    audited = "(c => c.audit(c.state.returns, c.state.returns, 0).map(f => f.values))"
    shown = page.evaluate(f"{audited}({explorer('leaks')})")
    for text, ours, old, new in zip(said, shown, features(before), features(after), strict=True):
        np.testing.assert_allclose(ours, new, atol=1e-12)
        moved = np.flatnonzero(np.abs(new - old)[:26] > 1e-12)
        expected = f"leaks. {len(moved)} number" if len(moved) else "the past stands still"
        assert expected in text
        assert not len(moved) or f"the first at bar {moved[0] + 1}." in text
    assert ["leaks." in text for text in said] == [False, False, True, True, False, True]


def features(r):
    """Return the six features of the leak finder, in pandas."""
    return [
        r.rolling(5, min_periods=1).mean(),
        r.ewm(halflife=4).mean(),
        r.rolling(5, min_periods=1, center=True).mean(),
        r - r.mean(),
        r / r.abs().cummax(),
        r.rank(method="max", pct=True),
    ]


def engine(prices, weights, every=1, **options):
    """Return the account of the package, traded at every so many bars."""
    times = pd.date_range("2024-01-01", periods=len(prices), freq="h", tz="UTC")
    weights, prices = pd.DataFrame(weights, times), pd.DataFrame(prices, times)
    return backtest_weights(weights[::every], prices, **options)


@pytest.mark.parametrize(
    ("fee", "every", "lag", "band"),
    [(0.0, 1, 0, 0.0), (1e-4, 1, 0, 0.0), (2e-3, 7, 0, 0.1), (5e-4, 5, 2, 0.0), (1e-3, 1, 3, 0.05)],
)
def test_the_account_is_that_of_the_engine(page, fee, every, lag, band):
    settings = json.dumps({"fee": fee, "every": every, "lag": lag, "band": band})
    account = f"(c => [c.prices, c.weights, c.account(c.prices, c.weights, {settings})])"
    prices, weights, found = page.evaluate(f"{account}({explorer('costs')})")
    options = {"transaction_cost": fee, "execution_lag": lag, "no_trade_band": band}
    result = engine(prices, weights, every, **options)
    np.testing.assert_allclose(found["equity"], result.equity, rtol=1e-9)
    np.testing.assert_allclose(found["turnover"], result.turnover, atol=1e-9)
    assert found["paid"] == pytest.approx(result.costs.sum(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("device", ["pointer", "keyboard"])
def test_the_sliders_of_the_account_give_the_result_of_the_engine(page, device):
    fee = "$('[data-explorer=costs] input')"
    operate(page, fee, device, 0)  # by pointer: a click into the slider
    handle = f"(c => [c.state, c.prices, c.weights])({explorer('costs')})"
    state, prices, weights = page.evaluate(handle)
    assert state["fee"] == (1.5e-4 if device == "keyboard" else pytest.approx(15e-4, abs=1e-4))
    result = engine(prices, weights, transaction_cost=state["fee"])
    said = page.evaluate("$('[data-explorer=costs] .ca-forecast').textContent")
    net, paid = re.search(r"Net (\S+) %.*Paid (\S+) of", said).groups()
    assert number(net) == pytest.approx(100 * (result.equity.iloc[-1] / 1e5 - 1), abs=0.0051)
    assert number(paid) == pytest.approx(result.costs.sum(), abs=0.51)


def test_the_explorer_of_maps_shows_the_stored_attention(browser, site):
    browser.visit(site + "book/evidence/16_attention_is_not_explanation.html")
    browser.wait_for("$('.crossattn-explorer').dataset.ready")
    content = browser.evaluate("JSON.parse($('.crossattn-explorer script').textContent)")
    n, heads, lags = content["size"]
    assets, sources = len(content["symbols"]), len(content["sources"])
    codes = np.frombuffer(base64.b64decode(content["packed"]), np.uint8)
    shares = (codes.reshape(n, heads, assets, sources, lags) / 255.0) ** 2

    def shown():
        cells = browser.evaluate("$$('.crossattn-explorer td').map(c => c.textContent)")
        return np.array(cells, float).reshape(assets, sources)

    np.testing.assert_allclose(shown(), shares.sum(-1).mean((0, 1)), atol=0.0051)
    browser.evaluate("$('.crossattn-explorer input').focus()")
    for _ in range(3):
        browser.press("ArrowRight", 39)
    np.testing.assert_allclose(shown(), shares[2].sum(-1).mean(0), atol=0.0051)
    browser.drag("$$('.crossattn-explorer td')[3]", 0, 0)
    names = [content["symbols"][0], content["sources"][3]]
    captions = browser.evaluate("$$('.crossattn-explorer figcaption').map(c => c.innerText)")
    assert all(caption.startswith(" \u2190 ".join(names)) for caption in captions)
    tall = browser.evaluate("$$('.crossattn-explorer rect').map(r => r.getAttribute('height'))")
    pair = shares[:, :, 0, 3].mean(1)  # (windows, lags)
    expected = 88 * pair[2] / pair.max()
    np.testing.assert_allclose(np.array(tall, float), expected, rtol=1e-9, atol=1e-9)
