r"""Two-state hidden Markov regression: coefficients that flip between two sets, by their success.

.. math:: y_i(t) = \sum_e (c_e + s_t\, d_e)\, x_e(t) + \epsilon_i(t), \qquad s_t = \pm 1

All followers share the state s, a Markov chain. Where ``c = 0`` the regime changes every sign;
otherwise it changes who leads. How well the coefficients predicted the bars known by now shows
which state holds; market states that go with it add theirs. Expectation maximisation (Baum-Welch)
fits the coefficients, how long the states stay, and the weight of evidence.

References
----------
Hamilton (1989), A new approach to the economic analysis of nonstationary time series and the
business cycle. Baum, Petrie, Soules and Weiss (1970), A maximization technique.
"""

from dataclasses import dataclass
from functools import partial
from math import exp, log
from typing import Self

import numpy as np

from crossattn.runtime import compiled_if_worth
from crossattn.tokens.linear_map import by_row

STEPS = 12
FIRST_STAY, STAYS_BEFORE = 0.99, 20.0  # mean stay of 100 bars, weighing as much as 20 bars
RIDGE = 100.0  # prior precision of a coefficient: a standard deviation of .1
STATE_BEFORE = 50.0  # bars of each market state, before any is seen
BELIEFS = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5)  # shares of a market state's evidence that count
CERTAIN = 30.0  # log odds


