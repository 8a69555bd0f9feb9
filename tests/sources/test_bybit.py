"""The Bybit loader against a faithful stand-in: grids, ranges, clocks, listings, pacing, Ctrl-C."""

import datetime as dt
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import requests
from standin import scene
from standin.bybit import INTERVALS, Ask, BybitStandIn, floor, following, opens, to_ms
from standin.scene import FOREVER, PATIENT, SYMBOL, fetch_with_gaps, frame_rows, true_rows
from standin.scene import make_loader as loader

from crossattn.data.frame import check_frame
from crossattn.errors import VenueError
from crossattn.sources._client import KlineClient, RateLimiter
from crossattn.sources._downloads import Download
from crossattn.sources._http import Stopped, bounded_session
from crossattn.sources._intervals import INTERVALS as GRIDS
from crossattn.sources.bybit import BybitDataLoader

NOW = to_ms("2024-03-01T10:17:23")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOL-27JUN25", "btcusdt", "1000PEPEUSDT", "X.Y")


@pytest.fixture
def server():
    listings = dict.fromkeys((SYMBOL, *SYMBOLS), FOREVER)
    with BybitStandIn(listings, NOW) as running:
        yield running


def check_exact(server, frame, symbol=SYMBOL, interval="60", **span):
    """Assert that a frame holds all closed candles of a span, and return how many."""
    truth = true_rows(server, symbol, interval, **span)
    np.testing.assert_array_equal(frame_rows(frame), truth)
    return len(truth)


# Grids


@pytest.mark.parametrize("interval", INTERVALS)
def test_slots_agree_with_the_calendar(interval):
    grid, rng = GRIDS[interval], np.random.default_rng(7)
    for ms in rng.integers(0, to_ms("2100-01-01"), 300).tolist():
        opened = floor(interval, ms)
        slot = grid.slot_of(ms)
        assert grid.open_of(slot) == opened
        assert grid.open_of(slot + 1) == following(interval, opened)
        assert grid.first_slot_from(opened) == slot
        assert grid.first_slot_from(opened + 1) == slot + 1
        assert grid.closed_before(following(interval, opened)) == slot
        assert grid.closed_before(following(interval, opened) - 1) == slot - 1
    many = rng.integers(0, to_ms("2100-01-01"), 50)
    opened = [floor(interval, ms) for ms in many.tolist()]
    assert grid.open_of(grid.slot_of(many)).tolist() == opened


@pytest.mark.parametrize("interval", INTERVALS)
def test_each_interval_of_six_symbols_is_exact(server, interval):
    count = 1100 if interval not in "DWM" else {"D": 1100, "W": 200, "M": 40}[interval]
    step = following(interval, floor(interval, NOW)) - floor(interval, NOW)
    start = pd.Timestamp(max(NOW - count * step, FOREVER[0]), unit="ms", tz="UTC")
    frames = loader(server).fetch_multi_asset(SYMBOLS, interval, start=start)
    assert list(frames) == list(SYMBOLS)
    for symbol, frame in frames.items():
        begin = start.tz_localize(None).isoformat()
        n_bars = check_exact(server, frame, symbol, interval, start=begin, end="2024-03-02")
        assert n_bars >= min(count, 39) - 1
        assert frame.equals(check_frame(frame))
        assert frame["close_time"].iloc[-1] <= pd.Timestamp(NOW, unit="ms", tz="UTC")
    spans = [(ask.start, ask.end) for ask in server.asks if ask.end is not None]
    assert all(len(opens(interval, *span)) <= 1000 for span in spans)


# Ranges


RANGES = [
    ("2024-02-01T03:00", dt.datetime(2024, 2, 1, 5, tzinfo=dt.UTC), "03:00 04:00 05:00"),
    ("2024-02-01T03:00:01", "2024-02-01T05:59+01:00", "04:00"),
]


