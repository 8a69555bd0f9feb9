"""HTTP responses bounded in time and size: slow headers, slow or endless bodies, bombs.

A read timeout alone bounds nothing where a server sends a byte a second, so every read of a socket,
headers included, may take only what is left of the request's deadline.
"""

import http.client
import io
import threading
import time
import zlib

import requests
import urllib3
from requests.adapters import HTTPAdapter

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "crossattn"}
_CHUNK = 65_536
_POLL_S = 0.05  # how soon a blocked read notices that the caller wants to stop
_request = threading.local()  # .ends_at, .stop: the request that this thread is waiting for
# those of requests are OSErrors
_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, zlib.error, ValueError)
_REASONS = {
    "refused": "connection refused",
    "timed out": "no whole answer in time",
    "resol": "the host name does not resolve",
    "reset": "connection reset",
    "without response": "connection closed without an answer",
    "IncompleteRead": "the body was cut",
    "decompressing": "the compressed body is damaged",
}


class Stopped(Exception):
    """The caller asked to stop while a request or a wait was under way."""


class PassingFault(Exception):
    """A transient fault: retried after a wait, up to a number of times."""

    weight = 1  # how much of the attempts it uses up

    def __init__(self, text: str, wait_s: float | None = None):
        super().__init__(text)
        self.wait_s = wait_s  # as the server requested


def bounded_get(
    session: requests.Session,
    url: str,
    params: dict[str, str],
    *,
    seconds: float,
    max_bytes: int,
    stop: threading.Event,
) -> tuple[requests.Response, bytes]:
    """Return a response and its unpacked body, or raise PassingFault, or Stopped."""
    _request.ends_at, _request.stop = time.monotonic() + seconds, stop
    options = {"timeout": seconds, "allow_redirects": False, "stream": True}
    try:
        with session.get(url, params=params, headers=_HEADERS, **options) as response:
            return response, _read_body(response, max_bytes)
    except _ERRORS as error:
        text = str(error)
        reasons = [reason for sign, reason in _REASONS.items() if sign in text]
        cause = printable(text.rpartition("Caused by ")[2], 120)
        raise PassingFault([*reasons, f"the transfer failed: {cause}"][0]) from None


def _read_body(response: requests.Response, max_bytes: int) -> bytes:
    """Unpack the body piece by piece under a ceiling, so that a small bomb stays small."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise PassingFault(f"the body is encoded as {printable(encoding, 20)}, unasked")
    unpack = None if encoding == "identity" else zlib.decompressobj(wbits=47)  # zlib or gzip
    body, on_wire = bytearray(), 0
    while chunk := response.raw.read(_CHUNK, decode_content=False):
        on_wire += len(chunk)
        body += unpack.decompress(chunk, max_bytes + 1 - len(body)) if unpack else chunk
        if max(len(body), on_wire) > max_bytes:
            raise PassingFault(f"the body is larger than {max_bytes} bytes")
    if unpack and (not unpack.eof or unpack.unused_data):
        raise PassingFault("the compressed body is cut or followed by something else")
    return bytes(body)


def bounded_session(session: requests.Session | None, base_url: str) -> requests.Session:
    """Return ``session``, or a new one, whose answers from ``base_url`` are read until a deadline.

    An adapter of the caller's own making stays: its reads are bounded one by one, by the timeout.
    """
    session = session if session is not None else requests.Session()
    adapter = session.get_adapter(base_url)
    if type(adapter) is HTTPAdapter:
        session.mount(base_url.lower(), _BoundedAdapter(max_retries=adapter.max_retries))
    return session


class _BoundedAdapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args, **kwargs):
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        base = pool.ConnectionCls
        if base.response_class is not _BoundedResponse:  # what http.client reads an answer with
            bounded = {"response_class": _BoundedResponse}
            pool.ConnectionCls = type("BoundedConnection", (base,), bounded)
        return pool


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
                raise TimeoutError("timed out")
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


def printable(value: object, length: int = 160) -> str:
    """Return untrusted text on one line, without control characters, of at most ``length``.

    Examples
    --------
    >>> printable("too\\x1b[31m\\nmany visits")
    'too [31m many visits'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= length else text[: length - 3] + "..."
