"""Self-attention of a feature map, with 1x1 convolutions as projections."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from typing import Any, Final, Optional

import torch
from torch import Tensor, nn

from networks.kernel import Attend
from networks.load_hook import before_loading
from networks.qkv_layout import third_of, to_layout


class SpatialAttention(nn.Module):
    """Each point of a 2D or 3D feature map attends to all others; timm's ``Attention2d`` with its scale mended.

    Both kernels get the scale ``dim_head ** -0.5`` and the same mask (timm issue #2385). A checkpoint of either layout
    loads into either form; timm's name ``proj`` is read as ``out_proj``.

    Args:
        channels: channels of the input.
        num_heads: number of heads.
        spatial_dims: 2 or 3.
        out_channels: channels of the output; ``channels`` when ``None``.
        expand_first: whether attention runs at the width of the output rather than of the input.
        dropout_rate: probability of dropping an attention weight or an output unit, in training.
        qkv_bias: whether the convolutions have a bias.
        use_combined_linear: one ``qkv`` convolution, or ``to_q``, ``to_k``, ``to_v``; same results.
        use_flash_attention: fused or eager kernel; same results.

    Raises:
        ValueError: when the width of attention is not divisible by ``num_heads``, or an argument is out of range.
    """

    use_combined_linear: Final[bool]

    def __init__(
        self,
        channels: int,
        num_heads: int,
        spatial_dims: int = 3,
        out_channels: int | None = None,
        expand_first: bool = False,
        dropout_rate: float = 0.0,
        qkv_bias: bool = True,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if not 0 <= dropout_rate <= 1:
            raise ValueError(f"dropout_rate must lie in 0 to 1, got {dropout_rate}.")
        self.out_channels = out_channels or channels
        inner = self.out_channels if expand_first else channels
        if num_heads < 1 or inner % num_heads != 0:
            raise ValueError(f"the width of attention, {inner}, must be divisible by num_heads, got {num_heads}.")
        self.channels = channels
        self.spatial_dims = spatial_dims
        self.num_heads = num_heads
        self.dim_head = inner // num_heads
        self.use_combined_linear = use_combined_linear

        conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        fused = conv(channels, 3 * inner, 1, bias=qkv_bias)
        self.qkv: nn.Module = fused if use_combined_linear else nn.Identity()
        self.to_q: nn.Module = nn.Identity() if use_combined_linear else third_of(fused, 0)
        self.to_k: nn.Module = nn.Identity() if use_combined_linear else third_of(fused, 1)
        self.to_v: nn.Module = nn.Identity() if use_combined_linear else third_of(fused, 2)
        self.attend = Attend(self.dim_head, dropout_rate, use_flash_attention=use_flash_attention)
        self.out_proj = conv(inner, self.out_channels, 1, bias=qkv_bias)
        self.drop_output = nn.Dropout(dropout_rate)
        before_loading(self, self._convert_names)

    def _convert_names(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        to_layout(state_dict, prefix, self.use_combined_linear)
        for kind in ("weight", "bias"):
            if f"{prefix}proj.{kind}" in state_dict:
                state_dict[f"{prefix}out_proj.{kind}"] = state_dict.pop(f"{prefix}proj.{kind}")

    def _split_heads(self, x: Tensor) -> Tensor:
        heads = torch.unflatten(x.flatten(2), 1, [self.num_heads, self.dim_head])  # (B, H, D, N)
        return heads.transpose(-2, -1).contiguous()  # (B, H, N, D), as the fused kernel wants it in memory

    def forward(self, x: Tensor, attn_mask: Optional[Tensor] = None) -> Tensor:
        """Attend.

        Args:
            x: feature map, shape (B, channels, H, W) or (B, channels, D, H, W), with N points.
            attn_mask: as in ``SABlock``, for N queries and keys.

        Returns:
            Feature map, shape (B, out_channels, ...).

        Raises:
            ValueError: when the input does not have ``channels`` channels and ``spatial_dims`` axes.
        """
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.channels:
            wanted = f"(B, {self.channels}, {self.spatial_dims} axes)"
            raise ValueError(f"input must have the shape {wanted}, got {x.shape}.")
        if self.use_combined_linear:
            q, k, v = self.qkv(x).chunk(3, dim=1)
        else:
            q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        out = self.attend(self._split_heads(q), self._split_heads(k), self._split_heads(v), attn_mask)
        out = torch.unflatten(out.transpose(-2, -1).flatten(1, 2), -1, x.shape[2:])  # (B, inner, ...)
        projected: Tensor = self.drop_output(self.out_proj(out))
        return projected


class ResidualSpatialAttention(nn.Module):
    """``x + attention(norm(x))``, which starts as the identity: its output projection is zero at first.

    Args:
        channels: channels of the feature map.
        num_heads: number of heads.
        spatial_dims: 2 or 3.
        use_combined_linear: fused or separate projections; same results.
        use_flash_attention: fused or eager kernel; same results.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        spatial_dims: int = 3,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.attn = SpatialAttention(
            channels,
            num_heads,
            spatial_dims,
            use_combined_linear=use_combined_linear,
            use_flash_attention=use_flash_attention,
        )
        for parameter in self.attn.out_proj.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map a feature map (B, C, ...) to one of the same shape."""
        attended: Tensor = self.attn(self.norm(x))
        return x + attended
