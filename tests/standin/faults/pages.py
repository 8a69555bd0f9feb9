"""Faults in which rows come."""

from standin.bybit import candle
from standin.faults.catalogue import EXACT, HOUR, NAMED, REFUSED, false_candle, fault


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


_CHOSEN = {
    EXACT: {
        "every row twice": lambda rows: [row for row in rows for _ in range(2)],
        "oldest first": lambda rows: rows[::-1],
        "in disorder": lambda rows: rows[::3] + rows[1::3] + rows[2::3],
        "of 200 rows whatever the limit": lambda rows: rows[:200],
        "of the oldest 200 rows whatever the limit": lambda rows: rows[-200:],
        "without every second row": lambda rows: rows[::2],
    },
    NAMED: {
        "without its newest row": lambda rows: rows[1:],
        "without its oldest row": lambda rows: rows[:-1],
    },
    REFUSED: {"of one row": lambda rows: rows[:1], "empty": lambda rows: []},
}
for _always, _table in _CHOSEN.items():
    for _name, _choose in _table.items():
        page(_name, always=_always)(lambda rows, *_, choose=_choose: choose(rows))


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
