"""``crossattn simulate``: write the bars of a simulated market with planted leaders."""

import argparse

import crossattn as ca
from crossattn.cli._argtypes import folder, nonnegative_int, positive_int
from crossattn.cli._console import echo
from crossattn.data._tables import SUFFIXES
from crossattn.data.file_names import symbol_to_stem
from crossattn.errors import InvalidInputError, first_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn simulate``."""
    add = parser.add_argument
    add("--out", type=folder, required=True, metavar="DIR", help="one CSV a symbol, no others")
    add("--scenario", default="static", metavar="NAME", help="default: static")
    add("--assets", type=positive_int, default=10, metavar="N", help="default: 10")
    add("--steps", type=positive_int, default=20_000, metavar="N", help="default: 20000")
    add("--seed", type=nonnegative_int, default=0, metavar="N", help="default: 0")


def run(args: argparse.Namespace) -> None:
    """Simulate, write the bars, and name the planted edges on stdout."""
    market = ca.simulate_market(
        args.scenario, n_assets=args.assets, n_steps=args.steps, seed=args.seed
    )
    written = {f"{symbol_to_stem(symbol)}.csv" for symbol in market.frames}
    bars = (path.name for path in args.out.glob("[!.]*") if path.suffix.lower() in SUFFIXES)
    if others := sorted(set(bars) - written):
        raise InvalidInputError(
            f"--out {args.out} holds bars of another market ({first_names(others)}): "
            "name an empty folder"
        )
    ca.write_bars(market.frames, args.out)
    echo(f"wrote: {len(market.frames)} symbols x {args.steps} bars to {args.out}")
    details = market.edges.columns[5:]
    for edge in market.edges.to_dict("records"):
        echo(
            f"planted: {edge['leader']} leads {edge['follower']} "
            f"lag {edge['lag']} strength {edge['strength']:+.3f}"
            + "".join(f" {name} {edge[name]}" for name in details)
        )
