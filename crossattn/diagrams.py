"""Diagrams as SVG: labelled boxes, grids of numbers, arrows and time lines in the book's colours.

A diagram is as wide as a phone shows at a readable size and as high as its content. Colours carry
one meaning in the whole book: queries and followers are blue, keys, sources and leaders orange,
values and outputs green, what is fitted or decided purple, data and clocks grey. Text that would
leave the drawing or its box is refused, so that no page shows it cut off.
"""

import re
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from crossattn.errors import InvalidInputError

INK, PAPER = "#000000", "#fefefe"
COLOURS = {
    "query": "#0072B2",
    "key": "#E69F00",
    "value": "#009E73",
    "fitted": "#CC79A7",
    "data": "#808080",
    "bad": "#D55E00",
}
SIZE = 13.0  # of text, in units of a drawing that is 480 wide
WIDE = 0.56  # of one letter, per unit of size
FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
RAISED = re.compile(r"([_^])(?:\{([^}]*)\}|(\S))")  # q_i, d_{model}, K^T


class Box(NamedTuple):
    """A rectangle of a diagram; arrows start and end at the middle of its sides."""

    x: float
    y: float
    width: float
    height: float

    def side(self, other: "Box", along: str = "") -> tuple[float, float]:
        """Return the middle of the side that faces another box, along "x" or "y" where given."""
        middle_x, middle_y = self.x + self.width / 2, self.y + self.height / 2
        right, left = other.x - self.x - self.width, self.x - other.x - other.width
        below, above = other.y - self.y - self.height, self.y - other.y - other.height
        if along == "x" or (not along and max(right, left) >= max(below, above)):
            return self.x + self.width if right >= left else self.x, middle_y
        return middle_x, self.y + self.height if below >= above else self.y


