"""``crossattn simulate``: write the bars of a market whose truth is known."""

from __future__ import annotations

import argparse

from crossattn.cli._argtypes import count, folder, whole
from crossattn.cli._console import say

HELP = "simulate a market with planted lead-lag and write its bars and its truth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn simulate``."""
    parser.add_argument("--out", type=folder, required=True, metavar="DIR", help="one CSV a symbol")
    parser.add_argument("--scenario", default="static", metavar="NAME", help="default: static")
    parser.add_argument("--assets", type=count, default=10, metavar="N", help="default: 10")
    parser.add_argument("--steps", type=count, default=20_000, metavar="N", help="default: 20000")
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="default: 0")


def run(args: argparse.Namespace) -> None:
    """Simulate, write the bars, and name the planted edges on stdout."""
    from crossattn.data.files import write_bars
    from crossattn.simulate.market import simulate_market

    market = simulate_market(
        args.scenario, n_assets=args.assets, n_steps=args.steps, seed=args.seed
    )
    write_bars(market.frames, args.out)
    say(f"wrote: {len(market.frames)} symbols x {args.steps} bars to {args.out}")
    for edge in market.edges.itertuples():
        say(
            f"planted: {edge.leader} leads {edge.follower} "
            f"lag {edge.lag} strength {edge.strength:+.3f}"
        )
