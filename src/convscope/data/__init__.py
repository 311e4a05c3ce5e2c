"""Data sets, transforms, batches: pictures as uint8 tensors from files to the training loop."""

from convscope.data.batches import Batches
from convscope.data.dataset import Dataset
from convscope.data.kinds.labelled import Labelled, stratified_split
from convscope.data.loading import data_root, is_present, list_datasets, load_dataset
from convscope.data.transforms import prepare

__all__ = [
    "Batches",
    "Dataset",
    "Labelled",
    "data_root",
    "is_present",
    "list_datasets",
    "load_dataset",
    "prepare",
    "stratified_split",
]
