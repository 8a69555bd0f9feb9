"""Interactive explorer of attention maps (HTML): assets, lags, heads and time.

Built in chapter: Attention is not explanation.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.evidence.maps import AttentionMaps

MAX_NUMBERS = 180_000
MAX_WINDOWS = 200
FEW_WINDOWS = 24


@dataclass(frozen=True)
class AttentionExplorer:
    """HTML fragment of attention maps with sliders for time, lag and head."""

    content: dict  #: as JSON can hold it: symbols, sources, times, size, packed attention

    def __post_init__(self):
        try:
            sizes = self.shape
            texts = [*self.content["symbols"], *self.content["sources"], *self.content["times"]]
            n_bytes = len(base64.b64decode(self.content["packed"], validate=True))
            fits = (
                all(isinstance(text, str) for text in texts)
                and all(isinstance(size, int) and size > 0 for size in sizes)
                and sizes[0] == len(self.content["times"])
                and n_bytes == np.prod(sizes)
            )
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise InvalidInputError("content is not that of an explorer")

    @property
    def shape(self) -> tuple[int, ...]:
        """Windows, heads, assets, sources and lags after thinning."""
        n, heads, lags = self.content["size"]
        return n, heads, len(self.content["symbols"]), len(self.content["sources"]), lags

    @property
    def html(self) -> str:
        """Style, data and script, without libraries or requests; several fit on one page."""
        data = json.dumps(self.content, separators=(",", ":"))
        for character in "<>&":  # no character of the data can end its element
            data = data.replace(character, f"\\u{ord(character):04x}")
        return (
            f"<style>{_text_of('explorer.css')}</style>\n"
            '<div class="crossattn-explorer tex2jax_ignore mathjax_ignore">'
            f'<script type="application/json">{data}</script>'
            "<p>An explorer of attention: it needs JavaScript. In JupyterLab run this cell,"
            " or choose <em>Trust Notebook</em> in the command palette (Ctrl+Shift+C)."
            f"</p></div>\n<script>{_script()}</script>"
        )

    def __repr__(self) -> str:
        n, heads, assets, _, lags = self.shape
        return f"AttentionExplorer({n} windows, {heads} heads, {assets} assets, {lags} lags)"

    def _repr_html_(self) -> str:
        return self.html


def explore_attention(maps: AttentionMaps) -> AttentionExplorer:
    """Make an interactive HTML view of attention maps, for a notebook or a static page.

    Returns
    -------
    AttentionExplorer
        At most 200 windows, evenly spread, and below 300 KB: where the maps are larger, windows
        are thinned; where fewer than 24 would be left, heads are averaged, then lags added up.

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
    if not len(maps.values):
        raise InvalidInputError("maps must hold at least one window, got none")
    values, times = _thinned(maps)
    codes = np.round(255 * np.sqrt(np.clip(np.nan_to_num(values), 0, 1))).astype(np.uint8)
    n, heads, _, _, lags = values.shape
    content = {
        "symbols": list(map(str, maps.symbols)),
        "sources": list(map(str, maps.sources)),
        "times": times,
        "size": [n, heads, lags],
        "packed": base64.b64encode(codes.tobytes()).decode(),
    }
    return AttentionExplorer(content)


def _thinned(maps: AttentionMaps) -> tuple[np.ndarray, list[str]]:
    values, limit = maps.values, MAX_NUMBERS
    wanted = min(len(values), MAX_WINDOWS, FEW_WINDOWS)
    for shrink in (lambda v: v.mean(axis=1, keepdims=True), lambda v: v.sum(axis=4, keepdims=True)):
        if wanted * values[0].size > limit:
            values = shrink(values)
    count = min(len(values), MAX_WINDOWS, limit // values[0].size)
    if not count:
        raise InvalidInputError(f"maps: {len(maps.symbols)} assets are too many for one page")
    rows = np.linspace(0, len(values) - 1, count).round().astype(int)
    dated = isinstance(maps.timestamps, pd.DatetimeIndex)
    times = maps.timestamps[rows]
    times = times.strftime("%Y-%m-%d %H:%M") if dated else [f"window {k}" for k in times]
    return values[rows], list(times)


def _text_of(name: str) -> str:
    return files("crossattn.evidence").joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    return _text_of("elements.js") + _text_of("explorer.js")


def script_digest() -> str:
    """Return the digest by which a page's Content-Security-Policy allows the explorer's script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()}"
