"""The forecaster of volatility: missing bars, hours, flat assets. More is in ``test_fitted.py``."""

import numpy as np
import pandas as pd
from standin.windows import flat_bars

from crossattn import CrossAttentionForecaster, prepare_cross_attention_data, simulate_market


def fit(*parts, **options):
    options = {"max_lag": 7, "progress": False, **options}
    return CrossAttentionForecaster(target="volatility", **options).fit(*parts)


def test_missing_bars_give_no_forecast_and_late_listings_can_be_fitted(make_frames):
    frames = make_frames(900, 3)
    names = list(frames)
    frames[names[1]] = frames[names[1]].iloc[300:]
    frames[names[2]] = frames[names[2]].drop(frames[names[2]].index[700:760])
    data = prepare_cross_attention_data(frames, 12, 1, ["log_return"])
    train, test = data[:600], data[620:]
    forecast = fit(train).predict(test)
    assert np.isnan(forecast[~test.has_bar]).all() and not test.has_bar.all()
    assert (np.isnan(forecast) & test.has_bar).sum() <= 1  # a bar after a gap has no return
    assert (forecast[np.isfinite(forecast)] > 0).all()


def test_the_hour_of_the_day_is_learned(rng):
    index = pd.date_range("2023-01-01", periods=4000, freq="1h", tz="UTC", name="time")
    busy = np.where(index.hour == 13, 3.0, 1.0)[:, None]  # the bar that closes at 14:00
    closes = 100 * np.exp(np.cumsum(0.002 * busy * rng.normal(size=(4000, 3)), axis=0))
    frames = flat_bars(closes, ["S0", "S1", "S2"], start=index[0].tz_localize(None))
    data = prepare_cross_attention_data(frames, 12, 1, ["log_return"])
    train, val, test = data.split()
    forecast = fit(train, val).predict(test)
    before = test.timestamps.hour == 13
    ratio = np.median(forecast[before]) / np.median(forecast[~before])
    assert 2.3 < ratio < 3.6


def test_a_flat_asset_is_named(refuse_input):
    frames = simulate_market("null", n_assets=3, n_steps=600, seed=0).frames
    for name in ("open", "high", "low", "close"):
        frames["A01"][name] = 100.0
    data = prepare_cross_attention_data(frames, 12, 1, ["log_return"])
    refuse_input(lambda: fit(data), "A01 has 0 known moves")
