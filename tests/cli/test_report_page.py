"""Symbol names are data: nothing in a report becomes markup, and figures draw them as they are."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from standin.hostile import HOSTILE

from crossattn.figures import attention_heatmap, png_of
from crossattn.report import Section, leaders_section, render_report


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


def page_of(leader, follower="B"):
    edge = {"leader": leader, "follower": follower, "lag": 1, "effect": 0.1}
    edges = pd.DataFrame([{**edge, "p_value": 0.01, "q_value": 0.01, "significant": True}])
    sections = [
        leaders_section(edges),
        Section(leader, leader, table=pd.DataFrame({leader: [leader]}, index=[leader])),
        Section("figure", figure=b"\x89PNG", caption=leader),
    ]
    return render_report(leader, sections, lead=leader, facts={leader: leader})


def elements(page):
    parser = Elements()
    parser.feed(page)
    return parser


def test_there_are_forty():
    assert len(set(HOSTILE)) == 40


@pytest.mark.parametrize("name", HOSTILE)
def test_a_symbol_name_is_never_markup(name):
    hostile, plain = elements(page_of(name)), elements(page_of("A"))
    assert hostile.found == plain.found
    changed = {(t, n) for t, n, v in hostile.attributes} ^ {(t, n) for t, n, v in plain.attributes}
    assert not changed
    assert not [n for _, n, _ in hostile.attributes if n.startswith("on")]
    links = [v for _, n, v in hostile.attributes if n in ("src", "href")]
    assert all(link.startswith("data:image/png;base64,") for link in links)


@pytest.mark.parametrize("name", [n for n in HOSTILE if "$" in n])
def test_a_symbol_name_is_never_mathematics(name):
    assert png_of(attention_heatmap(np.eye(2), [name, "B"])).startswith(b"\x89PNG")


def test_a_missing_number_is_a_dash_and_a_symbol_called_nan_is_a_symbol():
    table = pd.DataFrame({"hit_rate": [np.nan, 0.5]}, index=["zero", "nan"])
    page = render_report("A", [Section("B", table=table)])
    assert "<th>zero</th><td>–</td>" in page and "<th>nan</th><td>0.5</td>" in page


def test_the_page_forbids_scripts_and_requests_to_itself():
    assert "default-src 'none'; img-src data:;" in page_of("A")
