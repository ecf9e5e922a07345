"""Intra-Block Sparse Self-Attention (paper, supplement section 2.3).

Queries and keys are hashed by the signs of random projections, ordered by the Gray rank of their codes, cut into
blocks, and attend inside their block; then the order is restored.

Axes: B scenes, N tokens of a scene, C channels, h heads, D head dimension, b hash bits, K blocks, S tokens of a block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gray_rank(code: Tensor) -> Tensor:
    """Return the position of each code in the reflected Gray sequence; neighbours there differ in one bit.

    Parameters
    ----------
    code : Tensor
        Non-negative integers below 2**16, any shape.
    """
    rank = code
    for shift in (8, 4, 2, 1):
        rank = rank ^ (rank >> shift)
    return rank


def block_bounds(tokens: int, block: int) -> list[tuple[int, int]]:
    """Cut ``tokens`` sorted tokens into blocks of ``block``; the remainder joins the last block.

    With fewer than two blocks' worth of tokens there is one block, and the attention is exact.
    """
    count = max(1, tokens // block)
    return [(i * block, (i + 1) * block if i + 1 < count else tokens) for i in range(count)]


def key_bounds(bounds: list[tuple[int, int]], index: int, neighbours: bool) -> tuple[int, int]:
    """Return the range of sorted keys that query block ``index`` sees."""
    reach = 1 if neighbours else 0
    return bounds[max(0, index - reach)][0], bounds[min(len(bounds) - 1, index + reach)][1]


def block_attention(q_BhND: Tensor, k_BhND: Tensor, v_BhND: Tensor, block: int, neighbours: bool) -> Tensor:
    """Attend inside blocks of tokens that are sorted already (equation 5).

    Parameters
    ----------
    q_BhND, k_BhND, v_BhND : Tensor
        Sorted queries, keys and values.
    block : int
        Tokens of a block.
    neighbours : bool
        Whether a query also sees the keys of the two adjacent blocks.

    Returns
    -------
    Tensor
        (B, h, N, D), in the order of the queries.
    """
    B, h, N, D = q_BhND.shape
    bounds = block_bounds(N, block)
    K = len(bounds)
    out = torch.empty_like(q_BhND)
    # blocks with the same number of keys go through one call; those at the ends have fewer or more
    first, last = (1, K - 2) if neighbours else (0, K - 1)
    equal = max(0, last - first)
    for i in (*range(first), *range(first + equal, K)):
        (q0, q1), (k0, k1) = bounds[i], key_bounds(bounds, i, neighbours)
        out[:, :, q0:q1] = F.scaled_dot_product_attention(q_BhND[:, :, q0:q1], k_BhND[:, :, k0:k1], v_BhND[:, :, k0:k1])
    if equal:
        start, stop = first * block, (first + equal) * block
        q = q_BhND[:, :, start:stop].reshape(B, h * equal, block, D)
        k0, k1 = (
            key_bounds(bounds, first, neighbours)[0],
            key_bounds(bounds, first + equal - 1, neighbours)[1],
        )
        k, v = (
            x[:, :, k0:k1].unfold(2, 3 * block if neighbours else block, block).transpose(-1, -2).flatten(1, 2)
            for x in (k_BhND, v_BhND)
        )
        out[:, :, start:stop] = F.scaled_dot_product_attention(q, k, v).reshape(B, h, equal * block, D)
    return out


class IBSSA(nn.Module):
    """Block-sparse self-attention over all tokens of a scene.

    Parameters
    ----------
    dim, heads : int
        Channels and heads.
    block : int
        Tokens of a block.
    bits : int
        Length of the hash code, at most 16.
    neighbours : bool
        Whether adjacent blocks are attended too.

    Notes
    -----
    The projections are a buffer of the checkpoint, so that a checkpoint reproduces its output. Ties in the codes are
    broken by the row-major index (stable sort).
    """

    projection: Tensor

    def __init__(self, dim: int, heads: int, block: int, bits: int = 8, neighbours: bool = False) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        if not 1 <= bits <= 16:
            raise ValueError("bits must be between 1 and 16")
        self.heads, self.block, self.bits, self.neighbours = heads, block, bits, neighbours
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        projection = torch.empty(heads, dim // heads, bits)
        # a random fill of a meta tensor, which loading replaces, would make torch import sympy
        self.register_buffer("projection", projection if projection.is_meta else projection.normal_())

    def project(self, x_BNC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (B, h, N, D); row by row, so any chunk of tokens may be passed."""
        B, N, C = x_BNC.shape
        qkv = self.qkv(x_BNC).view(B, N, 3, self.heads, C // self.heads)
        q_BhND, k_BhND, v_BhND = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q_BhND, k_BhND, v_BhND

    def codes(self, x_BhND: Tensor) -> Tensor:
        """Return the Gray rank of each token's sign-random-projection code: (B, h, N), int32 below 2**bits."""
        with torch.no_grad(), torch.autocast(x_BhND.device.type, enabled=False):
            side = torch.einsum("bhnd,hdr->bhnr", x_BhND.float(), self.projection.float()) > 0
            weight = 1 << torch.arange(self.bits, device=x_BhND.device, dtype=torch.int32)
            return gray_rank((side * weight).sum(-1, dtype=torch.int32))

    def attend(self, q_BhND: Tensor, k_BhND: Tensor, v_BhND: Tensor) -> Tensor:
        """Sort by code, attend in blocks, restore the order: (B, h, N, D)."""
        if len(block_bounds(q_BhND.shape[2], self.block)) == 1:
            return F.scaled_dot_product_attention(q_BhND, k_BhND, v_BhND)
        query_order = self.codes(q_BhND).argsort(dim=-1, stable=True)[..., None].expand_as(q_BhND)
        key_order = self.codes(k_BhND).argsort(dim=-1, stable=True)[..., None].expand_as(k_BhND)
        sorted_out = block_attention(
            q_BhND.gather(2, query_order),
            k_BhND.gather(2, key_order),
            v_BhND.gather(2, key_order),
            self.block,
            self.neighbours,
        )
        return torch.empty_like(sorted_out).scatter(2, query_order, sorted_out)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Map the tokens of scenes, in row-major order, to (B, N, C)."""
        y_BhND = self.attend(*self.project(x_BNC))
        y_BNC: Tensor = self.proj(y_BhND.transpose(1, 2).flatten(2))
        return y_BNC
