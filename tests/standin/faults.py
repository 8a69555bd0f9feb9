"""The catalogue of faults: what the server does wrong, and what a careful client makes of it.

A fault happens ``once`` (in the first answer: the client must recover and hold exactly the true
candles) or ``always`` (each time: exactly the true candles, or a refusal, or one gap by name).
"""

from __future__ import annotations

import gzip
import socket
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from standin.bybit import Answer, Ask, BybitStandIn, candle

HOUR = 3_600_000
EXACT, REFUSED, GAP, NAMED = "exact", "refused", "gap", "named"


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Parameters
    ----------
    kind : str
        The class it belongs to.
    name : str
    act : callable
        Changes an answer, given the server and the question.
    once, always : {"exact", "refused", "gap", "named"} or None
        What must come of it: exactly the true candles, a refusal, all but the victim and the victim
        named, or whatever is missing named. None where that form makes no sense.
    """

    kind: str
    name: str
    act: Callable[[BybitStandIn, Ask, Answer], None]
    once: str | None
    always: str | None


FAULTS: list[Fault] = []


def fault(kind: str, name: str, *, once: str | None = EXACT, always: str | None = REFUSED):
    """Enter the decorated function into the catalogue."""

    def enter(act):
        FAULTS.append(Fault(kind, name, act, once, always))
        return act

    return enter


def code(answer: Answer, number: object, message: str = "trouble", **headers: str) -> None:
    answer.envelope["retCode"], answer.envelope["retMsg"] = number, message
    answer.envelope["result"] = {}
    answer.headers.update({name.replace("_", "-"): text for name, text in headers.items()})


def status(answer: Answer, number: int, body: bytes = b"", **headers: str) -> None:
    answer.status, answer.body = number, body
    answer.headers.update({name.replace("_", "-"): text for name, text in headers.items()})


# Rate limits --------------------------------------------------------------------------------


@fault("rate limit", "10006 without headers")
def _(server, ask, answer):
    code(answer, 10006, "Too many visits!")


@fault("rate limit", "10006 with a reset in 40 ms by the server's clock")
def _(server, ask, answer):
    reset = str(server.now_ms + 40)
    code(answer, 10006, "Too many visits!", X_Bapi_Limit_Reset_Timestamp=reset)


@fault("rate limit", "10006 with a reset long past")
def _(server, ask, answer):
    code(answer, 10006, "Too many visits!", X_Bapi_Limit_Reset_Timestamp="1000")


@fault("rate limit", "10006 with a reset that is no number")
def _(server, ask, answer):
    code(answer, 10006, "Too many visits!", X_Bapi_Limit_Reset_Timestamp="soon")


@fault("rate limit", "10006 with a reset in ten minutes", once=REFUSED)
def _(server, ask, answer):
    reset = str(server.now_ms + 600_000)
    code(answer, 10006, "Too many visits!", X_Bapi_Limit_Reset_Timestamp=reset)


@fault("rate limit", "10006 every other time", once=None, always=EXACT)
def _(server, ask, answer):
    if ask.number % 2:
        code(answer, 10006, "Too many visits!")


@fault("rate limit", "10018, the address's limit")
def _(server, ask, answer):
    code(answer, 10018, "Exceeded the IP Rate Limit.")


@fault("rate limit", "a good answer that says the quota is spent", always=EXACT)
def _(server, ask, answer):
    answer.headers["X-Bapi-Limit-Status"] = "0"
    answer.headers["X-Bapi-Limit-Reset-Timestamp"] = str(server.now_ms + 30)


@fault("rate limit", "429 without headers")
def _(server, ask, answer):
    status(answer, 429, b"slow down")


@fault("rate limit", "429 with Retry-After 0")
def _(server, ask, answer):
    status(answer, 429, Retry_After="0")


@fault("rate limit", "429 with Retry-After an hour", once=REFUSED)
def _(server, ask, answer):
    status(answer, 429, Retry_After="3600")


@fault("rate limit", "429 with Retry-After a date gone by")
def _(server, ask, answer):
    status(answer, 429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")


@fault("rate limit", "429 with Retry-After nonsense")
def _(server, ask, answer):
    status(answer, 429, Retry_After="-1e309, please")


# Bans and refusals --------------------------------------------------------------------------


@fault("ban", "403 access too frequent", once=REFUSED)
def _(server, ask, answer):
    status(answer, 403, b'{"retCode":403,"retMsg":"access too frequent"}')


@fault("ban", "403 with a web page: the region is blocked", once=REFUSED)
def _(server, ask, answer):
    page = b"<!DOCTYPE html><title>403 Forbidden</title>"
    status(answer, 403, page, Content_Type="text/html")


@fault("ban", "10009, the address is banned", once=REFUSED)
def _(server, ask, answer):
    code(answer, 10009, "IP has been banned")


@fault("ban", "10024, the region is not served", once=REFUSED)
def _(server, ask, answer):
    code(answer, 10024, "compliance rules triggered")


@fault("ban", "10001, no such symbol", once=REFUSED)
def _(server, ask, answer):
    code(answer, 10001, "params error: Symbol Is Invalid")


for _number in (400, 401, 404, 405, 410, 418, 451):

    @fault("client error", f"HTTP {_number}", once=REFUSED)
    def _(server, ask, answer, number=_number):
        status(answer, number, b"no")


# Servers in trouble -------------------------------------------------------------------------

for _number in (408, 500, 501, 502, 503, 504, 507, 520, 521, 524, 599):

    @fault("server error", f"HTTP {_number}")
    def _(server, ask, answer, number=_number):
        status(answer, number, b"<html>trouble</html>", Content_Type="text/html")


@fault("server error", "503 with a good page in its body")
def _(server, ask, answer):
    answer.status = 503


@fault("server error", "503 for maintenance, back in an hour", once=REFUSED)
def _(server, ask, answer):
    status(answer, 503, b"maintenance", Retry_After="3600")


for _number in (204, 205, 206):

    @fault("server error", f"HTTP {_number} instead of 200")
    def _(server, ask, answer, number=_number):
        answer.status = number
        if number in (204, 205):
            answer.body = b""


for _number, _text in ((10000, "Server Timeout"), (10016, "Server error"), (10019, "restarting")):

    @fault("return code", f"{_number}, {_text}")
    def _(server, ask, answer, number=_number, text=_text):
        code(answer, number, text)


for _number in (-1, 99999, 10**30):

    @fault("return code", f"unknown {_number}")
    def _(server, ask, answer, number=_number):
        code(answer, number, "something \x1b[31mred\nand broken")


for _value in ("0", None, True, 0.0, [0]):

    @fault("return code", f"{_value!r} instead of 0")
    def _(server, ask, answer, value=_value):
        answer.envelope["retCode"] = value


@fault("return code", "none at all")
def _(server, ask, answer):
    del answer.envelope["retCode"]


@fault("return code", "a failure whose message is no text")
def _(server, ask, answer):
    code(answer, 10016, {"nested": ["text"]})


# Redirects ----------------------------------------------------------------------------------

for _target in (
    "http://other.invalid/v5/market/kline",
    "https://127.0.0.1/v5/market/kline",
    "file:///etc/passwd",
    "//other.invalid/",
    "/v5/market/kline?category=spot",
    "",
):

    @fault("redirect", f"302 to {_target or 'nowhere'}", once=REFUSED)
    def _(server, ask, answer, target=_target):
        status(answer, 302, Location=target)


@fault("redirect", "301 to itself", once=REFUSED)
def _(server, ask, answer):
    status(answer, 301, Location=server.url + "/v5/market/kline")


@fault("redirect", "307 to another port", once=REFUSED)
def _(server, ask, answer):
    status(answer, 307, Location="http://127.0.0.1:9/")


@fault("redirect", "304 not modified", once=REFUSED)
def _(server, ask, answer):
    status(answer, 304)


# The wire -----------------------------------------------------------------------------------


def _reset(handler) -> None:
    """Close so that the client sees a reset, not an end."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True
    handler.connection.close()


