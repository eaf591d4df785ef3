"""Networks: tensors in, tensors out; nothing here knows of files or configs.

>>> import torch
>>> from networks import SABlock, ViT
>>> SABlock(hidden_size=192, num_heads=6)(torch.zeros(1, 100, 192)).shape
torch.Size([1, 100, 192])
>>> sizes = {"img_size": 32, "patch_size": 16, "hidden_size": 48, "mlp_dim": 96, "num_layers": 1, "num_heads": 4}
>>> vit = ViT(1, **sizes, num_classes=5, global_pool="avg")
>>> vit(torch.zeros(2, 1, 32, 32, 32)).shape
torch.Size([2, 5])
"""

from networks.attention import SABlock
from networks.cross_attention import CrossAttentionBlock
from networks.global_local_attention import GlobalLocalAttention
from networks.local_attention import BlockAttention
from networks.patch_embedding import PatchEmbeddingBlock
from networks.pooled_attention import PooledAttention
from networks.pooling import AttentionPool
from networks.qkv_layout import combine_qkv, separate_qkv
from networks.scan_outputs import ScanOutputs
from networks.spatial_attention import SpatialAttention
from networks.transformer import TransformerBlock
from networks.transformer_unet import TransformerUNet
from networks.unetr import UNETR
from networks.vit import ViT

__all__ = [
    "UNETR",
    "AttentionPool",
    "BlockAttention",
    "CrossAttentionBlock",
    "GlobalLocalAttention",
    "PatchEmbeddingBlock",
    "PooledAttention",
    "SABlock",
    "ScanOutputs",
    "SpatialAttention",
    "TransformerBlock",
    "TransformerUNet",
    "ViT",
    "combine_qkv",
    "separate_qkv",
]
