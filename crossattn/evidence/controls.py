"""Two controls that every promising result owes its reader: shuffled labels and reversed time.

Built in chapter: The bug museum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from crossattn.data.frame import Frame, Frames, check_frames, close_times
from crossattn.errors import InvalidInputError
from crossattn.evidence.forecasts import correlation
from crossattn.windows.dataset import CrossAttentionData


@dataclass(frozen=True)
class ShuffleControl:
    """Skill with the true labels beside skill with labels that belong to other moments.

    Attributes
    ----------
    score : float
        Correlation of forecast and return on the test part, fitted on true labels.
    shuffled : ndarray of shape (n_shuffles,)
        The same, fitted on shuffled labels: what luck and leaks give.
    """

    score: float
    shuffled: np.ndarray

    @property
    def p_value(self) -> float:
        """Share of shuffles that do at least as well, the true fit counted among them."""
        return float((1 + (self.shuffled >= self.score).sum()) / (1 + len(self.shuffled)))

    @property
    def leaks(self) -> bool:
        """Whether skill survives the shuffle: its mean is more than three errors above zero."""
        error = self.shuffled.std(ddof=1) / np.sqrt(len(self.shuffled))
        return bool(self.shuffled.mean() > 3 * error and self.shuffled.mean() > 0.02)


def shuffle_labels(data: CrossAttentionData, *, seed: int = 0) -> CrossAttentionData:
    """Return the data with each window's targets exchanged for those of another of its windows.

    All assets of a row move together, so that what assets have in common stays.

    Parameters
    ----------
    data : CrossAttentionData
    seed : int

    Returns
    -------
    CrossAttentionData
        Rows outside of ``data``'s own windows have no target.
    """
    order = np.random.default_rng(seed).permutation(data.ends)
    targets = np.full_like(data.targets, np.nan)
    targets[data.ends] = data.targets[order]
    return replace(data, targets=targets)


def label_shuffle(
    make_model: Callable[[], object],
    train: CrossAttentionData,
    val: CrossAttentionData,
    test: CrossAttentionData,
    *,
    n_shuffles: int = 10,
    seed: int = 0,
) -> ShuffleControl:
    """Fit on true labels and on shuffled ones, and score both on the untouched test part.

    Parameters
    ----------
    make_model : callable
        Gives a fresh model with ``fit(train, val)`` and ``predict(data)``.
    train, val, test : CrossAttentionData
        Parts in time order.
    n_shuffles : int
        At least 2.
    seed : int

    Returns
    -------
    ShuffleControl

    Raises
    ------
    InvalidInputError
        Fewer than two shuffles.

    Notes
    -----
    A model that learned from labels is worth nothing without them. Skill that survives comes from
    elsewhere: the target is inside X, or the test part was used before.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> from crossattn.baselines.linear import VAR
    >>> market = simulate_market(n_assets=3, n_steps=3000, predictability=0.1, seed=0)
    >>> data = prepare_cross_attention_data(
    ...     market.frames, lookback=8, horizon=1, features=["log_return"]
    ... )
    >>> control = label_shuffle(VAR, *data.split())
    >>> control.leaks, control.p_value < 0.1
    (False, True)
    """
    if n_shuffles < 2:
        raise InvalidInputError(f"n_shuffles must be at least 2, got {n_shuffles}")
    score = correlation(make_model().fit(train, val).predict(test), test.y)
    shuffled = []
    for number in range(n_shuffles):
        wrong = [
            shuffle_labels(part, seed=seed + 2 * number + k) for k, part in ((0, train), (1, val))
        ]
        shuffled.append(correlation(make_model().fit(*wrong).predict(test), test.y))
    return ShuffleControl(score, np.array(shuffled))


def reverse_time(frames: Frames) -> Frames:
    """Return the bars as if time ran backwards, between the first open and the last close of all.

    Each bar opens where it closed, and when: bars that were simultaneous stay so, also where some
    are missing. A true lead turns round, since the follower's bar now comes
    first. A pair that is as strong in the *same* direction both ways is no lead: it is something
    simultaneous, or a target that looks at itself.

    Parameters
    ----------
    frames : Frames

    Returns
    -------
    Frames

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> frames = simulate_market(n_assets=2, n_steps=50, seed=0).frames
    >>> twice = reverse_time(reverse_time(frames))
    >>> all(twice[s]["close"].equals(frames[s]["close"]) for s in frames)
    True
    """
    frames = check_frames(frames)
    clocks = {symbol: close_times(frame) for symbol, frame in frames.items()}
    first = min(frame.index[0] for frame in frames.values())
    last = max(clock[-1] for clock in clocks.values())
    return {
        symbol: _backwards(frame, clocks[symbol], first, last) for symbol, frame in frames.items()
    }


def _backwards(
    frame: Frame, closes: pd.DatetimeIndex, first: pd.Timestamp, last: pd.Timestamp
) -> Frame:
    """Mirror the bars of one symbol between the first open and the last close of all."""
    opens = (first + (last - closes))[::-1].rename(frame.index.name)
    swap = {"open": "close", "close": "open"}
    turned = frame.iloc[::-1].rename(columns=swap)[list(frame.columns)].set_axis(opens)
    if "close_time" in turned:
        turned["close_time"] = first + (last - frame.index[::-1])
    turned.attrs = dict(frame.attrs)
    return turned
