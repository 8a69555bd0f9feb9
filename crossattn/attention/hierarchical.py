"""Three levels at once: an asset listens to assets, to sectors and to markets."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn

from crossattn.attention.cross import MultiHeadCrossAttention
from crossattn.attention.functional import check_dropout, check_tokens
from crossattn.attention.masks import all_of, pair_mask, token_mask
from crossattn.errors import InvalidInputError

Labels = Mapping[int, Hashable] | Sequence[Hashable]


class HierarchicalCrossAttention(nn.Module):
    """Attend to single assets, to sector means and to market means, and combine what was heard.

    The query is always the asset itself. A sector's token is the mean of its members' tokens, which
    is a far less noisy thing to attend to than any one of them, provided that the map of sectors
    is right: a wrong map averages strangers, and the layer is then worse than having none.

    Parameters
    ----------
    d_model : int
        Width D of the tokens, a multiple of ``n_heads``.
    n_heads : int
        Number of heads H, the same at each level.
    sector_mapping, market_mapping : mapping or sequence
        The label of each asset position 0..N-1: ``{0: "banks", 1: "oil", ...}`` or
        ``["banks", "oil", ...]``. Labels are ordered by name.
    dropout : float
        Dropout on the output in training.
    n_assets : int, optional
        Gives each asset an identity at the asset level; must be the number of mapped assets.
        Sectors and markets always have one: their labels say who they are.
    exclude_self : bool
        Forbid an asset to attend to itself at the asset level.

    Raises
    ------
    InvalidInputError
        The mappings do not name the same positions 0..N-1, or the sizes do not fit.

    Notes
    -----
    A token that no asset may attend to is left out of its sector's mean. A pair of different assets
    that ``mask`` forbids closes the whole sector of the key to that query, so that nothing reaches
    an asset through a mean that it may not see directly.

    Time is not mixed: each bar attends to its own bar.

    References
    ----------
    Yang et al. (2016), "Hierarchical Attention Networks for Document Classification".

    Examples
    --------
    >>> layer = HierarchicalCrossAttention(8, 2, ["oil", "oil", "banks"], ["stocks"] * 3)
    >>> output, attention = layer(torch.zeros(4, 3, 5, 8))
    >>> output.shape
    torch.Size([4, 3, 5, 8])
    >>> {level: tuple(shown.shape) for level, shown in attention.items()}
    {'asset': (4, 2, 5, 3, 3), 'sector': (4, 2, 5, 3, 2), 'market': (4, 2, 5, 3, 1)}

    Built in chapter: Hierarchy
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        sector_mapping: Labels,
        market_mapping: Labels,
        dropout: float = 0.0,
        *,
        n_assets: int | None = None,
        exclude_self: bool = False,
    ) -> None:
        super().__init__()
        self.sectors, sector_of = _group_positions(sector_mapping, "sector_mapping")
        self.markets, market_of = _group_positions(market_mapping, "market_mapping")
        if len(sector_of) != len(market_of) or n_assets not in (None, len(sector_of)):
            raise InvalidInputError(
                "sector_mapping, market_mapping and n_assets must speak of as many assets, got "
                f"{len(sector_of)}, {len(market_of)} and {n_assets}"
            )
        self.register_buffer("sector_of", sector_of, persistent=False)
        self.register_buffer("market_of", market_of, persistent=False)
        self.asset_attention = MultiHeadCrossAttention(
            d_model, n_heads, 0.0, n_assets=n_assets, exclude_self=exclude_self
        )
        self.sector_attention = MultiHeadCrossAttention(
            d_model, n_heads, 0.0, n_assets=len(self.sectors)
        )
        self.market_attention = MultiHeadCrossAttention(
            d_model, n_heads, 0.0, n_assets=len(self.markets)
        )
        self.combination = nn.Linear(3 * d_model, d_model, bias=False)
        self.dropout = nn.Dropout(check_dropout(dropout))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        token_mask: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Let each asset attend at all three levels, bar by bar.

        Parameters
        ----------
        x : Tensor of shape (B, N, T, D)
            Tokens, known at the close of their bar.
        mask : bool Tensor of shape (N, N), (B, N, N), (B, T, N, N) or (B, H, T, N, N), optional
            True where an asset may attend to another.
        token_mask : bool Tensor of shape (B, N, T), optional
            True where a token exists; the others may hold NaN.
        return_attention : bool
            False takes the fused kernel and returns None as attention.

        Returns
        -------
        output : Tensor of shape (B, N, T, D)
            Exactly 0 where an asset may attend to nobody.
        attention : dict of Tensor, or None
            ``"asset"`` (B, H, T, N, N), ``"sector"`` (B, H, T, N, S) with columns in the order of
            ``.sectors``, ``"market"`` (B, H, T, N, M) in that of ``.markets``. At each level rows
            sum to 1, or to 0 where all is masked.

        Raises
        ------
        InvalidInputError
            Shapes do not fit.
        """
        n_assets = len(self.sector_of)
        check_tokens("x", x, self.asset_attention.d_model)
        if x.shape[1] != n_assets:
            raise InvalidInputError(
                f"x must have shape (batch, {n_assets} mapped assets, time, width), "
                f"got {tuple(x.shape)}"
            )
        allowed = self._allowed(mask, token_mask, x)  # (B|1, T|1, H|1, N, N) or None
        if allowed is not None:
            speaks = allowed.any(dim=3).any(dim=2).transpose(1, 2).unsqueeze(-1)  # (B|1, N, T|1, 1)
            listens = allowed.any(dim=4).any(dim=2).transpose(1, 2).unsqueeze(-1)
            x = torch.where(speaks | listens, x, 0.0)
        options = {"return_attention": return_attention}
        heard, shown = {}, {}
        heard["asset"], shown["asset"] = self.asset_attention(x, x, _outside(allowed), **options)
        levels = [
            ("sector", self.sector_attention, self.sector_of, len(self.sectors)),
            ("market", self.market_attention, self.market_of, len(self.markets)),
        ]
        for level, attention, group_of, n_groups in levels:
            means, open_to = _summarise(x, allowed, group_of, n_groups)
            heard[level], shown[level] = attention(
                x, means, _outside(open_to), query_assets=group_of, **options
            )
        output = self.dropout(self.combination(torch.cat(list(heard.values()), dim=-1)))
        return output, shown if return_attention else None

    def _allowed(self, mask, tokens, x):
        batch, n_assets, n_steps, _ = x.shape
        sizes = (batch, self.asset_attention.n_heads, n_steps, n_assets, n_assets)
        shape = (batch, n_assets, n_steps)
        allowed = all_of(
            [
                pair_mask(mask, sizes),
                token_mask(tokens, shape, "token_mask", as_key=True),
                token_mask(tokens, shape, "token_mask", as_key=False),
            ]
        )
        return None if allowed is None else allowed.expand(-1, -1, -1, n_assets, n_assets)


def _group_positions(mapping: Labels, name: str) -> tuple[list[Hashable], Tensor]:
    """Return the labels in order, and for each asset position the number of its label."""
    if isinstance(mapping, Mapping):
        if sorted(mapping, key=str) != sorted(range(len(mapping)), key=str):
            raise InvalidInputError(
                f"{name} must map the asset positions 0..{len(mapping) - 1}, got {list(mapping)}"
            )
        mapping = [mapping[position] for position in range(len(mapping))]
    if isinstance(mapping, str) or not isinstance(mapping, Sequence) or not len(mapping):
        raise InvalidInputError(
            f"{name} must give a label for each asset position, got {mapping!r}"
        )
    labels = sorted(set(mapping), key=str)
    return labels, torch.tensor([labels.index(label) for label in mapping])


def _summarise(x, allowed, group_of, n_groups):
    """Mean token of each group (B, G, T, D), and to whom it is open (B|1, T|1, H|1, N, G)."""
    member = torch.nn.functional.one_hot(group_of, n_groups).to(x)  # (N, G)
    if allowed is None:
        return torch.einsum("bntd,ng->bgtd", x, member / member.sum(dim=0)), None
    speaks = allowed.any(dim=3).any(dim=2)  # (B|1, T|1, N)
    share = speaks.to(x).unsqueeze(-1) * member  # (B|1, T|1, N, G)
    share = share / share.sum(dim=2, keepdim=True).clamp(min=1.0)
    means = torch.einsum("bntd,btng->bgtd", x, share.expand(len(x), x.shape[2], -1, -1))
    # A group is closed to a query where it has nobody to offer, or where one of its members, other
    # than the query itself, is forbidden to it.
    myself = torch.eye(len(group_of), dtype=torch.bool, device=x.device)
    forbidden = ~allowed & speaks[:, :, None, None, :] & ~myself  # (B|1, T|1, H|1, N, N)
    closed = (forbidden.to(x) @ member) > 0
    offered = (speaks.to(x) @ member) > 0  # (B|1, T|1, G)
    listens = allowed.any(dim=-1, keepdim=True)
    return means, ~closed & offered[:, :, None, None, :] & listens


def _outside(allowed: Tensor | None) -> Tensor | None:
    """Give a mask of this room's inner axes the axes that a layer's ``mask`` has."""
    return None if allowed is None else allowed.transpose(1, 2)
