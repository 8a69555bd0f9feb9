"""``{explainer}``: live explorers in the page, and the small trained forecasters that they run.

The build trains one forecaster per market (seconds), writes its weights and the bars that play as
``_static/explainer/markets.js``, and keeps that file by the state of the package. The forward pass
in the page, ``book/_static/explainer/forecaster.js``, is compared to the package by the tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from offline import package_digest
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FEATURES = ("log_return", "relative_volume")
SIZE = {"n_assets": 4, "n_steps": 20_000, "predictability": 0.04, "seed": 3}
MAX_LAG = 7
PLAYED, BEFORE = 300, 32  # bars that play, and bars before them that the tokens look back on
MARKETS = {
    "static": "Fixed leaders",
    "switching": "The leader changes",
    "null": "Nobody leads",
}
SHARED = ("elements.js", "widgets.js")  # the first is the package's own
SCRIPTS = {
    "forecaster": ("markets.js", "forecaster.js", *SHARED, "ownbars.js", "explainer.js"),
    "qkv": (*SHARED, "qkv.js"),
    "leaks": (*SHARED, "leaks.js"),
    "costs": ("markets.js", "forecaster.js", *SHARED, "costs.js"),
}
WAITING = {
    "forecaster": "A forecaster plays a simulated market bar by bar: which source and lag each "
    "follower attends to, what every token contributes, and the forecast. It needs JavaScript.",
    "qkv": "One query and four keys in the plane, with scores, softmax and output as they are dragged. "
    "It needs JavaScript.",
    "leaks": "Forty returns and six features of them: change a return, and see which feature of an "
    "earlier bar moves. It needs JavaScript.",
    "costs": "The equity curve of a forecaster, with sliders for fee, rebalancing, delay and a no-trade "
    "band. It needs JavaScript.",
}


def trained_market(scenario: str) -> tuple:
    """Return a market, a forecaster fitted on its first three quarters, and the test windows."""
    from crossattn import (
        CrossAttentionForecaster,
        prepare_cross_attention_data,
        simulate_market,
    )

    market = simulate_market(scenario, **SIZE)
    data = prepare_cross_attention_data(market.frames, lookback=24, horizon=1, features=FEATURES)
    train, val, test = data.split(train=0.6, val=0.15)
    forecaster = CrossAttentionForecaster(MAX_LAG, n_models=1, varying=False, device="cpu")
    return market, forecaster.fit(train, val), train, val, test


def export_market(scenario: str) -> dict:
    """Return everything that the page needs of one market: weights, bars, truth and verdict."""
    market, forecaster, train, val, test = trained_market(scenario)
    rows = np.arange(test.ends[0] - BEFORE, test.ends[0] + PLAYED)
    volume = np.log([market.frames[symbol]["volume"] for symbol in market.frames]).T  # (T, N)
    report = forecaster.lead_lag(test)
    place = {symbol: k for k, symbol in enumerate(market.frames)}
    named = report.edges[report.edges["significant"]]
    return {
        "title": MARKETS[scenario],
        "symbols": list("ABCD"),
        "model": weights_of(forecaster, train, val),
        "returns": packed(test.panel[rows, :, 0]),
        "logVolume": packed(volume[rows]),
        "before": BEFORE,
        "start": state_before(market, volume, int(rows[0])),
        "oracle": packed(market.oracle[rows]),
        "leaders": market.leaders[rows].tolist(),
        "verdict": report.verdict,
        "named": [
            [place[j], place[i]]
            for j, i in zip(*named[["leader", "follower"]].to_numpy().T, strict=True)
        ],
        "edges": [
            [place[edge.leader], place[edge.follower], edge.lag]
            for edge in market.edges.itertuples()
        ],
        "moving": scenario == "switching",
    }


def weights_of(forecaster, train, val) -> dict:
    """Return the weights of a forecaster's static and content parts."""
    from crossattn.tokens.content import ContentPart

    series = forecaster._tokenizer.series(val)
    index, content = series.index, forecaster._mixture.content
    if content is None:  # not in the mix: what it attends to is shown all the same
        content = ContentPart.fit(
            series, train.ends, val.ends, n_members=1, n_lags=MAX_LAG + 1, seed=0, device="cpu"
        )
    tokens = [[] for _ in forecaster.symbols_]
    for i, row in enumerate(tokens):
        for k, beta in zip(*forecaster._mixture.static.row(i), strict=True):
            channel, centre = index.channels[index.channel[k]], forecaster._mixture.centre[k]
            numbers = map(float, (channel.decay, beta, centre))
            row.append([channel.name, int(index.source[k]), int(index.lag[k]), *numbers])
    heads = {
        name: value.detach().double().numpy().tolist()
        for name, value in content.heads.named_parameters()
    }
    return {
        "lags": MAX_LAG + 1,
        "drift": forecaster.drift_.tolist(),
        "offset": forecaster._mixture.static.offset.tolist(),
        "tokens": tokens,
        "volumeCentre": forecaster._tokenizer.centre["relative_volume"].tolist(),
        "volumeSpread": forecaster._tokenizer.spread["relative_volume"].tolist(),
        "usual": forecaster._tokenizer.spread["log_return"].tolist(),
        "mix": {name: float(w) for name, w in forecaster.weights_.items() if w > 0},
        "contentWeight": float(forecaster.weights_.get("content", 0.0)),
        "scale": content.scale.tolist(),
        "centre": content.centre.tolist(),
        "spread": content.spread.tolist(),
        "heads": heads,
    }


