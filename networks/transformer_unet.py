"""The network that ships: a U-Net whose coarsest level is a transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from networks.position import AxialRotary, PositionGrid
from networks.transformer import TransformerBlock


def conv_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A 3x3x3 convolution, group norm and leaky ReLU."""
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(min(8, out_channels), out_channels),
        nn.LeakyReLU(0.01, inplace=True),
    )


class UpBlock(nn.Module):
    """Double the resolution, add the projected skip, refine.

    Args:
        in_channels: channels of the coarse features.
        out_channels: channels of the skip and of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, out_channels, 2, stride=2)
        self.refine = conv_block(out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, C_in, D, H, W) and a skip (B, C_out, 2D, 2H, 2W) to (B, C_out, 2D, 2H, 2W)."""
        return self.refine(self.up(x) + skip)


class TransformerUNet(nn.Module):
    """Conv stem to stride 4, transformer on stride-8 tokens, conv decoder with skips, logits at input size.

    Positions are a learnable absolute grid, resampled to the token grid, plus axial rotary tables in every block,
    so that any input size runs. Sizes that are no multiple of 8 are padded with zeros and the logits cropped back.

    | channels     | hidden | layers | heads | parameters |
    |--------------|--------|--------|-------|------------|
    | 16, 32, 64   | 192    | 4      | 6     | 3.0 M      |

    Args:
        in_channels: image channels.
        out_channels: classes, background included.
        channels: features of the stem at strides 1, 2 and 4.
        hidden_size: width of a token.
        mlp_dim: width of the MLP in a block.
        num_layers: number of transformer blocks.
        num_heads: attention heads of a block.
        position_grid: points of the learnable position grid along each axis.
        dropout_rate: dropout probability in the blocks, in training.
        qkv_bias: whether the q, k and v projections have a bias.
        use_combined_linear: fused or separate QKV projections; same results, same checkpoints.
        use_flash_attention: fused or eager attention kernel; same results.

    Raises:
        ValueError: when ``channels`` or ``position_grid`` does not have three entries, or an attention argument is
            out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 33,
        channels: Sequence[int] = (16, 32, 64),
        hidden_size: int = 192,
        mlp_dim: int = 768,
        num_layers: int = 4,
        num_heads: int = 6,
        position_grid: Sequence[int] = (12, 14, 12),
        dropout_rate: float = 0.0,
        qkv_bias: bool = True,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("position_grid", position_grid)):
            if len(value) != 3:
                raise ValueError(f"{name} must have 3 entries, got {list(value)}.")
        full, half, quarter = channels
        self.in_channels = in_channels
        self.token_stride = 8
        self.stem1 = conv_block(in_channels, full)
        self.stem2 = nn.Sequential(conv_block(full, half, stride=2), conv_block(half, half))
        self.stem4 = nn.Sequential(conv_block(half, quarter, stride=2), conv_block(quarter, quarter))
        self.to_tokens = nn.Conv3d(quarter, hidden_size, 3, stride=2, padding=1)

        self.position = PositionGrid(hidden_size, (position_grid[0], position_grid[1], position_grid[2]))
        self.rotary = AxialRotary(hidden_size // num_heads)
        blocks = [
            TransformerBlock(
                hidden_size,
                mlp_dim,
                num_heads,
                dropout_rate,
                qkv_bias=qkv_bias,
                use_combined_linear=use_combined_linear,
                use_flash_attention=use_flash_attention,
            )
            for _ in range(num_layers)
        ]
        for block in blocks:
            block.init_weights(std=0.02)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(hidden_size)

        self.up4 = UpBlock(hidden_size, quarter)
        self.up2 = UpBlock(quarter, half)
        self.up1 = UpBlock(half, full)
        self.head = nn.Conv3d(full, out_channels, 1)

    def _transform(self, x: Tensor) -> Tensor:
        """Run the blocks on a token grid, shape (B, C, D, H, W) -> (B, C, D, H, W)."""
        depth, height, width = x.shape[2], x.shape[3], x.shape[4]
        tokens = (x + self.position(depth, height, width)).flatten(2).transpose(1, 2)  # (B, N, C)
        rotary = self.rotary(depth, height, width)
        for block in self.blocks:
            tokens = block(tokens, None, None, rotary)
        return self.norm(tokens).transpose(1, 2).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, D, H, W) to class logits (B, out_channels, D, H, W).

        Raises:
            ValueError: when the input is not 5-dimensional with ``in_channels`` channels.
        """
        if x.dim() != 5 or x.shape[1] != self.in_channels:
            raise ValueError(f"input must have the shape (B, {self.in_channels}, D, H, W), got {x.shape}.")
        depth, height, width = x.shape[2], x.shape[3], x.shape[4]
        stride = self.token_stride
        x = F.pad(x, [0, -width % stride, 0, -height % stride, 0, -depth % stride])
        skip1 = self.stem1(x)
        skip2 = self.stem2(skip1)
        skip4 = self.stem4(skip2)
        x = self._transform(self.to_tokens(skip4))
        x = self.up1(self.up2(self.up4(x, skip4), skip2), skip1)
        return self.head(x)[:, :, :depth, :height, :width]
