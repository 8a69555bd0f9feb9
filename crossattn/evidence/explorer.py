"""Interactive explorer of attention maps (HTML): assets, lags, heads and time.

Built in chapter: Attention is not explanation.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd

from crossattn._validation import check_int
from crossattn.errors import InvalidInputError
from crossattn.evidence.maps import AttentionMaps

MAX_NUMBERS = 180_000
FEW_WINDOWS = 24


@dataclass(frozen=True)
class AttentionExplorer:
    """HTML fragment of attention maps with sliders for time, lag and head.

    Attributes
    ----------
    html : str
        Style, data and script, without libraries or requests; several fit on one page.
    shape : tuple of int
        Windows, heads, assets, assets and lags after thinning.
    """

    html: str
    shape: tuple[int, ...]

    def __repr__(self) -> str:
        n, heads, assets, _, lags = self.shape
        return f"AttentionExplorer({n} windows, {heads} heads, {assets} assets, {lags} lags)"

    def _repr_html_(self) -> str:
        return self.html


def explore_attention(maps: AttentionMaps, *, max_windows: int = 200) -> AttentionExplorer:
    """Make an interactive HTML view of attention maps, for a notebook or a static page.

    Parameters
    ----------
    maps : AttentionMaps
    max_windows : int
        Largest number of windows, evenly spread from the first to the last.

    Returns
    -------
    AttentionExplorer
        Below 300 KB: where the maps are larger, windows are thinned; where fewer than 24 would
        be left, heads are averaged, then lags added up.

    Raises
    ------
    InvalidInputError
        ``max_windows`` is below 1, there is no map, or one map alone is too large (above 424
        assets).

    Notes
    -----
    A share is stored as a byte of its square root: off by at most .004, and by less than .0005
    where it is below .01. Missing attention counts as 0. Symbol names are untrusted and are
    written as text.

    Examples
    --------
    >>> values = np.full((500, 4, 3, 3, 8), 1 / 24)
    >>> maps = AttentionMaps(values, ("A", "B", "C"), pd.RangeIndex(500))
    >>> explorer = explore_attention(maps)
    >>> explorer
    AttentionExplorer(200 windows, 4 heads, 3 assets, 8 lags)
    >>> len(explorer.html) < 300_000
    True
    """
    check_int("max_windows", max_windows)
    if not len(maps.values):
        raise InvalidInputError("maps must hold at least one window, got none")
    values, times = _thinned(maps, max_windows)
    codes = np.round(255 * np.sqrt(np.clip(np.nan_to_num(values), 0, 1))).astype(np.uint8)
    n, heads, _, _, lags = values.shape
    content = {
        "symbols": list(map(str, maps.symbols)),
        "times": times,
        "size": [n, heads, lags],
        "packed": base64.b64encode(codes.tobytes()).decode(),
    }
    return AttentionExplorer(_fragment(content), values.shape)


def _thinned(maps: AttentionMaps, max_windows: int) -> tuple[np.ndarray, list[str]]:
    values, limit = maps.values, MAX_NUMBERS
    wanted = min(len(values), max_windows, FEW_WINDOWS)
    for shrink in (lambda v: v.mean(axis=1, keepdims=True), lambda v: v.sum(axis=4, keepdims=True)):
        if wanted * values[0].size > limit:
            values = shrink(values)
    count = min(len(values), max_windows, limit // values[0].size)
    if not count:
        raise InvalidInputError(
            f"maps: {len(maps.symbols)} assets are too many for one page; show fewer"
        )
    rows = np.linspace(0, len(values) - 1, count).round().astype(int)
    return values[rows], [_time_label(t) for t in maps.timestamps[rows]]


def _time_label(time) -> str:
    if isinstance(time, pd.Timestamp):
        return time.strftime("%Y-%m-%d %H:%M")
    return f"window {time}"


def _fragment(content: dict) -> str:
    """Return style, data and script; no character of the data can end its element."""
    data = json.dumps(content, separators=(",", ":"))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    folder = files("crossattn.evidence")
    style = folder.joinpath("explorer.css").read_text(encoding="utf-8")
    script = folder.joinpath("explorer.js").read_text(encoding="utf-8")
    return (
        f"<style>{style}</style>\n"
        '<div class="crossattn-explorer tex2jax_ignore mathjax_ignore">'
        f'<script type="application/json">{data}</script>'
        "<p>An explorer of attention: it needs JavaScript. In JupyterLab run this cell,"
        " or choose <em>Trust Notebook</em> in the command palette (Ctrl+Shift+C)."
        f"</p></div>\n<script>{script}</script>"
    )