@pytest.mark.parametrize(
    ("start", "end", "hours"), RANGES, ids=["both included", "from between two candles"]
)
def test_a_range_holds_the_candles_that_open_in_it(server, start, end, hours):
    frame = loader(server).fetch_klines(SYMBOL, start=start, end=end)
    assert " ".join(frame.index.strftime("%H:%M")) == hours
    assert frame.index.tz is not None and frame.index.name == "time"
    assert (frame["close_time"] - frame.index == pd.Timedelta("1h")).all()


@pytest.mark.parametrize("limit", [1, 7, 999, 1000, 1001, 2345])
def test_without_start_the_newest_limit_bars_come(server, limit):
    frame = loader(server).fetch_klines(SYMBOL, limit=limit)
    assert len(frame) == limit
    assert frame.index[-1] == pd.Timestamp("2024-03-01T09:00Z")
    assert (np.diff(frame.index) == np.timedelta64(1, "h")).all()
    assert len(server.asks) <= 1 + limit // 1000 + 1


def test_end_alone_gives_the_newest_bars_up_to_it(server):
    frame = loader(server).fetch_klines(SYMBOL, end="2024-01-01", limit=30)
    assert len(frame) == 30 and frame.index[-1] == pd.Timestamp("2024-01-01T00:00Z")


def test_the_newest_limit_reaches_over_a_gap(server):
    server.holes = set(opens("60", to_ms("2024-03-01T02:00"), to_ms("2024-03-01T04:00")))
    frame, lines = fetch_with_gaps(loader(server), SYMBOL, limit=20)
    assert len(frame) == 20
    assert lines == [f"missing: {SYMBOL} 2024-03-01T02:00:00Z..2024-03-01T04:00:00Z 3 bars"]


