"""Faults of status, return code and headers: limits, bans, trouble, redirects."""

from __future__ import annotations

from standin.bybit import Answer
from standin.faults.catalogue import EXACT, REFUSED, fault


def code(answer: Answer, number: object, message: str = "trouble", **headers: str) -> None:
    answer.envelope["retCode"], answer.envelope["retMsg"] = number, message
    answer.envelope["result"] = {}
    answer.headers.update({name.replace("_", "-"): text for name, text in headers.items()})


def status(answer: Answer, number: int, body: bytes = b"", **headers: str) -> None:
    answer.status, answer.body = number, body
    answer.headers.update({name.replace("_", "-"): text for name, text in headers.items()})


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
