"""The forecaster of volatility: units, explanation, order, missing bars, storage, skill."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from standin.windows import flat_bars

from crossattn import CrossAttentionForecaster, prepare_cross_attention_data, simulate_market
from crossattn.baselines import ExponentialVolatility
from crossattn.evidence import diebold_mariano, qlike

FEATURES = ["log_return", "range", "relative_volume"]


def fit(*parts, **options):
    options = {"max_lag": 7, "progress": False, **options}
    return CrossAttentionForecaster(target="volatility", **options).fit(*parts)


@pytest.fixture(scope="module")
def parts():
    frames = simulate_market("null", n_assets=4, n_steps=3000, seed=3).frames
    outside = pd.DataFrame({"VIX": frames["A00"]["volume"].to_numpy()}, frames["A00"].index)
    data = prepare_cross_attention_data(frames, 24, 6, FEATURES, exogenous=outside)
    return data.split()


@pytest.fixture(scope="module")
def fitted(parts):
    return fit(*parts[:2])


def test_forecasts_are_volatilities_better_than_an_exponential_mean(fitted, parts):
    train, _, test = parts
    forecast, realised = fitted.predict(test), test.realised_volatility
    assert (forecast > 0).all() and forecast.shape == realised.shape
    alone = [part.with_series(()) for part in (train, test)]  # which reads no other series
    mean = ExponentialVolatility().fit(alone[0]).predict(alone[1])
    gain = diebold_mariano(qlike(forecast, realised), qlike(mean, realised), test.horizon)
    assert gain.difference < 0 and gain.t < -2
    assert 0.9 < (realised**2 / forecast**2).mean() < 1.1
    target, missed = realised.ravel(), (realised - forecast).ravel()
    assert fitted.score(test) == pytest.approx(1 - (missed**2).mean() / target.var())


@pytest.mark.parametrize("by_channel", [False, True])
def test_shares_of_log_volatility_add_up(fitted, parts, by_channel):
    test = parts[2][:50]
    shares = fitted.contributions(test, by_channel=by_channel)
    n_channels = (len(fitted.channels_),) if by_channel else ()
    assert shares.shape == (50, 4, 5, 8, *n_channels)
    total = shares.reshape(50, 4, -1).sum(2) + fitted.intercept(test)
    np.testing.assert_allclose(np.exp(total), fitted.predict(test), rtol=1e-9)
    assert np.abs(shares).sum() > 0


def test_attention_sums_to_one_and_leaders_are_other_sources(fitted, parts):
    attention = fitted.attention(parts[2][:20])
    assert attention.shape == (20, 4, 5, 8)
    np.testing.assert_allclose(attention.sum((2, 3)), 1.0)
    leaders = fitted.leaders(parts[2][:20])
    assert (leaders != np.arange(4)).all() and (leaders >= 0).all()


def test_forecasts_follow_the_order_of_the_data_and_no_later_bar(fitted, parts):
    test = parts[2]
    forecast = fitted.predict(test)
    turned = fitted.predict(test.select(symbols=test.symbols[::-1]))
    np.testing.assert_allclose(turned, forecast[:, ::-1], rtol=1e-9)
    known = test.until(int(test.ends[30]))
    np.testing.assert_allclose(fitted.predict(known), forecast[:31], rtol=1e-9)


def test_a_saved_forecaster_forecasts_the_same(fitted, parts, tmp_path):
    fitted.save(tmp_path)
    again = CrossAttentionForecaster.load(tmp_path)
    np.testing.assert_array_equal(again.predict(parts[2]), fitted.predict(parts[2]))
    assert again.target == "volatility" and again.weights_ == fitted.weights_


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
