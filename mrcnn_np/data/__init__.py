"""Data sets: generated shapes, Pascal VOC, COCO's format, and those of annotation tools (``formats.py`` lists them)."""

from __future__ import annotations

from .augment import augment
from .check import Report, check_dataset, describe, few_pictures
from .coco import COCO_CATEGORIES, COCODataset
from .download import download_voc2012
from .findings import require_teachable
from .images import read_image
from .opening import open_dataset, recognise
from .sample import Dataset, Sample
from .shapes import SHAPES_CLASSES, generate
from .splits import Overview, compare_splits, look_at
from .voc import VOC_CLASSES, VOCDataset, colour_map

__all__ = [
    "COCO_CATEGORIES",
    "SHAPES_CLASSES",
    "VOC_CLASSES",
    "COCODataset",
    "Dataset",
    "Overview",
    "Report",
    "Sample",
    "VOCDataset",
    "augment",
    "check_dataset",
    "colour_map",
    "compare_splits",
    "describe",
    "download_voc2012",
    "few_pictures",
    "generate",
    "look_at",
    "open_dataset",
    "read_image",
    "recognise",
    "require_teachable",
]
