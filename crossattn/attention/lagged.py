"""Attention over (source, lag) tokens: who leads, and by how many bars, in one softmax.

A target at step t looks at every source at its steps t, t-1, ..., t - max_lag. All these tokens
compete in one softmax, so that "which source" and "how long ago" are one question with one answer.
Nothing is averaged over time before it is looked at.

Built in chapter: Lag attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from crossattn.attention.functional import attend, check_dropout, check_heads, check_positive
from crossattn.attention.masks import all_of, check_mask, pair_mask
from crossattn.errors import InvalidInputError

IDENTITY_SCALE = 0.5


def identity_lag_scores(query: Tensor, key: Tensor, lag: Tensor) -> Tensor:
    """Score every (source, lag) token for every target by names alone.

    Parameters
    ----------
    query, key : Tensor of shape (H, Nq, d) and (H, Nk, d)
        Identities of targets and sources.
    lag : Tensor of shape (H, L, d)
        Embedding of each lag.

    Returns
    -------
    Tensor of shape (H, Nq, Nk, L)
        ``query . (key + lag) / sqrt(d)``.
    """
    who = query @ key.mT  # (H, Nq, Nk)
    when = query @ lag.mT  # (H, Nq, L)
    return (who[..., None] + when[:, :, None]) / math.sqrt(query.shape[-1])


def lag_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalise scores over their last two axes, source and lag, together.

    Parameters
    ----------
    scores : Tensor of shape (..., Nk, L)
    mask : bool Tensor broadcastable to it, optional
        True where a token may be attended to; where none may, the row is all zeros.

    Returns
    -------
    Tensor of the shape of ``scores``

    Examples
    --------
    >>> lag_softmax(torch.zeros(2, 2), torch.tensor([[True, True], [False, False]]))
    tensor([[0.5000, 0.5000],
            [0.0000, 0.0000]])
    """
    if mask is None:
        return scores.flatten(-2).softmax(-1).view(scores.shape)
    lowest = torch.finfo(scores.dtype).min
    attention = scores.masked_fill(~mask, lowest).flatten(-2).softmax(-1).view(scores.shape)
    return attention.masked_fill(~mask, 0.0)


def lag_windows(x: Tensor, n_lags: int, n_steps: int) -> Tensor:
    """View the newest ``n_lags`` steps up to each of the last ``n_steps`` steps, nothing copied.

    Parameters
    ----------
    x : Tensor of shape (B, T, N, ...)
        Steps before the first read as zero.

    Returns
    -------
    Tensor of shape (B, n_steps, L, N, ...)
        Oldest first along L. Source and lag can be flattened without a copy: in memory a window is
        one block, and windows overlap.
    """
    x = x[:, max(0, x.shape[1] - n_steps - n_lags + 1) :]
    missing = n_steps + n_lags - 1 - x.shape[1]
    if missing > 0:
        x = torch.cat([x.new_zeros(x.shape[0], missing, *x.shape[2:]), x], 1)
    return x.contiguous().unfold(1, n_lags, 1).movedim(-1, 2)


