"""The drift, and how it differs by hour and weekday."""

import numpy as np
import pandas as pd
import pytest

from crossattn import CrossAttentionForecaster, prepare_cross_attention_data, simulate_market
from crossattn.tokens.drift import calendar_drift, common_drift

HOURS = pd.date_range("2024-01-01", periods=4800, freq="h")
CLOCK = HOURS.hour.to_numpy(), HOURS.day_of_week.to_numpy()


def noise(seed, n_assets=4):
    """Heavy tails, one common factor, assets of different volatility."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(4, (len(HOURS), n_assets)) + rng.standard_t(4, (len(HOURS), 1))
    return moves / 2.0 * (1.0 + np.arange(n_assets)), np.tile(1.0 + np.arange(n_assets), (4800, 1))


def test_drift_is_common_and_shrunk(rng):
    noise, volatility = rng.normal(size=(2000, 3)), np.array([1.0, 2.0, 4.0])
    assert np.allclose(common_drift(noise * volatility, np.tile(volatility, (2000, 1))), 0.0)
    drift = common_drift((noise + 0.2) * volatility, np.tile(volatility, (2000, 1)))
    assert np.allclose(drift / volatility, drift[0]) and 0.15 < drift[0] < 0.25


@pytest.mark.parametrize("shared", [True, False], ids=["of all", "of one asset"])
@pytest.mark.parametrize("pattern", ["hours", "weekdays", "one hour"])
def test_a_planted_calendar_is_found(pattern, shared):
    target, volatility = noise(1)
    effect = np.zeros((24 if "hour" in pattern else 7, 4))
    rows = [9] if pattern == "one hour" else np.arange(len(effect))
    size = {"hours": 0.35, "weekdays": 0.25, "one hour": 0.9}[pattern]
    effect[rows] = size * np.resize([1.0, -1.0], len(rows))[:, None] * volatility[0]
    if not shared:
        effect[:, 1:] = 0.0
    place = CLOCK["hour" not in pattern]
    found = calendar_drift(target + effect[place], volatility, *CLOCK)
    pattern = found.hours if len(effect) == 24 else found.weekdays
    planted = effect - effect.mean(0)
    assert np.corrcoef(pattern[:, 0], planted[:, 0])[0, 1] > 0.9
    assert 0.5 < pattern[:, 0] @ planted[:, 0] / (planted[:, 0] @ planted[:, 0]) < 1.2


def test_noise_has_no_calendar():
    kept = []
    for seed in range(60):
        found = calendar_drift(*noise(seed), *CLOCK)
        kept.append(bool(found.hours.any() or found.weekdays.any()))
    assert np.mean(kept) < 0.05


def test_few_rows_and_one_hour_a_day_have_no_hours():
    target, volatility = noise(2)
    daily = calendar_drift(target, volatility, np.full(4800, 21), CLOCK[1])
    assert not daily.hours.any()
    few = slice(0, 300)
    found = calendar_drift(target[few], volatility[few], *(c[few] for c in CLOCK))
    assert not found.hours.any()
    target[:] = np.nan
    empty = calendar_drift(target, volatility, *CLOCK)
    assert not empty.hours.any() and not empty.weekdays.any()


def test_a_forecaster_reads_the_hour(tmp_path):
    """Half of the bars of a day rise, the other half fall, and nobody leads."""
    frames = simulate_market("null", n_assets=3, n_steps=3000, seed=4).frames
    sign = np.where(frames["A00"].index.hour < 12, 1.0, -1.0)
    for frame in frames.values():
        wave = np.exp(np.cumsum(0.2 * frame["close"].pct_change().std() * sign))
        frame[["open", "high", "low", "close"]] *= wave[:, None]
        frame["open"] = frame["close"].shift(fill_value=frame["open"].iloc[0])
        frame["high"] = frame[["open", "high", "close"]].max(axis=1)
        frame["low"] = frame[["open", "low", "close"]].min(axis=1)
    data = prepare_cross_attention_data(frames, lookback=32, horizon=1)
    train, val, test = data.split(train=0.6, val=0.2)
    model = CrossAttentionForecaster(varying=False, content=False).fit(train, val)
    forecast = model.predict(test)
    rises = test.timestamps.hour.isin(range(12))  # the bar after a close at this hour
    assert forecast[rises].mean() > 0 > forecast[~rises].mean()
    parts = model.contributions(test).sum((-1, -2)) + model.intercept(test)
    assert np.allclose(parts, forecast, atol=1e-12)
    model.save(tmp_path / "saved")
    again = CrossAttentionForecaster.load(tmp_path / "saved")
    assert np.array_equal(again.predict(test), forecast)
