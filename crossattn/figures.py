"""Plot style and heatmaps: functions take and return Axes; colours are colour-blind-safe.

Attention is drawn on a sequential map fixed to [0, 1], signed values on a diverging map centred on
zero, so that two figures of the book can be compared by eye.
"""

from __future__ import annotations

import contextlib
import io
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# for annotations, in modules that do not wait for matplotlib
Axes: TypeAlias = "matplotlib.axes.Axes"
Figure: TypeAlias = "matplotlib.figure.Figure"

SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#555555"]

LARGE_MAP = 12  # assets; beyond them a heatmap keeps its size and its labels shrink
MAP_INCHES = 9.0
MOST_LABELS = 60
LARGEST_SVG = 250_000  # bytes; in a larger figure of a notebook long lines are an image
LONG_LINE = 100  # points


def use_style() -> None:
    """Set the plot style of the book: colours, spines, titles, SVG figures.

    One call at the top of a chapter. Figures of a notebook are then SVG; where that is large, long
    lines and areas are an image in it, and axes and letters stay text.
    """
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.cycler(color=PALETTE),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": "medium",
            "date.converter": "concise",
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (7.0, 3.6),
            "image.cmap": SEQUENTIAL,
            "legend.frameon": False,
            "svg.hashsalt": "crossattn",
        }
    )
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        from matplotlib.figure import Figure
        from matplotlib_inline import backend_inline  # noqa: F401 - sets its own formats on import

        shell.display_formatter.formatters["image/png"].pop(Figure, None)
        shell.display_formatter.mimebundle_formatter.for_type(Figure, notebook_image)


def notebook_image(figure: Figure, **_) -> tuple[dict[str, str], dict]:
    """Return a figure for a notebook and its metadata: SVG, long lines in it drawn as an image."""
    options = {"format": "svg", "metadata": {"Date": None}, "dpi": 2 * figure.dpi}
    svg = _saved(figure, **options)
    if len(svg) > LARGEST_SVG:
        for axes in figure.axes:
            long = [line for line in axes.lines if len(line.get_xdata()) > LONG_LINE]
            for artist in [*long, *axes.collections]:
                artist.set_rasterized(True)
        svg = _saved(figure, **options)
    return {"image/svg+xml": svg.decode()}, {}


def _saved(figure: Figure, **options) -> bytes:
    """Return what saving a figure, cut to its content, writes into a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight", **options)
    return buffer.getvalue()


def new_axes(ax: Axes | None, **options) -> Axes:
    """Return ``ax``, or the axes of a new figure where it is None."""
    import matplotlib.pyplot as plt

    return plt.subplots(**options)[1] if ax is None else ax


def plain(label: object) -> str:
    """Return a label that matplotlib draws as it stands, dollar signs included."""
    return str(label).replace("$", r"\$")


@contextlib.contextmanager
def any_letters() -> Iterator[None]:
    """Context manager: letters that the font lacks are boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        yield


def png_of(axes: Axes) -> bytes:
    """Return the figure of ``axes`` as a PNG without a date in it, and close the figure."""
    import matplotlib.pyplot as plt

    with any_letters():
        png = _saved(axes.figure, format="png", dpi=150, metadata={"Software": None})
    plt.close(axes.figure)
    return png


def attention_heatmap(
    attention: ArrayLike,
    queries: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    title: str = "",
    annotate: bool | None = None,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one attention map: a row is a query asset (follower), a column a key asset (leader).

    Parameters
    ----------
    attention : array-like of shape (n_queries, n_keys)
        Attention after softmax, each in [0, 1]; rows sum to 1, or to 0 where all was masked.
    queries, keys : sequence of str
        Labels of rows and columns; ``keys`` defaults to ``queries``.
    title : str
        Left-aligned title.
    annotate : bool, optional
        Print the numbers; by default where there are at most 12 columns.
    limit : float, optional
        Attention at the upper end of the colour bar: by default 1, so that maps can be compared,
        or the largest one where more than 12 keys share it.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    """
    if limit is None:
        attention = np.asarray(attention, float)
        largest = float(np.nanmax(attention, initial=0.0))
        limit = largest if attention.shape[1] > LARGE_MAP and largest > 0 else 1.0
    colours = {"cmap": SEQUENTIAL, "vmin": 0.0, "vmax": limit}
    return _heatmap(attention, queries, keys, title, annotate, ax, "attention", **colours)


def signed_heatmap(
    values: ArrayLike,
    queries: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    label: str,
    title: str = "",
    annotate: bool | None = None,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw signed values (gains, coefficients, correlations) on a map centred on zero.

    ``label`` names the quantity and its unit; ``limit`` is the value at both ends of the colour
    bar, by default the largest magnitude. The rest is as in :func:`attention_heatmap`.
    """
    if limit is None:
        finite = np.abs(np.asarray(values, float))
        limit = float(np.nanmax(finite)) if np.isfinite(finite).any() else 1.0
    colours = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}
    return _heatmap(values, queries, keys, title, annotate, ax, label, **colours)


def _heatmap(values, queries, keys, title, annotate, ax, label, **colours) -> Axes:
    import seaborn as sns

    values = np.asarray(values, float)
    keys = queries if keys is None else keys
    if annotate is None:
        annotate = values.shape[1] <= 12
    count = max(values.shape)
    side = 0.55 * count + 2.0 if count <= LARGE_MAP else MAP_INCHES
    ax = new_axes(ax, figsize=(side + 1.2, side))
    with any_letters():
        sns.heatmap(
            values,
            xticklabels=_labels(keys),
            yticklabels=_labels(queries),
            annot=np.round(values, 2) + 0.0 if annotate else False,  # no "-0.00"
            fmt=".2f",
            annot_kws={"size": 8},
            linewidths=0.5 if count <= LARGE_MAP else 0.0,
            rasterized=count > LARGE_MAP,  # without lines, cells of an SVG would show seams
            square=True,
            cbar_kws={"label": label, "shrink": 0.8},
            ax=ax,
            **colours,
        )
    ax.set(xlabel="key asset (leader)", ylabel="query asset (follower)")
    ax.set_title("\n".join(textwrap.wrap(title, int(12 * side))))
    ax.tick_params(axis="y", rotation=0)
    if count > LARGE_MAP:
        ax.tick_params(labelsize=max(5.0, min(9.0, 270 / count)))  # points: nine on 30 assets
        ax.tick_params(axis="x", rotation=90)
    return ax


def _labels(names: Sequence[str]) -> list[str]:
    """Return tick labels; of more than fit, every second, third, ... name."""
    every = -(-len(names) // MOST_LABELS)
    return ["" if k % every else plain(name) for k, name in enumerate(names)]
