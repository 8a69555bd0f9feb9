"""Odd inputs: each is read to exact values, or refused in one line that says what to do.

Every file below holds the same two bars in another program's habits, so that one expectation
serves all: a case names what differs.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossattn import align_panel, create_multi_asset_features, prepare_cross_attention_data
from crossattn.cli import main
from crossattn.data import as_panel, check_frame, read_bars, read_exogenous, write_bars
from crossattn.errors import CrossAttentionWarning, InvalidInputError
from crossattn.portfolio import mean_variance_weights
from crossattn.portfolio.risk import risk_by_asset
from crossattn.sources.bybit import BybitDataLoader

NINE, TEN = "2024-01-31T09:00:00Z", "2024-01-31T10:00:00Z"
HEADER = "time,open,high,low,close,volume"
PRICES = "1.5,2.5,1.0,2.0,10.5"
VALUES = [1.5, 2.5, 1.0, 2.0, 10.5]
EPOCH = 1_706_691_600  # NINE


def table(header: str | None, first: str, second: str, sep: str = ",", prices: str = PRICES) -> str:
    """Return a header and two rows: a time each, then the same prices."""
    rows = [f"{time}{sep}{prices.replace(',', sep)}" for time in (first, second)]
    return "\n".join([header, *rows] if header else rows) + "\n"


def times(first: str, second: str) -> str:
    return table(HEADER, first, second)


def semicolons(prices: str) -> str:
    return HEADER.replace(",", ";") + f"\n{NINE};{prices}\n{TEN};{prices}\n"


def klines(unit: int, *, header: str | None = None) -> str:
    """Return Binance's twelve columns, epochs in 1/unit seconds, closes a tick early."""
    rest = "20.0,5,1.0,2.0,0"
    rows = [
        f"{start * unit},{PRICES},{(start + 3600) * unit - 1},{rest}"
        for start in (EPOCH, EPOCH + 3600)
    ]
    return "\n".join([header, *rows] if header else rows) + "\n"


BINANCE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n" + "".join(
    f"2024.01.31\t{hour}:00:00\t1.5\t2.5\t1.0\t2.0\t10.5\t0\t3\n" for hour in ("09", "10")
)
MT4 = f"2024.01.31,09:00,{PRICES}\n2024.01.31,10:00,{PRICES}\n"
UTC = {"time_zone": "UTC"}
NEW_YORK = {"time_zone": "America/New_York"}
DAYS = ("2024-01-30T00:00Z", "2024-01-31T00:00Z")
YAHOO = "Date,Open,High,Low,Close,Adj Close,Volume\n"
NASDAQ = "Date,Close/Last,Volume,Open,High,Low\n" + "".join(
    f'{day},$2.00,"1,000",$1.50,$2.50,$1.00\n' for day in ("01/31/2024", "01/30/2024")
)
INVESTING = '"Date","Price","Open","High","Low","Vol.","Change %"\n' + "".join(
    f'"{day}","42,000.5","41,500.5","43,000.0","41,000.0","1.05K","-0.84%"\n'
    for day in ("Jan 31, 2024", "Jan 30, 2024")
)

