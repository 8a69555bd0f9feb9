"""Forty hostile symbol names in one report, in a real browser: nothing runs, nothing appears."""

import pandas as pd
import pytest
from standin.hostile import HOSTILE

from crossattn.report import Section, leaders_section, render_report

PLAIN = [f"S{k}" for k in range(len(HOSTILE))]


def page_of(names):
    edges = pd.DataFrame(
        {
            "leader": names,
            "follower": names[1:] + names[:1],
            "lag": 1,
            "effect": 0.1,
            "p_value": 0.01,
            "q_value": 0.01,
            "significant": True,
        }
    )
    table = pd.DataFrame({name: [name] for name in names})
    sections = [leaders_section(edges), *(Section(name, name, table=table) for name in names[:5])]
    return render_report(names[0], sections, lead=names[1], facts={name: name for name in names})


@pytest.mark.browser
def test_hostile_symbol_names_stay_text(browser, serve, tmp_path):
    for file, names in {"plain": PLAIN, "hostile": HOSTILE}.items():
        (tmp_path / f"{file}.html").write_text(page_of(names), encoding="utf-8")
    count = "document.querySelectorAll('*').length"
    with serve(tmp_path) as address:
        browser.visit(f"{address}plain.html")
        elements = browser.evaluate(count)
        browser.visit(f"{address}hostile.html")
        assert browser.evaluate(count) == elements
        assert browser.evaluate("document.scripts.length") == 0
        assert browser.evaluate("document.body.innerText").count("<script>alert(1)</script>") > 0
        asked = [url for url in browser.requested() if not url.startswith((address, "data:"))]
        assert asked == []
        kinds = {event["method"] for event in browser.events}
    assert "Page.javascriptDialogOpening" not in kinds
    assert "Runtime.exceptionThrown" not in kinds
