"""Faults of the body and of the envelope around the candles."""

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
_RESHAPED = {
    "JSON cut in the middle": lambda body: body[: len(body) // 2],
    "JSON with its last brace missing": lambda body: body[:-1],
    "JSON followed by another answer": lambda body: body + body,
    "JSON with NaN as its time": lambda body: body[: body.rindex(b'"time": ')] + b'"time": NaN}',
    "JSON wrapped as a script": lambda body: b"callback(" + body + b")",
    "JSON behind a byte-order mark": lambda body: b"\xef\xbb\xbf" + body,
    "JSON in UTF-16": lambda body: body.decode().encode("utf-16"),
    **{name: lambda body, new=new: new for name, new in _BODIES.items()},
}
for _name, _reshape in _RESHAPED.items():

    @fault("body", _name)
    def _(server, ask, answer, reshape=_reshape):
        answer.body = reshape(answer.payload())


@fault("body", "right body, wrong content type", always=EXACT)
def _(server, ask, answer):
    answer.headers["Content-Type"] = "text/html; charset=latin-1"


_RESULT = {
    "for another symbol": {"symbol": "OTHERUSDT"},
    "for another category": {"category": "spot"},
    "whose symbol is a list": {"symbol": ["AAAUSDT"]},
    "whose list is missing": {"list": ...},
    "whose list is null": {"list": None},
    "whose list is an object": {"list": {"0": ["1"]}},
    "whose list is a text": {"list": "[[]]"},
}
_ENVELOPE = {
    "without result": {"result": ...},
    "whose result is null": {"result": None},
    "without time": {"time": ...},
    "whose time is a text": {"time": "1709288220000"},
    "whose time is 0": {"time": 0},
    "whose time is in seconds": {"time": 1_709_288_220},
    "whose time is in the year 30000": {"time": 884_000_000_000_000},
    "whose time is true": {"time": True},
}
for _inside, _table in ((True, _RESULT), (False, _ENVELOPE)):
    for _name, _changes in _table.items():

        @fault("envelope", _name)
        def _(server, ask, answer, inside=_inside, changes=_changes):
            it = answer.envelope["result"] if inside else answer.envelope
            it.update(changes)
            for name in [name for name, value in changes.items() if value is ...]:
                del it[name]
