"""Yahoo through yfinance against a stand-in: right frames or errors that name the cause."""

import json
import logging
import sys
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from standin.damage import flipped
from standin.yahoo import YahooStandIn, refusal, values

from crossattn import cli, fetch_stock_data
from crossattn.data.files import read_bars
from crossattn.data.frame import check_frame
from crossattn.errors import CrossAttentionWarning, MissingDependencyError, VenueError
from crossattn.sources import yahoo
from crossattn.sources._client import FetchLimits
from crossattn.sources.yahoo import YahooSource

yfinance = pytest.importorskip("yfinance")
BRISK = FetchLimits(give_up_s=5.0, attempts=3, first_wait_s=0.01)


@pytest.fixture(autouse=True)
def _own_zone_cache(tmp_path_factory):
    yfinance.set_tz_cache_location(str(tmp_path_factory.mktemp("zones")))


def source(server, now="2024-06-01", limits=BRISK, **options):
    moment = pd.Timestamp(now, tz="UTC")
    return YahooSource(session=server.session(), _limits=limits, _now=lambda: moment, **options)


def fetch(server, start="2024-02-01", end="2024-02-02", interval="1h", symbol="AAPL", **options):
    """Return frame, lines about gaps, and notices."""
    fetched = source(server, **options).fetch([symbol], start, end, interval)
    fetched.raise_failures()
    frame = fetched.frames[symbol]
    assert frame.equals(check_frame(frame))
    return frame, [str(gap) for gap in fetched.gaps], fetched.notices


def fetch_once(*span, act=None, adjust=1.0, **options):
    """Do the same with a server of its own."""
    with YahooStandIn(act, adjust) as server:
        return fetch(server, *span, **options)


def true_values(frame):
    return np.array([values("AAPL", int(stamp)) for stamp in frame.index.as_unit("s").asi8])


def utc(times) -> list[str]:
    return pd.DatetimeIndex(times).strftime("%m-%d %H:%M").tolist()


# Times


def test_hourly_bars_of_new_york_across_the_change_to_daylight_saving_time():
    frame, gaps, _ = fetch_once("2024-03-08", "2024-03-12")
    assert utc(frame.index[[0, 6, 7, 13]]) == [
        "03-08 14:30", "03-08 20:30", "03-11 13:30", "03-11 19:30",
    ]  # fmt: skip
    closes = utc(frame["close_time"])
    assert closes[0] == "03-08 15:30"
    # the last bar of a session lasts half an hour
    assert closes[6] == "03-08 21:00" and closes[13] == "03-11 20:00"
    assert len(frame) == 14 and gaps == []
    columns = ["open", "high", "low", "close", "volume"]
    np.testing.assert_array_equal(frame[columns], true_values(frame))


def test_daily_bars_are_known_when_their_session_ends():
    frame, gaps, _ = fetch_once("2023-11-21", "2023-11-29", "1d")
    # Thanksgiving is no bar and no gap; the day after closes at 13:00
    assert utc(frame.index) == [
        "11-21 14:30", "11-22 14:30", "11-24 14:30", "11-27 14:30", "11-28 14:30",
    ]  # fmt: skip
    assert utc(frame["close_time"])[1:4] == ["11-22 21:00", "11-24 18:00", "11-27 21:00"]
    assert gaps == []


def test_coins_and_currencies_keep_their_own_hours():
    coin, gaps, _ = fetch_once("2024-03-09", "2024-03-10", symbol="BTC-USD")
    pair, _, _ = fetch_once("2024-03-29", "2024-04-02", "1d", symbol="EURUSD=X")
    assert len(coin) == 25 and gaps == []
    assert (coin["close_time"] - coin.index == pd.Timedelta("1h")).all()
    # a day of a pair begins at midnight in London, whose clocks change on 31 March
    assert utc(pair["close_time"])[1:3] == ["03-31 00:00", "03-31 23:00"]
    assert pair["volume"].isna().all()


def test_start_and_end_are_included():
    frame, _, _ = fetch_once("2024-02-01T15:30", "2024-02-01T18:30")
    assert utc(frame.index) == ["02-01 15:30", "02-01 16:30", "02-01 17:30", "02-01 18:30"]


LAST_BARS = [
    ("2024-02-01T17:29:59", "1h", "02-01 15:30"),
    ("2024-02-01T17:30:00", "1h", "02-01 16:30"),
    ("2024-02-01T20:59:59", "1d", "01-31 14:30"),
    ("2024-02-01T21:00:00", "1d", "02-01 14:30"),
]


