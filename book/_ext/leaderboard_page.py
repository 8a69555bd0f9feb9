"""``{leaderboard}``: LeadLagBench in tables and figures, from the results files of the repository.

``make leaderboard`` writes these files; nothing is fitted when the book is built.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from drawn import MISSING, FromResults, figure, table, versions_of
from scipy import stats
from sphinx.application import Sphinx

from crossattn.leaderboard import MODELS, leaderboard, read_results
from crossattn.simulate.scenarios import SCENARIOS

RESULTS = Path("book") / "leaderboard" / "results"
OURS, PART = "forecaster", "static_part"
NULLS = ("null", "factor", "spillover")  # nothing forecasts a return
LEADERLESS = (*NULLS, "asynchronous")
LABELS = {
    "fidelity": "Fidelity",
    "r_squared": "R², %",
    "edge_auroc": "AUROC",
    "lags_right": "Lags right",
    "power": "Power",
    "false_discovery": "False discovery",
    "edges_named": "Edges named",
    "net_sharpe": "Net Sharpe",
    "cpu_seconds": "CPU-s",
    "peak_memory_mb": "MB",
}


@functools.cache
def results(root: Path) -> pd.DataFrame:
    """Return all rows, R² in per cent, edge scores of markets without a leader left out."""
    rows = read_results(root / RESULTS)
    rows[["r_squared", "r_squared_error"]] *= 100
    return rows


def scenarios(rows: pd.DataFrame) -> list[str]:
    """Return the markets that were run, simulated ones first."""
    return sorted(rows["scenario"].unique(), key=lambda name: (name not in SCENARIOS, name))


def deciding_score(scenario: str) -> str:
    """Return what ranks the forecasts of a market: fidelity where there is a truth to forecast."""
    return "fidelity" if scenario in SCENARIOS and scenario not in NULLS else "r_squared"


def ranking(root: Path) -> list[str]:
    """Return a row a model: mean rank, then each score's mean over the markets that have it."""
    rows = results(root)
    markets = scenarios(rows)
    means = rows.groupby(["model", "scenario"])[list(LABELS)].mean()
    decisive = pd.DataFrame(
        {name: means[deciding_score(name)].xs(name, level="scenario") for name in markets}
    ).reindex([name for name in MODELS if name in set(rows["model"])])
    ranks = decisive[decisive.notna().all(axis=1)].rank(ascending=False).mean(axis=1)
    lines = {}
    for name in decisive.index:
        own = rows[rows["model"] == name]
        by_market = means.loc[name]  # so that a market counts once, however many seeds it has
        simulated = by_market[by_market.index.isin(SCENARIOS)]
        planted = simulated[~simulated.index.isin(LEADERLESS)]
        real = by_market[~by_market.index.isin(SCENARIOS)]
        tested = own.loc[own["scenario"].isin(NULLS), "edges_named"].dropna()
        cells = [
            _text(ranks.get(name, np.nan), ".1f"),
            *(_text(planted[s].mean(), ".3f") for s in ("fidelity", "r_squared", "edge_auroc")),
            *(_text(planted[s].mean(), ".2f") for s in ("power", "false_discovery", "lags_right")),
            f"{(tested > 0).sum()} of {len(tested)}" if len(tested) else "–",
            _text(real["r_squared"].mean(), ".3f") if len(real) else MISSING,
            _text(planted["net_sharpe"].mean(), ".1f"),
            _text(simulated["cpu_seconds"].mean(), ".3g"),
            _text(own["peak_memory_mb"].max(), ".0f"),
            f"{len(own)} of {len(markets) * rows['seed'].nunique()}",
        ]
        lines[name] = [f"`{name}`", *cells]
    order = sorted(lines, key=lambda name: (ranks.get(name, 99.0), list(lines).index(name)))
    header = ["Model", "Mean rank", "Fidelity", "R², %", "AUROC", "Power", "False discovery"]
    header += ["Lags right", "Nulls with a claim", "R² on real bars, %", "Net Sharpe"]
    return table([*header, "CPU-s", "MB", "Cells"], [lines[name] for name in order])


def market_tables(root: Path) -> list[str]:
    """Return a folded table a market: a row a model, each score with its interval over seeds."""
    rows = results(root)
    boards = {score: leaderboard(rows, score) for score in LABELS}
    lines = []
    for name in scenarios(rows):
        means = rows[rows["scenario"] == name].groupby("model")[list(LABELS)].mean()
        shown = [score for score in LABELS if means[score].notna().any()]
        decisive = deciding_score(name)
        order = means[decisive].reindex(boards[decisive].index.intersection(means.index))
        body = [
            [f"`{model}`", *(boards[score].loc[model, name] for score in shown)]
            for model in order.sort_values(ascending=False, kind="stable").index
        ]
        absent = [model for model in MODELS if model not in means.index]
        body += [[f"`{model}`", *[MISSING] * len(shown)] for model in absent]
        header = ["Model", *(LABELS[score] for score in shown)]
        lines += [f":::{{dropdown}} {name}", *table(header, body), ":::", ""]
    return lines


