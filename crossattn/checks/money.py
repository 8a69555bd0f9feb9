"""Checks of a Sharpe ratio loss, a backtest account and its metrics."""

from collections.abc import Callable, Iterator

import numpy as np

from crossattn.checks._stages import as_array, close, require, require_close, staged


def account_by_loop(
    prices: np.ndarray, targets: np.ndarray, rate: float, *, delay: int = 0, drift: bool = True
) -> np.ndarray:
    """Equity (T,) after each row's trades, from shares and cash: the reference of the check.

    ``prices`` and target weights are (T, N); a NaN row trades nothing. ``rate`` is the cost, a
    fraction of the traded notional; ``delay`` the rows between a target and its trade; without
    ``drift`` every row trades back to the last targets.
    """
    cash, shares, latest = 1.0, np.zeros(prices.shape[1]), None
    equity = []
    for t, price in enumerate(prices):
        row = targets[t - delay] if t >= delay else np.full(len(price), np.nan)
        latest = row if not np.isnan(row).any() else (None if drift else latest)
        if latest is not None:
            wealth = cash + shares @ price
            wanted = latest * wealth / price
            order = (wanted - shares) * price
            cash -= order.sum() + rate * np.abs(order).sum()
            shares = wanted
        equity.append(cash + shares @ price)
    return np.array(equity)


def wealth_of(returns: np.ndarray) -> np.ndarray:
    """Compounded wealth (T + 1,), from 1."""
    return np.cumprod(np.append(1.0, 1 + returns))


@staged
def check_backtest(fn: Callable) -> Iterator[str]:
    """Check ``fn(prices, targets, cost) -> equity``.

    Parameters
    ----------
    fn : callable
        Takes ``prices (T, N)`` and ``targets (T, N)`` as NumPy arrays and a cost rate. The account
        starts with 1. At a row with targets it is first valued at that row's prices, then brought
        to targets times that value, and each order pays ``cost`` times its size in cash. A NaN row
        trades nothing. Returns ``equity (T,)`` after each row's trades.

    Raises
    ------
    CheckFailedError
        Weights that earn the bar before they exist, weights a bar late, weights that never drift,
        costs that are not paid or are paid on weights instead of orders.

    Built in chapter: Backtesting
    """
    random = np.random.default_rng(51)
    prices = 100 * np.exp(random.normal(scale=0.05, size=(9, 3)).cumsum(0))
    targets = np.full((9, 3), np.nan)
    targets[0], targets[3], targets[6] = [0.5, 0.3, 0.2], [0.1, 0.2, 0.6], [-0.4, 0.9, 0.3]
    bars = prices[1:] / prices[:-1] - 1
    held = np.repeat(targets[[0, 3, 6]], 3, axis=0)
    held_before = np.concatenate([np.zeros((3, 3)), held[:-3]])

    def ask(some, cost):
        return fn(prices.copy(), some.copy(), cost)

    yield "one trade, then hold"
    only = targets.copy()
    only[1:] = np.nan
    late = account_by_loop(prices, only, 0.0, delay=1)
    slips = {
        "your account trades back to its weights in every bar, for nothing: after a trade "
        "the shares stay and the weights drift": wealth_of(bars @ only[0]),
        "your trade acts one row late: it happens at its own row's price": late,
        "returns are added up; wealth compounds": np.cumsum(np.append(1.0, bars @ only[0])),
        "cash that is not invested is lost, or the account starts at something but 1": (
            prices / prices[0] @ only[0] - 1
        ),
    }
    truth = account_by_loop(prices, only, 0.0)
    require_close(ask(only, 0.0), truth, "equity of one trade", slips)

    yield "who earns which bar"
    free = account_by_loop(prices, targets, 0.0)
    late = account_by_loop(prices, targets, 0.0, delay=1)
    fixed = account_by_loop(prices, targets, 0.0, drift=False)
    stale = wealth_of((bars * held_before[1:]).sum(1))
    slips = {
        "a weight of row t earns the return that ENDS at row t, which was known when the "
        "weight was chosen: this is the future, leaked": wealth_of((bars * held[1:]).sum(1)),
        "new weights act one row late: a trade happens at its own row's price": late,
        "a trade acts only at the next trade: the period is earned with the OLD weights": stale,
        "weights never drift: you trade back to them in every bar, for nothing": fixed,
    }
    require_close(ask(targets, 0.0), free, "equity, no costs", slips)

    yield "costs"
    truth, weights_only = account_by_loop(prices, targets, 0.01), free.copy()
    for row in (0, 3, 6):
        before = targets[row - 3] if row else np.zeros(3)
        weights_only[row:] *= 1 - 0.01 * np.abs(targets[row] - before).sum()
    slips = {
        "no cost is paid": free,
        "the first purchase is a trade too and costs money": truth
        / (1 - 0.01 * np.abs(targets[0]).sum()),
        "costs are charged on target minus the target before; the position has drifted since, "
        "and the order is the difference to what is HELD": weights_only,
        "selling costs as much as buying: take the absolute value of each order": free * 0.99,
    }
    require_close(ask(targets, 0.01), truth, "equity with costs", slips)

    yield "no trade at all"
    equity = as_array(ask(np.full((9, 3), np.nan), 0.01), "equity")
    require(close(equity, np.ones(9)), "an account without trades keeps its 1 in cash")


