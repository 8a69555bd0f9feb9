"""Diagrams: SVG that holds what was asked for, and refuses text that would be cut off."""

import re
from xml.etree import ElementTree

import pytest

from crossattn.diagrams import COLOURS, Box, Diagram

SVG = "{http://www.w3.org/2000/svg}"


def drawn(diagram: Diagram, kind: str) -> list:
    return ElementTree.fromstring(diagram._repr_svg_()).findall(f".//{SVG}{kind}")


def test_text_stays_text_and_scripts_are_raised_and_lowered():
    diagram = Diagram()
    diagram.box(5, 5, 200, 40, "a < b & q_i K^T d_{model}\nsecond", "query")
    first, second = drawn(diagram, "text")
    assert "".join(first.itertext()).replace("\u200b", "") == "a < b & qi KT dmodel"
    assert second.text == "second"
    moves = [float(part.get("dy")) for part in first.iter(f"{SVG}tspan")]
    assert moves[0] > 0 > moves[2] and sum(moves) == pytest.approx(0.0)


def test_a_grid_is_darker_where_its_values_are_larger():
    diagram = Diagram()
    place = diagram.grid(10, 30, [[0.0, 0.5, 1.0], [float("nan"), 0.2, 0.3]], "key", show=True)
    opacity = [float(cell.get("fill-opacity")) for cell in drawn(diagram, "rect")]
    assert place == Box(10, 30, 60, 40)
    assert opacity == pytest.approx([0, 0.275, 0.55, 0, 0.11, 0.165])
    assert [text.text for text in drawn(diagram, "text")] == [".00", ".50", "1.00", ".20", ".30"]
    four = Diagram()
    assert drawn(four, "rect") == []
    four.grid(0, 0, (2, 2))
    assert len(drawn(four, "rect")) == 4


@pytest.mark.parametrize(
    ("other", "start", "end"),
    [
        (Box(200, 10, 20, 20), (30, 20), (200, 20)),
        (Box(10, 200, 20, 20), (20, 30), (20, 200)),
        (Box(60, 200, 20, 20), (20, 30), (70, 200)),
    ],
)
def test_arrows_join_the_sides_that_face_each_other(other, start, end):
    one = Box(10, 10, 20, 20)
    assert one.side(other) == start and other.side(one) == end
    diagram = Diagram()
    diagram.arrow(other, one, colour="bad")
    (head,) = drawn(diagram, "polygon")
    tip = [float(part) for part in head.get("points").split()[0].split(",")]
    assert tip == pytest.approx(start) and head.get("fill") == COLOURS["bad"]


def test_a_drawing_is_as_high_as_its_content():
    diagram = Diagram()
    diagram.text(100, 300, "low")
    view = re.search(r'viewBox="0 0 480 (\d+)"', diagram._repr_svg_())
    assert 305 < int(view[1]) < 325


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda d: d.box(0, 0, 30, 20, "much too long"), "'much too long'"),
        (lambda d: d.text(470, 20, "over the edge"), "'over the edge'"),
        (lambda d: d.box(400, 0, 100, 20), "outside of a diagram 480 wide"),
        (lambda d: d.box(0, -5, 10, 20), "outside"),
        (lambda d: d.grid(0, 0, [0.1, 0.2]), "rows and columns"),
        (lambda d: d.arrow((5, 5), (5, 5)), "two different ends"),
        (lambda d: d.span(0, 100, 0, "x", "pink"), "'pink'"),
    ],
)
def test_what_would_be_cut_off_or_is_unknown_is_refused(draw, says, refuse_input):
    refuse_input(lambda: draw(Diagram()), says)
