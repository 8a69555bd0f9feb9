"""CSV exports of other programs are read to exact values, or refused in one line.

Every file holds the same two bars in another program's habits: a case names what differs.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin import exports
from standin.exports import (
    DAYS,
    EPOCH,
    HEADER,
    NEW_YORK,
    NINE,
    PRICES,
    TEN,
    UTC,
    priced,
    table,
    times,
)

from crossattn.data import check_frame, read_bars
from crossattn.errors import InvalidInputError

BINANCE = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
DUKASCOPY = "Gmt time,Open,High,Low,Close,Volume"
TRADING_VIEW = "time,open,high,low,close,Volume"
YAHOO = "Date,Open,High,Low,Close,Adj Close,Volume"
NASDAQ = "Date,Close/Last,Volume,Open,High,Low\n" + "".join(
    f'{day},$2.00,"1,000",$1.50,$2.50,$1.00\n' for day in ("01/31/2024", "01/30/2024")
)
INVESTING = '"Date","Price","Open","High","Low","Vol.","Change %"\n' + "".join(
    f'"{day}","42,000.5","41,500.5","43,000.0","41,000.0","1.05K","-0.84%"\n'
    for day in ("Jan 31, 2024", "Jan 30, 2024")
)


def klines(unit: int, *, header: str | None = None) -> str:
    """Return Binance's twelve columns, epochs in 1/unit seconds, closes a tick early."""
    first, second = (f"{e * unit},{PRICES},{(e + 3600) * unit - 1}" for e in (EPOCH, EPOCH + 3600))
    return table(header, first, second, prices="20.0,5,1.0,2.0,0")


