"""Clicks, their interaction maps, click simulation and click files."""

from napari_fctsfn.clicks.click import Click, Clicks
from napari_fctsfn.clicks.maps import distance_map, interaction_maps

__all__ = ["Click", "Clicks", "distance_map", "interaction_maps"]
