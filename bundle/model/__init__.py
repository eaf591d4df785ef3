"""A model: its weights and all that belongs to them, in one folder or zip (``model.json``)."""

from bundle.model.ensemble import Ensemble
from bundle.model.find import find_model, weights_file
from bundle.model.fingerprint import check_same, check_same_training, differences
from bundle.model.folder import LABEL_TABLE, MODEL_FILE, SCHEMA, WEIGHTS, Model, read_model
from bundle.model.network import build_network

__all__ = [
    "LABEL_TABLE",
    "MODEL_FILE",
    "SCHEMA",
    "WEIGHTS",
    "Ensemble",
    "Model",
    "build_network",
    "check_same",
    "check_same_training",
    "differences",
    "find_model",
    "read_model",
    "weights_file",
]
