"""Every feature against a slow loop that follows its definition, on bars with holes."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from crossattn import (
    DEFAULT_FEATURES,
    align_panel,
    create_multi_asset_features,
    prepare_cross_attention_data,
)
from crossattn.errors import CrossAttentionWarning
from crossattn.features import FEATURES, resolve_features, warm_up_of

talib = pytest.importorskip("talib")
NAN = math.nan


def rows_of(panel: pd.DataFrame, symbol: str) -> list[dict]:
    """One dict a row; None where the symbol has no bar."""
    one = panel.xs(symbol, axis=1, level="symbol")
    return [None if np.isnan(row["close"]) else row.to_dict() for _, row in one.iterrows()]


def exponential_mean(values: list[float], half_life: float) -> float:
    """Weights halve every `half_life` values, newest first."""
    weights = [0.5 ** (age / half_life) for age in range(len(values))]
    return sum(w * v for w, v in zip(weights, reversed(values), strict=True)) / sum(weights)


def log_returns(bars: list) -> list[float]:
    result = [NAN]
    for before, now in pairwise(bars):
        result.append(NAN if None in (before, now) else math.log(now["close"] / before["close"]))
    return result


def slow_feature(name: str, bars: list, clock: pd.DatetimeIndex) -> list[float]:
    """The feature by its definition, one bar at a time."""
    log_return = log_returns(bars)  # here every hole lies between bars of other symbols
    past = ((bars[: t + 1], log_return[: t + 1]) for t in range(len(bars)))
    return [slow_value(name, *each, moment) for each, moment in zip(past, clock, strict=True)]


def slow_value(name: str, past: list, log_return: list[float], moment: pd.Timestamp) -> float:
    """The feature's value at the last of these rows."""
    bar, own = past[-1], [b for b in past[:-1] if b is not None]  # own: those before this one
    if name == "staleness":
        return next((age for age, b in enumerate(reversed(past)) if b is not None), NAN)
    if name.startswith(("hour", "weekday")):
        hours = moment.hour + moment.minute / 60
        turn = hours / 24 if name.startswith("hour") else moment.weekday() / 7
        return (math.sin if name.endswith("sin") else math.cos)(2 * math.pi * turn)
    if bar is None:
        return NAN
    if name == "log_return":
        return log_return[-1]
    if name == "intraday_return":
        return math.log(bar["close"] / bar["open"])
    if name == "range":
        return math.log(bar["high"] / bar["low"])
    if name == "overnight_gap":
        return math.log(bar["open"] / own[-1]["close"]) if own else NAN
    if name in ("parkinson", "garman_klass"):
        return math.sqrt(slow_variance(name, own[-1], bar)) if own else NAN
    if name == "momentum":
        whole = len(past) > 24 and None not in past[-25:]
        return math.log(bar["close"] / past[-25]["close"]) if whole else NAN
    if name == "relative_volume":
        known = [math.log(b["volume"]) for b in own if b["volume"] > 0]
        now = math.log(bar["volume"]) if bar["volume"] > 0 else NAN
        return now - exponential_mean(known, 20) if known else NAN
    if name == "volatility":
        squares = [r * r for r in log_return if not math.isnan(r)]
        return math.sqrt(exponential_mean(squares, 24)) if len(squares) >= 24 else NAN
    closes = np.array([b["close"] for b in [*own, bar]])
    return talib.RSI(closes)[-1] if name == "rsi" else talib.MACD(closes)[0][-1] / closes[-1]


def slow_variance(estimator: str, before, bar) -> float:
    """Variance of a bar by its range, the gap from the bar before it included."""
    gap = math.log(bar["open"] / before["close"])
    range_ = math.log(bar["high"]) - math.log(bar["low"])
    if estimator == "parkinson":
        return gap**2 + 0.36067376 * range_**2
    return gap**2 + 0.5 * range_**2 - 0.38629436 * math.log(bar["close"] / bar["open"]) ** 2


@pytest.mark.filterwarnings("ignore:features. momentum has no value for S1")
@pytest.mark.parametrize("name", FEATURES)
def test_feature_equals_its_slow_definition_on_ragged_bars(ragged_frames, name):
    panel = align_panel(ragged_frames)
    table = create_multi_asset_features(panel, [name])
    for symbol in ragged_frames:
        slow = slow_feature(name, rows_of(panel, symbol), panel.index)
        np.testing.assert_allclose(table[name][symbol], slow, rtol=1e-8, atol=1e-12, err_msg=symbol)


def test_table_is_keyed_by_close_time_feature_and_symbol(make_frames):
    frames = make_frames(60, 3)
    table = create_multi_asset_features(frames, ["rsi", "log_return"])
    assert table.columns.names == ["feature", "symbol"]
    assert list(table.columns) == [(f, s) for f in ("rsi", "log_return") for s in frames]
    assert table.index.name == "close_time"
    assert table.index[0] == frames["S0"].index[0] + pd.Timedelta(hours=1)


