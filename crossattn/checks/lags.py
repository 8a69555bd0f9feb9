"""Checks of lags and groups: tokens of (asset, lag), one joint softmax, a hierarchy."""

from collections.abc import Callable, Iterator

import numpy as np

from crossattn.checks._stages import as_array, require_close, require_shape, staged
from crossattn.checks.attention import ask, softmax_by_loop


@staged
def check_lag_tokens(fn: Callable) -> Iterator[str]:
    """Check ``fn(returns (T, N), n_lags) -> tokens (T, N, L)``, ``tokens[t, j, k] = r[t-k, j]``.

    Index k of the lag axis is k bars before the query's own bar, so index 0 is the newest bar that
    is known; where there is no bar yet, NaN.

    Raises
    ------
    CheckFailedError
        Shape; the future instead of the past; the order of lags; one bar too late; wrapping round.

    Built in chapter: Lag attention
    """
    returns = np.random.default_rng(21).normal(size=(7, 2))
    steps, assets, lags = 7, 2, 3

    def shifted(offset):
        out = np.full((steps, assets, lags), np.nan)
        for t, k in np.ndindex(steps, lags):
            if 0 <= offset(t, k) < steps:
                out[t, :, k] = returns[offset(t, k)]
        return out

    truth = shifted(lambda t, k: t - k)
    ahead = shifted(lambda t, k: t + k)
    filled = np.nan_to_num(truth)

    yield "shape"
    tokens = as_array(fn(returns.copy(), lags), "tokens")
    require_shape(tokens, (steps, assets, lags), "tokens", "(bars, assets, lags)")

    yield "the past, newest first"
    wrapped = np.stack([np.roll(returns, k, axis=0) for k in range(lags)], axis=2)
    slips = {
        "index k must look k bars back; yours looks k bars ahead, into the future": ahead,
        "your newest token is one bar old: index 0 is the query's own bar, which is known "
        "at its close": shifted(lambda t, k: t - k - 1),
        "the lag axis runs from old to new; index 0 must be the newest": truth[..., ::-1],
        "np.roll wraps round: the first bars see the last ones, which is the future": wrapped,
        "missing bars must stay NaN: a 0 is a return that could have been earned": filled,
    }
    require_close(tokens, truth, "tokens", slips)


@staged
def check_lag_attention(fn: Callable) -> Iterator[str]:
    """Check ``fn(query, key, value, mask=None) -> (output, attention)`` over (asset, lag).

    Parameters
    ----------
    fn : callable
        Takes float64 torch tensors ``query (N, D)``, ``key (M, L, D)``, ``value (M, L, Dv)`` and a
        boolean ``mask (N, M)``. Returns ``output (N, Dv)`` and ``attention (N, M, L)`` whose rows
        sum to 1 over assets and lags together.

    Raises
    ------
    CheckFailedError
        Shapes, a softmax that is not joint, time averaged before attending, the scale, the mask.

    Built in chapter: Lag attention
    """
    random = np.random.default_rng(22)
    n, m, lags, d, dv = 4, 3, 5, 6, 2
    query, key = random.normal(size=(n, d)), random.normal(size=(m, lags, d))
    value = random.normal(size=(m, lags, dv))
    mask = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=bool)
    scores = np.einsum("nd,mld->nml", query, key) / d**0.5

    def joint(raw, allowed=True):
        allowed = np.broadcast_to(allowed, raw.shape).reshape(n, m * lags)
        return softmax_by_loop(raw.reshape(n, m * lags), allowed).reshape(n, m, lags)

    truth, by_lag = joint(scores), softmax_by_loop(scores)
    by_asset = softmax_by_loop(scores.swapaxes(1, 2)).swapaxes(1, 2)
    pooled = softmax_by_loop(scores.mean(axis=2))

    yield "shapes"
    output, attention = ask(fn, query, key, value)
    require_shape(attention, (n, m, lags), "attention", "(queries, key assets, lags)")
    require_shape(output, (n, dv), "output", "(queries, width of a value)")

    yield "one softmax over assets and lags"
    slips = {
        "the softmax runs over lags alone, so each asset gets a whole unit of attention: "
        "flatten assets and lags into one axis first": by_lag,
        "the softmax runs over assets alone, once per lag: flatten assets and lags into one "
        "axis first": by_asset,
        "the keys are averaged over time before attending: then no lag can be told from "
        "another": np.repeat(pooled[..., None] / lags, lags, axis=2),
        "the scores are not divided by the square root of the width": joint(scores * d**0.5),
    }
    require_close(attention, truth, "attention", slips)

    yield "the mix of values"
    require_close(output, np.einsum("nml,mlv->nv", attention, value), "output")

    yield "the mask"
    output, attention = ask(fn, query, key, value, mask)
    allowed = mask[..., None]
    slips = {
        "the mask changes nothing: a masked asset is masked at all of its lags": truth,
        "the mask is used the wrong way round: True means may attend": joint(scores, ~allowed),
        "the mask is applied after the softmax; rows no longer sum to 1": truth * allowed,
    }
    require_close(attention, joint(scores, allowed), "masked attention", slips)
    require_close(output, np.einsum("nml,mlv->nv", joint(scores, allowed), value), "masked output")


