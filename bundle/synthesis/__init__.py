"""Synthesis: training images drawn from label maps."""

from bundle.synthesis.anatomy import find_label_maps
from bundle.synthesis.dataset import FreshSampler, SyntheticBrainDataset

__all__ = ["FreshSampler", "SyntheticBrainDataset", "find_label_maps"]
