"""Lag attention with scalar values: every head is a convex combination of lagged signals.

An :class:`IdentityLagLayer` scores assets and lags, the same at every step; a
:class:`ContentLagLayer` scores what the tokens contain, whatever the asset. Both give a coefficient
for each token, so that a forecast is a sum a reader can check.

Built in chapter: Lag attention.
"""

import torch
from torch import Tensor, nn

from crossattn.attention.lagged import embedding_scores, lag_softmax
from crossattn.attention.masks import not_self_mask


class IdentityLagLayer(nn.Module):
    r"""Lag attention from asset and lag embeddings, with signed gains, a gate and a modulation.

    .. math::

        p_i = \sum_h g_{hi} M_h(s, z) \sum_{j \ne i,\, l} \alpha_{hi}(j, l)\, G(c_{jl})\, v_{jl}

    with :math:`\alpha_{hi} = \mathrm{softmax}_{(j,l)} E_{hi} \cdot (K_{hj} + P_{hl}) / \sqrt{d}`,
    the gate :math:`G = 2 \sigma(u c + b)` and the modulation
    :math:`M_h = m_{0h} + m_{1h} \tanh(a_h \cdot s + b_h \cdot z + d_h)` of a common state s and of
    the heads' own recent forecast skill z, so that a head that has recently been wrong can change
    its sign. Attention is positive; the gains carry the sign, which a softmax cannot.
    Scores are sums, so that the attention of a follower in one head is a distribution over sources
    times one over lags: two leaders at two lags take two heads.

    Parameters
    ----------
    n_assets, n_lags, n_heads, width, n_states : int
        Assets, tokens of each, heads, width of an asset embedding, size of ``s``.
    """

    def __init__(self, n_assets: int, n_lags: int, n_heads: int, width: int, n_states: int):
        super().__init__()
        head = torch.arange(n_heads)
        self.query_embedding = nn.Parameter(0.5 * torch.randn(n_heads, n_assets, width))
        self.key_embedding = nn.Parameter(0.5 * torch.randn(n_heads, n_assets, width))
        self.lag_embedding = nn.Parameter(0.5 * torch.randn(n_heads, n_lags, width))
        sign = 1.0 - 2.0 * (head % 2)
        self.gain = nn.Parameter(0.03 * sign[:, None].repeat(1, n_assets))  # (H, N)
        self.gate_weight = nn.Parameter(torch.zeros(()))
        self.gate_bias = nn.Parameter(torch.zeros(()))
        self.base = nn.Parameter(torch.ones(n_heads))
        self.swing = nn.Parameter(0.5 - (head // 2 % 2).float())
        self.state_weight = nn.Parameter(torch.full((n_heads, n_states), 0.5))
        self.record_weight = nn.Parameter(0.5 * torch.eye(n_heads))
        self.state_bias = nn.Parameter(torch.zeros(n_heads))

    def attention(self) -> Tensor:
        """Return every head's attention ``(H, N, N, L)``; no asset attends to itself."""
        scores = embedding_scores(self.query_embedding, self.key_embedding, self.lag_embedding)
        assets = torch.arange(scores.shape[1], device=scores.device)
        return lag_softmax(scores, not_self_mask(assets, assets)[:, :, None])

    def gate(self, content: Tensor) -> Tensor:
        """Return how much of each token's value passes, in (0, 2); 1 before training."""
        return 2.0 * torch.sigmoid(self.gate_weight * content + self.gate_bias)

    def modulation(self, state: Tensor, record: Tensor) -> Tensor:
        """Return the factor of every head's gain, ``(B, H)``."""
        moved = state @ self.state_weight.mT + record @ self.record_weight.mT + self.state_bias
        return self.base + self.swing * torch.tanh(moved)

    def forward(
        self, values: Tensor, content: Tensor, state: Tensor, record: Tensor, ahead: int = 1
    ) -> Tensor:
        """Return the signal of each follower, ``(B, N)``.

        Parameters
        ----------
        values, content : Tensor of shape (B, N, L)
            Signals of the sources, and what gates them; index k is k steps back.
        state : Tensor of shape (B, S)
            State of the market, common to all assets.
        record : Tensor of shape (B, H)
            Recent forecast skill of each head.
        ahead : int
            Steps that the signal is the sum of. A source that leads by l + 1 steps has newest
            l + 1 values that no asset has followed yet, so a token then counts all of them.
        """
        return (self.head_gain(state, record) * self.pull(values, content, ahead)).sum(1)

    def pull(self, values: Tensor, content: Tensor, ahead: int = 1) -> Tensor:
        """Return the attended, gated values of every head and follower, ``(B, H, N)``."""
        tokens = running_sum(self.gate(content) * values, ahead).flatten(1)  # (B, N L)
        mixing = self.attention().flatten(2).flatten(0, 1)  # (H N, N L)
        return (tokens @ mixing.mT).unflatten(1, self.gain.shape)

    def head_gain(self, state: Tensor, record: Tensor) -> Tensor:
        """Return the signed gain of every head and follower, ``(B, H, N)``."""
        return self.modulation(state, record)[:, :, None] * self.gain

    def coefficients(
        self, content: Tensor, state: Tensor, record: Tensor, ahead: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return attention ``(B, H, N, N, L)`` and each value's weight ``(B, N, N, L)``."""
        attention = self.attention()
        signed = torch.einsum("bhi,hijl->bijl", self.head_gain(state, record), attention)
        coefficient = running_sum(signed.flip(-1), ahead).flip(-1) * self.gate(content)[:, None]
        return attention.expand(content.shape[0], -1, -1, -1, -1), coefficient


class ContentLagLayer(nn.Module):
    r"""Lag attention from token contents, such as relative volume; it may change at each bar.

    .. math::

        p_i = \gamma \sum_{j \ne i,\, l} \alpha_i(j, l)\, v_{jl}, \qquad
        \alpha_i = \mathrm{softmax}_{(j,l)}\; w\, c_{jl} + \pi_l + \kappa [j = i]

    The follower competes for attention and carries no value: where its own content scores highest,
    the other assets get little.

    Parameters
    ----------
    n_lags : int
        Tokens a source.

    Notes
    -----
    The signal is for the next step, whatever ``ahead`` is: later contents are not known now.

    The softmax factors into one over the lags of a source and one over sources: ``N²``, not ``N²
    L``.
    """

    def __init__(self, n_lags: int):
        super().__init__()
        self.content_weight = nn.Parameter(torch.zeros(()))
        self.content_lag = nn.Parameter(torch.zeros(n_lags))
        self.content_self = nn.Parameter(torch.zeros(()))
        self.content_gain = nn.Parameter(torch.tensor(0.1))

    def _factors(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """Return attention by source ``(B, N, N)``, none to itself, and by lag ``(B, N, L)``."""
        scores = self.content_weight * content + self.content_lag  # (B, N, L)
        by_lag = scores.softmax(-1)
        itself = torch.eye(scores.shape[1], device=scores.device, dtype=scores.dtype)
        by_source = (scores.logsumexp(-1)[:, None, :] + self.content_self * itself).softmax(-1)
        return by_source * (1 - itself), by_lag

    def forward(
        self, values: Tensor, content: Tensor, state: Tensor, record: Tensor, ahead: int = 1
    ) -> Tensor:
        """Return the signal ``(B, N)``; shapes as in :meth:`IdentityLagLayer.forward`."""
        by_source, by_lag = self._factors(content)
        return self.content_gain * (by_source @ (by_lag * values).sum(-1, keepdim=True)).squeeze(-1)

    def head_gain(self, state: Tensor, record: Tensor) -> Tensor:
        """Return the gain of the one head, ``(B, 1, 1)``."""
        return self.content_gain.expand(state.shape[0], 1, 1)

    def coefficients(
        self, content: Tensor, state: Tensor, record: Tensor, ahead: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return attention ``(B, 1, N, N, L)`` and each value's weight ``(B, N, N, L)``."""
        by_source, by_lag = self._factors(content)
        attention = by_source[..., None] * by_lag[:, None]  # (B, N, N, L)
        return attention[:, None], self.content_gain * attention


def running_sum(values: Tensor, steps: int) -> Tensor:
    """Add to each element of the last axis the ``steps - 1`` before it.

    Examples
    --------
    >>> running_sum(torch.tensor([1.0, 2.0, 3.0, 4.0]), 3)
    tensor([1., 3., 6., 9.])
    """
    if steps == 1:
        return values
    total = values.cumsum(-1)
    return torch.cat([total[..., :steps], total[..., steps:] - total[..., :-steps]], -1)