@dataclass
class Regime:
    """Filter for the sign of a common pattern of coefficients."""

    tokens: list[tuple[int, int, int]]  #: (follower, source, lag index)
    level: np.ndarray  #: (E,): c
    pull: np.ndarray  #: (E,): d
    #: (2,): probability of staying in the state +1, and in -1, from one bar to the next
    stay: np.ndarray
    caution: float  #: what the followers' evidence counts, at most 1: they move together
    hint: np.ndarray  #: (n_market_states,): log odds that each market state adds at every bar

    @classmethod
    def fit(cls, view, rows: np.ndarray, tokens: list, direction: np.ndarray) -> Self:
        """Fit by expectation maximisation, from a first guess of the pattern up to scale."""
        bins, state = view.contexts["state"]
        pull = direction / np.sqrt(RIDGE * np.mean(direction**2))
        part = cls(tokens, *np.zeros((2, len(pull))), np.full(2, FIRST_STAY), 1.0, np.zeros(bins))
        columns, target = part._columns(view, rows), view.target[rows]
        part._regress(columns, target, np.zeros(len(rows)))
        part.pull = pull
        for step in range(STEPS):
            information, evidence = part._evidence(columns, target)
            odds = smoothed_odds(part.caution * evidence, part.hint[state[rows]], part.stay)
            chance, part.stay = odds
            mean = 2.0 * chance - 1.0
            noise = evidence - 2.0 * mean * information  # without what the state explains
            part.caution = min(1.0, 4.0 * information.sum() / max((noise**2).sum(), 1e-9))
            part._regress(columns, target, mean)
            if step in (STEPS // 2, STEPS - 1):
                part._believe(part.caution * evidence, state[rows], chance)
        return part

    def expected(self, view) -> np.ndarray:
        """Return the expected state ``(n_rows,)``, -1 to 1, known at each row."""
        everything = np.arange(len(view.tokens))
        _, evidence = self._evidence(self._columns(view, everything), view.target)
        hint = self.hint[view.contexts["state"][1]]
        step = partial(filtered_odds, stay=self.stay)
        odds = view.memory.run("regime", step, 0.0, self.caution * evidence, hint)
        return np.tanh(0.5 * odds)

    def _columns(self, view, rows: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Positions of each follower's tokens, and their values in its volatilities."""
        tokens = np.array(self.tokens)
        found = {}
        for i in np.unique(tokens[:, 0]):
            here = np.flatnonzero(tokens[:, 0] == i)
            x = view.tokens[rows][:, tokens[here, 1], tokens[here, 2]]
            found[int(i)] = here, x * view.inverse_noise[rows, i, None]
        return found

    def _evidence(self, columns, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pattern's squared forecast, and log odds of +1 from each row's target."""
        information, evidence = np.zeros((2, len(target)))
        for i, (here, x) in columns.items():
            pull = by_row(x, self.pull[here])
            information += pull**2
            evidence += 2.0 * pull * (target[:, i] - by_row(x, self.level[here]))
        return information, evidence

    def _regress(self, columns, target: np.ndarray, mean: np.ndarray) -> None:
        """Regress targets on tokens, and on tokens times a state of this expectation."""
        for i, (here, x) in columns.items():
            k, moved = len(here), x * mean[:, None]
            cross = x.T @ moved
            gram = np.block([[x.T @ x, cross], [cross, x.T @ x]]) + RIDGE * np.eye(2 * k)
            moment = np.concatenate([x.T @ target[:, i], moved.T @ target[:, i]])
            self.level[here], self.pull[here] = np.split(np.linalg.solve(gram, moment), 2)

    def _believe(self, evidence: np.ndarray, state: np.ndarray, chance: np.ndarray) -> None:
        """Use the evidence of market states on the regime as far as it predicts the targets."""
        bins, share = len(self.hint), chance.mean()
        positive = np.bincount(state, chance, bins) + STATE_BEFORE * share
        negative = np.bincount(state, 1.0 - chance, bins) + STATE_BEFORE * (1.0 - share)
        table = np.log(positive / negative) - log(share / (1.0 - share))
        half = 0.5 * np.clip(evidence, -CERTAIN, CERTAIN)

        def likelihood(belief: float) -> float:
            odds = filtered_odds(0.0, evidence, belief * table[state], self.stay)[0]
            mean = np.tanh(0.5 * odds)
            return np.log((1 + mean) * np.exp(half) + (1 - mean) * np.exp(-half)).sum()

        self.hint = max(BELIEFS, key=likelihood) * table


def filtered_odds(
    start: float, evidence: np.ndarray, hint: np.ndarray, stay: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return log odds of the first state before each row's evidence, and after the last one.

    A row's hint is known before its evidence.
    """
    a, b = stay.tolist()
    return _propagate(start, evidence, hint, (a, 1.0 - b), (1.0 - a, b))


def smoothed_odds(
    evidence: np.ndarray, hint: np.ndarray, stay: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the chance ``(n,)`` of the first state given all rows, and how often states stay."""
    after = np.clip(filtered_odds(0.0, evidence, hint, stay)[0] + evidence, -CERTAIN, CERTAIN)
    a, b = stay.tolist()
    backwards = (evidence + hint)[::-1]
    later, _ = _propagate(0.0, backwards, np.zeros(len(hint)), (a, 1.0 - a), (1.0 - b, b))
    later = later[::-1]
    chance = 1.0 / (1.0 + np.exp(-(after + later)))
    first = 1.0 / (1.0 + np.exp(-after[:-1]))
    ratio = np.exp(np.clip((evidence + hint + later)[1:], -CERTAIN, CERTAIN))
    # joint chances of two rows in a row: (stay, leave) by the first one's state
    pairs = np.stack(
        [first * a * ratio, first * (1 - a), (1 - first) * b, (1 - first) * (1 - b) * ratio]
    )
    stayed_a, left_a, stayed_b, left_b = (pairs / pairs.sum(0)).sum(1)
    stayed, left = np.array([stayed_a, stayed_b]), np.array([left_a, left_b])
    return chance, (stayed + STAYS_BEFORE * FIRST_STAY) / (stayed + left + STAYS_BEFORE)


def _propagate(start, evidence, hint, first, second) -> tuple[np.ndarray, float]:
    loop = compiled_if_worth(odds_loop, len(evidence))
    return loop(float(start), *map(np.ascontiguousarray, (evidence, hint)), first, second)


def odds_loop(odds, evidence, hint, first, second):
    """Return log odds before each row's evidence, and after the last one.

    After odds of r : 1, a step leads to odds of ``first @ (r, 1) : second @ (r, 1)``.
    """
    before = np.empty(len(evidence))
    for t in range(len(evidence)):
        before[t] = odds + hint[t]
        ratio = exp(min(max(before[t] + evidence[t], -CERTAIN), CERTAIN))
        odds = log((first[0] * ratio + first[1]) / (second[0] * ratio + second[1]))
    return before, odds