@pytest.mark.parametrize("wide", ["newest", "oldest"])
def test_it_does_not_matter_which_rows_of_a_wide_window_come(server, wide):
    server.wide = wide
    span = {"interval": "240", "start": "2021-01-01", "end": "2024-02-01"}
    frame = loader(server).fetch_klines(SYMBOL, **span)
    assert len(server.asks) == -(-check_exact(server, frame, **span) // 1000)


# Clocks


@pytest.mark.parametrize("hours", [-400_000, -9, -1, 0, 1, 9, 100])
def test_the_servers_clock_decides_what_has_closed(server, hours):
    server.now_ms = max(NOW + hours * 3_600_000, to_ms("2020-03-01T10:17"))
    now = pd.Timestamp(server.now_ms, unit="ms", tz="UTC")
    end = now + pd.Timedelta("5h")
    frame = loader(server).fetch_klines(SYMBOL, start=end - pd.Timedelta("60h"), end=end)
    assert frame["close_time"].iloc[-1] == now.floor("h")
    assert (np.diff(frame.index) == np.timedelta64(1, "h")).all()


def test_a_range_that_is_cut_by_the_servers_clock_names_no_open_bar(server):
    for year in (2040, 2021):  # ahead of this machine's clock, and behind it
        server.now_ms = to_ms(f"{year}-06-01T00:30")
        frame = loader(server).fetch_klines(SYMBOL, start=f"{year}-05-31", end=f"{year + 9}-01-01")
        assert len(frame) == 24


def test_a_range_in_the_future_is_refused(server):
    with pytest.raises(VenueError, match="no closed linear bar"):
        loader(server).fetch_klines(SYMBOL, start="2150-01-01", end="2150-01-02")


# Listings and gaps


@pytest.mark.parametrize("answer", ["clip", "empty", "first"])
@pytest.mark.parametrize("wide", ["newest", "oldest"])
def test_a_start_before_the_listing(server, answer, wide):
    server.symbols["NEW"] = (to_ms("2024-02-10T07:00"), FOREVER[1])
    server.before_listing, server.wide = answer, wide
    span = {"start": "2021-01-01", "end": "2024-03-02"}
    frame, lines = fetch_with_gaps(loader(server), "NEW", **span)
    check_exact(server, frame, "NEW", **span)
    assert lines == ["missing: NEW 2021-01-01T00:00:00Z..2024-02-10T06:00:00Z 27247 bars"]
    assert len(server.asks) < 40


def test_minutes_since_1970_of_a_young_symbol_take_few_questions(server):
    server.symbols["NEW"] = (NOW - 3_000 * 60_000, FOREVER[1])
    frame, lines = fetch_with_gaps(loader(server), "NEW", "1", start="1970-01-01")
    assert len(frame) == 2999 and len(lines) == 1
    assert len(server.asks) < 20


def test_a_delisting_leaves_a_named_tail(server):
    server.symbols["OLD"] = (FOREVER[0], to_ms("2024-01-20T12:00"))
    frame, lines = fetch_with_gaps(loader(server), "OLD", start="2024-01-01", end="2024-03-02")
    assert frame.index[-1] == pd.Timestamp("2024-01-20T11:00Z")
    assert lines == ["missing: OLD 2024-01-20T12:00:00Z..2024-03-01T09:00:00Z 982 bars"]
    frame, lines = fetch_with_gaps(loader(server), "OLD", limit=50)
    assert len(frame) == 50 and frame.index[-1] == pd.Timestamp("2024-01-20T11:00Z")


def test_gaps_of_every_shape_are_named_and_nothing_else_is_missing(server):
    hours = opens("60", to_ms("2023-06-01"), to_ms("2024-02-01"))
    rng = np.random.default_rng(3)
    server.holes = set(rng.choice(hours, 40, replace=False).tolist())
    server.holes |= set(hours[500:2900]) | set(hours[-3:]) | set(hours[:2])
    span = {"start": "2023-06-01", "end": "2024-02-01"}
    frame, lines = fetch_with_gaps(loader(server), SYMBOL, **span)
    check_exact(server, frame, **span)
    assert scene.named_opens(lines) == server.holes


def test_a_row_that_is_left_out_twice_is_no_gap_yet(server):
    victim = str(to_ms("2024-02-01T05:00"))

    def drop(server, ask, answer):
        if ask.number <= 2:
            answer.rows = [row for row in answer.rows if row[0] != victim]

    server.act = drop
    frame, lines = fetch_with_gaps(loader(server), SYMBOL, start="2024-02-01", end="2024-02-02")
    assert len(frame) == 25 and lines == []


def test_a_symbol_without_any_bar_is_refused_and_the_others_come(server):
    server.symbols["VOID"] = (FOREVER[1], FOREVER[1])
    fetched = loader(server).fetch([SYMBOL, "VOID", "NOSUCH"], start="2024-02-01", end="2024-02-02")
    assert list(fetched.frames) == [SYMBOL]
    assert set(fetched.failures) == {"VOID", "NOSUCH"}
    with pytest.raises(VenueError, match=r"VOID.*; .*NOSUCH|NOSUCH.*; .*VOID"):
        fetched.raise_failures()


def test_a_leap_in_a_page_of_one_candle_is_judged_by_what_is_known(server, tmp_path):
    source = loader(server, cache_dir=tmp_path)
    source.fetch_klines(SYMBOL, start="2024-02-01", end="2024-02-02")

    def leap(server, ask, answer):
        answer.rows = [[r[0], *(str(40 * float(p)) for p in r[1:5]), *r[5:]] for r in answer.rows]

    server.act = leap
    frame, lines = fetch_with_gaps(source, SYMBOL, start="2024-02-01", end="2024-02-02T01:00")
    assert len(frame) == 25
    about, line = lines
    assert "absurdly far" in about and line.startswith(f"missing: {SYMBOL} 2024-02-02T01:00:00Z..")


# Manners


def test_patience_has_an_end(server):
    """A page that stays away is given up at the bound, not at the number of tries."""
    server.act = lambda server, ask, answer: setattr(answer, "status", 500)
    limits = replace(PATIENT, give_up_s=0.5, attempts=10**6)
    began = time.monotonic()
    # the last request may be cut short by what is left of the patience
    with pytest.raises(VenueError, match=r"gave up.*(HTTP 500|no whole answer)"):
        loader(server, limits).fetch_klines(SYMBOL)
    assert time.monotonic() - began < 3


def test_a_ban_stops_all_symbols_at_once(server):
    def ban(server, ask, answer):
        answer.status, answer.body = 403, b"access too frequent"

    server.act = ban
    with pytest.raises(VenueError, match="10 minutes"):
        loader(server).fetch_multi_asset(SYMBOLS)
    assert len(server.asks) <= PATIENT.workers


def test_the_reset_time_of_a_rate_limit_is_honoured(server):
    times = []

    def limit(server, ask, answer):
        times.append(time.monotonic())
        if ask.number == 1:
            answer.envelope["retCode"] = 10006
            answer.headers["X-Bapi-Limit-Reset-Timestamp"] = str(server.now_ms + 400)

    server.act = limit
    loader(server).fetch_klines(SYMBOL)
    assert 0.39 <= times[1] - times[0] < 3


def test_requests_are_spaced():
    limiter, stop = RateLimiter(0.02), threading.Event()
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: limiter.wait(began + 9, stop), range(20)))
    assert time.monotonic() - began >= 19 * 0.02 - 0.005
    limiter.hold(60)
    assert limiter.wait(time.monotonic() + 1, stop) is False


