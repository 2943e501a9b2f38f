"""Says what a config's data set holds, and whether every record can be read.

    python -m jaxad.check_data --config=configs/rtfm.py
    python -m jaxad.check_data --config=configs/rtfm.py:ucf_crime --noread

Lists, headers and ground truth are checked as before a training run; reading every record besides
finds NaN, damaged files and label ids outside the class table, and for scenes tells the share of
each class and of anomalous pixels. Exit status 2 if anything is wrong.
"""

from absl import app, flags
from ml_collections import config_flags

from jaxad import command_line


def define_flags() -> None:
    """At the start of the command, so that importing this module defines none."""
    config_flags.DEFINE_config_file("config", None, "Config file, and preset after a colon.")
    flags.DEFINE_bool("read", True, "Read every record, not lists and headers alone.")


def main(_) -> None:
    config = command_line.config()
    from jaxad.data import sources
    from jaxad.evaluation import table

    with command_line.failures("the data"):
        options = dict(config.data.source.to_dict())
        opened = sources.open_splits(options.pop("name"), options)
        rows = [summary(name, split) for name, split in opened.items()]
        print(table.render(rows, list(rows[-1])))
        if flags.FLAGS.read:
            read_all(opened)


def read_all(opened) -> None:
    """Reads every record of the splits by name; prints that all are good, and what scenes hold."""
    from jaxad.data import feature_check, scene_check
    from jaxad.evaluation import table

    rows = []
    for name, split in opened.items():
        if split.time_axes:
            print(f"{name}: {feature_check.verify(split)} records read, all good")
            continue
        contents = scene_check.verify(split)
        print(f"{name}: {contents.records} records read, all good")
        if split.segment_classes is not None:
            rows.append({"% of pixels": name, **scene_check.shares(split, contents)})
        else:
            print(f"{name}: objects cover {contents.covered:.1%} of their canvas on average")
    if rows:
        print(table.render(rows, list(rows[0])))


def summary(name: str, split) -> dict[str, object]:
    """One line of the table: counts, lengths or sizes, and truth of a split."""
    if not split.time_axes:
        from jaxad.data import scene_check

        return scene_check.summary(name, split)
    anomalous = int(split.labels.sum())
    row: dict[str, object] = {
        "split": name,
        "records": len(split),
        "anomalous": anomalous,
        "normal": len(split) - anomalous,
        "lengths": "fixed",
        "anomalous frames": "unknown",
        "classes": ", ".join(sorted({c for c in split.classes or () if c})) or "unknown",
    }
    if split.lengths is not None:
        row["lengths"] = f"{min(split.lengths)} to {max(split.lengths)}"
    if split.frames is not None:
        positive = sum(int(truth.sum()) for truth in split.frames)
        row["anomalous frames"] = f"{positive:,} of {sum(map(len, split.frames)):,}"
    return row


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=command_line.parse)
