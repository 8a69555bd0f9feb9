"""Lag attention: one softmax over (source, lag) tokens: which asset leads, by how many bars.

A query at step t attends to every source at steps t, t-1, ..., t - max_lag in one softmax, so that
"which source" and "how long ago" have one answer. Nothing is averaged over time before.

Built in chapter: Lag attention.
"""

import math

import torch
from torch import Tensor, nn

from crossattn._validation import check_int, check_shape
from crossattn.attention._checks import check_mask, check_token_pair
from crossattn.attention._projections import EMBEDDING_SCALE, HeadProjections
from crossattn.attention.functional import fused_attention, masked_softmax
from crossattn.attention.masks import all_of, not_self_mask, pair_mask, zero_missing
from crossattn.errors import InvalidInputError


def embedding_scores(query: Tensor, key: Tensor, lag: Tensor) -> Tensor:
    """Score every (source, lag) token for every query from asset and lag embeddings only.

    ``query . (key + lag) / sqrt(d)``, (H, Nq, Nk, L), of the embeddings of followers (H, Nq, d),
    leaders (H, Nk, d) and lags (H, L, d).
    """
    by_source = query @ key.mT  # (H, Nq, Nk)
    by_lag = query @ lag.mT  # (H, Nq, L)
    return (by_source[..., None] + by_lag[:, :, None]) / math.sqrt(query.shape[-1])


