"""Frames: what is refused, what is kept, when a bar is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn.data.frame import FRAME_COLUMNS, check_frame, check_frames, close_times
from crossattn.errors import InvalidInputError


def bars(n: int = 6) -> pd.DataFrame:
    close = np.linspace(100.0, 110.0, n)
    return pd.DataFrame(
        {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0},
        index=pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC", name="time"),
    )


def with_cell(column: str, value: object, row: int = 2) -> pd.DataFrame:
    frame = bars()
    frame[column] = frame[column].astype(object)
    frame.iloc[row, frame.columns.get_loc(column)] = value
    return frame


def with_index(times) -> pd.DataFrame:
    return bars(len(times)).set_axis(times)


def with_close_time(close_time) -> pd.DataFrame:
    return bars().assign(close_time=close_time)


HOURS = pd.date_range("2024-01-01", periods=6, freq="h", tz="UTC")
CLOSES = HOURS + pd.Timedelta("1h")

BAD = {
    "not a frame": ([1, 2, 3], "DataFrame"),
    "a series": (bars()["close"], "DataFrame"),
    "none": (None, "NoneType"),
    "no rows": (bars().iloc[:0], "no bars"),
    **{f"no {name}": (bars().drop(columns=name), name) for name in FRAME_COLUMNS},
    "repeated column": (pd.concat([bars(), bars()[["close"]]], axis=1), "unique"),
    "text index": (bars().set_axis([str(t) for t in HOURS]), "UTC times"),
    "naive times": (with_index(HOURS.tz_localize(None)), "without a time zone"),
    "missing time": (with_index(HOURS[:5].insert(5, pd.NaT)), "row 5"),
    "unsorted": (bars().iloc[[0, 2, 1, 3, 4, 5]], "is earlier than"),
    "newest first": (bars().iloc[::-1], "row 1"),
    "repeated time": (bars().iloc[[0, 1, 1, 2, 3, 4]], "repeats"),
    **{
        f"{name} {value!r:.30}": (with_cell(name, value), name)
        for name in ("open", "high", "low", "close")
        for value in (0.0, -3.0, np.inf, -np.inf, "100.0", True, [1.0], HOURS[0], 1j, 10**400)
    },
    "negative volume": (with_cell("volume", -1.0), "volume"),
    "infinite volume": (with_cell("volume", np.inf), "volume"),
    "text volume": (with_cell("volume", "many"), "volume must be a number"),
    "high below low": (with_cell("high", 50.0), "high"),
    "low above high": (with_cell("low", 150.0), "low"),
    "close above high": (with_cell("close", 130.0), "close must be between low and high"),
    "close below low": (with_cell("close", 60.0), "close must be between low and high"),
    "open above high": (with_cell("open", 130.0), "open must be between low and high"),
    "open below low": (with_cell("open", 60.0), "open must be between low and high"),
    "all missing": (bars().assign(close=np.nan), "every close is missing"),
    "boolean prices": (bars().assign(close=True), "close"),
    "complex prices": (bars().assign(close=bars()["close"] + 1j), "real"),
    "dates as prices": (bars().assign(close=HOURS), "close"),
    "naive close_time": (with_close_time(HOURS.tz_localize(None)), "close_time"),
    "number close_time": (with_close_time(1.0), "close_time"),
    "close at open": (with_close_time(HOURS), "later than the bar's open"),
    "close before open": (with_close_time(HOURS - pd.Timedelta("1h")), "later than"),
    "missing close_time": (with_close_time(CLOSES[:5].insert(5, pd.NaT)), "missing in row 5"),
    "shared close_time": (with_close_time(CLOSES[-1]), "repeats"),
    "text turnover": (bars().assign(turnover="x"), "turnover"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_frame_is_refused_in_one_line_that_names_it(case, refuse_input):
    frame, word = BAD[case]
    refuse_input(lambda: check_frame(frame, "XYZ"), f"XYZ: .*{word}")


BAD_FRAMES = [
    ({}, "at least one symbol"),
    ([bars()], "dict"),
    (bars(), "dict"),
    ({1: bars()}, "got 1"),
    ({"": bars()}, "non-empty"),
    ({"  ": bars()}, "non-empty"),
    ({"A": bars(), "B": bars().iloc[::-1]}, "B"),
]


@pytest.mark.parametrize(("frames", "word"), BAD_FRAMES)
def test_bad_frames_are_refused(frames, word, refuse_input):
    refuse_input(lambda: check_frames(frames), word)


def test_invalid_input_is_a_value_error():
    assert issubclass(InvalidInputError, ValueError)


def test_the_message_names_value_row_and_count(refuse_input):
    frame = bars()
    frame.iloc[[3, 5], frame.columns.get_loc("close")] = -2.5
    words = r"got -2\.5 at 2024-01-01 03.*row 3; 2 in all"
    refuse_input(lambda: check_frame(frame, "BTC"), words)


def test_integers_and_nullable_numbers_become_float64():
    frame = bars().round().astype("Int64")
    frame.loc[frame.index[1], "volume"] = pd.NA
    checked = check_frame(frame)
    assert (checked.dtypes == np.float64).all()
    assert np.isnan(checked["volume"].iloc[1])


def test_other_zones_become_utc_and_other_columns_are_left_out():
    frame = bars().tz_convert("Asia/Tokyo").assign(vwap=1.0, turnover=2)
    checked = check_frame(frame)
    assert str(checked.index.tz) == "UTC"
    assert list(checked.columns) == [*FRAME_COLUMNS, "turnover"]
    pd.testing.assert_index_equal(checked.index, bars().index)


def test_a_checked_frame_is_a_copy_with_its_attrs():
    frame = bars()
    frame.attrs["close_only"] = True
    checked = check_frame(frame)
    checked.iloc[0, 0] = 1e9
    assert frame.iloc[0, 0] == 100.0
    assert checked.attrs == {"close_only": True}


def test_a_missing_bar_and_a_zero_volume_are_no_fault():
    frame = bars()
    frame.iloc[2] = np.nan
    frame.iloc[3, frame.columns.get_loc("volume")] = 0.0
    pd.testing.assert_frame_equal(check_frame(frame), frame, check_freq=False)


def test_prices_off_by_rounding_are_set_right_and_no_further(refuse_input):
    """Adjusted prices end a rounding error past their own high or low (yfinance issue 2857)."""
    frame = bars()
    frame["high"] = frame["close"] * (1 - 1e-12)
    frame["low"] = frame["open"] * (1 + 1e-12)
    checked = check_frame(frame)
    assert checked["high"].equals(frame["close"].rename("high"))
    assert checked["low"].equals(frame["open"].rename("low"))
    further = bars().assign(high=bars()["close"] * (1 - 1e-7), low=50.0)
    refuse_input(lambda: check_frame(further), "must be between low and high")


def test_prices_at_the_end_of_what_floats_count_warn_of_nothing():
    largest = np.finfo(float).max
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    bars = pd.DataFrame(dict.fromkeys(FRAME_COLUMNS, 1.0), index)
    bars.iloc[1, :4] = largest
    with np.errstate(over="raise"):
        assert (check_frame(bars)["close"] == bars["close"]).all()


@pytest.mark.parametrize(
    ("opens", "spacing"), [("04 05 08 09", "1D"), ("01T00 01T01 01T04", "1h")], ids=["days", "tie"]
)
def test_without_close_time_a_bar_closes_one_modal_spacing_after_its_open(opens, spacing):
    """Over a weekend that is a day, not the mean of the gaps; the shorter of a tie."""
    opens = pd.to_datetime([f"2024-01-{text}" for text in opens.split()], utc=True)
    assert close_times(with_index(opens)).equals(opens + pd.Timedelta(spacing))


def test_a_single_bar_needs_a_close_time(refuse_input):
    refuse_input(lambda: close_times(bars(1)), "close_time")
    known = HOURS[:1] + pd.Timedelta("59min")
    assert close_times(check_frame(bars(1).assign(close_time=known))).equals(known)


NUMBERS = (st.integers(), st.floats(), st.decimals(), st.complex_numbers(), st.booleans())
OTHERS = (st.text(max_size=5), st.binary(max_size=5), st.lists(st.integers(), max_size=2))
ANYTHING = st.one_of(st.none(), *NUMBERS, *OTHERS, st.datetimes())


@settings(max_examples=300)
@given(st.sampled_from([*FRAME_COLUMNS, "close_time", "turnover"]), st.integers(0, 5), ANYTHING)
def test_any_cell_is_taken_or_refused_by_name(column, row, value):
    """Whatever stands in a cell, the answer is a frame or one line, never another error."""
    frame = bars().assign(close_time=CLOSES, turnover=1.0)
    cells = list(frame[column])
    cells[row] = value
    frame[column] = pd.Series(cells, frame.index, dtype=object)
    try:
        checked = check_frame(frame, "XYZ")
    except InvalidInputError as refused:
        assert "XYZ" in str(refused)
    else:
        assert (checked[list(FRAME_COLUMNS)].dtypes == np.float64).all()
        assert len(checked) == 6


@settings(max_examples=60)
@given(st.lists(ANYTHING, min_size=6, max_size=6))
def test_any_index_is_taken_or_refused_by_name(values):
    try:
        index = pd.Index(values)
    except (TypeError, ValueError, OverflowError):
        return
    with pytest.raises(InvalidInputError, match="XYZ"):
        check_frame(bars().set_axis(index), "XYZ")


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.sampled_from(["s", "ms", "us"]))
def test_close_times_increase_and_follow_the_open(gaps, unit):
    minutes = pd.to_timedelta(np.cumsum([0, *gaps]), unit="min")
    opens = (pd.Timestamp("2024-01-01", tz="UTC") + minutes).as_unit(unit)
    known = close_times(check_frame(with_index(opens)))
    assert known.is_monotonic_increasing and known.is_unique
    assert (known > opens).all()
