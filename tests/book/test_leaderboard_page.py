"""Figures of the leaderboard equal the results files."""

import json
import re
import statistics
from collections import defaultdict

import pytest
from notebooks import ROOT
from standin.markdown import table

pytest.importorskip("sphinx")
import leaderboard_page

FILES = sorted((ROOT / leaderboard_page.RESULTS).glob("*.json"))


@pytest.fixture(scope="module")
def cells():
    """Rows of the files by model and market, read without the page's code."""
    held = defaultdict(list)
    for path in FILES:
        for row in json.loads(path.read_text())["rows"]:
            held[path.stem, row["scenario"]].append(row)
    return held


def by_market():
    folded = "\n".join(leaderboard_page.market_tables(ROOT)).split(":::{dropdown} ")[1:]
    return {t.split("\n")[0]: table(t.split("\n")) for t in folded}


def test_every_mean_of_the_market_tables_equals_the_files(cells):
    tables, compared = by_market(), 0
    for (model, market), rows in cells.items():
        for score, label in leaderboard_page.LABELS.items():
            known = [row[score] for row in rows if row.get(score) is not None]
            if label not in tables[market][model]:
                assert not known
                continue
            shown = tables[market][model][label].split(" ")[0]
            if not known:
                assert shown == "–"
                continue
            mean = (100 if score == "r_squared" else 1) * statistics.mean(known)
            assert float(shown) == pytest.approx(mean, rel=6e-3, abs=1e-9)
            compared += 1
    assert compared > 500


def test_what_was_not_run_is_marked(cells):
    ran = {model for model, _ in cells}
    assert ran <= set(leaderboard_page.MODELS)
    for market, rows in by_market().items():
        for model in leaderboard_page.MODELS:
            missing = leaderboard_page.MISSING in rows[model].values()
            assert missing == ((model, market) not in cells)
    listed = table(leaderboard_page.provenance(ROOT))
    for model in leaderboard_page.MODELS:
        assert (listed[model]["Rows"] == leaderboard_page.MISSING) == (model not in ran)


def test_who_is_first_equals_the_files_and_every_loss_is_explained(cells):
    page = (ROOT / "book" / "appendices" / "leaderboard.md").read_text(encoding="utf-8")
    for market, row in table(leaderboard_page.verdicts(ROOT)).items():
        score = leaderboard_page.deciding_score(market)
        by_seed = {
            model: {r["seed"]: r[score] for r in rows if r.get(score) is not None}
            for (model, where), rows in cells.items()
            if where == market and model != leaderboard_page.PART
        }
        ours = by_seed.pop("forecaster", {})
        if not ours:
            assert leaderboard_page.MISSING in row["Forecaster is"]
            continue
        gaps = {
            statistics.mean(rival.values()): statistics.mean(ours[s] - rival[s] for s in rival)
            for known in by_seed.values()
            if (rival := {s: x for s, x in known.items() if s in ours})
        }
        assert (row["Forecaster is"] == "first") == (gaps[max(gaps)] >= 0)
        if "behind" in row["Forecaster is"]:
            assert re.search(rf"^- \*{market}\*", page, re.M), f"{market}: a loss without a reason"


def test_size_on_nulls_equals_the_files(cells):
    shown = table(leaderboard_page.ranking(ROOT))
    for model in {model for model, _ in cells}:
        named = [
            row["edges_named"]
            for market in leaderboard_page.NULLS
            for row in cells.get((model, market), [])
            if row["edges_named"] is not None
        ]
        expected = f"{sum(n > 0 for n in named)} of {len(named)}" if named else "–"
        assert shown[model]["Nulls with a claim"] == expected


def test_a_market_counts_once_in_a_mean_however_many_seeds_it_has(cells):
    shown = table(leaderboard_page.ranking(ROOT))
    planted = set(leaderboard_page.SCENARIOS) - set(leaderboard_page.LEADERLESS)
    for model in ("master", "forecaster"):
        by_market = [
            statistics.fmean(row["fidelity"] for row in rows)
            for (name, market), rows in cells.items()
            if name == model and market in planted
        ]
        assert shown[model]["Fidelity"] == f"{statistics.fmean(by_market):.3f}"