# name: (text of the file, options of read_bars, times expected where not NINE and TEN)
READ: dict[str, tuple] = {
    "own format": (times(NINE, TEN),),
    "capital names": (table(HEADER.title(), NINE, TEN),),
    "upper case": (table(HEADER.upper(), NINE, TEN),),
    "spaces in the header": (table(" time , open , high , low , close , volume ", NINE, TEN),),
    "spaces in the cells": (table(HEADER, NINE, TEN, ", "),),
    "another order": (
        f"low,time,open,high,close,volume\n1.0,{NINE},1.5,2.5,2.0,10.5\n1.0,{TEN},1.5,2.5,2.0,10.5\n",
    ),
    "short names": (table("timestamp,o,h,l,c,v", NINE, TEN),),
    "quoted": (table(",".join(f'"{n}"' for n in HEADER.split(",")), f'"{NINE}"', f'"{TEN}"'),),
    "semicolons": (table(HEADER.replace(",", ";"), NINE, TEN, ";"),),
    "semicolons, decimal commas": (semicolons("1,5;2,5;1,0;2,0;10,5"),),
    "tabs": (table(HEADER.replace(",", "\t"), NINE, TEN, "\t"),),
    "tabs, decimal commas": (semicolons("1,5;2,5;1,0;2,0;10,5").replace(";", "\t"),),
    "bars between columns": (table(HEADER.replace(",", "|"), NINE, TEN, "|"),),
    "Excel's own first line": ("sep=;\n" + table(HEADER.replace(",", ";"), NINE, TEN, ";"),),
    "byte-order mark": ("\ufeff" + times(NINE, TEN),),
    "UTF-16": (times(NINE, TEN).encode("utf-16"),),
    "UTF-16, big end first": (b"\xfe\xff" + times(NINE, TEN).encode("utf-16-be"),),
    "UTF-16 without mark": (times(NINE, TEN).encode("utf-16-le"),),
    "Windows line ends": (times(NINE, TEN).replace("\n", "\r\n"),),
    "old Macintosh line ends": (times(NINE, TEN).replace("\n", "\r"),),
    "no last line end": (times(NINE, TEN).rstrip(),),
    "blank lines": (times(NINE, TEN).replace("\n", "\n\n") + "\n\n",),
    "lines of commas": (times(NINE, TEN) + ",,,,,\n",),
    "comments": ("# made by hand, twice\n" + times(NINE, "# pause\n" + TEN),),
    "an address first": (f"https://www.CryptoDataDownload.com\n{times(NINE, TEN)}",),
    "spare columns": (table(f"{HEADER},vwap,Plot,Plot", NINE, TEN, prices=f"{PRICES},9,8,7"),),
    "a comma too many": (table(f"{HEADER},", NINE, TEN, prices=f"{PRICES},"),),
    "a comma too many below": (table(HEADER, NINE, TEN, prices=f"{PRICES},"),),
    "one symbol named": (table(f"{HEADER},symbol", NINE, TEN, prices=f"{PRICES},AAPL"),),
    "pandas' unnamed index": (table(HEADER.replace("time", ""), NINE, TEN),),
    "pandas' row numbers": (f",{HEADER}\n0,{NINE},{PRICES}\n1,{TEN},{PRICES}\n",),
    "scientific numbers": (table(HEADER, NINE, TEN, prices="15e-1,2.5E0,+1.0,2.,.105e2"),),
    "one quoted cell": (times(NINE, TEN).replace("10.5", '"10.5"'),),
    "adjusted close beside": (table(f"{HEADER},Adj Close", NINE, TEN, prices=f"{PRICES},0.1"),),
    "a null row": (times(NINE, TEN) + "2024-01-31T11:00:00Z,null,null,null,null,null\n",),
    "an empty row": (times(NINE, TEN) + "2024-01-31T11:00:00Z,,,,,\n",),
    "half a rounding error": (
        table(HEADER, NINE, TEN, prices="1.5,1.9999999999,1.0,2.0,10.5"),
        {},
        None,
        [1.5, 2.0, 1.0, 2.0, 10.5],
    ),
    "null volume": (
        table(HEADER, NINE, TEN, prices="1.5,2.5,1.0,2.0,NaN"),
        {},
        None,
        [1.5, 2.5, 1.0, 2.0, np.nan],
    ),
    # times
    "Postgres": (times("2024-01-31 09:00:00+00", "2024-01-31 10:00:00+00"),),
    "hours west": (times("2024-01-31 04:00:00-05", "2024-01-31 05:00:00-05"),),
    "minutes east": (times("2024-01-31T14:30+05:30", "2024-01-31T15:30+05:30"),),
    "minutes west": (times("2024-01-31T05:30-03:30", "2024-01-31T06:30-03:30"),),
    "no colon": (times("2024-01-31T10:00:00+0100", "2024-01-31T11:00:00+0100"),),
    "lower case": (times(NINE.lower(), TEN.lower()),),
    "the word UTC": (times("2024-01-31 09:00:00 UTC", "2024-01-31 10:00:00 UTC"),),
    "the word GMT": (times("2024-01-31 09:00 GMT", "2024-01-31 10:00 GMT"),),
    "fractions": (times("2024-01-31T09:00:00.000Z", "2024-01-31T10:00:00.000000000Z"),),
    "offsets that change": (times("2024-01-31T10:00+01:00", "2024-01-31T12:00+02:00"),),
    "compact": (times("20240131090000Z", "20240131100000Z"),),
    "compact with T": (times("20240131T090000Z", "20240131T100000Z"),),
    "slashes, year first": (times("2024/01/31 09:00Z", "2024/01/31 10:00Z"),),
    "no leading zeros": (times("2024-1-31 9:00Z", "2024-1-31 10:00Z"),),
    "dots, day first": (
        times("31.01.2024 09:00:00.000 GMT+0000", "31.01.2024 10:00:00.000 GMT+0000"),
    ),
    "Dukascopy": (
        table(
            "Gmt time,Open,High,Low,Close,Volume",
            "31.01.2024 09:00:00.000",
            "31.01.2024 10:00:00.000",
        ),
    ),
    "morning and evening": (times("01/31/2024 09:00 AM", "01/31/2024 10:00 AM"), UTC),
    "noon": (
        times("01/31/2024 12:00 AM", "01/31/2024 12:00 PM"),
        UTC,
        ("2024-01-31T00:00Z", "2024-01-31T12:00Z"),
    ),
    "named months": (times("31 Jan 2024 09:00Z", "31 Jan 2024 10:00Z"),),
    "named months first": (times('"Jan 31, 2024 09:00Z"', '"Jan 31, 2024 10:00Z"'),),
    "two-digit years": (times("31-Jan-24 09:00Z", "31-Jan-24 10:00Z"),),
    "epoch in seconds": (times(f"{EPOCH}", f"{EPOCH + 3600}"),),
    "epoch with fractions": (times(f"{EPOCH}.0", f"{EPOCH + 3600}.000"),),
    "epoch in ms": (times(f"{EPOCH}000", f"{EPOCH + 3600}000"),),
    "epoch in us": (times(f"{EPOCH}000000", f"{EPOCH + 3600}000000"),),
    "epoch in ns": (times(f"{EPOCH}000000000", f"{EPOCH + 3600}000000000"),),
    "ms, then us": (times(f"{EPOCH}000", f"{EPOCH + 3600}000000"),),
    "before 1990": (times("-3600", f"{EPOCH}"), {}, ("1969-12-31T23:00Z", NINE)),
    "small epochs": (
        times("3600", "7200"),
        {"unit": "s"},
        ("1970-01-01T01:00Z", "1970-01-01T02:00Z"),
    ),
    "naive, New York": (times("2024-01-31 04:00", "2024-01-31 05:00"), NEW_YORK),
    "naive, summer": (
        times("2024-07-01 04:00", "2024-07-01 05:00"),
        NEW_YORK,
        ("2024-07-01T08:00Z", "2024-07-01T09:00Z"),
    ),
    "an hour that comes twice": (
        times("2024-11-03 01:00", "2024-11-03 01:00"),
        NEW_YORK,
        ("2024-11-03T05:00Z", "2024-11-03T06:00Z"),
    ),
    "own date format": (
        times("01-02-2024 09h", "01-02-2024 10h"),
        {"date_format": "%d-%m-%Y %HH", **UTC},
        ("2024-02-01T09:00Z", "2024-02-01T10:00Z"),
    ),
    "dates": (times("2024-01-30", "2024-01-31"), {}, DAYS),
    "dates at midnight": (times("2024-01-30 00:00:00", "2024-01-31 00:00:00"), {}, DAYS),
    "dates without dashes": (times("20240130", "20240131"), {}, DAYS),
    "American dates": (times("01/30/2024", "01/31/2024"), {}, DAYS),
    "European dates": (times("30/01/2024", "31/01/2024"), {}, DAYS),
    "dates of New York": (
        times("2024-01-30", "2024-01-31"),
        NEW_YORK,
        ("2024-01-30T05:00Z", "2024-01-31T05:00Z"),
    ),
    "ambiguous dates, told": (
        times("01/02/2024", "02/02/2024"),
        {"date_format": "%d/%m/%Y"},
        ("2024-02-01T00:00Z", "2024-02-02T00:00Z"),
    ),
    # programs
    "Binance in ms": (klines(1000),),
    "Binance in us": (klines(1_000_000),),
    "Binance with header": (klines(1000, header=BINANCE_HEADER),),
    "Binance, spot API names": (
        klines(
            1000,
            header="Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,a,b,c,d",
        ),
    ),
    "Kraken": (f"{EPOCH},{PRICES},7\n{EPOCH + 3600},{PRICES},8\n",),
    "MetaTrader 5": (MT5, UTC),
    "MetaTrader 5, UTF-16": (MT5.encode("utf-16"), UTC),
    "MetaTrader 5, days": (
        MT5.replace("\t<TIME>", "").replace("01.31\t09:00:00", "01.30").replace("\t10:00:00", ""),
        {},
        DAYS,
    ),
    "MetaTrader 4": (MT4, UTC),
    "MetaTrader 4, days": (
        MT4.replace("01.31,09", "01.30,09").replace("09:00", "00:00").replace("10:00", "00:00"),
        {},
        DAYS,
    ),
    "TradingView, seconds": (
        table("time,open,high,low,close,Volume", str(EPOCH), str(EPOCH + 3600)),
    ),
    "TradingView, ISO": (
        table(
            "time,open,high,low,close,Volume",
            "2024-01-31T04:00:00-05:00",
            "2024-01-31T05:00:00-05:00",
        ),
    ),
    "Yahoo": (
        YAHOO + "".join(f"{d},1.5,2.5,1.0,2.0,1.9,10.5\n" for d in ("2024-01-30", "2024-01-31")),
        {},
        DAYS,
    ),
    "Yahoo with a null row": (
        YAHOO
        + "2024-01-30,1.5,2.5,1,2,2,10.5\n2024-01-30,null,null,null,null,null,null\n"
        + "2024-01-31,1.5,2.5,1,2,2,10.5\n",
        {},
        DAYS,
    ),
    "yfinance": (
        "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n"
        "2024-01-30,2.0,2.5,1.0,1.5,10.5\n2024-01-31,2.0,2.5,1.0,1.5,10.5\n",
        {},
        DAYS,
    ),
    "stooq": (table("Date,Open,High,Low,Close,Volume", "2024-01-30", "2024-01-31"), {}, DAYS),
    "stooq in bulk": (
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        + "".join(f"A.US,D,{d},000000,{PRICES},0\n" for d in (20240130, 20240131)),
        {},
        DAYS,
    ),
    "Alpha Vantage": (
        table("timestamp,open,high,low,close,volume", "2024-01-31", "2024-01-30"),
        {},
        DAYS,
    ),
    "Alpha Vantage by the minute": (
        table("timestamp,open,high,low,close,volume", "2024-01-31 05:00:00", "2024-01-31 04:00:00"),
        NEW_YORK,
    ),
    "CryptoDataDownload": (
        "https://www.CryptoDataDownload.com\n"
        + "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD\n"
        + "".join(f"{e},2024-01-31,BTC/USD,{PRICES},20\n" for e in (EPOCH + 3600, EPOCH)),
    ),
    "Nasdaq": (NASDAQ, {}, DAYS, [1.5, 2.5, 1.0, 2.0, 1000.0]),
    "Investing": (INVESTING, {}, DAYS, [41500.5, 43000.0, 41000.0, 42000.5, 1050.0]),
    "HistData": (
        table(None, "20240131 090000", "20240131 100000", ";"),
        {"columns": HEADER.split(","), **UTC},
    ),
    "Polygon": (
        "ticker,volume,open,close,high,low,window_start,transactions\n"
        + "".join(f"A,10.5,1.5,2.0,2.5,1.0,{e}000000000,7\n" for e in (EPOCH, EPOCH + 3600)),
    ),
    "Coinbase": (
        table("time,low,high,open,close,volume", NINE, TEN, prices="1.0,2.5,1.5,2.0,10.5"),
    ),
    "German numbers": (
        semicolons("1.500,5;2.500,5;1.000,0;2.000,0;10"),
        {},
        None,
        [1500.5, 2500.5, 1000.0, 2000.0, 10.0],
    ),
    "thousands, told": (
        semicolons("1,500;2,500;1,000;2,000;10"),
        {"decimal": "."},
        None,
        [1500.0, 2500.0, 1000.0, 2000.0, 10.0],
    ),
    "decimals, told": (
        semicolons("1,500;2,500;1,000;2,000;10"),
        {"decimal": ","},
        None,
        [1.5, 2.5, 1.0, 2.0, 10.0],
    ),
    "no volume, told": (
        f"time,open,high,low,close\n{NINE},1.5,2.5,1,2\n{TEN},1.5,2.5,1,2\n",
        {"columns": {"volume": None}},
        None,
        [1.5, 2.5, 1.0, 2.0, np.nan],
    ),
    "own names": (
        table("when,a,b,c,d,e", NINE, TEN),
        {"columns": dict(zip(HEADER.split(","), ["when", "a", "b", "c", "d", "e"], strict=True))},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_a_foreign_file_is_read_to_its_values(tmp_path, case):
    text, options, when, values = (*READ[case], *({}, None, None)[len(READ[case]) - 1 :])
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "AAA.csv").write_bytes(content)
    frame = read_bars(tmp_path, **options)["AAA"]
    assert frame.index.equals(pd.DatetimeIndex(when or (NINE, TEN)).tz_convert("UTC"))
    for row in frame[["open", "high", "low", "close", "volume"]].to_numpy():
        np.testing.assert_array_equal(row, values or VALUES)
    if case.startswith("Binance"):  # the last tick before the next bar is that bar's open
        assert (frame["close_time"] - frame.index).eq(pd.Timedelta("1h")).all()
        assert frame["turnover"].tolist() == [20.0, 20.0]


@pytest.mark.parametrize("end", ["\n", ""])  # without line end the own format is read as any other
@pytest.mark.parametrize(
    "time", ["2024-01-31T09:00Z", "2024-01-31 10:00+0100", "2024-01-31T09:00:00.000001Z"]
)
@pytest.mark.parametrize("number", ["2.", "+2", "2e0", " 2 ", "2.0000000000000004", "02.50"])
def test_the_fast_reader_agrees_with_the_thorough_one(tmp_path, end, time, number):
    (tmp_path / "A.csv").write_text(f"{HEADER}\n{time},1.5,{number},1,1.5,10.5{end}")
    frame = read_bars(tmp_path)["A"]
    assert frame["high"].tolist() == [float(number)]
    assert frame.index.floor("s")[0] == pd.Timestamp(NINE)
    assert frame.index.microsecond[0] == time.count("000001")


# name: (text of the file, words of the message, options)
REFUSED: dict[str, tuple] = {
    "naive": (times("2024-01-31 09:00", "2024-01-31 10:00"), "line 2: .*time_zone=.*--time-zone"),
    "naive from the third row on": (
        times("2024-01-31 00:00", "2024-01-31 10:00"),
        "line 3: time must be ISO 8601",
    ),
    "MetaTrader's server time": (MT5, "line 2: .*time_zone=.*'2024.01.31 09:00:00'"),
    "MetaTrader 4's": (MT4, "line 1: .*time_zone="),
    "Alpha Vantage by the minute": (
        table("timestamp,open,high,low,close,volume", "2024-01-31 05:00:00", "2024-01-31 04:00:00"),
        "line 2: .*time_zone=",
    ),
    "some zoned": (times(NINE, "2024-01-31 10:00"), "line 3: .*in every row or none"),
    "an unknown zone": (
        times("2024-01-31 09:00 EST", "2024-01-31 10:00 EST"),
        "line 2: .*'2024-01-31 09:00 EST'",
    ),
    "an hour that is skipped": (
        times("2024-03-10 02:30", "2024-03-10 03:30"),
        "no unique clock of America/New_York",
        NEW_YORK,
    ),
    "an hour that could be two": (
        times("2024-11-03 01:30", "2024-11-03 04:30"),
        "no unique clock of America/New_York",
        NEW_YORK,
    ),
    "day or month": (times("01/02/2024", "02/02/2024"), "line 2: .*day and month .*date_format="),
    "day or year": (times("01/02/03", "02/02/03"), "line 2: .*date_format="),
    "thirteenth month": (times("13/13/2024", "14/13/2024"), "line 2: .*date_format="),
    "no such day": (times("2024-02-30", "2024-02-31"), "line 2: time must be ISO 8601"),
    "no such month": (times("31 Foo 2024", "31 Foo 2024"), "line 2: time must be"),
    "no such hour": (times("2024-01-31T25:00Z", TEN), "line 2: time must be"),
    "thirteen in the morning": (
        times("01/31/2024 13:00 AM", "01/31/2024 13:30 AM"),
        "line 2: time",
        UTC,
    ),
    "two habits": (times("31.01.2024 09:00Z", "2024-01-31 10:00Z"), "line 3: time must be"),
    "dates, then a clock": (times("2024-01-30", TEN), "in every row or none"),
    "epoch, then ISO": (times(f"{EPOCH}", TEN), "line 3: time must be an epoch like"),
    "ISO, then epoch": (times(NINE, f"{EPOCH + 3600}"), "line 3: .*in every row or none"),
    "Excel's days": (times("45322.375", "45322.417"), "line 2: .*1990 to 2100.*unit="),
    "Excel's rounded epochs": (times("1.70669E+12", "1.70670E+12"), "line 2: time must be"),
    "row numbers as times": (times("0", "1"), "line 2: .*unit="),
    "a zero among epochs": (times("0", f"{EPOCH}"), "line 2: .*unit="),
    "beyond 64 bits": (times(f"{EPOCH}", "9" * 19), "line 3: time must be an epoch"),
    "beyond its unit": (times(f"{EPOCH}000", f"{EPOCH}001"), "an epoch of its unit", {"unit": "s"}),
    "the last year": (times("9999-12-31T22:00Z", "9999-12-31T23:00Z"), "years 1678 to 2261"),
    "the first year": (times("0001-01-01T02:00+05:00", TEN), "years 1678 to 2261|line 2: time"),
    "an offset of days": (times("2024-01-31 9:00+99:00", "2024-01-31 10:00+99:00"), "line 2: time"),
    "beyond 2100": (times(f"{EPOCH}", "5000000000"), "line 3: .*unit="),
    "empty time": (times(NINE, ""), "line 3: time"),
    "only empty times": (times("", ""), "line 2: time"),
    "wrong date format": (times(NINE, TEN), "line 2: .*date_format '%d'", {"date_format": "%d"}),
    "newest first in the own format": (times(TEN, NINE), "is earlier than"),
    "unsorted": (
        table("date,open,high,low,close,volume", "2024-01-02", "2024-01-01")
        + f"2024-01-05,{PRICES}\n",
        "is earlier",
    ),
    "repeated": (times(NINE, NINE), "repeats"),
    "repeated hour, zoned": (times("2024-11-03 01:00-04", "2024-11-03 01:00-04"), "repeats"),
    "no header": (
        table(None, NINE, TEN),
        "header lacks time,open.*there is none.*columns=\\('time'",
    ),
    "HistData": (
        table(None, "20240131 090000", "20240131 100000", ";"),
        "first line is '20240131 090000;1.5",
    ),
    "six columns without header": (
        table(None, f"{EPOCH}", f"{EPOCH + 3600}"),
        "header lacks .*columns=",
    ),
    "eight columns without header": (f"{EPOCH},{PRICES},7,8\n" * 2, "header lacks"),
    "unknown names": (table("when,a,b,c,d,e", NINE, TEN), "header lacks .*it is 'when,a,b,c,d,e'"),
    "no close": (
        f"time,open,high,low,Adj Close,volume\n{NINE},{PRICES}\n",
        "lacks close.*columns={'close'",
    ),
    "no volume": (f"time,open,high,low,close\n{NINE},1,1,1,1\n", "lacks volume.*{'volume': None}"),
    "a word": ("hello\n", "not a CSV file: the header lacks time"),
    "a web page": ("<html>\n<body>, </body>\n", "no bars"),
    "JSON": ('[{"time": 1, "open": 2}]\n', "not a CSV file: line 1"),
    "spaces between columns": ("time open high low close volume\n", "header lacks"),
    "repeated column": (
        table(f"{HEADER},close", NINE, TEN, prices=f"{PRICES},2"),
        "repeats column 'close'",
    ),
    "Close and close": (
        table(f"{HEADER},Close", NINE, TEN, prices=f"{PRICES},2"),
        "repeats column",
    ),
    "header alone": (HEADER + "\n", "no bars"),
    "comments alone": ("# a,b\n# c,d\n", "header lacks"),
    "commas alone": (",,,\n,,,\n", "no bars"),
    "blank": ("\n \n", "empty file"),
    "cut within a row": (times(NINE, TEN)[:-10], "line 3: the row ends after 4 of 6 fields"),
    "cut in the middle": (times(f"{NINE},1.5\n{NINE}", TEN), "line 2: the row ends after 2 of 6"),
    "cut within a number": (
        (times(NINE, TEN) + times(NINE, TEN)[len(HEADER) + 1 :])[:-3],
        "line 5: .*was the file cut",
    ),
    "cut within decimals": (
        f"{HEADER}\n"
        + "".join(f"{t},1,2,1,2,0.1234567890{n}\n" for t, n in ((NINE, 12), (TEN, 3)))
        + "2024-01-31T11:00:00Z,1,2,1,2,0.12",
        "line 4: volume must be a number with as many decimals",
    ),
    "cut within a time": (times(NINE, TEN) + "2024-01-31T1", "line 4: the row ends after 1 of 6"),
    "a row too long": (
        table(HEADER, NINE, TEN, prices=f"{PRICES},1"),
        "line 2: not a CSV row: 7 fields",
    ),
    "an open quote": (table(HEADER, NINE, f'"{TEN}'), "not a CSV file"),
    "binary": (bytes(range(256)), "not a UTF-8"),
    "a zero byte": (times(NINE, TEN) + "\0", "not a text"),
    "Latin-1": (times(NINE, TEN).replace("time", "zeit\u00e9").encode("latin-1"), "not a UTF-8"),
    "an archive": (b"PK\x03\x04\xff\xfe", "not a UTF-8"),
    "thousands or decimals": (
        semicolons("1,500;2,500;1,000;2,000;10"),
        "'1,500' may be .*decimal=",
    ),
    "comma and point decimals": (
        semicolons("1,5;2.5;1,0;2,0;10"),
        "line 2: high must be a number, got '2.5'",
    ),
    "quoted decimal commas": (
        table(HEADER, NINE, TEN).replace("2.0", '"2,05"'),
        "line 2: open must be a number, got '1.5'",
    ),
    **{
        f"price {text!r}": (
            table(HEADER, NINE, TEN, prices=f"1.5,2.5,{text},2.0,10"),
            f"line 2: low must be {words}",
        )
        for text, words in {
            "": "a number where other",
            "null": "a number where other",
            "abc": "a number",
            "inf": "a number",
            "1_0": "a number",
            "0x1": "a number",
            "1 000": "a number",
            "--1": "a number",
            "1e999": "a number",
            "½": "a number",
            "٣": "a number",
            "1.2.3": "a number",
            "True": "a number",
            "10%": "a number",
        }.items()
    },
    "zero price": (table(HEADER, NINE, TEN, prices="1.5,2.5,0,2.0,10"), "low must be positive"),
    "negative price": (
        table(HEADER, NINE, TEN, prices="1.5,2.5,-1,2.0,10"),
        "low must be positive",
    ),
    "negative volume": (
        table(HEADER, NINE, TEN, prices="1.5,2.5,1,2.0,-10"),
        "volume must be zero or more",
    ),
    "high below low": (
        table(HEADER, NINE, TEN, prices="1.5,0.5,1,2.0,10"),
        "high must be at least low",
    ),
    "close above high": (
        table(HEADER, NINE, TEN, prices="1.5,2.5,1,2.6,10"),
        "close must be between",
    ),
    "past the rounding": (
        table(HEADER, NINE, TEN, prices="1.5,1.99999,1,2.0,10"),
        "close must be between",
    ),
    "columns in the wrong order": (
        table("time,high,open,low,close,volume", NINE, TEN),
        "open must be between",
    ),
    "only null rows": (table(HEADER, NINE, TEN, prices="null,null,null,null,null"), "no bars"),
    "many symbols": (
        f"{HEADER},symbol\n{NINE},{PRICES},A\n{NINE},{PRICES},B\n",
        "holds 2 symbols \\(A, B\\): write one file",
    ),
    "yfinance, many symbols": (
        "Price,Close,Close\nTicker,A,B\nDate,,\n2024-01-30,2,2\n",
        "holds 2 symbols",
    ),
    "close before open": (
        f"{HEADER},close_time\n{NINE},{PRICES},{NINE}\n{TEN},{PRICES},{TEN}\n",
        "close_time must be later",
    ),
    "unit": (times(NINE, TEN), "unit must be one of s, ms, us, ns, got 'h'", {"unit": "h"}),
    "decimal": (times(NINE, TEN), "decimal must be one of", {"decimal": ";"}),
    "zone": (
        times(NINE, TEN),
        "time_zone must be a zone such as 'UTC'.*'Mars'",
        {"time_zone": "Mars"},
    ),
    "zone is a path": (times(NINE, TEN), "time_zone must be", {"time_zone": "../../etc/passwd"}),
    "zone is a number": (times(NINE, TEN), "time_zone must be", {"time_zone": 3}),
    "format is a number": (times(NINE, TEN), "date_format must be a text", {"date_format": 3}),
    "columns is a text": (times(NINE, TEN), "columns must be", {"columns": "time"}),
    "columns of numbers": (times(NINE, TEN), "columns must be", {"columns": [1, 2]}),
    "columns too few": (times(NINE, TEN), "columns must name all 6", {"columns": ["time", "open"]}),
    "columns that are not there": (
        times(NINE, TEN),
        "there is no 'x' in",
        {"columns": {"close": "x"}},
    ),
    "columns of no bar": (times(NINE, TEN), "columns must be", {"columns": {"price": "close"}}),
    "no close at all": (times(NINE, TEN), "columns must be", {"columns": {"close": None}}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_unclear_is_refused_in_one_line(tmp_path, case, refuse):
    text, words, options = (*REFUSED[case], {})[:3]
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "AAA.csv").write_bytes(content)
    refuse(lambda: read_bars(tmp_path, **options), words)


BARS = pd.DataFrame(
    [VALUES, VALUES],
    index=pd.DatetimeIndex([NINE, TEN], name="time").tz_convert("UTC"),
    columns=["open", "high", "low", "close", "volume"],
)
ROWS = BARS.reset_index()


def write(table: pd.DataFrame, path, **columns) -> None:
    getattr(table.assign(**columns), f"to_{path.suffix[1:]}")(path)


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".PARQUET"])
@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"vwap": 1.0, "tags": [["a"], ["b"]]},
        {"time": [NINE, TEN]},
        {"time": ["2024-01-31 09:00:00+00", "2024-01-31 10:00:00+00"]},
        {"time": [EPOCH, EPOCH + 3600]},
        {"time": [EPOCH * 1000, (EPOCH + 3600) * 1000]},
        {"time": ROWS["time"].dt.tz_convert("Asia/Tokyo")},
        {"time": ROWS["time"].astype("datetime64[ns, UTC]")},
        {"open": ["1.5", "1.5"]},
        {"volume": np.array([10.5, 10.5], np.float32)},
        {"symbol": pd.Categorical(["A", "A"])},
    ],
    ids=lambda columns: ",".join(columns),
)
def test_a_file_of_arrow_is_read_to_its_values(tmp_path, suffix, columns):
    path = tmp_path / f"AAA{suffix}"
    getattr(ROWS.assign(**columns), f"to_{suffix[1:].lower()}")(path)
    pd.testing.assert_frame_equal(read_bars(tmp_path)["AAA"], BARS, check_freq=False)