class Diagram:
    """Draw boxes, grids, arrows and text; a notebook shows the result as SVG.

    Parameters
    ----------
    width : float
        Units of the drawing; a letter is 13 high. 480 is readable on a phone.

    Examples
    --------
    >>> drawing = Diagram()
    >>> token = drawing.box(10, 10, 90, 34, "token x_t", "data")
    >>> query = drawing.box(190, 10, 90, 34, "query q_i", "query")
    >>> drawing.arrow(token, query, "W_Q")
    >>> drawing._repr_svg_().startswith("<svg")
    True
    """

    def __init__(self, width: float = 480):
        self.width = float(width)
        self._height = 0.0
        self._parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        colour: str = "data",
        *,
        strength: float = 0.14,
        dashed: bool = False,
        size: float = SIZE,
    ) -> Box:
        """Draw a rounded rectangle with text in its middle and return its place.

        ``colour`` is a meaning ("query", "key", "value", "fitted", "data", "bad"); ``strength`` the
        share of the colour inside it.
        """
        self._hold(x, y, width, height)
        short = min(width, height)
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            f'rx="{min(4, short / 6):.2g}" stroke="{_colour(colour)}" '
            f'stroke-width="{min(1.5, short / 14):.2g}"{_dashes(dashed)} '
            f'fill="{_colour(colour)}" fill-opacity="{strength:g}"/>'
        )
        place = Box(x, y, width, height)
        if text:
            widest = max(map(_letters, text.split("\n"))) * WIDE * size
            if widest > width:
                raise InvalidInputError(
                    f"text: {text!r} needs about {widest:.0f} units, its box has {width:g}; "
                    "widen the box or break the text into lines"
                )
            self.text(x + width / 2, y + height / 2, text, size=size)
        return place

    def grid(
        self,
        x: float,
        y: float,
        values,
        colour: str = "data",
        *,
        cell: float = 20,
        label: str = "",
        show: bool = False,
    ) -> Box:
        """Draw an array (rows, columns) as cells, the larger the darker, and return its place.

        ``values`` is an array in [0, 1], or its shape as a tuple for equal cells; NaN leaves
        a cell empty. ``label`` stands above; ``show`` prints the numbers.
        """
        shades = np.full(values, 0.3) if isinstance(values, tuple) else np.asarray(values, float)
        if shades.ndim != 2:
            raise InvalidInputError(f"values: expected rows and columns, got shape {shades.shape}")
        rows, columns = shades.shape
        for (row, column), shade in np.ndenumerate(shades):
            known = np.isfinite(shade)
            self.box(
                x + column * cell,
                y + row * cell,
                cell,
                cell,
                f"{shade:.2f}".lstrip("0") if show and known else "",
                colour if known else "data",
                strength=0.55 * min(max(float(shade), 0.0), 1.0) if known else 0.0,
                size=min(SIZE, 0.42 * cell),
            )
        if label:
            self.text(x + columns * cell / 2, y - 11, label)
        return Box(x, y, columns * cell, rows * cell)

    def arrow(
        self,
        start: Box | tuple[float, float],
        end: Box | tuple[float, float],
        text: str = "",
        colour: str = "",
        *,
        dashed: bool = False,
        head: bool = True,
        width: float = 1.5,
        along: str = "",
    ) -> None:
        """Draw an arrow between two boxes or points, with text on its middle.

        It joins the sides that face each other: left and right with ``along="x"``, bottom and top
        with "y", whichever are farther apart by default.
        """
        ends = [Box(*end, 0, 0) if len(end) == 2 else end for end in (start, end)]
        (x0, y0), (x1, y1) = ends[0].side(ends[1], along), ends[1].side(ends[0], along)
        length = float(np.hypot(x1 - x0, y1 - y0))
        if length == 0:
            raise InvalidInputError("end: an arrow needs two different ends")
        self._hold(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        tip = 8.0 if head else 0.0
        paint = _colour(colour) if colour else INK
        self._parts.append(
            f'<path d="M{x0:g} {y0:g}L{x1 - tip * dx:.4g} {y1 - tip * dy:.4g}" fill="none" '
            f'stroke="{paint}" stroke-width="{width:g}"{_dashes(dashed)}/>'
        )
        if head:
            back = [(x1 - 9 * dx - turn * dy, y1 - 9 * dy + turn * dx) for turn in (4.0, -4.0)]
            corners = [(x1, y1), *back]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
            self._parts.append(f'<polygon points="{points}" fill="{paint}"/>')
        if text:
            self.text((x0 + x1) / 2, (y0 + y1) / 2, text, halo=True)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = SIZE,
        anchor: str = "middle",
        bold: bool = False,
        halo: bool = False,
    ) -> None:
        """Write text around a point: ``q_i`` lowers, ``K^T`` raises, a line break starts a line.

        ``anchor`` is "start", "middle" or "end": which part of a line stands at ``x``; ``halo``
        keeps what is behind the text away from it.
        """
        lines = text.split("\n")
        for number, line in enumerate(lines):
            wide = _letters(line) * WIDE * size
            left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
            middle = y + (number - (len(lines) - 1) / 2) * 1.3 * size
            self._hold(left, middle - 0.7 * size, wide, 1.4 * size, line)
            style = ' font-weight="600"' if bold else ""
            style += f' stroke="{PAPER}" stroke-width="7" paint-order="stroke"' if halo else ""
            self._parts.append(
                f'<text x="{x:g}" y="{middle + 0.35 * size:.4g}" font-size="{size:g}" '
                f'text-anchor="{anchor}"{style}>{_raised(line, size)}</text>'
            )

    def span(self, start: float, end: float, y: float, text: str, colour: str = "data") -> None:
        """Draw a bar of time from ``start`` to ``end`` at height ``y``, its name inside it."""
        self.box(start, y, end - start, 24, text, colour, strength=0.3)

    def _hold(self, x, y, width, height, text: str = "") -> None:
        """Grow to hold a rectangle; refuse one that leaves the drawing."""
        if x < 0 or y < 0 or x + width > self.width + 1e-9:
            what = f"text {text!r}" if text else "part"
            raise InvalidInputError(
                f"{what} spans {x:.0f} to {x + width:.0f} at height {y:.0f}, outside of a diagram "
                f"{self.width:g} wide; move it or make it shorter"
            )
        self._height = max(self._height, y + height)

    def _repr_svg_(self) -> str:
        """Return the drawing as SVG."""
        height = np.ceil(self._height + 6)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {height:g}" '
            f'width="{1.35 * self.width:g}" height="{1.35 * height:g}" font-family="{FONT}">'
            f"{''.join(self._parts)}</svg>"
        )


def _colour(name: str) -> str:
    """Return the colour of a meaning."""
    if name not in COLOURS:
        raise InvalidInputError(f"colour: expected one of {', '.join(COLOURS)}, got {name!r}")
    return COLOURS[name]


def _dashes(dashed: bool) -> str:
    return ' stroke-dasharray="4 3"' if dashed else ""


def _letters(line: str) -> int:
    """Return how many letters of a line are seen."""
    return len(RAISED.sub(lambda found: found[2] or found[3], line))


def _raised(line: str, size: float) -> str:
    """Return a line as SVG text, with its subscripts and superscripts."""
    down = 0.28 * size
    written, end = "", 0
    for found in RAISED.finditer(line):
        shift = down if found[1] == "_" else -1.4 * down
        written += escape(line[end : found.start()])
        written += (
            f'<tspan dy="{shift:.3g}" font-size="{0.72 * size:.3g}">'
            f"{escape(found[2] or found[3])}</tspan>"
            f'<tspan dy="{-shift:.3g}">\u200b</tspan>'
        )
        end = found.end()
    return written + escape(line[end:])
