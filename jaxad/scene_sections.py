"""Sections of the configs of segmentation systems, each with all of its fields.

Config files import it, so it imports nothing heavy.
"""

from typing import Any

from jaxad import config as configs


def pspnet(**fields: Any) -> dict[str, Any]:
    """PSPNet on ResNet-50, the network of document 001 (section 4.1)."""
    network = dict(
        name="pspnet",
        width=1.0,  # Factor of all channel counts.
        depths=(3, 4, 6, 3),
        output_stride=8,  # As released; 16 saves memory.
        classifier="cosine",  # Or "linear": the baselines.
        tau=10.0,  # Scale of the cosines, as released; the text gives no value.
        dropout_rate=0.1,  # Of channels, as released.
        bins=(1, 2, 3, 6),
        remat=False,  # True: activations of blocks are computed twice and not kept.
    )
    return {**network, **fields}


def deeplab_v3_plus_wide(**fields: Any) -> dict[str, Any]:
    """DeepLabV3+ on WideResNet-38, the network of documents 002 and 004 (section 11.4)."""
    network = dict(
        name="deeplab_v3_plus_wide",
        width=1.0,
        structure=(3, 3, 6, 3, 1, 1),  # Blocks of mod2 to mod7.
        output_stride=8,
        classifier="linear_without_bias",
        tau=10.0,  # Of the classifier "cosine" alone.
        remat=False,
    )
    return {**network, **fields}


def deeplab_v3_plus_resnet(**fields: Any) -> dict[str, Any]:
    """DeepLabV3+ on ResNet-101 (document 004, table 11.4)."""
    network = dict(
        name="deeplab_v3_plus_resnet",
        width=1.0,
        depths=(3, 4, 23, 3),
        output_stride=8,
        classifier="linear",
        tau=10.0,  # Of the classifier "cosine" alone.
        deep_supervision=True,
        remat=False,
    )
    return {**network, **fields}


def small_resnet(**fields: Any) -> dict[str, Any]:
    """The same for a CPU: a quarter of the channels, one block per stage."""
    return deeplab_v3_plus_resnet(**{"width": 0.25, "depths": (1, 1, 1, 1), **fields})


def deeplab_v3(**fields: Any) -> dict[str, Any]:
    """DeepLabV3 on ResNet-50, the second network of document 000 (section 4.2.3)."""
    network = dict(
        name="deeplab_v3",
        width=1.0,  # Factor of all channel counts.
        depths=(3, 4, 6, 3),
        output_stride=8,  # 224 x 224 gives 28 x 28; 16 gives 14 x 14, like the U-Net.
        classifier="linear",
        tau=10.0,  # Of the classifier "cosine" alone.
        first_dilation="previous",  # As published weights were trained; or "own".
        context_dropout=0.5,  # In front of the last two convolutions, of single entries.
        auxiliary_dropout=0.1,
        input_channels=3,  # Grey images are repeated; 1: kernels are summed when weights are read.
        remat=False,
    )
    return {**network, **fields}


def unet(**fields: Any) -> dict[str, Any]:
    """U-Net, the main network of document 000: 31 million parameters, 1024 encoder channels."""
    network = dict(
        name="unet",
        width=1.0,  # Factor of the channels 64 to 1024.
        levels=4,  # Sides of images must be multiples of 2 ** levels.
        norm="batch",  # Or "group", "none": the original.
        groups=32,  # Of the norm "group" alone; divides all channel counts.
        initialisation="he_normal",  # Or "torch_uniform", PyTorch's default.
        classifier="linear",
        tau=10.0,  # Of the classifier "cosine" alone.
        dropout_rate=0.0,  # 0.5 for Monte Carlo dropout.
        remat=False,  # True: activations of blocks are computed twice and not kept.
    )
    return {**network, **fields}


def scenes(crop: tuple[int, int], **fields: Any) -> dict[str, Any]:
    """How training scenes are drawn, see `jaxad.methods.scene_sampling.Scenes`.

    Args:
        crop: Height and width.
        fields: Those that differ from these, the recipe released with the standardised max logit.
    """
    section = dict(
        crop=crop,
        scales=(0.5, 2.0),
        draw="range",
        smooth=True,
        padding="centred",
        fill="black",
        flip=0.5,
        color_jitter=0.5,
        blur=0.5,
    )
    return {**section, **fields}


def digit_scenes() -> dict[str, Any]:
    """For the embedded data: nothing is mirrored, as a mirrored digit is another sign."""
    return scenes((64, 96), scales=(0.8, 1.25), flip=0.0, color_jitter=0.0, blur=0.0)


def pans_scenes() -> dict[str, Any]:
    """Document 001, its released code: the range is 300/720 to 1000/1280."""
    return scenes(
        (450, 450),
        scales=(300 / 720, 1000 / 1280),
        padding="surrounded",
        color_jitter=0.0,
        blur=0.0,
    )


def pebal_scenes() -> dict[str, Any]:
    """Document 004, the released code of PEBAL."""
    return scenes(
        (900, 900),
        scales=(0.5, 0.75, 1.0, 1.5, 1.75, 2.0),
        draw="choice",
        smooth=False,
        fill="mean",  # 0 after normalising.
        flip=0.8,
        color_jitter=0.0,
        blur=0.0,
    )


def inference(**fields: Any) -> dict[str, Any]:
    """How whole images are looked at, see `jaxad.methods.scene_inference.Inference`."""
    section = dict(
        scales=(1.0,),
        multiple=1,
        flip=False,
        window=(),
        window_stride=(),
        rows=64,
    )
    return {**section, **fields}


NETWORKS = {"wide": deeplab_v3_plus_wide, "resnet101": deeplab_v3_plus_resnet}


def closed_set_stage() -> dict[str, Any]:
    """The recipe released with the standardised max logit (specs of document 004, section 3)."""
    return configs.stage(
        batch_size=4,  # Two images on each of two devices.
        steps=60_000,
        class_uniform_share=0.5,
        optimizer=sgd(0.01, weight_decay=5e-4),
    )


def digits_stage() -> dict[str, Any]:
    """Training from scratch on the embedded scenes, with numbers of our own.

    The documents' SGD starts from ImageNet. From scratch, at an eighth of the channels, it reached
    a mean IoU of 0.34 on the validation scenes in 600 steps, AdamW 0.72; at a quarter 0.88 in 400.
    """
    return configs.stage(batch_size=16, steps=500, optimizer=adamw(3e-3, weight_decay=1e-4))


def camvid_cpu_stage() -> dict[str, Any]:
    """`digits_stage` for CamVid at half resolution."""
    return configs.stage(batch_size=8, steps=300, optimizer=adamw(3e-3, weight_decay=1e-4))


def adamw(learning_rate: float, *, weight_decay: float) -> dict[str, Any]:
    """AdamW with cosine decay at each step."""
    return dict(
        name="adamw", learning_rate=learning_rate, weight_decay=weight_decay, schedule="cosine"
    )


def sgd(learning_rate: float, *, weight_decay: float, nesterov: bool = False) -> dict[str, Any]:
    """Momentum 0.9, polynomial decay of power 0.9 at each step, L2 added to the gradient."""
    return dict(
        name="sgd",
        learning_rate=learning_rate,
        momentum=0.9,
        nesterov=nesterov,
        weight_decay=weight_decay,
        schedule="polynomial",
        power=0.9,
    )
