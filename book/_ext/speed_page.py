"""``{speed}``: what is measured by ``make bench``, in tables and curves, from ``book/speed.json``."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from drawn import MISSING, FromResults, figure, table, versions_of
from sphinx.application import Sphinx

FILE = Path("book") / "speed.json"


def kept(root: Path) -> dict:
    """Return what was measured."""
    return json.loads((root / FILE).read_text(encoding="utf-8"))


def comparisons(root: Path) -> list[str]:
    """Return a row a comparison: CPU time of both sides, their ratio, and the ratio asked for."""
    body = []
    for name, row in kept(root)["comparisons"].items():
        asked = f"{row['asked']:,g}" if row["asked"] else ""
        if row["ours"] is None:
            body.append([name, row["beside"], *[MISSING] * 3, asked, ""])
            continue
        ratio = row["theirs"] / row["ours"]
        verdict = "" if not asked else "yes" if ratio >= row["asked"] else "**no**"
        times = [_seconds(row["ours"]), _seconds(row["theirs"])]
        times.append(f"{ratio:,.0f}" if ratio > 100 else f"{ratio:.3g}")
        body.append([name, row["beside"], *times, asked, verdict])
    header = ["What", "Beside", "Ours", "Other", "Other / ours", "Aim", "Met"]
    return table(header, body, words=2)


def foreign(root: Path) -> list[str]:
    """Return a row a market that the forecaster was not built for: fidelity and skill by model."""
    body, models = [], ("forecaster", "weighted lasso", "boosted trees")
    for name, row in kept(root)["foreign"].items():
        best = max(row[f"{model}, skill"] for model in models)
        cells = []
        for model in models:
            fidelity, skill = (row[f"{model}, {score}"] for score in ("fidelity", "skill"))
            text = f"{fidelity:.2f}; {skill:.2f}" if fidelity else f"–; {skill:.3f}"
            cells.append(f"**{text}**" if skill == best else text)
        body.append([name, *cells, f"{row['edges']:.1f}"])
    return table(["Market", *(model.capitalize() for model in models), "Edges named"], body)


def start_up(root: Path) -> list[str]:
    """Return CPU-seconds of imports and of commands from start to finish."""
    held = kept(root)["start_up"]
    times = held["imports"] | {f"crossattn {name}": t for name, t in held["crossattn"].items()}
    rows = [[f"`{n}`", MISSING if t is None else f"{t:.2f}"] for n, t in times.items()]
    return table(["From start to finish", "CPU-s"], rows)


def exponents(root: Path) -> list[str]:
    """Return a row a curve: sizes, CPU time at both ends, and the fitted exponent."""
    body = [
        [
            name,
            row["fixed"],
            f"{row['sizes'][0]:,} to {row['sizes'][-1]:,}",
            f"{_seconds(row['seconds'][0])} to {_seconds(row['seconds'][-1])}",
            f"{row['exponent']:.2f}",
        ]
        for name, row in kept(root)["curves"].items()
    ]
    return table(["Cost of", "Fixed", "Sizes", "CPU time", "Exponent"], body, words=2)


def curves(root: Path) -> list[str]:
    """Return the figure of all curves, a panel for each size that grows."""
    rows = sorted(kept(root)["curves"].items(), key=lambda item: item[1]["over"])
    panels = {over: list(group) for over, group in groupby(rows, key=lambda item: item[1]["over"])}

    def draw(drawing) -> None:
        drawing.set_size_inches(9.0, 3.8)
        for ax, (over, lines) in zip(drawing.subplots(1, len(panels)), panels.items(), strict=True):
            for k, (name, row) in enumerate(lines):
                style = {"marker": "osv^Dx*P"[k % 8], "linewidth": 1.2, "markersize": 4}
                ax.loglog(row["sizes"], row["seconds"], label=name.rsplit(", by", 1)[0], **style)
            ax.set(xlabel=f"{over} (log scale)", ylabel="CPU-seconds (log scale)")
            ax.legend(fontsize=6)

    return figure(
        root,
        "speed-curves",
        draw,
        "Processor time by number of assets, bars and channels, each with the others fixed.",
        "Three panels of curves on logarithmic axes: processor time over assets, bars and channels",
    )


def many_assets(root: Path) -> list[str]:
    """Return a row a market of hundreds of assets: cost of fit and test, and what is found."""
    body = [
        [
            name,
            _seconds(row["fit"]),
            _seconds(row["lead_lag"]),
            f"{row['gigabytes']:.1f}",
            f"{row['fidelity']:.3f}",
            f"{row['planted']:,}",
            f"{row['named']:,}",
            f"{row['right']:,}",
        ]
        for name, row in sorted(kept(root)["size"].items(), key=lambda item: item[1]["planted"])
    ]
    found = ["Fidelity", "Pairs planted", "Named", "Of these right"]
    return table(["Market", "Fit", "Test", "Peak GB", *found], body)


def utilisation(root: Path) -> list[str]:
    """Return operations of an encoder's step, its use of the processor, and the GPU's, not measured."""
    body = []
    for name, row in kept(root)["utilisation"].items():
        rate = row["flops"] / row["seconds"]
        body.append(
            [
                name,
                f"{row['flops'] / 1e9:.1f}",
                _seconds(row["seconds"]),
                f"{rate / 1e9:.1f}",
                f"{row['peak'] / 1e9:.0f}",
                f"{rate / row['peak']:.0%}",
            ]
        )
    body.append(["the same on a GPU", "", *[MISSING] * 4])
    header = ["Training step", "GFLOP", "CPU time", "GFLOP/s", "Matrix product, GFLOP/s", "Share"]
    return table(header, body)


def machine(root: Path) -> list[str]:
    """Return where it was measured."""
    held = kept(root)
    return [f"Measured on {held['machine']}, one thread, with {versions_of(held)}."]


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:,.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


class Speed(FromResults):
    """One block of the page."""

    sources = FILE.as_posix()
    blocks: ClassVar = {
        "machine": machine,
        "comparisons": comparisons,
        "start-up": start_up,
        "exponents": exponents,
        "curves": curves,
        "foreign": foreign,
        "many-assets": many_assets,
        "utilisation": utilisation,
    }


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("speed", Speed)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
