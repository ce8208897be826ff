"""Clicks, their interaction maps, click simulation and click files."""

from napari_fctsfn.clicks.click import Click, Clicks
from napari_fctsfn.clicks.files import ClickFileError, ClickRecord, read_clicks, write_clicks
from napari_fctsfn.clicks.maps import distance_map, interaction_maps

__all__ = [
    "Click",
    "ClickFileError",
    "ClickRecord",
    "Clicks",
    "distance_map",
    "interaction_maps",
    "read_clicks",
    "write_clicks",
]
