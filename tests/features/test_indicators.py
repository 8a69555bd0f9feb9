"""RSI and MACD against TA-Lib and against arithmetic by hand; what volumes are read."""

import numpy as np
import pandas as pd
import pytest

from crossattn import compute_macd, compute_rsi
from crossattn.features import relative_volume

talib = pytest.importorskip("talib")


@pytest.fixture
def prices():
    rng = np.random.default_rng(11)
    walk = np.exp(np.cumsum(rng.normal(0, 0.02, (700, 3)), axis=0))
    return pd.DataFrame(walk * [1.0, 80.0, 3e4], columns=["A", "B", "C"])


@pytest.mark.parametrize("period", [2, 5, 14, 29])
def test_rsi_equals_talib_on_every_column(prices, period):
    ours = compute_rsi(prices, period)
    for name in prices:
        theirs = talib.RSI(prices[name].to_numpy(), timeperiod=period)
        np.testing.assert_allclose(ours[name], theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("periods", [(12, 26, 9), (3, 10, 5), (5, 6, 2)])
def test_macd_equals_talib_on_every_column(prices, periods):
    ours = compute_macd(prices, *periods)
    for name in prices:
        theirs = talib.MACD(prices[name].to_numpy(), *periods)
        for mine, other in zip(ours, theirs, strict=True):
            scale = prices[name].max()
            np.testing.assert_allclose(mine[name] / scale, other / scale, rtol=0, atol=1e-13)


def test_rsi_by_hand():
    rsi = compute_rsi(pd.Series([10.0, 12.0, 11.0, 11.0, 14.0]), period=2)
    # gains 2 0 0 3, losses 0 1 0 0; seeds (1, .5); then (.5, .25); then (1.75, .125)
    expected = [np.nan, np.nan, 100 * 1 / 1.5, 100 * 0.5 / 0.75, 100 * 1.75 / 1.875]
    np.testing.assert_allclose(rsi, expected)


def test_rsi_is_fifty_on_a_flat_price_and_extreme_on_a_straight_one():
    assert (compute_rsi(pd.Series(np.full(30, 7.0))).iloc[14:] == 50).all()
    rising = pd.Series(np.arange(1.0, 31.0))
    assert (compute_rsi(rising).iloc[14:] == 100).all()
    assert (compute_rsi(rising[::-1].reset_index(drop=True)).iloc[14:] == 0).all()


def test_series_and_frames_come_back_as_they_came(prices):
    series = prices["B"]
    rsi = compute_rsi(series)
    assert isinstance(rsi, pd.Series) and rsi.name == "B" and rsi.index.equals(series.index)
    pd.testing.assert_series_equal(rsi, compute_rsi(prices)["B"])
    macd, signal, histogram = compute_macd(prices)
    assert list(macd.columns) == ["A", "B", "C"]
    pd.testing.assert_frame_equal(histogram, macd - signal)


def test_indicators_begin_late_and_hold_their_state_over_a_missing_bar(prices):
    holed = prices.copy()
    gone = [*range(100), 300]
    holed.iloc[gone, 1] = np.nan
    squeezed = prices["B"].drop(gone)
    found, expected = ((*compute_macd(x), compute_rsi(x)) for x in (holed, squeezed))
    for values, reference in zip(found, expected, strict=True):
        assert values["B"].iloc[gone].isna().all()
        np.testing.assert_array_equal(values["B"].drop(gone), reference)


def test_too_short_a_history_is_all_nan():
    assert compute_rsi(pd.Series(np.arange(1.0, 15.0))).isna().all()
    assert all(part.isna().all() for part in compute_macd(pd.Series(np.arange(1.0, 34.0))))
    assert compute_macd(pd.Series(np.arange(1.0, 35.0)))[1].notna().sum() == 1


NO_PRICES = [
    *((wrong, "prices must be a pandas") for wrong in ([1.0, 2.0], np.ones(4), None, 3.0)),
    *(
        (pd.DataFrame({"A": 4.0, "B": [4.0, wrong]}), "prices must be positive and finite, got")
        for wrong in (0.0, -1.0, np.inf, -np.inf)
    ),
    (pd.Series(["1", "two"]), "prices must be numbers"),
    (pd.Series(pd.date_range("2024-01-01", periods=9)), "prices must be numbers"),
]


@pytest.mark.parametrize(("wrong", "words"), NO_PRICES)
def test_what_is_no_price_is_refused(wrong, words, refuse_input):
    for indicator in (compute_rsi, compute_macd):
        refuse_input(lambda indicator=indicator: indicator(wrong), words)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"volume": np.ones(4)}, "volume must be a pandas"),
        ({"volume": pd.Series(["1", "two"])}, "volume must be numbers"),
        ({"volume": pd.Series([1.0, -1.0])}, "volume must be finite and at least 0, got -1.0"),
        ({"volume": pd.Series([1.0, np.inf])}, "volume must be finite"),
        *(({"half_life": wrong}, "half_life must be") for wrong in (0, "a", None)),
    ],
)
def test_what_is_no_volume_is_refused(wrong, words, refuse_input):
    refuse_input(lambda: relative_volume(**{"volume": pd.Series([1.0, 2.0])} | wrong), words)


def test_volumes_of_any_kind_of_number_are_read():
    volume = pd.DataFrame({"A": [3, 0, 5], "B": [1, 2, 4]}, [4, 5, 6])
    logs = np.log(volume.where(volume > 0))
    expected = pd.DataFrame({"A": [np.nan, np.nan, logs["A"][6] - logs["A"][4]]}, [4, 5, 6])
    for kind in ("float64", "int64", "Int64", object):
        found = relative_volume(volume.astype(kind))
        pd.testing.assert_frame_equal(found[["A"]], expected)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "14", True, None])
def test_periods_are_positive_integers_and_fast_is_below_slow(prices, wrong, refuse_input):
    refuse_input(lambda: compute_rsi(prices, period=wrong), "period")
    for name in ("fast", "slow", "signal"):
        refuse_input(lambda name=name: compute_macd(prices, **{name: wrong}), name)
    refuse_input(lambda: compute_macd(prices, fast=26, slow=26), "fast must be below slow")
