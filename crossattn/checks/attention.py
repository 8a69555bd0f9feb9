"""Checks of attention: one head, several heads, assets and lags, sectors.

The references are loops over NumPy numbers and share nothing with the layers of the package.
"""

from collections.abc import Callable, Iterator

import numpy as np

from crossattn.checks._stages import as_array, close, require, require_close, require_shape, staged


def softmax_by_loop(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Softmax of each row among the allowed entries, zeros where there are none."""
    result = np.zeros(scores.shape)
    for row in np.ndindex(scores.shape[:-1]):
        open_ = allowed[row]
        if open_.any():
            powers = np.exp(scores[row][open_] - scores[row][open_].max())
            result[row][open_] = powers / powers.sum()
    return result


def _answer(result, names: tuple[str, ...]) -> list[np.ndarray]:
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
    import torch

    random = np.random.default_rng(11)
    query, key, value = (random.normal(size=s) for s in [(3, 4), (5, 4), (5, 2)])
    everyone = np.ones((3, 5), dtype=bool)
    scores = query @ key.T
    truth = softmax_by_loop(scores / 2.0, everyone)
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 1, 1, 0]], dtype=bool)

    def ask(q=query, k=key, v=value, m=None):
        tensors = [torch.tensor(part) for part in (q, k, v)]
        result = fn(*tensors) if m is None else fn(*tensors, torch.tensor(m))
        return _answer(result, ("output", "attention"))

    yield "shapes"
    output, attention = ask()
    require_shape(attention, (3, 5), "attention", "(query assets, key assets)")
    require_shape(output, (3, 2), "output", "(query assets, width of a value)")

    yield "the axis of the softmax"
    _, attention = ask()
    columns = close(attention.sum(0), np.ones(5))
    require(
        close(attention.sum(1), np.ones(3)),
        "each column of your attention sums to 1, so the softmax runs over the queries; a "
        "query shares itself out among the keys: use the last axis"
        if columns
        else "each row of attention must sum to 1; yours do not",
    )

    yield "the scale"
    _, attention = ask()
    slips = {
        "the scores are not divided by the square root of the width (here √4 = 2): without "
        "it a wide head is certain before it has learned anything": softmax_by_loop(
            scores, everyone
        ),
        "you divide by the width D; divide by its square root": softmax_by_loop(
            scores / 4.0, everyone
        ),
        "you divide by the root of the number of keys; the width of a query is what "
        "adds up in a dot product": softmax_by_loop(scores / 5**0.5, everyone),
    }
    require_close(attention, truth, "attention", slips)

    yield "the mix of values"
    output, attention = ask()
    require_close(output, attention @ value, "output (attention times values)")

    yield "the mask"
    output, attention = ask(m=mask)
    expected = softmax_by_loop(scores / 2.0, mask)
    slips = {
        "the mask changes nothing: set the scores that are not allowed to minus infinity "
        "before the softmax": truth,
        "the mask is used the wrong way round: True means may attend": softmax_by_loop(
            scores / 2.0, ~mask
        ),
        "the mask is applied after the softmax, so rows no longer sum to 1: apply it to "
        "the scores": truth * mask,
        "a score of 0 is not 'forbidden': exp(0) = 1 still receives attention. Use minus "
        "infinity": softmax_by_loop(np.where(mask, scores / 2.0, 0.0), everyone),
    }
    require_close(attention, expected, "masked attention", slips)
    require_close(output, expected @ value, "masked output")

    yield "fully masked rows"
    lonely = mask.copy()
    lonely[1] = False
    output, attention = ask(m=lonely)
    finite = np.isfinite(attention).all() and np.isfinite(output).all()
    require(finite, "a fully masked query gives NaN: 0/0 inside the softmax")
    require_close(
        attention[1],
        np.zeros(5),
        "the row of a fully masked query",
        {
            "a fully masked query must receive 0, yours attends evenly to all forbidden keys": (
                np.full(5, 0.2)
            )
        },
    )
    require_close(output, softmax_by_loop(scores / 2.0, lonely) @ value, "masked output")

    yield "large scores"
    _, attention = ask(q=query * 4000)
    require(
        np.isfinite(attention).all(),
        "large scores overflow: exp(1000) is infinite. Subtract the largest score of the row "
        "first, or use softmax of the library",
    )

    yield "a batch in front"
    stacked = [np.stack([part, part[::-1].copy()]) for part in (query, key, value)]
    output, attention = ask(*stacked)
    require_shape(attention, (2, 3, 5), "attention of a batch", "(batch, queries, keys)")
    single = ask(*(part[1] for part in stacked))
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
    import torch

    random = np.random.default_rng(12)
    n, d, heads = 5, 6, 3
    width = d // heads
    x = random.normal(size=(n, d))
    projections = [random.normal(size=(d, d)) for _ in range(4)]
    query, key, value = (x @ w for w in projections[:3])
    everyone, others = np.ones((n, n), dtype=bool), ~np.eye(n, dtype=bool)

    def reference(allowed, divisor=width**0.5, split=None):
        split = split or (lambda m, h: m[:, h * width : (h + 1) * width])
        maps = [
            softmax_by_loop(split(query, h) @ split(key, h).T / divisor, allowed)
            for h in range(heads)
        ]
        return np.stack(maps), [maps[h] @ split(value, h) for h in range(heads)]

    truth, parts = reference(everyone)
    joined = np.concatenate(parts, axis=1)

    def ask(mask=None):
        tensors = [torch.tensor(part) for part in (x, *projections)]
        result = fn(*tensors, heads) if mask is None else fn(*tensors, heads, torch.tensor(mask))
        return _answer(result, ("output", "attention"))

    yield "shapes"
    output, attention = ask()
    require_shape(attention, (heads, n, n), "attention", "(heads, query assets, key assets)")
    require_shape(output, (n, d), "output", "(assets, width)")

    yield "each head its own columns and scale"
    _, attention = ask()
    chunk = lambda m, h: m.reshape(heads, n, width)[h]  # noqa: E731
    every_third = lambda m, h: m[:, h::heads]  # noqa: E731
    slips = {
        "reshape (N, D) to (N, H, D/H) first and then move the heads to the front; a "
        "direct reshape to (H, N, D/H) mixes assets": reference(everyone, split=chunk)[0],
        "head h takes a block of neighbouring columns, not every H-th column": reference(
            everyone, split=every_third
        )[0],
        "divide by the root of the width of one head, D/H, not of all heads together": (
            reference(everyone, d**0.5)[0]
        ),
        "the scores are not divided by the root of the width of one head": reference(everyone, 1.0)[
            0
        ],
        "the softmax must run along the keys, the last axis": softmax_by_loop(
            np.stack(
                [
                    key[:, h * width : (h + 1) * width]
                    @ query[:, h * width : (h + 1) * width].T
                    / width**0.5
                    for h in range(heads)
                ]
            ),
            np.ones((heads, n, n), dtype=bool),
        ).transpose(0, 2, 1),
    }
    require_close(attention, truth, "attention by head", slips)

    yield "joining the heads"
    output, _ = ask()
    slips = {
        "the output projection is missing: nothing mixes the heads": joined,
        "the heads are joined along the wrong axis: put them back beside each other, "
        "(N, H, D/H), before the last reshape": np.stack(parts).reshape(n, d) @ projections[3],
        "the projection is applied from the wrong side (use joined @ w_output)": joined
        @ projections[3].T,
    }
    require_close(output, joined @ projections[3], "output", slips)

    yield "the mask"
    output, attention = ask(others)
    expected, masked_parts = reference(others)
    slips = {
        "the mask changes nothing": truth,
        "the mask is used the wrong way round: True means may attend": reference(~others)[0],
        "the mask is applied after the softmax; rows no longer sum to 1": truth * others,
    }
    require_close(attention, expected, "attention without oneself", slips)
    require_close(
        output, np.concatenate(masked_parts, 1) @ projections[3], "output without oneself"
    )