def _head(handler, length: object, *lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> None:
    size = [b"Content-Length: %s" % str(length).encode()] if length is not None else []
    handler.wfile.write(b"\r\n".join([first, *size, *lines, b"", b""]))
    handler.close_connection = True


def wire(name: str, **outcomes):
    """Enter a fault that is made while sending."""

    def enter(send):
        @fault("wire", name, **outcomes)
        def act(server, ask, answer):
            answer.send = lambda handler, answer: send(handler, answer, server)

        return send

    return enter


@wire("reset before the answer")
def _(handler, answer, server):
    _reset(handler)


@wire("reset inside the body")
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    time.sleep(0.02)
    _reset(handler)


@wire("closed without an answer")
def _(handler, answer, server):
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@wire("body shorter than announced")
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, len(body) + 50)
    handler.wfile.write(body)


@wire("body cut in the middle, closed cleanly")
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, None, b"Connection: close")
    handler.wfile.write(body[: len(body) // 2])


@wire("chunked body that ends in the middle of a chunk")
def _(handler, answer, server):
    _head(handler, None, b"Transfer-Encoding: chunked")
    handler.wfile.write(b"ffff\r\n" + answer.payload()[:900])


@wire("chunked body with a chunk size that is no number")
def _(handler, answer, server):
    _head(handler, None, b"Transfer-Encoding: chunked")
    handler.wfile.write(b"zz\r\n" + answer.payload()[:900])


@wire("no answer at all")
def _(handler, answer, server):
    handler.close_connection = True
    server.closing.wait(4)


@wire("body that drips a byte at a time")
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, len(body))
    for byte in body:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if server.closing.wait(0.03):
            break


@wire("headers that drip a byte at a time")
def _(handler, answer, server):
    handler.close_connection = True
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Filler: drip\r\n" * 40:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if server.closing.wait(0.03):
            break


@wire("a pause inside the body that is within the time-out", always=EXACT)
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, len(body))
    handler.wfile.write(body[:100])
    handler.wfile.flush()
    time.sleep(0.05)
    handler.wfile.write(body[100:])


