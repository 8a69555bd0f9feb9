"""Console output: sanitised one-line messages on stdout and stderr.

Symbols, paths and server replies are data: control characters in them are escaped, so that none
starts a second line or moves the cursor. A closed pipe (``crossattn fetch | head``) does not stop
the work.
"""

import contextlib
import os
import sys
from typing import TextIO


def echo(line: str) -> None:
    """Print one line on stdout and flush it; a closed pipe is ignored."""
    if sys.stdout is not None:
        with _ignore_closed_pipe():
            _print(line, sys.stdout)


def print_error(kind: str, message: str) -> None:
    """Print ``kind: message`` on stderr in one line; a failing stream is ignored."""
    if sys.stderr is None:
        return
    try:
        _print(f"{kind}: {' '.join(message.split())}", sys.stderr)
    except OSError:
        _redirect_to_devnull(sys.stderr)


def flush() -> None:
    """Flush stdout while a closed pipe can still be handled; the interpreter would raise."""
    if sys.stdout is not None:
        with _ignore_closed_pipe():
            sys.stdout.flush()


@contextlib.contextmanager
def _ignore_closed_pipe():
    try:
        yield
    except OSError as error:
        _redirect_to_devnull(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


def _print(line: str, stream: TextIO) -> None:
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text, file=stream, flush=True)


def _redirect_to_devnull(stream: TextIO) -> None:
    """Redirect a broken stream to the null device, so that later writes succeed."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