def test_frames_and_their_panel_in_any_order_give_the_same_table(ragged_frames):
    expected, panel = create_multi_asset_features(ragged_frames), align_panel(ragged_frames)
    pd.testing.assert_frame_equal(create_multi_asset_features(panel), expected)
    shuffled = create_multi_asset_features(panel[panel.columns[::-1]])
    pd.testing.assert_frame_equal(shuffled[expected.columns], expected)


def test_one_symbol_alone_has_the_features_it_has_in_company(make_frames):
    frames = make_frames(120, 3)
    alone = create_multi_asset_features({"S1": frames["S1"]})
    together = create_multi_asset_features(frames).xs("S1", axis=1, level="symbol")
    np.testing.assert_array_equal(alone.to_numpy(), together.to_numpy())


def test_declared_warm_up_is_the_number_of_bars_without_a_value(make_frames):
    table = create_multi_asset_features(make_frames(100, 2), list(FEATURES))
    for name, spec in FEATURES.items():
        missing = int(table[name]["S0"].isna().sum())
        if name == "relative_volume":  # has values before it has settled
            assert missing == 1 <= spec.warm_up
        else:
            assert missing == spec.warm_up, name


def test_a_return_across_a_gap_is_nan_and_nothing_is_filled(make_frames):
    frames = make_frames(100, 2)
    frames["S0"] = frames["S0"].drop(frames["S0"].index[[50, 51]])
    table = create_multi_asset_features(frames)
    assert table.loc[table.index[[50, 51]]].xs("S0", axis=1, level="symbol").isna().all(axis=None)
    assert np.isnan(table["log_return"]["S0"].iloc[52])
    assert table["log_return"]["S0"].iloc[53:].notna().all()
    assert table["rsi"]["S0"].iloc[52:].notna().all()
    assert table["log_return"]["S1"].iloc[1:].notna().all()


def test_clocks_that_never_meet_keep_the_returns_of_both(make_frames):
    coin = make_frames(200, 1)["S0"]
    frames = {"COIN": coin, "STOCK": coin.shift(freq="30min")}
    table = create_multi_asset_features(frames, ["log_return", "rsi"])
    for symbol, frame in frames.items():
        own = table.xs(symbol, axis=1, level="symbol").dropna(how="all")
        alone = create_multi_asset_features({symbol: frame}, ["log_return", "rsi"])
        expected = alone.xs(symbol, axis=1, level="symbol").iloc[3:]  # usual after three steps
        pd.testing.assert_frame_equal(own.loc[expected.index], expected, check_freq=False)


def test_a_stock_has_a_return_over_the_weekend_on_its_own_clock_only(make_frames):
    days = make_frames(60, 2, freq="D")
    stock = days["S0"][days["S0"].index.day_of_week < 5]
    alone = create_multi_asset_features({"STOCK": stock}, ["log_return"])
    assert alone["log_return"]["STOCK"].notna().sum() == len(stock) - 1
    beside = create_multi_asset_features({"STOCK": stock, "COIN": days["S1"]}, ["log_return"])
    first_of_week = beside.index.day_of_week == 1  # Monday's bar closes as Tuesday begins
    assert beside["log_return"]["STOCK"][first_of_week].isna().all()
    assert beside["log_return"]["COIN"].notna().sum() == 59


def test_a_market_that_never_closes_has_a_gap_where_no_symbol_has_a_bar(make_frames):
    frames = make_frames(24 * 9, 2)  # Monday to Tuesday week
    cut = frames["S0"].index[[180, 181]]
    table = create_multi_asset_features({s: f.drop(cut) for s, f in frames.items()}, ["log_return"])
    unknown = table.index[table["log_return"]["S0"].isna()]
    assert list(unknown) == [table.index[0], cut[-1] + pd.Timedelta(hours=2)]


SPECIAL_SESSIONS = pd.DatetimeIndex(["2024-02-03", "2024-03-10"], tz="UTC")  # of a weekend


@pytest.mark.parametrize(("freq", "length"), [("D", "6h"), ("h", "1h")])
@pytest.mark.parametrize("rest", [(5, 6), (3, 4)])  # days of the week
def test_a_market_with_days_of_rest_has_returns_over_them(make_frames, rest, freq, length):
    frame = make_frames(24 * 200, 1, freq="h", start="2024-01-01")["S0"]
    hours = frame.index.hour
    is_open = ~frame.index.day_of_week.isin(rest) | frame.index.normalize().isin(SPECIAL_SESSIONS)
    is_open &= (hours == 4) if freq == "D" else (hours >= 4) & (hours < 10)
    frame = frame[is_open].assign(close_time=frame.index[is_open] + pd.Timedelta(length))
    table = create_multi_asset_features({"S0": frame}, ["log_return", "momentum"])
    assert table.isna().sum().tolist() == [1, 24]


