"""Bad arguments of loaders, bad files and names: refused before anything is asked or written."""

from __future__ import annotations

import pandas as pd
import pytest

from crossattn import (
    BybitDataLoader,
    align_panel,
    fetch_stock_data,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn._utils import select_device
from crossattn.data.files import read_bars, stem_to_symbol, symbol_to_stem, write_bars
from crossattn.sources.calendar import date_by_sessions, session_times
from crossattn.windows.splits import combinatorial_folds, walk_forward_folds

NAN, INF = float("nan"), float("inf")


def bars() -> pd.DataFrame:
    return simulate_market("null", n_assets=2, n_steps=60).frames["A00"]


class NoNetwork:
    """A session that must never be used."""

    def __getattr__(self, name):
        raise AssertionError(f"the session was asked for {name!r}")


def bybit(**options):
    return BybitDataLoader(session=NoNetwork(), **options)


def klines(symbol="BTCUSDT", **options):
    return bybit(base_url="http://127.0.0.1:9").fetch_klines(symbol, **options)


TABLE = bars()
ODD_CASES = {
    "how a table": (lambda: align_panel({"A": TABLE}, how=TABLE), "how must be"),
    "n_assets a table": (lambda: simulate_market(n_assets=TABLE), "n_assets must be"),
    "change a table": (lambda: simulate_market("regimes", change=TABLE), "change must be"),
    "max_lag absurd": (lambda: simulate_market(max_lag=10**30), "max_lag must be at most"),
    "durations a table": (lambda: simulate_market(regime_durations=TABLE), "regime_durations"),
    "exchange a list": (lambda: session_times(pd.DatetimeIndex(["2024-01-02"]), []), "exchange"),
    "daily no table": (lambda: date_by_sessions(None, symbol="AAPL"), "AAPL: bars must be"),
    "device None": (lambda: select_device(None), "device 'None' cannot be used"),
    "data no windows": (lambda: walk_forward_folds(TABLE, train_size=9, test_size=9), "data must"),
    "folds of no windows": (lambda: combinatorial_folds([1, 2]), "data must be .*got list"),
    "lookback a table": (lambda: prepare_cross_attention_data({"A": TABLE}, TABLE), "lookback"),
}


@pytest.mark.parametrize("case", ODD_CASES)
def test_a_thing_of_another_kind_is_refused_in_one_line(case, refuse):
    refuse(*ODD_CASES[case])


LOADER_CASES = {
    "category": (lambda: bybit(category="option"), "category must be .*'option'"),
    "category None": (lambda: bybit(category=None), "category must be"),
    "timeout 0": (lambda: bybit(timeout=0), "timeout must be .*got 0"),
    "timeout negative": (lambda: bybit(timeout=-1.0), "timeout must be"),
    "timeout infinite": (lambda: bybit(timeout=INF), "timeout must be"),
    "timeout NaN": (lambda: bybit(timeout=NAN), "timeout must be"),
    "timeout text": (lambda: bybit(timeout="10s"), "timeout must be .*'10s'"),
    "base_url a file": (lambda: bybit(base_url="file:///etc/hosts"), "base_url"),
    "base_url no scheme": (lambda: bybit(base_url="api.bybit.com"), "base_url"),
    "base_url empty": (lambda: bybit(base_url=""), "base_url"),
    "base_url None": (lambda: bybit(base_url=None), "base_url"),
    "cache_dir a number": (lambda: bybit(cache_dir=3), "cache_dir must be"),
    "symbol empty": (lambda: klines(""), "symbol must be"),
    "symbol with a space": (lambda: klines("BTC USDT"), "symbol must be"),
    "symbol a number": (lambda: klines(7), "symbol must be .*7"),
    "symbol None": (lambda: klines(None), "symbol must be"),
    "symbol too long": (lambda: klines("A" * 99), "symbol must be"),
    "symbol with a line break": (lambda: klines("BTC\nUSDT"), "symbol must be"),
    "symbols a text": (lambda: bybit().fetch_multi_asset("BTCUSDT"), "symbols must be a list"),
    "symbols none": (lambda: bybit().fetch_multi_asset([]), "symbols must name"),
    "symbols None": (lambda: bybit().fetch_multi_asset(None), "symbols must be a list"),
    "interval 7": (lambda: klines(interval="7"), "interval must be .*'7'"),
    "interval 1h": (lambda: klines(interval="1h"), "interval must be .*'1h'"),
    "interval None": (lambda: klines(interval=None), "interval must be"),
    "start text": (lambda: klines(start="soon"), "start"),
    "start NaT": (lambda: klines(start=pd.NaT), "start"),
    "start after end": (
        lambda: klines(start="2024-02-01", end="2024-01-01"),
        "start must not be later than end",
    ),
    "no bar between": (
        lambda: klines(start="2024-01-01T00:10", end="2024-01-01T00:20"),
        "between start",
    ),
    "end text": (lambda: klines(end="tomorrow-ish"), "end"),
    "end a list": (lambda: klines(end=[2024]), "end"),
    "limit 0": (lambda: klines(limit=0), "limit must be .*got 0"),
    "limit 10.5": (lambda: klines(limit=10.5), "limit must be"),
    "limit text": (lambda: klines(limit="all"), "limit must be .*'all'"),
}


@pytest.mark.parametrize("case", LOADER_CASES)
def test_bad_arguments_of_the_loader_are_refused_before_any_request(case, refuse):
    refuse(*LOADER_CASES[case])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], "2024-01-01", "2024-02-01"), "symbols"),
        (("AAPL", "2024-01-01", "2024-02-01"), "symbols"),
        ((None, "2024-01-01", "2024-02-01"), "symbols"),
        (([""], "2024-01-01", "2024-02-01"), "symbol"),
        (([3], "2024-01-01", "2024-02-01"), "symbol"),
        ((["AAPL"], "soon", "2024-02-01"), "start"),
        ((["AAPL"], "2024-01-01", "later"), "end"),
        ((["AAPL"], "2024-03-01", "2024-02-01"), "start"),
        ((["AAPL"], "2024-01-01", "2024-02-01", "7h"), "interval"),
        ((["AAPL"], "2024-01-01", "2024-02-01", None), "interval"),
    ],
)
def test_bad_arguments_of_the_stock_loader_are_refused(arguments, words, refuse):
    refuse(lambda: fetch_stock_data(*arguments, session=NoNetwork()), words)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder: read_bars(folder / "nowhere"), "does not exist"),
        (lambda folder: read_bars(folder), "holds no"),
        (lambda folder: write_bars({}, folder), "at least one symbol"),
        (lambda folder: write_bars({"A": bars() * 0}, folder), "A: open must be positive"),
        (lambda folder: write_bars({3: bars()}, folder), "symbols must be"),
        (lambda folder: symbol_to_stem(""), "symbols must be"),
        (lambda folder: symbol_to_stem("x" * 300), "too long"),
        (lambda folder: symbol_to_stem("\ud800"), "not valid Unicode"),
        (lambda folder: stem_to_symbol("BTC%"), "starts no %XX escape"),
        (lambda folder: stem_to_symbol("%FF"), "is no valid UTF-8"),
    ],
)
def test_bad_files_and_names_are_refused(tmp_path, call, words, refuse):
    refuse(lambda: call(tmp_path), words)
    assert list(tmp_path.iterdir()) == [], "nothing was written"
