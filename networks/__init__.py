"""Networks: tensors in, tensors out; nothing here knows of files or configs."""

from networks.attention import SABlock
from networks.cross_attention import CrossAttentionBlock
from networks.global_local_attention import GlobalLocalAttention
from networks.local_attention import BlockAttention
from networks.patch_embedding import PatchEmbeddingBlock
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
    "SABlock",
    "ScanOutputs",
    "SpatialAttention",
    "TransformerBlock",
    "TransformerUNet",
    "ViT",
    "combine_qkv",
    "separate_qkv",
]
