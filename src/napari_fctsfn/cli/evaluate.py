"""The verb ``evaluate``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, get_args

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import (
    Device,
    Model,
    check_output_folder,
    load_predictor,
    model_name,
    one_of,
)
from napari_fctsfn.errors import InputError

_MOST_CLICKS = 1000


def evaluate(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET_DIR", help="Folder with images/, labels/ and dataset.json."
        ),
    ],
    listed: Annotated[
        Path,
        typer.Option("--list", metavar="FILE", help="Objects: lines STEM or STEM ID."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="DIR", help="Folder for objects.csv and summary.json; it is made."
        ),
    ],
    model: Model = None,
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
            metavar="none|default",
            help="Score the raw probability, or the mask after post-processing. "
            "[default: none for ritm, default for fctsfn]",
            show_default=False,
        ),
    ] = None,
    jitter: Annotated[
        float,
        typer.Option(
            "--jitter", metavar="J", help="How far off the deepest pixel clicks fall, 0 to 1."
        ),
    ] = 0.0,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="Evaluate N objects, chosen by the seed."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="Seed of that choice and of the jitter.")
    ] = 0,
    device: Device = "auto",
    _debug: Debug = False,
) -> None:
    """Measure how many clicks a model needs on the objects of a data set."""
    from tqdm import tqdm

    from napari_fctsfn.clicks.simulate import PROTOCOLS
    from napari_fctsfn.evaluate import (
        DataSet,
        evaluate_objects,
        protocol_settings,
        summarise,
        write_results,
    )
    from napari_fctsfn.evaluate.runner import PostProcessing

    rules = one_of("--protocol", protocol, PROTOCOLS)
    override = None if post is None else one_of("--post", post, get_args(PostProcessing))
    if not 1 <= max_clicks <= _MOST_CLICKS:
        raise InputError(f"--max-clicks {max_clicks}: give a number from 1 to {_MOST_CLICKS}")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give a number from 1 up")
    if not 0 <= jitter <= 1:
        raise InputError(f"--jitter {jitter}: give a number from 0 to 1")
    if seed < 0:
        raise InputError(f"--seed {seed}: give a number from 0 up")
    check_output_folder("--output", output)
    data = DataSet.open(dataset)
    objects = data.objects(listed, limit, seed)
    data.check(objects)
    predictor = load_predictor(model, device)
    settings = protocol_settings(predictor.settings, rules, override)
    if settings.graph_cut and find_spec("maxflow") is None:
        raise InputError("masks after graph cut need PyMaxflow: install it, or give --post none")
    runs = evaluate_objects(predictor, data, objects, rules, max_clicks, settings, jitter, seed)
    results = list(tqdm(runs, total=len(objects), unit="object"))
    summary = {
        **summarise(results, max_clicks),
        "model": model_name(model),
        "model_sha256": predictor.sha256,
        "protocol": rules,
        "post": override or ("none" if rules == "ritm" else "default"),
        "seed": seed,
        "jitter": jitter,
    }
    write_results(output, results, summary, max_clicks)
    typer.echo(
        f"{summary['objects']} objects: NoC@85 {summary['noc85']:.2f}, NoC@90 "
        f"{summary['noc90']:.2f}, IoU after 1 click {summary['miou1']:.3f}; see {output}"
    )
