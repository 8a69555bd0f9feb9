"""Sample data: real daily bars of US markets from installed packages; no network is used.

Each bar is known at the close of its New York session, so that half-days and daylight saving time
are right.
"""

from collections.abc import Callable
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pandas as pd

from crossattn._validation import check_choice
from crossattn.data.frame import PRICE_COLUMNS, Frame, Frames
from crossattn.errors import import_optional
from crossattn.sources.calendar import date_by_sessions

_STOCKS = "AAPL AMD BAC BBY CVX GE HD JNJ JPM KO LLY MRK MSFT PEP PFE PG RRC UNH WMT XOM"
_SYMBOLS_BY_SECTOR = {
    "Communication Services": "FB GOOG",
    "Consumer Discretionary": "BBY HD",
    "Consumer Staples": "KO PEP PG WMT",
    "Energy": "CVX RRC XOM",
    "Financials": "BAC JPM",
    "Health Care": "JNJ LLY MRK PFE UNH",
    "Industrials": "GE",
    "Technology": "AAPL AMD IBM MSFT",
    "Index": "NASDAQ SPX",
    "Commodity": "WTI",
    "Volatility": "VIX",
}
_SECTORS = {
    symbol: sector for sector, names in _SYMBOLS_BY_SECTOR.items() for symbol in names.split()
}
_MARKETS = {"Index": "Indices", "Commodity": "Commodities", "Volatility": "Indices"}


def sample_names() -> list[str]:
    """Return the names that :func:`load_sample` knows.

    Examples
    --------
    >>> sample_names()
    ['us_stocks', 'us_tech', 'us_indices', 'us_volatility', 'us_markets']
    """
    return list(_SAMPLES)


def load_sample(name: str) -> Frames:
    """Load real daily bars from an installed package; no network is used.

    Parameters
    ----------
    name : str
        ``"us_stocks"``: 20 US stocks of seven sectors, 1990-2022, adjusted closes only.
        ``"us_tech"``: AAPL, FB, GOOG, IBM, MSFT with open, high, low, volume, 2000-2013, adjusted
        for splits and dividends.
        ``"us_indices"``: S&P 500 and Nasdaq Composite with volume, and WTI crude oil's spot price
        (close only), 1999-2018.
        ``"us_volatility"``: S&P 500, Nasdaq Composite and the VIX (close only), 2014-2018.
        ``"us_markets"``: the 20 stocks, both indices and oil, on the 5,012 days that all share.

    Returns
    -------
    dict of str to DataFrame
        Frames keyed by symbol. The index is the opening of the New York session, ``close_time``
        its end: when the bar is known. ``attrs``: ``sector``, ``market``, ``source``, and
        ``close_only`` where that is all there is.

    Raises
    ------
    InvalidInputError
        The name is unknown.
    MissingDependencyError
        The package that carries the bars is not installed.

    Notes
    -----
    Oil's spot price is keyed by the stock market's close, hours after it settled and before it was
    published: an example of a relation, not of a trade. The stocks were chosen by their later
    survival, so long-only results on them flatter.

    Sources: scikit-folio (``skfolio``), Bokeh (``bokeh_sampledata``), ``arch``; each package's
    licence applies.

    Built in chapter: Data and clocks.

    Examples
    --------
    >>> load_sample("us_tech")["FB"]["close_time"].iloc[0]
    Timestamp('2012-05-18 20:00:00+0000', tz='UTC')
    """
    frames = _SAMPLES[check_choice("sample", name, _SAMPLES)]()
    for symbol, frame in frames.items():
        frame.attrs["sector"] = _SECTORS[symbol]
        frame.attrs["market"] = _MARKETS.get(_SECTORS[symbol], "Stocks")
    return frames


def _import_package(name: str) -> ModuleType:
    return import_optional(name, "this sample", "data")


def _arch_table(name: str) -> pd.DataFrame:
    """Read a table that ``arch`` carries, without its models: they take seconds to import."""
    package = find_spec("arch") or _import_package("arch")  # which raises where there is none
    path = Path(package.origin).parent / "data" / name / f"{name}.csv.gz"
    table = pd.read_csv(path, index_col="Date", parse_dates=["Date"])
    return table.apply(pd.to_numeric, errors="coerce")


def _us_stocks() -> Frames:
    closes = _import_package("skfolio.datasets").load_sp500_dataset()
    return {symbol: _close_only(closes[symbol], symbol, "skfolio") for symbol in _STOCKS.split()}


def _us_tech() -> Frames:
    stocks = _import_package("bokeh_sampledata.stocks")
    symbols = "AAPL", "FB", "GOOG", "IBM", "MSFT"
    return {symbol: _adjusted(getattr(stocks, symbol), symbol) for symbol in symbols}


def _us_indices() -> Frames:
    oil = _arch_table("wti").iloc[:, 0].loc["1999":"2018"]
    return {**_indices(), "WTI": _close_only(oil, "WTI", "arch")}


def _us_volatility() -> Frames:
    vix = _arch_table("vix")["vix"].loc["2014":"2018"]
    since = pd.Timestamp("2014-01-01", tz="UTC")
    indices = {symbol: frame.loc[since:] for symbol, frame in _indices().items()}
    return {**indices, "VIX": _close_only(vix, "VIX", "arch")}


def _us_markets() -> Frames:
    frames = {**_us_stocks(), **_us_indices()}
    shared = reduce(pd.Index.intersection, [frame.index for frame in frames.values()])
    return {symbol: frame.loc[shared] for symbol, frame in frames.items()}


def _indices() -> Frames:
    frames = {}
    for symbol, name in {"SPX": "sp500", "NASDAQ": "nasdaq"}.items():
        daily = _arch_table(name).rename(columns=str.lower)
        frames[symbol] = date_by_sessions(daily, symbol=symbol)
        frames[symbol].attrs["source"] = "arch"
    return frames


def _close_only(close: pd.Series, symbol: str, source: str) -> Frame:
    close = close.dropna().astype(float)
    daily = pd.DataFrame(dict.fromkeys(PRICE_COLUMNS, close))
    frame = date_by_sessions(daily.assign(volume=float("nan")), symbol=symbol)
    frame.attrs.update(close_only=True, source=source)
    return frame


def _adjusted(bars: dict, symbol: str) -> Frame:
    """Scale a day's prices by adjusted over raw close, and its volume the other way round."""
    raw = pd.DataFrame(bars).set_index(pd.to_datetime(bars["date"]))
    factor = raw["adj_close"] / raw["close"]
    prices = raw[["open", "high", "low"]].mul(factor, axis=0).assign(close=raw["adj_close"])
    frame = date_by_sessions(prices.assign(volume=raw["volume"] / factor), symbol=symbol)
    frame.attrs["source"] = "bokeh_sampledata"
    return frame


_SAMPLES: dict[str, Callable[[], Frames]] = {
    "us_stocks": _us_stocks,
    "us_tech": _us_tech,
    "us_indices": _us_indices,
    "us_volatility": _us_volatility,
    "us_markets": _us_markets,
}