@staged
def check_sector_means(fn: Callable) -> Iterator[str]:
    """Check ``fn(x (N, D), sector_of (N,)) -> (S, D)``, the mean token of each sector 0..S-1.

    Raises
    ------
    CheckFailedError
        Shape; sums instead of means; the mean of all assets; sectors of unequal size.

    Built in chapter: Hierarchy
    """
    import torch

    x = np.random.default_rng(31).normal(size=(6, 4))
    sector = np.array([2, 0, 1, 0, 0, 2])
    truth = np.stack([x[sector == s].mean(axis=0) for s in range(3)])
    sums = np.stack([x[sector == s].sum(axis=0) for s in range(3)])

    yield "means by sector"
    result = fn(torch.tensor(x), torch.tensor(sector))
    slips = {
        "these are sums: a sector of three would weigh three times as much": sums,
        "every sector has the mean of all assets": np.repeat(x.mean(0)[None], 3, axis=0),
        "divide by the size of each sector, not by the number of assets": sums / 6,
    }
    require_close(result, truth, "sector means", slips)


@staged
def check_hierarchy(fn: Callable) -> Iterator[str]:
    """Check ``fn(x, sector_of) -> (output, within, across)``.

    Parameters
    ----------
    fn : callable
        Takes ``x (N, D)`` and ``sector_of (N,)``. ``within (N, N)``: attention of each asset over
        the members of its own sector, itself included. ``across (N, S)``: attention of each asset
        over the mean tokens of the *other* sectors. Scores are plain dot products over √D, values
        are the tokens. ``output = x + within @ x + across @ means``.

    Raises
    ------
    CheckFailedError
        Attention that leaves the sector, that includes the own sector's mean, or a wrong sum.

    Built in chapter: Hierarchy
    """
    x = np.random.default_rng(32).normal(size=(6, 4))
    sector = np.array([2, 0, 1, 0, 0, 2])
    means = np.stack([x[sector == s].mean(axis=0) for s in range(3)])
    same = sector[:, None] == sector[None]
    foreign = sector[:, None] != np.arange(3)[None]
    near, far = x @ x.T / 2.0, x @ means.T / 2.0
    within, across = softmax_by_loop(near, same), softmax_by_loop(far, foreign)
    update = within @ x + across @ means
    everywhere, outside = softmax_by_loop(near), softmax_by_loop(near, ~same)
    own_too, only_own = softmax_by_loop(far), softmax_by_loop(far, ~foreign)
    unscaled = softmax_by_loop(2.0 * near, same)

    yield "within the sector"
    answer = ask(fn, x, sector, names=("output", "within", "across"))
    slips = {
        "assets attend to all assets: mask by sector": everywhere,
        "the sector mask is applied after the softmax; rows no longer sum to 1": same * everywhere,
        "assets attend to all but their own sector: the mask is upside down": outside,
        "the scores are not divided by the square root of the width": unscaled,
    }
    require_close(answer[1], within, "attention within the sector", slips)

    yield "across sectors"
    slips = {
        "an asset attends to the mean of its own sector twice: mask its own sector here": own_too,
        "an asset attends to its own sector only: the mask is upside down": only_own,
    }
    require_close(answer[2], across, "attention across sectors", slips)

    yield "the sum"
    slips = {
        "the token itself is missing from the sum (the residual connection)": update,
        "what comes from the other sectors is missing": x + within @ x,
    }
    require_close(answer[0], x + update, "output", slips)