@wire("endless body")
def _(handler, answer, server):
    _head(handler, None, b"Connection: close")
    while not server.closing.is_set():
        handler.wfile.write(b" " * 65_536)


@wire("endless chunked body")
def _(handler, answer, server):
    _head(handler, None, b"Transfer-Encoding: chunked")
    while not server.closing.is_set():
        handler.wfile.write(b"4000\r\n" + b" " * 0x4000 + b"\r\n")


@wire("endless headers")
def _(handler, answer, server):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    handler.close_connection = True
    while not server.closing.is_set():
        handler.wfile.write(b"X-Filler: more\r\n" * 100)


@wire("a header line of a megabyte")
def _(handler, answer, server):
    _head(handler, 0, b"X-Filler: " + b"a" * 2**20)


@wire("a status line that is none")
def _(handler, answer, server):
    _head(handler, 2, first=b"ICY 200 fine")
    handler.wfile.write(b"{}")


@wire("another protocol altogether")
def _(handler, answer, server):
    handler.close_connection = True
    handler.wfile.write(b"\x16\x03\x01\x02\x00SSH-2.0-OpenSSH_9.6\r\n")


@wire("a negative Content-Length", always=EXACT)
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, -5, b"Connection: close")
    handler.wfile.write(body)


@wire("two Content-Lengths that differ")
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, len(body), b"Content-Length: 7")
    handler.wfile.write(body)


@wire("100 Continue before the answer", always=EXACT)
def _(handler, answer, server):
    body = answer.payload()
    handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    _head(handler, len(body))
    handler.wfile.write(body)


