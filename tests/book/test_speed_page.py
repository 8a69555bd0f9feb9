"""Figures of the pages of speed and size equal ``book/speed.json``."""

import json
import statistics
from math import log

import pytest
from notebooks import ROOT
from standin.markdown import table

pytest.importorskip("sphinx")
import size_page
import speed_page

HELD = json.loads((ROOT / speed_page.FILE).read_text())


def test_ratios_and_aims_of_the_speed_page_equal_the_file():
    shown = table(speed_page.comparisons(ROOT))
    assert len(shown) == len(HELD["comparisons"]) > 8
    for name, row in HELD["comparisons"].items():
        if row["ours"] is None:
            assert shown[name]["Other / ours"] == speed_page.MISSING
            continue
        ratio = row["theirs"] / row["ours"]
        assert float(shown[name]["Other / ours"].replace(",", "")) == pytest.approx(ratio, rel=6e-3)
        met = {"": None, "yes": True, "**no**": False}[shown[name]["Met"]]
        assert met == (ratio >= row["asked"] if row["asked"] else None)


def test_every_foreign_market_is_shown_with_its_best_model_in_bold():
    held = HELD["foreign"]
    shown = table(speed_page.foreign(ROOT))
    assert len(shown) == len(held) > 20
    for name, row in held.items():
        skills = {key.split(",")[0].capitalize(): x for key, x in row.items() if "skill" in key}
        for model, skill in skills.items():
            text = shown[name][model]
            assert text.startswith("**") == (skill == max(skills.values()))
            assert float(text.strip("*").split("; ")[1]) == pytest.approx(skill, abs=5.1e-3)


def test_exponents_of_the_speed_page_are_slopes_of_the_file():
    shown = table(speed_page.exponents(ROOT))
    for name, row in HELD["curves"].items():
        slope = statistics.linear_regression(
            [log(x) for x in row["sizes"]], [log(x) for x in row["seconds"]]
        ).slope
        assert float(shown[name]["Exponent"]) == pytest.approx(slope, abs=6e-3)


def test_markets_of_many_assets_are_shown_smallest_first():
    held = HELD["size"]
    shown = table(speed_page.many_assets(ROOT))
    sizes, known = ([int(n.split()[0].replace(",", "")) for n in rows] for rows in (shown, held))
    assert sizes == sorted(known)
    for name, row in held.items():
        assert int(shown[name]["Of these right"].replace(",", "")) == row["right"] <= row["named"]


def test_the_plan_follows_from_its_formulas():
    """Counted by hand from the constants: 10,000 assets, 5,259,600 minutes, 128 workers."""
    found = {name: value for name, (_, value, _) in size_page.quantities(HELD).items()}
    assert found["panel"] == pytest.approx(1.4727e12, rel=1e-4)  # 5,259,600 x 10,000 x 7 x 4
    assert found["sums of screening"] == pytest.approx(92.4e9)
    assert found["operations of screening"] == pytest.approx(2.42994e17, rel=1e-4)
    assert found["machine-hours"] == pytest.approx(found["core-hours, counted"] / 32)
    fit, peak = HELD["curves"]["fit, by assets"], next(iter(HELD["utilisation"].values()))["peak"]
    share = found["operations of the measured fit"] / fit["seconds"][-1] / peak
    assert found["used share of the peak"] == pytest.approx(share)
    shown = table(size_page.plan(ROOT))
    assert shown["panel"]["Value"] == "1.47 TB" and set(shown) == set(found)
