"""Published data sets as `config.data.source` sections: where their files are, and their protocol.

Config files import it, so it imports nothing heavy. Paths are below `data/`, and each
can be overridden, for example `--config.data.source.root=/mnt/ucf/features`.
"""

from typing import Any

from jaxad.config import placeholder


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
