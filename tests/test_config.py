"""Defaults, config files, overrides on the command line, and what differs between two configs."""

import json
import pathlib

import ml_collections
import pytest

from jaxad import config as configs
from jaxad.errors import InputError
from jaxad.training import loop

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "configs").glob("*.py"))
PRESETS = [f"{file}:{name}" for file in FILES for name in configs.load_module(str(file)).PRESETS]
TABLES = [
    (file, name)
    for file in FILES
    if hasattr(configs.load_module(str(file)), "get_tables")
    for name in configs.load_module(str(file)).get_tables()
]

CONFIG = """
from jaxad import config as configs

def get_config(preset="small"):
    return configs.preset({"small": small, "large": lambda: small(9)}, preset)

def small(size=3):
    config = configs.defaults()
    config.method = dict(name="toy", size=size, hidden=(4, 2))
    return config
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(CONFIG)
    return str(path)


# Defaults and stages.


def test_locked_defaults_take_no_new_field():
    config = configs.defaults().lock()
    with pytest.raises(AttributeError, match="thread"):
        config.data.thread = 2


def test_locked_defaults_take_no_other_type():
    with pytest.raises(TypeError):
        configs.defaults().lock().data.threads = "many"


def test_interval_without_a_value_takes_an_integer():
    config = configs.defaults().lock()
    config.eval.every_steps = 5
    with pytest.raises(TypeError):
        config.eval.every_steps = 2.5


def test_defaults_are_not_shared():
    before = configs.defaults().data.threads
    configs.defaults().data.threads = before + 1
    assert configs.defaults().data.threads == before


def test_stage_can_be_told_its_length_later():
    config = configs.defaults()
    optimizer = dict(name="sgd", learning_rate=0.1)
    config.stages.train = configs.stage(batch_size=8, epochs=2, optimizer=optimizer)
    config.lock().stages.train.steps = 30
    assert (config.stages.train.steps, config.stages.train.epochs) == (30, 2)


@pytest.mark.parametrize(
    "steps, epochs, expected",
    [(30, None, 30), (0, None, 0), (None, 2, 14), (None, 0, 0), (None, None, None)],
)
def test_length_is_in_steps_or_in_epochs_of_seven(steps, epochs, expected):
    section = ml_collections.ConfigDict(
        configs.stage(batch_size=8, steps=steps, epochs=epochs, optimizer={})
    )
    assert loop.resolve_steps("stages.train", section.steps, section.epochs, 7) == expected


def test_length_in_both_units_is_refused():
    with pytest.raises(
        InputError, match=r"stages.train.steps=0 and stages.train.epochs=2 are both"
    ):
        loop.resolve_steps("stages.train", 0, 2, 7)


def test_part_of_an_epoch_is_rounded_up():
    assert loop.resolve_steps("f", None, 0.5, 7) == 4


@pytest.mark.parametrize(
    "steps, epochs, message",
    [
        (-1, None, r"stages.train.steps=-1; expected a number of at least 0"),
        (None, -2, r"stages.train.epochs=-2; expected"),
        (5, -2, r"stages.train.epochs=-2; expected"),
        (None, float("inf"), r"stages.train.epochs=inf; expected"),
        (None, float("nan"), r"stages.train.epochs=nan; expected"),
    ],
)
def test_duration_that_is_none_is_refused(steps, epochs, message):
    with pytest.raises(InputError, match=message):
        loop.resolve_steps("stages.train", steps, epochs, 7)


# Files.


def test_file_gives_its_default_preset(file):
    assert configs.load(file).method.size == 3


def test_preset_follows_a_colon(file):
    assert configs.load(f"{file}:large").method.size == 9


def test_unknown_preset_lists_those_known(file):
    with pytest.raises(InputError, match=r"Unknown preset 'huge'; expected .*'large', 'small'"):
        configs.load(f"{file}:huge")


@pytest.mark.parametrize("name", ["nothing.py", "", "notes.txt", "folder.py"])
def test_file_that_is_none_is_named(name, tmp_path):
    (tmp_path / "notes.txt").write_text(CONFIG)
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match=r"does not exist, or is not a Python file"):
        configs.load(str(tmp_path / name))


def test_file_without_get_config_is_named(tmp_path):
    (tmp_path / "other.py").write_text("x = 1")
    with pytest.raises(InputError, match=r"other.py has no function get_config"):
        configs.load(str(tmp_path / "other.py"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("import nothing_of_that_name", r"ModuleNotFoundError: .*nothing_of_that_name"),
        ("def get_config(:", r"SyntaxError"),
        ("1 / 0", r"ZeroDivisionError: division by zero"),
    ],
)
def test_file_that_fails_says_how(text, message, tmp_path):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(InputError, match=rf"bad.py cannot be run: {message}"):
        configs.load(str(tmp_path / "bad.py"))


# Overrides.


@pytest.mark.parametrize("form", [["--config={}"], ["--config", "{}"]], ids=["equals", "space"])
@pytest.mark.parametrize(
    "override, message",
    [
        (
            "--config.method.sise=1",
            r"config.method has no field 'sise'; .*'hidden', 'name', 'size'",
        ),
        ("--config.sed=1", r"config has no field 'sed'; expected .*'seed'"),
        ("--config.seed.x=1", r"config.seed has no field 'x'; expected one of \[\]"),
        ("--config.stages.train.steps=1", r"config.stages has no field 'train'; expected"),
    ],
)
def test_unknown_field_lists_its_siblings(form, override, message, file):
    arguments = ["main", *(part.format(file) for part in form), override]
    with pytest.raises(InputError, match=message):
        configs.check_overrides(arguments)


@pytest.mark.parametrize("form", [["--config={}"], ["--config", "{}"]], ids=["equals", "space"])
def test_unknown_preset_is_found_in_both_forms(form, file):
    with pytest.raises(InputError, match="Unknown preset 'huge'"):
        configs.check_overrides(["main", *(part.format(f"{file}:huge") for part in form)])


@pytest.mark.parametrize(
    "override",
    [
        ["--config.method.size=1"],
        ["--config.method.size", "1"],
        ["--config.eval.every_steps=3"],
        ["--config.data.on_error=a=b"],
        ["--workdir=x.y", "--configuration=1"],
    ],
)
def test_known_fields_pass(override, file):
    configs.check_overrides(["main", f"--config={file}", *override])


def test_without_a_config_nothing_is_checked():
    configs.check_overrides(["main", "--config.nothing=1"])


def test_changed_fields_are_returned(file):
    arguments = ["--config.method.size=1", "--workdir=x", "--config.seed", "3"]
    assert configs.check_overrides([f"--config={file}", *arguments]) == ["method.size", "seed"]


def lengths(steps=None, epochs=None, **fields):
    """Steps, epochs and interval fields after an override."""
    config = configs.defaults()
    config.stages.train = configs.stage(batch_size=8, steps=steps, epochs=epochs, optimizer={})
    config.eval.every_epochs = 5
    config.lock()
    configs.override(config, {name.replace("__", "."): value for name, value in fields.items()})
    return config.stages.train.steps, config.stages.train.epochs, config.eval.every_epochs


def test_length_in_steps_clears_that_in_epochs():
    assert lengths(epochs=2, stages__train__steps=30) == (30, None, 5)


def test_length_in_epochs_clears_that_in_steps():
    assert lengths(steps=30, stages__train__epochs=2) == (None, 2, 5)


def test_lengths_in_both_units_are_both_kept():
    given = dict(stages__train__steps=30, stages__train__epochs=2)
    assert lengths(**given) == (30, 2, 5)  # For `resolve_steps` to refuse.


def test_interval_in_steps_clears_that_in_epochs():
    assert lengths(eval__every_steps=3) == (None, None, None)


def test_other_override_leaves_lengths_alone():
    assert lengths(epochs=2, stages__train__batch_size=4) == (None, 2, 5)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stages__train__step": 3}, r"config.stages.train has no field 'step'; .*'steps'"),
        ({"sed": 3}, r"config has no field 'sed'; expected one of .*'seed'"),
        ({"stage__train__steps": 3}, r"config has no section 'stage.train'"),
        ({"data__threads": "many"}, r"config.data.threads='many': "),
    ],
)
def test_override_that_does_not_fit_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        lengths(**fields)


def test_overridden_config_stays_locked():
    config = configs.defaults().lock()
    configs.override(config, {"seed": 1})
    assert config.is_locked


# Flattening and comparison.


def test_fields_are_flattened_by_dotted_name_in_order():
    nested = {"b": {"d": 1, "c": {"e": "x"}}, "a": None}
    assert list(configs.flatten(nested).items()) == [("b.d", 1), ("b.c.e", "x"), ("a", None)]


def test_tuple_flattens_to_the_list_that_json_makes_of_it():
    assert configs.flatten({"hidden": (4, 2)}) == {"hidden": [4, 2]}


def test_equal_configs_do_not_differ():
    assert configs.difference({"a": {"b": (1, 2)}}, {"a": {"b": [1, 2]}}) == []


def test_tuples_of_tuples_do_not_differ_from_lists_of_lists():
    old = {"widths": ((1, 2), (3,))}
    assert configs.difference(json.loads(json.dumps(old)), old) == []


def test_changed_added_and_removed_fields_are_named():
    old = {"a": {"b": 1, "c": None}, "z": 0}
    new = {"a": {"b": 2, "d": "x"}, "z": 0}
    lines = [line.replace("'absent'", "absent") for line in configs.difference(old, new)]
    assert lines == ["a.b: 1 -> 2", "a.c: None -> absent", "a.d: absent -> 'x'"]


def test_field_of_the_value_absent_differs_from_no_field():
    assert len(configs.difference({"mode": "absent"}, {})) == 1


# The config files of the repository.


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: pathlib.Path(p).name)
def test_preset_is_the_same_after_json(preset):
    config = configs.load(preset).to_dict()
    assert configs.difference(json.loads(json.dumps(config)), config) == []


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: pathlib.Path(p).name)
def test_preset_has_all_sections_and_no_others(preset):
    expected = {*configs.defaults(), "method"}
    assert set(configs.load(preset)) == expected


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: pathlib.Path(p).name)
def test_preset_says_how_long_its_stages_last(preset):
    for name, stage in configs.load(preset).stages.items():
        assert loop.resolve_steps(name, stage.steps, stage.epochs, 100) is not None


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_file_without_a_preset_is_its_digits(file):
    config, digits = configs.load(str(file)), configs.load(f"{file}:digits")
    assert configs.difference(config.to_dict(), digits.to_dict()) == []


@pytest.mark.parametrize("file, table", TABLES, ids=str)
def test_rows_of_tables_change_fields_that_exist(file, table):
    rows = configs.load_module(str(file)).get_tables()[table]["rows"]
    for preset, changes, *_ in rows.values():
        overrides = [f"--config.{name}={value}" for name, value in changes.items()]
        configs.check_overrides([f"--config={ROOT}/configs/{preset}", *overrides])


@pytest.mark.parametrize("file, table", TABLES, ids=str)
def test_rows_that_score_other_runs_come_after_them(file, table):
    rows = configs.load_module(str(file)).get_tables()[table]["rows"]
    for place, (preset, _, *others) in enumerate(rows.values()):
        assert set(others) <= set(list(rows)[:place])
        has_runs = "runs" in configs.load(f"{ROOT}/configs/{preset}").method
        assert has_runs == bool(others)
