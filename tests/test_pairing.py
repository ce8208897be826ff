"""Pictures and label images find each other by their names, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_fctsfn.errors import InputError
from napari_fctsfn.train.finetune.pairing import paired

TEMPLATES = [
    ("cell{}.tif", "cell{}_mask.tif"),
    ("cell{}.tif", "cell{}.png"),
    ("cell{}_raw.tif", "cell{}.tif"),
    ("img_{:03}.tif", "mask_{}.png"),
    ("{}.tif", "{}_cp_masks_v2.tif"),
    ("2024-03-07 slide {}.tif", "2024-03-07 slide {} labels.tif"),
    ("Präparat{}.TIF", "präparat{}-Maske.tif"),
]


@given(
    st.sampled_from(TEMPLATES),
    st.sets(st.integers(0, 120), min_size=1, max_size=15),
    st.randoms(use_true_random=False),
)
def test_names_that_tell_what_belongs_together_are_believed(templates, numbers, chance):
    pairs = {Path(templates[0].format(n)): Path(templates[1].format(n)) for n in sorted(numbers)}
    images, masks = list(pairs), list(pairs.values())
    chance.shuffle(images)
    chance.shuffle(masks)
    assert paired(images, masks) == list(pairs.items())


@given(st.sets(st.text("aB_ z", min_size=1, max_size=5), min_size=1, max_size=8), st.data())
def test_equal_names_are_pairs_whatever_they_are(names, data):
    images = [Path("a") / f"{name}.png" for name in names]
    masks = data.draw(st.permutations([Path("b") / path.name for path in images]))
    try:
        found = paired(images, masks)
    except InputError as error:
        assert "cannot be told by its name" in str(error)  # noqa: PT017
    else:
        words = [
            [name.casefold().replace("_", " ").split() for name in (i.stem, m.stem)]
            for i, m in found
        ]
        assert all(one == other for one, other in words)


@pytest.mark.parametrize(
    ("images", "masks", "named"),
    [
        (["cell1", "cell2", "cell3"], ["cell1_mask", "cell2_mask", "cell4_mask"], "cell3.tif"),
        (["a", "b"], ["a_mask", "a_mask2"], "b.tif"),
        (["s1", "s2"], ["m1", "m3"], "s2.tif"),
    ],
)
def test_a_picture_whose_label_image_cannot_be_told_is_named(images, masks, named):
    with pytest.raises(InputError, match=f"belongs to {named} cannot be told"):
        paired(*([Path(f"{name}.tif") for name in names] for names in (images, masks)))


def test_names_that_tell_nothing_are_paired_in_their_order():
    found = paired([Path("raw b.tif"), Path("raw a.tif")], [Path("y.tif"), Path("x.tif")])
    assert found == [(Path("raw a.tif"), Path("x.tif")), (Path("raw b.tif"), Path("y.tif"))]
