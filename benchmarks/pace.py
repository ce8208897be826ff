"""Nuclei of one image and one object through a stack, by clicks and by brush, at a human pace.

    scripts/with-display.sh .venv/bin/python benchmarks/pace.py DATA [--nuclei 50] [--pace 1]

All ways are replayed in the real window. The hand takes the times of the keystroke-level model
(Card, Moran and Newell, "The keystroke-level model for user performance time with interactive
systems", 1980), which are waited for (times `--pace`); what the program takes is measured. By
clicks, a simulated annotator clicks in the middle of the largest wrong region until the mask is
good; in the stack, has it propagated, looks at each slice, corrects the first that is not good and
propagates from there. With similar ones searched for, five nuclei are clicked on, every proposal is
looked at, and what is missing or not good then is clicked on. By brush, in napari alone, the
outline is drawn with as few straight strokes as a good mask takes, and filled. Good is the same for
all: an IoU of 0.85 where it is worked on, 0.8 where it is only looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from propagation import CLICKED, GOOD, PATIENCE, Bench, Mask, iou, read_stacks
from qtpy.QtWidgets import QApplication
from skimage.draw import polygon
from skimage.measure import approximate_polygon, find_contours, label

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import DataSet

KEY, POINT, PRESS, THINK = 0.28, 1.1, 0.2, 1.35
"""Seconds for a key, for pointing at something, for pressing and releasing the mouse button, for
deciding what to do."""

SEGMENT, CENTIMETRE = 0.9, 0.16
"""Seconds for each straight segment that is drawn, and for each centimetre of it."""

_TAUGHT = 5
"""Objects that are clicked on before others like them are searched for."""

_ALIKE = 0.5
"""IoU from which on a mask is one of an object, though it may have to be corrected."""

_SCREEN = 20.0
"""Height of the image on the screen, in centimetres."""


class Hand:
    """Somebody at work: what is done, and how long it takes."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self.actions, self.seconds, self.waited = 0, 0.0, 0.0

    def does(self, *seconds: float) -> None:
        """So many things one after the other."""
        self.actions += len(seconds)
        self.spends(sum(seconds))

    def spends(self, seconds: float) -> None:
        """Time in which nothing is done to the program."""
        self.seconds += seconds
        until = time.perf_counter() + self._pace * seconds
        while time.perf_counter() < until:
            QApplication.processEvents()
            time.sleep(0.002)

    def waits(self, dock: Any) -> None:
        """Until the program is done."""
        began = time.perf_counter()
        dock.wait_idle(600_000)
        self.waited += time.perf_counter() - began

    def report(self, overlaps: list[float]) -> dict[str, float]:
        return {
            "actions": self.actions,
            "minutes": (self.seconds + self.waited) / 60,
            "of_them_waiting": self.waited / 60,
            "mean_iou": float(np.mean(overlaps)),
            "worst_iou": float(np.min(overlaps)),
        }


def outline(mask: Mask, centimetres: float) -> tuple[list[np.ndarray], float]:
    """The coarsest closed polygons that give a good mask, and the seconds they take to draw."""
    contours = [c - 1 for c in find_contours(np.pad(mask, 1).astype(float), 0.5)]
    for tolerance in (8, 6, 5, 4, 3, 2.5, 2, 1.5, 1, 0.7, 0.5, 0.0):
        drawn = [approximate_polygon(contour, tolerance) for contour in contours]
        drawn = [points for points in drawn if len(points) > 3]
        if drawn and iou(filled(drawn, mask.shape), mask) >= CLICKED:
            break
    length = sum(np.hypot(*np.diff(points, axis=0).T).sum() for points in drawn) * centimetres
    return drawn, SEGMENT * sum(len(points) - 1 for points in drawn) + CENTIMETRE * length


