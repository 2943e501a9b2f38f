"""Objects to paste into training scenes for outlier exposure, by the name of their layout."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jaxad.data import coco_objects, photo_objects
from jaxad.data.scene_layouts import absolute
from jaxad.data.split import Split
from jaxad.errors import InputError

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
    options = {name: value for name, value in section.items() if value is not None}
    layout = options.pop("layout", None)
    if layout not in LAYOUTS:
        raise InputError(
            f"config.data.source.outliers: expected one of the layouts {sorted(LAYOUTS)}, found "
            f"{dict(section)}."
        )
    parameters = inspect.signature(LAYOUTS[layout]).parameters
    known = [name for name in parameters if name != "inlier_classes"]
    missing = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    if not set(options) <= set(known) or not set(missing) <= set(options):
        least = f" and of them at least {', '.join(missing)}" if missing else ""
        raise InputError(
            f"config.data.source.outliers: expected with the layout {layout!r} some of the fields "
            f"{known}{least}, found {dict(section)}."
        )
    if "root" in options:
        options["root"] = absolute(base, options["root"])
    if "inlier_classes" in parameters:
        options["inlier_classes"] = inlier_classes
    return LAYOUTS[layout](**options)