def test_an_index_dates_and_capital_names_in_parquet(tmp_path):
    BARS.to_parquet(tmp_path / "A.parquet")
    days = ROWS.rename(columns=str.title).assign(Time=pd.to_datetime(["2024-01-30", "2024-01-31"]))
    days.to_parquet(tmp_path / "B.parquet")
    pl.from_pandas(days).with_columns(pl.col("Time").cast(pl.Date)).write_parquet(
        tmp_path / "C.parquet"
    )
    frames = read_bars(tmp_path)
    pd.testing.assert_frame_equal(frames["A"], BARS, check_freq=False)
    for symbol in "BC":
        assert frames[symbol].index.equals(pd.DatetimeIndex(DAYS).tz_convert("UTC"))
        np.testing.assert_array_equal(frames[symbol].to_numpy(), BARS.to_numpy())


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"time": [1e300, 2e300]}, "row 0: time must be an epoch"),
        ({"time": [1.5, np.nan]}, "row 1: time must be a time"),
        ({"time": [1, 2]}, "row 0: time must be an epoch of 1990"),
        ({"time": pd.to_datetime(["2024-01-31 09:00", "2024-01-31 10:00"])}, "row 0: .*time_zone="),
        ({"time": pd.to_datetime([NINE, None])}, "row 1: time must be a time"),
        ({"time": [[1], [2]]}, "time must be"),
        ({"time": [NINE, None]}, "row 1: time must be"),
        ({"close": [2.0, np.nan]}, "row 1: close must be a number where other prices"),
        ({"close": [2.0, np.inf]}, "row 1: close must be a number, got 'inf'"),
        ({"close": [True, False]}, "row 0: close must be a number, got 'a value of type bool'"),
        ({"close": [[1.0], [2.0]]}, "row 0: close must be a number, got 'a value of type list"),
        ({"close": ["2.0", "two"]}, "row 1: close must be a number, got 'two'"),
        ({"low": [1.0, 0.0]}, "low must be positive"),
        ({"symbol": ["A", "B"]}, "holds 2 symbols"),
        ({"Close": [2.0, 2.0]}, "repeats column"),
    ],
)
def test_a_file_of_arrow_that_is_unclear_is_refused(tmp_path, columns, words, refuse):
    write(ROWS, tmp_path / "AAA.parquet", **columns)
    refuse(lambda: read_bars(tmp_path), words)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
