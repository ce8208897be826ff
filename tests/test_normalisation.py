"""Intensities to 0..1: any real dtype, any size, lazily, and the same every time."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_fctsfn.errors import InputError
from napari_fctsfn.predict.normalisation import Normalisation, as_rgb

INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]
FLOATS = ["f2", "f4", "f8"]
REAL = ["bool", *INTEGERS, *FLOATS, ">u2", ">i4", ">f4"]


def by_hand(value, low, high):
    """One value mapped the plainest way."""
    value = float(value)
    if math.isnan(value) or value <= low:
        return 0.0
    if value >= high:
        return 1.0
    return (value / 2 - low / 2) / (high / 2 - low / 2)


@settings(max_examples=300, deadline=None)
@given(
    array=st.sampled_from(REAL).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, max_side=20))
    ),
    limits=st.tuples(
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(allow_nan=False, allow_infinity=False),
    ).map(sorted),
)
def test_every_value_of_every_type_is_mapped(array, limits):
    low, high = limits
    before = array.copy()
    mapped = Normalisation(low, high).apply(array)
    assert mapped.dtype == np.float32
    assert mapped.shape == array.shape
    assert mapped.flags.writeable
    expected = [by_hand(value, low, high) for value in array.ravel()]
    np.testing.assert_allclose(mapped.ravel(), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i2", "f2", ">u2", ">f2"])
def test_the_table_for_small_types_is_exact(dtype):
    codes = np.arange(1 << 16).astype(np.uint16)
    native = np.dtype(dtype).newbyteorder("=")
    every = codes.astype(native) if native.itemsize == 1 else codes.view(native)
    many = np.tile(every, 2).reshape(2, 256, 256).astype(dtype)[:, ::-1]
    normalisation = Normalisation(-3.3, 177.7)
    one_by_one = [normalisation.apply(row) for row in many.reshape(-1, 64)]
    np.testing.assert_array_equal(
        normalisation.apply(many).ravel(), np.concatenate(one_by_one).ravel()
    )


def test_blocks_of_a_large_array_join():
    large = np.arange(3_000_000, dtype=np.float32).reshape(3, 1000, 1000)
    mapped = Normalisation(0, 2_999_999).apply(large)
    np.testing.assert_allclose(mapped, large / np.float32(2_999_999), rtol=1e-6)
    np.testing.assert_array_equal(
        Normalisation(0, 2_999_999).apply(large[:, ::2].T)[5, 3], mapped[:, 6, 5]
    )


def test_what_is_no_number_is_dark_and_infinity_bright():
    values = np.array([np.nan, np.inf, -np.inf, 2.0], dtype=np.float32)
    np.testing.assert_array_equal(Normalisation(1, 3).apply(values), [0, 1, 0, 0.5])


def test_a_range_too_wide_for_its_span_is_still_even():
    widest = np.finfo(np.float64).max
    mapped = Normalisation(-widest, widest).apply([-widest, -widest / 2, 0, widest])
    np.testing.assert_allclose(mapped, [0, 0.25, 0.5, 1])


def test_a_range_of_no_width_is_a_step():
    np.testing.assert_array_equal(Normalisation(5, 5).apply([4, 5, 6, np.nan]), [0, 0, 1, 0])


def test_large_integers_keep_their_contrast():
    base = 2**63
    image = np.array([[base, base + 2**20, base + 2**21]], dtype=np.uint64)
    np.testing.assert_array_equal(Normalisation.from_array(image).apply(image), [[0, 0.5, 1]])


@settings(max_examples=150, deadline=None)
@given(
    array=st.sampled_from(REAL).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=8))
    )
)
def test_any_real_array_has_a_range(array):
    normalisation = Normalisation.from_array(array)
    assert normalisation == Normalisation.from_array(array)
    finite = array[np.isfinite(array)].astype(float)
    if array.dtype.kind == "b" or not finite.size:
        assert normalisation == Normalisation(0, 1)
    else:
        assert finite.min() <= normalisation.low <= normalisation.high <= finite.max()
    mapped = normalisation.apply(array)
    assert np.isfinite(mapped).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()


def test_hot_and_dead_pixels_do_not_set_the_range():
    rng = np.random.default_rng(0)
    image = rng.normal(1000, 50, (512, 512))
    image[rng.random(image.shape) < 0.001] = 65535
    image[rng.random(image.shape) < 0.001] = 0
    image[3, 4], image[5, 6] = np.nan, np.inf
    normalisation = Normalisation.from_array(image)
    assert 800 < normalisation.low < 950
    assert 1050 < normalisation.high < 1300


def test_sparse_objects_are_not_clipped_away():
    image = np.zeros((256, 256), dtype=np.uint16)
    image[:4, :4] = 500
    normalisation = Normalisation.from_array(image)
    assert normalisation == Normalisation(0, 500)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((9, 9), 7, dtype=np.uint8), Normalisation(7, 7)),
        (np.full((9, 9), np.nan), Normalisation(0, 1)),
        (np.full((9, 9), np.inf), Normalisation(0, 1)),
        (np.zeros((0, 9), dtype=np.int32), Normalisation(0, 1)),
        (np.zeros((4, 4), dtype=bool), Normalisation(0, 1)),
    ],
)
def test_images_without_contrast(image, expected):
    assert Normalisation.from_array(image) == expected
    np.testing.assert_array_equal(expected.apply(image), image == np.inf)


class Huge:
    """A stack of any size that is made where it is read: its value is the number of the slice."""

    dtype = np.dtype(np.float32)

    def __init__(self, *shape):
        self.shape, self.pixels, self.slices = shape, 0, set()

    def __getitem__(self, index):
        *leading, rows, columns = index
        for part, extent in ((rows, self.shape[-2]), (columns, self.shape[-1])):
            assert 0 <= part.start < part.stop <= extent
        number = np.ravel_multi_index(leading, self.shape[:-2]) if leading else 0
        size = rows.stop - rows.start, columns.stop - columns.start
        self.pixels += size[0] * size[1]
        self.slices.add(int(number))
        return np.full(size, number, dtype=self.dtype)


@pytest.mark.parametrize(
    "shape",
    [
        (10**6, 10**6),
        (3, 10**9),
        (10**9, 3),
        (100, 2**10, 2**10),
        (10**6, 2, 30, 40),
        (5, 7, 300, 2**20),
        (10**12, 64, 64),
    ],
)
def test_little_of_a_huge_array_is_read(shape):
    huge = Huge(*shape)
    normalisation = Normalisation.from_array(huge)
    assert 2**18 <= huge.pixels <= 2**22
    slices = math.prod(shape[:-2])
    assert len(huge.slices) >= min(slices, 16)
    assert normalisation.high - normalisation.low >= 0.7 * (slices - 1)


def test_no_channel_of_an_interleaved_stack_is_missed():
    for channels in (2, 3, 4, 5, 8):
        huge = Huge(200, channels, 1024, 1024)
        Normalisation.from_array(huge)
        assert len({number % channels for number in huge.slices}) > 1


def test_lazy_arrays_give_the_same_as_arrays_in_memory():
    dask = pytest.importorskip("dask.array")
    stack = np.random.default_rng(0).integers(0, 4000, (20, 600, 700)).astype(np.uint16)
    lazy = dask.from_array(stack, chunks=(1, 300, 300))
    assert Normalisation.from_array(lazy) == Normalisation.from_array(stack)
    assert Normalisation.from_array(lazy[0]) == Normalisation.from_array(stack[0])
    normalisation = Normalisation.from_array(stack)
    assert normalisation.low == pytest.approx(20, abs=5)
    assert normalisation.high == pytest.approx(3992, abs=5)


@pytest.mark.parametrize(
    ("dtype", "high"),
    [("bool", 1), ("u1", 255), ("u2", 65535), ("i2", 32767), ("f2", 1), ("f4", 1), ("f8", 1)],
)
def test_rgb_has_the_range_it_is_displayed_in(dtype, high):
    assert Normalisation.for_rgb(dtype) == Normalisation(0, high)


@pytest.mark.parametrize("dtype", ["c8", "c16", "O", "U3", "S3", "M8[s]", "m8[s]"])
def test_what_is_not_real_is_refused(dtype):
    image = np.zeros((4, 4), dtype=dtype)
    for refused in (
        lambda: Normalisation.from_array(image),
        lambda: Normalisation.for_rgb(image.dtype),
        lambda: Normalisation(0, 1).apply(image),
    ):
        with pytest.raises(InputError, match=rf"{re.escape(str(image.dtype))} .*real numbers"):
            refused()


def test_a_type_numpy_does_not_know_is_refused():
    with pytest.raises(InputError, match="an image of bfloat cannot be segmented"):
        Normalisation.for_rgb("bfloat")


@pytest.mark.parametrize("shape", [(), (7,)])
def test_an_array_without_rows_and_columns_is_refused(shape):
    with pytest.raises(InputError, match=r"has no rows and columns"):
        Normalisation.from_array(np.zeros(shape))


@given(
    low=st.floats(allow_nan=False, allow_infinity=False),
    high=st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_range_survives_its_text(low, high):
    normalisation = Normalisation.from_limits(sorted((low, high)))
    text = json.dumps(normalisation.to_dict())
    assert Normalisation.from_dict(json.loads(text)) == normalisation


def test_numpy_numbers_become_plain_ones():
    data = Normalisation.from_limits((np.float32(0.5), np.uint16(9))).to_dict()
    assert data == {"low": 0.5, "high": 9.0}
    assert json.loads(json.dumps(data)) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"low": 0}, "is not of the form"),
        ({"low": 0, "high": 1, "gamma": 2}, "gamma"),
        ([0, 1], "is not of the form"),
        (None, "is not of the form"),
        ({"low": "0", "high": 1}, "low must be a finite number, not '0'"),
        ({"low": 0, "high": None}, "high must be a finite number, not None"),
        ({"low": 0, "high": True}, "high must be a finite number, not True"),
        ({"low": 0, "high": math.nan}, "high must be a finite number, not nan"),
        ({"low": 0, "high": 10**400}, "high must be a finite number"),
        ({"low": 2, "high": 1}, "2.0 to 1.0: low must not be above high"),
    ],
)
def test_a_damaged_range_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        Normalisation.from_dict(data)


@pytest.mark.parametrize("limits", [(1,), (1, 2, 3), (2, 1), (0, math.inf)])
def test_contrast_limits_are_two_numbers_in_order(limits):
    with pytest.raises(InputError, match=r"contrast limits|intensity range"):
        Normalisation.from_limits(limits)


def test_every_slice_becomes_rgb():
    rgba = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(as_rgb(rgba), rgba[..., :3])
    np.testing.assert_array_equal(as_rgb(rgba[..., :3]), rgba[..., :3])
    grey = as_rgb(rgba[..., 0])
    assert grey.shape == (2, 3, 3)
    assert (grey == rgba[..., :1]).all()


@pytest.mark.parametrize("shape", [(5,), (5, 5, 2), (5, 5, 5), (2, 5, 5, 3)])
def test_what_is_not_one_slice_is_refused(shape):
    with pytest.raises(InputError, match="is not one slice"):
        as_rgb(np.zeros(shape))
