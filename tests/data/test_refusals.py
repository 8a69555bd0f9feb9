"""Bad input of public functions: one error of ours, in one line, that names the argument.

One case per function and kind of fault; scalar arguments share one validator, tested first.
"""

import numpy as np
import pandas as pd
import pytest

import crossattn as ca
from crossattn import _validation
from crossattn._validation import check_choice, check_float, check_int, check_same_names
from crossattn.runtime import select_device
from crossattn.sources.calendar import date_by_sessions
from crossattn.windows.prepare import windows_of_features
from crossattn.windows.splits import walk_forward_folds

NAN, INF = float("nan"), float("inf")
TABLE = pd.DataFrame({"a": [1.0]})


@pytest.mark.parametrize("value", [0, -4, 2.5, 1.0, "168", None, True, NAN, [3], TABLE])
def test_what_is_no_positive_integer_is_refused(value, refuse):
    refuse(lambda: check_int("lookback", value), "lookback must be an integer of at least 1, got")


@pytest.mark.parametrize("value", [0, 1, -0.5, INF, NAN, "0.5", None, True, 1j, TABLE])
def test_what_is_no_share_is_refused(value, refuse):
    words = "train must be a finite number above 0 and below 1, got"
    refuse(lambda: check_float("train", value, above=0, below=1), words)


@pytest.mark.parametrize("value", ["no", "", None, 3, ["how"], TABLE])
def test_what_is_no_choice_is_refused(value, refuse):
    refuse(lambda: check_choice("how", value, ("outer", "inner")), "how must be one of outer, in")


def test_other_bounds_and_kinds(refuse):
    assert check_int("n", np.int64(3)) == 3 and type(check_int("n", np.int64(3))) is int
    assert check_float("x", 1, at_least=1, at_most=1) == 1.0
    refuse(lambda: check_float("x", 2.0, at_most=1), "at most 1, got 2.0")
    refuse(lambda: check_float("x", -INF), "x must be a finite number, got -inf")
    refuse(lambda: _validation.check_bool("flag", 1), "flag must be True or False, got 1")
    refuse(lambda: check_int("seed", -1, at_least=0), "seed must be .*got -1")
    refuse(lambda: check_int("n", 2**63), "n must be at most 9223372036854775807, got")


def test_axes_and_names_that_differ_are_shown(refuse):
    _validation.check_shape("x", np.zeros((2, 3)), "rows", 3)
    for shape in ((2, 4), (2,), (2, 3, 1)):
        words = rf"x must have shape \(rows, 3\), got \({shape[0]}"
        refuse(lambda shape=shape: _validation.check_shape("x", np.zeros(shape), "rows", 3), words)
    check_same_names("symbols", ["B", "A"], ("A", "B"))
    refuse(lambda: check_same_names("symbols", "A", "AB"), "symbols must be A, B; 'B' differs")
    refuse(lambda: check_same_names("symbols", ["A"], []), "symbols must be none; 'A' differs")
    many = [f"S{k:03d}" for k in range(900)]
    refuse(lambda: check_same_names("symbols", many[1:], many), "S019, ...; 'S000' differs")


def bars(n: int = 60) -> pd.DataFrame:
    return ca.simulate_market("null", n_assets=2, n_steps=n).frames["A00"]


def panel() -> pd.DataFrame:
    return ca.align_panel({"A": bars(), "B": bars() * 2})


def features(panel):
    return ca.create_multi_asset_features(panel, ["log_return"])


def windows(horizon=2):
    frames = {"A": bars(), "B": bars() * 3}
    return ca.prepare_cross_attention_data(frames, 4, horizon, ["log_return"])


ONES = np.ones((3, 2, 4, 1))


def arrays(X=ONES, features=("a",)):
    return ca.CrossAttentionData.from_arrays(X, ONES[:, :, 0, 0], features=features)


def folds(data=None, **options):
    data = windows() if data is None else data
    return walk_forward_folds(data, train_size=9, test_size=9, **options)


class NoNetwork:
    """A session that must never be used."""

    def get_adapter(self, url):
        return None

    def __getattr__(self, name):
        raise AssertionError(f"the session was asked for {name!r}")


def loader(**options):
    return ca.BybitDataLoader(session=NoNetwork(), **options)


def klines(symbol="BTCUSDT", **options):
    return loader().fetch_klines(symbol, **options)


def stocks(symbols=("AAPL",), start="2024-01-01", end="2024-02-01", interval="1h"):
    return ca.fetch_stock_data(symbols, start, end, interval, session=NoNetwork())


