"""What every test gets: its own user data folder, and no network."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


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