@wire("a chunked body, well formed", always=EXACT)
def _(handler, answer, server):
    body = answer.payload()
    _head(handler, None, b"Transfer-Encoding: chunked")
    for at in range(0, len(body), 5000):
        part = body[at : at + 5000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


# Compression --------------------------------------------------------------------------------


def packed(name: str, **outcomes):
    """Enter a fault in how the body is compressed; the function returns encoding and bytes."""

    def enter(pack):
        @fault("compression", name, **outcomes)
        def act(server, ask, answer):
            answer.headers["Content-Encoding"], answer.body = pack(answer.payload())

        return pack

    return enter


@packed("gzip, well formed", always=EXACT)
def _(body):
    return "gzip", gzip.compress(body)


@packed("deflate, well formed", always=EXACT)
def _(body):
    return "deflate", zlib.compress(body)


@packed("gzip that is cut")
def _(body):
    return "gzip", gzip.compress(body)[:-20]


@packed("gzip with a flipped byte")
def _(body):
    data = bytearray(gzip.compress(body))
    data[len(data) // 2] ^= 0xFF
    return "gzip", bytes(data)


@packed("gzip followed by a second member")
def _(body):
    return "gzip", gzip.compress(body) + gzip.compress(b"{}")


@packed("gzip in name only")
def _(body):
    return "gzip", body


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(2**26))


@packed("a gzip bomb of 64 MB")
def _(body):
    return "gzip", _bomb()


@packed("a gzip bomb inside a gzip")
def _(body):
    return "gzip, gzip", gzip.compress(_bomb())


@packed("brotli, which was not asked for")
def _(body):
    return "br", body


# Bodies -------------------------------------------------------------------------------------

_BODIES = {
    "empty": b"",
    "a web page with status 200": b"<html><body>Welcome</body></html>",
    "plain text": b"OK",
    "null": b"null",
    "a list": b"[]",
    "a number": b"42",
    "nested a hundred thousand deep": b"[" * 100_000,
    "a number of a hundred thousand digits": b'{"retCode":' + b"9" * 100_000 + b"}",
    "not UTF-8": b'{"retCode":0,"retMsg":"\xff\xfe"}',
    "zero bytes": b"\0" * 64,
}
for _name, _body in _BODIES.items():

    @fault("body", f"{_name}")
    def _(server, ask, answer, body=_body):
        answer.body = body


def reshaped(name: str, **outcomes):
    """Enter a fault in the text of the body; the function maps text to text."""

    def enter(reshape):
        @fault("body", name, **outcomes)
        def act(server, ask, answer):
            answer.body = reshape(answer.payload())

        return reshape

    return enter


@reshaped("JSON cut in the middle")
def _(body):
    return body[: len(body) // 2]


@reshaped("JSON with its last brace missing")
def _(body):
    return body[:-1]


@reshaped("JSON followed by another answer")
def _(body):
    return body + body


@reshaped("JSON with NaN as the server's time")
def _(body):
    head, _, tail = body.rpartition(b'"time": ')
    return head + b'"time": NaN' + tail.lstrip(b"0123456789")


@reshaped("JSON wrapped as a script")
def _(body):
    return b"callback(" + body + b")"


@reshaped("JSON behind a byte-order mark")
def _(body):
    return b"\xef\xbb\xbf" + body


@reshaped("JSON in UTF-16")
def _(body):
    return body.decode().encode("utf-16")


@fault("body", "right body, wrong content type", always=EXACT)
def _(server, ask, answer):
    answer.headers["Content-Type"] = "text/html; charset=latin-1"


# Envelopes ----------------------------------------------------------------------------------


def envelope(name: str, **outcomes):
    """Enter a fault in the envelope; the function changes it in place."""

    def enter(change):
        @fault("envelope", name, **outcomes)
        def act(server, ask, answer):
            change(answer.envelope, server)

        return change

    return enter


@envelope("for another symbol")
def _(it, server):
    it["result"]["symbol"] = "OTHERUSDT"


@envelope("for another category")
def _(it, server):
    it["result"]["category"] = "spot"


@envelope("whose symbol is a list")
def _(it, server):
    it["result"]["symbol"] = ["AAAUSDT"]


@envelope("without result")
def _(it, server):
    del it["result"]


@envelope("whose result is null")
def _(it, server):
    it["result"] = None


@envelope("whose list is missing")
def _(it, server):
    del it["result"]["list"]


@envelope("whose list is null")
def _(it, server):
    it["result"]["list"] = None


@envelope("whose list is an object")
def _(it, server):
    it["result"]["list"] = {"0": ["1"]}


@envelope("whose list is a text")
def _(it, server):
    it["result"]["list"] = "[[]]"


@envelope("without time")
def _(it, server):
    del it["time"]


@envelope("whose time is a text")
def _(it, server):
    it["time"] = str(it["time"])


@envelope("whose time is 0")
def _(it, server):
    it["time"] = 0


@envelope("whose time is in seconds")
def _(it, server):
    it["time"] //= 1000


@envelope("whose time is in the year 30000")
def _(it, server):
    it["time"] = 884_000_000_000_000


@envelope("whose time is true")
def _(it, server):
    it["time"] = True


# Pages --------------------------------------------------------------------------------------


def page(name: str, **outcomes):
    """Enter a fault in which rows come; the function returns the rows of the page."""

    def enter(choose):
        @fault("page", name, **outcomes)
        def act(server, ask, answer):
            if answer.envelope["retCode"] == 0:
                answer.rows = choose(answer.rows, ask, server)

        return choose

    return enter


@page("every row twice", always=EXACT)
def _(rows, ask, server):
    return [row for row in rows for _ in range(2)]


@page("oldest first", always=EXACT)
def _(rows, ask, server):
    return rows[::-1]


@page("in disorder", always=EXACT)
def _(rows, ask, server):
    return rows[::3] + rows[1::3] + rows[2::3]


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


@page("of 200 rows whatever the limit", always=EXACT)
def _(rows, ask, server):
    return rows[:200]


@page("of the oldest 200 rows whatever the limit", always=EXACT)
def _(rows, ask, server):
    return rows[-200:]


@page("of one row")
def _(rows, ask, server):
    return rows[:1]


@page("without its newest row", always=NAMED)
def _(rows, ask, server):
    return rows[1:]


@page("without its oldest row", always=NAMED)
def _(rows, ask, server):
    return rows[:-1]


@page("without every second row", always=EXACT)
def _(rows, ask, server):
    return rows[::2]


@page("empty")
def _(rows, ask, server):
    return []


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


# Rows ---------------------------------------------------------------------------------------


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
