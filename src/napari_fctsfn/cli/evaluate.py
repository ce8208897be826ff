"""The verb ``evaluate``."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, get_args

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import Device, check_output_folder, model_name, one_of
from napari_fctsfn.errors import InputError

_MOST_CLICKS = 1000
_MOST_WORKERS = 256
_WIDEST_BAND = 100


def evaluate(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET_DIR",
            help="Folder with images/, labels/ and dataset.json, or Pascal VOC, COCO, GrabCut or "
            "Berkeley as they are published.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="DIR", help="Folder for objects.csv and summary.json; it is made."
        ),
    ],
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Objects: lines STEM or STEM ID. [default: all of a published set]",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="Of VOC and COCO. [default: val of VOC, val2017 of COCO]",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="paper|mval",
            help="Of COCO: 20 images of each category, or 10 objects of each. [default: all]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Name of a model, path of a model file, or a classical method: gc, gm, rw, esc, "
            "gsc, grabcut or growcut. [default: the model you have chosen]",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", metavar="ritm|fctsfn", help="Where the user clicks.")
    ] = "ritm",
    max_clicks: Annotated[
        int, typer.Option("--max-clicks", metavar="N", help="Clicks on every object.")
    ] = 20,
    post: Annotated[
        str | None,
        typer.Option(
            "--post",
            metavar="none|paper|default",
            help="Score the probability, the paper's graph cut of one look at the whole picture, "
            "or the mask as users get it. [default: none for ritm, paper for fctsfn]",
            show_default=False,
        ),
    ] = None,
    jitter: Annotated[
        float,
        typer.Option(
            "--jitter", metavar="J", help="How far off the deepest pixel clicks fall, 0 to 1."
        ),
    ] = 0.0,
    band: Annotated[
        int | None,
        typer.Option(
            "--band",
            metavar="PIXELS",
            help="Background so near an object does not count, for labels whose border band is "
            "drawn as background. [default: the data set's own, or 0]",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="Evaluate N objects, chosen by the seed."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="S", help="Seed of that choice, the sample and the jitter."),
    ] = 0,
    decidability: Annotated[
        bool,
        typer.Option(
            "--decidability",
            help="Measure also how far responses to the two kinds of clicks differ.",
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="DIR",
            help="Results on the same objects with another model or other settings: add the "
            "paired differences to them.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Processes, each with one thread.")
    ] = 1,
    device: Device = "auto",
    _debug: Debug = False,
) -> None:
    """Measure how many clicks a model needs on the objects of a data set.

    What was interrupted goes on where it was when the same command is given again.
    """
    from napari_fctsfn.clicks.simulate import PROTOCOLS
    from napari_fctsfn.evaluate import Job, load_segmenter, open_dataset, protocol_settings
    from napari_fctsfn.evaluate.coco import SAMPLES
    from napari_fctsfn.evaluate.compare import Comparison
    from napari_fctsfn.evaluate.runner import PostProcessing

    rules = one_of("--protocol", protocol, PROTOCOLS)
    override = None if post is None else one_of("--post", post, get_args(PostProcessing))
    drawn = None if sample is None else one_of("--sample", sample, SAMPLES)
    _check_numbers(max_clicks, limit, jitter, band, seed, workers)
    check_output_folder("--output", output)
    name = model_name(model)
    classical = _classical(name, override, decidability)
    data = open_dataset(dataset, split, drawn, band)
    objects = data.objects(listed, limit, seed)
    others = None if against is None else Comparison.read(against)
    if others is not None:
        others.check(
            objects,
            {"protocol": rules, "max_clicks": max_clicks, "jitter": jitter, "band": data.band},
        )
    data.check(objects)
    load = partial(load_segmenter, name, device)
    segmenter = load()
    settings = segmenter.settings
    if not classical:
        settings = protocol_settings(settings, rules, override)
    if settings.graph_cut and find_spec("maxflow") is None:
        raise InputError("masks after graph cut need PyMaxflow: install it, or give --post none")
    job = Job(data, objects, settings, rules, max_clicks, jitter, seed, decidability, device)
    told = {
        "dataset": data.name,
        "model": name,
        "model_sha256": segmenter.sha256,
        "protocol": rules,
        "post": "none" if classical else override or ("none" if rules == "ritm" else "paper"),
        "seed": seed,
        "jitter": jitter,
        "band": data.band,
    }
    summary = job.run(output, segmenter, load, workers=workers, told=told, others=others)
    assert summary is not None  # without a deadline it is complete
    alone = ", one picture (no intervals)" if summary["pictures"] == 1 else ""
    typer.echo(
        f"{summary['objects']} objects{alone}: NoC@85 {summary['noc85']:.2f}, NoC@90 "
        f"{summary['noc90']:.2f}, IoU after 1 click {summary['miou1']:.3f}; see {output}"
    )


def _check_numbers(
    max_clicks: int,
    limit: int | None,
    jitter: float,
    band: int | None,
    seed: int,
    workers: int,
) -> None:
    if not 1 <= max_clicks <= _MOST_CLICKS:
        raise InputError(f"--max-clicks {max_clicks}: give a number from 1 to {_MOST_CLICKS}")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give a number from 1 up")
    if not 0 <= jitter <= 1:
        raise InputError(f"--jitter {jitter}: give a number from 0 to 1")
    if band is not None and not 0 <= band <= _WIDEST_BAND:
        raise InputError(f"--band {band}: give a number from 0 to {_WIDEST_BAND}")
    if seed < 0:
        raise InputError(f"--seed {seed}: give a number from 0 up")
    if not 1 <= workers <= _MOST_WORKERS:
        raise InputError(f"--workers {workers}: give a number from 1 to {_MOST_WORKERS}")


def _classical(name: str, post: str | None, decidability: bool) -> bool:
    """Whether `name` is a classical method, which has a mask of its own and no probability."""
    from napari_fctsfn.evaluate.rivals import RIVALS

    if name not in RIVALS:
        return False
    if post is not None:
        raise InputError(f"--post {post} is for models: the mask of {name} is its own")
    if decidability:
        raise InputError(f"--decidability is for models: {name} gives no probability")
    return True
