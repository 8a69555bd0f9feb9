"""Faults of the connection and of compression."""

import gzip
import socket
import struct
import time
import zlib
from functools import cache

from standin.damage import flipped
from standin.faults.catalogue import EXACT, REFUSED, fault


def _reset(handler) -> None:
    """Close so that the client sees a reset, not an end."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def _head(length: object, *lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    size = [b"Content-Length: %s" % str(length).encode()] if length is not None else []
    return b"\r\n".join([first, *size, *lines, b"", b""])


def _drip(handler, server, data: bytes) -> None:
    """Send a byte at a time."""
    for byte in data:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if server.closing.wait(0.03):
            break


def wire(name: str, **outcomes):
    """Enter a fault that is made while sending."""

    def enter(send):
        @fault("wire", name, **outcomes)
        def act(server, ask, answer):
            def send_and_close(handler, answer):
                handler.close_connection = True
                send(handler, answer, server)

            answer.send = send_and_close

        return send

    return enter


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


wire("reset before the answer")(lambda handler, *_: _reset(handler))
wire("closed without an answer")(lambda handler, *_: handler.connection.shutdown(socket.SHUT_RDWR))
wire("no answer at all")(lambda handler, answer, server: server.closing.wait(4))


@wire("reset inside the body")
def _(handler, answer, server):
    body = answer.payload()
    handler.wfile.write(_head(len(body)) + _cut(body))
    handler.wfile.flush()
    time.sleep(0.02)
    _reset(handler)


def _chunked(data: bytes) -> bytes:
    parts = [data[at : at + 5000] for at in range(0, len(data), 5000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


_CLOSE, _CHUNKS = b"Connection: close", b"Transfer-Encoding: chunked"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _first_chunk(size: bytes, body: bytes) -> bytes:
    return _head(None, _CHUNKS) + size + b"\r\n" + body[:900]


# what is sent instead of the answer
_SENT = {
    "body shorter than announced": lambda body: _head(len(body) + 50) + body,
    "body cut in the middle, closed cleanly": lambda body: _head(None, _CLOSE) + _cut(body),
    "chunked body that ends in the middle of a chunk": lambda body: _first_chunk(b"ffff", body),
    "chunked body with a chunk size that is no number": lambda body: _first_chunk(b"zz", body),
    "a header line of a megabyte": lambda body: _head(0, b"X-Filler: " + b"a" * 2**20),
    "two Content-Lengths that differ": lambda body: _head(len(body), b"Content-Length: 7") + body,
    "a status line that is none": lambda body: _head(2, first=b"ICY 200 fine") + b"{}",
    "another protocol altogether": lambda body: b"\x16\x03\x01\x02\x00SSH-2.0-OpenSSH_9.6\r\n",
}
_HARMLESS = {
    "a chunked body, well formed": lambda body: _head(None, _CHUNKS) + _chunked(body),
    "a negative Content-Length, harmless": lambda body: _head(-5, _CLOSE) + body,
    "100 Continue before the answer": lambda body: _CONTINUE + _head(len(body)) + body,
}
for _name, _make in (_SENT | _HARMLESS).items():

    @wire(_name, always=EXACT if _name in _HARMLESS else REFUSED)
    def _(handler, answer, server, make=_make):
        handler.wfile.write(make(answer.payload()))


@wire("body that drips a byte at a time")
def _(handler, answer, server):
    body = answer.payload()
    handler.wfile.write(_head(len(body)))
    _drip(handler, server, body)


@wire("headers that drip a byte at a time")
def _(handler, answer, server):
    _drip(handler, server, b"HTTP/1.1 200 OK\r\n" + b"X-Filler: drip\r\n" * 40)


@wire("a pause inside the body that is within the time-out", always=EXACT)
def _(handler, answer, server):
    body = answer.payload()
    handler.wfile.write(_head(len(body)) + body[:100])
    handler.wfile.flush()
    time.sleep(0.05)
    handler.wfile.write(body[100:])


# what is sent first, and then again and again
_ENDLESS = {
    "endless body": (_head(None, _CLOSE), b" " * 65_536),
    "endless chunked body": (_head(None, _CHUNKS), b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", b"X-Filler: more\r\n" * 100),
}
for _name, (_first, _part) in _ENDLESS.items():

    @wire(_name)
    def _(handler, answer, server, first=_first, part=_part):
        handler.wfile.write(first)
        while not server.closing.is_set():
            handler.wfile.write(part)


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(2**26))


_PACKED = {
    "gzip, well formed": ("gzip", gzip.compress),
    "deflate, well formed": ("deflate", zlib.compress),
    "gzip that is cut": ("gzip", lambda body: gzip.compress(body)[:-20]),
    "gzip with a flipped byte": ("gzip", lambda body: flipped(gzip.compress(body))),
    "gzip and a second member": ("gzip", lambda body: gzip.compress(body) + gzip.compress(b"{}")),
    "gzip in name only": ("gzip", lambda body: body),
    "a gzip bomb of 64 MB": ("gzip", lambda body: _bomb()),
    "a gzip bomb inside a gzip": ("gzip, gzip", lambda body: gzip.compress(_bomb())),
    "brotli, which was not asked for": ("br", lambda body: body),
}
for _name, (_encoding, _pack) in _PACKED.items():

    @fault("compression", _name, always=EXACT if "well formed" in _name else REFUSED)
    def _(server, ask, answer, encoding=_encoding, pack=_pack):
        answer.headers["Content-Encoding"], answer.body = encoding, pack(answer.payload())
