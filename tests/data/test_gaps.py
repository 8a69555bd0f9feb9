"""Missing bars are named by symbol and range."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn.data.gaps import missing_bars
from crossattn.sources.calendar import session_times
from crossattn.sources.samples import load_sample

OPENS = pd.date_range("2024-01-01", periods=40, freq="h", tz="UTC", name="time")


def frame(keep=slice(None)) -> pd.DataFrame:
    columns = ["open", "high", "low", "close", "volume"]
    return pd.DataFrame(3.0, OPENS, columns).iloc[keep]


def test_runs_are_named_by_their_first_and_last_bar():
    hole = [i for i in range(40) if i not in (5, 6, 7, 20)]
    nan = frame().copy()
    nan.iloc[30] = np.nan
    table = missing_bars({"B": frame(hole), "A": nan})
    assert table["symbol"].tolist() == ["B", "B", "A"]
    assert table["first"].tolist() == [OPENS[5], OPENS[20], OPENS[30]]
    assert table["last"].tolist() == [OPENS[7], OPENS[20], OPENS[30]]
    assert table["count"].tolist() == [3, 1, 1]


@settings(max_examples=40)
@given(st.sets(st.integers(0, 39), max_size=30))
def test_every_missing_bar_is_in_exactly_one_range(absent):
    """Those before a late listing and after the last bar too, as they are expected."""
    keep = [i for i in range(40) if i not in absent]
    table = missing_bars({"A": frame(keep)}, OPENS)
    listed = [t for row in table.itertuples() for t in OPENS if row.first <= t <= row.last]
    assert listed == [OPENS[i] for i in sorted(absent)]
    assert table["count"].sum() == len(absent)


def test_holidays_are_no_gap_where_the_calendar_is_given():
    stock = load_sample("us_tech")["IBM"].loc["2012"]
    days = pd.date_range("2012-01-01", "2012-12-31")
    sessions = session_times(days)["open"].dropna()
    assert missing_bars({"IBM": stock}, pd.DatetimeIndex(sessions)).empty
    lost = missing_bars({"IBM": stock.drop(stock.index[100])}, pd.DatetimeIndex(sessions))
    assert lost["first"].tolist() == [stock.index[100]]


def test_a_single_bar_has_no_grid_of_its_own(refuse_input):
    refuse_input(lambda: missing_bars({"A": frame(slice(0, 1))}), "spacing")
    refuse_input(lambda: missing_bars({"A": frame()}, OPENS.tz_localize(None)), "expected")
