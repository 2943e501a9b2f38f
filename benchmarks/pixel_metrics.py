"""Time and memory of the evaluation per pixel, by number and size of the images.

    python -m benchmarks.pixel_metrics --images=2,4 --sizes=256x512
    python -m benchmarks.pixel_metrics --images=4,8,16 --sizes=512x1024,1024x2048

Images are random, one at a time, as they come from a method: scores, predicted classes and
confidences, with truth and a picture. Ranking, overlap per region, components, classes,
calibration and the images of a report are all measured; making the random images is not. "end" is
the metrics from the sums. "arrays" is the most memory that arrays took at once in a row, those of
one random image included; "host" is the peak of the process so far, JAX and SciPy included.
"""

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

from absl import app, flags

from benchmarks import profile
from jaxad import command_line
from jaxad.errors import InputError

_IMAGES = flags.DEFINE_list("images", ["4", "8"], "Numbers of images, one row each per size.")
flags.DEFINE_list("sizes", ["256x512", "512x1024"], "Height x width.")

CLASSES = 19
SPLIT = 1203  # Images of the largest test split, LostAndFound.
_PATCH = 8  # Scores and classes are alike within patches of that side.


def main(_) -> None:
    with command_line.failures("the benchmark"):
        benchmark()


def benchmark() -> None:
    """Prints a row per size and number of images."""
    from benchmarks import machine

    if not all(count.isdigit() and int(count) for count in _IMAGES.value):
        raise InputError(f"--images={_IMAGES.value}; expected whole numbers above 0.")
    counts, sizes = sorted(map(int, _IMAGES.value)), profile.sizes()
    rows = [measured(count, size) for size in sizes for count in counts]
    about = {"benchmark": "pixel_metrics", "classes": CLASSES, **machine.description()}
    profile.show(rows, about, COLUMNS)


def measured(count: int, size: tuple[int, int]) -> dict[str, Any]:
    """One row of the table.

    Args:
        count: Images.
        size: Their height and width.
    """
    import numpy as np

    from benchmarks import machine
    from jaxad.data.split import Split
    from jaxad.evaluation import collecting, pixel_measures

    split = Split(
        names=[f"image{i}" for i in range(count)],
        labels=np.ones(count, np.int32),
        read=lambda place: {},
        fingerprint={},
        segment_classes=tuple(f"class{i}" for i in range(CLASSES)),
    )
    making = [0.0, 0.0]
    keeping = collecting.Keeping(threshold=2.0, overlays=4)
    tracemalloc.start()
    start = clocks()
    found = collecting.collect(split, images(count, size, making), keeping=keeping)
    seconds, busy = (b - a - m for a, b, m in zip(start, clocks(), making, strict=True))
    start = time.perf_counter()
    pixel_measures.evaluated(found.pixels)
    pixel_measures.bounds(found.pixels)
    end = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "size": "x".join(map(str, size)),
        "images": count,
        "image_s": seconds / count,
        "image_cpu_s": busy / count,
        "pixels_per_s": count * size[0] * size[1] / seconds,
        "end_s": end,
        "split_s": seconds / count * SPLIT + end,
        "array_peak_bytes": peak,
        "host_peak_bytes_so_far": machine.host_peak_bytes(),
    }


def images(count: int, size: tuple[int, int], making: list[float]) -> Iterator[tuple]:
    """Batches of one image, each made when it is asked for.

    Args:
        count: How many.
        size: Their height and width.
        making: Seconds, see `clocks`; grow by those that this takes.
    """
    for place in range(count):
        start = clocks()
        batch = image(place, size)
        for i, (a, b) in enumerate(zip(start, clocks(), strict=True)):
            making[i] += b - a
        yield batch


def clocks() -> tuple[float, float]:
    """Seconds of the wall, and of this process's work: the second hardly knows a busy machine."""
    return time.perf_counter(), time.process_time()


def image(place: int, size: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores and record of a random image: three anomalous boxes, a strip of void."""
    import numpy as np

    rng = np.random.default_rng(place)
    height, width = size

    def patches(values):
        return values.repeat(_PATCH, 0).repeat(_PATCH, 1)[:height, :width]

    grid = -(-height // _PATCH), -(-width // _PATCH)
    anomaly = np.zeros(size, np.uint8)
    for row, column in rng.integers(0, (height * 3 // 4, width * 3 // 4), (3, 2)):
        anomaly[row : row + height // 8, column : column + width // 8] = 1
    anomaly[-height // 16 :] = 255
    segments = patches(rng.integers(0, CLASSES, grid, np.uint8))
    scores = patches(rng.standard_normal(grid, np.float32))
    scores = scores + 0.1 * rng.standard_normal(size, np.float32) + 2.0 * (anomaly == 1)
    wrong = rng.random(size, np.float32) < 0.1
    maps = {
        "pixel": scores.astype(np.float32),
        "classes": np.where(wrong, 0, segments).astype(np.int32),
        "confidence": rng.random(size, np.float32),
    }
    segments = np.where(anomaly == 1, 254, np.where(anomaly == 255, 255, segments))
    record = {
        "anomaly": anomaly,
        "segments": segments.astype(np.uint8),
        "image": rng.integers(0, 256, (*size, 3), np.uint8),
    }
    whole = {"index": np.array(place), "valid": np.array(True)}
    scores, record = ({k: v[None] for k, v in each.items()} for each in ({**maps, **whole}, record))
    return scores, record


COLUMNS = (
    ("size", "size", "{}"),
    ("images", "images", "{:d}"),
    ("s/image", "image_s", "{:.3f}"),
    ("CPU s/image", "image_cpu_s", "{:.3f}"),
    ("Mpixel/s", "pixels_per_s", 1e6),
    ("end s", "end_s", "{:.2f}"),
    (f"s/{SPLIT} images", "split_s", "{:.0f}"),
    ("arrays MiB", "array_peak_bytes", 2**20),
    ("host MiB", "host_peak_bytes_so_far", 2**20),
)

if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
