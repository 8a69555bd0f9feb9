"""Checks of attention: one head, several heads, assets and lags, sectors.

The references are loops over NumPy numbers and share nothing with the layers of the package.
"""

from collections.abc import Callable, Iterator

import numpy as np

from crossattn.checks._stages import as_array, close, require, require_close, require_shape, staged


def softmax_by_loop(scores: np.ndarray, allowed: np.ndarray | bool = True) -> np.ndarray:
    """Softmax of each row among the allowed entries, zeros where there are none."""
    result, allowed = np.zeros(scores.shape), np.broadcast_to(allowed, scores.shape)
    for row in np.ndindex(scores.shape[:-1]):
        open_ = allowed[row]
        if open_.any():
            powers = np.exp(scores[row][open_] - scores[row][open_].max())
            result[row][open_] = powers / powers.sum()
    return result


def ask(fn: Callable, *arguments, names=("output", "attention")) -> list[np.ndarray]:
    """Call ``fn`` with arrays as tensors and return its named parts."""
    import torch

    given = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in arguments]
    result = fn(*given)
    require(
        isinstance(result, tuple) and len(result) == len(names),
        f"return the pair ({', '.join(names)}), in this order; got {type(result).__name__}",
    )
    return [as_array(part, name) for part, name in zip(result, names, strict=True)]


@staged
def check_attention(fn: Callable) -> Iterator[str]:
    """Check ``fn(query, key, value, mask=None) -> (output, attention)``.

    Parameters
    ----------
    fn : callable
        Takes float64 torch tensors ``query (Nq, D)``, ``key (Nk, D)``, ``value (Nk, Dv)`` and a
        boolean ``mask (Nq, Nk)``, True where a query may attend. Returns ``output (Nq, Dv)`` and
        ``attention (Nq, Nk)``.

    Raises
    ------
    CheckFailedError
        At the first idea that is missing: shapes, the axis of the softmax, the scale, the mix of
        values, the mask, a fully masked row, large scores, leading axes.

    Examples
    --------
    >>> from crossattn import scaled_dot_product_attention
    >>> check_attention(scaled_dot_product_attention)
    check_attention: 8 stages passed

    Built in chapter: Scaled dot-product attention
    """
    random = np.random.default_rng(11)
    query, key, value = (random.normal(size=s) for s in [(3, 4), (5, 4), (5, 2)])
    scores = query @ key.T
    scaled = scores / 2.0
    truth = softmax_by_loop(scaled)
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 1, 1, 0]], dtype=bool)

    yield "shapes"
    output, attention = ask(fn, query, key, value)
    require_shape(attention, (3, 5), "attention", "(query assets, key assets)")
    require_shape(output, (3, 2), "output", "(query assets, width of a value)")

    yield "the axis of the softmax"
    columns = close(attention.sum(0), np.ones(5))
    require(
        close(attention.sum(1), np.ones(3)),
        "each column of your attention sums to 1, so the softmax runs over the queries; a "
        "query shares itself out among the keys: use the last axis"
        if columns
        else "each row of attention must sum to 1; yours do not",
    )

    yield "the scale"
    slips = {
        "the scores are not divided by the square root of the width (here √4 = 2): without "
        "it a wide head is certain before it has learned anything": softmax_by_loop(scores),
        "you divide by the width D; divide by its square root": softmax_by_loop(scores / 4.0),
        "you divide by the root of the number of keys; the width of a query is what "
        "adds up in a dot product": softmax_by_loop(scores / 5**0.5),
    }
    require_close(attention, truth, "attention", slips)

    yield "the mix of values"
    require_close(output, attention @ value, "output (attention times values)")

    yield "the mask"
    output, attention = ask(fn, query, key, value, mask)
    expected, inverted = (softmax_by_loop(scaled, allowed) for allowed in (mask, ~mask))
    slips = {
        "the mask changes nothing: set the scores that are not allowed to minus infinity "
        "before the softmax": truth,
        "the mask is used the wrong way round: True means may attend": inverted,
        "the mask is applied after the softmax, so rows no longer sum to 1: apply it to "
        "the scores": truth * mask,
        "a score of 0 is not 'forbidden': exp(0) = 1 still receives attention. Use minus "
        "infinity": softmax_by_loop(np.where(mask, scaled, 0.0)),
    }
    require_close(attention, expected, "masked attention", slips)
    require_close(output, expected @ value, "masked output")

    yield "fully masked rows"
    lonely = mask.copy()
    lonely[1] = False
    output, attention = ask(fn, query, key, value, lonely)
    finite = np.isfinite(attention).all() and np.isfinite(output).all()
    require(finite, "a fully masked query gives NaN: 0/0 inside the softmax")
    slip = "a fully masked query must receive 0, yours attends evenly to all forbidden keys"
    slips = {slip: np.full(5, 0.2)}
    require_close(attention[1], np.zeros(5), "the row of a fully masked query", slips)
    require_close(output, softmax_by_loop(scaled, lonely) @ value, "masked output")

    yield "large scores"
    _, attention = ask(fn, query * 4000, key, value)
    require(
        np.isfinite(attention).all(),
        "large scores overflow: exp(1000) is infinite. Subtract the largest score of the row "
        "first, or use softmax of the library",
    )

    yield "a batch in front"
    stacked = [np.stack([part, part[::-1].copy()]) for part in (query, key, value)]
    output, attention = ask(fn, *stacked)
    require_shape(attention, (2, 3, 5), "attention of a batch", "(batch, queries, keys)")
    single = ask(fn, *(part[1] for part in stacked))
    require_close(attention[1], single[1], "the second item of a batch")
    require_close(output[1], single[0], "the second output of a batch")


