"""Training of segmentation and classification networks, one arm of the comparison at a time."""

from dreamorph.training.augment import Augmenter, Batch
from dreamorph.training.config import ArmName, IntensityConfig, TrainingConfig
from dreamorph.training.data import TrainingData
from dreamorph.training.fit import Arm, TrainedArm, train_arm, train_arms, train_each
from dreamorph.training.inference import Views, predict, predict_each
from dreamorph.training.mixing import MixedWarps
from dreamorph.training.networks import NetworkSpec, PaddedNetwork, build_network, network_spec

__all__ = [
    "Arm",
    "ArmName",
    "Augmenter",
    "Batch",
    "IntensityConfig",
    "MixedWarps",
    "NetworkSpec",
    "PaddedNetwork",
    "TrainedArm",
    "TrainingConfig",
    "TrainingData",
    "Views",
    "build_network",
    "network_spec",
    "predict",
    "predict_each",
    "train_arm",
    "train_arms",
    "train_each",
]
