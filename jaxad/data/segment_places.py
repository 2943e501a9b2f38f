"""Where each class of a segmentation data set is to be seen: for rows drawn by their classes.

Source: the training recipe released with the standardised max logit
(github.com/shjung13/Standardized-max-logits), where half of the crops are class-uniform: images are
cut into tiles of 1024 pixels, and a class of a tile is there at the middle of its pixels.
"""

from concurrent import futures

import numpy as np

from jaxad.data.split import Split

TILE = 1024  # Pixels, as released.


def by_class(split: Split, *, tile: int = TILE, threads: int = 8) -> tuple[np.ndarray, ...]:
    """Places of each class: reads every label map once.

    Args:
        split: Records with `segments [H, W]`, whose ids from `len(split.segment_classes)` on are
            no classes.
        tile: Side of the tiles in pixels.
        threads: Records read at a time.

    Returns:
        For each class that is anywhere, int32 `[m, 3]`: position of the record, then row and column
        of the middle of the class's pixels in one of its tiles.
    """
    classes = len(split.segment_classes)
    with futures.ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda i: _of_record(split, i, classes, tile), range(len(split)))
        places = np.concatenate([np.zeros((0, 4), np.int32), *found])
    groups = (places[places[:, 0] == name, 1:] for name in range(classes))
    return tuple(group for group in groups if len(group))


def _of_record(split: Split, position: int, classes: int, tile: int) -> np.ndarray:
    """Class, position, row and column of each place of a record, int32 `[m, 4]`."""
    read_maps = getattr(split.read, "maps", None)  # Without decoding the image.
    segments = read_maps(position)[0] if read_maps else split.read(position)["segments"]
    tiles = -(-segments.shape[1] // tile)
    rows, columns = np.nonzero(segments < classes)
    # One number for each pair of tile and class.
    key = (rows // tile * tiles + columns // tile) * classes + segments[rows, columns]
    pairs, member, counts = np.unique(key, return_inverse=True, return_counts=True)
    middle = [np.bincount(member, each, len(pairs)) / counts for each in (rows, columns)]
    values = (pairs % classes, np.full(len(pairs), position), *middle)
    return np.stack(values, axis=1).astype(np.int32)
