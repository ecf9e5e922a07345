"""Swin layers: window attention with a relative position bias, shifted in every second layer.

The default encoder and decoder block (paper, supplement section 4: "we adopt a simple Swin Transformer layer").

Axes: B tiles, H W rows and columns of a feature map, C channels; M windows, T tokens of a window, h heads,
D head dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def window_partition(x_BHWC: Tensor, rows: int, cols: int) -> Tensor:
    """Cut a map whose sides are multiples of ``rows`` and ``cols`` into windows: (B, M, rows * cols, C)."""
    B, H, W, C = x_BHWC.shape
    x = x_BHWC.view(B, H // rows, rows, W // cols, cols, C).transpose(2, 3)
    return x.reshape(B, (H // rows) * (W // cols), rows * cols, C)


def window_merge(x_BMTC: Tensor, rows: int, cols: int, height: int, width: int) -> Tensor:
    """Undo :func:`window_partition` for a map of ``height`` x ``width``."""
    B, _, _, C = x_BMTC.shape
    x = x_BMTC.view(B, height // rows, width // cols, rows, cols, C).transpose(2, 3)
    return x.reshape(B, height, width, C)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows of at most ``window`` x ``window`` tokens.

    Parameters
    ----------
    dim, heads : int
        Channels and heads; ``dim`` must be a multiple of ``heads``.
    window : int
        Side of a window. Smaller maps are one window, and share the same position biases.
    shift : bool
        Whether windows are moved by half a window, cyclically, with the wrapped parts masked from each other.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: bool) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self._geometry: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor | None]] = {}

    def _geometry_of(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return the bias index (T, T) and the mask (M, 1, T, T) for a map, or None where nothing is masked."""
        key = (height, width, device)
        if key not in self._geometry:
            self._geometry[key] = self._make_geometry(height, width, device)
        return self._geometry[key]

    @torch.inference_mode(False)
    def _make_geometry(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        # outside of inference mode, so that a later training step may use what an earlier evaluation cached
        rows, cols = min(self.window, height), min(self.window, width)
        row_T, col_T = (a.flatten() for a in torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij"))
        delta_row = row_T[:, None] - row_T[None] + self.window - 1
        delta_col = col_T[:, None] - col_T[None] + self.window - 1
        index_TT = delta_row * (2 * self.window - 1) + delta_col
        labels = _axis_labels(height, rows, self.shift)[:, None] * 3 + _axis_labels(width, cols, self.shift)[None]
        label_MT = window_partition(labels[None, :, :, None], rows, cols)[0, :, :, 0]
        apart_MTT = label_MT[:, :, None] != label_MT[:, None, :]
        mask = torch.zeros(apart_MTT.shape).masked_fill(apart_MTT, float("-inf"))[:, None]
        has_mask = (self.shift and (height > rows or width > cols)) or height % rows > 0 or width % cols > 0
        return index_TT.to(device), mask.to(device) if has_mask else None

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Attend within windows; any height and width (padded and masked inside)."""
        B, H, W, C = x_BHWC.shape
        index_TT, mask_M1TT = self._geometry_of(H, W, x_BHWC.device)
        rows, cols = min(self.window, H), min(self.window, W)
        pad_H, pad_W = -H % rows, -W % cols
        x = F.pad(x_BHWC, (0, 0, 0, pad_W, 0, pad_H)) if pad_H or pad_W else x_BHWC
        shift_H = rows // 2 if self.shift and rows < H else 0
        shift_W = cols // 2 if self.shift and cols < W else 0
        if shift_H or shift_W:
            x = torch.roll(x, (-shift_H, -shift_W), (1, 2))
        x_BMTC = window_partition(x, rows, cols)
        M, T = x_BMTC.shape[1:3]

        qkv = self.qkv(x_BMTC).view(B, M, T, 3, self.heads, C // self.heads)
        q_BMhTD, k_BMhTD, v_BMhTD = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        bias_hTT = self.bias_table[index_TT.flatten()].view(T, T, self.heads).permute(2, 0, 1)
        bias = bias_hTT if mask_M1TT is None else bias_hTT + mask_M1TT
        y_BMhTD = _attend(q_BMhTD, k_BMhTD, v_BMhTD, bias.to(q_BMhTD.dtype))
        y = self.proj(y_BMhTD.transpose(2, 3).reshape(B, M, T, C))

        y = window_merge(y, rows, cols, H + pad_H, W + pad_W)
        if shift_H or shift_W:
            y = torch.roll(y, (shift_H, shift_W), (1, 2))
        return y[:, :H, :W] if pad_H or pad_W else y


def _attend(q_BMhTD: Tensor, k_BMhTD: Tensor, v_BMhTD: Tensor, bias_MhTT: Tensor) -> Tensor:
    """Attend inside windows, with a bias of (M or nothing, h, T, T)."""
    if torch.is_grad_enabled() and bias_MhTT.requires_grad:
        # no fused kernel gives a gradient to the bias
        score = torch.matmul(q_BMhTD * q_BMhTD.shape[-1] ** -0.5, k_BMhTD.transpose(-1, -2)) + bias_MhTT
        return torch.matmul(score.softmax(-1), v_BMhTD)
    B, M, h, T, D = q_BMhTD.shape
    if bias_MhTT.ndim == 3:
        # tiles and windows are one axis without a copy, and the bias is the same for all of them
        q, k, v = (x.flatten(0, 1) for x in (q_BMhTD, k_BMhTD, v_BMhTD))
        bias = bias_MhTT.expand(B * M, h, T, T)
    else:
        # windows and heads are one axis, so that the bias need not be repeated for every tile
        q, k, v = (x.flatten(1, 2) for x in (q_BMhTD, k_BMhTD, v_BMhTD))
        bias = bias_MhTT.flatten(0, 1).expand(B, M * h, T, T)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).view(B, M, h, T, D)


def _axis_labels(size: int, window: int, shift: bool) -> Tensor:
    """Label the positions of one padded axis after the roll: 0 as it was, 1 wrapped around, 2 padding."""
    padded = size + -size % window
    offset = window // 2 if shift and size > window else 0
    position = (torch.arange(padded) + offset) % padded
    labels = (torch.arange(padded) + offset >= padded).long()
    return torch.where(position < size, labels, 2)


class Mlp(nn.Module):
    """Two linear layers with a GELU between, on the last axis."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class SwinLayer(nn.Module):
    """One pre-norm transformer layer on a map: window attention, then the MLP, each with a residual connection."""

    def __init__(self, dim: int, heads: int, window: int, shift: bool, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, window, shift)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        x_BHWC = x_BHWC + self.attention(self.norm1(x_BHWC))
        y: Tensor = x_BHWC + self.mlp(self.norm2(x_BHWC))
        return y