@pytest.mark.parametrize(("now", "interval", "last"), LAST_BARS)
def test_the_bar_that_is_still_open_is_left_out(now, interval, last):
    frame, gaps, _ = fetch_once("2024-01-30", "2024-02-03", interval, now=now)
    assert utc(frame.index)[-1] == last
    assert gaps == []


def test_bars_of_half_an_hour_are_made_of_quarters():
    frame, gaps, _ = fetch_once(interval="30m")
    assert utc(frame.index)[::12] == ["02-01 14:30", "02-01 20:30"] and gaps == []


def test_a_live_quote_behind_the_last_bar_is_no_bar():
    def act(query, chart):
        chart["timestamp"].append(chart["timestamp"][-1] + 1234)
        for name, column in chart["indicators"]["quote"][0].items():
            column.append(0 if name == "volume" else 111.0)

    frame, gaps, _ = fetch_once(act=act, symbol="BTC-USD", now="2024-02-02T00:21")
    assert len(frame) == 24 and (frame["close"] != 111.0).all() and gaps == []


# Values


def test_adjusted_prices_stay_possible():
    frame, _, notices = fetch_once("2023-06-01", "2024-03-01", "1d", adjust=0.9137264953)
    assert notices == []
    whole = true_values(frame)[:, [0, 3]]
    assert np.allclose(frame[["open", "close"]], whole * 0.9137264953, rtol=1e-12)


def blank(*positions):
    """Make an act that blanks rows of the answer, as Yahoo does for bars without a trade."""

    def act(query, chart):
        for column in chart["indicators"]["quote"][0].values():
            for position in positions:
                column[position] = None

    return act


def test_rows_without_prices_are_gaps_by_name():
    frame, gaps, _ = fetch_once("2024-02-01", "2024-02-03", act=blank(2, 3, 8))
    assert len(frame) == 14 - 3
    assert gaps == [
        "missing: AAPL 2024-02-01T16:30:00Z..2024-02-01T17:30:00Z 2 bars",
        "missing: AAPL 2024-02-02T15:30:00Z..2024-02-02T15:30:00Z 1 bars",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("high", 1.0), ("low", 500.0), ("close", -3.0), ("open", 0.0), ("volume", -5)],
)
def test_an_impossible_bar_is_left_out_by_name(name, value):
    def act(query, chart):
        chart["indicators"]["quote"][0][name][4] = value

    frame, gaps, notices = fetch_once(act=act)
    assert len(frame) == 6
    assert gaps == ["missing: AAPL 2024-02-01T18:30:00Z..2024-02-01T18:30:00Z 1 bars"]
    assert notices == ["AAPL: left out, the bar of 2024-02-01 18:30:00+00:00 is impossible"]


# Failures


def _without_rows(query, chart):
    chart.pop("timestamp")
    chart["indicators"] = {"quote": [{name: [] for name in ("open", "close")}]}


