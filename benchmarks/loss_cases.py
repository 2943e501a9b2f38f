"""The cases of `benchmarks.losses`: which function, on what, and how large the papers have it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.augment import elastic, medmix, multi_crop, simclr, swap
from jaxad.losses import (
    abstention,
    adversarial,
    class_gaussians,
    contrastive,
    cross_entropy,
    deviation,
    distillation,
    e_step,
    energy,
    entropy,
    fcdd,
    feature_bank,
    focal,
    inclusion,
    inclusion_exposure,
    interpolation,
    masked_autoencoding,
    mil,
    moments,
    mutual_information,
    one_class,
    patches,
    pebal,
    pmsacl,
    position_gaussians,
    pretext,
    prototypes,
    reconstruction,
    score_histogram,
    seed_scores,
    similarity,
    similarity_losses,
    snippet_mining,
    standardised_logit,
    temporal_penalties,
)
from jaxad.metrics import bounded_ranking, streaming


class Case(NamedTuple):
    """What is timed.

    Attributes:
        size: The papers' number of whatever `build` counts.
        unit: What that is, for the table.
        build: `(size) -> (function, arguments)`; the function is differentiated in the first one.
        gradient: Whether the gradient is timed too; scores have none.
        flops: `(size) -> FLOPs` of the equation, for programs with loops.
        on_host: Whether the function is NumPy's.
    """

    size: int
    unit: str
    build: Callable[[int], tuple[Callable, tuple]]
    gradient: bool = True
    flops: Callable[[int], float] | None = None
    on_host: bool = False


def normal(seed: int, *shape: int):
    """Standard normal float32."""
    return jax.random.normal(jax.random.key(seed), shape)


def integers(seed: int, high: int, *shape: int):
    """Uniform int32 below `high`."""
    return jax.random.randint(jax.random.key(seed), shape, 0, high)


def _total(function):
    """The sum of what a function returns: something to differentiate."""
    return lambda *arguments: jnp.sum(function(*arguments))


def _pebal(images):
    logits = 3.0 * normal(0, images, 700, 700, 20)
    labels = integers(1, 19, images, 700, 700)
    kind = integers(2, 10, images, 700, 700)  # A tenth outliers, a tenth void.
    return (
        lambda logits, *rest: pebal.pebal(logits, *rest).total,
        (logits, labels, kind > 1, kind == 0),
    )


def _pebal_released(images):
    _, arguments = _pebal(images)
    return lambda logits, *rest: pebal.pebal_released(logits, *rest).total, arguments


def _entropy_maximisation(images):
    _, (logits, labels, inlier, outlier) = _pebal(images)
    proxy = jnp.arange(images) % 2 == 0
    return (
        lambda logits: entropy.entropy_maximisation(logits, labels, inlier, outlier, proxy),
        (logits[..., :19],),
    )


def _pmsacl(images):
    # 512 images x 4 strong augmentations x 2 views, 128 dimensions.
    features, classes = normal(0, images * 4, 2, 128), jnp.tile(jnp.arange(4), images)
    return _total(pmsacl.pmsacl), (features, classes, normal(1, 4, 128))


def _nt_xent(items):
    return _total(contrastive.nt_xent), (normal(0, items, 2, 128),)


def _feature_bank(size):
    bank, queries = normal(0, size, 384), normal(1, 10_000, 384)
    return feature_bank.log_mean_exp, (queries, bank)


def _distillation(images):
    # 2 global and 10 local views, 65,536 prototypes.
    logits = normal(0, images, 12, 65_536)
    teacher = distillation.teacher_probabilities(logits[:, :2], jnp.zeros(65_536), temperature=0.04)
    return _total(distillation.positive_views), (logits, teacher)


def _ms_ssim(images, window, weights):
    shape = (images, 256, 256, 3)
    function = functools.partial(similarity.ms_ssim, data_range=1.0, window=window, weights=weights)
    noise = 0.1 * normal(1, *shape)
    return _total(function), (jax.nn.sigmoid(normal(0, *shape) + noise), jax.nn.sigmoid(noise))


def _log_inclusion(images):
    # 14 x 14 maps of 4 classes, 256 channels.
    distances = 256.0 + 20.0 * normal(0, images, 14, 14, 4)
    return _total(lambda d: inclusion.log_inclusion(d, 256)), (distances,)


def _mahalanobis(images):
    features = normal(0, images, 28, 28, 256)
    of = (normal(1, 4, 256), jnp.zeros((4, 256)))
    return _total(lambda r: prototypes.squared_mahalanobis(r, *of)), (features,)


def _cosine_logits(images):
    return _total(prototypes.cosine_logits), (normal(0, images, 90, 160, 512), normal(1, 13, 512))


def _fcdd(images):
    outputs, labels = normal(0, images, 224, 224), jnp.arange(images) % 2
    return lambda outputs: jnp.sum(fcdd.image_terms(outputs, labels)), (outputs,)


def _rtfm(videos):
    # 10 crops of 32 snippets of 2048 features.
    features, labels = normal(0, videos, 10, 32, 2048), jnp.arange(videos) % 2

    def loss(features):
        magnitudes = jnp.mean(mil.feature_magnitude(features), axis=1)
        bags = mil.top_k_mean(magnitudes, 3)
        return mil.magnitude_hinge(bags, labels, labels >= 0)

    return loss, (features,)


def _snippet_contrast(videos):
    embeddings = normal(0, videos, 32, 2048) / 45.0
    kinds = integers(1, 8, videos, 32)
    return snippet_mining.contrast, (embeddings, kinds == 0, kinds == 1, kinds == 2)


def _masked_autoencoding(images):
    pixels = jax.nn.sigmoid(normal(0, images, 224, 224, 3))
    predicted = normal(1, images, 196, 768)
    removed = integers(2, 4, images, 196) > 0

    def loss(predicted):
        targets = masked_autoencoding.patchify(pixels, patch_size=16)
        return masked_autoencoding.masked_patch_mse(predicted, targets, removed)

    return loss, (predicted,)


def _gradient_penalty(images):
    weights = normal(0, 64 * 64 * 3, 256) / 100.0

    def loss(weights, points):
        def critic(x):
            return jnp.sum(jnp.tanh(x.reshape(len(x), -1) @ weights), axis=-1)

        return jnp.sum(adversarial.gradient_penalty(critic, points))

    return loss, (weights, normal(1, images, 64, 64, 3))


def _info_nce(images):
    scores = normal(0, images, images)
    return mutual_information.info_nce, (scores, jnp.ones(images, bool))


def _gaussian_anomaly(patches):
    return (
        lambda z: jnp.sum(one_class.gaussian_anomaly(z, jnp.zeros(256), jnp.array(256.0))),
        (normal(0, patches, 256),),
    )


def _standardised_logit(images):
    # Fit, score and post-processing of whole Cityscapes images.
    logits = normal(0, images, 1024, 2048, 19)

    def fit_and_score(logits):
        sums = standardised_logit.add(standardised_logit.zero(19), logits)
        statistics = standardised_logit.finish(sums)
        scores = standardised_logit.standardised_max_logit(logits, statistics)
        return standardised_logit.refine(scores, jnp.argmax(logits, axis=-1))

    return fit_and_score, (logits,)


def _class_gaussians(pixels):
    features, labels = normal(1, pixels, 256), integers(2, 19, pixels)

    def fit_and_score(features, labels):
        sums = class_gaussians.add(class_gaussians.zero(19, 256), features, labels)
        return class_gaussians.mahalanobis(features, class_gaussians.finish(sums))

    return fit_and_score, (features, labels)


def _position_gaussians(images):
    # 56 x 56 positions of 100 channels: a fit over all images, and their distances.
    features = normal(0, images, 56, 56, 100)

    def fit_and_score(features):
        sums = moments.add(moments.zero_full((56, 56, 100)), features)
        gaussians = position_gaussians.finish(sums, epsilon=0.01)
        return position_gaussians.mahalanobis(features, gaussians)

    return fit_and_score, (features,)


def _score_histogram(pixels):
    scores, truth = normal(0, pixels), integers(1, 2, pixels) == 1
    return (
        lambda scores, truth: score_histogram.add(score_histogram.zero(), scores, truth),
        (scores, truth),
    )


def _streaming(pixels):
    scores = np.random.default_rng(0).standard_normal(pixels, np.float32)
    truth = scores > 2.0

    def count_and_rank(scores, truth):
        state = streaming.add(streaming.zero(), scores, truth)
        return bounded_ranking.roc_auc(state), bounded_ranking.average_precision(state)

    return count_and_rank, (scores, truth)


def _cross_entropy(images):
    _, (logits, labels, inlier, _) = _pebal(images)
    return lambda logits: cross_entropy.mean_cross_entropy(logits, labels, inlier), (
        logits[..., :19],
    )


def _deep_gambler(images):
    _, (logits, labels, inlier, _) = _pebal(images)
    return lambda logits: jnp.sum(abstention.deep_gambler(logits, labels, inlier)), (logits,)


def _inclusion_exposure(images):
    distances = 256.0 + 20.0 * normal(0, images, 28, 28)
    labels, valid = jnp.arange(images) % 2, jnp.ones(images, bool)
    return (
        lambda d: inclusion_exposure.outlier_exposure(d, labels, valid, 256),
        (distances,),
    )


def _mae_ms_ssim(patches):
    shape = (patches, 32, 32, 3)
    function = functools.partial(
        similarity_losses.mae_ms_ssim_range_scaled,
        data_range=similarity.NORMALIZED_RANGE,
        window=similarity.LOCAL_WINDOW,
        weights=similarity.LOCAL_WEIGHTS,
    )
    return _total(function), (normal(0, *shape), normal(1, *shape))


def _fold(images):
    grid = patches.extract_patches(normal(0, images, 256, 256, 1), size=32, stride=16)
    return lambda grid: jnp.sum(patches.fold_mean(grid, image_size=(256, 256), stride=16)), (grid,)


def _seed_scores(images):
    shown = jax.nn.sigmoid(normal(0, images, 224, 224, 3))
    seeds = shown + 0.1 * normal(1, 8, images, 224, 224, 3)
    function = functools.partial(seed_scores.multi_seed_scores, patch_size=16, data_range=1.0)
    return lambda shown, seeds: function(shown, seeds).patches, (shown, seeds)


def _reconstruction(images):
    shape = (images, 64, 64, 3)
    return _total(reconstruction.squared_error_sum), (normal(0, *shape), normal(1, *shape))


def _partners(codes):
    def loss(codes):
        others, paired = interpolation.rolled_partners(codes)
        mixed = interpolation.interpolate(codes, others, jnp.full(codes.shape[0], 0.3))
        return jnp.sum(jnp.where(paired[:, None], mixed, 0.0) ** 2)

    return loss, (normal(0, codes, 128),)


def _e_step(codes):
    def fit(codes):
        return e_step.finish(moments.add(moments.zero_trace((128,)), codes))

    return fit, (normal(0, codes, 128),)


def _patch_position(pairs):
    logits, direction = normal(0, pairs, 8), integers(1, 8, pairs)
    return lambda logits: jnp.sum(pretext.patch_position(logits, direction)), (logits,)


def _deviation(examples):
    labels = integers(1, 2, examples)
    return lambda scores: jnp.sum(deviation.deviation_loss(scores, labels)), (normal(0, examples),)


def _focal(examples):
    labels = integers(1, 2, examples)
    return lambda logits: jnp.sum(focal.focal_loss(logits, labels)), (normal(0, examples),)


def _temporal(videos):
    scores = jax.nn.sigmoid(normal(0, videos, 32))
    labels = jnp.arange(videos) % 2

    def loss(scores):
        of = (scores, labels, labels >= 0)
        smooth = temporal_penalties.smoothness_released(*of)
        return smooth + temporal_penalties.sparsity_released(*of)

    return loss, (scores,)


def _smoothing(images):
    return energy.gaussian_smoothing, (normal(0, images, 1024, 2048),)


def _keys(number):
    return jax.random.split(jax.random.key(0), number)


def _simclr(images):
    pixels = jax.nn.sigmoid(normal(0, images, 64, 64, 3))
    return lambda keys, pixels: simclr.random_views(keys, pixels)[0], (_keys(images), pixels)


def _multi_crop(images):
    pixels = jax.nn.sigmoid(normal(0, images, 256, 256, 3))
    return multi_crop.random_crops, (_keys(images), pixels)


def _medmix(images):
    pixels = jax.nn.sigmoid(normal(0, images, 256, 256, 3))
    counts = jnp.arange(images) % 4
    return (
        lambda keys, pixels: medmix.random_medmix(keys, pixels, counts, pixels)[0],
        (_keys(images), pixels),
    )


def _elastic(images):
    pixels = jax.nn.sigmoid(normal(0, images, 224, 224, 1))
    return lambda keys, pixels: elastic.random_elastic(keys, pixels)[0], (_keys(images), pixels)


def _swap(images):
    pixels = jax.nn.sigmoid(normal(0, images, 224, 224, 1))
    return lambda keys, pixels: swap.random_swap(keys, pixels)[0], (_keys(images), pixels)


_GLOBAL = (similarity.GLOBAL_WINDOW, similarity.GLOBAL_WEIGHTS)
_LOCAL = (similarity.LOCAL_WINDOW, similarity.LOCAL_WEIGHTS)
CASES = {
    "pebal": Case(8, "images of 700 x 700 x 20", _pebal),
    "pebal_released": Case(8, "images of 700 x 700 x 20", _pebal_released),
    "entropy_maximisation": Case(8, "images of 700 x 700 x 19", _entropy_maximisation),
    "log_inclusion": Case(4096, "maps of 14 x 14 x 4", _log_inclusion),
    "mahalanobis": Case(64, "maps of 28 x 28 x 256", _mahalanobis),
    "cosine_logits": Case(16, "maps of 90 x 160 x 512", _cosine_logits),
    "fcdd": Case(256, "maps of 224 x 224", _fcdd),
    "pmsacl": Case(512, "images x 4 x 2 views", _pmsacl),
    "nt_xent": Case(4096, "images x 2 views", _nt_xent),
    "rtfm": Case(64, "videos x 10 x 32 x 2048", _rtfm),
    "snippet_contrast": Case(64, "videos x 32 x 2048", _snippet_contrast),
    "distillation": Case(16, "images x 12 views x 65536", _distillation),
    "feature_bank": Case(
        50_000,
        "rows, 10,000 queries x 384",
        _feature_bank,
        gradient=False,
        flops=lambda rows: 2.0 * rows * 10_000 * 384,
    ),
    "ms_ssim": Case(64, "images of 256 x 256 x 3", lambda n: _ms_ssim(n, *_GLOBAL)),
    "ms_ssim_local": Case(64, "images of 256 x 256 x 3", lambda n: _ms_ssim(n, *_LOCAL)),
    "masked_autoencoding": Case(64, "images of 224 x 224 x 3", _masked_autoencoding),
    "gradient_penalty": Case(64, "images of 64 x 64 x 3", _gradient_penalty),
    "info_nce": Case(2048, "images against each other", _info_nce),
    "gaussian_anomaly": Case(65_536, "patches x 256", _gaussian_anomaly),
    "standardised_logit": Case(2, "images of 1024 x 2048 x 19", _standardised_logit, False),
    "class_gaussians": Case(262_144, "pixels x 256, 19 classes", _class_gaussians, False),
    "position_gaussians": Case(64, "images x 56 x 56 x 100", _position_gaussians, False),
    "score_histogram": Case(100_000_000, "pixels, on the device", _score_histogram, False),
    "cross_entropy": Case(8, "images of 700 x 700 x 19", _cross_entropy),
    "deep_gambler": Case(8, "images of 700 x 700 x 20", _deep_gambler),
    "inclusion_exposure": Case(1024, "maps of 28 x 28", _inclusion_exposure),
    "mae_ms_ssim": Case(2048, "patches of 32 x 32 x 3", _mae_ms_ssim),
    "fold": Case(64, "images of 225 patches", _fold),
    "seed_scores": Case(8, "images x 8 seeds", _seed_scores, False),
    "reconstruction": Case(1024, "images of 64 x 64 x 3", _reconstruction),
    "partners": Case(65_536, "codes of 128", _partners),
    "e_step": Case(65_536, "codes of 128", _e_step, False),
    "patch_position": Case(65_536, "pairs of patches", _patch_position),
    "deviation": Case(1_048_576, "scores", _deviation),
    "focal": Case(1_048_576, "logits", _focal),
    "temporal": Case(4096, "videos of 32 scores", _temporal),
    "smoothing": Case(8, "maps of 1024 x 2048", _smoothing, False),
    "simclr": Case(64, "images of 64 x 64 x 3, two views", _simclr, False),
    "multi_crop": Case(16, "images of 256 x 256 x 3", _multi_crop, False),
    "medmix": Case(64, "images of 256 x 256 x 3", _medmix, False),
    "elastic": Case(64, "images of 224 x 224", _elastic, False),
    "swap": Case(64, "images of 224 x 224", _swap, False),
    "streaming": Case(100_000_000, "pixels, on the host", _streaming, False, on_host=True),
}
