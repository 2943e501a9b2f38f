"""Published data sets as `config.data.source` sections: where their files are, and their protocol.

Config files import it, so it imports nothing heavy. Paths are below `data/`, and each
can be overridden, for example `--config.data.source.root=/mnt/ucf/features`.
"""

from typing import Any

from jaxad.config import placeholder
from jaxad.medical_datasets import hippocampus as hippocampus
from jaxad.medical_datasets import medical as medical
from jaxad.medical_datasets import mnms_a as mnms_a
from jaxad.medical_datasets import mnms_b as mnms_b
from jaxad.medical_datasets import own_volumes as own_volumes
from jaxad.medical_datasets import prostatex as prostatex


def digit_reels() -> dict[str, Any]:
    """Embedded real handwriting as weakly labelled videos; nothing is downloaded."""
    return dict(
        name="digit_reels",
        crops=4,
        segments=32,
        train_reels=300,  # Of each kind.
        validation_reels=30,
        test_reels=40,
        seed=1,  # Of the data (the preset was tuned on 0); config.seed is that of the run.
    )


def digit_scenes() -> dict[str, Any]:
    """Embedded real handwriting on photographic texture, with class maps; nothing is downloaded."""
    return dict(
        name="digit_scenes",
        size=(64, 96),  # Height and width.
        train_scenes=400,
        validation_scenes=60,
        test_scenes=100,
        digits=(3, 4),  # Known digits in a scene.
        unseen_digits=(1, 2),  # In an anomalous scene.
        digit_size=(30, 38),
        margin=2,  # Paper around the ink in pixels.
        noise=0.04,  # White is 1.
        outliers=240,  # Objects for outlier exposure.
        outlier_kinds_share=1.0,  # Fewer kinds of them, the analogue of table 11.6.
        object_size=(16, 36),
        seed=1,  # Of the data; config.seed is that of the run.
    )


def digit_shifts() -> dict[str, Any]:
    """Grey digit scenes, and one set of images for each of three kinds of shift, in test alone."""
    return dict(
        name="digit_shifts",
        size=(64, 96),  # Height and width, multiples of 16.
        train_scenes=400,
        validation_scenes=60,
        test_scenes=100,
        shifted_scenes=100,  # In each of the three sets.
        digits=(3, 4),  # In a scene; patches in "photographs".
        digit_size=(30, 38),
        margin=2,  # Paper around the ink in pixels.
        noise=0.03,  # White is 1.
        defocus=(1.0, 2.0),  # Pixels, standard deviation of the blur of "defocused".
        shifted_noise=(0.04, 0.08),  # Of "defocused".
        seed=1,  # Of the data; config.seed is that of the run.
    )


def snippet_features(folder: str, **fields: Any) -> dict[str, Any]:
    """Every option of the source `snippet_features`, whose docstring explains them.

    Args:
        folder: Where the files of the data set are.
        fields: Options that differ from these.
    """
    source = dict(
        name="snippet_features",
        root=f"{folder}/features",  # Folder of the feature files.
        train_list=f"{folder}/train.list",  # A file name per line; folders in it are ignored.
        test_list=f"{folder}/test.list",
        ground_truth=f"{folder}/gt.npy",
        truth="flat",  # One 0 / 1 per frame of all test videos, in the order of the list.
        layout="per_video",  # `<video>_i3d.npy`, [snippets, crops, features].
        axes="TND",  # Order of the axes of three-dimensional files.
        suffix=placeholder(str),  # End of file names that is no part of the video's name.
        crop_files=5,  # Files per video of the layout "per_crop".
        crops="all",  # Or "center": single crop.
        feature_size=2048,  # I3D; 4096 for C3D.
        label_rule="file",
        labels=placeholder(str),  # Text file of lines `name label [class]`, for the rule "file".
        train_anomalous=placeholder(int),  # For the rule "first_n".
        test_anomalous=placeholder(int),
        segments=32,  # T, document 004, section 8.4.2.
        segmentation="uniform",
        frame_counts=placeholder(str),  # Text file of lines `name frames` to check lengths against.
        validation_fraction=0.1,  # Of training, held out: the releases have no validation set.
        validation_seed=0,
        anomalous_train_videos=placeholder(int),  # Fewer anomalous training videos, figure 8.5.
        anomalous_train_seed=0,
        draw_seed=placeholder(int),  # Draws the training videos instead of reading a test list.
        draw_anomalous=6,
        draw_normal=4,
    )
    return {**source, **fields}


