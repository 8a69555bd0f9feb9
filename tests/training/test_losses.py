"""Every loss against arithmetic by hand or another library."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata

from crossattn.model.batch import Batch
from crossattn.training.losses import (
    cross_entropy_loss,
    huber_loss,
    ic_loss,
    mean_return_loss,
    mean_variance_loss,
    mse_loss,
    portfolio_path,
    quantile_loss,
    rank_loss,
    resolve_loss,
    sharpe_cost_loss,
    sharpe_loss,
)

B, N = 6, 4
QUANTILES = (0.1, 0.5, 0.9)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    target = 0.01 * rng.standard_normal((B, N))
    target[1, 2] = np.nan
    noise = 0.01 * np.exp(0.3 * rng.standard_normal((B, N)))
    forecast = 0.005 * rng.standard_normal((B, N))
    following = 0.01 * rng.standard_normal((B, N))
    following[3, 1] = np.nan
    label = rng.integers(-1, 3, (B, N))
    return {
        "target": target,
        "noise": noise,
        "forecast": forecast,
        "next_return": following,
        "label": label,
    }


def batch_of(arrays, **options):
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items() if k != "forecast"}
    return Batch(**tensors, quantiles=QUANTILES, **options)


def test_squared_and_huber_errors(arrays):
    forecast = torch.from_numpy(arrays["forecast"])
    clipped = np.clip(arrays["target"] / arrays["noise"], -1.5, 1.5)
    error = arrays["forecast"] / arrays["noise"] - clipped
    batch = batch_of(arrays, clip=1.5)
    assert mse_loss(forecast, batch).item() == pytest.approx(np.nanmean(error**2), abs=1e-12)
    reference = torch.nn.functional.huber_loss(
        torch.from_numpy(error[~np.isnan(error)]), torch.zeros(B * N - 1, dtype=torch.float64)
    )
    assert huber_loss(forecast, batch).item() == pytest.approx(reference.item(), abs=1e-12)


def test_cross_entropy_skips_unknown_labels(arrays):
    logits = torch.randn(B, N, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    known = arrays["label"] >= 0
    chance = logits.log_softmax(-1).numpy()[known]
    expected = -chance[np.arange(known.sum()), arrays["label"][known]].mean()
    assert cross_entropy_loss(logits, batch_of(arrays)).item() == pytest.approx(expected)


def test_information_coefficient(arrays):
    known = ~np.isnan(arrays["target"])
    ratio = (arrays["forecast"] / arrays["noise"])[known]
    fact = (arrays["target"] / arrays["noise"])[known]
    loss = ic_loss(torch.from_numpy(arrays["forecast"]), batch_of(arrays))
    assert loss.item() == pytest.approx(-pearsonr(ratio, fact).statistic, abs=1e-6)


def test_rank_loss_correlates_with_ranks_across_assets(arrays):
    expected = []
    for forecast, target, noise in zip(
        arrays["forecast"], arrays["target"], arrays["noise"], strict=True
    ):
        known = ~np.isnan(target)
        ratio = (forecast / noise)[known]
        expected.append(pearsonr(ratio, rankdata((target / noise)[known])).statistic)
    loss = rank_loss(torch.from_numpy(arrays["forecast"]), batch_of(arrays))
    assert loss.item() == pytest.approx(-np.mean(expected), abs=1e-6)


def test_pinball_loss_agrees_with_scikit_learn(arrays):
    from sklearn.metrics import mean_pinball_loss

    quantiles = np.sort(0.01 * np.random.default_rng(2).standard_normal((B, N, 3)), axis=-1)
    known = ~np.isnan(arrays["target"])
    ratio = (arrays["target"] / arrays["noise"])[known]
    guess = (quantiles / arrays["noise"][..., None])[known]
    expected = np.mean(
        [mean_pinball_loss(ratio, guess[:, k], alpha=q) for k, q in enumerate(QUANTILES)]
    )
    loss = quantile_loss(torch.from_numpy(quantiles), batch_of(arrays))
    assert loss.item() == pytest.approx(expected)


def path_by_hand(positions, following, cost):
    """Follow one unit of wealth through bars, share by share."""
    net, turnover, held = [], [], None
    for weights, returns in zip(positions, np.nan_to_num(following), strict=True):
        traded = 0.0 if held is None else np.abs(weights - held).sum()
        gain = (weights * returns).sum()
        net.append(gain - cost * traded)
        turnover.append(traded)
        held = weights * (1 + returns) / (1 + gain)
    return np.array(net), np.array(turnover)


def test_the_portfolio_path_drifts_and_pays(arrays):
    positions = np.random.default_rng(4).uniform(-0.3, 0.3, (B, N))
    batch = batch_of(arrays, transaction_cost=0.002, risk_aversion=3.0, concentration=0.5)
    net, turnover = path_by_hand(positions, arrays["next_return"], 0.002)
    gross, traded = portfolio_path(torch.from_numpy(positions), batch)
    np.testing.assert_allclose(traded, turnover, atol=1e-12)
    np.testing.assert_allclose(gross.numpy() - 0.002 * turnover, net, atol=1e-12)
    held = torch.from_numpy(positions)
    sharpe = net.mean() / net.std(ddof=1)
    assert sharpe_cost_loss(held, batch).item() == pytest.approx(-sharpe, rel=1e-4)
    plain = gross.numpy()
    expected = -plain.mean() / plain.std(ddof=1)
    assert sharpe_loss(held, batch).item() == pytest.approx(expected, rel=1e-4)
    unit = arrays["noise"].mean()
    assert mean_return_loss(held, batch).item() == pytest.approx(-plain.mean() / unit)
    crowding = 0.5 * (positions**2).sum(1).mean()
    expected = -net.mean() / unit + 1.5 * net.var(ddof=1) / unit + crowding
    assert mean_variance_loss(held, batch).item() == pytest.approx(expected)
    one = batch.take(torch.tensor([0]))  # the last batch of an epoch may be one bar: no variance
    assert mean_variance_loss(held[:1], one).isfinite()


def test_losses_suit_their_outputs(refuse_input):
    assert resolve_loss("", "regression") is mse_loss
    assert resolve_loss("huber", "regression") is huber_loss
    refuse_input(lambda: resolve_loss("mse", "portfolio"), "portfolio")
    refuse_input(lambda: resolve_loss("sharpe", "regression"), "regression")
