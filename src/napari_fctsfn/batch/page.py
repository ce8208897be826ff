"""The page of a job: what came of each image, the worst first."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from napari_fctsfn.batch.job import Job
from napari_fctsfn.batch.task import Entry

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 1rem; }
li { width: 16rem; border: 1px solid #ccc; border-radius: 4px; padding: .5rem; }
li.failed { border-color: #d55e00; }
img { width: 100%; height: 14rem; object-fit: contain; background: #eee; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #222; } }
"""


def page(job: Job, entries: list[Entry]) -> str:
    """HTML with a thumbnail of every image, failed ones first, then the least certain."""
    ordered = sorted(entries, key=lambda e: (not e.error, _certainty(e), e.image))
    failed = sum(bool(entry.error) for entry in entries)
    model = f"{escape(Path(job.model.name).stem)} {(job.model.sha256 or '')[:12]}"
    return (
        f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>Batch</title>"
        f"<style>{_STYLE}</style></head><body>\n<h1>{len(entries)} images, {failed} failed</h1>\n"
        f"<p>Model {model}. Failed images first, then those of which the model is least sure: "
        f"<i>certainty</i>, 0 to 1, is that of its worst object: the overlap (IoU) with the true "
        f"mask that it expects, or how probable what it took for the object is to it.</p>\n"
        f"<ul>\n{''.join(_item(entry) for entry in ordered)}</ul>\n</body></html>\n"
    )


def _certainty(entry: Entry) -> float:
    return 1.0 if entry.certainty is None else entry.certainty


def _item(entry: Entry) -> str:
    name = escape(Path(entry.image).name)
    if entry.error:
        return f"<li class='failed'><b>{name}</b><br>failed: {escape(entry.error)}</li>\n"
    picture = next((file for file in entry.files if file.endswith("_overlay.png")), None)
    image = (
        f"<img src='{quote(os.fsencode(picture))}' alt='{name}' loading='lazy'>" if picture else ""
    )
    sure = "" if entry.certainty is None else f", certainty {entry.certainty:.2f}"
    objects = f"{entry.objects} object{'s' * (entry.objects != 1)}"
    return f"<li>{image}<b>{name}</b><br>{objects}{sure}</li>\n"
