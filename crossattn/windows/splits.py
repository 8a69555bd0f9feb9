"""Train, validation and test folds in time, with purge and embargo.

Built in chapter: Windows, splits and leaks.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from crossattn._validation import check_bool, check_int
from crossattn.errors import InvalidInputError
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold of cross-validation: training and test windows."""

    number: int  #: counted from 0, in time order
    #: blocks of consecutive windows, in time order; a walk-forward fold has one
    train: tuple[CrossAttentionData, ...]
    #: blocks, likewise
    test: tuple[CrossAttentionData, ...]

    @property
    def n_train(self) -> int:
        return sum(len(block) for block in self.train)

    @property
    def n_test(self) -> int:
        return sum(len(block) for block in self.test)


def walk_forward_folds(
    data: CrossAttentionData,
    *,
    train_size: int,
    test_size: int,
    step: int | None = None,
    expanding: bool = False,
    embargo: int = 0,
) -> list[Fold]:
    """Walk-forward cross-validation: folds that train on the past and test on the next windows.

    Parameters
    ----------
    data : CrossAttentionData
    train_size, test_size, step, expanding, embargo
        As in :func:`crossattn.walk_forward`.

    Returns
    -------
    list of Fold
        In time order; a last test part may be shorter than `test_size`.

    Notes
    -----
    A target is known one horizon after its window: windows whose target is not known when the test
    part begins are purged, `data.horizon` of them on a clock without gaps.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> bars = simulate_market(n_assets=3, n_steps=300).frames
    >>> data = prepare_cross_attention_data(bars, lookback=8, horizon=2)
    >>> folds = walk_forward_folds(data, train_size=100, test_size=50)
    >>> [(fold.n_train, fold.n_test) for fold in folds]
    [(100, 50), (100, 50), (100, 50), (100, 6)]
    """
    check_windows("data", data)
    train_size = check_int("train_size", train_size)
    test_size = check_int("test_size", test_size)
    step = test_size if step is None else check_int("step", step)
    embargo = check_int("embargo", embargo, at_least=0)
    check_bool("expanding", expanding)
    first_test = train_size + data.horizon + embargo
    if first_test >= len(data):
        raise InvalidInputError(
            f"data: {len(data)} windows are too few for train_size={train_size}, "
            f"a purge of {data.horizon} and embargo={embargo}; {first_test + 1} are needed"
        )
    folds = []
    for number, start in enumerate(range(first_test, len(data), step)):
        known = data.count_known_before(start) - embargo
        train = data[0 if expanding else known - train_size : known]
        folds.append(Fold(number, (train,), (data[start : start + test_size],)))
    return folds


def combinatorial_folds(
    data: CrossAttentionData,
    *,
    n_blocks: int = 6,
    n_test_blocks: int = 2,
    embargo: int | None = None,
) -> list[Fold]:
    """Combinatorial purged cross-validation: test on every choice of blocks, train on the rest.

    Parameters
    ----------
    data : CrossAttentionData
    n_blocks : int
        Consecutive blocks of equal size; what does not divide goes to the last one.
    n_test_blocks : int
        Blocks in each test part.
    embargo : int, optional
        Windows left out of the training part after each test block, beyond the purge. The default
        is just enough that no training window reaches back to the last bar of a test window.

    Returns
    -------
    list of Fold
        One a choice: ``n_blocks`` over ``n_test_blocks``. Neighbouring test blocks are joined.

    Notes
    -----
    Training windows whose target is open when a test block begins are purged, and those after a
    test block while its targets are open: ``skfolio.model_selection.CombinatorialPurgedCV`` with
    ``purged_size=horizon`` on a clock without gaps, for any embargo. A training block may come
    after the test: this measures how a rule varies over history, not what it would have earned.

    References
    ----------
    Marcos López de Prado (2018), *Advances in Financial Machine Learning*, Wiley, chapter 12.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> bars = simulate_market(n_assets=3, n_steps=300).frames
    >>> data = prepare_cross_attention_data(bars, lookback=8, horizon=2)
    >>> len(combinatorial_folds(data, n_blocks=5, n_test_blocks=2))
    10
    """
    check_windows("data", data)
    n_blocks = check_int("n_blocks", n_blocks, at_least=2)
    n_test_blocks = check_int("n_test_blocks", n_test_blocks)
    if n_test_blocks >= n_blocks:
        raise InvalidInputError(f"n_test_blocks must be below {n_blocks=}, got {n_test_blocks}")
    if embargo is None:
        known = data.ends[data.target_rows[data.ends] < len(data.clock)]
        shortest = (data.target_rows[known] - known).min(initial=data.horizon)
        embargo = max(0, data.lookback - 1 - int(shortest))
    embargo = check_int("embargo", embargo, at_least=0)
    if len(data) < n_blocks:
        raise InvalidInputError(f"data: {len(data)} windows are too few for n_blocks={n_blocks}")
    block = np.minimum(np.arange(len(data)) // (len(data) // n_blocks), n_blocks - 1)
    folds = []
    for number, chosen in enumerate(combinations(range(n_blocks), n_test_blocks)):
        tested = np.isin(block, chosen)
        test = _runs(tested)
        learned = ~tested
        for start, stop in test:
            learned[data.count_known_before(start) : start] = False
            known = data.target_rows[data.ends[stop - 1]]
            learned[stop : np.searchsorted(data.ends, known, side="right") + embargo] = False
        if not learned.any():
            raise InvalidInputError(
                f"data: {len(data)} windows are too few for n_blocks={n_blocks}, "
                f"n_test_blocks={n_test_blocks}, embargo={embargo}: nothing is left to learn from"
            )
        train = tuple(data[start:stop] for start, stop in _runs(learned))
        folds.append(Fold(number, train, tuple(data[start:stop] for start, stop in test)))
    return folds


def hold_out(
    data: CrossAttentionData, share: float = 0.2
) -> tuple[CrossAttentionData, CrossAttentionData]:
    """Split off the last ``share`` of the windows for validation, purged by the horizon."""
    first_val = len(data) - max(1, round(share * len(data)))
    last_train = data.count_known_before(first_val)
    if last_train < 1:
        raise InvalidInputError(f"train has {len(data)} windows: too few to hold some out")
    return data[:last_train], data[first_val:]


def fold_table(folds: list[Fold]) -> pd.DataFrame:
    """Return the dates of every block of every fold, one row a block.

    Columns: ``fold``, ``part`` ("train" or "test"), ``start`` and ``end`` (times at which the first
    and the last forecast of the block are made), ``known`` (when the last target is), ``windows``.
    """
    rows = []
    for fold in folds:
        for part, blocks in (("train", fold.train), ("test", fold.test)):
            for block in blocks:
                last = int(block.ends[-1])
                known = min(block.target_rows[last], len(block.clock) - 1)
                dates = block.timestamps[0], block.timestamps[-1], block.clock[known]
                rows.append((fold.number, part, *dates, len(block)))
    return pd.DataFrame(rows, columns=["fold", "part", "start", "end", "known", "windows"])


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
