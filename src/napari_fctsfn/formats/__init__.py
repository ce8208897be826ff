"""Labels and measurements in the formats of other programs."""

from napari_fctsfn.formats.labels import (
    About,
    is_export,
    write_coco,
    write_ome_tiff,
    write_ome_zarr,
    write_rois,
)
from napari_fctsfn.formats.measure import boxes_of, measurements
from napari_fctsfn.formats.outlines import outlines

__all__ = [
    "About",
    "boxes_of",
    "is_export",
    "measurements",
    "outlines",
    "write_coco",
    "write_ome_tiff",
    "write_ome_zarr",
    "write_rois",
]
