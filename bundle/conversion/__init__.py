"""Checkpoints of MONAI, GenerativeModels and timm, and the way back."""

from bundle.conversion.convert import FAMILIES, LAYOUTS, convert_checkpoint
from bundle.conversion.detect import detect_family
from bundle.errors import ConversionError

__all__ = ["FAMILIES", "LAYOUTS", "ConversionError", "convert_checkpoint", "detect_family"]