NO_RESULT = json.dumps({"chart": {"result": None, "error": None}}).encode()
REACH = "1h data not available for startTime. The requested range must be within the last 730 days."
FAULTS = {
    "429": (lambda q, c: (429, b"Too Many Requests"), "limits the rate"),
    "500": (lambda q, c: (500, b"oops"), "gave up on Yahoo"),
    "502 with a page": (lambda q, c: (502, b"<html></html>"), "gave up on Yahoo"),
    "not JSON": (lambda q, c: (200, b"<html>consent</html>"), "gave up on Yahoo"),
    "empty body": (lambda q, c: (200, b""), "gave up on Yahoo"),
    "JSON of another kind": (lambda q, c: (200, b"[1, 2]"), "AAPL"),
    "no result": (lambda q, c: (200, NO_RESULT), "no price data"),
    "older than 730 days": (lambda q, c: refusal("Unprocessable", REACH), "730 days"),
    "delisted": (lambda q, c: refusal("Not Found", "No data found", 404), "No data found"),
    "maintenance": (lambda q, c: (200, b'"Will be right back"'), "DOWN"),
    "no rows": (lambda q, c: c.update(timestamp=[], indicators={"quote": [{}]}), "AAPL"),
    "rows without columns": (_without_rows, "AAPL"),
    "another symbol": (lambda q, c: c["meta"].update(symbol="MSFT"), "answered for MSFT"),
    "another interval": (
        lambda q, c: c["meta"].update(dataGranularity="1d"),
        "answered with 1d bars for 1h",
    ),
    "all rows blank": (blank(*range(7)), "no closed bar"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failure_raises_an_error_that_names_it(name):
    act, said = FAULTS[name]
    with pytest.raises(VenueError, match=said) as refused:
        fetch_once(act=act)
    assert str(refused.value).startswith("AAPL: ")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["429", "500", "not JSON", "empty body"])
def test_a_passing_failure_is_asked_again(name):
    count = iter(range(100))

    def act(query, chart):
        # yfinance itself asks a second time for statuses from 400
        return FAULTS[name][0](query, chart) if next(count) < 2 else None

    assert len(fetch_once(act=act)[0]) == 7


def test_an_empty_frame_names_the_reach_of_the_interval():
    with pytest.raises(VenueError, match="1h bars reach back 730 days"):
        fetch_once("2024-02-03", "2024-02-04")


def test_a_server_that_never_answers_is_given_up():
    released = threading.Event()

    def act(query, chart):
        released.wait(5)

    limits = FetchLimits(give_up_s=0.6, attempts=3, first_wait_s=0.01)
    with pytest.raises(VenueError, match="gave up on Yahoo"):
        fetch_once(act=act, limits=limits, timeout=0.2)
    released.set()


def test_the_others_come_when_one_symbol_fails():
    with YahooStandIn() as server:
        fetched = source(server).fetch(["NOPE", "AAPL"], "2024-02-01", "2024-02-02")
        assert list(fetched.frames) == ["AAPL"] and list(fetched.failures) == ["NOPE"]
        with pytest.raises(VenueError, match="NOPE"):
            fetch_stock_data(["NOPE"], "2024-02-01", "2024-02-02", session=server.session())


def test_yfinance_is_left_as_it_was():
    config, logger = yfinance.config.debug, logging.getLogger("yfinance")
    before = config.hide_exceptions, logger.level
    with pytest.raises(VenueError):
        fetch_once(act=FAULTS["500"][0])
    assert (config.hide_exceptions, logger.level) == before


def test_without_yfinance_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(MissingDependencyError, match=r"crossattn\[data\]"):
        fetch_stock_data(["AAPL"], "2024-01-01", "2024-01-02")


def test_gaps_are_warnings_for_callers_of_the_function():
    span = ["AAPL"], "2024-02-01", "2024-02-02"
    with YahooStandIn(blank(1)) as server:
        with pytest.warns(CrossAttentionWarning, match="^missing: AAPL 2024-02-01T15:30:00Z"):
            frames = fetch_stock_data(*span, session=server.session())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            server.act = None
            again = fetch_stock_data(*span, session=server.session())
    assert len(frames["AAPL"]) == 6 and len(again["AAPL"]) == 7


# Cache and command


def test_the_cache_serves_what_it_holds_and_never_stitches(tmp_path):
    span = ("2024-01-02", "2024-02-01", "1d")
    with YahooStandIn() as server:
        first, _, _ = fetch(server, *span, cache_dir=tmp_path)
        asked = len(server.asks)
        assert fetch(server, *span, cache_dir=tmp_path)[0].equals(first)
        inner, _, _ = fetch(server, "2024-01-10", "2024-01-20", "1d", cache_dir=tmp_path)
        assert inner.equals(first["2024-01-10":"2024-01-19"])
        assert len(server.asks) == asked
        server.adjust = 0.5
        longer, _, _ = fetch(server, "2024-01-02", "2024-02-08", "1d", cache_dir=tmp_path)
        assert np.allclose(longer["close"].iloc[: len(first)], first["close"] / 2)
        assert len(server.asks) > asked


def test_a_damaged_cache_is_fetched_anew(tmp_path):
    with YahooStandIn() as server:
        first, _, _ = fetch(server, cache_dir=tmp_path)
        (path,) = tmp_path.rglob("*.parquet")
        path.write_bytes(flipped(path.read_bytes()))
        asked = len(server.asks)
        again, _, notices = fetch(server, cache_dir=tmp_path)
    assert again.equals(first) and len(notices) == 1 and "fetched anew" in notices[0]
    assert len(server.asks) > asked


def test_the_command_writes_what_came(tmp_path, monkeypatch, capsys):
    with YahooStandIn(blank(1)) as server:
        monkeypatch.setattr(yahoo, "YahooSource", lambda **given: source(server, **given))
        words = ["--symbols", "AAPL,^GSPC,NOPE", "--start", "2024-02-01", "--end", "2024-02-02"]
        code = cli.main(["fetch", "--source", "yahoo", *words, "--out", str(tmp_path)])
    told, complaints = capsys.readouterr()
    assert code == 2 and complaints.startswith("error: NOPE: ") and complaints.count("\n") == 1
    frames = read_bars(tmp_path)
    assert set(frames) == {"AAPL", "^GSPC"}
    assert utc(frames["AAPL"]["close_time"])[-1] == "02-01 21:00"
    assert "missing: ^GSPC 2024-02-01T15:30:00Z..2024-02-01T15:30:00Z 1 bars" in told