class TemporalCrossAttention(nn.Module):
    r"""Attend to (source, lag) tokens: one softmax for each target over all of them.

    With tokens x, identities E (of targets) and K (of sources), lag embeddings P:

    .. math::

        \alpha_{hi}(j, l) &= \mathrm{softmax}_{(j, l)}\;
            (W^Q_h x_{it} + E_{hi}) \cdot (W^K_h x_{j,t-l} + K_{hj} + P_{hl}) / \sqrt{d} \\
        o_{it} &= W^O \big[\, g_{hi}\, M_h(s_t) \textstyle\sum_{j, l} \alpha_{hi}(j, l)\,
            G_h(x_{j,t-l})\, W^V_h x_{j,t-l} \,\big]_h

    Content, identity and lag decide where to look; the gate G what passes; the gain g, which may be
    negative as attention cannot, how much of it counts; M lets a state change that.

    Parameters
    ----------
    d_model, n_heads : int
        Width D, a multiple of the number of heads H.
    max_lag : int
        Oldest lag: each source has ``max_lag + 1`` tokens, 0 to ``max_lag`` bars back.
    dropout : float
        On the output in training, never on the attention.
    n_assets : int, optional
        Number of assets that have an identity and gains of their own. Without it permuting the
        assets permutes the output, and gains belong to heads.
    exclude_self : bool
        Forbid a target to attend to its own past.
    n_states : int
        Size of ``state``; 0 for none.

    Raises
    ------
    InvalidInputError
        ``d_model`` is no multiple of ``n_heads``, or a number is out of range.

    Notes
    -----
    Two paths give the same numbers. Give queries at all T steps and every step is answered, each
    from its own past: dense labels in training. Give the query at the last step alone,
    ``x_query[:, :, -1:]``, and only that is computed: inference.

    Time is O(B T Nq Nk L D). Without ``return_attention`` the fused kernel forms no map.

    The recommended forecaster uses the same scores and the same softmax with returns themselves as
    values: see :mod:`crossattn.attention.lag_signal`.

    Examples
    --------
    >>> layer = TemporalCrossAttention(d_model=8, n_heads=2, max_lag=3, n_assets=3)
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
        *,
        dropout: float = 0.0,
        n_assets: int | None = None,
        exclude_self: bool = False,
        n_states: int = 0,
    ) -> None:
        super().__init__()
        self.head_width = check_heads(d_model, n_heads)
        if isinstance(max_lag, bool) or not isinstance(max_lag, int) or max_lag < 0:
            raise InvalidInputError(f"max_lag must be an integer of at least 0, got {max_lag!r}")
        self.d_model, self.n_heads, self.n_lags = d_model, n_heads, max_lag + 1
        self.n_assets, self.exclude_self, self.n_states = n_assets, exclude_self, n_states
        self.query_projection = nn.Linear(d_model, d_model)
        self.key_projection = nn.Linear(d_model, d_model, bias=False)
        self.value_projection = nn.Linear(d_model, d_model)
        self.output_projection = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Linear(d_model, n_heads)
        self.dropout = nn.Dropout(check_dropout(dropout))
        self.lag_embedding = nn.Parameter(torch.empty(self.n_lags, d_model))
        if n_assets is not None:
            check_positive(n_assets=n_assets)
            self.follower_identity = nn.Parameter(torch.empty(n_assets, d_model))
            self.leader_identity = nn.Parameter(torch.empty(n_assets, d_model))
        self.gain = nn.Parameter(torch.empty(n_assets or 1, n_heads))
        self.modulation = nn.Linear(n_states, n_heads) if n_states else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights; gates and modulations start at 1, so that nothing is shut."""
        for projection in (self.query_projection, self.key_projection, self.value_projection):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)
        nn.init.xavier_uniform_(self.output_projection.weight)
        for neutral in filter(None, (self.gate, self.modulation)):
            nn.init.zeros_(neutral.weight)
            nn.init.zeros_(neutral.bias)
        nn.init.normal_(self.lag_embedding, std=IDENTITY_SCALE)
        if self.n_assets is not None:
            nn.init.normal_(self.follower_identity, std=IDENTITY_SCALE)
            nn.init.normal_(self.leader_identity, std=IDENTITY_SCALE)
        nn.init.ones_(self.gain)

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
        """Let each target attend to the sources' newest tokens.

        Parameters
        ----------
        x_query : Tensor of shape (B, Nq, T, D)
            Tokens of the targets: the *last* T steps of what the sources have.
        x_key_value : Tensor of shape (B, Nk, S, D)
            Tokens of the sources, S >= T.
        mask : bool Tensor of shape (Nq, Nk), (B, Nq, Nk), (B, T, Nq, Nk) or (B, H, T, Nq, Nk)
            True where a target may attend to a source.
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

        Raises
        ------
        InvalidInputError
            Shapes or types do not fit.
        """
        batch, n_steps, n_keys, seen = self._check(x_query, x_key_value, state)
        allowed = self._allowed(mask, key_mask, x_key_value, x_query.shape)
        if key_mask is not None:
            x_key_value = torch.where(key_mask[..., None], x_key_value, 0.0)
        x_key_value = x_key_value[:, :, max(0, seen - n_steps - self.n_lags + 1) :]
        query = self.query_projection(x_query.transpose(1, 2))  # (B, T, Nq, D)
        source = x_key_value.transpose(1, 2)  # (B, S, Nk, D)
        key, value = self.key_projection(source), self.value_projection(source)
        value = self._by_head(value) * 2.0 * torch.sigmoid(self.gate(source))[..., None]
        if self.n_assets is not None:
            query = query + self.follower_identity
            key = key + self.leader_identity
        keys = lag_windows(key, self.n_lags, n_steps)  # (B, T, L, Nk, D)
        keys = keys + self.lag_embedding.flip(0)[:, None]
        values = lag_windows(value.flatten(-2), self.n_lags, n_steps)
        pulled, attention = attend(
            self._by_head(query).flatten(0, 1).transpose(1, 2),
            self._by_head(keys.flatten(2, 3)).flatten(0, 1).transpose(1, 2),
            self._by_head(values.flatten(2, 3)).flatten(0, 1).transpose(1, 2),
            allowed.flatten(-2),
            return_attention=return_attention,
        )  # (B T, H, Nq, D / H), (B T, H, Nq, L Nk)
        pulled = pulled.transpose(1, 2).unflatten(0, (batch, n_steps))  # (B, T, Nq, H, D / H)
        pulled = pulled * self._gains(state)[..., None]
        output = self.dropout(self.output_projection(pulled.flatten(-2))).transpose(1, 2)
        if attention is not None:
            attention = attention.unflatten(-1, (self.n_lags, n_keys)).flip(-2).transpose(-1, -2)
            attention = attention.unflatten(0, (batch, n_steps)).transpose(1, 2)
        return output, attention

    def _gains(self, state: Tensor | None) -> Tensor:
        """Return what each head's pull counts, (B|1, T|1, Nq|1, H)."""
        gain = self.gain[None, None]
        if state is None:
            return gain
        return gain * (1.0 + torch.tanh(self.modulation(state)))[:, :, None]

    def _allowed(self, mask, key_mask, x_key_value, query_shape) -> Tensor:
        """Return which tokens may be attended to, (B T | T, H|1, Nq|1, L, Nk), oldest lag first."""
        batch, n_queries, n_steps, _ = query_shape
        n_keys, seen = x_key_value.shape[1:3]
        device = x_key_value.device
        step = torch.arange(seen - n_steps, seen, device=device)
        back = torch.arange(self.n_lags - 1, -1, -1, device=device)
        exists = (step[:, None] >= back)[None, :, None, None, :, None]  # (1, T, 1, 1, L, 1)
        pairs = pair_mask(mask, (batch, self.n_heads, n_steps, n_queries, n_keys))
        tokens = others = None
        if pairs is not None:
            pairs = pairs.unsqueeze(-2)  # (B, T, H, Nq, 1, Nk)
        if key_mask is not None:
            check_mask(key_mask, "key_mask")
            if key_mask.shape != (batch, n_keys, seen):
                raise InvalidInputError(
                    f"key_mask must have shape {(batch, n_keys, seen)}, got {tuple(key_mask.shape)}"
                )
            tokens = lag_windows(key_mask.transpose(1, 2), self.n_lags, n_steps)[:, :, None, None]
        if self.exclude_self:
            others = ~torch.eye(n_queries, n_keys, dtype=torch.bool, device=device)
            others = others[None, None, None, :, None, :]
        allowed = all_of([exists, pairs, tokens, others])
        size = (batch, n_steps, -1, -1, self.n_lags, n_keys)
        return allowed.expand(size).flatten(0, 1)

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.n_heads, self.head_width))

    def _check(self, x_query: Tensor, x_key_value: Tensor, state: Tensor | None):
        for name, tokens in (("x_query", x_query), ("x_key_value", x_key_value)):
            if tokens.dim() != 4 or tokens.shape[-1] != self.d_model:
                raise InvalidInputError(
                    f"{name} must have shape (batch, assets, time, {self.d_model}), "
                    f"got {tuple(tokens.shape)}"
                )
        batch, n_queries, n_steps, _ = x_query.shape
        n_keys, seen = x_key_value.shape[1:3]
        if x_key_value.shape[0] != batch or seen < n_steps:
            raise InvalidInputError(
                "x_key_value must have the batch of x_query and at least its steps, "
                f"got {tuple(x_key_value.shape)} for {tuple(x_query.shape)}"
            )
        if self.n_assets is not None and (n_queries, n_keys) != (self.n_assets, self.n_assets):
            raise InvalidInputError(
                f"n_assets={self.n_assets} assets have identities, "
                f"got {n_queries} targets and {n_keys} sources"
            )
        if self.n_states and (state is None or state.shape != (batch, n_steps, self.n_states)):
            raise InvalidInputError(
                f"state must have shape {(batch, n_steps, self.n_states)}, "
                f"got {None if state is None else tuple(state.shape)}"
            )
        if not self.n_states and state is not None:
            raise InvalidInputError("state was given to a layer with n_states=0")
        return batch, n_steps, n_keys, seen
