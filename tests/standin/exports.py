"""Two bars, as other programs export them: shared by the tests of files and tables."""

import pandas as pd

NINE, TEN = "2024-01-31T09:00:00Z", "2024-01-31T10:00:00Z"
HEADER = "time,open,high,low,close,volume"
PRICES = "1.5,2.5,1.0,2.0,10.5"
VALUES = [1.5, 2.5, 1.0, 2.0, 10.5]
EPOCH = 1_706_691_600  # NINE
TIMES = pd.DatetimeIndex([NINE, TEN], name="time").tz_convert("UTC")
BARS = pd.DataFrame([VALUES, VALUES], TIMES, HEADER.split(",")[1:])
ROWS = BARS.reset_index()
DAYS = ("2024-01-30T00:00Z", "2024-01-31T00:00Z")


def table(header: str | None, first: str, second: str, sep: str = ",", prices: str = PRICES) -> str:
    """Return a header, if any, and two rows: a time each, then the same prices."""
    rows = [f"{time}{sep}{prices.replace(',', sep)}\n" for time in (first, second)]
    return (f"{header}\n" if header else "") + "".join(rows)


def times(first: str, second: str) -> str:
    return table(HEADER, first, second)


def hours(pattern: str, first: int = 9) -> str:
    """Return the bars of two hours, whose times are a pattern with the hours filled in."""
    return times(pattern.format(f"{first:02}"), pattern.format(f"{first + 1:02}"))


def priced(prices: str) -> str:
    return table(HEADER, NINE, TEN, prices=prices)


def semicolons(prices: str) -> str:
    return f"{HEADER.replace(',', ';')}\n{NINE};{prices}\n{TEN};{prices}\n"


def write(table: pd.DataFrame, path, **columns) -> None:
    getattr(table.assign(**columns), f"to_{path.suffix[1:]}")(path)


def put(text: str | bytes, path) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def metatrader(names: str, first: str, second: str) -> str:
    """Return bars as MetaTrader 5 exports them, with these columns for their times."""
    header = f"{names}\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
    return table(header, first, second, "\t", f"{PRICES},0,3")


MT5 = metatrader("<DATE>\t<TIME>", "2024.01.31\t09:00:00", "2024.01.31\t10:00:00")
MT4 = table(None, "2024.01.31,09:00", "2024.01.31,10:00")
TRADESTATION = table(
    '"Date","Time","Open","High","Low","Close","Vol"', "01/31/2024,0900", "01/31/2024,1000"
)
UTC = {"time_zone": "UTC"}
NEW_YORK = {"time_zone": "America/New_York"}
ALPHA_VANTAGE = times("2024-01-31 05:00:00", "2024-01-31 04:00:00").replace("time", "timestamp")
HISTDATA = table(None, "20240131 090000", "20240131 100000", ";")
THOUSANDS = semicolons("1,500;2,500;1,000;2,000;10")
