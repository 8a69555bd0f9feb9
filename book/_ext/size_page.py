"""``{size}``: what a fit of very many assets would take, by formulas from the constants of ``speed.json``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from drawn import FromResults, table
from speed_page import FILE, kept
from sphinx.application import Sphinx

ASSETS, YEARS = 10_000, 10
ROWS = YEARS * 525_960  # minutes of 365.25 days
FEATURES, TOKENS, SURVIVORS = 7, 77, 250  # a source's; a source's; a follower's after screening
WORKERS, CORES = 128, 32
MEMORY, LINK = 256e9, 1.25e9  # bytes a worker, bytes a second (10 Gbit/s)
CURVES = ("fit, by assets", "fit, by bars")


def quantities(held: dict) -> dict[str, tuple[str, float, str]]:
    """Return each quantity's formula, value and unit; later ones are made of earlier ones."""
    encoder = next(iter(held["utilisation"].values()))
    by_assets, by_bars = (held["curves"][name] for name in CURVES)
    n, seconds = by_assets["sizes"][-1], by_assets["seconds"][-1]
    t = next(int(w.replace(",", "")) for w in by_assets["fixed"].split() if w[0].isdigit())
    peak = encoder["peak"]
    screening = 6 * ROWS * ASSETS**2 * TOKENS
    products = 2 * ROWS * ASSETS * SURVIVORS**2
    counted = 2 * t * n * (3 * n * TOKENS + SURVIVORS**2)
    share = counted / seconds / peak
    core_seconds = (screening + products) / (peak * share)
    power = (by_assets["exponent"], by_bars["exponent"])
    scaled = seconds * (ASSETS / n) ** power[0] * (ROWS / t) ** power[1]
    panel = 4 * ROWS * ASSETS * FEATURES
    scores = 12 * ASSETS**2 * TOKENS
    gram = 8 * ASSETS * SURVIVORS**2
    hours = core_seconds / 3600 / (WORKERS * CORES)
    network = 2 * (scores + gram) / LINK
    return {
        "panel": ("4 R N F", panel, "bytes"),
        "panel of a worker": ("4 R N F / W", panel / WORKERS, "bytes"),
        "sums of screening": ("3 · 4 N² M", scores, "bytes"),
        "Gram matrices": ("8 N K²", gram, "bytes"),
        "operations of screening": ("6 R N² M", screening, "FLOP"),
        "operations of Gram matrices": ("2 R N K²", products, "FLOP"),
        "operations of the measured fit": ("2 t n (3 n M + K²)", counted, "FLOP"),
        "used share of the peak": ("measured operations / s / P", share, ""),
        "core-hours, counted": ("(6 R N² M + 2 R N K²) / (P u) / 3600", core_seconds / 3600, "h"),
        "core-hours, extrapolated": ("s (N / n)^a (R / t)^b / 3600", scaled / 3600, "h"),
        "hours of the cluster": ("core-hours, counted / (W c)", hours, "h"),
        "machine-hours": ("hours of the cluster · W", hours * WORKERS, "h"),
        "network, a worker": ("2 (12 N² M + 8 N K²) / B", network, "s"),
        "assets whose sums fill a worker": ("(G / (12 M))^½", (MEMORY / 12 / TOKENS) ** 0.5, ""),
        "assets whose panel fills it": ("G / (4 R F)", MEMORY / (4 * ROWS * FEATURES), ""),
    }


def constants(root: Path) -> list[str]:
    """Return the symbols of the formulas: chosen, of the package, and measured."""
    held = kept(root)
    encoder = next(iter(held["utilisation"].values()))
    by_assets, by_bars = (held["curves"][name] for name in CURVES)
    rows = [
        ["N, R", f"{ASSETS:,} assets, {ROWS:,} minutes ({YEARS} years, around the clock)", "chosen"],
        ["W, c, G", f"{WORKERS} workers, {CORES} cores and {MEMORY / 1e9:.0f} GB each", "chosen"],
        ["B", f"{LINK / 1e9:.2f} GB a second (10 Gbit/s) in and out of a worker", "chosen"],
        ["F", f"{FEATURES} features of four bytes", "default"],
        ["M", f"{TOKENS} tokens (channel, lag) of a source", "default"],
        ["K", f"{SURVIVORS} tokens of a follower after screening", "default"],
        ["P", f"{encoder['peak'] / 1e9:.0f} GFLOP/s, a matrix product on one core", "measured"],
        ["s", f"{by_assets['seconds'][-1]:.1f} CPU-s, static fit of the n, t below", "measured"],
        ["n, t", f"{by_assets['sizes'][-1]} assets, {by_assets['fixed']}", "measured"],
        ["a, b", f"{by_assets['exponent']:.2f}, {by_bars['exponent']:.2f}: exponents", "measured"],
    ]
    return table(["Symbol", "Value", "Source"], rows, words=3)


def plan(root: Path) -> list[str]:
    """Return a row a quantity: its formula and value."""
    rows = [
        [name, f"`{formula}`", _amount(value, unit)]
        for name, (formula, value, unit) in quantities(kept(root)).items()
    ]
    return table(["Quantity", "Formula", "Value"], rows, words=2)


def _amount(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e12:,.2f} TB" if value >= 1e12 else f"{value / 1e9:,.1f} GB"
    if unit == "FLOP":
        return f"{value:.1e} FLOP"
    if unit == "":
        return f"{value:.1%}" if value < 1 else f"{value:,.0f}"
    return f"{value:,.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


class Size(FromResults):
    """One block of the page."""

    sources = FILE.as_posix()
    blocks: ClassVar = {"constants": constants, "plan": plan}


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("size", Size)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
