"""Networks: tensors in, tensors out; nothing here knows of files or configs."""

from networks.attention import SABlock
from networks.qkv_layout import combine_qkv, separate_qkv
from networks.transformer import TransformerBlock
from networks.transformer_unet import TransformerUNet

__all__ = ["SABlock", "TransformerBlock", "TransformerUNet", "combine_qkv", "separate_qkv"]
