"""Twenty of the kills of benchmarks/kill.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

KILL = Path(__file__).parent.parent / "benchmarks" / "kill.py"


@pytest.mark.timeout(900)
def test_nothing_is_lost_when_the_process_is_killed():
    done = subprocess.run(
        [sys.executable, KILL, "--kills", "20"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.match(r"20 kills, (\d+) steps, .* lost: nothing", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 20
