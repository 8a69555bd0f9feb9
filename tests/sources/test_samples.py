"""Samples: real bars, without a network, known when New York closed."""

import os
import sys

import numpy as np
import pandas as pd
import pytest
from bokeh_sampledata import stocks
from standin.commands import python

from crossattn import align_panel, load_sample, sample_names
from crossattn.data.frame import check_frames
from crossattn.errors import MissingDependencyError
from crossattn.sources import calendar

SECTORS = {
    *("Commodity", "Communication Services", "Consumer Discretionary", "Consumer Staples"),
    *("Energy", "Financials", "Health Care", "Index", "Industrials", "Technology", "Volatility"),
}


@pytest.mark.parametrize("name", sample_names())
def test_a_sample_is_valid_and_names_its_sectors(name):
    frames = load_sample(name)
    for symbol, frame in check_frames(frames).items():
        pd.testing.assert_frame_equal(frame, frames[symbol])
        assert frame.attrs["sector"] in SECTORS
        assert frame.attrs["market"] in ("Stocks", "Indices", "Commodities")
        new_york = frame["close_time"].dt.tz_convert("America/New_York")
        assert set(new_york.dt.strftime("%H:%M")) <= {"16:00", "13:00", "14:00", "15:30"}
        assert frame.attrs.get("close_only", False) == frame["volume"].isna().all()


def test_all_twenty_stocks_indices_and_oil_share_5012_days():
    panel = align_panel(load_sample("us_markets"), how="inner")
    assert panel["close"].shape == (5012, 23)
    assert panel["close"].notna().all(axis=None)


def test_a_split_is_no_crash():
    """Apple split 2:1 on 2000-06-21 and 2005-02-28; raw closes halve there, opens too."""
    apple = load_sample("us_tech")["AAPL"]
    over_night = np.log(apple["open"] / apple["close"].shift()).loc["2005-02-25":"2005-03-02"]
    assert over_night.abs().max() < 0.05
    # adjusting keeps what was paid: price times volume is the raw one
    raw = pd.DataFrame(stocks.AAPL)
    paid = (raw["close"] * raw["volume"]).to_numpy()
    np.testing.assert_allclose(apple["close"] * apple["volume"], paid, rtol=1e-12)


def test_days_of_the_week_and_known_returns():
    closes = align_panel(load_sample("us_indices"))["close"]
    crash = np.log(closes["SPX"]).diff().loc["2008-10-15"].iloc[0]
    assert crash == pytest.approx(np.log(1 - 0.0903), abs=2e-4)
    assert closes.index.day_name().nunique() == 5


def test_a_call_gives_a_fresh_copy():
    mine = load_sample("us_volatility")["VIX"]
    mine.loc[:, "close"] = np.nan
    assert load_sample("us_volatility")["VIX"]["close"].notna().all()


def test_samples_need_no_network(tmp_path):
    script = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise OSError('no network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from crossattn import load_sample, sample_names\n"
        "load_sample('us_volatility'), load_sample('us_indices')\n"
        "assert 'arch' not in sys.modules, 'its models take seconds to import'\n"
        "print([len(load_sample(name)) for name in sample_names()])\n"
    )
    env = {"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = python(script, check=True, cwd=tmp_path, env=env)
    assert done.stdout.strip() == "[20, 5, 3, 3, 23]"


@pytest.mark.parametrize("name", ["", "crypto", "../us_stocks", None, 3, ["us_tech"]])
def test_an_unknown_sample_is_refused_with_the_names_there_are(name, refuse_input):
    refuse_input(lambda: load_sample(name), "us_stocks, us_tech")


MISSING = [
    ("us_stocks", "skfolio"),
    ("us_tech", "bokeh_sampledata"),
    ("us_indices", "arch"),
    ("us_tech", "exchange_calendars"),
]


@pytest.mark.parametrize(("name", "package"), MISSING)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name, package):
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    calendar._schedule.cache_clear()
    with pytest.raises(MissingDependencyError, match=rf"{package}.*crossattn\[data\]"):
        load_sample(name)
