"""Faults of a single candle, or of all of them."""

from standin.faults.catalogue import EXACT, GAP, HOUR, REFUSED, false_candle, fault


def row(name: str, *changes, always: str = GAP):
    """Enter a fault of one candle, the server's victim: what each change returns stands there."""

    @fault("row", name, always=always)
    def act(server, ask, answer):
        if answer.envelope["retCode"] == 0:
            victim, rows = str(server.victim_ms), []
            for old in answer.rows:
                rows += [change(list(old)) for change in changes] if old[0] == victim else [old]
            answer.rows = rows


_OPEN, _HIGH, _LOW, _CLOSE = range(1, 5)
_CELLS = [
    *("", " ", "NaN", "Infinity", "-inf", "1e999", "closed"),  # no number
    *("0", "0.0000000000", "-0.0", "-5123.10", "1e15", "1e-30", "9" * 400),  # no price
    *("0x1F", "5_123.10", "5,123.10", "5123,10", " 5123.10", "5123.10\n", "٥١٢٣"),  # odd spelling
    *(None, True, ["5123.10"], {"price": "5123.10"}, 5123.1),  # no text
]
for _cell in _CELLS:
    row(f"a close of {_cell!r:.30}", lambda it, cell=_cell: _with(it, close=cell))


def _scaled(it, factor, *columns):
    """Return a row with some of its prices multiplied, or all of them."""
    columns = columns or range(_OPEN, _CLOSE + 1)
    return [f"{float(cell) * factor:.6f}" if i in columns else cell for i, cell in enumerate(it)]


def _with(it, **cells):
    """Return a row with some of its cells replaced: ``start open high low close volume ...``."""
    names = ("start", "open", "high", "low", "close", "volume", "turnover")
    return [cells.get(name, cell) for name, cell in zip(names, it, strict=True)]


def _moved(it, column, cents):
    return f"{float(it[column]) + cents / 100:.2f}"


row("a candle a million times too high", lambda it: _scaled(it, 1e6))
row("a candle thirty times too high", lambda it: _scaled(it, 30))
row("a candle a million times too low", lambda it: _scaled(it, 1e-6))
row("a high a million times too high", lambda it: _scaled(it, 1e6, _HIGH))
row("a low a million times too low", lambda it: _scaled(it, 1e-6, _LOW))
row("a high below its low", lambda it: _with(it, high="4000.00", low="4500.00"))
row(
    "high and low exchanged",
    lambda it: _with(it, high=_moved(it, _LOW, -100), low=_moved(it, _HIGH, 100)),
)
row("a close above its high", lambda it: _with(it, close=_moved(it, _HIGH, 1)))
row("an open below its low", lambda it: _with(it, open=_moved(it, _LOW, -1)))
row("a negative volume", lambda it: _with(it, volume="-1"))
row("an infinite volume", lambda it: _with(it, volume="inf"))
row("an absurd volume", lambda it: _with(it, volume="1e29"))
row("an empty turnover", lambda it: _with(it, turnover=""))
row("a missing column", lambda it: it[:-1])
row("no column at all", lambda it: [])
row("null instead of a row", lambda it: None)
row("an object instead of a row", lambda it: dict(enumerate(it)))
row("a text instead of a row", lambda it: ",".join(it))
row("a start one second off the grid", lambda it: _with(it, start=str(int(it[0]) + 1000)))
row("a start half an hour off the grid", lambda it: _with(it, start=str(int(it[0]) + HOUR // 2)))
row("a start in seconds", lambda it: _with(it, start=str(int(it[0]) // 1000)))
row("a start that is a number, not a text", lambda it: _with(it, start=int(it[0])))
row("a start that is a date", lambda it: _with(it, start="2024-01-01"))
row("a start that is empty", lambda it: _with(it, start=""))
row("a negative start", lambda it: _with(it, start="-" + it[0]))
row("a start of thirty digits", lambda it: _with(it, start="1" * 30))
row("two candles that contradict each other", list, lambda it: false_candle(it[0], int(it[0])))
row(
    "a start one millisecond off the grid, beside the true candle",
    list,
    lambda it: _with(it, start=str(int(it[0]) + 1)),
    always=EXACT,
)
row("added columns of any kind", lambda it: [*it, "1", None, {"new": [1]}], always=EXACT)

_ALL_ROWS = {
    "exchanged high and low": lambda r: [r[0], r[1], r[3], r[2], *r[4:]],
    "a column too few": lambda r: r[:-1],
    "starts off the grid": lambda r: [str(int(r[0]) + 60_000), *r[1:]],
    "objects for lists": lambda r: {"start": r[0], "close": r[4]},
    "starts in seconds": lambda r: [str(int(r[0]) // 1000), *r[1:]],
    "an added column": lambda r: [*r, "1"],
}
for _name, _change in _ALL_ROWS.items():

    @fault("row", f"all rows with {_name}", always=EXACT if "added" in _name else REFUSED)
    def _(server, ask, answer, change=_change):
        answer.rows = [change(r) for r in answer.rows]
