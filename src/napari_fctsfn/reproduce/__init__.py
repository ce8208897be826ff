"""The paper's tables and figures, made from what data and models there are."""

from napari_fctsfn.reproduce.counts import counts_table
from napari_fctsfn.reproduce.items import ITEMS
from napari_fctsfn.reproduce.make import Plan, reproduce

__all__ = ["ITEMS", "Plan", "counts_table", "reproduce"]
