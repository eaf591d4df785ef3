"""Training: synthetic images from label maps, and what MONAI's training loop lacks."""

from bundle.datasets import find_pairs
from bundle.errors import TrainingError, show_errors_in_one_line
from bundle.synthesis import FreshSampler, SyntheticBrainDataset, find_label_maps
from bundle.training.attending import attend_by_head
from bundle.training.averaging import AveragedWeights
from bundle.training.checkpoints import BestWeights, FinalWeights, ResumableCheckpoint
from bundle.training.compiling import allow_fast_convolutions, compile_group_norm
from bundle.training.fused_loss import FusedDiceCELoss
from bundle.training.handlers import FiniteLoss, FreedMemory, GradientClipping, Progress, SeedEachEpoch
from bundle.training.history import History
from bundle.training.ignoring import IgnoredToBackgroundd, IgnoringDiceCELoss
from bundle.training.initial import InitialWeights
from bundle.training.judged import JudgedTokens
from bundle.training.judging import KnownShareLoss, MeanDeviation, OutputsInferer, RankCorrelation, judging_network
from bundle.training.labelled import brain_dataset, read_values, training_facts, training_name
from bundle.training.lean_loss import LeanDiceCELoss
from bundle.training.log import TrainingLog
from bundle.training.model import TrainedModel
from bundle.training.precision import MixedPrecisionInferer
from bundle.training.quality_model import QualityModel
from bundle.training.recorded import RecordedStep
from bundle.training.schedule import ResumableWarmupCosine
from bundle.training.tracking import check_tracking
from bundle.training.validation import CodesToChannelsd, ValidationDataset

__all__ = [
    "AveragedWeights",
    "BestWeights",
    "CodesToChannelsd",
    "FinalWeights",
    "FiniteLoss",
    "FreedMemory",
    "FreshSampler",
    "FusedDiceCELoss",
    "GradientClipping",
    "History",
    "IgnoredToBackgroundd",
    "IgnoringDiceCELoss",
    "InitialWeights",
    "JudgedTokens",
    "KnownShareLoss",
    "LeanDiceCELoss",
    "MeanDeviation",
    "MixedPrecisionInferer",
    "OutputsInferer",
    "Progress",
    "QualityModel",
    "RankCorrelation",
    "RecordedStep",
    "ResumableCheckpoint",
    "ResumableWarmupCosine",
    "SeedEachEpoch",
    "SyntheticBrainDataset",
    "TrainedModel",
    "TrainingError",
    "TrainingLog",
    "ValidationDataset",
    "allow_fast_convolutions",
    "attend_by_head",
    "brain_dataset",
    "check_tracking",
    "compile_group_norm",
    "find_label_maps",
    "find_pairs",
    "judging_network",
    "read_values",
    "show_errors_in_one_line",
    "training_facts",
    "training_name",
]
