"""Scores that need no training of their own, on the networks of finished segmentation runs.

Maximum softmax probability, largest logit, entropy, energy; standardised max logits and Mahalanobis
distances to class means, which gather statistics over the training split; Monte Carlo dropout, a
deep ensemble, and the softmax refined by a dense CRF. The baselines of documents 001 (table 1) and
004 (tables 11.1, 11.3 and 11.4). A batch is that of `segmentation`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxad import config as configs
from jaxad import fields, methods
from jaxad.errors import InputError
from jaxad.losses import class_gaussians, energy, entropy, mean_field, standardised_logit
from jaxad.methods import base, scene_inference, scene_statistics, segmentation

_PASSES: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "entropy": entropy.predictive_entropy,
    "mutual_information": entropy.mutual_information,
    "variance": entropy.predicted_class_variance,
}
SCORES = (
    *segmentation.LOGIT_SCORES,
    "standardised_max_logit",
    "mahalanobis",
    "dropout",
    "ensemble",
    "crf",
    "own",
)


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    runs: Sequence[str] = (),
    stage: str = "",
    num_classes: int = 19,
    score: str = "energy",
    temperature: float = 1.0,
    suppression_width: int = 4,
    suppression_iterations: int = 4,
    smoothing_dilation: int = 6,
    ridge: float = 1e-5,
    passes: int = 10,
    passes_statistic: str = "entropy",
    dropout_seed: int = 0,
    crf_sigma: float = 10.0,
    crf_weight: float = 10.0,
    crf_iterations: int = 100,
) -> base.Method:
    """Builds a post-hoc score; it looks at images as the run itself does.

    Args:
        optimizers: Unused, nothing is trained.
        dtype: Of the networks' computation.
        runs: Workdirs of finished runs: one, or for "ensemble" at least two.
        stage: Of the runs, whose network is scored; "" for the last.
        num_classes: K, as in the runs.
        score: One of `SCORES`; "own" is the run's own score, for another test set.
        temperature: Of "energy".
        suppression_width: Of "standardised_max_logit": width of the band around boundaries; 4 in
            the released evaluation, 8 in its paper.
        suppression_iterations: Its steps, a divisor of the width.
        smoothing_dilation: Of its smoothing.
        ridge: Of "mahalanobis": share of the mean variance added to all.
        passes: Of "dropout".
        passes_statistic: Of "dropout" and "ensemble": "entropy" of the mean softmax,
            "mutual_information", or "variance" of the predicted class's probability.
        dropout_seed: Of "dropout".
        crf_sigma: Of "crf": in pixels. With 10 and a weight of 10 within 0.6 % of the published
            bilateral kernel; 3 and 3 are the published Gaussian one.
        crf_weight: Of "crf".
        crf_iterations: Of "crf".

    Raises:
        InputError: A value is not as it must be, or a run has no such network; names it.
    """
    del optimizers
    fields.check(_FIELDS, locals())
    if suppression_width % suppression_iterations:
        raise InputError(
            f"config.method.suppression_width={suppression_width}; expected a multiple of "
            f"suppression_iterations={suppression_iterations}."
        )
    _check_runs(runs, score)
    sources = [_source(run, stage, dtype, num_classes) for run in runs]
    logit_score = segmentation.LOGIT_SCORES.get(score)
    if score == "energy":
        one_look = functools.partial(energy.free_energy, temperature=temperature)
        logit_score = segmentation.each_look(one_look)

    def nets(state):
        pairs = zip(sources, state.stats["networks"], strict=True)
        return [source.network(states) for source, states in pairs]

    def init(_rng, batch, done):
        # Copies: what is scored is then whole in this run's own checkpoint.
        networks = [source.needed(done[_name(i)]) for i, source in enumerate(sources)]
        state = base.new_state({}, stats={"networks": networks})
        if "image" not in batch:
            raise InputError(
                f"config.data.source gives records with {sorted(batch)} and no 'image'; "
                "post-hoc scores need a source of scenes."
            )
        if score == "dropout" and not _drops(nets(state)[0], batch["image"].shape):
            raise InputError(
                f"config.method.score='dropout': the network of the run in {runs[0]} has no "
                "dropout when it scores; expected one that has, a PSPNet or DeepLabV3+ on "
                "WideResNet-38 say."
            )
        if score not in scene_statistics.BY_SCORE:
            return state
        sums = scene_statistics.BY_SCORE[score].zero(nets(state)[0], batch)
        start = {"sums": sums, "statistics": scene_statistics.BY_SCORE[score].finish(sums, ridge)}
        return state.replace(stats={"networks": networks, **start})

    def scores(states, batch):
        state, images = states["statistics"], batch["image"]
        found = nets(state)
        if score == "own":
            return sources[0].score(state.stats["networks"][0], batch)
        if logit_score is not None:
            return segmentation.score_logits(found[0], images, logit_score)
        if score == "standardised_max_logit":
            return standardised(
                found[0],
                images,
                state.stats["statistics"],
                width=suppression_width,
                iterations=suppression_iterations,
                dilation=smoothing_dilation,
            )
        if score == "mahalanobis":
            return mahalanobis(found[0], images, state.stats["statistics"])
        if score == "crf":
            return refined(
                found[0], images, sigma=crf_sigma, weight=crf_weight, iterations=crf_iterations
            )
        if score == "dropout":
            several = _dropped(found[0], jax.random.split(jax.random.key(dropout_seed), passes))
        else:
            several = _together(found)
        return disagreement(found[0], several, images, _PASSES[passes_statistic])

    fits = ()
    if score in scene_statistics.BY_SCORE:
        fits = (
            scene_statistics.fit(
                scene_statistics.BY_SCORE[score], lambda state: nets(state)[0], ridge
            ),
        )
    return base.Method(
        {"statistics": base.Stage(init, None, fits)},
        scores,
        runs={_name(i): str(run) for i, run in enumerate(runs)},
    )


def standardised(
    net: segmentation.Trained,
    images: jax.Array,
    statistics: standardised_logit.MaxLogitStatistics,
    *,
    width: int,
    iterations: int,
    dilation: int,
) -> base.Scores:
    """Standardised max logits, boundaries suppressed, smoothed (document 004, table 11.1).

    Args:
        net: The network.
        images: `[B, H, W, 3]`, not normalised.
        statistics: Of the training pixels.
        width: Of the band around boundaries.
        iterations: Steps of the suppression.
        dilation: Of the smoothing.
    """
    score = functools.partial(standardised_logit.standardised_max_logit, statistics=statistics)
    found = segmentation.score_logits(net, images, segmentation.each_look(score))
    refine = functools.partial(
        standardised_logit.refine, width=width, iterations=iterations, dilation=dilation
    )
    return found.replace(pixel=refine(found.pixel, found.classes))


def mahalanobis(
    net: segmentation.Trained, images: jax.Array, gaussians: class_gaussians.ClassGaussians
) -> base.Scores:
    """Squared Mahalanobis distance to the nearest class mean, taken at the network's stride.

    Args:
        net: The network.
        images: `[B, H, W, 3]`, not normalised.
        gaussians: Of the features of training pixels.
    """

    def maps(images):
        out = net.apply(images, None)
        distances = class_gaussians.mahalanobis(out.features.astype(jnp.float32), gaussians)
        return {"logits": out.logits[..., : net.num_classes], "distance": distances[..., None]}

    def of_strip(views):
        found = segmentation.decided([maps["logits"] for maps in views])
        return found.replace(pixel=sum(maps["distance"][..., 0] for maps in views) / len(views))

    return segmentation.by_strips(net, maps, images, of_strip)


def refined(
    net: segmentation.Trained,
    images: jax.Array,
    *,
    sigma: float,
    weight: float,
    iterations: int,
) -> base.Scores:
    """1 - max Q, Q the softmax after mean field of a dense CRF (document 001, table 1, MSP + CRF).

    It holds a few maps of all classes at the size of the images. The probability features of the
    published bilateral kernel are left out: see `mean_field.gaussian`.

    Args:
        net: The network.
        images: `[B, H, W, 3]`, not normalised.
        sigma: Of the kernel in pixels.
        weight: Of the neighbours.
        iterations: Of the mean field.
    """

    logits = functools.partial(segmentation.inlier_logits, net)
    probabilities = segmentation.by_strips(net, logits, images, scene_inference.mean_probabilities)
    marginals = mean_field.gaussian(
        probabilities, sigma=sigma, weight=weight, iterations=iterations
    )
    return base.Scores(
        pixel=mean_field.score(marginals),
        classes=jnp.argmax(marginals, axis=-1).astype(jnp.int32),
        extra={"confidence": jnp.max(marginals, axis=-1)},
    )


def disagreement(
    net: segmentation.Trained,
    several: Callable[[jax.Array], Sequence[jax.Array]],
    images: jax.Array,
    statistic: Callable[[jax.Array], jax.Array],
) -> base.Scores:
    """A statistic of the softmax of several networks, or of passes with dropout.

    Args:
        net: How images are looked at, and maps enlarged.
        several: From normalised images to the logits `[B, h, w, K]` of each network or pass.
        images: `[B, H, W, 3]`, not normalised.
        statistic: From logits `[T, ..., K]` to scores `[...]`.
    """

    def of_strip(views):
        passes = [logits for view in views for logits in view]
        return segmentation.decided(passes).replace(pixel=statistic(jnp.stack(passes)))

    return segmentation.by_strips(net, several, images, of_strip)


def _dropped(net: segmentation.Trained, keys: jax.Array) -> Callable:
    """Passes of one network with dropout, one after the other: the program of one."""

    def several(images):
        return list(jax.lax.map(lambda key: segmentation.inlier_logits(net, images, key), keys))

    return several


def _drops(net: segmentation.Trained, shape: tuple[int, ...]) -> bool:
    """Whether the logits depend on the key; nothing is computed."""
    images = jnp.zeros((1, *shape[1:]), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    probe = jax.make_jaxpr(lambda key: net.apply(images, key).logits, axis_env=[(base.AXIS, 1)])
    traced = probe(key).jaxpr
    return any(traced.invars[0] is each for step in traced.eqns for each in step.invars)


def _together(nets: Sequence[segmentation.Trained]) -> Callable:
    def several(images):
        return [segmentation.inlier_logits(net, images) for net in nets]

    return several


class _Source(NamedTuple):
    """Of another run: which of its states are needed, the network and the score they give."""

    needed: Callable[[Mapping[str, base.State]], Mapping[str, base.State]]
    network: Callable[[Mapping[str, base.State]], segmentation.Trained]
    score: Callable[[Mapping[str, base.State], base.Batch], base.Scores]


def _source(run: str, stage: str, dtype: Any, num_classes: int) -> _Source:
    config = configs.of_run(run)
    options = dict(config.method.to_dict())
    module = methods.load(options.pop("name", None))
    txs = dict.fromkeys(config.stages, optax.identity())
    method = module.build(txs, dtype=dtype, **options)
    if not method.networks:
        raise InputError(f"config.method.runs: {run} is a run of {module.__name__}, no network.")
    last = stage or list(method.networks)[-1]
    if last not in method.networks:
        raise InputError(
            f"config.method.stage={stage!r}: the run in {run} has {list(method.networks)}."
        )
    if options["num_classes"] != num_classes:
        raise InputError(
            f"config.method.num_classes={num_classes}: the run in {run} has "
            f"{options['num_classes']}."
        )
    names = list(method.stages)
    names = names[: names.index(last) + 1]

    def needed(states):
        return {name: states[name].replace(opt_state=()) for name in names[-1:]}

    return _Source(needed, method.networks[last], method.score)


def _name(place: int) -> str:
    return f"run{place}"


def _check_runs(runs: Sequence[str], score: str) -> None:
    wanted = "at least two workdirs" if score == "ensemble" else "one workdir"
    good = len(runs) > 1 if score == "ensemble" else len(runs) == 1
    if isinstance(runs, str) or not good:
        raise InputError(
            f"config.method.runs: expected {wanted} of finished segmentation runs for "
            f"score={score!r}, found {runs!r}; for example "
            "--config.method.runs=\"('runs/closed_set-digits',)\"."
        )


def _whole(field: str, value: Any) -> None:
    if value != 0:
        fields.positive_integer(field, value)


_FIELDS = {
    "num_classes": fields.positive_integer,
    "score": functools.partial(fields.one_of, choices=SCORES),
    "temperature": fields.positive,
    "suppression_width": _whole,
    "suppression_iterations": fields.positive_integer,
    "smoothing_dilation": fields.positive_integer,
    "ridge": fields.not_negative,
    "passes": fields.positive_integer,
    "passes_statistic": functools.partial(fields.one_of, choices=tuple(_PASSES)),
    "crf_sigma": fields.positive,
    "crf_weight": fields.not_negative,
    "crf_iterations": fields.positive_integer,
}