def own_features() -> dict[str, Any]:
    """Features of your own: `<video>.npy`, labels in a text file, no frame truth."""
    return snippet_features(
        "data/own", labels="data/own/labels.txt", ground_truth=placeholder(str), suffix=""
    )


def shanghaitech() -> dict[str, Any]:
    """Weak split: train 63 anomalous + 175 normal videos, test 44 + 155 (document 004, 8.4.1)."""
    return snippet_features("data/shanghaitech", label_rule="shanghaitech")


def ucf_crime() -> dict[str, Any]:
    """Train 810 anomalous + 800 normal videos, test 140 + 150 (document 004, 8.4.1)."""
    return snippet_features("data/ucf_crime", label_rule="ucf_crime")


def xd_violence() -> dict[str, Any]:
    """Train 1905 violent + 2049 normal videos, test 500 + 300; one file per crop, 1024-D."""
    return snippet_features(
        "data/xd_violence",
        label_rule="xd_violence",
        layout="per_crop",
        crop_files=5,
        feature_size=1024,
        truth="xd_text",
        ground_truth="data/xd_violence/annotations.txt",
    )


def ucsd_ped2() -> dict[str, Any]:
    """28 videos; 6 anomalous + 4 normal drawn for training, the rest test; mean of ten draws."""
    return snippet_features(
        "data/ucsd_ped2",
        label_rule="ucsd_ped2",
        train_list="data/ucsd_ped2/all.list",
        test_list=placeholder(str),
        draw_seed=0,
        draw_anomalous=6,
        draw_normal=4,
        validation_fraction=0.0,  # Ten training videos leave none to hold out.
    )


def c3d(source: dict[str, Any]) -> dict[str, Any]:
    """The same videos as C3D fc6 features, one crop."""
    return {**source, "feature_size": 4096, "layout": "per_video", "crops": "center"}


