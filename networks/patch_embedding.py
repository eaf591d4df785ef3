"""An image cut into patches, each a token, with positions that follow the size of the image."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
import math
from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from monai.networks.blocks.pos_embed_utils import build_fourier_position_embedding, build_sincos_position_embedding
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor, nn

from networks.load_hook import before_loading
from networks.padding import pad_to_multiple
from networks.spelling import one_of

PROJECTIONS = ("conv", "perceptron")
POSITIONS = ("none", "learnable", "sincos", "fourier")


class PatchRows(nn.Module):
    """Cut an image (B, C, ...) into patches whose voxels, channels fastest, are the rows (B, N, voxels * C)."""

    def __init__(self, patch_size: Sequence[int]) -> None:
        super().__init__()
        self.patch_size = list(patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, C, D, H, W) to rows, last axis fastest."""
        for axis, size in enumerate(self.patch_size):
            x = torch.unflatten(x, 2 + 2 * axis, [x.shape[2 + 2 * axis] // size, size])
        if len(self.patch_size) == 3:
            return x.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).flatten(1, 3)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class PatchEmbeddingBlock(nn.Module):
    """Patch tokens plus positions; arguments and state-dict keys as ``monai.networks.blocks.PatchEmbeddingBlock``.

    Positions are made for ``img_size`` and resampled linearly to the grid of the image at hand. An image that the
    patches do not fill is padded with zeros at its end, where MONAI's block drops the rest.

    Args:
        in_channels: channels of the image.
        img_size: size of the image for which positions are made, one number or one for each axis.
        patch_size: size of a patch, likewise.
        hidden_size: width C of a token.
        num_heads: attention heads into which a token is to be cut; it is checked and not used.
        proj_type: ``"conv"``, or ``"perceptron"`` for a linear over the voxels of a patch.
        pos_embed_type: ``"learnable"``, ``"sincos"`` or ``"fourier"`` (both fixed), or ``"none"``.
        dropout_rate: dropout probability of the tokens, in training.
        spatial_dims: 2 or 3.
        pos_embed_kwargs: ``temperature`` of ``"sincos"`` or ``scales`` of ``"fourier"``, see MONAI's
            ``pos_embed_utils``.

    Raises:
        ValueError: when an argument is out of range, or ``patch_size`` exceeds ``img_size``.
    """

    has_positions: Final[bool]

    def __init__(
        self,
        in_channels: int,
        img_size: int | Sequence[int],
        patch_size: int | Sequence[int],
        hidden_size: int,
        num_heads: int,
        proj_type: str = "conv",
        pos_embed_type: str = "learnable",
        dropout_rate: float = 0.0,
        spatial_dims: int = 3,
        pos_embed_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if num_heads < 1 or hidden_size % num_heads != 0:
            raise ValueError(f"hidden_size {hidden_size} must be divisible by num_heads {num_heads}.")
        proj_type = one_of("proj_type", proj_type, PROJECTIONS)
        pos_embed_type = one_of("pos_embed_type", pos_embed_type, POSITIONS)
        parts = 2 * spatial_dims  # a sine and a cosine for each axis
        if pos_embed_type == "sincos" and hidden_size % parts != 0:
            raise ValueError(f"pos_embed_type 'sincos' needs hidden_size divisible by {parts}, got {hidden_size}.")
        image = [int(size) for size in ensure_tuple_rep(img_size, spatial_dims)]
        patch = [int(size) for size in ensure_tuple_rep(patch_size, spatial_dims)]
        if min(patch) < 1 or any(size < part for size, part in zip(image, patch, strict=True)):
            raise ValueError(f"patch_size {patch} must be at least 1 and at most img_size {image}.")
        self.in_channels = in_channels
        self.patch_size = patch
        # Whole patches, as MONAI counts them, so that its positions load.
        self.grid_size = [size // part for size, part in zip(image, patch, strict=True)]
        self.n_patches = math.prod(self.grid_size)
        self.has_positions = pos_embed_type != "none"
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

        self.flatten_conv = proj_type == "conv"
        self.patch_embeddings: nn.Module
        if proj_type == "conv":
            conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
            self.patch_embeddings = conv(in_channels, hidden_size, patch, stride=patch)  # type: ignore[arg-type]
        else:
            linear = nn.Linear(in_channels * math.prod(patch), hidden_size)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            self.patch_embeddings = nn.Sequential(PatchRows(patch), linear)
        if pos_embed_type == "learnable":
            self.position_embeddings = nn.Parameter(torch.empty(1, self.n_patches, hidden_size))
            nn.init.trunc_normal_(self.position_embeddings, std=0.02)
        elif self.has_positions:
            build = build_sincos_position_embedding if pos_embed_type == "sincos" else build_fourier_position_embedding
            self.position_embeddings = build(self.grid_size, hidden_size, spatial_dims, **(pos_embed_kwargs or {}))
        self.dropout = nn.Dropout(dropout_rate)
        before_loading(self, self._drop_zero_positions)

    def _drop_zero_positions(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # MONAI's block has a parameter of zeros where it has no positions.
        key = f"{prefix}position_embeddings"
        if not self.has_positions and key in state_dict and not state_dict[key].any():
            del state_dict[key]

    def grid(self, padded: Tensor) -> list[int]:
        """Return the number of tokens along each axis of an image (B, C, ...) that whole patches fill."""
        sizes = list(padded.shape[2:])
        for axis, part in enumerate(self.patch_size):
            # Written as a convolution counts, so that an export sees that both agree for any size.
            sizes[axis] = (sizes[axis] - part) // part + 1
        return sizes

    def positions(self, grid: list[int]) -> Tensor:
        """Return the positions of a grid of tokens, shape (1, N, C)."""
        known = torch.unflatten(self.position_embeddings.transpose(1, 2), 2, self.grid_size)  # (1, C, *grid_size)
        return F.interpolate(known, size=grid, mode=self.mode, align_corners=False).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, ...) to tokens (B, N, C), last axis fastest.

        Raises:
            ValueError: when the image does not have ``in_channels`` channels and ``spatial_dims`` axes.
        """
        if x.dim() != len(self.patch_size) + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"image must have the shape (B, {self.in_channels}, {len(self.patch_size)} axes), got {x.shape}."
            )
        x = pad_to_multiple(x, self.patch_size)
        grid = self.grid(x)
        x = self.patch_embeddings(x)
        if self.flatten_conv:
            x = x.flatten(2).transpose(1, 2)
        if self.has_positions:
            x = x + self.positions(grid)
        tokens: Tensor = self.dropout(x)
        return tokens
