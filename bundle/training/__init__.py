"""Training: synthetic images from label maps, and what MONAI's training loop lacks."""

from bundle.training.dataset import FreshSampler, SyntheticBrainDataset
from bundle.training.handlers import GradientClipping, Progress, ResumableCheckpoint
from bundle.training.label_maps import find_label_maps
from bundle.training.validation import CodesToChannelsd, ValidationDataset, find_pairs

__all__ = [
    "CodesToChannelsd",
    "FreshSampler",
    "GradientClipping",
    "Progress",
    "ResumableCheckpoint",
    "SyntheticBrainDataset",
    "ValidationDataset",
    "find_label_maps",
    "find_pairs",
]