def state_before(market, volume: np.ndarray, row: int) -> dict:
    """Return what the exponentially weighted means hold before a row."""
    import pandas as pd

    from crossattn.features.indicators import VOLUME_HALF_LIFE
    from crossattn.tokens.channels import SLOW_HALF_LIVES, VOLATILITY_HALF_LIFE

    past = pd.DataFrame(volume[:row])
    closes = market.panel["close"].to_numpy()
    returns = np.diff(np.log(closes), axis=0, prepend=np.nan)
    squares = pd.DataFrame(returns[:row] ** 2)
    distance = {}
    for half_life in SLOW_HALF_LIVES:
        decay = 0.5 ** (1.0 / half_life)
        weight = decay ** np.arange(row - 1, -1, -1.0)
        distance[repr(float(decay))] = (decay * weight @ np.nan_to_num(returns[:row])).tolist()
    return {
        "meanLogVolume": past.ewm(halflife=VOLUME_HALF_LIFE).mean().iloc[-1].tolist(),
        "volumeDecay": 0.5 ** (1.0 / VOLUME_HALF_LIFE),
        "distance": distance,
        "variance": squares.ewm(halflife=VOLATILITY_HALF_LIFE).mean().iloc[-1].tolist(),
        "varianceDecay": 0.5 ** (1.0 / VOLATILITY_HALF_LIFE),
    }


def packed(values: np.ndarray) -> str:
    """Return an array of rows as base64 of 32-bit floats."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def markets_script(root: Path) -> Path:
    """Return the file of all markets, made once per state of the package."""
    made_by = hashlib.sha256((root / "book" / "_ext" / "explainer.py").read_bytes()).hexdigest()
    path = root / "_build" / ".explainer" / f"{package_digest(root)}-{made_by[:8]}.js"
    if not path.exists():
        markets = {scenario: export_market(scenario) for scenario in MARKETS}
        text = json.dumps(markets, separators=(",", ":")).replace("<", "\\u003c")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"window.crossattnMarkets = {text};\n", encoding="utf-8")
    return path


class Explainer(SphinxDirective):
    """An explorer, by name; what it shows is said in words until its script runs."""

    required_arguments = 1
    option_spec: ClassVar = {"compact": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return one raw node: the explorer's element, style and scripts."""
        (name,) = self.arguments
        if name not in SCRIPTS:
            raise self.error(f"explainer must be one of {', '.join(SCRIPTS)}, got {name!r}")
        static = "../" * self.env.docname.count("/") + "_static/explainer/"
        scripts = "".join(f'<script defer src="{static}{file}"></script>' for file in SCRIPTS[name])
        compact = " data-compact" if "compact" in self.options else ""
        html = (
            f'<link rel="stylesheet" href="{static}explainer.css">'
            f'<div class="ca-explorer tex2jax_ignore mathjax_ignore" data-explorer="{name}"'
            f"{compact}><p>{WAITING[name]}</p></div>{scripts}"
        )
        return [nodes.raw("", html, format="html")]


def write_scripts(app: Sphinx, error: Exception | None) -> None:
    """Copy the file of all markets and the package's helpers into the build."""
    if error is None and app.builder.format == "html":
        root, target = Path(app.srcdir), Path(app.outdir) / "_static" / "explainer"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(markets_script(root), target / "markets.js")
        shutil.copyfile(
            root / "crossattn" / "evidence" / "elements.js", target / "elements.js"
        )


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("explainer", Explainer)
    app.connect("build-finished", write_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
