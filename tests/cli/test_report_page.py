"""Symbol names are data: nothing in a report becomes markup, and figures draw them as they are."""

from html.parser import HTMLParser
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from standin.hostile import HOSTILE, edges_between

from crossattn.figures import attention_heatmap, png_of
from crossattn.report import Section, leaders_section, render_report


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.attributes = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


def page_of(leader):
    edges = edges_between([leader], ["B"])
    sections = [
        leaders_section(edges),
        Section(leader, leader, table=pd.DataFrame({leader: [leader]}, index=[leader])),
        Section("figure", figure=b"\x89PNG", caption=leader),
    ]
    return render_report(leader, sections, lead=leader, facts={leader: leader})


def test_a_run_of_one_asset_has_no_pairs():
    edges = pd.DataFrame(columns=["leader", "p_value", "tested", "significant"], dtype=object)
    section = leaders_section(edges)  # as a file without rows is read
    assert section.table is None and section.text == "No pair could be tested."


@pytest.mark.parametrize("name", HOSTILE)
def test_a_symbol_name_is_never_markup(name):
    hostile, plain = Elements(page_of(name)), Elements(page_of("A"))
    assert hostile.found == plain.found
    changed = {(t, n) for t, n, v in hostile.attributes} ^ {(t, n) for t, n, v in plain.attributes}
    assert not changed
    assert not [n for _, n, _ in hostile.attributes if n.startswith("on")]
    links = [v for _, n, v in hostile.attributes if n in ("src", "href")]
    assert all(link.startswith("data:image/png;base64,") for link in links)


@pytest.mark.parametrize("name", ["日本", *(n for n in HOSTILE if "$" in n)])
def test_a_symbol_name_is_never_mathematics_nor_a_warning(name, recwarn):
    assert png_of(attention_heatmap(np.eye(2), [name, "B"])).startswith(b"\x89PNG")
    assert not recwarn.list


def test_a_map_of_thirty_assets_can_be_read():
    names = [f"ASSET{k:02d}" for k in range(30)]
    ax = attention_heatmap(np.full((30, 30), 1 / 30), names, title="A verdict of a line " * 8)
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert len(boxes) == 30 and not any(a.overlaps(b) for a, b in pairwise(boxes))
    inches, shown = ax.figure.get_size_inches()[0], 900  # the page shows an image 900 px wide
    assert min(label.get_size() for label in ax.get_xticklabels()) / 72 * shown / inches > 8
    assert ax.collections[0].get_clim() == (0, pytest.approx(1 / 30))
    page, title = ax.figure.bbox, ax.title.get_window_extent()
    plt.close(ax.figure)
    assert title.x0 >= page.x0 and title.x1 <= page.x1


def test_a_missing_number_is_a_dash_and_a_symbol_called_nan_is_a_symbol():
    table = pd.DataFrame({"hit_rate": [np.nan, 0.5]}, index=["zero", "nan"])
    page = render_report("A", [Section("B", table=table)])
    assert "<th>zero</th><td>–</td>" in page and "<th>nan</th><td>0.5</td>" in page


def test_the_page_forbids_scripts_and_requests_to_itself():
    assert "default-src 'none'; img-src data:;" in page_of("A")