@staged
def check_multi_head(fn: Callable) -> Iterator[str]:
    """Check ``fn(x, w_query, w_key, w_value, w_output, n_heads, mask=None)``.

    Parameters
    ----------
    fn : callable
        Takes float64 torch tensors ``x (N, D)``, four matrices ``(D, D)`` applied as ``x @ w``,
        the number of heads H and a boolean ``mask (N, N)``. Head h works on columns
        ``h D/H .. (h+1) D/H`` of the projections. Returns ``output (N, D)`` and ``attention
        (H, N, N)``.

    Raises
    ------
    CheckFailedError
        Shapes, split of the heads, scale of one head, joining and projecting, mask.

    Built in chapter: Multi-head cross-asset attention
    """
    random = np.random.default_rng(12)
    n, d, heads = 5, 6, 3
    width = d // heads
    x = random.normal(size=(n, d))
    projections = [random.normal(size=(d, d)) for _ in range(4)]
    w_output = projections[3]
    others = ~np.eye(n, dtype=bool)

    def block(m):
        return np.stack([m[:, h * width : (h + 1) * width] for h in range(heads)])

    def scores_of(split):
        query, key = (split(x @ w) for w in projections[:2])
        return query @ key.swapaxes(1, 2) / width**0.5

    scores, value = scores_of(block), block(x @ projections[2])
    truth = softmax_by_loop(scores)
    joined = np.concatenate(truth @ value, axis=1)

    yield "shapes"
    output, attention = ask(fn, x, *projections, heads)
    require_shape(attention, (heads, n, n), "attention", "(heads, query assets, key assets)")
    require_shape(output, (n, d), "output", "(assets, width)")

    yield "each head its own columns and scale"
    chunked = softmax_by_loop(scores_of(lambda m: m.reshape(heads, n, width)))
    every_third = scores_of(lambda m: np.stack([m[:, h::heads] for h in range(heads)]))
    every_third = softmax_by_loop(every_third)
    unscaled = softmax_by_loop(scores * width**0.5)
    scaled_by_d = softmax_by_loop(scores / heads**0.5)
    by_query = softmax_by_loop(scores.swapaxes(1, 2)).swapaxes(1, 2)
    slips = {
        "reshape (N, D) to (N, H, D/H) first and then move the heads to the front; a "
        "direct reshape to (H, N, D/H) mixes assets": chunked,
        "head h takes a block of neighbouring columns, not every H-th column": every_third,
        "divide by the root of the width of one head, D/H, not of all heads together": scaled_by_d,
        "the scores are not divided by the root of the width of one head": unscaled,
        "the softmax must run along the keys, the last axis": by_query,
    }
    require_close(attention, truth, "attention by head", slips)

    yield "joining the heads"
    slips = {
        "the output projection is missing: nothing mixes the heads": joined,
        "the heads are joined along the wrong axis: put them back beside each other, "
        "(N, H, D/H), before the last reshape": (truth @ value).reshape(n, d) @ w_output,
        "the projection is applied from the wrong side (use joined @ w_output)": joined
        @ w_output.T,
    }
    require_close(output, joined @ w_output, "output", slips)

    yield "the mask"
    output, attention = ask(fn, x, *projections, heads, others)
    expected = softmax_by_loop(scores, others)
    inverted = softmax_by_loop(scores, ~others)
    slips = {
        "the mask changes nothing": truth,
        "the mask is used the wrong way round: True means may attend": inverted,
        "the mask is applied after the softmax; rows no longer sum to 1": truth * others,
    }
    require_close(attention, expected, "attention without oneself", slips)
    joined = np.concatenate(expected @ value, axis=1)
    require_close(output, joined @ w_output, "output without oneself")
