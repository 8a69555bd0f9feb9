"""The live explainer in a real browser: the package's numbers, by pointer and by keyboard."""

import json
from functools import cache

import explainer
import numpy as np
import pytest

from crossattn import prepare_cross_attention_data

pytestmark = pytest.mark.browser
STATE = "$('.ca-explorer').crossattn"
FORECASTS = """
(() => {
  const { forward, knownSeries, sum } = crossattnForward, { load } = %s;
  const market = load(crossattnMarkets[%s]), series = knownSeries(market);
  return Array.from({ length: 300 }, (_, k) =>
    forward(market, market.before + k, { series }).map(answer => [answer.forecast,
      answer.intercept, sum(answer.contribution.flat()), sum(answer.attention.flat())]));
})()
"""
TOKENS = """
(() => {
  const { knownSeries, tokenValue } = crossattnForward, { load } = %s;
  const market = load(crossattnMarkets.static), series = knownSeries(market);
  return %s.map(([name, decay]) => Array.from({ length: 300 }, (_, k) => [0, 1, 2, 3].map(source =>
    tokenValue(market, series, market.before + k, name, source, 2, decay))));
})()
"""
TABLES = """
$$('.ca-grid').map(grid =>
  [...grid.querySelectorAll('tbody tr')].map(row =>
    [...row.querySelectorAll('button')].map(cell => cell.textContent)))
"""


def press(browser, text):
    """Click the button with this text."""
    browser.evaluate(f"$$('.ca-button').find(b => b.textContent.includes('{text}')).click()")


def slide(browser, number, value):
    """Set a slider."""
    slider = f"$$('.ca-slider input')[{number}]"
    browser.evaluate(
        f"(s => {{ s.value = {value}; s.dispatchEvent(new Event('input')); }})({slider})"
    )


def attended(browser):
    """Return the attention shown, (sources, lags), in percent."""
    return np.array(browser.evaluate(TABLES)[3], float)


@pytest.mark.parametrize("scenario", explainer.MARKETS)
def test_the_page_gives_the_forecasts_of_the_package(page, scenario):
    shown = np.array(page.evaluate(FORECASTS % (STATE, json.dumps(scenario))))  # (300, N, 4)
    _, forecaster, _, _, test = trained(scenario)
    expected = forecaster.predict(test[:300])
    usual = np.nanstd(test.y)
    assert np.abs(shown[..., 0] - expected).max() < 1e-5 * usual  # 1e-7 or less
    np.testing.assert_allclose(shown[..., 1] + shown[..., 2], shown[..., 0], atol=1e-12)
    np.testing.assert_allclose(shown[..., 3], 1.0)


def test_every_channel_of_a_token_has_the_value_of_the_package(page):
    _, forecaster, _, _, test = trained("static")
    channels = forecaster._tokenizer.series(test).channels
    names = json.dumps([[channel.name, channel.decay] for channel in channels])
    shown = np.array(page.evaluate(TOKENS % (STATE, names)))  # (channels, 300, N)
    expected = np.array([channel.values[test.ends[:300] - 1] for channel in channels])
    assert all(values.std() > 0 for values in expected)
    np.testing.assert_allclose(shown, expected, rtol=2e-5, atol=2e-6)


@cache
def trained(scenario):
    return explainer.trained_market(scenario)


def predicted(page):
    """Return the package's forecasts at the page's bar, for the bars as the reader changed them."""
    market, forecaster, _, _, test = trained("switching")
    t = page.evaluate(f"{STATE}.state.t")
    end = test.ends[t - explainer.BEFORE]
    frames = {symbol: frame.copy() for symbol, frame in market.frames.items()}
    for j, frame in enumerate(frames.values()):
        volume, moved = page.evaluate(
            f"[{STATE}.state.market.logVolume[{t}][{j}], {STATE}.state.market.returns[{t}][{j}]]"
        )
        moved -= np.diff(np.log(frame["close"].to_numpy()))[end - 1]
        prices = ["open", "high", "low", "close"]
        frame.iloc[end + 1 :, frame.columns.get_indexer(prices)] *= np.exp(moved)
        frame.iloc[end, frame.columns.get_indexer(["close", "volume"])] = (
            frame["close"].iloc[end] * np.exp(moved),
            np.exp(volume),
        )
        frame["high"] = frame[prices].max(axis=1)
        frame["low"] = frame[prices].min(axis=1)
    data = prepare_cross_attention_data(frames, lookback=24, horizon=1, features=explainer.FEATURES)
    k = int(np.searchsorted(data.ends, end))
    return forecaster.predict(data[k : k + 1])[0]


def test_turning_the_volume_up_moves_attention(page):
    answer = f"{STATE}.answers({STATE}.state.t)[1].forecast"  # of B
    before, forecast = attended(page), page.evaluate(answer)
    leader = before.sum(1).argmax()
    other = next(k for k in (0, 2, 3) if k != leader)
    cell = f"$$('.ca-grid')[1].querySelectorAll('button')[{8 * other}]"
    page.drag(cell, 0, 300)
    after = attended(page)
    assert after[other].sum() > 90 > 50 > after[leader].sum()
    assert page.evaluate(answer) != forecast
    assert page.evaluate(answer) == pytest.approx(predicted(page)[1], abs=1e-9)
    press(page, "reset")
    assert (attended(page) == before).all()