def lag_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalise scores (..., Nk, L) over source and lag together; rows masked throughout are 0."""
    joint = None if mask is None else mask.expand_as(scores).flatten(-2)
    return masked_softmax(scores.flatten(-2), joint).view(scores.shape)


def lag_windows(x: Tensor, n_lags: int, n_steps: int) -> Tensor:
    """View the newest ``n_lags`` steps up to each of the last ``n_steps`` steps, nothing copied.

    (B, T, N, ...) to (B, n_steps, L, N, ...), oldest first along L; steps before the first read as
    zero. Source and lag can be flattened without a copy: in memory a window is one block, and
    windows overlap.
    """
    x = x[:, max(0, x.shape[1] - n_steps - n_lags + 1) :]
    missing = max(n_steps, 1) + n_lags - 1 - x.shape[1]  # without a step, one window to cut off
    if missing > 0:
        x = torch.cat([x.new_zeros(x.shape[0], missing, *x.shape[2:]), x], 1)
    return x.contiguous().unfold(1, n_lags, 1)[:, :n_steps].movedim(-1, 2)


class TemporalCrossAttention(HeadProjections):
    r"""Lag attention between assets: one softmax for each query over all (source, lag) tokens.

    With tokens x, asset embeddings E (added to queries) and K (added to keys), lag embeddings P:

    .. math::

        \alpha_{hi}(j, l) &= \mathrm{softmax}_{(j, l)}\;
            (W^Q_h x_{it} + E_{hi}) \cdot (W^K_h x_{j,t-l} + K_{hj} + P_{hl}) / \sqrt{d} \\
        o_{it} &= W^O \big[\, g_{hi}\, M_h(s_t) \textstyle\sum_{j, l} \alpha_{hi}(j, l)\,
            G_h(x_{j,t-l})\, W^V_h x_{j,t-l} \,\big]_h

    Tokens, embeddings and lag decide where to attend; the gate G scales each value; the gain g,
    which may be negative as attention cannot, scales the head's result; M makes it depend on a
    state.

    Parameters
    ----------
    d_model, n_heads : int
        Width D, a multiple of the number of heads H.
    max_lag : int
        Oldest lag: each source has ``max_lag + 1`` tokens, 0 to ``max_lag`` bars back.
    dropout : float
        On the output in training, never on the attention.
    n_assets : int, optional
        Number of assets with embeddings and gains of their own; without it gains belong to heads.
    exclude_self : bool
        Forbid a query to attend to its own asset's past.
    n_states : int
        Size of ``state``; 0 for none.

    Notes
    -----
    Queries at all T steps give every step an output from its own past (dense labels in training);
    the last step alone, ``x_query[:, :, -1:]``, gives the same number (inference). Time is O(B T Nq
    Nk L D). With returns themselves as values this is the ``lag`` preset: see
    :mod:`crossattn.attention.lag_signal`.

    Examples
    --------
    >>> layer = TemporalCrossAttention(d_model=8, n_heads=2, max_lag=3, n_assets=3).eval()
    >>> x = torch.randn(4, 3, 5, 8)
    >>> output, attention = layer(x, x)
    >>> output.shape, attention.shape
    (torch.Size([4, 3, 5, 8]), torch.Size([4, 2, 5, 3, 3, 4]))
    >>> last, _ = layer(x[:, :, -1:], x)
    >>> torch.allclose(last, output[:, :, -1:], atol=1e-5)
    True

    Built in chapter: Lag attention
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        max_lag: int = 5,
        dropout: float = 0.1,
        *,
        n_assets: int | None = None,
        exclude_self: bool = False,
        n_states: int = 0,
    ) -> None:
        super().__init__(d_model, n_heads, dropout, n_assets)
        self.n_lags = check_int("max_lag", max_lag, at_least=0) + 1
        self.exclude_self, self.n_states = exclude_self, n_states
        self.gate = nn.Linear(d_model, n_heads)
        self.lag_embedding = nn.Parameter(torch.empty(self.n_lags, d_model))
        self.gain = nn.Parameter(torch.empty(n_assets or 1, n_heads))
        self.modulation = nn.Linear(n_states, n_heads) if n_states else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights; gates, gains and modulations start at 1."""
        super().reset_parameters()
        nn.init.normal_(self.lag_embedding, std=EMBEDDING_SCALE)
        nn.init.ones_(self.gain)
        for neutral in filter(None, (self.gate, self.modulation)):
            nn.init.zeros_(neutral.weight)
            nn.init.zeros_(neutral.bias)

    def forward(
        self,
        x_query: Tensor,
        x_key_value: Tensor,
        mask: Tensor | None = None,
        *,
        key_mask: Tensor | None = None,
        state: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from each query asset to the newest tokens of all sources.

        Parameters
        ----------
        x_query : Tensor of shape (B, Nq, T, D)
            Tokens of the followers: the *last* T steps of what the sources have.
        x_key_value : Tensor of shape (B, Nk, S, D)
            Tokens of the sources, S >= T.
        mask : bool Tensor of shape (Nq, Nk), (B, Nq, Nk), (B, T, Nq, Nk) or (B, H, T, Nq, Nk)
            True where a query asset may attend to a source.
        key_mask : bool Tensor of shape (B, Nk, S), optional
            True where a token exists; those that do not may hold NaN.
        state : Tensor of shape (B, T, n_states), optional
            What modulates the gains at each step.
        return_attention : bool
            False takes the fused kernel and returns None as attention.

        Returns
        -------
        output : Tensor of shape (B, Nq, T, D)
        attention : Tensor of shape (B, H, T, Nq, Nk, L) or None
            Index k of the last axis is k bars back. A row sums to 1 over source and lag together,
            to 0 where all is masked; lags before the first step get none.
        """
        self._check(x_query, x_key_value, key_mask, state)
        n_steps, n_keys, n_lags = x_query.shape[2], x_key_value.shape[1], self.n_lags
        allowed = self._allowed(mask, key_mask, x_query, x_key_value)  # (B|1, T, H|1, Nq|1, L Nk)
        x_key_value = zero_missing(x_key_value, key_mask)[:, :, -(n_steps + n_lags - 1) :]
        source = x_key_value.transpose(1, 2)  # (B, S, Nk, D)

        query, key, value = self.project(x_query.transpose(1, 2), source)  # (B, T | S, N, D)
        value = self._gated(value, source)  # (B, S, Nk, D)
        key = lag_windows(key, n_lags, n_steps)  # (B, T, L, Nk, D), oldest lag first
        key = (key + self.lag_embedding.flip(0)[:, None]).flatten(2, 3)  # (B, T, L Nk, D)
        value = lag_windows(value, n_lags, n_steps).flatten(2, 3)  # (B, T, L Nk, D)
        query, key, value = map(self.split_heads, (query, key, value))  # (B, T, H, Nq | L Nk, d)
        if return_attention:
            scores = query @ key.mT / math.sqrt(self.head_width)  # (B, T, H, Nq, L Nk)
            attention = masked_softmax(scores, allowed)
            mixed = attention @ value  # (B, T, H, Nq, d)
        else:
            mixed = fused_attention(query, key, value, allowed)
        output = self.merge_heads(mixed * self._gains(state)).transpose(1, 2)  # (B, Nq, T, D)
        if not return_attention:
            return output, None
        by_lag = attention.unflatten(-1, (n_lags, n_keys)).flip(-2)  # (B, T, H, Nq, L, Nk)
        return output, by_lag.mT.transpose(1, 2)  # (B, H, T, Nq, Nk, L)

    def _gated(self, value: Tensor, source: Tensor) -> Tensor:
        """Multiply each head's part of a value (B, S, Nk, D) by a gate between 0 and 2."""
        gate = 2.0 * torch.sigmoid(self.gate(source))  # (B, S, Nk, H)
        return (value.unflatten(-1, (self.n_heads, -1)) * gate[..., None]).flatten(-2)

    def _gains(self, state: Tensor | None) -> Tensor:
        """Return the factor of each head's result, (B|1, T|1, H, Nq|1, 1)."""
        gain = self.gain.T[None, None, :, :, None]
        if state is None:
            return gain
        return gain * (1.0 + torch.tanh(self.modulation(state)))[..., None, None]

    def _allowed(self, mask, key_mask, x_query, x_key_value) -> Tensor:
        """Return which tokens may be attended to, (B|1, T, H|1, Nq|1, L Nk), oldest lag first."""
        batch, n_queries, n_steps, _ = x_query.shape
        n_keys, n_key_steps = x_key_value.shape[1:3]
        assets = torch.arange(max(n_queries, n_keys), device=x_query.device)
        step = torch.arange(n_key_steps - n_steps, n_key_steps, device=x_query.device)
        lag = torch.arange(self.n_lags - 1, -1, -1, device=x_query.device)
        # each mask as (B|1, T|1, H|1, Nq|1, L|1, Nk|1)
        not_before_the_first = (step[:, None] >= lag)[None, :, None, None, :, None]
        pairs = pair_mask(mask, (batch, self.n_heads, n_steps, n_queries, n_keys))
        exists = not_self = None
        if key_mask is not None:
            exists = lag_windows(key_mask.transpose(1, 2), self.n_lags, n_steps)[:, :, None, None]
        if self.exclude_self:
            not_self = not_self_mask(assets[:n_queries], assets[:n_keys])[:, None]
        allowed = all_of(
            not_before_the_first, None if pairs is None else pairs.unsqueeze(-2), exists, not_self
        )
        return allowed.expand(-1, -1, -1, -1, -1, n_keys).flatten(-2)

    def _check(self, x_query, x_key_value, key_mask, state) -> None:
        check_token_pair(x_query, x_key_value, self.d_model, self.n_assets, longer_keys=True)
        check_mask(key_mask, "key_mask")
        if key_mask is not None:
            check_shape("key_mask", key_mask, *x_key_value.shape[:3])
        wanted = (len(x_query), x_query.shape[2], self.n_states) if self.n_states else None
        got = None if state is None else tuple(state.shape)
        if got != wanted:
            raise InvalidInputError(f"state must have shape {wanted}, got {got}")
