"""Says what a config's data set holds, and whether every record can be read.

    python -m jaxad.check_data --config=configs/rtfm.py
    python -m jaxad.check_data --config=configs/rtfm.py:ucf_crime --noread

Lists, headers and ground truth are checked as before a training run; reading every record besides
finds NaN and damaged files. Exit status 2 if anything is wrong.
"""

from absl import app, flags
from ml_collections import config_flags

from jaxad import command_line

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, and preset after a colon.")
_READ = flags.DEFINE_bool("read", True, "Read every record, not lists and headers alone.")


def main(_) -> None:
    if _CONFIG.value is None:
        command_line.fail("--config is missing; for example --config=configs/rtfm.py.")
    from jaxad.data import feature_check, sources
    from jaxad.evaluation import table

    with command_line.failures("the data"):
        options = dict(_CONFIG.value.data.source.to_dict())
        opened = sources.open_splits(options.pop("name"), options)
        rows = [summary(name, split) for name, split in opened.items()]
        print(table.render(rows, list(rows[-1])))
        if _READ.value:
            for name, split in opened.items():
                print(f"{name}: {feature_check.verify(split)} records read, all good")


def summary(name: str, split) -> dict[str, object]:
    """One line of the table: counts, lengths and truth of a split."""
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
    app.run(main, flags_parser=command_line.parse)
