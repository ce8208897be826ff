"""With the lowest napari allowed: window, all docks from the manifest, two objects, a search."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

PATIENCE = 180.0
"""Seconds to wait for the model to load and for the mask; slow machines need them."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Let Qt work until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE:.0f} s")
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Run the smoke test against the version named on the command line."""
    wanted = tuple(map(int, sys.argv[1].split(".")))
    found = tuple(map(int, napari.__version__.split(".")[: len(wanted)]))
    if found != wanted:
        sys.exit(f"napari is {napari.__version__}, not the floor {sys.argv[1]}")

    rows, columns = np.mgrid[:96, :128]
    inside = (rows - 50) ** 2 + (columns - 60) ** 2 < 25**2
    viewer = napari.Viewer()
    viewer.add_image(np.where(inside, 200, 40).astype(np.uint8), name="disk", scale=(0.5, 0.5))
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn")
    wait_until(dock.start_button.isEnabled, "a loaded model")
    dock.start()
    wait_until(lambda: any(isinstance(x, napari.layers.Labels) for x in viewer.layers), "layers")
    labels = next(x for x in viewer.layers if isinstance(x, napari.layers.Labels))
    points = next(x for x in viewer.layers if x.name.startswith("positive"))
    points.add([[50, 60]])
    wait_until(lambda: labels.data[50, 60] != 0, "a mask under the click")
    dock.next_button.click()
    points.add([[20, 20]])
    wait_until(lambda: labels.data[20, 20] == 2, "a second object")
    note = replace(dock.annotator.session.note(2), hidden=True, color="#ff0000")
    dock.annotator.do(lambda site: site.session.describe({2: note}))
    dock.similar.find_button.click()
    wait_until(lambda: not dock.annotator.finding.under_way, "an end of the search")
    dock.undo_button.click()
    for name in ("Fine-tune", "Batch", "Models"):
        _, other = viewer.window.add_plugin_dock_widget("napari-fctsfn", name)
        if not other.wait_idle():
            sys.exit(f"the dock {name} is not idle")
    viewer.close()
    print(f"napari {napari.__version__}: window, docks, two objects, one search: ok")


if __name__ == "__main__":
    main()