def filled(drawn: list[np.ndarray], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    for points in drawn:
        mask[polygon(*points.T, shape=shape)] = True
    return mask


def paint(hand: Hand, layer: Any, z: tuple[int, ...], mask: Mask, number: int) -> None:
    """Draw and fill an object with napari's own tools."""
    drawn, seconds = outline(mask, _SCREEN / len(mask))
    for points in drawn:
        hand.does(POINT, seconds / len(drawn), KEY, POINT, PRESS, KEY)  # outline, fill tool, fill
        for row, column in points:
            layer.paint((*z, row, column), number, refresh=False)
        box = tuple(slice(int(a), int(b) + 2) for a, b in zip(*_ends(points), strict=True))
        part = filled([points], mask.shape)[box]
        data = layer.data[z] if z else layer.data
        data[box][part & (data[box] == 0)] = number
        layer.refresh()
        QApplication.processEvents()


def _ends(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(np.floor(points.min(axis=0)), 0), np.ceil(points.max(axis=0))


class Clicking:
    """The dock, in the hands of a simulated annotator."""

    def __init__(self, viewer: Any, hand: Hand) -> None:
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
        self.dock.wait_idle(120_000)
        if not self.dock.start():
            raise SystemExit("the dock did not start")
        self.dock.wait_idle(60_000)
        self.viewer, self.hand, self.annotator = viewer, hand, self.dock.annotator

    def mask(self, z: tuple[int, ...]) -> Mask:
        return self.annotator.site.labels.data[z] == self.annotator.session.current

    def click(self, z: tuple[int, ...], truth: Mask) -> None:
        """Clicks in a slice until its mask is good, at most ten."""
        made = Clicks()
        while iou(self.mask(z), truth) < CLICKED and len(made) < PATIENCE:
            click = next_click(self.mask(z), truth, made)
            if click is None:
                break
            if click.positive != self.annotator.polarity:
                self.hand.does(KEY)
                self.annotator.switch_polarity()
            self.hand.does(POINT, PRESS)
            self.hand.spends(THINK)
            prompts = self.annotator.site.prompts
            layer = prompts.positive if click.positive else prompts.negative
            layer.add([[*z, click.row, click.column]])
            self.hand.waits(self.dock)
            made = made.append(click)

    def next_object(self) -> None:
        self.hand.does(KEY)
        self.annotator.next_object()
        self.hand.waits(self.dock)

    def accept_similar(self, truths: list[Mask]) -> None:
        """Search, look at each proposal, reject what is no object, and accept the rest."""
        finding = self.annotator.finding
        self.hand.does(POINT, PRESS)
        finding.start()
        self.hand.waits(self.dock)
        for number, proposal in enumerate(finding.search.proposals):
            self.hand.spends(THINK)
            top, left, bottom, right = proposal.bbox
            mask = np.zeros_like(truths[0])
            mask[top:bottom, left:right] = proposal.mask
            if max(iou(mask, truth) for truth in truths) < _ALIKE:
                self.hand.does(POINT, PRESS)
                finding.toggle(number)
        self.hand.does(POINT, PRESS)
        finding.accept()
        self.hand.waits(self.dock)

    def corrected(self, truth: Mask) -> float:
        """The IoU of an object once it is good: found already, taken up, or clicked on anew."""
        labels = self.annotator.site.labels.data
        values = [int(v) for v in np.unique(labels[truth]) if v]
        best = max(values, key=lambda v: iou(labels == v, truth), default=0)
        if best and iou(labels == best, truth) >= _ALIKE:
            if iou(labels == best, truth) >= CLICKED:
                return iou(labels == best, truth)
            self.hand.does(POINT, KEY)
            self.annotator.take_up(best)
        elif self.mask(()).any():
            self.next_object()
        else:
            self.annotator.choose_polarity(True)
        self.hand.waits(self.dock)
        self.click((), truth)
        found = iou(self.mask(()), truth)
        self.next_object()
        return found

    def look(self, z: int) -> None:
        self.hand.does(KEY)
        self.hand.spends(THINK)
        self.viewer.dims.set_point(0, z)

    def propagate(self, direction: str) -> None:
        self.hand.does(POINT, PRESS, POINT, PRESS)
        self.annotator.propagate(direction)
        self.hand.waits(self.dock)


def nuclei(data: Path, number: int, pace: float, colours: bool) -> dict[str, Any]:
    """So many nuclei of the first validation image, with colours or without, that has them."""
    import napari

    dataset = DataSet.open(data / "dsb2018")
    stems = sorted({line.split()[0] for line in (data / "dsb2018" / "val.txt").open()})
    for stem in stems:
        image, labels = dataset.pair(stem)
        values = [int(v) for v in np.unique(labels) if v]
        if number <= len(values) <= 3 * number and (image.ndim == 3) == colours:
            break
    values = sorted(np.random.default_rng(0).permutation(values)[:number].tolist())
    truths = [labels == value for value in values]
    result: dict[str, Any] = {"image": stem, "shape": image.shape, "objects": len(truths)}

    viewer, hand = napari.Viewer(), Hand(pace)
    viewer.add_image(image)
    user = Clicking(viewer, hand)
    found = []
    for truth in truths:
        user.click((), truth)
        found.append(iou(user.mask(()), truth))
        user.next_object()
    result["clicks"] = hand.report(found)
    viewer.close()

    viewer, hand = napari.Viewer(), Hand(pace)
    viewer.add_image(image)
    user = Clicking(viewer, hand)
    for truth in truths[:_TAUGHT]:
        user.click((), truth)
        user.next_object()
    user.accept_similar([labels == value for value in np.unique(labels) if value])
    result["similar"] = hand.report([user.corrected(truth) for truth in truths])
    viewer.close()

    viewer, hand = napari.Viewer(), Hand(pace)
    viewer.add_image(image)
    layer = viewer.add_labels(np.zeros(labels.shape, np.uint16))
    layer.brush_size = 1
    found = []
    for value, truth in enumerate(truths, 1):
        hand.does(KEY)
        hand.spends(THINK)
        paint(hand, layer, (), truth, value)
        found.append(iou(layer.data == value, truth))
    result["brush"] = hand.report(found)
    viewer.close()
    return result


def through_stack(data: Path, pace: float) -> dict[str, Any]:
    """The chloroplast that is seen in most slices, of those in a single piece."""
    import napari

    ((image, labels),) = read_stacks(data / "chloroplast_em").values()
    bench = Bench(None, "", image, labels)  # type: ignore[arg-type]
    parts = {int(v): part for v in np.unique(labels) if v and (part := bench.part(int(v)))}
    whole = [v for v, part in parts.items() if all(label(m).max() == 1 for m in labels[part] == v)]
    value = max(whole, key=lambda v: (parts[v].stop - parts[v].start, (labels == v).sum()))
    part = parts[value]
    image, truth = image[part], labels[part] == value
    result: dict[str, Any] = {"object": value, "slices": len(truth), "shape": image.shape}

    viewer, hand = napari.Viewer(), Hand(pace)
    viewer.add_image(image)
    user = Clicking(viewer, hand)
    middle = len(truth) // 2
    user.look(middle)
    user.click((middle,), truth[middle])
    user.propagate("both")
    for direction, rest in (("up", range(middle + 1, len(truth))), ("down", range(middle)[::-1])):
        for z in rest:
            user.look(z)
            if iou(user.mask((z,)), truth[z]) < GOOD:
                user.click((z,), truth[z])
                if z not in (0, len(truth) - 1):
                    user.propagate(direction)
    result["clicks"] = hand.report([iou(user.mask((z,)), m) for z, m in enumerate(truth)])
    viewer.close()

    viewer, hand = napari.Viewer(), Hand(pace)
    viewer.add_image(image)
    layer = viewer.add_labels(np.zeros(truth.shape, np.uint16))
    layer.brush_size = 1
    for z, mask in enumerate(truth):
        hand.does(KEY)
        hand.spends(THINK)
        viewer.dims.set_point(0, z)
        paint(hand, layer, (z,), mask, 1)
    result["brush"] = hand.report([iou(layer.data[z] == 1, m) for z, m in enumerate(truth)])
    viewer.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--nuclei", type=int, default=50)
    parser.add_argument("--pace", type=float, default=1.0, help="0 leaves the hand's time out")
    options = parser.parse_args()
    table = {
        "fluorescence": nuclei(options.data, options.nuclei, options.pace, colours=False),
        "stained": nuclei(options.data, options.nuclei, options.pace, colours=True),
        "stack": through_stack(options.data, options.pace),
    }
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