def test_the_keyboard_does_what_the_pointer_does(page):
    cell = "$$('.ca-grid')[0].querySelector('button')"
    page.evaluate(f"{cell}.focus()")
    before = page.evaluate(f"Number({cell}.getAttribute('aria-valuenow'))")
    page.press("+", 187)
    page.press("PageUp", 33)
    after = page.evaluate(f"Number({cell}.getAttribute('aria-valuenow'))")
    usual = page.evaluate("crossattnMarkets.switching.model.scale[0]")
    assert after - before == pytest.approx(0.5 * usual, rel=1e-4)
    forecasts = f"{STATE}.answers({STATE}.state.t).map(a => a.forecast)"
    np.testing.assert_allclose(page.evaluate(forecasts), predicted(page), atol=1e-9)
    page.press("ArrowDown", 40)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("B, 1:")


def test_temperature_masks_and_followers(page):
    slide(page, 2, 1)
    warm = attended(page)
    assert warm.max() < 60
    page.evaluate("$$('.ca-check input')[2].click()")
    tables = page.evaluate(TABLES)
    assert set(tables[3][2]) == {"·"} and set(tables[5][2]) == {"·"}
    slide(page, 3, 3)
    assert all(row[3:] == ["·"] * 5 for row in page.evaluate(TABLES)[3])
    press(page, "D")
    assert "D" in page.evaluate("$('.ca-forecast').textContent")


def test_play_goes_on_and_pause_stops(page):
    start = page.evaluate(f"{STATE}.state.t")
    press(page, "play")
    page.wait_for(f"{STATE}.state.t >= {start + 2}")
    press(page, "pause")
    stopped = page.evaluate(f"{STATE}.state.t")
    page.evaluate("new Promise(done => setTimeout(done, 600))")
    assert page.evaluate(f"{STATE}.state.t") == stopped


def test_where_nobody_leads_attention_points_and_nothing_follows(page):
    press(page, "Nobody leads")
    tables = page.evaluate(TABLES)
    assert sum(float(x) for row in tables[3] for x in row) > 85  # rounded shares of 100
    assert {x for row in tables[5] for x in row} <= {"0"}
    assert "Nobody leads" in page.evaluate("$('.ca-verdict').textContent")
    assert page.evaluate("$$('.ca-true').length") == 0


def test_the_first_frame_comes_soon_and_sixty_steps_fit_into_a_second(page):
    """A step is a new bar: one forward pass and the drawing. The page states both budgets."""
    first = page.evaluate("performance.getEntriesByName('crossattn-forecaster')[0].startTime")
    page.call("Performance.enable", timeDomain="threadTicks")  # of the page's thread alone

    def used():
        metrics = page.call("Performance.getMetrics")["metrics"]
        return 1000 * next(m["value"] for m in metrics if m["name"] == "TaskDuration")

    steps = (
        f"(() => {{ const {{ state, show }} = {STATE}; for (let k = 0; k < 10; k++)"
        " { state.t += 1; show(); document.body.offsetHeight; } })()"
    )
    ticks = [used(), *((page.evaluate(steps), used())[1] for _ in range(10))]
    milliseconds = min(np.diff(ticks)) / 10
    print(f"first frame after {first:.0f} ms, {milliseconds:.1f} ms a step")
    assert first < 3000 and milliseconds < 1000 / 60


def table_of(n=300, lead=0.6, seed=0):
    rng = np.random.default_rng(seed)
    returns = 0.01 * rng.normal(size=(n, 3))
    returns[1:, 1] += lead * returns[:-1, 0]
    closes = 100 * np.exp(returns.cumsum(axis=0))
    times = np.datetime64("2024-01-01T00:00") + np.arange(n) * np.timedelta64(1, "h")
    rows = [f"{t},{a:.6f},{b:.6f},{c:.6f}" for t, (a, b, c) in zip(times, closes, strict=True)]
    return "\n".join(["time,AAA,BBB,CCC", *rows])


def paste(browser, text):
    browser.evaluate(f"$('.ca-own').open = true; $('.ca-own textarea').value = {json.dumps(text)}")
    press(browser, "show")
    said = "$('.ca-own [aria-live]').innerText"
    browser.wait_for(said)
    return browser.evaluate(said)


def test_own_bars_are_described_and_shown(page):
    said = paste(page, table_of())
    assert "300" in said and "100 %" in said and "2024-01-13 11:00" in said
    assert "AAA before BBB, lag 1" in said
    assert "not fitted" not in said
    assert page.evaluate("$('.ca-truth').textContent").startswith("Your own")
    assert len(page.evaluate(TABLES)[3]) == 3
    assert page.from_elsewhere() == page.complaints() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,AAA\n2024-01-01,1", "bars with a price"),
        ("nothing", "no rows"),
        ("time,AAA,BBB\nyesterday,1,2", "no time in"),
        (table_of().replace("AAA", "<img src=x onerror=alert(1)>")[:200], "bars with"),
    ],
)
def test_odd_bars_are_refused_in_words(page, text, message):
    assert message in paste(page, text)
    assert page.complaints() == []
