"""Click files: round trips, napari's own layout, and one clear sentence for everything else."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, ClickFileError, ClickRecord, read_clicks, write_clicks
from napari_fctsfn.errors import InputError

HEAD = {"format": "napari-fctsfn-clicks", "version": 1}
CLICK = {"row": 1, "column": 2.5, "positive": True}
HEADER = "index,axis-0,axis-1,positive\n"

number = st.floats(-(2**31), 2**31, exclude_min=True, exclude_max=True)
label = st.integers(1, 2**31 - 1)


@st.composite
def tables(draw):
    """Records whose slices all have the same number of axes."""
    axes = draw(st.integers(0, 8))
    record = st.builds(
        ClickRecord,
        st.builds(Click, number, number, st.booleans()),
        st.tuples(*[st.integers(0, 2**31 - 1)] * axes),
        st.none() | label,
    )
    return draw(st.lists(record, max_size=6))


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def json_file(folder, *clicks, **other):
    return write(folder / "c.json", json.dumps({**HEAD, "clicks": list(clicks), **other}))


def refused(path):
    """The one sentence with which `path` is refused."""
    with pytest.raises(ClickFileError) as caught:
        read_clicks(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))
    return message


@pytest.mark.parametrize("suffix", [".json", ".csv", ".CSV"])
@given(records=tables())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_what_is_written_is_read(tmp_path, suffix, records):
    path = tmp_path / f"clicks{suffix}"
    write_clicks(path, records)
    assert read_clicks(path) == records
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208  no other file is left


@given(first=tables(), second=tables())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_json_holds_slices_of_different_axes(tmp_path, first, second):
    write_clicks(tmp_path / "c.json", first + second)
    assert read_clicks(tmp_path / "c.json") == first + second


def test_the_largest_records_there_can_be_fit_into_the_largest_file(tmp_path):
    farthest = float(np.nextafter(2.0**31, 0))
    click = Click(-farthest, -1.2345678901234567e-300, positive=False)
    records = [ClickRecord(click, (2**31 - 1,) * 8, 2**31 - 1)] * 50_000
    for name in ("c.json", "c.csv"):
        write_clicks(tmp_path / name, records)
        assert len(read_clicks(tmp_path / name)) == 50_000
        with pytest.raises(ClickFileError, match="at most 50000 clicks, not 50001"):
            write_clicks(tmp_path / name, [*records, records[0]])


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    click = Click(np.float32(1.5), np.int64(2), np.bool_(True))
    for name in ("c.json", "c.csv"):
        write_clicks(tmp_path / name, [ClickRecord(click, (np.uint8(3),), np.int16(4))])
        assert read_clicks(tmp_path / name) == [ClickRecord(Click(1.5, 2, True), (3,), 4)]


def test_json_as_documented(tmp_path):
    path = json_file(tmp_path, CLICK, {**CLICK, "positive": False, "slice": [7], "object": 2})
    assert read_clicks(path) == [
        ClickRecord(Click(1, 2.5)),
        ClickRecord(Click(1, 2.5, positive=False), (7,), 2),
    ]


def test_csv_as_napari_saves_points_with_a_column_more(tmp_path):
    text = "index,axis-0,axis-1,axis-2,positive\n0.0,3.0,10.5,20.0,True\n1.0,2.6,1e1,-0.25,False\n"
    assert read_clicks(write(tmp_path / "c.csv", text)) == [
        ClickRecord(Click(10.5, 20), (3,)),
        ClickRecord(Click(10, -0.25, positive=False), (3,)),
    ]


@pytest.mark.parametrize("positive", ["1", "1.0", "TRUE", " true "])
def test_csv_columns_may_come_in_any_order_and_form(tmp_path, positive):
    text = f'\ufeff"positive",size,axis-1 ,axis-0,object\r\n{positive},10, 2 ,"1",\r\n\r\n'
    assert read_clicks(write(tmp_path / "c.csv", text)) == [ClickRecord(Click(1, 2))]


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = json_file(tmp_path, CLICK)
    write(path, b"\xef\xbb\xbf" + path.read_bytes())
    assert read_clicks(path) == [ClickRecord(Click(1, 2.5))]


def test_no_clicks_are_clicks_too(tmp_path):
    assert read_clicks(json_file(tmp_path)) == []
    assert read_clicks(write(tmp_path / "c.csv", HEADER)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": None}, "row must be a number, not None"),
        ({"row": True}, "row must be a number, not True"),
        ({"column": "7"}, "column must be a number, not '7'"),
        ({"row": 2**31}, "2147483648 is out of range"),
        ({"row": -(10**4000)}, "is out of range"),
        ({"column": 1e300}, r"1e\+300 is out of range"),
        ({"positive": 1}, "positive must be true or false, not 1"),
        ({"positive": None}, "positive must be true or false, not None"),
        ({"slice": 3}, r"such as \[7\], not 3"),
        ({"slice": [1.0]}, r"such as \[7\], not \[1.0\]"),
        ({"slice": [-1]}, r"slice \[-1\] is out of range"),
        ({"slice": [0] * 9}, "at most 8 numbers"),
        ({"slice": [10**4000]}, "is out of range"),
        ({"object": 0}, "object must be from 1"),
        ({"object": 2.0}, r"object must be a whole number, not 2\.0"),
        ({"object": True}, "object must be a whole number, not True"),
        ({"polarity": "x" * 1000}, "unknown key 'polarity'; known are row, column"),
    ],
)
def test_a_bad_value_in_json_is_named_with_its_click(tmp_path, change, message):
    path = json_file(tmp_path, CLICK, {**CLICK, **change})
    assert "click 2" in refused(path)
    with pytest.raises(ClickFileError, match=message):
        read_clicks(path)


@pytest.mark.parametrize("key", ["row", "column", "positive"])
def test_a_missing_value_in_json_is_named(tmp_path, key):
    path = json_file(tmp_path, {k: v for k, v in CLICK.items() if k != key})
    assert f"click 1 has no '{key}'; add it" in refused(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1, column 1: not valid JSON"),
        ("\n{", "line 2, column 2: not valid JSON"),
        ("[]", 'must say "format": "napari-fctsfn-clicks"'),
        ('{"format": ["napari-fctsfn-clicks"]}', 'must say "format"'),
        (json.dumps({**HEAD, "version": 2}), "has version 2; this program reads version 1"),
        (json.dumps({**HEAD, "version": True}), "has version True"),
        (json.dumps({**HEAD, "version": "1" * 9999}), r"has version '1111.*\.\.\."),
        (json.dumps(HEAD), "clicks must be a list, not None"),
        (json.dumps({**HEAD, "clicks": {}}), "clicks must be a list, not {}"),
        (json.dumps({**HEAD, "clicks": [], "\ud800": 1}), "unknown key"),
        (json.dumps({**HEAD, "clicks": [[1, 2]]}), r"click 1: \[1, 2\] must be an object"),
        (json.dumps({**HEAD, "clicks": [{}] * 50_001}), "at most 50000 clicks, not 50001"),
        ('{"format": 1, "format": 2}', "the key 'format' appears twice"),
        ('{"a": {"": 1, "": 2}}', "the key '' appears twice"),
        ('{"clicks": [NaN]}', "NaN is no number"),
        ('{"clicks": [-Infinity]}', "-Infinity is no number"),
        (f"[{'9' * 5000}]", "a number with too many digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("\xe9".encode("latin-1"), "not text in UTF-8"),
        (json.dumps(HEAD).encode("utf-16"), "not text in UTF-8"),
        (b"\0" * 100, "not valid JSON"),
        (b" " * ((16 << 20) + 1), "more than 16777216 bytes"),
    ],
)
def test_other_files_are_no_json_click_files(tmp_path, content, message):
    path = write(tmp_path / "c.json", content)
    refused(path)
    with pytest.raises(ClickFileError, match=message):
        read_clicks(path)


def test_a_list_nested_as_deeply_as_can_be_read_is_shown_shortly(tmp_path):
    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit(), 7):
        text = json.dumps({**HEAD, "clicks": "?"}).replace('"?"', "[" * depth + "]" * depth)
        refused(write(tmp_path / "c.json", text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: it needs a header"),
        ("\n \n", "is empty: it needs a header"),
        ("index,axis-0,positive\n", "needs the columns axis-0 and axis-1"),
        ("index;axis-0;axis-1;positive\n", "parted by commas"),
        ("axis-1,axis-2,positive\n", "needs the columns axis-0 and axis-1"),
        (",".join(f"axis-{n}" for n in range(20)) + ",positive\n", "needs the columns"),
        ("axis-0,axis-1,axis-1,positive\n", "the column 'axis-1' appears twice"),
        ("index,axis-0,axis-1\n0,1,2\n", "the column 'positive' is missing"),
        (HEADER + "0,1,2\n", "line 2 has 3 fields, the header has 4"),
        (HEADER + "0,1,2,True\n1,nan,2,True\n", "line 3: 'nan' is no coordinate"),
        (HEADER + "0,inf,2,True\n", "'inf' is no coordinate"),
        (HEADER + "0,1_0,2,True\n", "'1_0' is no coordinate"),
        (HEADER + "0,\u0661,2,True\n", "is no coordinate"),
        (HEADER + "0,,2,True\n", "'' is no coordinate"),
        (HEADER + "0,1e999,2,True\n", "'1e999' is no coordinate"),
        (HEADER + f"0,{'9' * 100_000},2,True\n", r"'9+\.\.\.9+' is no coordinate"),
        (HEADER + "0,1,2,yes\n", "positive must be True or False, not 'yes'"),
        (HEADER + "0,1,2,\n", "positive must be True or False, not ''"),
        (HEADER + '0,"1,2,True\n', "not valid CSV"),
        (HEADER + f"0,1,2,{'x' * 200_000}\n", "not valid CSV"),
        (HEADER.encode() + b"0,1,\0,True\n", "line 2"),
        (HEADER.encode("utf-16"), "not text in UTF-8"),
        (HEADER + "0,1,2,1\n" * 50_001, "at most 50000 clicks"),
        ("axis-0,axis-1,axis-2,positive\n-1,0,0,1\n", r"slice \[-1\] is out of range"),
        ("axis-0,axis-1,positive,object\n0,0,1,1.5\n", "object must be a whole number, not '1.5'"),
        ("axis-0,axis-1,positive,object\n0,0,1,0\n", "object must be from 1"),
        ("axis-0,axis-1,positive,object\n0,0,1,x\n", "'x' is no object"),
    ],
)
def test_other_files_are_no_csv_click_files(tmp_path, content, message):
    path = write(tmp_path / "c.csv", content)
    refused(path)
    with pytest.raises(ClickFileError, match=message):
        read_clicks(path)


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 0, ' + ", ".join(f'"{n}": 0' for n in range(400_000)) + "}",
        ",".join(f"axis-{n}" for n in range(400_000)),
    ],
    ids=["keys", "columns"],
)
def test_very_many_names_take_no_very_long_time(tmp_path, content):
    # Comparing each with each would take an hour.
    for name in ("c.json", "c.csv"):
        refused(write(tmp_path / name, content))


def test_what_is_no_file_is_refused_at_once(tmp_path):
    (tmp_path / "folder.json").mkdir()
    assert "is not a file" in refused(tmp_path / "folder.json")
    assert "No such file" in refused(tmp_path / "missing.csv")
    assert "must end in .json or .csv, not '.txt'" in refused(write(tmp_path / "c.txt", "{}"))
    with pytest.raises(ClickFileError, match="cannot be the name of a file"):
        read_clicks("a\0.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are for POSIX")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    assert "is not a file" in refused(tmp_path / "pipe.json")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (ClickRecord(Click(2**31, 0)), "coordinate 2.14748e.09 is out of range"),
        (ClickRecord(Click(0, 0), (-1,)), r"slice \[-1\]"),
        (ClickRecord(Click(0, 0), (), 10**5000), "object must be from 1"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, record, message):
    path = json_file(tmp_path, CLICK)
    before = path.read_bytes()
    with pytest.raises(ClickFileError, match=message):
        write_clicks(path, [record])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_csv_does_not_mix_clicks_with_and_without_slices(tmp_path):
    records = [ClickRecord(Click(0, 0)), ClickRecord(Click(0, 0), (1,))]
    with pytest.raises(ClickFileError, match="write JSON"):
        write_clicks(tmp_path / "c.csv", records)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_not_made(tmp_path):
    with pytest.raises(ClickFileError, match=r"cannot be written: No such file .*; choose another"):
        write_clicks(tmp_path / "no" / "c.json", [])
    assert not list(tmp_path.iterdir())


def test_errors_are_errors_of_input():
    assert issubclass(ClickFileError, InputError)