# files that are read to the two bars as they are
PLAIN: dict[str, str | bytes] = {
    "own format": times(NINE, TEN),
    "capital names": table(HEADER.title(), NINE, TEN),
    "upper case": table(HEADER.upper(), NINE, TEN),
    "spaces in the header": table(" time , open , high , low , close , volume ", NINE, TEN),
    "spaces in the cells": table(HEADER, NINE, TEN, ", "),
    "an average of the volume": table(
        "time,open,high,low,close,Volume MA,Volume BTC", NINE, TEN
    ).replace("10.5", "99.0,10.5"),
    "another order": "low,time,open,high,close,volume\n"
    + "".join(f"1.0,{time},1.5,2.5,2.0,10.5\n" for time in (NINE, TEN)),
    "short names": table("timestamp,o,h,l,c,v", NINE, TEN),
    "quoted": table(",".join(f'"{n}"' for n in HEADER.split(",")), f'"{NINE}"', f'"{TEN}"'),
    "semicolons": table(HEADER.replace(",", ";"), NINE, TEN, ";"),
    "semicolons, decimal commas": exports.semicolons("1,5;2,5;1,0;2,0;10,5"),
    "tabs": table(HEADER.replace(",", "\t"), NINE, TEN, "\t"),
    "tabs, decimal commas": exports.semicolons("1,5;2,5;1,0;2,0;10,5").replace(";", "\t"),
    "bars between columns": table(HEADER.replace(",", "|"), NINE, TEN, "|"),
    "Excel's own first line": "sep=;\n" + table(HEADER.replace(",", ";"), NINE, TEN, ";"),
    "byte-order mark": "\ufeff" + times(NINE, TEN),
    "UTF-16": times(NINE, TEN).encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + times(NINE, TEN).encode("utf-16-be"),
    "UTF-16 without mark": times(NINE, TEN).encode("utf-16-le"),
    "Windows line ends": times(NINE, TEN).replace("\n", "\r\n"),
    "old Macintosh line ends": times(NINE, TEN).replace("\n", "\r"),
    "no last line end": times(NINE, TEN).rstrip(),
    "blank lines": times(NINE, TEN).replace("\n", "\n\n") + "\n\n",
    "lines of commas": times(NINE, TEN) + ",,,,,\n",
    "comments": "# made by hand, twice\n" + times(NINE, "# pause\n" + TEN),
    "an address first": f"https://www.CryptoDataDownload.com\n{times(NINE, TEN)}",
    "spare columns": table(f"{HEADER},vwap,Plot,Plot", NINE, TEN, prices=f"{PRICES},9,8,7"),
    "a comma too many": table(f"{HEADER},", NINE, TEN, prices=f"{PRICES},"),
    "a comma too many below": priced(f"{PRICES},"),
    "one symbol named": table(f"{HEADER},symbol", NINE, TEN, prices=f"{PRICES},AAPL"),
    "pandas' unnamed index": table(HEADER.replace("time", ""), NINE, TEN),
    "pandas' row numbers": f",{HEADER}\n0,{NINE},{PRICES}\n1,{TEN},{PRICES}\n",
    "scientific numbers": priced("15e-1,2.5E0,+1.0,2.,.105e2"),
    "one quoted cell": times(NINE, TEN).replace("10.5", '"10.5"'),
    "adjusted close beside": table(f"{HEADER},Adj Close", NINE, TEN, prices=f"{PRICES},0.1"),
    "a null row": times(NINE, TEN) + "2024-01-31T11:00:00Z,null,null,null,null,null\n",
    "an empty row": times(NINE, TEN) + "2024-01-31T11:00:00Z,,,,,\n",
    "fractions": times("2024-01-31T09:00:00.000Z", "2024-01-31T10:00:00.000000000Z"),
    "offsets that change": times("2024-01-31T10:00+01:00", "2024-01-31T12:00+02:00"),
    "no leading zeros": times("2024-1-31 9:00Z", "2024-1-31 10:00Z"),
    "Dukascopy": table(DUKASCOPY, "31.01.2024 09:00:00.000", "31.01.2024 10:00:00.000"),
    "epoch in seconds": times(f"{EPOCH}", f"{EPOCH + 3600}"),
    "epoch with fractions": times(f"{EPOCH}.0", f"{EPOCH + 3600}.000"),
    "epoch in ms": times(f"{EPOCH}000", f"{EPOCH + 3600}000"),
    "epoch in us": times(f"{EPOCH}000000", f"{EPOCH + 3600}000000"),
    "epoch in ns": times(f"{EPOCH}000000000", f"{EPOCH + 3600}000000000"),
    "ms, then us": times(f"{EPOCH}000", f"{EPOCH + 3600}000000"),
    "Binance in ms": klines(1000),
    "Binance in us": klines(1_000_000),
    "Binance with header": klines(1000, header=BINANCE),
    "Binance, spot API names": klines(
        1000, header="Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,a,b,c,d"
    ),
    "Kraken": f"{EPOCH},{PRICES},7\n{EPOCH + 3600},{PRICES},8\n",
    "TradingView, seconds": table(TRADING_VIEW, str(EPOCH), str(EPOCH + 3600)),
    "TradingView": table(TRADING_VIEW, "2024-01-31T04:00:00-05:00", "2024-01-31T05:00:00-05:00"),
    "CryptoDataDownload": "https://www.CryptoDataDownload.com\n"
    + "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD\n"
    + "".join(f"{e},2024-01-31,BTC/USD,{PRICES},20\n" for e in (EPOCH + 3600, EPOCH)),
    "Polygon": "ticker,volume,open,close,high,low,window_start,transactions\n"
    + "".join(f"A,10.5,1.5,2.0,2.5,1.0,{e}000000000,7\n" for e in (EPOCH, EPOCH + 3600)),
    "Coinbase": table("time,low,high,open,close,volume", NINE, TEN, prices="1.0,2.5,1.5,2.0,10.5"),
}
# the times of these two bars, without their hours; and the first hour where it is not 9
CLOCKS = [
    *("2024-01-31 {}:00:00+00", "2024-01-31 {}:00:00 UTC", "2024-01-31 {}:00 GMT"),
    *("2024-01-31t{}:00:00z", "20240131{}0000Z", "20240131T{}0000Z", "2024/01/31 {}:00Z"),
    *("31.01.2024 {}:00:00.000 GMT+0000", "31-Jan-24 {}:00Z"),
    *("31 Jan 2024 {}:00Z", '"Jan 31, 2024 {}:00Z"'),
]
WEST = {"2024-01-31 {}:00:00-05": 4, "2024-01-31T{}:30-03:30": 5}
EAST = {"2024-01-31T{}:30+05:30": 14, "2024-01-31T{}:00:00+0100": 10}
FIRST_HOURS = dict.fromkeys(CLOCKS, 9) | WEST | EAST
PLAIN |= {clock: exports.hours(clock, first) for clock, first in FIRST_HOURS.items()}
# files of two days, and their dates without their days
DATES = ("2024-01-{}", "2024-01-{} 00:00:00", "202401{}", "01/{}/2024", "{}/01/2024")
DATED = {
    **{date: exports.hours(date, 30) for date in DATES},
    "MetaTrader 5, days": exports.metatrader("<DATE>", "2024.01.30", "2024.01.31"),
    "MetaTrader 4, days": table(None, "2024.01.30,00:00", "2024.01.31,00:00"),
    "Yahoo": table(YAHOO, "2024-01-30", "2024-01-31", prices="1.5,2.5,1.0,2.0,1.9,10.5"),
    "Yahoo with a null row": table(
        YAHOO,
        "2024-01-30",
        "2024-01-30,null,null,null,null,null,null\n2024-01-31",
        prices="1.5,2.5,1,2,2,10.5",
    ),
    "yfinance": "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n"
    "2024-01-30,2.0,2.5,1.0,1.5,10.5\n2024-01-31,2.0,2.5,1.0,1.5,10.5\n",
    "stooq": table("Date,Open,High,Low,Close,Volume", "2024-01-30", "2024-01-31"),
    "stooq in bulk": "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    + "".join(f"A.US,D,{d},000000,{PRICES},0\n" for d in (20240130, 20240131)),
    "Alpha Vantage": table("timestamp,open,high,low,close,volume", "2024-01-31", "2024-01-30"),
}