@pytest.mark.parametrize(
    "content", [b"hello", b"PAR1", b"PAR1" * 9, b"ARROW1\0\0" * 9, b"\x80\x04."]
)
def test_what_is_no_file_of_arrow_is_refused(tmp_path, suffix, content, refuse):
    (tmp_path / f"AAA.{suffix}").write_bytes(content)
    refuse(lambda: read_bars(tmp_path), f"is not a readable {suffix.title()} file")


def link_out(folder):
    outside = folder.parent / "outside.csv"
    outside.write_text(times(NINE, TEN))
    (folder / "B.csv").symlink_to(outside)


# name: (what else is in a folder that holds A.csv, words)
FOLDERS = {
    "two files of a symbol": (lambda f: write(ROWS, f / "A.parquet"), "A.parquet and A.csv both"),
    "three kinds": (lambda f: write(ROWS, f / "A.feather"), "A.feather and A.csv both hold 'A'"),
    "the same name, escaped": (lambda f: (f / "%41.csv").write_text(times(NINE, TEN)), "both hold"),
    "a link out of the folder": (link_out, "B.csv is a link out of the folder"),
    "a link to nowhere": (lambda f: (f / "B.csv").symlink_to("nowhere"), "B.csv cannot be read"),
    "a link to itself": (lambda f: (f / "B.csv").symlink_to("B.csv"), "B.csv|cannot be read"),
    "a pipe": (lambda f: os.mkfifo(f / "B.csv"), "B.csv cannot be read: it is no regular file"),
    "a folder": (lambda f: (f / "B.parquet").mkdir(), "B.parquet cannot be read"),
    "an empty file": (lambda f: (f / "B.feather").touch(), "B.feather is an empty file"),
    "a broken escape": (lambda f: (f / "B%.csv").write_text(times(NINE, TEN)), "starts no %XX"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_unclear_is_refused(tmp_path, case, refuse):
    folder = tmp_path / "bars"
    folder.mkdir()
    (folder / "A.csv").write_text(times(NINE, TEN))
    add, words = FOLDERS[case]
    add(folder)
    refuse(lambda: read_bars(folder), words)


def test_a_folder_without_bars_says_what_it_holds(tmp_path, refuse):
    (tmp_path / "A.csv.gz").touch()
    refuse(
        lambda: read_bars(tmp_path), "no <symbol>.csv, .parquet or .feather file; it holds A.csv"
    )


class Capsule:
    """A table with Arrow's protocol alone."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.Table.from_pandas(ROWS).__arrow_c_stream__(requested_schema)


class Lazy:
    """A frame that has to be collected."""

    def collect(self):
        raise AssertionError("never called")


class Broken:
    """A frame whose conversion fails."""

    def to_pandas(self):
        raise ModuleNotFoundError("pyarrow is required")


TABLES = {
    "polars": pl.from_pandas(ROWS),
    "polars, another zone": pl.from_pandas(BARS.tz_convert("Asia/Tokyo").reset_index()),
    "polars, spare columns": pl.from_pandas(ROWS.assign(vwap=1.0, name="A")),
    "arrow": pa.Table.from_pandas(ROWS),
    "arrow with an index": pa.Table.from_pandas(BARS),
    "Arrow's protocol": Capsule(),
    "a column of times": ROWS,
    "another name for it": ROWS.rename(columns={"time": "Datetime"}),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_a_table_of_another_library_is_a_frame(case):
    pd.testing.assert_frame_equal(check_frame(TABLES[case]), BARS, check_freq=False)


def test_polars_goes_all_the_way(tmp_path, make_frames):
    frames = make_frames(80, 3)
    other = {symbol: pl.from_pandas(frame.reset_index()) for symbol, frame in frames.items()}
    macro = pd.DataFrame({"rate": np.arange(80.0)}, index=frames["S0"].index)
    given, same = (
        prepare_cross_attention_data(bars, 8, 2, ["log_return"], exogenous=series)
        for bars, series in ((frames, macro), (other, pl.from_pandas(macro.reset_index())))
    )
    np.testing.assert_array_equal(given.X, same.X)
    np.testing.assert_array_equal(given.exogenous, same.exogenous)
    write_bars(other, tmp_path)
    assert read_bars(tmp_path)["S1"].equals(frames["S1"])


DOWNLOAD = pd.concat({"A": BARS, "B": BARS}, axis=1).swaplevel(axis=1).sort_index(axis=1)
FRAMES = {
    "polars, naive": (pl.from_pandas(BARS.tz_localize(None).reset_index()), "without a time zone"),
    "polars, text": (pl.from_pandas(ROWS.assign(time=["a", "b"])), "index must hold time.*set_in"),
    "polars, lazy": (pl.from_pandas(ROWS).lazy(), "must be a DataFrame, got LazyFrame; collect it"),
    "a lazy one": (Lazy(), "collect it first"),
    "a series": (pl.from_pandas(ROWS)["close"], "must be a DataFrame, got Series"),
    "a broken conversion": (Broken(), "Broken cannot be converted .*pyarrow is required"),
    "two columns of times": (ROWS.assign(moment=ROWS["time"]), "index must hold time"),
    "row numbers": (BARS.reset_index(drop=True), "index must hold time.*set_index"),
    "capital names": (BARS.rename(columns=str.title), "missing.*rename\\(columns=str.lower\\)"),
    "spaces in names": (BARS.rename(columns=lambda name: f" {name}"), "missing"),
    "an array": (BARS.to_numpy(), "must be a DataFrame, got ndarray"),
    "a dict": ({"close": [1.0]}, "must be a DataFrame, got dict"),
    "a path": ("bars/A.csv", "must be a DataFrame, got str"),
}  # fmt: skip
PANELS = {
    "yfinance's download": DOWNLOAD.rename_axis("Datetime"),
    "with its names": DOWNLOAD.rename_axis("Date").rename_axis(columns=["Price", "Ticker"]),
    "bar opens": DOWNLOAD,
    "no name": DOWNLOAD.rename_axis(None),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_frame_that_is_unclear_is_refused(case, refuse):
    table, words = FRAMES[case]
    refuse(lambda: align_panel({"A": table}), words)


@pytest.mark.parametrize("case", PANELS)
def test_a_download_by_bar_opens_is_no_panel(case, refuse):
    """Read as a panel it would show each bar before it closed (yfinance issue 2193)."""
    refuse(lambda: create_multi_asset_features(PANELS[case]), "close_time.*data.xs\\(s, axis=1")
    panel = PANELS[case]
    frames = {s: panel.xs(s, axis=1, level=1) for s in panel.columns.unique(1)}
    assert align_panel(frames).index[0] == pd.Timestamp(TEN)


def test_a_panel_off_by_rounding_is_set_right(make_frames):
    frames = make_frames(60, 2)
    panel = align_panel(frames)
    off, right = panel.copy(), panel.copy()
    top = np.fmax(panel["open"]["S1"], panel["close"]["S1"])
    off[("high", "S1")] = top * (1 - 1e-12)
    right[("high", "S1")] = top
    pd.testing.assert_frame_equal(as_panel(off), right)


def test_zero_volume_in_every_bar_is_no_volume(make_frames):
    frames = make_frames(120, 3)
    frames["S1"]["volume"] = 0.0
    with pytest.warns(CrossAttentionWarning, match="dropped: relative_volume .no volume for S1"):
        data = prepare_cross_attention_data(frames, 8, 2)
    assert "relative_volume" not in data.features and data.mask.all()


def test_exogenous_series_of_other_formats(tmp_path, refuse):
    series = pd.DataFrame({"time": ROWS["time"], "rate": [1.5, 2.5]})
    write(series, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text(f"time;rate\n{EPOCH};1,5\n{EPOCH + 3600};2,5\n")
    for name in ("a.parquet", "b.csv"):
        table = read_exogenous(tmp_path / name)
        assert table["rate"].tolist() == [1.5, 2.5] and table.index.equals(BARS.index)
    (tmp_path / "b.csv").write_text("when,rate\n1,2\n")
    refuse(lambda: read_exogenous(tmp_path / "b.csv"), "header lacks time; it is 'when,rate'")


COVARIANCE = pd.DataFrame(np.diag([0.01, 0.02]), ["A", "B"], ["A", "B"])
HOLE, STILL = COVARIANCE.copy(), COVARIANCE.copy()
HOLE.loc["B"] = HOLE["B"] = np.nan
STILL.loc["B", "B"] = 0.0
WALK = pd.DataFrame({"A": [0.1, -0.1, 0.1], "B": [np.nan] * 3})


def candles(symbol, **span):
    return BybitDataLoader(base_url="http://127.0.0.1:9").fetch_klines(symbol, **span)


CALLS = {
    "covariance with a hole": (lambda: mean_variance_weights(np.zeros(2), HOLE), "finite.*'B'"),
    "an asset that stands still": (
        lambda: mean_variance_weights(np.zeros(2), STILL),
        "variance above 0; leave out 'B'",
    ),
    "a forecast with a hole": (
        lambda: mean_variance_weights(np.array([0, np.nan]), COVARIANCE),
        "forecast and held must be finite; leave out 'B'",
    ),
    "returns with a hole": (lambda: risk_by_asset(np.ones(2), WALK), "none for B"),
    **{
        f"symbol {symbol}": (lambda symbol=symbol: candles(symbol), "written 'BTCUSDT' by Bybit")
        for symbol in ("BTC/USDT", "BTC-USDT", "btc_usdt", "BTC/USDT:USDT", "BTCUSDT.P")
    },
    "start after end": (
        lambda: candles("BTCUSDT", start=pd.Timestamp("2024-02-01"), end="2024-01-01"),
        "got 2024-02-01T00:00:00Z and 2024-01-01T00:00:00Z",
    ),
    "start before 1970": (
        lambda: candles("BTCUSDT", start=pd.Timestamp("1960-01-01")),
        "1970 to 2200, got 1960-01-01T00:00:00",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_an_argument_that_cannot_be_used_is_refused_by_name(case, refuse):
    refuse(*CALLS[case])


COMMANDS = [
    "train --data IN --run OUT",
    "train --data IN --run OUT --time-zone Mars",
    "train --data IN --run OUT --time-zone",
    "train --data IN --run OUT --time-zone UTC --lookback 99",
    "predict --data IN --run IN --out OUT --time-zone UTC",
    "verify --data IN --run IN --time-zone UTC",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_refuses_unclear_bars_in_one_line(tmp_path, words, capsys):
    (tmp_path / "IN").mkdir()
    (tmp_path / "IN" / "A.csv").write_text(MT4)
    (tmp_path / "IN" / "B.csv").write_text(MT4)
    words = words.replace("IN", str(tmp_path / "IN")).replace("OUT", str(tmp_path / "OUT"))
    try:
        code = main(words.split())
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1


SEEDS = [text for text, *_ in READ.values() if isinstance(text, str)]
PIECES = [
    "",
    ",",
    ";",
    "\t",
    "\n",
    '"',
    "\0",
    "-",
    "+",
    ".",
    "e",
    "NaN",
    "9" * 25,
    "Z",
    "#",
    "\u0661",
    "\ufeff",
]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.sampled_from(PIECES)), max_size=4),
)
def test_a_damaged_text_is_read_or_refused(tmp_path, text, damages):
    for place, length, piece in damages:
        start = int(place * len(text))
        text = text[:start] + piece + text[start + length :]
    (tmp_path / "A.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        frame = read_bars(tmp_path)["A"]
    except InvalidInputError as error:
        assert "\n" not in str(error) and "A.csv" in str(error)
    else:
        check_frame(frame)


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damages=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), min_size=1, max_size=6))
def test_damaged_arrow_is_read_or_refused(tmp_path, suffix, damages):
    path = tmp_path / f"A{suffix}"
    write(ROWS, path)
    content = bytearray(path.read_bytes())
    for place, piece in damages:
        start = int(place * len(content))
        content[start : start + len(piece)] = piece
    path.write_bytes(content)
    try:
        check_frame(read_bars(tmp_path)["A"])
    except InvalidInputError as error:
        assert "\n" not in str(error) and "A." in str(error)
