"""Explorer of attention: what it holds, how large it gets, and names that try to escape.

How it behaves in a browser is in ``tests/book``.
"""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest

from crossattn.evidence.explorer import explore_attention
from crossattn.evidence.maps import AttentionMaps

HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "$x$ & \"'\u2028"]


def some_maps(n=30, heads=2, n_assets=3, lags=4, symbols=None, seed=0):
    shares = np.random.default_rng(seed).dirichlet(np.ones(n_assets * lags), (n, heads, n_assets))
    index = pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC")
    symbols = symbols or [f"S{k}" for k in range(n_assets)]
    return AttentionMaps(shares.reshape(n, heads, n_assets, n_assets, lags), tuple(symbols), index)


def content_of(explorer):
    return json.loads(re.search(r'json">(.*?)</script>', explorer.html, re.S)[1])


def test_it_holds_the_maps():
    maps = some_maps()
    content = content_of(explore_attention(maps))
    codes = np.frombuffer(base64.b64decode(content["packed"]), np.uint8)
    shares = (codes.reshape(maps.values.shape) / 255.0) ** 2
    np.testing.assert_allclose(shares, maps.values, atol=0.004)
    assert content["size"] == [30, 2, 4]
    assert content["times"][5] == "2024-01-01 05:00"


def test_names_are_data_and_cannot_end_their_element():
    explorer = explore_attention(some_maps(symbols=HOSTILE))
    assert explorer.html.count("<script") == explorer.html.count("</script>") == 2
    assert "<img" not in explorer.html and "onerror=alert(1)>" not in explorer.html
    assert content_of(explorer)["symbols"] == HOSTILE


def test_it_asks_for_nothing_from_elsewhere():
    page = explore_attention(some_maps()).html
    addresses = set(re.findall(r"\b\w+://[^\s\"']+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "only the name of a namespace"
    assert not re.search(r"\b(src|href|import|fetch)\b|innerHTML|\bid=", page)


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        ({"n": 5000, "heads": 4, "n_assets": 5, "lags": 8}, (200, 4, 5, 5, 8)),
        ({"n": 100, "heads": 4, "n_assets": 30, "lags": 8}, (25, 1, 30, 30, 8)),
        ({"n": 40, "heads": 2, "n_assets": 60, "lags": 8}, (40, 1, 60, 60, 1)),
    ],
)
def test_large_maps_are_thinned_between_the_first_and_the_last_window(size, kept):
    maps = some_maps(**size)
    explorer = explore_attention(maps)
    assert explorer.shape == kept
    assert len(explorer.html.encode()) < 300_000
    times, stamps = content_of(explorer)["times"], maps.timestamps.strftime("%Y-%m-%d %H:%M")
    assert (len(times), times[0], times[-1]) == (kept[0], stamps[0], stamps[-1])


def test_the_same_maps_give_the_same_page_and_missing_attention_is_none():
    maps = some_maps()
    assert explore_attention(maps).html == explore_attention(some_maps()).html
    maps.values[0, 0, 0] = np.nan
    codes = base64.b64decode(content_of(explore_attention(maps))["packed"])
    assert codes[:12] == bytes(12)


def test_nothing_and_too_much_are_refused(refuse_input):
    refuse_input(lambda: explore_attention(some_maps(n=0)), "at least one window")
    values = np.zeros((1, 1, 500, 500, 1))
    wide = AttentionMaps(values, tuple(map(str, range(500))), pd.RangeIndex(1))
    refuse_input(lambda: explore_attention(wide), "500 assets")