def test_the_query_is_what_the_protocol_asks_for(server):
    loader(server, category="spot").fetch_klines("X.Y", "M", start="2023-01-01", end="2023-03-01")
    span = to_ms("2023-01-01"), to_ms("2023-04-01") - 1
    assert server.asks == [Ask("spot", "X.Y", "M", *span, limit=1000, number=1)]


def test_a_session_of_the_callers_is_used_and_a_path_before_v5_kept(server):
    seen = []

    class Session(requests.Session):
        def send(self, request, **options):
            seen.append(request.url)
            request.url = request.url.replace("/proxy/v5", "/v5")
            return super().send(request, **options)

    source = BybitDataLoader(base_url=server.url + "/proxy/", session=Session(), _limits=PATIENT)
    assert len(source.fetch_klines(SYMBOL, limit=5)) == 5
    assert all(url.startswith(server.url + "/proxy/v5/market/kline?") for url in seen)


def test_an_unreachable_server_is_a_venue_error():
    limits = replace(PATIENT, attempts=2)
    with pytest.raises(VenueError, match="connection refused"):
        BybitDataLoader(base_url="http://127.0.0.1:9", _limits=limits).fetch_klines(SYMBOL)


def interrupted_at(number):
    """Make an act that sends this process Ctrl-C with the answer of that number."""

    def act(server, ask, answer):
        if ask.number == number:
            os.kill(os.getpid(), signal.SIGINT)

    return act


def test_ctrl_c_keeps_what_came(server, tmp_path):
    server.act, server.delay_s = interrupted_at(5), 0.05
    source = loader(server, cache_dir=tmp_path)
    span = {"start": "2023-01-01", "end": "2024-01-01"}
    with pytest.raises(KeyboardInterrupt):
        source.fetch_klines(SYMBOL, **span)
    assert len(server.asks) in (5, 6)
    check_exact(server, source.fetch_klines(SYMBOL, **span), **span)
    assert len(server.asks) <= 9 + 2


def test_ctrl_c_hands_over_what_came_in_part(server):
    server.act, server.delay_s = interrupted_at(3), 0.05
    fetched = loader(server).fetch([SYMBOL, "X.Y"], start="2023-06-01", end="2024-01-01")
    assert fetched.interrupted
    for symbol, frame in fetched.frames.items():
        truth = true_rows(server, symbol, start="2023-06-01", end="2024-01-01")
        assert np.array_equal(frame_rows(frame), truth[-len(frame) :])
        (gap,) = [gap for gap in fetched.gaps if gap.symbol == symbol]
        assert gap.count == len(truth) - len(frame)


def test_a_client_stops_waiting_when_told(server):
    server.delay_s = 5
    session = bounded_session(None, server.url)
    client = KlineClient(server.url, "linear", 10.0, session, PATIENT)
    threading.Timer(0.1, client.stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        client.get_page(Download(SYMBOL, 20), GRIDS["60"], None)
    assert time.monotonic() - began < 2
