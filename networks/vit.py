"""Vision transformer with interchangeable attention and a head that can be exchanged."""

# No postponed annotations here: TorchScript reads them.
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from networks.load_hook import before_loading
from networks.patch_embedding import PatchEmbeddingBlock
from networks.pooling import AVERAGED_POOLS, PooledHead, check_head
from networks.transformer import TransformerBlock


class ViT(nn.Module):
    """Vision transformer (arXiv 2010.11929) on 2D or 3D images of any size.

    Arguments and checkpoints are those of ``monai.networks.nets.ViT``; the latter load strictly, in either QKV layout.
    ``forward`` returns the outputs alone, ``forward_intermediates`` what MONAI's ``forward`` does without a head.

    Args:
        in_channels: channels of the image.
        img_size: size of the image for which positions are made, one number or one for each axis.
        patch_size: size of a patch, likewise.
        hidden_size: width C of a token.
        mlp_dim: width of the MLP in a block.
        num_layers: number of blocks.
        num_heads: attention heads of a block.
        proj_type: see ``PatchEmbeddingBlock``.
        pos_embed_type: see ``PatchEmbeddingBlock``.
        classification: whether a class token goes first and ``num_classes`` outputs are made of it; without it, and
            without ``global_pool``, the normalised tokens are the output.
        num_classes: number of outputs of a head; 0 for the pooled vector, or the tokens with ``global_pool=""``.
        dropout_rate: dropout probability, in training.
        spatial_dims: 2 or 3.
        post_activation: ``"Tanh"`` for a tanh after the head where ``classification`` is True; none when ``None``,
            ``False``, ``""`` or ``"none"``.
        qkv_bias: whether the q, k and v projections have a bias.
        save_attn: keep the attention weights, see ``SABlock``.
        global_pool: ``""``, ``"avg"``, ``"avgmax"``, ``"max"``, ``"token"`` or ``"map"``, see ``PooledHead``: a head of
            ``num_classes`` outputs, whether ``classification`` is True or not. ``None`` leaves it to that.
        class_token: whether a class token goes first; when ``None``, just where the pool needs it.
        use_combined_linear: fused or separate QKV projections; same results, same checkpoints.
        use_flash_attention: fused or eager attention kernel; same results.
        qk_norm: normalise queries and keys, see ``SABlock``.
        norm_eps: added to the variance by the layer norms.

    Raises:
        ValueError: when an argument is out of range or does not fit the others.
    """

    __jit_unused_properties__ = ("num_classes", "global_pool")

    def __init__(
        self,
        in_channels: int,
        img_size: int | Sequence[int],
        patch_size: int | Sequence[int],
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        num_heads: int = 12,
        proj_type: str = "conv",
        pos_embed_type: str = "learnable",
        classification: bool = False,
        num_classes: int = 2,
        dropout_rate: float = 0.0,
        spatial_dims: int = 3,
        post_activation: str | bool | None = "Tanh",
        qkv_bias: bool = False,
        save_attn: bool = False,
        *,
        global_pool: str | None = None,
        class_token: bool | None = None,
        use_combined_linear: bool = True,
        use_flash_attention: bool = True,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        pool = ("token" if classification else "") if global_pool is None else global_pool
        check_head(num_classes, pool)
        check_class_token(class_token, pool)
        squashed = has_tanh(post_activation) and classification
        outputs = num_classes if classification or global_pool is not None else 0
        self.hidden_size = hidden_size
        self.norm_eps = norm_eps
        self.class_token = class_token
        flags: dict[str, Any] = {"use_combined_linear": use_combined_linear, "use_flash_attention": use_flash_attention}
        sizes = (in_channels, img_size, patch_size, hidden_size, num_heads)
        self.patch_embedding = PatchEmbeddingBlock(*sizes, proj_type, pos_embed_type, dropout_rate, spatial_dims)
        widths = (hidden_size, mlp_dim, num_heads)
        blocks = [
            TransformerBlock(*widths, dropout_rate, qkv_bias, save_attn, qk_norm=qk_norm, norm_eps=norm_eps, **flags)
            for _ in range(num_layers)
        ]
        for block in blocks:
            block.init_weights(std=0.02)
        self.blocks = nn.ModuleList(blocks)
        self.norm: nn.Module = nn.Identity()
        self.head = PooledHead(hidden_size, outputs, pool, num_heads, norm_eps=norm_eps, **flags)
        self.activation = nn.Tanh() if squashed else nn.Identity()
        self._follow_pool()
        before_loading(self, self._rename_head)

    @property
    def num_classes(self) -> int:
        """Number of outputs."""
        return self.head.num_classes

    @property
    def global_pool(self) -> str:
        """How the tokens become one vector."""
        return self.head.global_pool

    def _rename_head(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # MONAI's head is a linear, or the first part of a sequence.
        for kind in ("weight", "bias"):
            for name in ("classification_head", "classification_head.0"):
                key = f"{prefix}{name}.{kind}"
                if key in state_dict:
                    state_dict[f"{prefix}head.linear.{kind}"] = state_dict.pop(key)

    def _follow_pool(self) -> None:
        """Have the norm of all tokens, and the class token, just where the head's pool wants them."""
        place = next(self.patch_embedding.parameters())
        if self.head.global_pool in AVERAGED_POOLS:
            self.norm = nn.Identity().train(self.training)  # the head has its own, after the pool
        elif not isinstance(self.norm, nn.LayerNorm):
            norm = nn.LayerNorm(self.hidden_size, eps=self.norm_eps).to(place.device, place.dtype)
            self.norm = norm.train(self.training)
        wanted = self.head.global_pool == "token" if self.class_token is None else self.class_token
        if wanted and not hasattr(self, "cls_token"):
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.hidden_size).to(place.device, place.dtype))
        elif hasattr(self, "cls_token") and not wanted:
            del self.cls_token

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Draw a new linear head, and change the pool as if the model had been built with it.

        The attention pool, the norms and the class token are added or removed as the new pool needs; those that it
        needs too keep their weights (timm issue #2272).

        Args:
            num_classes: number of outputs; 0 for the pooled vector itself.
            global_pool: see the class; the present one when ``None``.

        Raises:
            ValueError: when an argument is not legal; nothing is changed then.
        """
        wanted = self.head.global_pool if global_pool is None else global_pool
        check_head(num_classes, wanted)
        check_class_token(self.class_token, wanted)
        self.head.reset(num_classes, wanted, like=next(self.patch_embedding.parameters()))
        self._follow_pool()

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last tokens (B, P + N, C), normalised, and the tokens after each block, P = 1 with class token."""
        x = self.patch_embedding(x)
        if hasattr(self, "cls_token"):  # TorchScript settles this when it compiles
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        hidden: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            hidden.append(x)
        return self.norm(x), hidden

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last tokens (B, P + N, C) of an image, normalised as the pool wants them, P = 1 with class token.

        As in timm, ``forward(x)`` is ``forward_head(forward_features(x))``.
        """
        return self.forward_intermediates(x)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map what ``forward_features`` returns to outputs (B, num_classes), see ``PooledHead`` for the other forms.

        Args:
            x: tokens, shape (B, P + N, C).
            pre_logits: return the pooled and normalised vector (B, C) itself.
        """
        prefix = 1 if hasattr(self, "cls_token") else 0
        if pre_logits:
            vector: Tensor = self.head.norm(self.head.pool(x, prefix))
            return vector
        outputs: Tensor = self.activation(self.head(x, prefix))
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, ...) to outputs (B, num_classes), see ``PooledHead`` for the other forms."""
        return self.forward_head(self.forward_features(x))


def check_class_token(class_token: bool | None, global_pool: str) -> None:
    """Raise ValueError when the pool needs a class token and none is allowed."""
    if class_token is False and global_pool == "token":
        raise ValueError("global_pool 'token' needs a class token, got class_token False.")


def has_tanh(post_activation: str | bool | None) -> bool:
    """Return whether outputs go through a tanh.

    Raises:
        ValueError: when the activation is neither MONAI's ``"Tanh"`` nor says that there is none.
    """
    if post_activation == "Tanh":
        return True
    if not post_activation or post_activation == "none":
        return False
    raise ValueError(f"post_activation must be 'Tanh', 'none', False or None, got {post_activation!r}.")
