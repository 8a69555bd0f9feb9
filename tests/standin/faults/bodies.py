"""Faults of the body and of the envelope around the candles."""

from __future__ import annotations

from standin.faults.catalogue import EXACT, fault

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