@staged
def check_metrics(fn: Callable) -> Iterator[str]:
    """Check ``fn(returns, periods) -> dict`` with ``sharpe_ratio`` and ``max_drawdown``.

    Raises
    ------
    CheckFailedError
        The wrong deviation, a missing annualisation, a drawdown that forgets the first bar.

    Examples
    --------
    >>> from crossattn import compute_metrics
    >>> check_metrics(lambda r, p: compute_metrics(r, periods_per_year=p))
    check_metrics: 2 stages passed

    Built in chapter: Backtesting
    """
    returns = np.array([-0.05, 0.02, 0.01, -0.01, 0.03, 0.015, -0.002])
    mean, deviation, periods = returns.mean(), returns.std(ddof=1), 365.0
    wealth = wealth_of(returns)

    def drawdown(path):
        return (path / np.maximum.accumulate(path) - 1).min()

    yield "the Sharpe ratio"
    ratio = mean / deviation
    slips = {
        "the ratio is of one bar: multiply by the root of the bars a year": ratio,
        "a ratio of mean to deviation grows with the ROOT of the number of bars": ratio * periods,
        "use the sample deviation, ddof=1": mean / returns.std() * periods**0.5,
    }
    value = fn(returns.copy(), periods)["sharpe_ratio"]
    require_close(value, ratio * periods**0.5, "sharpe_ratio", slips)

    yield "the drawdown"
    slips = {
        "a loss on the first bar is a loss: start from a wealth of 1": drawdown(wealth[1:]),
        "a drawdown is at most 0 by the convention of this course": -drawdown(wealth),
    }
    value = fn(returns.copy(), periods)["max_drawdown"]
    require_close(value, drawdown(wealth), "max_drawdown", slips)


@staged
def check_sharpe_loss(fn: Callable) -> Iterator[str]:
    """Check ``fn(positions, returns, cost=0.0) -> loss``, minus the Sharpe ratio of one bar.

    Parameters
    ----------
    fn : callable
        Takes float64 torch tensors ``positions (B, N)`` (decided at the close of bar t) and
        ``returns (B, N)`` (of bar t+1), consecutive in time, and a cost rate paid on the change of
        each position from the row before, the first row from nothing. Returns a scalar with a
        gradient: minus mean over standard deviation (ddof 1) of the portfolio's B returns.

    Raises
    ------
    CheckFailedError
        A Sharpe ratio by asset or by row, the wrong sign, a shifted return, costs, no gradient.

    Built in chapter: Portfolio heads
    """
    import torch

    random = np.random.default_rng(52)
    positions, returns = random.normal(size=(8, 3)), random.normal(0.1, 1.0, size=(8, 3))
    earned = (positions * returns).sum(axis=1)
    orders = np.abs(np.diff(positions, axis=0, prepend=np.zeros((1, 3)))).sum(axis=1)

    def ratio(x):
        return x.mean(axis=0) / x.std(axis=0, ddof=1)

    def ask(*cost):
        result = fn(torch.tensor(positions), torch.tensor(returns), *cost)
        value = as_array(result, "loss")
        require(value.shape == (), f"a loss is one number, yours has shape {value.shape}")
        return value

    yield "before costs"
    early = ratio((positions[1:] * returns[:-1]).sum(axis=1))
    slips = {
        "a loss is minimised: turn the sign": ratio(earned),
        "this is the mean of the assets' own ratios: add up the portfolio's return first, "
        "diversification lives in the sum": -ratio(positions * returns).mean(),
        "this is the mean return: it pays for risk and corners one asset": -earned.mean(),
        "use the sample deviation, ddof=1": -earned.mean() / earned.std(),
        "positions of row t are paired with the return before it: the rows already match": -early,
    }
    require_close(ask(), -ratio(earned), "the loss", slips)

    yield "after costs"
    later_orders = np.append(0.0, orders[1:])
    sizes = np.abs(positions).sum(axis=1)
    free = -ratio(earned)
    slips = {
        "costs change nothing: subtract them from the portfolio's return, bar by bar": free,
        "the first position must be bought too": -ratio(earned - 0.1 * later_orders),
        "costs are paid on changes of positions, not on their size": -ratio(earned - 0.1 * sizes),
    }
    require_close(ask(0.1), -ratio(earned - 0.1 * orders), "net loss", slips)

    yield "gradient"
    leaf = torch.tensor(positions, requires_grad=True)
    loss = fn(leaf, torch.tensor(returns))
    require(
        isinstance(loss, torch.Tensor) and loss.requires_grad,
        "no gradient flows: stay in torch, without .detach(), .item() or NumPy",
    )
    (gradient,) = torch.autograd.grad(loss, leaf)
    require(bool(gradient.abs().sum() > 0), "the gradient is zero everywhere")
