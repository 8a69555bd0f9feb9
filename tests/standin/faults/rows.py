"""Faults of a single candle, or of all of them."""

from __future__ import annotations

from standin.bybit import candle
from standin.faults.catalogue import EXACT, GAP, HOUR, fault


def row(name: str, *, once: str | None = EXACT, always: str | None = GAP):
    """Enter a fault of one candle, the server's victim; the function returns what stands there."""

    def enter(change):
        @fault("row", name, once=once, always=always)
        def act(server, ask, answer):
            if answer.envelope["retCode"] == 0:
                answer.rows = [
                    new
                    for old in answer.rows
                    for new in (change(list(old)) if int(old[0]) == server.victim_ms else [old])
                ]

        return change

    return enter


_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _TURNOVER = range(1, 7)
_CELLS = {
    "empty text": "",
    "space": " ",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-inf",
    "beyond float64": "1e999",
    "zero": "0",
    "zero to many digits": "0.0000000000",
    "minus zero": "-0.0",
    "negative": "-5123.10",
    "absurd": "1e15",
    "absurdly small": "1e-30",
    "a huge integer": "9" * 400,
    "hexadecimal": "0x1F",
    "with underscores": "5_123.10",
    "with a thousands comma": "5,123.10",
    "with a decimal comma": "5123,10",
    "with a space": " 5123.10",
    "with a new line": "5123.10\n",
    "in other digits": "٥١٢٣",
    "a word": "closed",
    "null": None,
    "true": True,
    "a list": ["5123.10"],
    "an object": {"price": "5123.10"},
    "a number, not a text": 5123.1,
}
for _name, _cell in _CELLS.items():

    @row(f"a close that is {_name}")
    def _(it, cell=_cell):
        it[_CLOSE] = cell
        return [it]


@row("a candle a million times too high")
def _(it):
    return [[it[0], *(f"{float(price) * 1e6:.2f}" for price in it[1:5]), *it[5:]]]


@row("a candle thirty times too high")
def _(it):
    return [[it[0], *(f"{float(price) * 30:.2f}" for price in it[1:5]), *it[5:]]]


@row("a candle a million times too low")
def _(it):
    return [[it[0], *(f"{float(price) / 1e6:.6f}" for price in it[1:5]), *it[5:]]]


@row("a high a million times too high")
def _(it):
    it[_HIGH] = f"{float(it[_HIGH]) * 1e6:.2f}"
    return [it]


@row("a low a million times too low")
def _(it):
    it[_LOW] = f"{float(it[_LOW]) / 1e6:.6f}"
    return [it]


@row("a high below its low")
def _(it):
    it[_HIGH], it[_LOW] = "4000.00", "4500.00"
    return [it]


@row("high and low exchanged")
def _(it):
    it[_HIGH], it[_LOW] = f"{float(it[_LOW]) - 1:.2f}", f"{float(it[_HIGH]) + 1:.2f}"
    return [it]


@row("a close above its high")
def _(it):
    it[_CLOSE] = f"{float(it[_HIGH]) + 0.01:.2f}"
    return [it]


@row("an open below its low")
def _(it):
    it[_OPEN] = f"{float(it[_LOW]) - 0.01:.2f}"
    return [it]


@row("a negative volume")
def _(it):
    it[_VOLUME] = "-1"
    return [it]


@row("an infinite volume")
def _(it):
    it[_VOLUME] = "inf"
    return [it]


@row("an absurd volume")
def _(it):
    it[_VOLUME] = "1e29"
    return [it]


@row("an empty turnover")
def _(it):
    it[_TURNOVER] = ""
    return [it]


@row("a missing column")
def _(it):
    return [it[:-1]]


@row("an added column")
def _(it):
    return [[*it, "1"]]


@row("no column at all")
def _(it):
    return [[]]


@row("null instead of a row")
def _(it):
    return [None]


@row("an object instead of a row")
def _(it):
    return [dict(enumerate(it))]


@row("a text instead of a row")
def _(it):
    return [",".join(it)]


@row("a start one second off the grid")
def _(it):
    return [[str(int(it[0]) + 1000), *it[1:]]]


@row("a start half an interval off the grid")
def _(it):
    return [[str(int(it[0]) + HOUR // 2), *it[1:]]]


@row("a start one millisecond off the grid, beside the true candle", always=EXACT)
def _(it):
    return [it, [str(int(it[0]) + 1), *it[1:]]]


@row("a start in seconds")
def _(it):
    return [[str(int(it[0]) // 1000), *it[1:]]]


@row("a start that is a number, not a text")
def _(it):
    return [[int(it[0]), *it[1:]]]


@row("a start that is a date")
def _(it):
    return [["2024-01-01", *it[1:]]]


@row("a start that is empty")
def _(it):
    return [["", *it[1:]]]


@row("a negative start")
def _(it):
    return [["-" + it[0], *it[1:]]]


@row("a start of thirty digits")
def _(it):
    return [["1" * 30, *it[1:]]]


@row("two candles that contradict each other")
def _(it):
    return [it, [it[0], *candle("spot", "OTHER", "60", int(it[0]))[1:]]]


@fault("row", "all rows with exchanged high and low")
def _(server, ask, answer):
    answer.rows = [[r[0], r[1], r[3], r[2], *r[4:]] for r in answer.rows]


@fault("row", "all rows with a column too few")
def _(server, ask, answer):
    answer.rows = [r[:-1] for r in answer.rows]


@fault("row", "all rows off the grid")
def _(server, ask, answer):
    answer.rows = [[str(int(r[0]) + 60_000), *r[1:]] for r in answer.rows]


@fault("row", "all rows as objects")
def _(server, ask, answer):
    answer.rows = [{"start": r[0], "close": r[4]} for r in answer.rows]


@fault("row", "all rows in seconds")
def _(server, ask, answer):
    answer.rows = [[str(int(r[0]) // 1000), *r[1:]] for r in answer.rows]
