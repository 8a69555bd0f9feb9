"""Checks of p-values of many pairs and of permutation tests.

Built in chapter: Who really leads?
"""

from collections.abc import Callable, Iterator

import numpy as np

from crossattn.checks._stages import as_array, require, require_close, staged


@staged
def check_false_discovery(fn: Callable) -> Iterator[str]:
    """Check ``fn(p_values) -> q_values``, by Benjamini and Hochberg, in the order given.

    Raises
    ------
    CheckFailedError
        Bonferroni instead, values in sorted order, q-values that fall where p rises, above 1.

    References
    ----------
    Benjamini and Hochberg (1995), "Controlling the false discovery rate".

    Examples
    --------
    >>> from crossattn.evidence.inference import benjamini_hochberg
    >>> check_false_discovery(benjamini_hochberg)
    check_false_discovery: 2 stages passed
    """
    p = np.array([0.9, 0.011, 0.03, 0.0004, 0.032, 0.2, 0.012])
    order = np.argsort(p)
    raw = np.empty(7)
    raw[order] = p[order] * 7 / np.arange(1, 8)
    truth = np.array([min(raw[k] for k in range(7) if p[k] >= level) for level in p])

    yield "seven pairs"
    slips = {
        "this is Bonferroni, p times the number of tests: it controls the chance of a single "
        "false claim, which is stricter than the share of false claims": np.minimum(7 * p, 1),
        "these are the p-values, unchanged: of 20 true nulls one is below .05 by luck": p,
        "a larger p must not have a smaller q: take the smallest of this and all later "
        "ones (running minimum from the largest p)": raw,
        "the q-values are in sorted order: put them back where their p-values were": truth[order],
    }
    require_close(fn(p.copy()), truth, "q-values", slips)

    yield "bounds"
    ties = np.array([0.8, 0.8, 1.0])
    q = as_array(fn(ties), "q-values")
    require(bool((q <= 1).all()), "a q-value is a probability and never above 1")
    require_close(q, np.ones(3), "q-values of three large p-values")


@staged
def check_p_value(fn: Callable) -> Iterator[str]:
    """Check ``fn(statistic, null) -> p``, one-sided, from draws of the statistic under the null.

    Raises
    ------
    CheckFailedError
        A p-value of exactly 0, the wrong tail, ties that are not counted.
    """
    null = np.array([0.1, 0.4, 0.2, 0.9, 0.5, 0.3, 0.8, 0.6, 0.7])

    yield "the upper tail"
    slips = {
        "this is the lower tail: count the draws that are at LEAST as large": 9 / 10,
        "count the statistic itself among the draws: (1 + count) / (1 + draws), so that no "
        "finite simulation ever claims a p of 0": 1 / 9,
    }
    require_close(fn(0.85, null.copy()), 2 / 10, "p of 0.85", slips)
    slips = {"a draw equal to the statistic counts": 1 / 10}
    require_close(fn(0.9, null.copy()), 2 / 10, "p of 0.9", slips)

    yield "never zero"
    slips = {"a p-value of 0 claims certainty from nine draws: use (1 + count) / (1 + draws)": 0}
    require_close(fn(5.0, null.copy()), 0.1, "p of 5.0", slips)