def scenes(train: dict[str, Any], test: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Every option of the source `scenes`, whose docstring explains them.

    Args:
        train: `scene_part` of the training set.
        test: Of the test set.
        fields: Options that differ from these.
    """
    source = dict(
        name="scenes",
        root="data",  # Folder that the roots of the four parts are relative to.
        train=train,
        validation=None,  # Of the same form.
        test=test,
        outliers=None,  # Or `coco_proxy()`, `photo_objects()`: objects to paste.
        size=placeholder(tuple),  # Height, width of training images; None as they are.
        test_size=placeholder(tuple),  # Of validation and test, whose truth is resized too.
        held_out=(),  # Names of classes that count as anomalies.
        held_out_in_training="drop",  # Images with a pixel of them; "ignore": the pixels alone.
        validation_fraction=0.0,  # Of training, held out, if `validation` is None.
        validation_seed=0,
    )
    return {**source, **fields}


def scene_part(layout: str, root: str, part: str | None = None, **fields: Any) -> dict[str, Any]:
    """One part of a data set of scenes.

    Args:
        layout: One of `jaxad.data.scene_layouts.LAYOUTS`, whose docstring explains its options.
        root: Folder of the data set, within that of the source.
        part: Such as "train"; None for layouts without parts.
        fields: Further options of the layout.
    """
    own = {} if part is None else {"part": part}
    return dict(layout=layout, root=root, **own, **fields)


def without_outliers(source: dict[str, Any]) -> dict[str, Any]:
    """The same scenes without objects to paste, for methods that do not use them."""
    return {**source, "outliers": None}


def coco_proxy(**fields: Any) -> dict[str, Any]:
    """Objects of COCO's train2017, images with the classes of street scenes left out.

    Args:
        fields: Options of `jaxad.data.coco_objects.objects` that differ from these.
    """
    source = dict(
        layout="coco_proxy",
        root="coco",
        images="train2017",
        annotations="annotations/instances_train2017.json",
        masks=placeholder(str),  # "annotations/ood_seg_train2017" if they are ready-made.
        excluded=placeholder(tuple),  # Categories whose images are dropped; None: the documents'.
        overlap=(),  # Categories to keep although the training scenes have a class for them.
        min_side=0,  # 480 in one release of document 002.
        outlier_share=(0.0, 1.0),  # (0.0, 0.2) is "L-20%", (0.8, 1.0) "M-80%".
        classes_share=1.0,  # Document 004, table 11.6.
        images_share=1.0,  # Table 11.7.
        seed=0,  # Of both choices.
        object_size=(640, 640),  # Canvas; COCO's images are no larger.
    )
    return {**source, **fields}


def photo_objects(**fields: Any) -> dict[str, Any]:
    """Patches of two photographs, embedded, where COCO is not at hand; nothing is downloaded.

    Args:
        fields: Options of `jaxad.data.photo_objects.objects` that differ from these.
    """
    source = dict(
        layout="photo_objects",
        count=240,
        kinds_share=1.0,  # Fewer kinds of them, the analogue of table 11.6.
        object_size=(16, 36),  # Smallest and largest side in pixels.
        noise=0.0,
        seed=0,
    )
    return {**source, **fields}


def own_scenes() -> dict[str, Any]:
    """Images and label maps of your own, `data/own_scenes/<part>/{images,labels}/NAME.png`, with
    the class table `data/own_scenes/classes.csv`; 254 in it marks the anomalies of the test set.
    """
    root = "own_scenes"
    table = "classes.csv"
    return scenes(
        scene_part("plain", root, "train", table=table),
        scene_part("plain", root, "test", table=table),
        validation_fraction=0.1,
    )


def camvid() -> dict[str, Any]:
    """CamVid, 367 / 101 / 233 images of 360 x 480; Bicyclist is held out.

    166 training images show none; 77 test images do. Validation is one stretch of seven seconds
    beside training frames.
    """
    root = "camvid"
    return scenes(
        scene_part("camvid", root, "train"),
        scene_part("camvid", root, "test"),
        validation=scene_part("camvid", root, "val"),
        held_out=("Bicyclist",),
    )


def camvid_half(**fields: Any) -> dict[str, Any]:
    """The same at 180 x 240.

    Args:
        fields: Options of `scenes` that differ.
    """
    return {**camvid(), "size": (180, 240), "test_size": (180, 240), **fields}


def streethazards() -> dict[str, Any]:
    """StreetHazards: 5125 / 1031 / 1500 images of 720 x 1280, anomalies in test alone."""
    root = "StreetHazards"
    return scenes(
        scene_part("streethazards", root, "train"),
        scene_part("streethazards", root, "test"),
        validation=scene_part("streethazards", root, "validation"),
    )


def cityscapes(
    test: dict[str, Any] | None = None, *, validation: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Cityscapes, 2975 images of 1024 x 2048 to train on, with COCO's objects as outliers.

    COCO's "train" stays among them although Cityscapes has that class: so do the documents (002 and
    004).

    Args:
        test: `scene_part` to test on; None for Cityscapes' 500 validation images, which show no
            anomalies.
        validation: The same for validation.
    """

    def own(part: str) -> dict[str, Any]:
        # Labels: "labelTrainIds" or "labelIds"; None for those that are there.
        return scene_part("cityscapes", "cityscapes", part, labels=placeholder(str))

    return scenes(
        own("train"),
        test or own("val"),
        validation=validation or own("val"),
        outliers=coco_proxy(overlap=("train",)),
    )


def lostandfound() -> dict[str, Any]:
    """Trained on Cityscapes, tested on LostAndFound's 1203 images (document 004, table 11.1).

    Validation is Fishyscapes Static: the other set consists of LostAndFound's own images.
    """
    return cityscapes(
        scene_part(
            "lostandfound",
            "lostandfound",
            "test",
            labels=placeholder(str),
            not_hazardous="void",  # "normal": components on harmless objects are false alarms.
        ),
        validation=_fishyscapes("Static"),
    )


def fishyscapes_lostandfound() -> dict[str, Any]:
    """Trained on Cityscapes, tested on the 100 public images (document 004, tables 11.3, 11.4)."""
    return cityscapes(_fishyscapes("LostAndFound"), validation=_fishyscapes("Static"))


def fishyscapes_static() -> dict[str, Any]:
    """Trained on Cityscapes, tested on the 30 public images (document 004, tables 11.3, 11.4)."""
    return cityscapes(_fishyscapes("Static"), validation=_fishyscapes("LostAndFound"))


def road_anomaly() -> dict[str, Any]:
    """Trained on Cityscapes, tested on Road Anomaly's 60 images (document 004, table 11.3)."""
    return cityscapes(scene_part("road_anomaly", "road_anomaly"), validation=_fishyscapes("Static"))


def _fishyscapes(part: str) -> dict[str, Any]:
    return scene_part("fishyscapes", "fishyscapes", part, labels="labels")
