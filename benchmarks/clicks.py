"""Two thousand clicks over two hundred slices in the real window, at a steady pace.

    scripts/with-display.sh .venv/bin/python benchmarks/clicks.py [--slices 200] [--clicks 10]

Prints how long clicks take and how much memory is resident, tenth by tenth, and how long the event
loop is held up: a timer that should beat every 5 ms is late by so much, less the time in which
napari draws the canvas (by software on a virtual display). A click's delay is the longest one until
its mask is there. Discs have up to a megapixel, in every tenth slice.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import numpy as np
from memory import peak_mb, resident_mb
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

_SIDE = 1200
_BEAT = 0.005


class Drawing:
    """How long napari has drawn a canvas so far, in seconds.

    Parameters
    ----------
    canvas : vispy.scene.SceneCanvas
        Tells when it is drawn.
    """

    def __init__(self, canvas: Any) -> None:
        self.seconds = 0.0
        self._from = 0.0
        canvas.events.draw.connect(self._before, position="first")
        canvas.events.draw.connect(self._after, position="last")

    def _before(self, _event: Any) -> None:
        self._from = time.perf_counter()

    def _after(self, _event: Any) -> None:
        self.seconds += time.perf_counter() - self._from


class Heartbeat:
    """How late a timer's beats are; drawing does not count.

    Parameters
    ----------
    canvas : vispy.scene.SceneCanvas
        Tells when it is drawn.
    """

    def __init__(self, canvas: Any) -> None:
        self.delays: list[float] = []
        self._drawing = Drawing(canvas)
        self._drawn = 0.0
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._on_beat)
        self._last = time.perf_counter()
        self._timer.start(round(1e3 * _BEAT))

    def _on_beat(self) -> None:
        now, drawn = time.perf_counter(), self._drawing.seconds
        self.delays.append(max(now - self._last - _BEAT - (drawn - self._drawn), 0.0))
        self._last, self._drawn = now, drawn


def radius(index: int) -> int:
    """Of the disc in a slice."""
    return 564 if index % 10 == 5 else 40 + 7 * (index % 10)


def stack(slices: int) -> np.ndarray:
    """A disc in noise in each slice, uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:_SIDE, :_SIDE] - _SIDE // 2
    noise = rng.poisson(60, (_SIDE, _SIDE)).astype(np.uint8)
    far = np.hypot(rows, columns)
    return np.stack(
        [noise + 90 * (far < radius(index)).astype(np.uint8) for index in range(slices)]
    )


def place(index: int, click: int) -> tuple[list[float], bool]:
    """Where a click lies in a slice, near the disc's border, and whether it is on the disc."""
    positive = click % 3 != 2
    angle = 2.4 * click
    far = radius(index) * (0.0 if not click else 0.85 if positive else 1.1) + 3 * (not positive)
    point = [_SIDE / 2 + far * math.sin(angle), _SIDE / 2 + far * math.cos(angle)]
    return [index, *(min(max(x, 0), _SIDE - 1) for x in point)], positive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--pace", type=float, default=0.3, help="seconds from click to click")
    options = parser.parse_args()
    import napari

    viewer = napari.Viewer()
    viewer.add_image(stack(options.slices))
    labels = np.empty((options.slices, _SIDE, _SIDE), np.uint16)
    labels[...] = 0  # resident from the start
    viewer.add_labels(labels)
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    dock.wait_idle(120_000)
    dock.labels.choose(viewer.layers[-1])
    if not dock.start():
        raise SystemExit("the dock did not start")
    heart = Heartbeat(viewer.window._qt_viewer.canvas._scene_canvas)  # noqa: SLF001
    seconds, memory, worst = [], [], []

    def act(action: Any) -> float:
        """Seconds until all that an action of the annotator asks for is done."""
        began = time.perf_counter()
        QTimer.singleShot(0, action)
        QApplication.processEvents()
        dock.wait_idle(60_000)
        took = time.perf_counter() - began
        while time.perf_counter() - began < options.pace:
            QApplication.processEvents()
            time.sleep(0.001)
        return took

    for index in range(options.slices):
        act(lambda z=index: viewer.dims.set_point(0, z))
        for click in range(options.clicks):
            point, positive = place(index, click)
            prompts = dock.annotator.site.prompts
            layer = prompts.positive if positive else prompts.negative
            before = len(heart.delays)
            seconds.append(act(lambda on=layer, at=point: on.add([at])))
            worst.append(max(heart.delays[before:], default=0.0))
        act(dock.annotator.next_object)
        memory.append(resident_mb())
    parts = min(10, len(memory))
    after = [part[-1] for part in np.array_split(memory, parts)]
    result = {
        "clicks": len(seconds),
        "objects": len(np.unique(labels[:, ::4, ::4])) - 1,
        "click_ms_in_each_tenth": [
            round(1e3 * float(np.median(part))) for part in np.array_split(seconds, parts)
        ],
        "memory_mb_after_each_tenth": [round(float(mb)) for mb in after],
        "peak_mb": peak_mb(),
        "beats": len(heart.delays),
        "delay_ms_50_99_max": _percentiles(heart.delays),
        "click_delay_ms_50_99_max": _percentiles(worst),
    }
    print(json.dumps(result, indent=1))
    viewer.close()


def _percentiles(seconds: list[float]) -> list[float]:
    return [round(1e3 * float(x), 1) for x in np.percentile(seconds, [50, 99, 100])]


if __name__ == "__main__":
    main()
