import jax
import numpy as np
import pytest
import vectors

from jaxad.losses import relations

# Rows (image, strong, view) 000, 001, 010, ... 111 are 0 to 7.
IMAGE, STRONG, VIEW = (np.arange(8) >> 2) & 1, (np.arange(8) >> 1) & 1, np.arange(8) & 1
BUILDERS = {
    "symmetric": relations.all_other_rows,
    "printed_4_2": relations.same_strong_other_view,
    "same_strong_both_views": relations.same_strong_both_views,
    "other_instances_any_strong": relations.other_images,
    "released": lambda image, strong, view: relations.first_view_anchors(
        relations.all_other_rows(image, strong, view), view
    ),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_golden_masks(name):
    golden = vectors.load("ccd", "contrastive_forms")
    relation = BUILDERS[name](golden["image_id"], golden["strong_id"], golden["view_id"])
    for field in relation._fields:
        np.testing.assert_array_equal(getattr(relation, field), golden[f"{name}/{field}"], field)


@pytest.mark.parametrize(
    "name, negatives",
    [
        ("symmetric", [2, 3, 4, 5, 6, 7]),
        ("printed_4_2", [5]),
        ("same_strong_both_views", [4, 5]),
        ("other_instances_any_strong", [4, 5, 6, 7]),
    ],
)
def test_negatives_of_the_first_row_by_hand(name, negatives):
    positive, denominator, _ = BUILDERS[name](IMAGE, STRONG, VIEW)
    assert np.flatnonzero(positive[0]).tolist() == [1]
    assert np.flatnonzero(denominator[0] & ~positive[0]).tolist() == negatives


def test_only_first_views_are_anchors_in_the_released_relation():
    relation = BUILDERS["released"](IMAGE, STRONG, VIEW)
    np.testing.assert_array_equal(relation.anchor, VIEW == 0)
    np.testing.assert_array_equal(
        relation.denominator, relations.all_other_rows(IMAGE, STRONG, VIEW).denominator
    )


@pytest.mark.parametrize("name", list(BUILDERS)[:4])
def test_padded_rows_are_in_no_relation(name):
    valid = np.arange(8) < 5  # Row 4 loses its positive, row 5.
    relation = BUILDERS[name](IMAGE, STRONG, VIEW, valid)
    inner = BUILDERS[name](IMAGE[:5], STRONG[:5], VIEW[:5])
    expected = np.zeros((8, 8), bool)
    expected[:5, :5] = inner.denominator
    np.testing.assert_array_equal(relation.denominator, expected)
    np.testing.assert_array_equal(relation.anchor, [1, 1, 1, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("name", list(BUILDERS)[:4])
def test_relations_follow_the_rows_when_these_are_reordered(name):
    order = np.random.default_rng(0).permutation(8)
    expected = BUILDERS[name](IMAGE, STRONG, VIEW)
    actual = BUILDERS[name](IMAGE[order], STRONG[order], VIEW[order])
    np.testing.assert_array_equal(actual.positive, expected.positive[order][:, order])
    np.testing.assert_array_equal(actual.denominator, expected.denominator[order][:, order])


@pytest.mark.parametrize("name", list(BUILDERS)[:4])
def test_negatives_are_mutual_and_a_row_is_never_its_own(name):
    _, denominator, _ = BUILDERS[name](IMAGE, STRONG, VIEW)
    np.testing.assert_array_equal(denominator, np.transpose(denominator))
    assert not np.any(np.diagonal(denominator))


def test_strong_ids_beyond_the_pair_matter_to_the_letter_of_the_text_alone():
    image, view = np.repeat([0, 1, 2], 2), np.tile([0, 1], 3)
    apart, merged = np.repeat([0, 1, 0], 2), np.zeros(6, int)
    for name, changes in (("symmetric", False), ("printed_4_2", True)):
        a = BUILDERS[name](image, apart, view).denominator
        b = BUILDERS[name](image, merged, view).denominator
        assert np.any(a != b) == changes, name


def test_second_copy_of_an_image_attracts_unless_it_has_an_id_of_its_own():
    view, strong = np.tile([0, 1], 2), np.zeros(4, int)
    by_image = relations.all_other_rows(np.zeros(4, int), strong, view)
    by_item = relations.all_other_rows(np.repeat([0, 1], 2), strong, view)
    np.testing.assert_array_equal(by_image.positive[0], [0, 1, 0, 1])
    np.testing.assert_array_equal(by_item.positive[0], [0, 1, 0, 0])
    np.testing.assert_array_equal(by_image.denominator, by_item.denominator)


def test_same_labels_attract_and_a_row_alone_is_no_anchor():
    positive, denominator, anchor = jax.jit(relations.same_label_rows)(np.array([5, 2, 5, 7, 5]))
    np.testing.assert_array_equal(positive[0], [0, 0, 1, 0, 1])
    np.testing.assert_array_equal(denominator, ~np.eye(5, dtype=bool))
    np.testing.assert_array_equal(anchor, [1, 0, 1, 0, 1])
