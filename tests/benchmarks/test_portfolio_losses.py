"""What a loss that knows the fee keeps of its gross Sharpe ratio: static market, long-short, 10 bp.

A Sharpe ratio of this size is an artefact of teaching-level predictability; the ratio of net to
gross is the result.
"""

import pandas as pd
import pytest
import torch
from benchmarks.measure import split_market

from crossattn import (
    CrossAttentionMultiAsset,
    backtest_weights,
    compute_metrics,
    predict,
    train_cross_attention_model,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FEE, SEEDS, LOSSES = 0.001, (0, 1, 2), ("mean_return", "sharpe", "sharpe_cost")


def sharpe_ratios(seed: int, loss: str) -> tuple[float, float]:
    """Gross and net Sharpe ratio of a tanh head on unseen bars, traded at every bar."""
    market, train, val, test = split_market("static", seed, lookback=48, predictability=0.05)
    model = CrossAttentionMultiAsset(
        10, 7, output_type="portfolio", allow_short=True, features=train.features, seed=seed
    )
    train_cross_attention_model(
        model, train, val, seed=seed, loss=loss, transaction_cost=FEE, device="cpu", progress=False
    )
    weights = pd.DataFrame(predict(model, test, device="cpu"), test.timestamps, test.symbols)
    prices = market.panel["close"].loc[test.timestamps, list(test.symbols)]
    account = backtest_weights(weights, prices, transaction_cost=FEE)
    return tuple(
        compute_metrics(returns, periods_per_year=8760)["sharpe_ratio"]
        for returns in (account.gross_returns, account.returns)
    )


def test_a_loss_that_knows_the_fee_keeps_more():
    torch.set_num_threads(1)
    rows = [(loss, seed, *sharpe_ratios(seed, loss)) for loss in LOSSES for seed in SEEDS]
    table = pd.DataFrame(rows, columns=["loss", "seed", "gross", "net"])
    table["kept"] = table["net"] / table["gross"]
    print("\n" + table.round(2).to_string(index=False))
    kept = table.groupby("loss")["kept"]
    assert kept.min()["sharpe_cost"] > 1 / 2
    assert kept.max()["mean_return"] < 1 / 6