def case(text, first=NINE, spacing="1h", *, values=exports.VALUES, **options):
    """Return a text, when its two bars open, their values, and the options of ``read_bars``."""
    return text, pd.date_range(first, periods=2, freq=spacing), values, options


READ = {name: case(text) for name, text in PLAIN.items()}
READ |= {name: case(text, DAYS[0], "1D") for name, text in DATED.items()}
READ |= {
    "a rounding error": case(priced("1.5,1.9999999999,1.0,2.0,10.5"), values=[1.5, 2, 1, 2, 10.5]),
    "null volume": case(priced("1.5,2.5,1.0,2.0,NaN"), values=[1.5, 2.5, 1.0, 2.0, np.nan]),
    "morning and evening": case(times("01/31/2024 09:00 AM", "01/31/2024 10:00 AM"), **UTC),
    "noon": case(times("01/31/2024 12:00 AM", "01/31/2024 12:00 PM"), DAYS[1], "12h", **UTC),
    "before 1990": case(times("-3600", f"{EPOCH}"), "1969-12-31T23:00Z", f"{EPOCH + 3600}s"),
    "small epochs": case(times("3600", "7200"), "1970-01-01T01Z", unit="s"),
    "naive, New York": case(times("2024-01-31 04:00", "2024-01-31 05:00"), **NEW_YORK),
    "in summer": case(times("2024-07-01 04:00", "2024-07-01 05:00"), "2024-07-01T08Z", **NEW_YORK),
    "an hour twice": case(exports.hours("2024-11-03 01:00"), "2024-11-03T05Z", **NEW_YORK),
    "a format": case(
        exports.hours("01-02-2024 {}h"), "2024-02-01T09Z", date_format="%d-%m-%Y %HH", **UTC
    ),
    "New York's dates": case(times("2024-01-30", "2024-01-31"), "2024-01-30T05Z", "1D", **NEW_YORK),
    "ambiguous dates, told": case(
        times("01/02/2024", "02/02/2024"), "2024-02-01T00Z", "1D", date_format="%d/%m/%Y"
    ),
    "MetaTrader 5": case(exports.MT5, **UTC),
    "MetaTrader 5, UTF-16": case(exports.MT5.encode("utf-16"), **UTC),
    "MetaTrader 4": case(exports.MT4, **UTC),
    "TradeStation": case(exports.TRADESTATION, **UTC),
    "Alpha Vantage by the minute": case(exports.ALPHA_VANTAGE, **NEW_YORK),
    "Nasdaq": case(NASDAQ, DAYS[0], "1D", values=[1.5, 2.5, 1.0, 2.0, 1000.0]),
    "Investing": case(INVESTING, DAYS[0], "1D", values=[41500.5, 43000, 41000, 42000.5, 1050]),
    "HistData": case(exports.HISTDATA, columns=HEADER.split(","), **UTC),
    "German numbers": case(
        exports.semicolons("1.500,5;2.500,5;1.000,0;2.000,0;10"),
        values=[1500.5, 2500.5, 1000.0, 2000.0, 10.0],
    ),
    "thousands, told": case(exports.THOUSANDS, values=[1500, 2500, 1000, 2000, 10], decimal="."),
    "decimals, told": case(exports.THOUSANDS, values=[1.5, 2.5, 1, 2, 10], decimal=","),
    "no volume, told": case(
        f"time,open,high,low,close\n{NINE},1.5,2.5,1,2\n{TEN},1.5,2.5,1,2\n",
        values=[1.5, 2.5, 1.0, 2.0, np.nan],
        columns={"volume": None},
    ),
    "own names": case(
        table("when,a,b,c,d,e", NINE, TEN),
        columns=dict(zip(HEADER.split(","), ["when", "a", "b", "c", "d", "e"], strict=True)),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_foreign_file_is_read_to_its_values(tmp_path, name):
    text, known, values, options = READ[name]
    exports.put(text, tmp_path / "AAA.csv")
    frame = read_bars(tmp_path, **options)["AAA"]
    assert frame.index.equals(known)
    for row in frame[["open", "high", "low", "close", "volume"]].to_numpy():
        np.testing.assert_array_equal(row, values)
    if name.startswith("Binance"):  # the last tick before the next bar is that bar's open
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


SEEDS = [text for text, *_ in READ.values() if isinstance(text, str)]
PIECES = ["", *',;\t\n"\0-+.eZ#\u0661\ufeff', "NaN", "9" * 25]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
