"""Any history can be taken back bit for bit, and finished work stays."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from on_bench import (
    CLICKING,
    OPERATIONS,
    RANGE,
    SHAPE,
    Bench,
    DiskPredictor,
    perform,
    random_actions,
)

from napari_fctsfn.session import Session, rebuild

_clicks = st.tuples(
    st.integers(0, 2),
    st.integers(0, SHAPE[1] - 1),
    st.integers(0, SHAPE[2] - 1),
    st.booleans(),
)


def _lists(kinds: tuple[str, ...]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.tuples(st.sampled_from(kinds), _clicks), max_size=14)


_clicking = _lists(CLICKING)
_actions = _lists((*CLICKING, *OPERATIONS))


@settings(max_examples=60, deadline=None)
@given(_actions, st.data())
def test_any_history_is_taken_back_and_done_again_bit_for_bit(actions: Any, data: Any) -> None:
    bench = Bench()
    states = {0: bench.state()}
    for action, where in actions:
        perform(bench, action, where)
        states[len(list(bench.session.history))] = bench.state()
    end = len(list(bench.session.history))
    calls = len(bench.predictor.calls)
    target = data.draw(st.sampled_from(sorted(states)))
    for _ in range(end - target):
        assert bench.undo()
    assert bench.state() == states[target]
    while bench.redo():
        pass
    assert bench.state() == states[end]
    while bench.undo():
        pass
    assert bench.state() == states[0]
    assert len(bench.predictor.calls) == calls, "undo and redo must not predict"


@settings(max_examples=60, deadline=None)
@given(_clicking)
def test_pixels_of_other_objects_are_never_touched(actions: Any) -> None:
    bench = Bench()
    bench.labels[0, 2:9, 2:9] = 5
    bench.session = Session(SHAPE, RANGE, highest=5)
    for action, where in actions:
        before, label = bench.labels.copy(), bench.session.current
        if action != "brush":
            perform(bench, action, where)
            others = (before != 0) & (before != label)
            assert (bench.labels[others] == before[others]).all()
            assert set(np.unique(bench.labels[before == 0])) <= {0, label}


@settings(max_examples=40, deadline=None)
@given(_clicking)
def test_masks_are_the_replay_of_the_clicks(actions: Any) -> None:
    bench = Bench()
    for action, where in actions:
        if action != "brush" and where[0] != 2:
            perform(bench, action, where)
    again = np.zeros(SHAPE, np.uint16)
    rebuild(
        bench.session.objects, lambda plane: bench.image[plane.key], RANGE, DiskPredictor(), again
    )
    assert (again == bench.labels).all()


PROMPTING = ("add", "move", "unclick", "box", "scribble", "refine", "next", "select")


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_500_actions_never_touch_finished_objects_and_are_undone_bit_for_bit(seed: int) -> None:
    with TemporaryDirectory() as folder:
        bench = Bench(folder=Path(folder) / "session")
        # what the labels were after so many steps, told by nothing but the labels themselves
        seen = {0: bench.labels.tobytes()}
        for number, (action, where) in enumerate(random_actions(seed, 500)):
            before, label = bench.labels.copy(), bench.session.current
            steps = len(list(bench.session.history))
            perform(bench, action, where)
            now = len(list(bench.session.history))
            changed = before != bench.labels
            if action in PROMPTING:
                assert set(before[changed]) | set(bench.labels[changed]) <= {0, label}
            if action in ("undo", "redo"):
                assert bench.labels.tobytes() == seen[now]
            elif now != steps:
                seen = {step: data for step, data in seen.items() if step <= steps}
                seen[now] = bench.labels.tobytes()
            if number % 100 == 99:
                state = bench.state()
                bench.reopen()
                assert (bench.warning, bench.state()) == ("", state)
        while bench.undo():
            assert bench.labels.tobytes() == seen[len(list(bench.session.history))]
        assert not bench.labels.any()
        bench.journal.close()
