"""Faults of status, return code and headers: limits, bans, trouble, redirects."""

from standin.bybit import Answer
from standin.faults.catalogue import EXACT, REFUSED, fault


def code(answer: Answer, number: object, message: object) -> None:
    answer.envelope |= {"retCode": number, "retMsg": message, "result": {}}


def codes(kind: str, name: str, number: object, message: object, *, once=EXACT, reset=None):
    """Enter a return code; ``reset``: a header text, or milliseconds after the server's clock."""

    @fault(kind, name, once=once)
    def _(server, ask, answer):
        code(answer, number, message)
        if reset is not None:
            at = str(server.now_ms + reset) if isinstance(reset, int) else reset
            answer.headers["X-Bapi-Limit-Reset-Timestamp"] = at


def statuses(kind: str, name: str, number: int, body: bytes = b"", *, once=EXACT, **headers: str):
    """Enter an HTTP status."""

    @fault(kind, name, once=once)
    def _(server, ask, answer):
        answer.status, answer.body = number, body
        answer.headers.update({name.replace("_", "-"): text for name, text in headers.items()})


VISITS = "Too many visits!"
codes("rate limit", "10006 without headers", 10006, VISITS)
codes("rate limit", "10006 with a reset in 40 ms by the server's clock", 10006, VISITS, reset=40)
codes("rate limit", "10006 with a reset long past", 10006, VISITS, reset="1000")
codes("rate limit", "10006 with a reset that is no number", 10006, VISITS, reset="soon")
codes("rate limit", "10006 with a reset in ten minutes", 10006, VISITS, reset=600_000, once=REFUSED)
codes("rate limit", "10018, the address's limit", 10018, "Exceeded the IP Rate Limit.")
statuses("rate limit", "429 without headers", 429, b"slow down")
statuses("rate limit", "429 with Retry-After 0", 429, Retry_After="0")
statuses("rate limit", "429 with Retry-After an hour", 429, once=REFUSED, Retry_After="3600")
GONE_BY = "Wed, 21 Oct 2015 07:28:00 GMT"
statuses("rate limit", "429 with Retry-After a date gone by", 429, Retry_After=GONE_BY)
statuses("rate limit", "429 with Retry-After nonsense", 429, Retry_After="-1e309, please")


@fault("rate limit", "10006 every other time", once=None, always=EXACT)
def _(server, ask, answer):
    if ask.number % 2:
        code(answer, 10006, VISITS)


@fault("rate limit", "a good answer that says the quota is spent", always=EXACT)
def _(server, ask, answer):
    answer.headers["X-Bapi-Limit-Status"] = "0"
    answer.headers["X-Bapi-Limit-Reset-Timestamp"] = str(server.now_ms + 30)


FREQUENT = b'{"retCode":403,"retMsg":"access too frequent"}'
PAGE = b"<!DOCTYPE html><title>403 Forbidden</title>"
statuses("ban", "403 access too frequent", 403, FREQUENT, once=REFUSED)
statuses("ban", "403 with a web page: the region is blocked", 403, PAGE, once=REFUSED)
codes("ban", "10009, the address is banned", 10009, "IP has been banned", once=REFUSED)
codes("ban", "10024, the region is not served", 10024, "compliance rules", once=REFUSED)
codes("ban", "10001, no such symbol", 10001, "params error: Symbol Is Invalid", once=REFUSED)

for _number in (400, 401, 404, 405, 410, 418, 451):
    statuses("client error", f"HTTP {_number}", _number, b"no", once=REFUSED)

for _number in (408, 500, 501, 502, 503, 504, 507, 520, 521, 524, 599):
    statuses("server error", f"HTTP {_number}", _number, b"<html>trouble</html>")
for _number in (204, 205):
    statuses("server error", f"HTTP {_number} instead of 200", _number)
statuses("server error", "503, back in an hour", 503, b"closed", once=REFUSED, Retry_After="3600")
for _number in (206, 503):

    @fault("server error", f"HTTP {_number} with a good page in its body")
    def _(server, ask, answer, number=_number):
        answer.status = number


_BROKEN = {-1: "something \x1b[31mred\nand broken", 99999: "unknown", 10**30: "unknown"}
_BUSY = {10000: "Server Timeout", 10016: "Server error", 10019: "restarting"}
for _number, _text in (_BUSY | _BROKEN).items():
    codes("return code", f"{_number!r}, {_text!r}", _number, _text)
codes("return code", "a failure whose message is no text", 10016, {"nested": ["text"]})

for _value in ("0", None, True, 0.0, [0]):

    @fault("return code", f"{_value!r} instead of 0")
    def _(server, ask, answer, value=_value):
        answer.envelope["retCode"] = value


@fault("return code", "none at all")
def _(server, ask, answer):
    del answer.envelope["retCode"]


for _number, *_targets in (
    (302, "http://other.invalid/v5/market/kline", "https://127.0.0.1/v5/market/kline"),
    (302, "file:///etc/passwd", "//other.invalid/", "/v5/market/kline?category=spot", ""),
    (301, "/v5/market/kline"),
    (307, "http://127.0.0.1:9/"),
):
    for _target in _targets:
        _name = f"{_number} to {_target or 'nowhere'}"
        statuses("redirect", _name, _number, once=REFUSED, Location=_target)
statuses("redirect", "304 not modified", 304, once=REFUSED)
