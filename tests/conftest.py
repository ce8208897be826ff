"""What every test gets: its own user data folder, and no network; for some, the dock in napari."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


@pytest.fixture(autouse=True)
def long_lived() -> None:
    """Leave modules and caches out of the collections that napari makes with every layer removed.

    They are by far the most objects: a third of the time of tests with windows went there.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let the interpreter clean up as usual; a worker that outlives Qt would abort it."""
    gc.unfreeze()
    if "qtpy.QtCore" in sys.modules:
        from qtpy.QtCore import QThreadPool

        QThreadPool.globalInstance().waitForDone(60_000)


@pytest.fixture(autouse=True)
def isolated_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty folder in place of the user's registry, models and settings."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NAPARI_FCTSFN_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a connection to any other machine an error; Qt and workers may talk to this one."""

    def guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
        def check(self: socket.socket, address: Any) -> Any:
            internet = self.family in {socket.AF_INET, socket.AF_INET6}
            if internet and address[0] not in LOCAL_HOSTS:
                pytest.fail(f"a test tried to reach {address!r}")
            return connect(self, address)

        return check

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))


class SquarePredictor:
    """A stand-in with the predictor's contract: squares of five pixels around positive clicks."""

    sha256 = "square"
    device = "cpu"

    def __init__(self) -> None:
        from napari_fctsfn.models import ModelCard
        from napari_fctsfn.predict import Settings

        self.settings = Settings()
        self.card = ModelCard(name="square", version="0", architecture={}, weights_licence="MIT")
        self.slices: list[np.ndarray] = []
        self.predicted = 0
        self.warmed = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def set_image(self, image: Any, normalisation: Any = None, key: Any = None) -> None:
        self.image, self.normalisation = np.asarray(image), normalisation

    def warm_up(self) -> None:
        self.warmed += 1

    def predict(
        self,
        clicks: Any,
        previous: Any = None,
        settings: Any = None,
        keep: bool = False,
        adjustment: Any = None,
    ) -> Any:
        from napari_fctsfn.predict import Prediction

        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.predicted += 1
        self.slices.append(self.image)
        shape = self.image.shape[:2]
        clicks.check_inside(shape)
        mask = np.zeros(shape, dtype=bool)
        if isinstance(previous, np.ndarray):
            mask |= previous
        for click in clicks:
            row, column = click.pixel
            mask[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = click.positive
        return Prediction(mask, mask.astype(np.float32), (0, 0, *shape), shape, 0.875)

    input_size = 320

    def describe(self, box: Any) -> np.ndarray:
        """Brightness and its square, pixel by pixel."""
        part = self.image[box[0] : box[2], box[1] : box[3]].astype(np.float32)
        return np.stack([part, part**2 / 100], axis=2)

    def adapt(self, examples: Any, truth: Any, settings: Any = None) -> None:
        """A square has nothing to learn."""

    def finish(self, prediction: Any, clicks: Any, settings: Any, kept: Any = None) -> Any:
        """A high threshold leaves nothing but rows with a click."""
        rows = [click.pixel[0] for click in clicks]
        mask = prediction.mask.copy()
        if settings.threshold > 0.5:
            mask[[row not in rows for row in range(len(mask))]] = False
        return replace(prediction, mask=mask)


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> SquarePredictor:
    """The stand-in, which the dock loads in place of any model."""
    from napari_fctsfn.plugin import tasks
    from napari_fctsfn.session import Replayer

    stand_in = SquarePredictor()
    choices = tasks.Choices(
        (tasks.ModelChoice("default", "research use only"), tasks.ModelChoice("broken", "none")),
        "default",
        ("auto", "cpu"),
    )

    def load(name: str, device: str) -> Any:
        if name == "broken":
            raise ValueError("the file is damaged")
        return Replayer(stand_in)

    monkeypatch.setattr(tasks, "list_choices", lambda: choices)
    monkeypatch.setattr(tasks, "load_replayer", load)
    return stand_in


@pytest.fixture
def open_dock(
    make_napari_viewer_proxy: Callable[..., Any], predictor: SquarePredictor
) -> Iterator[Callable[..., Any]]:
    """Makes a viewer with images and the dock in it; ready, and started if wanted."""
    docks = []

    def make(*images: np.ndarray, start: bool = True, **kwargs: Any) -> tuple[Any, Any]:
        viewer = make_napari_viewer_proxy()
        for image in images:
            viewer.add_image(image, **kwargs)
        _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
        docks.append(dock)
        assert dock.wait_idle(20_000)
        if start:
            assert dock.start()
            assert dock.wait_idle()
        return viewer, dock

    yield make
    for dock in docks:
        dock.release()
