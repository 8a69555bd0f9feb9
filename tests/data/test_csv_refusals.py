"""CSV files that could mean two things are refused in one line that says what to do."""

import pytest
from standin import exports
from standin.exports import EPOCH, HEADER, NEW_YORK, NINE, PRICES, TEN, UTC, priced, table, times

from crossattn.data import read_bars

NO_CLOCK = "no unique clock of America/New_York"
# name: (time of the first bar, time of the second, words of the message, options)
TIMES: dict[str, tuple] = {
    "naive": ("2024-01-31 09:00", "2024-01-31 10:00", "line 2: .*time_zone=.*--time-zone"),
    "dates, then naive": ("2024-01-31 00:00", "2024-01-31 10:00", "line 3: time must be ISO 8601"),
    "some zoned": (NINE, "2024-01-31 10:00", "line 3: .*in every row or none"),
    "an unknown zone": ("2024-01-31 09:00 EST", "2024-01-31 10:00 EST", "line 2: .*09:00 EST'"),
    "an hour that is skipped": ("2024-03-10 02:30", "2024-03-10 03:30", NO_CLOCK, NEW_YORK),
    "an hour that could be two": ("2024-11-03 01:30", "2024-11-03 04:30", NO_CLOCK, NEW_YORK),
    "day or month": ("01/02/2024", "02/02/2024", "line 2: .*day and month .*date_format="),
    "day or year": ("01/02/03", "02/02/03", "line 2: .*date_format="),
    "thirteenth month": ("13/13/2024", "14/13/2024", "line 2: .*date_format="),
    "no such day": ("2024-02-30", "2024-02-31", "line 2: time must be ISO 8601"),
    "no such month": ("31 Foo 2024", "31 Foo 2024", "line 2: time must be"),
    "no such hour": ("2024-01-31T25:00Z", TEN, "line 2: time must be"),
    "thirteen in the morning": ("01/31/2024 13:00 AM", "01/31/2024 13:30 AM", "line 2: time", UTC),
    "two habits": ("31.01.2024 09:00Z", "2024-01-31 10:00Z", "line 3: time must be"),
    "dates, then a clock": ("2024-01-30", TEN, "in every row or none"),
    "epoch, then ISO": (f"{EPOCH}", TEN, "line 3: time must be an epoch like"),
    "ISO, then epoch": (NINE, f"{EPOCH + 3600}", "line 3: .*in every row or none"),
    "Excel's days": ("45322.375", "45322.417", "line 2: .*1990 to 2100.*unit="),
    "Excel's rounded epochs": ("1.70669E+12", "1.70670E+12", "line 2: time must be"),
    "row numbers as times": ("0", "1", "line 2: .*unit="),
    "a zero among epochs": ("0", f"{EPOCH}", "line 2: .*unit="),
    "beyond 64 bits": (f"{EPOCH}", "9" * 19, "line 3: time must be an epoch"),
    "beyond its unit": (f"{EPOCH}000", f"{EPOCH}001", "an epoch of its unit", {"unit": "s"}),
    "the last year": ("9999-12-31T22:00Z", "9999-12-31T23:00Z", "years 1678 to 2261"),
    "the first year": ("0001-01-01T02:00+05:00", TEN, "years 1678 to 2261|line 2: time"),
    "an offset of days": ("2024-01-31 9:00+99:00", "2024-01-31 10:00+99:00", "line 2: time"),
    "beyond 2100": (f"{EPOCH}", "5000000000", "line 3: .*unit="),
    "empty time": (NINE, "", "line 3: time"),
    "only empty times": ("", "", "line 2: time"),
    "wrong date format": (NINE, TEN, "line 2: .*date_format '%d'", {"date_format": "%d"}),
    "newest first in the own format": (TEN, NINE, "is earlier than"),
    "repeated": (NINE, NINE, "repeats"),
    "repeated hour, zoned": ("2024-11-03 01:00-04", "2024-11-03 01:00-04", "repeats"),
    "cut in the middle": (f"{NINE},1.5\n{NINE}", TEN, "line 2: the row ends after 2 of 6"),
    "unit": (NINE, TEN, "unit must be one of s, ms, us, ns, got 'h'", {"unit": "h"}),
    "decimal": (NINE, TEN, "decimal must be one of", {"decimal": ";"}),
    "zone": (NINE, TEN, "time_zone must be a zone such as 'UTC'.*'Mars'", {"time_zone": "Mars"}),
    "zone is a path": (NINE, TEN, "time_zone must be", {"time_zone": "../../etc/passwd"}),
    "zone is a number": (NINE, TEN, "time_zone must be", {"time_zone": 3}),
    "format is a number": (NINE, TEN, "date_format must be a text", {"date_format": 3}),
    "columns is a text": (NINE, TEN, "columns must be", {"columns": "time"}),
    "columns of numbers": (NINE, TEN, "columns must be", {"columns": [1, 2]}),
    "columns too few": (NINE, TEN, "columns must name all 6", {"columns": ["time", "open"]}),
    "columns that are not there": (NINE, TEN, "there is no 'x' in", {"columns": {"close": "x"}}),
    "columns of no bar": (NINE, TEN, "columns must be", {"columns": {"price": "close"}}),
    "no close at all": (NINE, TEN, "columns must be", {"columns": {"close": None}}),
}
# name: (prices of each bar, words of the message)
PRICED = {
    "a row too long": (f"{PRICES},1", "line 2: not a CSV row: 7 fields"),
    "zero price": ("1.5,2.5,0,2.0,10", "low must be positive"),
    "negative price": ("1.5,2.5,-1,2.0,10", "low must be positive"),
    "negative volume": ("1.5,2.5,1,2.0,-10", "volume must be zero or more"),
    "high below low": ("1.5,0.5,1,2.0,10", "high must be at least low"),
    "close above high": ("1.5,2.5,1,2.6,10", "close must be between"),
    "past the rounding": ("1.5,1.99999,1,2.0,10", "close must be between"),
    "only null rows": ("null,null,null,null,null", "no bars"),
    **{
        f"price {text!r}": (f"1.5,2.5,{text},2.0,10", f"line 2: low must be {words}")
        for words, texts in {
            "a number where other": ("", "null"),
            "a number": ("abc", "inf", "1_0", "0x1", "1 000", "--1", "1e999", "½", "٣", "1.2.3"),
            "a number, got": ("True", "10%"),
        }.items()
        for text in texts
    },
}
# name: (header, prices of each bar, words of the message)
HEADERS = {
    "no header": (None, PRICES, "header lacks time,open.*there is none.*columns=\\('time'"),
    "unknown names": ("when,a,b,c,d,e", PRICES, "header lacks .*it is 'when,a,b,c,d,e'"),
    "repeated column": (f"{HEADER},close", f"{PRICES},2", "repeats column 'close'"),
    "Close and close": (f"{HEADER},Close", f"{PRICES},2", "repeats column"),
    "columns in another order": ("time,high,open,low,close,volume", PRICES, "open must be between"),
}
ADJUSTED = HEADER.replace("close", "Adj Close")
# name: (text of the file, words of the message)
TEXTS = {
    "MetaTrader's server time": (exports.MT5, "line 2: .*time_zone=.*'2024.01.31 09:00:00'"),
    "MetaTrader 4's": (exports.MT4, "line 1: .*time_zone="),
    "Alpha Vantage by the minute": (exports.ALPHA_VANTAGE, "line 2: .*time_zone="),
    "unsorted": (times("2024-01-02", "2024-01-01") + f"2024-01-05,{PRICES}\n", "is earlier"),
    "HistData": (exports.HISTDATA, "first line is '20240131 090000;1.5"),
    "six columns": (table(None, f"{EPOCH}", f"{EPOCH + 3600}"), "header lacks .*columns="),
    "eight columns": (f"{EPOCH},{PRICES},7,8\n" * 2, "header lacks"),
    "no close": (table(ADJUSTED, NINE, TEN), "lacks close.*columns={'close'"),
    "no volume": (f"time,open,high,low,close\n{NINE},1,1,1,1\n", "lacks volume.*{'volume': None}"),
    "an average of the volume alone": (
        f"time,open,high,low,close,Volume MA\n{NINE},1,1,1,1,1\n",
        "lacks volume",
    ),
    "a word": ("hello\n", "not a CSV file: the header lacks time"),
    "a web page": ("<html>\n<body>, </body>\n", "no bars"),
    "JSON": ('[{"time": 1, "open": 2}]\n', "not a CSV file: line 1"),
    "spaces between columns": ("time open high low close volume\n", "header lacks"),
    "header alone": (HEADER + "\n", "no bars"),
    "comments alone": ("# a,b\n# c,d\n", "header lacks"),
    "commas alone": (",,,\n,,,\n", "no bars"),
    "blank": ("\n \n", "empty file"),
    "cut within a row": (times(NINE, TEN)[:-10], "line 3: the row ends after 4 of 6 fields"),
    "cut within a number": (times(NINE, TEN) + table(None, NINE, TEN)[:-3], "line 5: .*file cut"),
    "cut within decimals": (
        f"{HEADER}\n{NINE},1,2,1,2,0.123456789012\n{TEN},1,2,1,2,0.12345678903\n"
        "2024-01-31T11:00:00Z,1,2,1,2,0.12",
        "line 4: volume must be a number with as many decimals",
    ),
    "cut within a time": (times(NINE, TEN) + "2024-01-31T1", "line 4: the row ends after 1 of 6"),
    "an open quote": (table(HEADER, NINE, f'"{TEN}'), "not a CSV file"),
    "binary": (bytes(range(256)), "not a UTF-8"),
    "a zero byte": (times(NINE, TEN) + "\0", "not a text"),
    "Latin-1": (times(NINE, TEN).replace("time", "zeit\u00e9").encode("latin-1"), "not a UTF-8"),
    "an archive": (b"PK\x03\x04\xff\xfe", "not a UTF-8"),
    "thousands or decimals": (exports.THOUSANDS, "'1,500' may be .*decimal="),
    "a point": (exports.semicolons("1,5;2.5;1,0;2,0;10"), "line 2: high must be a number.*'2.5'"),
    "quoted commas": (priced('1.5,2.5,1.0,"2,05",10.5'), "line 2: open must be a number.*'1.5'"),
    "many symbols": (
        f"{HEADER},symbol\n{NINE},{PRICES},A\n{NINE},{PRICES},B\n",
        "holds 2 symbols \\(A, B\\): write one file",
    ),
    "yfinance": ("Price,Close,Close\nTicker,A,B\nDate,,\n2024-01-30,2,2\n", "holds 2 symbols"),
    "close before open": (
        f"{HEADER},close_time\n{NINE},{PRICES},{NINE}\n{TEN},{PRICES},{TEN}\n",
        "close_time must be later",
    ),
}
REFUSED = {name: (times(first, second), *rest) for name, (first, second, *rest) in TIMES.items()}
REFUSED |= {name: (priced(prices), words) for name, (prices, words) in PRICED.items()} | TEXTS
REFUSED |= {n: (table(h, NINE, TEN, prices=p), words) for n, (h, p, words) in HEADERS.items()}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_unclear_is_refused_in_one_line(tmp_path, case, refuse):
    text, words, options = (*REFUSED[case], {})[:3]
    exports.put(text, tmp_path / "AAA.csv")
    refuse(lambda: read_bars(tmp_path, **options), words)
