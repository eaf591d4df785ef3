"""UNETR: a vision transformer as encoder, convolutions as decoder."""

# No postponed annotations here: TorchScript reads ``Final`` from the class.
from collections.abc import Sequence
from typing import Any, Final

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor, nn

from networks.padding import crop, pad_to_multiple
from networks.vit import ViT

STAGES = {4: 2, 8: 3, 16: 4, 32: 5}  # patch size: number of doublings


class UNETR(nn.Module):
    """UNETR (arXiv 2103.10504); arguments and state-dict keys as ``monai.networks.nets.UNETR``.

    Beyond MONAI's: depth, patch size, the flags of attention, and images of any size (padded with zeros at the end to
    whole patches and cropped back; positions are resampled). The skips come from the blocks that divide the depth
    evenly: the 4th, 7th and 10th of 12.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        img_size: size of the image for which positions are made, one number or one for each axis.
        feature_size: channels of the decoder at full size.
        hidden_size: width of a token.
        mlp_dim: width of the MLP in a block.
        num_heads: attention heads of a block.
        proj_type: see ``PatchEmbedding``.
        norm_name: norm of the convolutions, a name or a name with arguments, as MONAI takes it.
        conv_block: whether skips are refined by convolutions on their way up.
        res_block: whether convolution blocks are residual.
        dropout_rate: dropout probability of the transformer, in training.
        spatial_dims: 2 or 3.
        qkv_bias: whether the q, k and v projections have a bias.
        save_attn: keep the attention weights, see ``SABlock``.
        num_layers: number of transformer blocks.
        patch_size: size of a patch, the same along each axis: 4, 8, 16 or 32.
        use_combined_linear: fused or separate QKV projections; same results, same checkpoints.
        use_flash_attention: fused or eager attention kernel; same results.
        qk_norm: normalise queries and keys, see ``SABlock``.

    Raises:
        ValueError: when an argument is out of range or does not fit the others.
    """

    has_stage3: Final[bool]
    has_stage4: Final[bool]
    has_stage5: Final[bool]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_size: int | Sequence[int],
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        proj_type: str = "conv",
        norm_name: tuple[str, dict[str, Any]] | str = "instance",
        conv_block: bool = True,
        res_block: bool = True,
        dropout_rate: float = 0.0,
        spatial_dims: int = 3,
        qkv_bias: bool = False,
        save_attn: bool = False,
        *,
        num_layers: int = 12,
        patch_size: int | Sequence[int] = 16,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size = single_patch_size(patch_size, spatial_dims)
        stages = STAGES[self.patch_size]
        if num_layers < stages:
            raise ValueError(f"patch_size {patch_size} needs at least {stages} blocks, got num_layers {num_layers}.")
        self.skips = [num_layers * index // stages for index in range(stages)]  # of stages 2 and up, at index 1 and up
        self.vit = ViT(
            in_channels,
            img_size,
            self.patch_size,
            hidden_size,
            mlp_dim,
            num_layers,
            num_heads,
            proj_type=proj_type,
            dropout_rate=dropout_rate,
            spatial_dims=spatial_dims,
            qkv_bias=qkv_bias,
            save_attn=save_attn,
            use_combined_linear=use_combined_linear,
            use_flash_attention=use_flash_attention,
            qk_norm=qk_norm,
        )
        common: dict[str, Any] = {"spatial_dims": spatial_dims, "norm_name": norm_name, "res_block": res_block}
        widths = [feature_size * 2**index for index in range(stages)]
        self.encoder1 = UnetrBasicBlock(spatial_dims, in_channels, feature_size, 3, 1, norm_name, res_block)
        self.encoder2, self.encoder3, self.encoder4, self.encoder5 = (
            make_encoder(stage, hidden_size, widths, conv_block=conv_block, **common) for stage in (2, 3, 4, 5)
        )
        self.decoder2, self.decoder3, self.decoder4, self.decoder5, self.decoder6 = (
            make_decoder(stage, hidden_size, widths, **common) for stage in (2, 3, 4, 5, 6)
        )
        self.out = UnetOutBlock(spatial_dims=spatial_dims, in_channels=feature_size, out_channels=out_channels)
        self.has_stage3, self.has_stage4, self.has_stage5 = (stages >= stage for stage in (3, 4, 5))

    def _to_map(self, tokens: Tensor, grid: list[int]) -> Tensor:
        return torch.unflatten(tokens.transpose(1, 2), 2, grid).contiguous()  # (B, hidden_size, *grid)

    def forward(self, x_in: Tensor) -> Tensor:
        """Map an image (B, in_channels, ...) of any size to logits (B, out_channels, ...) of the same size.

        Raises:
            ValueError: when the image does not have ``in_channels`` channels and ``spatial_dims`` axes.
        """
        size = list(x_in.shape[2:])
        tokens, hidden = self.vit.forward_intermediates(x_in)
        x = pad_to_multiple(x_in, [self.patch_size] * len(size))
        grid = self.vit.patch_embedding.grid(x)
        out = self._to_map(tokens, grid)
        if self.has_stage5:
            out = self.decoder6(out, self.encoder5(self._to_map(hidden[self.skips[4]], grid)))
        if self.has_stage4:
            out = self.decoder5(out, self.encoder4(self._to_map(hidden[self.skips[3]], grid)))
        if self.has_stage3:
            out = self.decoder4(out, self.encoder3(self._to_map(hidden[self.skips[2]], grid)))
        out = self.decoder3(out, self.encoder2(self._to_map(hidden[self.skips[1]], grid)))
        return crop(self.out(self.decoder2(out, self.encoder1(x))), size)


def single_patch_size(patch_size: int | Sequence[int], spatial_dims: int) -> int:
    """Return the size that a patch has along every axis, or raise ValueError when it is none of ``STAGES``."""
    patches = set(ensure_tuple_rep(patch_size, spatial_dims))
    if len(patches) != 1 or not patches <= set(STAGES):
        raise ValueError(f"patch_size must be one of {', '.join(map(str, STAGES))} along every axis, got {patch_size}.")
    return int(patches.pop())


def make_encoder(stage: int, hidden_size: int, widths: Sequence[int], **options: Any) -> nn.Module:
    """Return what brings hidden tokens up to the size of ``stage``, 1 being full size; the stages have ``widths``."""
    stages = len(widths)
    if stage > stages:
        return nn.Identity()
    return UnetrPrUpBlock(
        in_channels=hidden_size,
        out_channels=widths[stage - 1],
        num_layer=stages - stage,
        kernel_size=3,
        stride=1,
        upsample_kernel_size=2,
        **options,
    )


def make_decoder(stage: int, hidden_size: int, widths: Sequence[int], **options: Any) -> nn.Module:
    """Return what doubles the size to that of ``stage - 1`` and merges its skip; the stages have ``widths``."""
    stages = len(widths)
    if stage > stages + 1:
        return nn.Identity()
    below = hidden_size if stage == stages + 1 else widths[stage - 1]
    width = widths[stage - 2]
    return UnetrUpBlock(in_channels=below, out_channels=width, kernel_size=3, upsample_kernel_size=2, **options)
