"""Two lines from a run to vectorbt and to quantstats, which were written by others."""

import numpy as np
import pandas as pd
import pytest
from standin.backtesters import load, vectorbt_equity

from crossattn import CrossAttentionBacktest, prepare_cross_attention_data, simulate_market


@pytest.fixture(scope="module")
def ran():
    frames = simulate_market(n_assets=4, n_steps=600, seed=2).frames
    data = prepare_cross_attention_data(frames, 8, 1, ["log_return"])
    model = lambda data: data.X[:, :, -1, 0] * 0.3  # noqa: E731
    backtest = CrossAttentionBacktest(model, 1e5, 0.001, 6, allow_short=True)
    return data, backtest, backtest.run(data)


def test_vectorbt_takes_the_positions_as_they_are(ran):
    vbt = load("vectorbt")
    data, backtest, results = ran
    prices = pd.DataFrame(data.closes[data.ends], data.timestamps, data.symbols)
    scaled = prices / prices.iloc[0]  # shares count prices that start at 1
    # the two lines
    shares = results.attrs["positions"].loc[prices.index]
    theirs = vectorbt_equity(vbt, scaled, shares, "targetamount", 0.001, "1h")
    ours = backtest.result_.equity.loc[prices.index]
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)


def test_quantstats_takes_the_returns_as_they_are(ran):
    quantstats = pytest.importorskip("quantstats")
    _, backtest, results = ran
    # the two lines
    returns = results.set_index("timestamp")["return"]
    theirs = quantstats.stats.sharpe(returns, periods=8760)
    metrics = backtest.compute_metrics(results, periods_per_year=8760)
    assert theirs == pytest.approx(metrics["sharpe_ratio"], rel=1e-9)
    assert quantstats.stats.max_drawdown(returns) == pytest.approx(metrics["max_drawdown"])
