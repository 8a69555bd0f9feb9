"""Content-based lag attention: scores from what tokens contain, whatever the asset.

Built in chapter: Lag attention.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import conv1d

OWN_LIMIT = 4.0
SCORE_LIMIT = 80.0  # of a token, whose exponential single precision holds


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
    The softmax factors into one over the lags of a source and one over sources, and a score is the
    sum of a token's and a lag's: one exponential a token serves all rows that read it.
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

    def masses(self, content: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the softmax before it is normalised, over tokens, sources and followers.

        Parameters
        ----------
        content : Tensor of shape (C, N, L - 1 + B)
            Consecutive steps, of which the last B are answered.

        Returns
        -------
        token : Tensor of shape (N, M, L - 1 + B)
            Mass of each token, before that of its lag, which is ``exp(lag_bias)``.
        source : Tensor of shape (N, M, B)
            Mass of each source per mass of its tokens.
        total : Tensor of shape (N, M, B)
            Mass of all sources, as each follower sees them.
        """
        both = torch.cat([self.token_weight, self.source_weight])
        token, now = torch.einsum("mc,cnt->nmt", both, content).chunk(2, 1)
        token = token.clamp(-SCORE_LIMIT, SCORE_LIMIT).exp()  # (N, M, L - 1 + B)
        over_lags = self.over_lags(token)  # (N, M, B)
        score = over_lags.log() + now[..., self.n_lags - 1 :]
        mass = (score - score.amax(0)).exp()
        own = self.own_bias.clamp(-OWN_LIMIT, OWN_LIMIT).exp()[:, None]
        return token, mass / over_lags, mass.sum(0) + (own - 1.0) * mass

    def over_lags(self, values: Tensor) -> Tensor:
        """Add up ``(..., M, L - 1 + B)`` over the lags of each step, by their mass: (..., M, B)."""
        kernel = self.lag_bias.flip(-1).exp()[:, None]  # (M, 1, L), oldest first
        return conv1d(values, kernel, groups=len(kernel))

    def forward(self, returns: Tensor, content: Tensor) -> Tensor:
        """Return forecasts ``(M, B, N)`` of the next step from ``returns`` (N, L - 1 + B)."""
        token, source, total = self.masses(content)
        values = self.over_lags(token * returns[:, None])  # (N, M, B)
        values = source * values * self.source_scale.exp().T[..., None]
        others = values.sum(0) - values  # all sources but the follower itself
        return (self.gain.T[..., None] * others / total).permute(1, 2, 0)

    def coefficients(self, content: Tensor, followers: ArrayLike | slice = slice(None)) -> Tensor:
        """Return what one unit of each token adds to each forecast, ``(M, B, F, N, L)``.

        Axes are follower, leader and lag, newest first; times the returns they sum to the forecast.
        ``followers`` are positions of those wanted, all by default.
        """
        token, source, total = self.masses(content)
        follower = self.gain.T[followers, :, None] / total[followers]  # (F, M, B)
        leader = source * self.source_scale.exp().T[..., None]  # (N, M, B)
        other = 1.0 - torch.eye(len(source), device=source.device)[followers]
        pair = torch.einsum("fmb,nmb,fn->mbfn", follower, leader, other)
        lags = token.unfold(-1, self.n_lags, 1).flip(-1) * self.lag_bias.exp()[:, None]
        return pair[..., None] * lags.permute(1, 2, 0, 3)[:, :, None]  # lags: (N, M, B, L)
