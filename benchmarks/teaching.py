"""Fine-tuning beside annotation: how long the event loop is held up, and what the dock costs.

    scripts/with-display.sh .venv/bin/python benchmarks/teaching.py DATA [--pictures 10]

Ten corrected pictures of `dsb2018` are learned from, three times over with the same seed: in Python
in a process of its own, from the Fine-tune dock of an idle window, and from the dock while somebody
clicks twice a second in the Annotate dock. The first two give what the dock costs; the last how
late a timer's beats are that should come every 5 ms, drawing not counted (see `clicks.py`), and how
long the clicks take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from clicks import Heartbeat
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.models import resolve_model
from napari_fctsfn.plugin.samples import picture
from napari_fctsfn.train.finetune import FineTuneSettings, Picture, pictures_of_dataset
from napari_fctsfn.train.finetune.job import write_job

_PACE = 0.5


def percentiles(seconds: list[float]) -> list[float]:
    return [round(1e3 * float(x), 1) for x in np.percentile(seconds, [50, 99, 100])]


def chosen(folder: Path, number: int) -> list[Picture]:
    """Pictures of the training list, drawn with seed 0."""
    stems = DataSet.open(folder).stems(folder / "train.txt")
    places = sorted(np.random.default_rng(0).permutation(len(stems))[:number])
    with tempfile.TemporaryDirectory() as there:
        listed = Path(there) / "list.txt"
        listed.write_text("\n".join(stems[place] for place in places) + "\n")
        return pictures_of_dataset(folder, listed)


def alone(pictures: list[Picture], settings: FineTuneSettings, base: str) -> float:
    """Seconds of the process that the command line's engine is run in here."""
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder), resolve_model(base), pictures, settings, None)
        began = time.perf_counter()
        command = [sys.executable, "-m", "napari_fctsfn.train.finetune", folder]
        # a closed input would mean that nobody waits for it any more
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.PIPE)
        if process.wait():
            raise SystemExit("the training failed")
        return time.perf_counter() - began


def taught(dock: Any, pictures: list[Picture], base: str, minutes: float) -> float:
    """Seconds until a training of the dock is done."""
    dock.pictures.clear()
    dock.thumbnails.clear()
    dock._on_read((pictures, []))  # noqa: SLF001 - as after a folder was read
    dock.base.setCurrentText(base)
    dock.minutes.setValue(minutes)
    dock.name.setText("mine")
    began = time.perf_counter()
    if not dock.start():
        raise SystemExit("the training did not start")
    while dock.teaching.busy:
        QApplication.processEvents()
        time.sleep(0.001)
    return time.perf_counter() - began


class Clicker:
    """Clicks twice a second, with five clicks for an object, and notes how long each takes."""

    def __init__(self, dock: Any) -> None:
        self.seconds: list[float] = []
        self._annotator, self._rng = dock.annotator, np.random.default_rng(0)
        self.timer = QTimer()
        self.timer.setInterval(round(1e3 * _PACE))
        self.timer.timeout.connect(self._click)
        self.timer.start()

    def _click(self) -> None:
        annotator = self._annotator
        if annotator.session.busy:
            return
        if annotator.last is not None:
            self.seconds.append(annotator.last.seconds)
        if len(annotator.site.prompts.positive.data) >= 5:
            annotator.next_object()
        annotator.site.prompts.positive.add([self._rng.uniform(5, 250, 2).tolist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=20, help="more than it takes")
    parser.add_argument("--base", default="photo")
    options = parser.parse_args()
    pictures = chosen(options.data / "dsb2018", options.pictures)
    settings = FineTuneSettings(minutes=options.minutes)
    result: dict[str, Any] = {"pictures": len(pictures)}
    result["process_s"] = alone(pictures, settings, options.base)

    import napari

    viewer = napari.Viewer()
    viewer.add_image(picture("nuclei"), name="nuclei")
    _, annotate = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    _, teach = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Fine-tune")
    annotate.wait_idle(120_000)
    teach.list_models()
    result["dock_s"] = taught(teach, pictures, options.base, options.minutes)
    result["dock_beside_process"] = result["dock_s"] / result["process_s"]
    annotate.start()
    annotate.wait_idle(60_000)
    heart = Heartbeat(viewer.window._qt_viewer.canvas._scene_canvas)  # noqa: SLF001
    clicker = Clicker(annotate)
    result["dock_while_clicking_s"] = taught(teach, pictures, options.base, options.minutes)
    clicker.timer.stop()
    result["clicks"] = len(clicker.seconds)
    result["click_ms_50_99_max"] = percentiles(clicker.seconds)
    result["delay_ms_50_99_max"] = percentiles(heart.delays)
    annotate.wait_idle(60_000)
    teach.discard()
    print(json.dumps(result, indent=1))
    viewer.close()


if __name__ == "__main__":
    main()
