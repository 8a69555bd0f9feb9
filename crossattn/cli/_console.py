"""What a command says: whole lines of visible characters, to whoever listens.

Symbols, paths and a server's words are data: none of them starts a second line or moves a cursor.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def say(line: str) -> None:
    """Print a result on stdout, at once; where nobody reads it any more, the work goes on."""
    if sys.stdout is not None:
        with _listener():
            _print(line, sys.stdout)


def complain(kind: str, message: str) -> None:
    """Print ``kind: message`` on stderr, in one line; a stream that fails is left alone."""
    if sys.stderr is None:
        return
    try:
        _print(f"{kind}: {' '.join(message.split())}", sys.stderr)
    except OSError:
        _silence(sys.stderr)


def finish() -> None:
    """Hand over what argparse has printed, before the interpreter does so without any care."""
    if sys.stdout is not None:
        with _listener():
            sys.stdout.flush()


@contextlib.contextmanager
def _listener():
    try:
        yield
    except OSError as error:
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


def _print(line: str, stream: TextIO) -> None:
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text, file=stream, flush=True)


def _silence(stream: TextIO) -> None:
    """Let a stream that nobody can read swallow what it holds and what is still to come."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
