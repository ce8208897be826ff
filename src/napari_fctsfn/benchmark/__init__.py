"""How long an annotator waits, here and with other tools on the same machine."""

from napari_fctsfn.benchmark.peers import PEERS, Peer, installed
from napari_fctsfn.benchmark.plot import plot
from napari_fctsfn.benchmark.speed import Task, Timing, measure

__all__ = ["PEERS", "Peer", "Task", "Timing", "installed", "measure", "plot"]
