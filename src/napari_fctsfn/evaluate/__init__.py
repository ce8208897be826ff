"""How many clicks a model needs: data sets, simulated users, measures."""

from napari_fctsfn.evaluate.compare import Comparison, Difference, paired_difference
from napari_fctsfn.evaluate.datasets import DataSet
from napari_fctsfn.evaluate.decidability import decidability_index
from napari_fctsfn.evaluate.job import Job
from napari_fctsfn.evaluate.layouts import open_dataset
from napari_fctsfn.evaluate.loading import load_segmenter
from napari_fctsfn.evaluate.metrics import clustered_interval, iou, number_of_clicks
from napari_fctsfn.evaluate.objectset import DataSetError, ObjectReference, ObjectSet
from napari_fctsfn.evaluate.progress import Progress
from napari_fctsfn.evaluate.results import (
    ObjectResult,
    read_results,
    summarise,
    write_results,
)
from napari_fctsfn.evaluate.runner import evaluate_objects, protocol_settings

__all__ = [
    "Comparison",
    "DataSet",
    "DataSetError",
    "Difference",
    "Job",
    "ObjectReference",
    "ObjectResult",
    "ObjectSet",
    "Progress",
    "clustered_interval",
    "decidability_index",
    "evaluate_objects",
    "iou",
    "load_segmenter",
    "number_of_clicks",
    "open_dataset",
    "paired_difference",
    "protocol_settings",
    "read_results",
    "summarise",
    "write_results",
]
