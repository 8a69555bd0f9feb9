"""Panels: one clock of what is known, and nothing ever carried forward."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn.data.frame import FRAME_COLUMNS
from crossattn.data.panel import align_panel, as_panel, symbols_of
from crossattn.simulate.market import simulate_market
from crossattn.sources.calendar import date_by_sessions, session_times
from crossattn.sources.samples import load_sample


def frame_at(opens: pd.DatetimeIndex, seed: int) -> pd.DataFrame:
    close = np.random.default_rng(seed).uniform(50, 60, len(opens))
    return pd.DataFrame(
        {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 7.0},
        index=opens.rename("time"),
    )


def constant(days: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame(10.0, days, list(FRAME_COLUMNS))


def hourly(n: int, seed: int = 0, start: str = "2024-03-01") -> pd.DataFrame:
    return frame_at(pd.date_range(start, periods=n, freq="h", tz="UTC"), seed)


def test_every_cell_is_the_bar_that_closed_then_or_nan():
    frames = {"B": hourly(9).drop(hourly(9).index[[2, 3]]), "A": hourly(12, 1).iloc[4:]}
    panel = align_panel(frames)
    assert panel.index.name == "close_time"
    assert panel.columns.names == ["field", "symbol"]
    assert symbols_of(panel) == ["B", "A"]
    for symbol, frame in frames.items():
        for row in panel.index:
            opened = row - pd.Timedelta("1h")
            cells = panel.loc[row].xs(symbol, level="symbol")
            bar = frame.loc[opened] if opened in frame.index else pd.Series(np.nan, FRAME_COLUMNS)
            pd.testing.assert_series_equal(cells, bar, check_names=False)


def test_inner_keeps_the_rows_where_all_have_a_close():
    frames = {"A": hourly(9), "B": hourly(9, 1).iloc[3:]}
    frames["A"].iloc[5] = np.nan
    inner = align_panel(frames, how="inner")
    assert len(inner) == 5
    assert inner.notna().all(axis=None)
    pd.testing.assert_frame_equal(inner, align_panel(frames).loc[inner.index])


NEW_YORK = [
    ("2024-03-08", "21:00"),  # winter time
    ("2024-03-11", "20:00"),  # summer time from the 10th on
    ("2024-07-03", "17:00"),  # half-day before Independence Day
    ("2018-11-23", "18:00"),  # half-day after Thanksgiving
]


@pytest.mark.parametrize(("day", "close"), NEW_YORK)
def test_new_york_closes_by_local_time(day, close):
    frame = date_by_sessions(constant(pd.DatetimeIndex([day])))
    assert frame["close_time"].iloc[0] == pd.Timestamp(f"{day} {close}", tz="UTC")
    assert frame.index[0].tz_convert("America/New_York").strftime("%H:%M") == "09:30"


def test_stocks_beside_a_market_that_never_closes():
    """A stock's cell is there at its session's end, half-days included, and nowhere else."""
    stock = load_sample("us_tech")["AAPL"].loc["2012-11-19":"2012-11-26"]
    coin = frame_at(pd.date_range("2012-11-19", "2012-11-27", freq="h", tz="UTC"), 5)
    close = align_panel({"AAPL": stock, "COIN": coin})["close"]
    held = close["AAPL"].dropna()
    # Thanksgiving is missing, the Friday after it ends at 13:00 in New York
    assert [t.strftime("%a %H:%M") for t in held.index] == [
        "Mon 21:00", "Tue 21:00", "Wed 21:00", "Fri 18:00", "Mon 21:00",
    ]  # fmt: skip
    assert close.loc[held.index, "COIN"].notna().all()
    assert close["AAPL"].isna().sum() == len(coin) - 5


def test_days_without_a_session_are_left_out():
    days = pd.date_range("2024-12-23", "2024-12-29")
    times = session_times(days)
    assert times["close"].notna().tolist() == [True, True, False, True, True, False, False]
    assert len(date_by_sessions(constant(days))) == 4


def test_tokyo_is_known_before_london_before_new_york_on_the_same_day():
    day = pd.DatetimeIndex(["2024-02-06"])
    closes = [session_times(day, code)["close"].iloc[0] for code in ("XTKS", "XLON", "XNYS")]
    assert closes == sorted(closes)
    assert closes[0].hour == 6


@settings(max_examples=25)
@given(st.data())
def test_the_future_changes_no_row_of_the_past(data):
    frames = {s: hourly(30, seed)[data.draw(st.integers(0, 9)) :] for seed, s in enumerate("ABC")}
    panel = align_panel(frames)
    cut = panel.index[data.draw(st.integers(12, len(panel) - 1))]
    changed = {}
    for symbol, frame in frames.items():
        after = frame.index + pd.Timedelta("1h") > cut
        changed[symbol] = frame.mask(pd.Series(after, frame.index), frame * 1.7, axis=0)
    pd.testing.assert_frame_equal(align_panel(changed).loc[:cut], panel.loc[:cut])


def test_turnover_and_close_only_survive():
    only = hourly(4).assign(volume=np.nan)
    only.attrs["close_only"] = True
    panel = align_panel({"A": hourly(4).assign(turnover=3.0), "B": only})
    assert panel["turnover"]["A"].eq(3.0).all()
    assert panel["turnover"]["B"].isna().all()
    assert panel.attrs == {"close_only": ["B"]}
    assert as_panel(panel).attrs == {"close_only": ["B"]}


def good_panel() -> pd.DataFrame:
    return simulate_market(n_assets=3, n_steps=8).panel


def panel_with(value: object, field: str = "close", row: int = 4) -> pd.DataFrame:
    panel = good_panel().astype(object)
    panel.iloc[row, panel.columns.get_loc((field, "A01"))] = value
    return panel


BAD_PANELS = {
    "list": ([1], "list"),
    "none": (None, "NoneType"),
    "array": (np.ones((3, 3)), "ndarray"),
    "one frame": (hourly(4), "symbol: frame"),
    "empty": (good_panel().iloc[:0], "no rows"),
    "three levels": (pd.concat({"x": good_panel()}, axis=1), r"\(field, symbol\)"),
    "repeated": (pd.concat([good_panel(), good_panel()], axis=1), "repeat"),
    "unsorted": (good_panel().iloc[::-1], "increase"),
    "repeated rows": (good_panel().iloc[[0, 0, 1]], "repeats"),
    "naive": (good_panel().tz_localize(None), "time zone"),
    "row numbers": (good_panel().reset_index(drop=True), "UTC"),
    "no volume": (good_panel().drop(columns="volume", level=0), "volume"),
    "half a symbol": (good_panel().drop(columns=[("low", "A02")]), "A02"),
    "text": (panel_with("x"), "numbers"),
    "zero": (panel_with(0.0), "A01: close must be positive"),
    "negative": (panel_with(-1.0, "low"), "A01: low must be positive"),
    "infinite": (panel_with(np.inf, "high"), "A01: high must be finite"),
    "volume": (panel_with(-1.0, "volume"), "A01: volume"),
    "above high": (panel_with(1e9), "A01: close must be between"),
    "high below low": (panel_with(1e-9, "high"), "A01: high must be at least low"),
    "nan only": (good_panel().mul([1.0, 1.0, np.nan] * 5), "A02"),
}


@pytest.mark.parametrize("case", BAD_PANELS)
def test_a_bad_panel_is_refused(case, refuse_input):
    panel, word = BAD_PANELS[case]
    refuse_input(lambda: as_panel(panel), word)


def day(text="2024-01-02", **zone) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([text], **zone)


NO_PANEL = [
    (lambda: session_times(day(), "NOWHERE"), "NOWHERE"),
    (lambda: session_times(day(tz="UTC")), "without a time zone"),
    (lambda: session_times(["2024-01-02"]), "DatetimeIndex"),
    (lambda: session_times(pd.DatetimeIndex([])), "at least one"),
    (lambda: session_times(day(pd.NaT)), "DatetimeIndex"),
    (lambda: date_by_sessions(constant(day("2024-01-06"))), "no session"),
    (lambda: align_panel({"A": hourly(3), "LONELY": hourly(1)}), "LONELY: a single bar has no"),
    (lambda: align_panel({"A": hourly(3), "B": hourly(3, start="2025")}, how="inner"), "A, B"),
]


@pytest.mark.parametrize(("call", "words"), NO_PANEL)
def test_days_and_frames_that_give_no_panel_are_refused(call, words, refuse_input):
    refuse_input(call, words)
