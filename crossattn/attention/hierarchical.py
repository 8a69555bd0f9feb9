"""Hierarchical cross-attention: each asset attends to assets, to sectors and to markets."""

from collections.abc import Hashable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from crossattn.attention._checks import check_dropout, check_tokens
from crossattn.attention.cross import MultiHeadCrossAttention
from crossattn.attention.masks import allowed_pairs, attended, attending, zero_missing
from crossattn.errors import InvalidInputError

Labels = Mapping[int, Hashable] | Sequence[Hashable]


class HierarchicalCrossAttention(nn.Module):
    """Cross-attention to single assets, sector means and market means, combined by one matrix.

    A sector's token is the mean of its members' tokens, far less noisy than any one of them if the
    map of sectors is right, and worse than none if it is wrong. In masks True means *may attend*.

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
        On the output in training.
    n_assets : int, optional
        Gives each asset an embedding at the asset level; must be the number of mapped assets.
        Sectors and markets always have one.
    exclude_self : bool
        Forbid an asset to attend to itself at the asset level.

    Raises
    ------
    InvalidInputError
        The mappings do not name the same positions 0..N-1, or the sizes do not fit.

    Notes
    -----
    A token that no asset may attend to is left out of its sector's mean. A forbidden pair of
    different assets also forbids the query the key's whole sector. Time is not mixed.

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
        dropout: float = 0.1,
        *,
        n_assets: int | None = None,
        exclude_self: bool = False,
    ) -> None:
        super().__init__()
        self.sectors, sector_of = _group_positions(sector_mapping, "sector_mapping")
        self.markets, market_of = _group_positions(market_mapping, "market_mapping")
        if len(sector_of) != len(market_of) or n_assets not in (None, len(sector_of)):
            raise InvalidInputError(
                "sector_mapping, market_mapping and n_assets must cover the same assets, got "
                f"{len(sector_of)}, {len(market_of)} and {n_assets}"
            )
        self.register_buffer("sector_of", sector_of, persistent=False)
        self.register_buffer("market_of", market_of, persistent=False)
        attention_of = partial(MultiHeadCrossAttention, d_model, n_heads, 0.0)
        self.asset_attention = attention_of(n_assets=n_assets, exclude_self=exclude_self)
        self.sector_attention = attention_of(n_assets=len(self.sectors))
        self.market_attention = attention_of(n_assets=len(self.markets))
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
        """Attend from each asset at all three levels, bar by bar.

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
            Exactly 0 for fully masked queries.
        attention : dict of Tensor, or None
            ``"asset"`` (B, H, T, N, N), ``"sector"`` (B, H, T, N, S) with columns in the order of
            ``.sectors``, ``"market"`` (B, H, T, N, M) in that of ``.markets``. At each level rows
            sum to 1, or to 0 where all is masked.
        """
        n_assets = len(self.sector_of)
        check_tokens("x", x, self.asset_attention.d_model)
        if x.shape[1] != n_assets:
            wanted = f"x must have shape (batch, {n_assets} mapped assets, time, width)"
            raise InvalidInputError(f"{wanted}, got {tuple(x.shape)}")
        batch, _, n_steps, _ = x.shape
        sizes = (batch, self.asset_attention.n_heads, n_steps, n_assets, n_assets)
        allowed = allowed_pairs(  # (B|1, T|1, H|1, N, N) or None
            mask, token_mask, token_mask, sizes, names=("token_mask", "token_mask")
        )
        if allowed is not None:
            allowed = allowed.expand(-1, -1, -1, n_assets, n_assets)
            used = attending(allowed) | attended(allowed)  # (B|1, T|1, N)
            x = zero_missing(x, used.transpose(1, 2))
        outputs, attentions = {}, {}
        outputs["asset"], attentions["asset"] = self.asset_attention(
            x, x, _by_head(allowed), return_attention=return_attention
        )
        for level, attention, group_of, n_groups in [
            ("sector", self.sector_attention, self.sector_of, len(self.sectors)),
            ("market", self.market_attention, self.market_of, len(self.markets)),
        ]:
            means, allowed_groups = _group_means(x, allowed, group_of, n_groups)
            outputs[level], attentions[level] = attention(
                x,
                means,  # (B, G, T, D)
                _by_head(allowed_groups),
                query_assets=group_of,
                return_attention=return_attention,
            )
        combined = self.combination(torch.cat(list(outputs.values()), dim=-1))  # (B, N, T, D)
        return self.dropout(combined), attentions if return_attention else None


def _group_positions(mapping: Labels, name: str) -> tuple[list[Hashable], Tensor]:
    """Return the labels in order, and for each asset position the number of its label."""
    if isinstance(mapping, Mapping):
        if sorted(mapping, key=str) != sorted(range(len(mapping)), key=str):
            raise InvalidInputError(
                f"{name} must map the asset positions 0..{len(mapping) - 1}, got {list(mapping)}"
            )
        mapping = [mapping[position] for position in range(len(mapping))]
    if isinstance(mapping, str) or not isinstance(mapping, Sequence) or not len(mapping):
        raise InvalidInputError(f"{name} must give a label for each position, got {mapping!r}")
    labels = sorted(set(mapping), key=str)
    return labels, torch.tensor([labels.index(label) for label in mapping])


def _group_means(x, allowed, group_of, n_groups):
    """Mean token of each group (B, G, T, D), and which queries may attend to it.

    The mask has the axes (B|1, T|1, H|1, N, G), or is None where ``allowed`` is.
    """
    member = torch.nn.functional.one_hot(group_of, n_groups).to(x)  # (N, G)
    if allowed is None:
        return torch.einsum("bntd,ng->bgtd", x, member / member.sum(dim=0)), None
    present = attended(allowed)  # (B|1, T|1, N)
    share = present.to(x).unsqueeze(-1) * member  # (B|1, T|1, N, G)
    share = share / share.sum(dim=2, keepdim=True).clamp(min=1.0)
    means = torch.einsum("bntd,btng->bgtd", x, share.expand(len(x), x.shape[2], -1, -1))
    # A query may not attend to a group without members, nor to one with a member, other than the
    # query itself, that is forbidden to it: the mean would carry what the mask forbids.
    itself = torch.eye(len(group_of), dtype=torch.bool, device=x.device)
    forbidden = ~allowed & present[:, :, None, None, :] & ~itself  # (B|1, T|1, H|1, N, N)
    closed = (forbidden.to(x) @ member) > 0  # (B|1, T|1, H|1, N, G)
    has_members = (present.to(x) @ member) > 0  # (B|1, T|1, G)
    asks = allowed.any(dim=-1, keepdim=True)  # (B|1, T|1, H|1, N, 1)
    return means, ~closed & has_members[:, :, None, None, :] & asks


def _by_head(allowed: Tensor | None) -> Tensor | None:
    """(B|1, T|1, H|1, N, M) -> (B|1, H|1, T|1, N, M), the axes of a layer's ``mask``."""
    return None if allowed is None else allowed.transpose(1, 2)
