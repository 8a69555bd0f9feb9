"""Typical wrong answers: the tests hand in the source of one of these in place of the solution."""

import numpy as np
import torch


def attention(query, key, value, mask=None):
    """Without the mask."""
    shares = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
    return shares @ value, shares


def multi_head(x, w_query, w_key, w_value, w_output, n_heads, mask=None):
    """Without the projection of the joined heads, and without the mask."""
    n, d = x.shape
    q, k, v = (
        (x @ w).reshape(n, n_heads, d // n_heads).transpose(0, 1) for w in (w_query, w_key, w_value)
    )
    scores = q @ k.transpose(1, 2) / (d // n_heads) ** 0.5
    shares = scores.softmax(-1)
    return (shares @ v).transpose(0, 1).reshape(n, d), shares


def lag_tokens(returns, n_lags):
    """Tokens that are one bar old."""
    tokens = np.full((*returns.shape, n_lags), np.nan)
    for k in range(n_lags):
        tokens[k + 1 :, :, k] = returns[: len(returns) - k - 1]
    return tokens


def sector_means(x, sector_of):
    """Sums in place of means."""
    return torch.nn.functional.one_hot(sector_of).to(x).T @ x


def split(n_rows, train_share, horizon):
    """Without a purge between the parts."""
    first = round(n_rows * train_share)
    return np.arange(first), np.arange(first, n_rows)


def clean(prices):
    return (prices - prices.mean()) / prices.std()


def sharpe_loss(positions, returns, cost=0.0):
    """The mean of the assets' own ratios."""
    orders = positions.diff(dim=0, prepend=torch.zeros_like(positions[:1])).abs()
    earned = positions * returns - cost * orders
    return -(earned.mean(0) / earned.std(0)).mean()


def q_values(p):
    """Bonferroni in place of false discoveries."""
    return np.minimum(np.asarray(p) * len(p), 1)


def backtest(prices, targets, cost):
    """Orders that cost nothing."""
    cash, shares, equity = 1.0, np.zeros(prices.shape[1]), []
    for price, target in zip(prices, targets, strict=True):
        if not np.isnan(target).any():
            value = cash + shares @ price
            shares = target * value / price
            cash = value - target.sum() * value
        equity.append(cash + shares @ price)
    return np.array(equity)


def metrics(returns, periods):
    """A drawdown that forgets a loss on the first bar."""
    wealth = np.cumprod(1 + returns)
    ratio = returns.mean() / returns.std(ddof=1) * periods**0.5
    return {
        "sharpe_ratio": ratio,
        "max_drawdown": (wealth / np.maximum.accumulate(wealth) - 1).min(),
    }


def forecast_variance(returns, half_life):
    """A variance that is one bar late."""
    keep, total, weight = 0.5 ** (1 / half_life), returns[0] ** 2, 1.0
    variance = [total]
    for row in returns[:-1]:
        total, weight = keep * total + row**2, keep * weight + 1
        variance.append(total / weight)
    return np.array(variance)


def qlike(variance, square):
    """Forecast over realised."""
    return variance / square - np.log(variance / square) - 1


def shares(A, S, steps):
    """Shares that depend on the order of the assets."""
    root = np.linalg.cholesky(S)
    total = sum((np.linalg.matrix_power(A, h) @ root) ** 2 for h in range(steps))
    return total / total.sum(axis=1, keepdims=True)


def total(x, steps):
    """With the matrix of coefficients turned."""
    z = np.column_stack([np.ones(len(x) - 1), x[:-1]])
    beta = np.linalg.lstsq(z, x[1:], rcond=None)[0]
    left = x[1:] - z @ beta
    table = shares(beta[1:], left.T @ left / len(left), steps)
    return 1 - np.trace(table) / len(table)


def gated(returns, volume, u, b):
    """A missing volume counts as an ordinary one."""
    gate = 2 / (1 + np.exp(-(u * np.nan_to_num(volume) + b)))
    return np.nan_to_num(returns * gate)


def record(forecast, returns, half_life):
    """Each row reads its own product."""
    keep, total, square, z = 0.5 ** (1 / half_life), 0.0, 1e-12, []
    for product in forecast * returns:
        total, square = keep * total + product, keep**2 * square + product**2
        z.append(total / np.sqrt(square))
    return np.clip(z, -4, 4)


def content(looks, moves, w):
    """Without the asset itself."""
    weight = np.exp(looks @ w)
    pulled = weight * moves
    others = weight.sum(1, keepdims=True) - weight
    return np.nan_to_num((pulled.sum(1, keepdims=True) - pulled) / others)


def ensemble_scores(members, came, size):
    """The mean of grades in place of the grade of the mean."""
    grades = np.array([r_squared(member, came) for member in members])  # noqa: F821
    return grades[: len(grades) // size * size].reshape(-1, size).mean(axis=1)


def interval(first, second):
    """By the normal law, with few seeds."""
    gap = np.asarray(first) - np.asarray(second)
    half = 1.959964 * gap.std(ddof=1) / len(gap) ** 0.5
    return gap.mean(), gap.mean() - half, gap.mean() + half


def filtered(likelihood, transition, start):
    """Smoothed in place of filtered."""
    alpha = [start * likelihood[0]]
    for row in likelihood[1:]:
        alpha.append((alpha[-1] @ transition) * row)
    beta = [np.ones(len(start))]
    for row in likelihood[:0:-1]:
        beta.append(transition @ (row * beta[-1]))
    both = np.array(alpha) * np.array(beta[::-1])
    return both / both.sum(axis=1, keepdims=True)


def folds(n, train, test, horizon, embargo, expanding):
    """Without the rows that the gap leaves out."""
    starts = range(train + horizon + embargo, n, test)
    first = [0 if expanding else start - train for start in starts]
    return [
        (np.arange(a, start), np.arange(start, min(start + test, n)))
        for a, start in zip(first, starts, strict=True)
    ]


def walk(x, y, plan, fit):
    """Scaled by all rows, those of the test included."""
    forecast, z = np.full(y.shape, np.nan), (x - x.mean(0)) / x.std(0)
    for rows, later in plan:
        forecast[later] = fit(z[rows], y[rows])(z[later])
    return forecast


def first_alarm(edge, half_life, wait):
    """One row early."""
    import pandas as pd

    mean = pd.Series(edge).ewm(halflife=half_life).mean()
    rows = np.flatnonzero((mean < 0) & (np.arange(len(edge)) >= wait))
    return int(rows[0]) if len(rows) else None
