"""One bounded HTTP request: in time, in size, and to the one host that was asked for.

A read time-out alone bounds nothing: a server that sends one byte a second never trips it. So the
transfer runs in a thread of its own and is abandoned at its deadline, whatever holds it up: a name
that does not resolve, a header or a body that drips. Redirects are answers, never followed. What
arrives compressed is unpacked here, with a ceiling, so that a small bomb stays small.
"""

from __future__ import annotations

import http.client
import queue
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import requests
import urllib3

T = TypeVar("T")

MAX_BODY_BYTES = 4 * 2**20
_CHUNK = 65_536
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "crossattn"}
_TRANSFER_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    zlib.error,
    UnicodeError,
    ValueError,
)


class TransferError(Exception):
    """No whole answer came: the message says in a few words why."""


class Stopped(Exception):
    """The caller asked to stop while a request or a wait was under way."""


@dataclass(frozen=True)
class Reply:
    """A whole HTTP answer: status, headers (case-insensitive) and unpacked body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def bounded_get(
    session: requests.Session,
    url: str,
    params: Mapping[str, str],
    *,
    seconds: float,
    max_bytes: int = MAX_BODY_BYTES,
    stop: threading.Event | None = None,
) -> Reply:
    """GET ``url`` and return the whole answer within ``seconds``, or raise.

    Parameters
    ----------
    session : requests.Session
        Carries proxies and certificates; no cookie of it is needed.
    url : str
        No redirect from it is followed.
    params : mapping of str to str
        The query.
    seconds : float
        From the first byte sent to the last byte read, name resolution included.
    max_bytes : int
        Ceiling for the body, on the wire and unpacked.
    stop : threading.Event, optional
        When set, the wait ends within 50 ms.

    Returns
    -------
    Reply

    Raises
    ------
    TransferError
        Time, size, connection or encoding.
    Stopped
        ``stop`` was set.
    """
    abandoned = threading.Event()

    def transfer() -> Reply:
        try:
            return _transfer(session, url, params, seconds, max_bytes, abandoned)
        except _TRANSFER_ERRORS as error:
            raise TransferError(_reason(error)) from None

    try:
        return run_bounded(transfer, seconds, stop)
    finally:
        abandoned.set()


def run_bounded(work: Callable[[], T], seconds: float, stop: threading.Event | None = None) -> T:
    """Return ``work()``, or abandon it after ``seconds``; what it raises is raised here.

    Raises
    ------
    TransferError
        It took longer.
    Stopped
        ``stop`` was set meanwhile.
    """
    outcome: queue.SimpleQueue = queue.SimpleQueue()

    def deliver() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=deliver, name="bounded-get", daemon=True).start()
    deadline = time.monotonic() + seconds
    while True:
        try:
            result, error = outcome.get(timeout=max(0.0, min(0.05, deadline - time.monotonic())))
        except queue.Empty:
            if stop is not None and stop.is_set():
                raise Stopped from None
            if time.monotonic() >= deadline:
                raise TransferError(f"no whole answer within {seconds:.3g} s") from None
            continue
        if error is not None:
            raise error
        return result


def _transfer(session, url, params, seconds, max_bytes, abandoned) -> Reply:
    response = session.get(
        url,
        params=params,
        headers=_HEADERS,
        timeout=seconds,
        allow_redirects=False,
        stream=True,
    )
    try:
        body = _read_body(response, max_bytes, abandoned)
        return Reply(response.status_code, response.headers, body)
    finally:
        response.close()


def _read_body(response: requests.Response, max_bytes: int, abandoned: threading.Event) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise TransferError(f"the body is encoded as {printable(encoding, 20)}, unasked")
    unpack = None if encoding == "identity" else zlib.decompressobj(wbits=47)  # zlib or gzip
    body, on_wire = bytearray(), 0
    while not abandoned.is_set():
        # read1 hands over what has arrived: the loop, not the socket, decides when to give up
        chunk = response.raw.read1(_CHUNK, decode_content=False)
        if not chunk:
            break
        on_wire += len(chunk)
        if unpack is None:
            body += chunk
        else:
            body += unpack.decompress(chunk, max_bytes + 1 - len(body))
        if max(len(body), on_wire) > max_bytes:
            raise TransferError(f"the body is larger than {max_bytes} bytes")
    if unpack is not None and (not unpack.eof or unpack.unused_data):
        raise TransferError("the compressed body is cut or followed by something else")
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) != on_wire:
        raise TransferError(f"the body was cut: {on_wire} of {announced} bytes")
    return bytes(body)


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS failed: {printable(error)}"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    if isinstance(error, zlib.error):
        return "the compressed body is damaged"
    text = str(error)
    for sign, reason in (
        ("refused", "connection refused"),
        ("resol", "the host name does not resolve"),
        ("reset", "connection reset"),
        ("without response", "connection closed without an answer"),
        ("IncompleteRead", "the body was cut"),
    ):
        if sign in text:
            return reason
    return f"the transfer failed: {printable(text, 120)}"


def printable(value: object, length: int = 160) -> str:
    """Return a stranger's text on one line, without control characters, not longer than ``length``.

    Examples
    --------
    >>> printable("too\\x1b[31m\\nmany visits")
    'too [31m many visits'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= length else text[: length - 3] + "..."
