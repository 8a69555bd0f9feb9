"""Bad bars at every door that takes bars: refused, by symbol and by reason."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from crossattn import align_panel, create_multi_asset_features, prepare_cross_attention_data
from crossattn.errors import InvalidInputError

NAN, INF = float("nan"), float("inf")


def bars(n: int = 60) -> pd.DataFrame:
    """A plain good frame; every call gives a new one."""
    rng = np.random.default_rng(5)
    opens = pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC", name="time")
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    open_ = close * np.exp(rng.normal(0, 0.005, n))
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    table = {"open": open_, "high": high, "low": low, "close": close, "volume": 10 + close}
    return pd.DataFrame(table, index=opens)


def put(column: str, value: object, row: int = 7) -> pd.DataFrame:
    """Good bars with one cell replaced."""
    frame = bars()
    if not isinstance(value, float):
        frame = frame.astype({column: object})
    frame.iloc[row, frame.columns.get_loc(column)] = value
    return frame


def indexed(change) -> pd.DataFrame:
    """Good bars with another index."""
    frame = bars()
    return frame.set_axis(change(frame.index))


def swap_two(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return index[[1, 0, *range(2, len(index))]]


def repeat_one(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return index[[0, 0, *range(2, len(index))]]


def known_at(change) -> pd.DataFrame:
    """Good bars with a wrong `close_time`."""
    frame = bars()
    return frame.assign(close_time=change(frame.index + pd.Timedelta(hours=1)))


BAD_FRAMES = {
    "not a table": (lambda: [1, 2, 3], "DataFrame"),
    "a series": (lambda: bars()["close"], "DataFrame"),
    "None": (lambda: None, "DataFrame"),
    "an array": (lambda: bars().to_numpy(), "DataFrame"),
    "no bars": (lambda: bars().iloc[:0], "no bars"),
    "no open": (lambda: bars().drop(columns="open"), "open"),
    "no high": (lambda: bars().drop(columns="high"), "high"),
    "no low": (lambda: bars().drop(columns="low"), "low"),
    "no close": (lambda: bars().drop(columns="close"), "close"),
    "no volume": (lambda: bars().drop(columns="volume"), "volume"),
    "capital letters": (lambda: bars().rename(columns=str.title), "open"),
    "two closes": (lambda: pd.concat([bars(), bars()[["close"]]], axis=1), "unique"),
    "row numbers": (lambda: bars().reset_index(drop=True), "time"),
    "dates as text": (lambda: indexed(lambda i: i.astype(str)), "time"),
    "naive times": (lambda: indexed(lambda i: i.tz_localize(None)), "without a time zone"),
    "unsorted": (lambda: indexed(swap_two), "increase"),
    "newest first": (lambda: bars().iloc[::-1], "increase"),
    "repeated time": (lambda: indexed(repeat_one), "repeats"),
    "a missing time": (lambda: indexed(lambda i: i.where(i != i[3])), "time is missing"),
    "open zero": (lambda: put("open", 0.0), "open must be positive"),
    "close zero": (lambda: put("close", 0.0), "close must be positive"),
    "low zero": (lambda: put("low", 0.0), "low must be positive"),
    "high negative": (lambda: put("high", -1.0), "high must be positive"),
    "close negative": (lambda: put("close", -5.0), "close must be positive"),
    "close infinite": (lambda: put("close", INF), "close must be finite"),
    "open infinite": (lambda: put("open", INF), "open must be finite"),
    "high infinite": (lambda: put("high", INF), "high must be finite"),
    "low minus infinity": (lambda: put("low", -INF), "low must be positive"),
    "volume infinite": (lambda: put("volume", INF), "volume must be finite"),
    "volume negative": (lambda: put("volume", -1.0), "volume must be zero or more"),
    "high below low": (lambda: put("high", 1.0), "high must be at least low"),
    "close above high": (lambda: put("close", 1e4), "close must be between low and high"),
    "close below low": (lambda: put("close", 1.0), "close must be between low and high"),
    "open above high": (lambda: put("open", 1e4), "open must be between low and high"),
    "open below low": (lambda: put("open", 1.0), "open must be between low and high"),
    "text in close": (lambda: put("close", "n/a"), "close must be a number, got 'n/a'"),
    "empty text": (lambda: put("open", ""), "open must be a number"),
    "a number as text": (lambda: put("volume", "12"), "volume must be a number"),
    "a list": (lambda: put("high", [1.0]), "high must be a number"),
    "a date": (lambda: put("low", datetime(2024, 1, 1)), "low must be a number"),
    "true": (lambda: put("close", True), "close must be a number"),
    "all booleans": (lambda: bars().assign(volume=True), "volume must be a number"),
    "complex": (lambda: bars().assign(close=1 + 2j), "close must be real"),
    "no price at all": (lambda: bars().assign(open=NAN, high=NAN, low=NAN, close=NAN), "missing"),
    "closes all NaN": (lambda: bars().assign(close=NAN), "every close is missing"),
    "known before it opens": (lambda: known_at(lambda t: t - pd.Timedelta("2h")), "close_time"),
    "known as it opens": (lambda: known_at(lambda t: t - pd.Timedelta("1h")), "close_time"),
    "close_time naive": (lambda: known_at(lambda t: t.tz_localize(None)), "close_time"),
    "close_time as text": (lambda: known_at(lambda t: t.astype(str)), "close_time"),
    "close_time numbers": (lambda: bars().assign(close_time=1.0), "close_time"),
    "close_time unsorted": (lambda: known_at(lambda t: t[::-1]), "close_time"),
    "close_time missing": (lambda: known_at(lambda t: t.where(t != t[3])), "close_time"),
    "one bar without spacing": (lambda: bars(1), "close_time"),
}

DOORS = {
    "align_panel": align_panel,
    "features": create_multi_asset_features,
    "windows": lambda frames: prepare_cross_attention_data(frames, lookback=4, horizon=2),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_bad_frame_is_refused_by_symbol_and_reason_at_every_door(case, door):
    make, words = BAD_FRAMES[case]
    with pytest.raises(InvalidInputError) as caught:
        DOORS[door]({"GOOD": bars(), "BAD": make()})
    message = str(caught.value)
    assert words in message, message
    if case != "one bar without spacing":
        assert "BAD" in message and "GOOD" not in message, message
