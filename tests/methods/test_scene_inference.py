"""`jaxad.methods.scene_inference`, against the whole image computed at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad import resampling
from jaxad.errors import InputError
from jaxad.methods import scene_inference as inference
from jaxad.methods.scene_inference import Inference

SIZE = (23, 30)
RNG = np.random.default_rng(0)
MAPS = jnp.asarray(RNG.normal(size=(2, 6, 8, 4)), jnp.float32)
IMAGES = jnp.asarray(RNG.normal(size=(2, *SIZE, 3)), jnp.float32)


def nonlinear(views):
    """Depends on all channels of a pixel, and has other axes than the maps."""
    (maps,) = views
    return {
        "one": jax.nn.logsumexp(maps, axis=-1),
        "class": jnp.argmax(maps, axis=-1),
        "two": jnp.sin(maps[..., :2]),
    }


def same(size=SIZE):
    """A network whose maps are the image: positions are seen exactly."""
    return lambda images: images


def pooled(images):
    """A network of stride 4 that looks at its neighbourhood."""
    wide = jax.lax.reduce_window(
        images, 0.0, jax.lax.add, (1, 5, 5, 1), (1, 4, 4, 1), ((0, 0), (2, 2), (2, 2), (0, 0))
    )
    return wide / 25.0


def scored(views, function=lambda views: views[0], *, align_corners=False, rows=7, size=SIZE):
    return inference.by_strips(views, size, function, align_corners=align_corners, rows=rows)


def close(a, b, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol), a, b)


@pytest.mark.parametrize("rows", [1, 7, 23, 64])
@pytest.mark.parametrize("align_corners", [False, True])
def test_strips_are_the_whole_image(rows, align_corners):
    found = scored(
        (inference.whole(MAPS, SIZE),), nonlinear, align_corners=align_corners, rows=rows
    )
    enlarged = resampling.bilinear(MAPS, SIZE, align_corners=align_corners)
    assert found["two"].shape == (2, *SIZE, 2)
    close(found, nonlinear([enlarged]))


def test_function_sees_every_view():
    views = tuple(inference.whole(MAPS + shift, SIZE) for shift in (0.0, 1.0, 5.0))
    found = scored(views, lambda looks: sum(looks) / len(looks))
    close(found, resampling.bilinear(MAPS + 2.0, SIZE, align_corners=False))


@pytest.mark.parametrize("rows", [5, 23, 100])
def test_fold_sees_each_row_of_the_image_once(rows):
    def add(total, maps, inside):
        assert maps.shape[1:3] == (min(rows, SIZE[0]), SIZE[1])
        return total + jnp.sum(jnp.where(inside[None, :, None, None], maps, 0.0), axis=(0, 1, 2))

    view = inference.whole(MAPS, SIZE)
    found = inference.fold_strips(view, SIZE, jnp.zeros(4), add, align_corners=True, rows=rows)
    enlarged = resampling.bilinear(MAPS, SIZE, align_corners=True)
    np.testing.assert_allclose(found, jnp.sum(enlarged, axis=(0, 1, 2)), rtol=1e-4)


def test_one_look_is_the_network_itself():
    views = inference.look(pooled, IMAGES, Inference())
    close(scored(views), resampling.bilinear(pooled(IMAGES), SIZE, align_corners=False))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    "window, stride", [((10, 12), ()), ((10, 12), (7, 5)), ((23, 30), ()), ((12, 30), (1, 30))]
)
def test_windows_are_averaged_where_they_overlap(window, stride, align_corners):
    """Against a NumPy sum and count over the same windows."""
    step = stride or tuple(-(-2 * side // 3) for side in window)
    total, count = np.zeros((2, *SIZE, 3)), np.zeros((*SIZE, 1))

    def starts(side, own, by):
        every = list(range(0, side - own + 1, by))
        return every if every[-1] == side - own else [*every, side - own]

    for top in starts(SIZE[0], window[0], step[0]):
        for left in starts(SIZE[1], window[1], step[1]):
            place = np.s_[top : top + window[0], left : left + window[1]]
            maps = pooled(IMAGES[:, *place])
            total[:, *place] += resampling.bilinear(maps, window, align_corners=align_corners)
            count[place] += 1
    assert count.min() > 0
    views = inference.look(pooled, IMAGES, Inference(window=window, window_stride=stride))
    close(scored(views, align_corners=align_corners), total / count)


@pytest.mark.parametrize("window", [(40, 48), (23, 44), (40, 12), (10, 44)])
def test_window_larger_than_the_image_sees_zeros_beyond_it(window):
    """A network that reads single pixels then gives what it gives for the image."""
    views = inference.look(same(), IMAGES, Inference(window=window))
    close(scored(views), IMAGES)


def test_large_window_keeps_places_at_a_stride():
    """A ramp stays a ramp of the same slope inside the image."""
    ramp = jnp.broadcast_to(jnp.arange(32.0)[None, :, None, None], (1, 32, 32, 1))
    views = inference.look(lambda x: x[:, ::4, ::4], ramp, Inference(window=(64, 64)))
    found = scored(views, align_corners=False, size=(32, 32))
    # Each map entry is the value at row 4 i, placed at 4 i + 1.5.
    np.testing.assert_allclose(found[0, 4:28, 5, 0], np.arange(4, 28) - 1.5, rtol=1e-5)


def test_mirrored_look_of_an_even_network_is_the_same():
    views = inference.look(same(), IMAGES, Inference(flip=True))
    assert len(views) == 2
    close(scored(views[1:]), IMAGES)


def test_mirrored_look_is_mirrored_back():
    """A network that knows left from right: columns from the left edge."""

    def columns(images):
        return jnp.broadcast_to(
            jnp.arange(SIZE[1], dtype=jnp.float32)[None, None, :, None],
            (
                *images.shape[:3],
                1,
            ),
        )

    views = inference.look(columns, IMAGES, Inference(flip=True))
    mirrored = scored(views[1:])
    np.testing.assert_array_equal(mirrored[0, 0, :, 0], np.arange(SIZE[1])[::-1])


@pytest.mark.parametrize("flip", [False, True])
def test_windows_and_flips_go_together(flip):
    views = inference.look(same(), IMAGES, Inference(flip=flip, window=(9, 11)))
    assert len(views) == 1 + flip
    close(scored(views[-1:]), IMAGES)


def test_scales_round_sides_down_and_then_up_to_the_multiple():
    shapes = []

    def network(images):
        shapes.append(images.shape[1:3])
        return images[:, ::4, ::4]

    inference.look(
        network,
        jnp.zeros((1, 720, 1280, 3)),
        Inference(scales=(300 / 720, 375 / 720, 450 / 720, 525 / 720, 1000 / 1280), multiple=8),
    )
    # Those of the release of document 001, section 4 of its sheet.
    assert shapes == [(304, 536), (376, 672), (456, 800), (528, 936), (568, 1000)]


def test_looks_at_several_scales_all_come_back_to_the_image():
    constant = jnp.full((1, 20, 28, 3), 0.25)
    views = inference.look(pooled_mean, constant, Inference(scales=(0.5, 1.0, 1.7), multiple=4))
    assert len(views) == 3
    for view in views:
        close(scored([view], size=(20, 28)), constant)


def pooled_mean(images):
    return jnp.broadcast_to(jnp.mean(images), (1, 3, 4, 3))


def test_scale_that_shrinks_is_smoothed():
    """As Pillow does: a checkerboard becomes grey, not black or white."""
    board = jnp.asarray(np.indices((32, 32)).sum(0) % 2, jnp.float32)[None, ..., None]
    ((part,),) = inference.look(same(), jnp.tile(board, (1, 1, 1, 3)), Inference(scales=(0.5,)))
    assert part.maps.shape[1:3] == (16, 16)
    np.testing.assert_allclose(part.maps[0, 2:-2, 2:-2], 0.5, atol=0.13)


def test_mean_probabilities_is_the_mean_softmax():
    logits = RNG.normal(size=(3, 5, 4)).astype(np.float32)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = inference.mean_probabilities(list(logits))
    np.testing.assert_allclose(found, weights.mean(0), rtol=1e-5)


def test_strips_need_a_fraction_of_the_logits_memory():
    """Twenty classes at 256 x 512 would be 10 MiB an image; the scores are 0.5 MiB."""
    size, maps = (256, 512), jnp.zeros((1, 64, 128, 20))

    def score(maps, rows):
        views = (inference.whole(maps, size),)
        function = lambda views: jax.nn.logsumexp(views[0], axis=-1)  # noqa: E731
        return inference.by_strips(views, size, function, align_corners=True, rows=rows)

    compiled = jax.jit(score, static_argnums=1).lower(maps, 16).compile()
    used = compiled.memory_analysis().temp_size_in_bytes
    logits = 4 * 20 * size[0] * size[1]
    assert used < 0.4 * logits
    whole = jax.jit(score, static_argnums=1).lower(maps, 256).compile()
    assert whole.memory_analysis().temp_size_in_bytes > 0.9 * logits


def test_section_becomes_an_inference():
    section = dict(scales=[1.0], multiple=1, flip=True, window=[8, 9], window_stride=[], rows=16)
    expected = Inference(flip=True, window=(8, 9), rows=16)
    assert inference.parse(section) == expected


@pytest.mark.parametrize(
    "section, message",
    [
        ({"scale": (1.0,)}, r"config.method.inference has no field 'scale'; expected .*'scales'"),
        ({"scales": ()}, r"inference.scales: expected positive numbers, found \(\)"),
        ({"scales": (1.0, 0)}, r"inference.scales: expected positive numbers"),
        ({"scales": ("1",)}, r"inference.scales: expected positive numbers"),
        ({"scales": 1.0}, r"inference.scales: expected positive numbers, found 1.0"),
        ({"multiple": 0}, r"inference.multiple: expected an integer of at least 1, found 0"),
        ({"rows": 1.5}, r"inference.rows: expected an integer of at least 1, found 1.5"),
        ({"flip": 1}, r"inference.flip: expected True or False, found 1"),
        ({"window": (8,)}, r"inference.window: expected 2 integers"),
        ({"window": (8, 8), "window_stride": (8, 0)}, r"inference.window_stride: expected 2"),
        ({"window": (8, 8), "scales": (1.0, 2.0)}, r"inference.window: expected scales=\(1.0,\)"),
        ({"window": (8, 8), "multiple": 8}, r"inference.window: expected .* multiple=1"),
        (
            {"window": (8, 8), "window_stride": (9, 8)},
            r"window_stride: expected at most the window",
        ),
        ({"window_stride": (9, 8)}, r"window_stride: expected .* beside a window"),
    ],
)
def test_bad_section_is_named(section, message):
    with pytest.raises(InputError, match=message):
        inference.parse(section)