CASES = {
    **{
        f"symbol {symbol}": (lambda symbol=symbol: klines(symbol), "written 'BTCUSDT' by Bybit")
        for symbol in ("BTC/USDT", "BTC-USDT", "btc_usdt", "BTC/USDT:USDT", "BTCUSDT.P")
    },
    "data a text": (lambda: features("BTC"), "data must be"),
    "data empty": (lambda: ca.prepare_cross_attention_data({}), "frames must hold"),
    "own warm-up": (
        lambda: windows_of_features(features(panel()), panel()["close"], 4, 2, warm_up=-1),
        "warm_up must be .*got -1",
    ),
    "names of arrays": (lambda: arrays(features=3), "features must be a sequence of names, got 3"),
    "arrays of texts": (lambda: arrays("x"), "X must hold numbers, got 'x'"),
    "folder": (lambda: ca.read_bars(3), "directory must be a path, got 3"),
    "folder with a zero byte": (lambda: ca.read_bars("a\0b"), "directory must be a path"),
    "a panel as a frame": (lambda: ca.align_panel({"A": panel()}), "A: columns must be names"),
    "horizon beyond counting": (lambda: windows(horizon=10**30), "horizon must be"),
    "expanding": (lambda: folds(expanding=[]), "expanding must be True or False"),
    "pipeline": (lambda: ca.audit_leakage(None, {"A": bars()}), "pipeline must be callable"),
    "walk no windows": (lambda: folds(TABLE), "data must"),
    "daily bars": (lambda: date_by_sessions(None, symbol="AAPL"), "AAPL: bars must be"),
    "device": (lambda: select_device(None), "device 'None' cannot be used"),
    "category": (lambda: loader(category="option"), "category must be .*'option'"),
    "timeout": (lambda: loader(timeout=NAN), "timeout must be .*got nan"),
    **{
        f"base_url {url!r}": (lambda url=url: loader(base_url=url), "base_url")
        for url in ("file:///etc/hosts", "api.bybit.com", "http://host:99999", "https://h/?a=b", "")
    },
    "cache_dir": (lambda: loader(cache_dir=3), "cache_dir must be"),
    "cache_dir a file": (lambda: loader(cache_dir=__file__), "is not a folder"),
    **{
        f"symbol {symbol!r}": (lambda symbol=symbol: klines(symbol), "symbol must be")
        for symbol in ("", "BTC USDT", "BTC\nUSDT", "B" * 61, 7, None, ["B"])
    },
    "symbols a text": (lambda: loader().fetch_multi_asset("BTCUSDT"), "symbols must be a list"),
    "symbols none": (lambda: loader().fetch_multi_asset([]), "symbols must name"),
    "interval": (lambda: klines(interval="1h"), "interval must be .*'1h'"),
    "interval a flag": (lambda: klines(interval=True), "interval must be"),
    "start": (lambda: klines(start="soon"), "start must be an ISO 8601"),
    "start missing": (lambda: klines(start=pd.NaT), "start must be"),
    "start before 1970": (lambda: klines(start="1969-12-31"), "start must lie in"),
    "start in 1960": (lambda: klines(start=pd.Timestamp("1960")), "2200, got 1960-01-01T00:00:00"),
    "end a list": (lambda: klines(end=[2024]), "end must be"),
    "start after end": (
        lambda: klines(start=pd.Timestamp("2024-02-01"), end="2024-01-01"),
        "start must not be.*got 2024-02-01T00:00:00Z and 2024-01-01T00:00:00Z",
    ),
    "no bar": (lambda: klines(start="2024-01-01T00:10", end="2024-01-01T00:20"), "no bar of int"),
    "limit": (lambda: klines(limit=10.5), "limit must be .*got 10.5"),
    "stock symbols": (lambda: stocks("AAPL"), "symbols must be a list"),
    "stock start": (lambda: stocks(start="soon"), "start must be"),
    "stock order": (lambda: stocks(start="2024-03-01"), "start must not be later"),
    "stock interval": (lambda: stocks(interval="7h"), "interval must be one of 1m, 2m"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_by_name(case, refuse):
    refuse(*CASES[case])


ENTRIES = (ca.align_panel, ca.create_multi_asset_features, ca.prepare_cross_attention_data)


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_point_refuses_bad_bars_by_symbol(entry, refuse):
    for bad, words in ((bars() * 0, "BAD: open must be pos"), ([], "BAD: bars must be")):
        refuse(lambda bad=bad: entry({"GOOD": bars(), "BAD": bad}), words)
