"""Atomic file writes and progress bars."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def progress(iterable: Iterable[T], *, shown: bool = True, **options) -> Iterable[T]:
    """Wrap ``iterable`` in a progress bar on stderr, shown in terminals and notebooks only.

    ``TQDM_DISABLE=1`` in the environment disables every bar.
    """
    from tqdm.auto import tqdm

    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not shown or not (is_terminal or _in_notebook()):
        options["disable"] = True  # False would overrule the environment
    return tqdm(iterable, file=sys.stderr, leave=False, **options)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path beside it, then sync and rename.

    A reader sees the old file or the new one, never a part; after an error no temporary file is
    left, and an OSError names ``path``. Symbolic links are followed. A path that exists and is no
    regular file, such as ``/dev/stdout``, is yielded itself; to a file that stdout or stderr is
    redirected to, such as ``/dev/stdout`` then, the content is added, after what is there.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        try:
            yield path
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        return
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:60]}.{secrets.token_hex(4)}.part")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        if (stream := _stream_to(target)) is None:
            temporary.replace(target)
        else:
            with open(stream, "wb", closefd=False) as redirected:
                redirected.write(temporary.read_bytes())
    except OSError as error:
        if error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _stream_to(path: Path) -> int | None:
    """Return the descriptor, stdout or stderr, that is redirected to a file; None for another."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # no such file, or a stream that is closed
            if os.path.samestat(path.stat(), os.fstat(stream)):
                return stream
    return None


def write_file(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file atomically, as :func:`atomic_write` does; text as UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
