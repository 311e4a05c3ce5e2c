"""Data sets: examples of any kind, in memory or on disk, from files to the batches of the training loop."""

from convscope.data.dataset import Dataset
from convscope.data.examples import Batch, Examples
from convscope.data.feed import Feed, FixedStage, Stage, augmenting, fitting
from convscope.data.kinds.boxes import Boxes, BoxTargets
from convscope.data.kinds.captions import Captions, CaptionTargets
from convscope.data.kinds.labelled import Labelled, stratified_split
from convscope.data.kinds.labelled_on_disk import LabelledOnDisk
from convscope.data.kinds.maps import Maps
from convscope.data.kinds.pairs import Pairs, draw_pairs
from convscope.data.kinds.parallel import Parallel
from convscope.data.kinds.sentences import Sentences
from convscope.data.loading import data_root, is_present, list_datasets, load_dataset
from convscope.data.order import Order
from convscope.data.transforms import prepare
from convscope.data.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "BoxTargets",
    "Boxes",
    "CaptionTargets",
    "Captions",
    "Dataset",
    "Examples",
    "Feed",
    "FixedStage",
    "Labelled",
    "LabelledOnDisk",
    "Maps",
    "Order",
    "Pairs",
    "Parallel",
    "Sentences",
    "Stage",
    "Vocabulary",
    "augmenting",
    "data_root",
    "draw_pairs",
    "fitting",
    "is_present",
    "list_datasets",
    "load_dataset",
    "prepare",
    "stratified_split",
]
