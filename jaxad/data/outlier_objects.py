"""Objects to paste into training scenes for outlier exposure, by the name of their layout."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jaxad.data import coco_objects, option_checks, photo_objects
from jaxad.data.split import Split

LAYOUTS = {"coco_proxy": coco_objects.objects, "photo_objects": photo_objects.objects}


def open_objects(
    section: Mapping[str, Any], inlier_classes: Sequence[str], base: str = ""
) -> Split:
    """The objects that a config section asks for.

    Args:
        section: `layout`, one of `LAYOUTS`, and options of its function; those that are None keep
            their defaults.
        inlier_classes: Classes of the training scenes, those held out included.
        base: Folder that `root` is relative to.

    Returns:
        As that function.

    Raises:
        InputError: For an unknown layout or option, and as that function.
    """
    function, options = option_checks.layout(
        section, LAYOUTS, "outliers", base, given=("inlier_classes",)
    )
    if "inlier_classes" in inspect.signature(function).parameters:
        options["inlier_classes"] = inlier_classes
    return function(**options)
