"""The network that ships: a U-Net whose coarsest level is a transformer."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from collections.abc import Sequence
from typing import Any, Final

import torch
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor, nn

from networks.padding import crop, pad_to_multiple
from networks.pooling import PooledHead
from networks.position import AxialRotary, PositionGrid
from networks.spatial_attention import ResidualSpatialAttention
from networks.transformer import TransformerBlock

STAGES = ("bottleneck", "up4", "up2", "up1")


def conv_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3x3 convolution, group norm and leaky ReLU."""
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
        refined: Tensor = self.refine(self.up(x) + skip)
        return refined


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
        qk_norm: normalise queries and keys, see ``SABlock``.
        attention: ``"global"``, ``"pooled"``, ``"block"`` or ``"global_local"``, for all blocks or a list with one for
            each, see ``TransformerBlock``. The blocks of each second local one are shifted by half.
        block_size: tokens of a local block along each axis, one number or three.
        fusion: how ``"global_local"`` fuses its branches, see ``GlobalLocalAttention``.
        pooled_size: cells along each axis to which its global keys are averaged, or ``None``.
        key_reduction: tokens along each axis that make one key of ``"pooled"``.
        spatial_attention: stages after which the feature map attends to itself, with a residual: ``"bottleneck"``
            (stride 8, after the blocks), ``"up4"``, ``"up2"`` or ``"up1"`` (full size). The cost grows with the
            square of the points.
        num_outputs: outputs for the whole scan, from the tokens, see ``forward_with_outputs``; 0 for none.
        global_pool: how the tokens become one vector for them: ``"avg"``, ``"avgmax"``, ``"max"`` or ``"map"``.
        bounded_outputs: let them pass a sigmoid, for outputs that are shares, 0 to 1.

    Raises:
        ValueError: when an argument has the wrong number of entries, is out of range or is not one of those listed.
    """

    FLOAT32_PARTS = ("stem1", "head")
    """Where bfloat16 costs most labels for least time: the image's intensities, and the logits."""
    HEAD = "head"
    """The last thing that it does, voxel by voxel."""

    has_outputs: Final[bool]
    bounded_outputs: Final[bool]

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
        qk_norm: bool = False,
        attention: str | Sequence[str] = "global",
        block_size: int | Sequence[int] = 4,
        fusion: str = "add",
        pooled_size: int | Sequence[int] | None = None,
        spatial_attention: Sequence[str] = (),
        num_outputs: int = 0,
        global_pool: str = "map",
        key_reduction: int = 2,
        bounded_outputs: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, position_grid=position_grid)
        kinds = kinds_of_blocks(attention, num_layers)
        check_stages(spatial_attention)
        check_outputs(num_outputs, global_pool)
        full, half, quarter = channels
        self.in_channels, self.token_stride = in_channels, 8
        self.stem1 = conv_block(in_channels, full)
        self.stem2 = nn.Sequential(conv_block(full, half, stride=2), conv_block(half, half))
        self.stem4 = nn.Sequential(conv_block(half, quarter, stride=2), conv_block(quarter, quarter))
        self.to_tokens = nn.Conv3d(quarter, hidden_size, 3, stride=2, padding=1)

        self.position = PositionGrid(hidden_size, (position_grid[0], position_grid[1], position_grid[2]))
        self.rotary = AxialRotary(hidden_size // num_heads)
        flags = {"use_combined_linear": use_combined_linear, "use_flash_attention": use_flash_attention}
        rates = {"dropout_rate": dropout_rate, "qkv_bias": qkv_bias, "qk_norm": qk_norm}
        local = {"fusion": fusion, "pooled_size": pooled_size, "key_reduction": key_reduction}
        self.blocks = make_blocks(kinds, block_size, (hidden_size, mlp_dim, num_heads), **flags, **rates, **local)
        self.norm = nn.LayerNorm(hidden_size)

        self.up4 = UpBlock(hidden_size, quarter)
        self.up2 = UpBlock(quarter, half)
        self.up1 = UpBlock(half, full)
        self.head = nn.Conv3d(full, out_channels, 1)
        widths = {"bottleneck": hidden_size, "up4": quarter, "up2": half, "up1": full}
        self.attend8, self.attend4, self.attend2, self.attend1 = (
            ResidualSpatialAttention(width, max(1, num_heads * width // hidden_size), **flags)
            if stage in spatial_attention
            else nn.Identity()
            for stage, width in widths.items()
        )
        self.num_outputs, self.has_outputs, self.bounded_outputs = num_outputs, num_outputs > 0, bounded_outputs
        self.scan_head: nn.Module = nn.Identity()
        if num_outputs > 0:
            self.scan_head = PooledHead(hidden_size, num_outputs, global_pool, num_heads, **flags)

    def _transform(self, x: Tensor) -> Tensor:
        """Run the blocks on a token grid, shape (B, C, D, H, W) -> (B, D, H, W, C)."""
        depth, height, width = x.shape[2], x.shape[3], x.shape[4]
        tokens = (x + self.position(depth, height, width)).movedim(1, -1)
        rotary = self.rotary(depth, height, width)
        for block in self.blocks:
            tokens = block(tokens, None, None, rotary)
        normed: Tensor = self.norm(tokens)
        return normed

    def _logits_and_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of an image, see ``forward``, and its tokens (B, D, H, W, C) after the last block."""
        if x.dim() != 5 or x.shape[1] != self.in_channels:
            raise ValueError(f"input must have the shape (B, {self.in_channels}, D, H, W), got {x.shape}.")
        size = list(x.shape[2:])
        x = pad_to_multiple(x, [self.token_stride] * 3)
        skip1 = self.stem1(x)
        skip2 = self.stem2(skip1)
        skip4 = self.stem4(skip2)
        tokens = self._transform(self.to_tokens(skip4))
        # Channels last would spread through the decoder, where PyTorch's group norm then sums squares in float32 and is
        # off by 1e-4 from 96^3 voxels on.
        x = self.attend8(tokens.movedim(-1, 1).contiguous())
        x = self.attend4(self.up4(x, skip4))
        x = self.attend2(self.up2(x, skip2))
        x = self.attend1(self.up1(x, skip1))
        # Cropped before the head, whose classes are more than its channels.
        return self.head(crop(x, size)), tokens

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, D, H, W) to class logits (B, out_channels, D, H, W).

        Raises:
            ValueError: when the input is not 5-dimensional with ``in_channels`` channels.
        """
        return self._logits_and_tokens(x)[0]

    def outputs_of(self, tokens: Tensor) -> Tensor:
        """Map the tokens (B, N, C) of a scan, all of them or some, to its outputs (B, num_outputs)."""
        outputs: Tensor = self.scan_head(tokens)
        return torch.sigmoid(outputs.float()) if self.bounded_outputs else outputs

    @torch.jit.export
    def forward_with_outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image (B, in_channels, D, H, W) to the logits and the outputs for the scan, (B, num_outputs).

        ``ScanOutputs`` is a module whose ``forward`` this is.

        Raises:
            ValueError: when the network has no ``num_outputs``, or the input is refused by ``forward``.
        """
        if not self.has_outputs:
            raise ValueError("outputs for the scan need num_outputs of at least 1, got 0.")
        logits, tokens = self._logits_and_tokens(x)
        return logits, self.outputs_of(tokens.flatten(1, 3))


def make_blocks(
    kinds: Sequence[str], block_size: int | Sequence[int], sizes: tuple[int, int, int], **options: Any
) -> nn.ModuleList:
    """Return transformer blocks with fresh weights, the blocks of each second local one shifted by half.

    Args:
        kinds: attention of each block.
        block_size: tokens of a local block along each axis, one number or three.
        sizes: width of a token, width of the MLP and number of heads.
        options: further arguments of ``TransformerBlock``.
    """
    shifts = ([0, 0, 0], [size // 2 for size in ensure_tuple_rep(block_size, 3)])
    blocks = []
    for index, kind in enumerate(kinds):
        local_before = sum(before in ("block", "global_local") for before in kinds[:index])
        shift = shifts[local_before % 2]
        blocks.append(TransformerBlock(*sizes, attention=kind, block_size=block_size, shift=shift, **options))
    for block in blocks:
        block.init_weights(std=0.02)
    return nn.ModuleList(blocks)


def check_sizes(**sizes: Sequence[int]) -> None:
    """Raise ValueError unless each of the named arguments has three entries."""
    for name, value in sizes.items():
        if len(value) != 3:
            raise ValueError(f"{name} must have 3 entries, got {list(value)}.")


def kinds_of_blocks(attention: str | Sequence[str], num_layers: int) -> list[str]:
    """Return the attention of each block, or raise ValueError when it is not told for each."""
    kinds = [attention] * num_layers if isinstance(attention, str) else list(attention)
    if len(kinds) != num_layers:
        raise ValueError(f"attention must be one name or {num_layers}, one for each block, got {kinds}.")
    return kinds


def check_stages(spatial_attention: Sequence[str]) -> None:
    """Raise ValueError unless all of the stages exist."""
    if isinstance(spatial_attention, str) or not set(spatial_attention) <= set(STAGES):
        raise ValueError(f"spatial_attention must be a list of {', '.join(STAGES)}, got {spatial_attention!r}.")


def check_outputs(num_outputs: int, global_pool: str) -> None:
    """Raise ValueError unless there can be so many outputs, pooled so."""
    if num_outputs < 0:
        raise ValueError(f"num_outputs must be at least 0, got {num_outputs}.")
    if num_outputs > 0 and global_pool in ("", "token"):
        raise ValueError(f"global_pool must be 'avg', 'avgmax', 'max' or 'map', got {global_pool!r}.")