def verdicts(root: Path) -> list[str]:
    """Return a row a market: the forecaster beside its best rival, and who is first."""
    body = []
    for name in scenarios(results(root)):
        score = deciding_score(name)
        start = [name, LABELS[score]]
        found = comparison(results(root), name, score)
        if found is None:
            body.append([*start, "", *[MISSING] * 4])
            continue
        rival, ours, theirs, half = found
        gap = ours - theirs
        verdict = "first" if gap >= 0 else "within its interval" if -gap <= half else "**behind**"
        interval = f"± {half:.3f}" if half == half else "(one seed)"
        numbers = [f"{ours:.3f}", f"{theirs:.3f}", f"{gap:+.3f} {interval}"]
        body.append([*start, f"`{rival}`", *numbers, verdict])
    header = ["Market", "Score", "Best rival", "Forecaster", "Rival", "Difference", "Forecaster is"]
    return table(header, body, words=3)


def comparison(rows: pd.DataFrame, scenario: str, score: str) -> tuple | None:
    """Return the best rival, ours, theirs, and half the difference's 95 % interval.

    The forecaster's own static part is no rival. Means are over the seeds that both have. Simulated
    markets: a t interval of the paired differences. Real bars are the same at every seed: the error
    of the forecaster's R² over time.
    """
    here = rows[rows["scenario"] == scenario]
    values = here.pivot_table(score, "seed", "model")
    if OURS not in values:
        return None
    values = values[values[OURS].notna()].dropna(axis=1, how="all")
    rival = values.drop(columns=[OURS, PART], errors="ignore").mean().idxmax()
    both = values[[OURS, rival]].dropna()
    if scenario in SCENARIOS:
        half = (both[OURS] - both[rival]).sem() * stats.t.ppf(0.975, max(len(both) - 1, 1))
    else:
        half = 1.96 * here.loc[here["model"] == OURS, "r_squared_error"].mean()
    return rival, *both.mean(), half


def provenance(root: Path) -> list[str]:
    """Return a row a results file: rows, machine, versions."""
    body = []
    for name in MODELS:
        path = root / RESULTS / f"{name}.json"
        if not path.exists():
            body.append([f"`{name}`", MISSING, "", ""])
            continue
        held = json.loads(path.read_text(encoding="utf-8"))
        body.append([f"`{name}`", str(len(held["rows"])), held["machine"], versions_of(held)])
    return table(["Model", "Rows", "Machine", "Versions"], body, words=4)


def figures(root: Path) -> list[str]:
    """Return fidelity by model and market, and fidelity beside cost."""
    rows = results(root)
    planted = [n for n in scenarios(rows) if deciding_score(n) == "fidelity"]
    grid = rows.pivot_table("fidelity", "model", "scenario", dropna=False).reindex(columns=planted)
    grid = grid.loc[grid.mean(axis=1).dropna().sort_values(ascending=False).index]
    everywhere = grid.dropna().index  # models that ran on each of these markets
    cost = rows[rows["scenario"].isin(planted) & rows["model"].isin(everywhere)]
    cost = cost.groupby(["model", "scenario"])[["fidelity", "cpu_seconds"]].mean()
    cost = cost.groupby("model").mean()

    def heat(drawing) -> None:
        drawing.set_size_inches(8.2, 0.34 * len(grid) + 1.3)
        ax = drawing.subplots()
        ax.set_facecolor("#bbbbbb")
        image = ax.imshow(grid.clip(0, 1), vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(grid.to_numpy()):
            if value == value:
                ink = "white" if value < 0.5 else "black"
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=7)
        ax.set_xticks(range(len(planted)), planted, rotation=40, ha="right")
        ax.set_yticks(range(len(grid)), grid.index)
        drawing.colorbar(image, label="fidelity")

    def scatter(drawing) -> None:
        drawing.set_size_inches(7.0, 3.8)
        ax = drawing.subplots()
        points = cost.assign(cpu_seconds=cost["cpu_seconds"].clip(1e-3))
        for name, (fidelity, seconds) in points.iterrows():
            ax.plot(seconds, fidelity, "o", color="#D55E00" if name == OURS else "#0072B2")
            # the costliest have room at their right, all others at their left
            place, side = ((6, 0), "left") if seconds > 30 else ((-6, 0), "right")
            style = {"textcoords": "offset points", "va": "center", "fontsize": 8}
            ax.annotate(name, (seconds, fidelity), place, ha=side, **style)
        ax.set(xscale="log", xlim=(2e-4, 1e3), ylim=(-0.09, 1.05))
        ax.set_xlabel("CPU-seconds a market (log scale)")
        ax.set_ylabel("fidelity, mean over markets")

    n = rows["seed"].nunique()
    return [
        *figure(
            root,
            "leaderboard-fidelity",
            heat,
            f"Fidelity, mean over up to {n} seeds, by model and market; grey cells were not run.",
            "Map of the fidelity of each model on each simulated market, best model on top",
        ),
        "",
        *figure(
            root,
            "leaderboard-cost",
            scatter,
            "Fidelity beside processor time to fit, forecast and test: means over the markets "
            "above, of the models that ran on each.",
            "Scatter of fidelity against seconds of processor time, a point a model",
        ),
    ]


def _text(value: float, form: str) -> str:
    return f"{value:{form}}" if value == value else "–"


class Leaderboard(FromResults):
    """One block of the leaderboard."""

    sources = f"{RESULTS.as_posix()}/*.json"
    blocks: ClassVar = {
        "ranking": ranking,
        "verdicts": verdicts,
        "figures": figures,
        "markets": market_tables,
        "files": provenance,
    }


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("leaderboard", Leaderboard)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