@pytest.mark.parametrize("start", ["2024-01-01", "2024-01-04", "2024-01-06"])
def test_a_coin_never_closes_from_its_first_weekend_on(make_frames, start):
    frame = make_frames(24 * 90, 1, start=start)["S0"]
    sunday = int((frame.index.day_of_week == 6).argmax())
    gone = np.r_[sunday - 4, sunday + 4, sunday + 90 : sunday + 115, 1100:1700]  # 25 days at last
    table = create_multi_asset_features({"S0": frame.drop(frame.index[gone])}, ["log_return"])
    after = frame.index[[0, sunday + 5, sunday + 115, 1700]] + pd.Timedelta("1h")
    assert list(table.index[table["log_return"]["S0"].isna()]) == list(after)


def test_exchanges_that_rest_together_have_returns_over_their_weekend(make_frames):
    days = make_frames(80, 2, freq="D")
    frames = {}
    for symbol, hour in (("LONDON", 16), ("YORK", 21)):
        frame = days[f"S{len(frames)}"]
        frame = frame[frame.index.day_of_week < 5]
        frames[symbol] = frame.assign(close_time=frame.index + pd.Timedelta(f"{hour}h"))
    holiday = frames["YORK"].index[40]
    frames["YORK"] = frames["YORK"].drop(holiday)
    table = create_multi_asset_features(frames, ["log_return", "momentum"])
    known = table.notna().sum()
    n = len(frames["YORK"])
    assert known["log_return"].tolist() == [n + 1 - 3, n - 3 - 1], "usual after three steps"
    assert known["momentum", "LONDON"] == n + 1 - 26


def test_a_feature_without_a_value_for_a_symbol_is_named(make_frames):
    frames = make_frames(300, 3)
    frames["S1"] = frames["S1"].drop(frames["S1"].index[::12])
    names = ["log_return", "momentum"]
    for build in (
        create_multi_asset_features,
        lambda *a: prepare_cross_attention_data(a[0], 5, 1, a[1]),
    ):
        with pytest.warns(CrossAttentionWarning) as caught:
            build(frames, names)
        assert [str(warning.message) for warning in caught] == [
            "features: momentum has no value for S1, whose bars have too many gaps"
        ]
        assert {warning.filename for warning in caught} == {__file__}
    few = {s: f.iloc[-48:] for s, f in frames.items()}
    assert create_multi_asset_features(few, names)["momentum", "S1"].isna().all()


def close_only(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(open=frame["close"], high=frame["close"], low=frame["close"])
    frame["volume"] = np.nan
    frame.attrs["close_only"] = True
    return frame


DROPPED = [
    ([1], "no open, low, volume for S1"),
    ([0, 2, 3], "no open, low, volume for S0, S2, S3"),
    ([0, 1, 2, 3, 4], "no open, low, volume for S0, S1, S2 and 2 more"),
    ([0, 1, 2, 3, 4, 5], "no open, low, volume for any symbol"),
]


@pytest.mark.parametrize(("silent", "words"), DROPPED)
def test_a_dropped_feature_is_named_in_a_short_line(make_frames, silent, words):
    frames = make_frames(80, 6)
    frames |= {f"S{asset}": close_only(frames[f"S{asset}"]) for asset in silent}
    with pytest.warns(CrossAttentionWarning) as caught:
        table = create_multi_asset_features(frames)
    assert set(table.columns.unique("feature")) == {"log_return", "volatility", "rsi", "macd"}
    dropped = "features dropped: intraday_return, range, relative_volume"
    assert [str(warning.message) for warning in caught] == [f"{dropped} ({words})"]


def test_nothing_left_to_compute_is_an_error(make_frames, refuse_input):
    frames = {symbol: close_only(frame) for symbol, frame in make_frames(80, 2).items()}
    refuse_input(lambda: create_multi_asset_features(frames, ["range"]), "features: none of range")


WRONG_NAMES = [
    (["log_return", "returns"], "unknown 'returns'; known are log_return"),
    ([], "a sequence of names"),
    (["rsi", "macd", "rsi"], "'rsi' is named more than once"),
    (["calendar", "hour_sin"], "'hour_sin' is named more than once"),
    ([3], "a sequence of names"),
    (None, "features must be a sequence of names, got None"),
    (7, "features must be a sequence of names, got 7"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_NAMES)
def test_wrong_feature_names_are_refused(make_frames, wrong, message, refuse_input):
    refuse_input(lambda: create_multi_asset_features(make_frames(50, 1), wrong), message)


def test_defaults_groups_and_the_longest_warm_up():
    names = "log_return intraday_return range relative_volume volatility rsi macd"
    assert tuple(names.split()) == DEFAULT_FEATURES
    assert resolve_features("calendar") == ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
    assert warm_up_of(["range", "rsi", "log_return"]) == 14
    assert warm_up_of(DEFAULT_FEATURES) == 33
