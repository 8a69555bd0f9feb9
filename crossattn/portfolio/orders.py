"""Orders of a live account: from target weights and holdings to shares, as a backtest trades.

Built in chapter: From paper to practice.
"""

import numpy as np
import pandas as pd

from crossattn._validation import check_float, check_type
from crossattn.data.frame import check_numbers
from crossattn.errors import InvalidInputError
from crossattn.portfolio._account import AFTER_COST, TRADE, BacktestInputs, trade_to_targets
from crossattn.portfolio.strategy import scale_to_free_weight


def rebalancing_orders(
    weights: pd.Series,
    prices: pd.Series,
    holdings: pd.Series | None = None,
    *,
    equity: float,
    transaction_cost: float = 0.001,
    no_trade_band: float = 0.0,
) -> pd.DataFrame:
    """Orders that bring an account from its holdings to target weights, costs included.

    The arithmetic is that of :func:`crossattn.backtest_weights`: a target is a fraction of what is
    left after the costs of these very orders.

    Parameters
    ----------
    weights : Series of shape (n_assets,)
        Target weights by symbol; NaN sends no order. Where such assets hold weight, the others are
        scaled down to a gross weight of 1.
    prices : Series of shape (n_assets,)
        Newest close by symbol; NaN only where there is neither an order nor a holding.
    holdings : Series, optional
        Shares by symbol, negative for shorts; symbols that are left out hold none.
    equity : float
        Value of the account at these prices, cash included.
    transaction_cost : float
        Fraction of traded notional.
    no_trade_band : float
        Distance in weight below which an asset is left as it is.

    Returns
    -------
    DataFrame
        A row an order: ``symbol``, ``shares`` (signed), ``price``, ``value`` (signed money) and
        ``cost`` (money).

    Examples
    --------
    >>> target = pd.Series({"BTC": 0.5, "ETH": 0.25})
    >>> price = pd.Series({"BTC": 100.0, "ETH": 10.0})
    >>> orders = rebalancing_orders(target, price, equity=1000.0, transaction_cost=0.0)
    >>> orders[["symbol", "shares", "value"]].to_dict("list")
    {'symbol': ['BTC', 'ETH'], 'shares': [5.0, 25.0], 'value': [500.0, 250.0]}
    """
    equity = check_float("equity", equity, above=0)
    rate = check_float("transaction_cost", transaction_cost, at_least=0, below=1)
    band = check_float("no_trade_band", no_trade_band, at_least=0)
    holdings = pd.Series(dtype=float) if holdings is None else holdings
    target = _by_symbol("weights", weights, weights)
    price = _by_symbol("prices", prices, weights)
    shares = np.nan_to_num(_by_symbol("holdings", holdings, weights))
    wanting = np.isnan(price) & (np.isfinite(target) | (shares != 0))
    if (wrong := (price <= 0) | wanting).any():
        k = int(wrong.argmax())
        raise InvalidInputError(
            f"prices must be positive for what is held or ordered, got {price[k]} for "
            f"{weights.index[k]!r}"
        )
    marks = np.nan_to_num(price)
    cash = equity - float(shares @ marks)
    target = scale_to_free_weight(target[None].copy(), shares * marks / equity)[0]
    trades = np.empty(len(target), TRADE)
    inputs = BacktestInputs(
        marks=marks[:, None],
        tradable=np.isfinite(target)[:, None],
        delisted_at=np.ones(len(target), np.int64),
        decision_at=np.zeros(1, np.int64),
        targets=target[None],
        years=np.zeros(1),
        funding=np.empty((len(target), 0)),
        impact=np.empty((len(target), 0)),
        capital=equity,
        rate=rate,
        band=band,
        sizing=AFTER_COST,
    )
    count = trade_to_targets(inputs, 0, equity, cash, shares.copy(), target, trades, 0)[-1]
    made = trades[:count]
    place = made["column"]
    orders = pd.DataFrame({"symbol": weights.index[place], "shares": made["shares"]})
    orders["price"] = marks[place]
    return orders.assign(value=orders["shares"] * orders["price"], cost=made["cost"])


def _by_symbol(name: str, given: pd.Series, weights: pd.Series) -> np.ndarray:
    """Return the numbers of a series in the order of the weights' symbols; NaN where left out."""
    check_type(name, given, pd.Series, "a Series by symbol")
    if given.index.has_duplicates:
        twice = given.index[given.index.duplicated()][0]
        raise InvalidInputError(f"{name} must name each symbol once, got {twice!r} twice")
    if len(unknown := given.index.difference(weights.index)):
        known = ", ".join(map(str, weights.index))
        raise InvalidInputError(f"{name} hold {unknown[0]!r}, which has no weight ({known})")
    values = check_numbers(name, given.reindex(weights.index))
    if np.isinf(values).any():
        raise InvalidInputError(f"{name} must be finite, got an infinite one")
    return values
