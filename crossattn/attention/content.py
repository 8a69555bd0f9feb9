"""Content-based lag attention: scores from what tokens contain, whatever the asset.

Built in chapter: Lag attention.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

OWN_LIMIT = 4.0


class ContentHeads(nn.Module):
    r"""Attention over (source, lag) tokens by their contents, with learned weights.

    .. math::

        p_i(t) = g_i \sum_{j \ne i,\, l} \alpha_i(j, l)\, e^{s_j} r_j(t - l), \qquad
        \alpha_i = \mathrm{softmax}_{(j, l)}\; w \cdot c_j(t - l) + u \cdot c_j(t) + \pi_l
        + \kappa\, [j = i]

    for content channels c such as volume or range. A follower competes for attention and carries no
    value. M members, side by side, differ in their initial weights: the first axis of each
    parameter.

    Notes
    -----
    The softmax factors into one over the lags of a source and one over sources: N·L a row, not
    N²·L.
    """

    def __init__(self, n_members: int, n_sources: int, n_channels: int, n_lags: int):
        super().__init__()
        self.token_weight = nn.Parameter(0.05 * torch.randn(n_members, n_channels))  # w
        self.source_weight = nn.Parameter(0.05 * torch.randn(n_members, n_channels))  # u
        recent = -torch.log1p(torch.arange(n_lags).float())
        self.lag_bias = nn.Parameter(recent.repeat(n_members, 1))  # pi
        self.own_bias = nn.Parameter(torch.zeros(n_members))  # kappa
        self.source_scale = nn.Parameter(torch.zeros(n_members, n_sources))  # s
        self.gain = nn.Parameter(torch.full((n_members, n_sources), 0.1))  # g

    @property
    def n_lags(self) -> int:
        """Lags that are attended to."""
        return self.lag_bias.shape[1]

    def scores(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """Return score of each source ``(M, B, N)`` and attention to its lags.

        Parameters
        ----------
        content : Tensor of shape (C, N, L - 1 + B)
            Consecutive steps, of which the last B are answered.

        Returns
        -------
        source_score : Tensor of shape (M, B, N)
        lag_attention : Tensor of shape (M, N, B, L)
            Sums to 1 over lags, oldest first.
        """
        both = torch.cat([self.token_weight, self.source_weight])
        token, now = torch.einsum("mc,cnt->mnt", both, content).chunk(2)  # (M, N, L - 1 + B) each
        windows = token.unfold(-1, self.n_lags, 1)  # (M, N, B, L)
        windows = windows + self.lag_bias.flip(-1)[:, None, None]
        total = windows.logsumexp(-1)  # (M, N, B)
        source_score = (total + now[..., self.n_lags - 1 :]).mT  # (M, B, N)
        return source_score, (windows - total[..., None]).exp()

    def masses(self, source_score: Tensor) -> tuple[Tensor, Tensor]:
        """Return each source's mass ``(M, B, N)`` and each follower's total ``(M, B, N)``."""
        mass = (source_score - source_score.amax(-1, keepdim=True)).exp()
        own = self.own_bias.clamp(-OWN_LIMIT, OWN_LIMIT).exp()[:, None, None]
        return mass, mass.sum(-1, keepdim=True) + (own - 1.0) * mass

    def forward(self, returns: Tensor, content: Tensor) -> Tensor:
        """Return forecasts ``(M, B, N)`` of the next step from ``returns`` (N, L - 1 + B)."""
        source_score, lag_attention = self.scores(content)
        mass, total = self.masses(source_score)
        values = (lag_attention * returns.unfold(-1, self.n_lags, 1)).sum(-1)  # (M, N, B)
        values = mass * (values * self.source_scale.exp()[..., None]).mT  # (M, B, N)
        others = values.sum(-1, keepdim=True) - values  # all sources but the follower itself
        return self.gain[:, None] * others / total

    def coefficients(self, content: Tensor, followers: ArrayLike | slice = slice(None)) -> Tensor:
        """Return what one unit of each token adds to each forecast, ``(M, B, F, N, L)``.

        Axes are follower, leader and lag, newest first; times the returns they sum to the forecast.
        ``followers`` are positions of those wanted, all by default.
        """
        source_score, lag_attention = self.scores(content)
        mass, total = self.masses(source_score)
        follower = (self.gain[:, None] / total)[..., followers]  # (M, B, F)
        leader = mass * self.source_scale.exp()[:, None]  # (M, B, N)
        other = 1.0 - torch.eye(mass.shape[-1], device=mass.device)[followers]
        pair = follower[..., None] * leader[:, :, None] * other  # (M, B, F, N)
        lags = lag_attention.transpose(1, 2).flip(-1)  # (M, B, N, L)
        return pair[..., None] * lags[:, :, None]
