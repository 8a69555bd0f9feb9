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
    """Return a header and two rows: a time each, then the same prices."""
    rows = [f"{time}{sep}{prices.replace(',', sep)}" for time in (first, second)]
    return "\n".join([header, *rows] if header else rows) + "\n"


def times(first: str, second: str) -> str:
    return table(HEADER, first, second)


def priced(prices: str) -> str:
    return table(HEADER, NINE, TEN, prices=prices)


def semicolons(prices: str) -> str:
    return HEADER.replace(",", ";") + f"\n{NINE};{prices}\n{TEN};{prices}\n"


def write(table: pd.DataFrame, path, **columns) -> None:
    getattr(table.assign(**columns), f"to_{path.suffix[1:]}")(path)


MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n" + "".join(
    f"2024.01.31\t{hour}:00:00\t1.5\t2.5\t1.0\t2.0\t10.5\t0\t3\n" for hour in ("09", "10")
)
MT4 = f"2024.01.31,09:00,{PRICES}\n2024.01.31,10:00,{PRICES}\n"
UTC = {"time_zone": "UTC"}
NEW_YORK = {"time_zone": "America/New_York"}
ALPHA_VANTAGE = table(
    "timestamp,open,high,low,close,volume", "2024-01-31 05:00:00", "2024-01-31 04:00:00"
)
