"""Draw the README's figure: planted leaders, what was found, and a market where nobody leads.

It is written twice, with dark ink and, for dark schemes, with light ink.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from crossattn import CrossAttentionForecaster, prepare_cross_attention_data, simulate_market
from crossattn.figures import (
    attention_heatmap,
    notebook_image,
    signed_heatmap,
    use_style,
)

BOOK = Path(__file__).resolve().parent.parent / "book"
sys.path.insert(0, str(BOOK / "_ext"))

from figures import darkened  # noqa: E402

OUT = BOOK / "_static" / "readme.svg"


def fitted(scenario: str):
    """Return a market, its test windows and a forecaster that never saw them."""
    market = simulate_market(scenario, n_assets=8, predictability=0.02, seed=7)
    data = prepare_cross_attention_data(market.frames, lookback=48, horizon=1)
    train, val, test = data.split(train=0.6, val=0.1)
    return market, test, CrossAttentionForecaster(seed=7).fit(train, val)


def planted(market, symbols) -> np.ndarray:
    """Return the strength of each planted edge, follower by leader."""
    table = np.zeros((len(symbols), len(symbols)))
    for edge in market.edges.itertuples():
        table[symbols.index(edge.follower), symbols.index(edge.leader)] = edge.strength
    return table


def main() -> int:
    """Draw three panels and write the figure."""
    use_style()
    market, test, forecaster = fitted("static")
    symbols = list(test.symbols)
    figure, axes = plt.subplots(1, 3, figsize=(12.4, 3.8))
    truth = planted(market, symbols)
    signed_heatmap(
        truth, symbols, label="strength", title="planted leaders", annotate=False, ax=axes[0]
    )
    report = forecaster.lead_lag(test)
    effects, label = report.matrix().fillna(0.0), "effect (standard deviations)"
    signed_heatmap(effects, symbols, label=label, annotate=False, ax=axes[1])
    claims = report.edges.query("significant")
    rings = [
        [symbols.index(name) + 0.5 for name in claims[side]] for side in ("leader", "follower")
    ]
    axes[1].scatter(*rings, s=330, facecolors="none", edgecolors="black", linewidths=1.4)
    axes[1].set_title(f"found on unseen bars: {len(claims)} leaders")
    _, null_test, null_forecaster = fitted("null")
    null_report = null_forecaster.lead_lag(null_test)
    attention = null_forecaster.attention(null_test).mean(axis=0).sum(axis=-1)
    attention_heatmap(attention, symbols, annotate=False, ax=axes[2])
    verdict = "nobody leads" if null_report.nobody_leads else "false leaders"
    axes[2].set_title(f"attention; test: {verdict}")
    svg = notebook_image(figure)[0]["image/svg+xml"]
    OUT.write_text(svg, encoding="utf-8")
    OUT.with_suffix(".dark.svg").write_text(darkened(svg), encoding="utf-8")
    found = set(map(tuple, claims[["leader", "follower"]].to_numpy()))
    real = set(map(tuple, market.edges[["leader", "follower"]].to_numpy()))
    print(f"{OUT.name}: {len(found & real)} of {len(real)} planted, {len(found - real)} false")
    return 0


if __name__ == "__main__":
    sys.exit(main())
