"""``crossattn fetch``: download bars from Bybit or Yahoo, or write a packaged sample, as CSV."""

from __future__ import annotations

import argparse

import crossattn as ca
from crossattn import sources
from crossattn.cli._argtypes import folder, names, positive_float, utc_datetime
from crossattn.cli._console import echo, print_error
from crossattn.errors import InvalidInputError

LIMITS: sources.FetchLimits | None = None  # None: the defaults of the loader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn fetch``."""
    add = parser.add_argument
    add("--source", required=True, choices=("bybit", "yahoo", "sample"))
    add("--symbols", type=names, metavar="A,B", help="separated by commas")
    add("--interval", metavar="I", help="bybit: 1 3 5 ... 720 D W M (60); yahoo: 1h 1d ... (1h)")
    add("--start", type=utc_datetime, metavar="ISO", help="the first bar's open; without zone UTC")
    add("--end", type=utc_datetime, metavar="ISO", help="the last bar's open; a date: its 00:00")
    add("--out", type=folder, required=True, metavar="DIR", help="folder for one CSV per symbol")
    add("--cache", type=folder, metavar="DIR", help="cache downloads; request only missing ranges")
    add("--base-url", metavar="URL", help="bybit: another server (https://api.bybit.com)")
    add("--timeout", type=positive_float, default=10.0, metavar="S", help="seconds per request")
    add("--category", choices=("spot", "linear", "inverse"), help="bybit: default linear")
    add("--sample", metavar="NAME", help="sample: which one")


def run(args: argparse.Namespace) -> None:
    """Write every symbol that arrived, list gaps on stdout, then raise for symbols that failed."""
    _reject_unused_options(args)
    if args.source != "sample" and args.symbols is None:
        raise InvalidInputError(f"--source {args.source} needs --symbols")
    fetched = _SOURCES[args.source](args)
    for symbol, frame in fetched.frames.items():
        # one at a time: writing a CSV takes more memory than its bars
        ca.write_bars({symbol: frame}, args.out)
        echo(f"wrote: {symbol} {len(frame)} bars")
    for gap in fetched.gaps:
        echo(str(gap))
    for notice in fetched.notices:
        print_error("warning", notice)
    fetched.raise_failures()


def _fetch_bybit(args: argparse.Namespace) -> sources.Fetched:
    named = {"base_url": args.base_url, "category": args.category, "cache_dir": args.cache}
    given = {name: value for name, value in named.items() if value is not None}
    loader = sources.BybitDataLoader(timeout=args.timeout, _limits=LIMITS, **given)
    return loader.fetch(args.symbols, args.interval or "60", args.start, args.end)


def _fetch_yahoo(args: argparse.Namespace) -> sources.Fetched:
    from crossattn.sources.yahoo import YahooSource

    if args.start is None or args.end is None:
        raise InvalidInputError("--source yahoo needs --start and --end")
    source = YahooSource(cache_dir=args.cache, timeout=args.timeout)
    return source.fetch(args.symbols, args.start, args.end, args.interval or "1h")


def _fetch_sample(args: argparse.Namespace) -> sources.Fetched:
    if args.sample is None:
        known = ", ".join(sources.sample_names())
        raise InvalidInputError(f"--source sample needs --sample: {known}")
    return sources.Fetched(frames=sources.load_sample(args.sample))


_SOURCES = {"bybit": _fetch_bybit, "yahoo": _fetch_yahoo, "sample": _fetch_sample}
_ONLY_FOR = {
    "sample": ("sample",),
    **dict.fromkeys(("base_url", "category"), ("bybit",)),
    **dict.fromkeys(("symbols", "interval", "start", "end", "cache"), ("bybit", "yahoo")),
}


def _reject_unused_options(args: argparse.Namespace) -> None:
    """Refuse an option that the chosen source would silently ignore."""
    for name, readers in _ONLY_FOR.items():
        if getattr(args, name) is not None and args.source not in readers:
            option = "--" + name.replace("_", "-")
            raise InvalidInputError(f"{option} has no meaning for --source {args.source}")
