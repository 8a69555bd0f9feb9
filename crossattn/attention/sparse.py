"""Sparse attention: alternatives to softmax that give exact zeros.

Each is a ``normalise(scores, mask)`` for a layer. None saves time: all pairs are scored first.

Built in chapter: Many assets
"""

import torch
from torch import Tensor

from crossattn._validation import check_int
from crossattn.attention.functional import masked_softmax
from crossattn.errors import InvalidInputError, import_optional


def top_k_softmax(scores: Tensor, mask: Tensor | None = None, *, k: int) -> Tensor:
    """Softmax among the ``k`` largest allowed scores of each row; the rest get exactly 0.

    Parameters
    ----------
    scores : Tensor of shape (..., Nq, Nk)
    mask : bool Tensor broadcastable to the shape of ``scores``, optional
        True where attending is allowed; a row with fewer than ``k`` allowed keys uses those.
    k : int
        How many keys a row may use.

    Returns
    -------
    Tensor of the shape of ``scores``
        Rows sum to 1, or to 0 where all is masked.

    References
    ----------
    Gupta et al. (2021), "Memory-efficient Transformers via Top-k Attention".

    Examples
    --------
    >>> top_k_softmax(torch.tensor([[0.0, 1.0, 1.0]]), k=2)
    tensor([[0.0000, 0.5000, 0.5000]])
    """
    check_int("k", k)
    if k >= scores.shape[-1]:
        return masked_softmax(scores, mask)
    allowed = scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    chosen = allowed.topk(k, dim=-1).indices
    among = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)
    return masked_softmax(scores, among if mask is None else among & mask)


def entmax(scores: Tensor, mask: Tensor | None = None, *, alpha: float = 1.5) -> Tensor:
    r"""Entmax or sparsemax: exact zeros wherever a score is far enough below the best.

    Parameters
    ----------
    scores : Tensor of shape (..., Nq, Nk)
    mask : bool Tensor broadcastable to the shape of ``scores``, optional
        True where attending is allowed.
    alpha : {1.5, 2.0}
        How sparse: 1.5 is entmax, 2 sparsemax; softmax would be 1.

    Returns
    -------
    Tensor of the shape of ``scores``
        Rows sum to 1, or to 0 where all is masked.

    Notes
    -----
    Entmax maximises :math:`a \cdot s` plus the Tsallis entropy of order ``alpha`` over the simplex.

    References
    ----------
    Peters, Niculae and Martins (2019), "Sparse Sequence-to-Sequence Models"; Martins and Astudillo
    (2016), "From Softmax to Sparsemax".

    Examples
    --------
    >>> entmax(torch.tensor([[0.0, 2.0, 2.0]]))
    tensor([[0.0000, 0.5000, 0.5000]])
    """
    package = import_optional("entmax", "sparse attention", "book")
    if alpha not in (1.5, 2.0):
        raise InvalidInputError(f"alpha must be 1.5 (entmax) or 2 (sparsemax), got {alpha!r}")
    project = package.entmax15 if alpha == 1.5 else package.sparsemax
    if mask is None:
        return project(scores, dim=-1)
    # Far below every allowed score, yet small enough that the sorting inside stays exact.
    bottom = scores.detach().masked_fill(~mask, torch.inf).amin(dim=-1, keepdim=True)
    top = scores.detach().masked_fill(~mask, -torch.inf).amax(dim=-1, keepdim=True)
    hidden = torch.where(mask.any(dim=-1, keepdim=True), bottom - (top - bottom) - 4.0, 0.0)
    return project(torch.where(mask, scores, hidden), dim=-1).masked_fill(~mask, 0.0)
