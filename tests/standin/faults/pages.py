"""Faults in which rows come."""

from standin.bybit import candle
from standin.faults.catalogue import EXACT, HOUR, NAMED, fault


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
    newest, oldest = int(rows[0][0]), int(rows[-1][0])
    later = [candle(ask.category, ask.symbol, "60", newest + k * HOUR) for k in (3, 2, 1)]
    earlier = [candle(ask.category, ask.symbol, "60", oldest - k * HOUR) for k in (1, 2, 3)]
    closed = [row for row in later if int(row[0]) + HOUR <= server.now_ms]
    return closed + rows + earlier


@page("that overlaps its neighbours with other values", always=EXACT)
def _(rows, ask, server):
    if not rows:
        return rows
    start = str(int(rows[-1][0]) - HOUR)
    return rows + [[start, *candle("spot", "OTHER", "60", 0)[1:]]]


@page("that is always the newest of all", always=NAMED)
def _(rows, ask, server):
    last = server.now_ms - server.now_ms % HOUR
    return [candle(ask.category, ask.symbol, "60", last - k * HOUR) for k in range(1000)]


@page("of 5000 rows", always=EXACT)
def _(rows, ask, server):
    if not rows:
        return rows
    newest = int(rows[0][0])
    listed, _ = server.symbols[ask.symbol]
    times = [newest - k * HOUR for k in range(5000)]
    return [candle(ask.category, ask.symbol, "60", at) for at in times if at >= listed]


@page("where the open candle keeps changing", always=EXACT)
def _(rows, ask, server):
    if rows and int(rows[0][0]) + HOUR > server.now_ms:
        rows = [[rows[0][0], *candle("spot", str(ask.number), "60", 0)[1:]], *rows[1:]]
    return rows


@page("with candles of the future", always=EXACT)
def _(rows, ask, server):
    last = server.now_ms - server.now_ms % HOUR
    ahead = [candle(ask.category, ask.symbol, "60", last + k * HOUR) for k in range(3, 0, -1)]
    return ahead + rows


@page("told twice, in two ways, by two answers", once=None)
def _(rows, ask, server):
    if ask.number == 1:
        return rows[::2]
    return [[row[0], *candle("spot", "OTHER", "60", int(row[0]))[1:]] for row in rows]
