"""HTTP responses bounded in time and size: slow headers, slow or endless bodies, bombs.

A read timeout alone bounds nothing: a server that sends a byte a second never trips it. So every
read of a socket, headers included, may take only what is left of the request's deadline.
"""

from __future__ import annotations

import http.client
import io
import threading
import time
import zlib

import requests
import urllib3
from requests.adapters import HTTPAdapter

TRANSFER_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    zlib.error,
    ValueError,
)
_CHUNK = 65_536
_POLL_S = 0.05  # how soon a blocked read notices that the caller wants to stop
_request = threading.local()  # .ends_at, .stop: the request that this thread is waiting for


class Stopped(Exception):
    """The caller asked to stop while a request or a wait was under way."""


class BadBody(ValueError):
    """A body that is too large, cut, damaged, or encoded in a way that was not asked for."""


class BoundedAdapter(HTTPAdapter):
    """An adapter of requests whose connections read until the deadline set by `bound_reads`."""

    def get_connection_with_tls_context(self, *args, **kwargs):
        """Return the pool that requests would use, with connections that read as bounded here."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        base = pool.ConnectionCls
        if not issubclass(base, _BoundedReads):
            pool.ConnectionCls = type("BoundedConnection", (_BoundedReads, base), {})
        return pool


def bound_reads(seconds: float, stop: threading.Event) -> None:
    """Let this thread's reads end, from now on, after ``seconds`` or when ``stop`` is set."""
    _request.ends_at, _request.stop = time.monotonic() + seconds, stop


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock):
        # http.client closes the socket before the body is read; this reference keeps it open
        self._sock, self._reference = sock, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while True:
            left = _request.ends_at - time.monotonic()
            if _request.stop.is_set():
                raise Stopped
            if left <= 0:
                raise TimeoutError("the deadline has passed")
            self._sock.settimeout(min(left, _POLL_S))
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                continue

    def close(self) -> None:
        self._reference.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock, *args, **kwargs):
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock))


class _BoundedReads:
    response_class = _BoundedResponse  # what http.client reads an answer with


def read_body(response: requests.Response, max_bytes: int) -> bytes:
    """Return the unpacked body of a streamed response, or raise BadBody.

    It is unpacked here, piece by piece under a ceiling, so that a small bomb stays small.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise BadBody(f"the body is encoded as {printable(encoding, 20)}, unasked")
    unpack = None if encoding == "identity" else zlib.decompressobj(wbits=47)  # zlib or gzip
    body, on_wire = bytearray(), 0
    while chunk := response.raw.read(_CHUNK, decode_content=False):
        on_wire += len(chunk)
        body += unpack.decompress(chunk, max_bytes + 1 - len(body)) if unpack else chunk
        if max(len(body), on_wire) > max_bytes:
            raise BadBody(f"the body is larger than {max_bytes} bytes")
    if unpack and (not unpack.eof or unpack.unused_data):
        raise BadBody("the compressed body is cut or followed by something else")
    return bytes(body)


def describe(error: BaseException) -> str:
    """Return in a few words what went wrong with a transfer."""
    text = str(error)
    if isinstance(error, BadBody):
        return text
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS failed: {printable(error)}"
    if isinstance(error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)):
        return "no whole answer in time"
    for sign, reason in (
        ("refused", "connection refused"),
        ("timed out", "no whole answer in time"),
        ("resol", "the host name does not resolve"),
        ("reset", "connection reset"),
        ("without response", "connection closed without an answer"),
        ("IncompleteRead", "the body was cut"),
        ("decompressing", "the compressed body is damaged"),
    ):
        if sign in text:
            return reason
    return f"the transfer failed: {printable(text, 120)}"


def printable(value: object, length: int = 160) -> str:
    """Return untrusted text on one line, without control characters, of at most ``length``.

    Examples
    --------
    >>> printable("too\\x1b[31m\\nmany visits")
    'too [31m many visits'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= length else text[: length - 3] + "..."
