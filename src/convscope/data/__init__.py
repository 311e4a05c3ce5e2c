"""Data sets: examples of any kind, in memory or on disk, from files to the batches of the training loop."""

from convscope.data.dataset import Dataset
from convscope.data.examples import Batch, Examples
from convscope.data.feed import Feed, FixedStage, Stage, augmenting, fitting
from convscope.data.kinds.labelled import Labelled, stratified_split
from convscope.data.loading import data_root, is_present, list_datasets, load_dataset
from convscope.data.order import Order
from convscope.data.transforms import prepare

__all__ = [
    "Batch",
    "Dataset",
    "Examples",
    "Feed",
    "FixedStage",
    "Labelled",
    "Order",
    "Stage",
    "augmenting",
    "data_root",
    "fitting",
    "is_present",
    "list_datasets",
    "load_dataset",
    "prepare",
    "stratified_split",
]
