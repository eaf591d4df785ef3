"""Checkpoints of MONAI, GenerativeModels and timm, and the way back."""

from bundle.choices import FAMILIES, LAYOUTS
from bundle.conversion.convert import convert_checkpoint
from bundle.conversion.detect import detect_family
from bundle.conversion.generative_keys import undecided_keys
from bundle.errors import ConversionError

__all__ = ["FAMILIES", "LAYOUTS", "ConversionError", "convert_checkpoint", "detect_family", "undecided_keys"]
