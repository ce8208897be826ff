"""How many clicks a model needs: data sets, simulated users, measures."""

from napari_fctsfn.evaluate.datasets import DataSet, DataSetError, ObjectReference
from napari_fctsfn.evaluate.metrics import clustered_interval, iou, number_of_clicks
from napari_fctsfn.evaluate.runner import (
    ObjectResult,
    evaluate_objects,
    protocol_settings,
    summarise,
    write_results,
)

__all__ = [
    "DataSet",
    "DataSetError",
    "ObjectReference",
    "ObjectResult",
    "clustered_interval",
    "evaluate_objects",
    "iou",
    "number_of_clicks",
    "protocol_settings",
    "summarise",
    "write_results",
]
