"""Sound files of every kind that the package reads, and ways to damage them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

_NUMBERS = (
    *(0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, (1 << 64) - 1),
)
_TOKENS = (
    *(b'"', b"'", b",", b";", b":", b"\n", b"\r", b"\t", b"\\", b"\0", b"\xff", b"[", b"]"),
    *(b"{", b"}", b"-", b".", b"e", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"),
    *(b"nan", b"inf", b"null", b"true", b"false", b"0x10", b"1_000", b"\xef\xbb\xbf"),
    *(b"\xff\xfe", b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"9" * 400, b"9" * 5000),
    *(b"[" * 3000, b'{"a":' * 3000, b'"' * 3000, b"," * 3000, b"axis-2,", b'"row": 1, '),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 4096, 4097, 2**31, 2**53, 2**63, 2**64, 10**400, 0.5, -0.0),
    *(math.nan, math.inf, 1e308, "", "0", "lite", "vgg16", "\ud800", "\0", "x\ny", "x" * 3000),
    *([], [[]], [0], [1] * 3000, [2**31 - 1] * 3000, ["a"], {}, {"": 0}, {"a": {"b": []}}),
)


def make_corpus(folder: Path) -> None:
    """Sound files of every kind, each a small one."""
    _make_clicks(folder)
    _make_images(folder)
    _make_model(folder)


def _make_clicks(folder: Path) -> None:
    from napari_fctsfn.clicks import Click, ClickRecord, write_clicks

    plain = [ClickRecord(Click(row, 7.25 * row, row % 3 != 1)) for row in range(6)]
    placed = [ClickRecord(r.click, (n, 2), n + 1) for n, r in enumerate(plain)]
    for suffix in ("json", "csv"):
        write_clicks(folder / f"click-plain.{suffix}", plain)
        write_clicks(folder / f"click-placed.{suffix}", placed)
    write_clicks(folder / "click-mixed.json", plain + placed)


def _make_images(folder: Path) -> None:
    import imageio.v3 as iio
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (24, 31), dtype=np.uint8)
    colours = rng.integers(0, 255, (19, 22, 3), dtype=np.uint8)
    stack = rng.integers(0, 60_000, (3, 16, 20), dtype=np.uint16)
    tifffile.imwrite(folder / "image-grey.tif", grey)
    tifffile.imwrite(folder / "image-colours.tif", colours, photometric="rgb", compression="zlib")
    tifffile.imwrite(folder / "image-stack.tif", stack, imagej=True)
    tifffile.imwrite(folder / "image-tiles.tif", stack[0].astype(np.float32), tile=(16, 16))
    tifffile.imwrite(folder / "image-big.tif", stack, bigtiff=True, ome=True)
    Image.fromarray(grey).save(folder / "image-lzw.tif", compression="tiff_lzw")
    for name, picture in (("grey", grey), ("colours", colours), ("deep", stack[0])):
        iio.imwrite(folder / f"image-{name}.png", picture)
    Image.fromarray(grey).quantize(16).save(folder / "image-palette.png")
    Image.fromarray(colours).save(folder / "image-colours.jpg")
    Image.fromarray(grey).save(folder / "image-grey.jpg", progressive=True)


def _make_model(folder: Path) -> None:
    import torch

    from napari_fctsfn.models import ModelCard, save_model
    from napari_fctsfn.network import NetworkConfig, build_network

    torch.manual_seed(0)
    tiny = NetworkConfig(
        interaction_channels=(4, 4, 4, 4, 4),
        fusion_channels=8,
        fusion_blocks=0,
        bottleneck_channels=(4, 4, 4, 2),
    )
    card = ModelCard(
        name="tiny",
        version="0",
        architecture={},
        weights_licence="MIT",
        training_data=[{"name": "cells", "licence": "CC0", "images": 3, "share": 0.5}],
        training={"seed": 0, "rates": [0.1, 0.01]},
        metrics={"noc90": 5.0},
    )
    save_model(folder / "model-tiny.safetensors", build_network(tiny), card)


def damaged(content: bytes, others: Sequence[bytes], suffix: str, rng: random.Random) -> bytes:
    """`content` with up to four kinds of damage; `others` are sound files to take parts from."""
    is_model = suffix == ".safetensors"
    if is_model and rng.random() < 0.6:
        content = _with_other_header(content, rng)
    elif suffix == ".json" and rng.random() < 0.4:
        content = _with_other_values(content, rng)
    if (is_model or suffix == ".json") and rng.random() < 0.3:
        return content
    # Weights are most of a model file, but its header is where a reader can go wrong.
    damage = _Damage(others, rng, 40_000 if is_model and rng.random() < 0.9 else None)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        content = damage(content)
    return content


class _Damage:
    """Damage done to bytes, blindly; in the first `reach` bytes if that is given."""

    def __init__(self, others: Sequence[bytes], rng: random.Random, reach: int | None) -> None:
        self._others = others
        self._rng = rng
        self._reach = reach

    def __call__(self, content: bytes) -> bytes:
        ways = (self._flip, self._cut, self._remove, self._insert, self._repeat, self._splice)
        way = self._rng.choice((*ways, self._flip, self._overwrite, self._relength))
        return way(content)

    def _place(self, content: bytes) -> int:
        """Somewhere; every third time in the first bytes, where a format says what it is."""
        reach = min(len(content), 64 if self._rng.random() < 0.33 else self._reach or len(content))
        return self._rng.randint(0, reach)

    def _flip(self, content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(self._rng.choice((1, 1, 2, 8, 64))):
            place = self._place(content)
            if place < len(changed):
                changed[place] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _cut(self, content: bytes) -> bytes:
        return content[: self._rng.randint(0, len(content))]

    def _remove(self, content: bytes) -> bytes:
        place = self._place(content)
        return content[:place] + content[place + self._rng.choice((1, 2, 8, 100)) :]

    def _insert(self, content: bytes) -> bytes:
        place, rng = self._place(content), self._rng
        token = rng.choice(_TOKENS) if rng.random() < 0.7 else rng.randbytes(rng.randint(1, 40))
        return content[:place] + token + content[place + rng.choice((0, 0, len(token))) :]

    def _repeat(self, content: bytes) -> bytes:
        place, length = self._place(content), self._rng.choice((1, 10, 100, 1000))
        return content[: place + length] + content[place : place + length] * 3 + content[place:]

    def _splice(self, content: bytes) -> bytes:
        rng, other = self._rng, self._rng.choice(self._others)
        start, place = self._place(other), self._place(content)
        part = other[start:] if rng.random() < 0.5 else other[start : start + rng.randint(1, 200)]
        return content[:place] + part + content[place + rng.choice((0, len(part))) :]

    def _overwrite(self, content: bytes) -> bytes:
        place, width = self._place(content), self._rng.choice((1, 2, 4, 8))
        number = self._rng.choice(_NUMBERS) & ((1 << 8 * width) - 1)
        data = number.to_bytes(width, self._rng.choice(("little", "big")))
        return content[:place] + data + content[place + width :]

    def _relength(self, content: bytes) -> bytes:
        """Another length of the header, by little or by much: safetensors starts with it."""
        near = self._rng.choice((-100, -8, -1, 1, 8, 100, 4096))
        number = int.from_bytes(content[:8], "little") + near
        number = self._rng.choice((number, self._rng.choice(_NUMBERS), len(content) - 8))
        return (number & ((1 << 64) - 1)).to_bytes(8, "little") + content[8:]


def _with_other_values(content: bytes, rng: random.Random) -> bytes:
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        document = _with_other_value(document, rng)
    return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _with_other_value(document: Any, rng: random.Random) -> Any:
    """The document with one of its values replaced, removed, renamed or repeated."""
    places = list(_places(document))
    if not places:
        return deepcopy(rng.choice(_VALUES))
    container, key = rng.choice(places)
    # Copies, or later changes would run in circles and reach into other cases.
    value, act = deepcopy(container[key]), rng.randrange(6)
    if act == 0:
        del container[key]
    elif act == 1 and isinstance(container, list):
        times = rng.choice((1, 3) if isinstance(value, (dict, list)) else (1, 9, 300))
        container.extend(deepcopy(value) for _ in range(times))
    elif act == 1:
        container[rng.choice(("", "x", "object", "shape", "k" * 2000))] = value
    elif act == 2:
        container[key] = [value]
    elif act == 3 and type(value) is int:
        container[key] = value + rng.choice((-1, 1, 2, 8, 1 << 31))
    else:
        container[key] = deepcopy(rng.choice(_VALUES))
    return document


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _with_other_header(content: bytes, rng: random.Random) -> bytes:
    """A model file with another card or other tensors in a header of the right length."""
    stop = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:stop])
    if rng.random() < 0.7:
        metadata = header["__metadata__"]
        metadata["card"] = _with_other_values(metadata["card"].encode(), rng).decode(
            "utf-8", "replace"
        )
        if rng.random() < 0.2:
            header = _with_other_value(header, rng)
        text = json.dumps(header).encode()
    else:
        text = _with_other_values(content[8:stop], rng)
    return len(text).to_bytes(8, "little") + text + content[stop:]
