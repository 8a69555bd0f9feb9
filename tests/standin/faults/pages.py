"""Faults in which rows come."""

from standin.bybit import candle
from standin.faults.catalogue import EXACT, HOUR, NAMED, false_candle, fault


def candles(ask, newest: int, steps) -> list[tuple[str, ...]]:
    """Return the true candles that open some hours after ``newest``."""
    return [candle(ask.category, ask.symbol, "60", newest + step * HOUR) for step in steps]


def page(name: str, **outcomes):
    """Enter a fault in which rows come; the function returns the rows of the page."""

    def enter(choose):
        @fault("page", name, **outcomes)
        def act(server, ask, answer):
            if answer.envelope["retCode"] == 0:
                answer.rows = choose(answer.rows, ask, server)

        return choose

    return enter


page("every row twice", always=EXACT)(lambda rows, *_: [row for row in rows for _ in range(2)])
page("oldest first", always=EXACT)(lambda rows, *_: rows[::-1])
page("in disorder", always=EXACT)(lambda rows, *_: rows[::3] + rows[1::3] + rows[2::3])
page("of 200 rows whatever the limit", always=EXACT)(lambda rows, *_: rows[:200])
page("of the oldest 200 rows whatever the limit", always=EXACT)(lambda rows, *_: rows[-200:])
page("of one row")(lambda rows, *_: rows[:1])
page("without its newest row", always=NAMED)(lambda rows, *_: rows[1:])
page("without its oldest row", always=NAMED)(lambda rows, *_: rows[:-1])
page("without every second row", always=EXACT)(lambda rows, *_: rows[::2])
page("empty")(lambda rows, *_: [])


@page("that overlaps its neighbours", always=EXACT)
def _(rows, ask, server):
    if not rows:
        return rows
    later = candles(ask, int(rows[0][0]), (3, 2, 1))
    closed = [row for row in later if int(row[0]) + HOUR <= server.now_ms]
    return closed + rows + candles(ask, int(rows[-1][0]), (-1, -2, -3))


@page("that overlaps its neighbours with other values", always=EXACT)
def _(rows, ask, server):
    return rows + [false_candle(str(int(row[0]) - HOUR)) for row in rows[-1:]]


@page("that is always the newest of all", always=NAMED)
def _(rows, ask, server):
    return candles(ask, server.now_ms - server.now_ms % HOUR, range(0, -1000, -1))


@page("of 5000 rows", always=EXACT)
def _(rows, ask, server):
    listed, _ = server.symbols[ask.symbol]
    many = candles(ask, int(rows[0][0]), range(0, -5000, -1)) if rows else []
    return [row for row in many if int(row[0]) >= listed]


@page("where the open candle keeps changing", always=EXACT)
def _(rows, ask, server):
    if rows and int(rows[0][0]) + HOUR > server.now_ms:
        rows = [false_candle(rows[0][0], ask.number), *rows[1:]]
    return rows


@page("with candles of the future", always=EXACT)
def _(rows, ask, server):
    return candles(ask, server.now_ms - server.now_ms % HOUR, (3, 2, 1)) + rows


@page("told twice, in two ways, by two answers", once=None)
def _(rows, ask, server):
    if ask.number == 1:
        return rows[::2]
    return [false_candle(row[0], int(row[0])) for row in rows]
