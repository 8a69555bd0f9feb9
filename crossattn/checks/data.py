"""Checks of features and splits: no look-ahead, no shared bar."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from crossattn.checks._stages import as_array, require, require_close, staged


def _bars() -> pd.DataFrame:
    times = pd.date_range("2024-01-01 01:00", periods=160, freq="h", tz="UTC", name="close_time")
    moves = np.random.default_rng(41).normal(scale=0.01, size=(160, 3))
    return pd.DataFrame(100 * np.exp(moves.cumsum(0)), index=times, columns=["A", "B", "C"])


def _moved_rows(fn: Callable, prices: pd.DataFrame, cut: int) -> np.ndarray:
    """Return the rows up to ``cut`` whose features change when only later prices change."""
    changed = prices.copy()
    random = np.random.default_rng(42)
    future = changed.iloc[cut + 1 :]
    changed.iloc[cut + 1 :] = future * np.exp(random.normal(scale=0.3, size=future.shape))
    before = pd.DataFrame(fn(prices.copy())).iloc[: cut + 1].to_numpy(float)
    after = pd.DataFrame(fn(changed)).iloc[: cut + 1].to_numpy(float)
    same = np.isclose(before, after, rtol=1e-9, atol=1e-12, equal_nan=True)
    return np.flatnonzero(~same.all(axis=1))


@staged
def check_features(fn: Callable) -> Iterator[str]:
    """Check that ``fn(prices)`` computes features that know nothing of the future.

    Parameters
    ----------
    fn : callable
        Takes wide closing prices ``(T, N)``, index close times; returns a table with the same
        index, a row of which may use the prices up to that row and no others.

    Raises
    ------
    CheckFailedError
        Index changed; features that read the next bars; a statistic of the whole sample; warm-up
        filled from behind; the argument changed in place.

    Examples
    --------
    >>> check_features(lambda prices: prices.pct_change())
    check_features: 4 stages passed

    Built in chapter: Features without look-ahead
    """
    prices = _bars()
    steps, cut = len(prices), 110

    yield "the index"
    result = pd.DataFrame(fn(prices.copy()))
    require(
        result.index.equals(prices.index),
        "the result must have the index of the prices, row for row: NaN rows stay in place "
        f"(you have {len(result)} rows of {steps})",
    )

    yield "the argument is left alone"
    mine = prices.copy()
    fn(mine)
    require(mine.equals(prices), "your function changes the prices it is given: copy first")

    yield "no future"
    rows = _moved_rows(fn, prices, cut)
    require(
        len(rows) <= cut // 2,
        f"{len(rows)} rows of {cut + 1} change when only later prices change: a mean, deviation, "
        "rank or fit over the whole sample. Use expanding or rolling windows, or fit on the "
        "training part",
    )
    require(
        not len(rows),
        f"the {len(rows)} rows before a change of later prices move too: something reaches "
        f"{cut - min(rows, default=cut) + 1} bar(s) ahead (shift(-k), a centred window, or filling "
        "backwards)",
    )

    yield "no future across a gap"
    holed = prices.copy()
    holed.iloc[60:66, 1] = np.nan
    rows = _moved_rows(lambda p: fn(p.where(holed.notna())), prices, 63)
    require(
        not len(rows),
        "where bars are missing your features are filled from later ones (bfill or "
        "interpolate): a gap stays NaN until the next bar is known",
    )


@staged
def check_split(fn: Callable) -> Iterator[str]:
    """Check ``fn(n_rows, train_share, horizon) -> (train, test)``, two integer index arrays.

    Row t has a target that covers bars t+1 .. t+horizon. No bar of a training target may be a test
    row, so the ``horizon`` rows before the first test row belong to neither part, as in
    :meth:`crossattn.CrossAttentionData.split`.

    Raises
    ------
    CheckFailedError
        Shuffled rows, a test part before the training part, targets that overlap, rows thrown away.

    Built in chapter: Windows, splits and leaks
    """
    rows, share, horizon = 50, 0.6, 4

    def ask(h=horizon):
        result = fn(rows, share, h)
        require(isinstance(result, tuple) and len(result) == 2, "return the pair (train, test)")
        return [as_array(part, name) for part, name in zip(result, ["train", "test"], strict=True)]

    yield "time order"
    train, test = ask()
    ordered = (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    require(
        ordered and train.max() < test.min(),
        "rows must stay in time order, training before test: shuffled rows put tomorrow into "
        "the training part",
    )

    yield "purge"
    last = int(train.max()) + horizon
    require(
        last < test.min(),
        f"the last training target covers bars up to {last}, and the first test row is "
        f"{int(test.min())}: drop the training rows whose targets reach into the test part "
        "(purge by the horizon)",
    )

    yield "nothing wasted"
    require(test.min() == 30 and test.max() == rows - 1, "test is rows 30 to 49 here")
    require(
        train.min() == 0 and train.max() == 25,
        "with targets of 4 bars, rows 0 to 25 are safe: row 25 covers bars 26 to 29, the last "
        f"before the first test row; your last is {int(train.max())}",
    )
    require_close(ask(1)[0], np.arange(29.0), "training rows for a horizon of 1")
