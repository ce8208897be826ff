"""The numbers of the paper's tables 1 to 8."""

from __future__ import annotations

from typing import Literal

SetKey = Literal["voc", "coco", "grabcut", "berkeley"]
SET_KEYS: tuple[SetKey, ...] = ("voc", "coco", "grabcut", "berkeley")

SET_NAMES: dict[SetKey, str] = {
    "voc": "Pascal VOC 2012",
    "coco": "Microsoft Coco",
    "grabcut": "Grabcut",
    "berkeley": "Berkeley",
}

THRESHOLDS: dict[SetKey, int] = {"voc": 85, "coco": 85, "grabcut": 90, "berkeley": 90}
"""The IoU, in percent, to which clicks are counted."""

COUNTS = (1, 3, 10)
"""The mean IoU is told after so many clicks."""

NOC: dict[str, tuple[float, float, float, float]] = {
    "ssfcn": (5.81, 11.42, 5.02, 8.48),
    "tslfn": (4.95, 9.97, 4.28, 7.89),
    "fctsfn": (4.58, 9.62, 3.76, 6.49),
    "tslfn-1": (5.63, 11.06, 4.60, 8.21),
    "tslfn-2": (5.43, 10.83, 4.66, 8.57),
    "tslfn-3": (4.95, 10.18, 4.44, 8.15),
    "tslfn-4": (4.95, 9.97, 4.28, 7.89),
    "tslfn-5": (5.73, 10.99, 5.14, 9.27),
    "gc": (14.81, 17.74, 9.70, 13.68),
    "gm": (10.59, 14.57, 9.26, 14.10),
    "rw": (7.98, 11.71, 10.28, 13.46),
    "esc": (8.22, 11.70, 5.84, 9.73),
    "gsc": (8.48, 12.11, 5.02, 9.38),
}
"""Mean number of clicks, by network or method, on the sets in their order (tables 2, 4 and 7)."""

_IOU: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "ssfcn": ((57.0, 38.6, 76.8, 68.8), (73.0, 55.1, 83.2, 81.0), (88.2, 72.8, 91.0, 89.4)),
    "tslfn": ((60.0, 42.3, 76.8, 70.3), (76.8, 60.7, 86.3, 82.2), (91.7, 80.0, 93.0, 90.0)),
    "fctsfn": ((62.3, 42.5, 77.7, 74.5), (78.0, 61.2, 87.9, 84.8), (92.6, 81.5, 94.7, 92.6)),
    "tslfn-1": ((59.3, 39.7, 76.1, 69.3), (74.7, 56.4, 83.4, 79.6), (89.0, 74.9, 90.7, 89.1)),
    "tslfn-2": ((58.9, 40.0, 77.6, 69.0), (75.1, 57.7, 86.4, 80.3), (89.8, 76.1, 91.2, 89.4)),
    "tslfn-3": ((60.1, 41.2, 76.3, 69.6), (76.7, 59.3, 85.4, 81.6), (91.5, 79.2, 93.2, 90.6)),
    "tslfn-4": ((60.0, 42.3, 76.8, 70.3), (76.8, 60.7, 86.3, 82.2), (91.7, 80.0, 93.0, 90.0)),
    "tslfn-5": ((57.9, 39.5, 75.9, 66.8), (72.8, 56.5, 83.6, 77.4), (89.4, 76.6, 89.4, 86.2)),
    "gc": ((25.2, 18.1, 49.6, 43.8), (33.9, 25.7, 66.2, 51.6), (53.8, 39.8, 84.3, 70.8)),
    "gm": ((25.7, 20.3, 38.6, 33.6), (41.4, 35.2, 58.4, 47.1), (73.3, 65.4, 82.5, 76.9)),
    "rw": ((34.9, 32.3, 39.8, 34.6), (56.1, 52.0, 56.1, 55.0), (84.2, 77.4, 86.8, 80.6)),
    "esc": ((31.4, 26.9, 48.2, 46.7), (44.6, 38.5, 74.4, 58.4), (77.5, 69.9, 91.8, 83.0)),
    "gsc": ((31.2, 26.6, 51.2, 46.7), (43.1, 36.7, 74.6, 60.1), (75.9, 66.6, 91.0, 83.8)),
}
"""Mean IoU in percent after 1, 3 and 10 clicks, on the sets in their order (tables 3, 5 and 6)."""

DECIDABILITY: dict[str, dict[int, tuple[tuple[float, float], ...]]] = {
    "free_choice": {
        1: ((12.97, 15.60), (16.79, 20.37), (19.38, 21.38), (71.42, 90.91)),
        5: ((2.57, 6.40), (2.72, 9.61), (3.84, 7.91), (2.85, 5.22)),
        10: ((1.24, 2.33), (1.20, 2.37), (1.53, 3.16), (1.33, 2.46)),
    },
    "all_positive": {
        1: ((12.97, 15.60), (16.79, 20.37), (19.38, 21.38), (71.42, 90.91)),
        5: ((2.79, 4.03), (2.40, 3.58), (3.14, 4.66), (3.05, 4.33)),
        10: ((2.33, 3.20), (2.06, 2.87), (2.15, 3.09), (2.03, 2.88)),
    },
    "single_positive": {
        5: ((2.16, 2.92), (1.29, 2.10), (1.89, 3.04), (1.33, 2.23)),
        10: ((2.34, 3.03), (1.30, 1.89), (1.94, 3.06), (1.50, 2.21)),
    },
}
"""Decidability index of the SSFCN and the TSLFN, by setting and clicks (table 1)."""

CITED: dict[str, dict[str, float]] = {
    "Pascal VOC 2012 (85% IoU)": {"RIS-Net": 5.12, "DEXTR": 4.00},
    "Microsoft Coco (85% IoU)": {"LDN": 7.89},
    "Microsoft Coco seen categories (85% IoU)": {"RIS-Net": 5.98},
    "Microsoft Coco unseen categories (85% IoU)": {"RIS-Net": 6.44},
    "Grabcut (90% IoU)": {"RIS-Net": 5.00, "DEXTR": 4.00, "LDN": 4.79},
    "Berkeley (90% IoU)": {"RIS-Net": 6.03},
}
"""What the paper cites of other papers, by row (table 8)."""


def published(measure: str, network: str, key: SetKey) -> float | None:
    """The paper's number, if it gives one.

    Parameters
    ----------
    measure : str
        ``noc`` (clicks), ``iou3`` (0..1, after 3 clicks), or ``free_choice_5`` and the like.
    network : str
    key : {"voc", "coco", "grabcut", "berkeley"}
    """
    place = SET_KEYS.index(key)
    if measure == "noc":
        return NOC[network][place] if network in NOC else None
    if measure.startswith("iou"):
        count = int(measure.removeprefix("iou"))
        if network not in _IOU or count not in COUNTS:
            return None
        return round(_IOU[network][COUNTS.index(count)][place] / 100, 4)
    setting, _, count_text = measure.rpartition("_")
    pair = DECIDABILITY[setting][int(count_text)][place]
    return dict(zip(("ssfcn", "tslfn"), pair, strict=True)).get(network)
