"""Download several symbols concurrently; collect frames, gaps and failures by symbol."""

import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from crossattn._io import progress
from crossattn.data.frame import Frames
from crossattn.errors import (
    CrossAttentionError,
    InvalidInputError,
    MissingDependencyError,
    VenueError,
    warn,
)
from crossattn.sources._http import Stopped, printable
from crossattn.sources._intervals import format_time

_MAX_SYMBOL = 60
_GRACE_S = 5.0


@dataclass(frozen=True)
class Gap:
    """Closed bars that a venue does not have: opens of the first and the last, in ms."""

    symbol: str
    first_ms: int
    last_ms: int
    count: int

    def __str__(self) -> str:
        first, last = format_time(self.first_ms), format_time(self.last_ms)
        return f"missing: {self.symbol} {first}..{last} {self.count} bars"


@dataclass
class Fetched:
    """Result of a fetch: frames, gaps, and what went wrong, by symbol."""

    frames: Frames = field(default_factory=dict)  # in the order requested
    gaps: list[Gap] = field(default_factory=list)
    failures: dict[str, CrossAttentionError] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)  # impossible candles, damaged cache files
    interrupted: bool = False  # Ctrl-C ended it; frames may have come in part

    def raise_failures(self) -> None:
        """Raise for the symbols that failed, Ctrl-C first."""
        if self.interrupted:
            raise KeyboardInterrupt
        if len(self.failures) == 1:
            raise next(iter(self.failures.values()))
        if self.failures:
            reasons = dict.fromkeys(str(error) for error in self.failures.values())
            raise VenueError("; ".join(reasons))

    def frames_or_raise(self) -> Frames:
        """Return the frames; raise for failures, warn of notices and gaps."""
        self.raise_failures()
        for notice in [*self.notices, *map(str, self.gaps)]:
            warn(notice, 3)
        return self.frames


class Download:
    """One symbol's download, given up ``give_up_s`` after its last page.

    Subclasses have ``run()``, which fetches until done, refused or stopped, and ``result()``, which
    returns the frame (None where it is not known yet which bars exist) and the gaps in it.
    """

    def __init__(self, symbol: str, give_up_s: float):
        self.symbol, self.give_up_s = symbol, give_up_s
        self.failure: CrossAttentionError | None = None
        self.notices: list[str] = []
        self.renew()

    def renew(self) -> None:
        """Restart the time limit."""
        self.ends_at = time.monotonic() + self.give_up_s

    def seconds_left(self) -> float:
        """Return how long the next page may take."""
        return self.ends_at - time.monotonic()

    def gave_up(self, problem: str) -> VenueError:
        """Return the error that names ``problem`` as the last of a symbol that ran out of time."""
        text = f"{self.symbol}: gave up after {self.give_up_s:g} s without a valid new page"
        return VenueError(f"{text}; last: {problem}" if problem else text)


def fetch_all(downloads: list[Download], workers: int, stop: threading.Event) -> Fetched:
    """Run downloads concurrently; collect frames, gaps and failures by symbol."""
    fetched = Fetched(interrupted=_run(downloads, workers, stop))
    while downloads:
        download = downloads.pop(0)  # its bars are freed before the next frame is made
        fetched.notices += download.notices
        try:
            if download.failure is not None:
                raise download.failure
            frame, gaps = download.result()
        except MissingDependencyError:
            raise
        except CrossAttentionError as failure:
            if not fetched.interrupted or download.failure is not None:
                fetched.failures[download.symbol] = failure
            continue
        fetched.gaps += gaps
        if frame is not None:
            fetched.frames[download.symbol] = frame
    return fetched


def _run(downloads: list[Download], workers: int, stop: threading.Event) -> bool:
    """Run each download in its own thread, ``workers`` at a time; return whether Ctrl-C stopped it.

    What blocks beyond any timeout (a host name that does not resolve) is abandoned a few seconds
    after its time; threads are daemons, so that it cannot hold up the process either.
    """
    finished: queue.SimpleQueue = queue.SimpleQueue()

    def work(download: Download) -> None:
        defect = None
        try:
            download.run()
        except Stopped:
            pass
        except CrossAttentionError as error:
            download.failure = error
        except BaseException as error:
            defect = error
        finished.put((download, defect))

    waiting, running = list(downloads), {}
    bar = progress(None, total=len(downloads), desc="fetching", unit="symbol")
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                download = waiting.pop(0)
                download.renew()  # its time starts with its turn, not with the fetch
                about = {"args": (download,), "name": "fetch-symbol", "daemon": True}
                running[download] = threading.Thread(target=work, **about)
                running[download].start()
            try:
                done, defect = finished.get(timeout=0.2)
            except queue.Empty:
                for download in [d for d in running if d.seconds_left() < -_GRACE_S]:
                    download.failure = download.gave_up("the network does not return from a call")
                    del running[download]
                    bar.update()
                continue
            if defect is not None:
                raise defect
            bar.update(running.pop(done, None) is not None)
        return False
    except KeyboardInterrupt:
        return True
    finally:
        stop.set()
        for thread in running.values():
            if thread.ident is not None:
                thread.join(timeout=10)
        bar.close()


def check_symbols(symbols: Iterable[str]) -> list[str]:
    """Return the symbols once each, in order; refuse what is no symbol."""
    if isinstance(symbols, (str, bytes)) or not isinstance(symbols, Iterable):
        raise InvalidInputError(f"symbols must be a list of texts, got {symbols!r}")
    symbols = list(symbols)
    if not symbols:
        raise InvalidInputError("symbols must name at least one symbol, got none")
    for symbol in symbols:
        plain = isinstance(symbol, str) and symbol.isprintable() and " " not in symbol
        if not plain or not 0 < len(symbol) <= _MAX_SYMBOL:
            raise InvalidInputError(
                f"symbol must be a name such as 'BTCUSDT', got {printable(repr(symbol), 80)}"
            )
    return list(dict.fromkeys(symbols))
