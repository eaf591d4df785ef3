"""Synthesis: training images drawn from label maps."""

from bundle.synthesis.anatomy import find_label_maps
from bundle.synthesis.brains import held_out
from bundle.synthesis.dataset import FreshSampler, SyntheticBrainDataset
from bundle.synthesis.difficulties import DifficultSamples
from bundle.synthesis.reuse import ReusedSamples

__all__ = ["DifficultSamples", "FreshSampler", "ReusedSamples", "SyntheticBrainDataset", "find_label_maps", "held_out"]
