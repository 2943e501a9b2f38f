"""What is saved comes back exactly, or an error says which checkpoint, leaf or disk is at fault."""

import contextlib
import re
import shutil
import subprocess
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.errors import CheckpointError, InputError
from jaxad.training import checkpoint, spmd

LARGE = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)  # 1 MiB of noise.


class Moments(NamedTuple):
    mu: jax.Array
    nu: jax.Array


def nested():
    return {
        "moments": Moments(jnp.arange(6.0).reshape(2, 3), jnp.full((2, 1), -0.5)),
        "step": jnp.int32(7),
        "half": jnp.array([1.5, -3.0, 1e-30], jnp.bfloat16),
        "flags": jnp.array([True, False]),
        "pair": (jnp.float32(np.nan), [jnp.uint8(255)]),
        "nothing": None,
    }


def like(tree):
    """The template of `restore` that asks for the shapes and dtypes of `tree`."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    return lambda meta: shapes


def assert_same(actual, expected):
    """Same structure, shapes, dtypes and bytes."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()


@pytest.fixture
def opened(tmp_path):
    """Opens the checkpoints of a folder; all are closed in the end."""
    made = []

    def make(folder=tmp_path / "train", **options):
        options = {"keep": 10, **options}
        made.append(checkpoint.Checkpoints(folder, tmp_path / "set_aside", **options))
        return made[-1]

    yield make
    for checkpoints in made:
        with contextlib.suppress(CheckpointError):  # Said already, where the test looked for it.
            checkpoints.close()


def saved(checkpoints, tree, *numbers, **meta):
    for number in numbers:
        checkpoints.save(number, tree, meta)
    checkpoints.wait()
    return checkpoints


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x01
    path.write_bytes(bytes(data))


# Round trips.


def test_nested_tree_comes_back_in_structure_type_and_bits(opened):
    checkpoints = saved(opened(), nested(), 3)
    assert_same(checkpoints.restore(3, like(nested())).tree, nested())


def test_another_process_reads_the_same(opened):
    saved(opened(), nested(), 3)
    assert_same(opened().restore_newest(like(nested())).tree, nested())


def test_leaf_without_entries_comes_back(opened):
    tree = {"empty": jnp.zeros((0, 3), jnp.bfloat16), "full": jnp.ones(2)}
    checkpoints = saved(opened(), tree, 1)
    assert_same(checkpoints.restore(1, like(tree)).tree, tree)


def test_meta_comes_back(opened):
    meta = {"position": {"phase": "train", "step": 40}, "rows": 2, "none": None}
    checkpoints = saved(opened(), nested(), 1, **meta)
    found = dict(checkpoints.restore(1, like(nested())).meta)
    assert {key: found[key] for key in meta} == meta


def test_replicated_state_comes_back(opened):
    state = spmd.Mapper().replicate(nested())
    checkpoints = saved(opened(), state, 1)
    assert_same(checkpoints.restore(1, like(nested())).tree, nested())


def test_no_checkpoint_is_none(opened):
    assert opened().restore_newest(like(nested())) is None


def test_number_on_disk_already_is_left_as_it_is(opened):
    checkpoints = saved(opened(), {"a": jnp.ones(2)}, 1)
    saved(checkpoints, {"a": jnp.zeros(2)}, 1)
    assert_same(checkpoints.restore(1, like({"a": jnp.ones(2)})).tree, {"a": np.ones(2, "f4")})


def test_buffers_may_be_donated_right_after_save(opened):
    mapper = spmd.Mapper()
    state = mapper.replicate({"a": jnp.array(LARGE)})
    overwrite = jax.jit(
        lambda tree: jax.tree.map(lambda leaf: 0 * leaf - 1, tree), donate_argnums=0
    )
    checkpoints = opened()
    checkpoints.save(1, state, {})
    after = jax.block_until_ready(overwrite(state))
    assert state["a"].is_deleted()
    checkpoints.wait()
    assert float(after["a"][0, 0]) == -1.0
    assert_same(checkpoints.restore(1, like(after)).tree, {"a": LARGE})


def test_two_leaves_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="same path"):
        checkpoint.named_leaves({"a": {"b": 1}, "a.b": 2})


# Another model.


@pytest.mark.parametrize(
    "change, message",
    [
        ({"w": jnp.ones((2, 3), jnp.bfloat16)}, r"w: expected \(\(2, 3\), 'bfloat16'\), found"),
        ({"w": jnp.ones((3, 2))}, r"w: expected \(\(3, 2\), 'float32'\), found \(\(2, 3\),"),
        ({"w": jnp.ones(6)}, r"w: expected \(\(6,\), 'float32'\), found \(\(2, 3\), 'float32'\)"),
        ({"v": jnp.ones(1)}, r"v: not in the checkpoint"),
        ({"b": None}, r"b: not in this model"),
    ],
)
def test_other_model_is_named_leaf_by_leaf(change, message, opened, tmp_path):
    tree = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    checkpoints = saved(opened(), tree, 4)
    with pytest.raises(InputError, match=message) as caught:
        checkpoints.restore_newest(like({**tree, **change}))
    assert str(tmp_path / "train" / "4") in str(caught.value)


def test_sound_checkpoint_of_another_model_is_not_set_aside(opened, tmp_path):
    checkpoints = saved(opened(), {"w": jnp.ones(2)}, 4)
    with pytest.raises(InputError):
        checkpoints.restore_newest(like({"w": jnp.ones(3)}))
    assert checkpoints.numbers() == [4]
    assert not (tmp_path / "set_aside").exists()


def test_long_list_of_differences_is_cut(opened):
    checkpoints = saved(opened(), {"w": jnp.ones(1)}, 1)
    many = {f"v{i:02}": jnp.ones(1) for i in range(13)}
    with pytest.raises(InputError, match=r"v09: not in the checkpoint \(and 4 more\)"):
        checkpoints.restore(1, like(many))  # 13 absent, and w that is too many.


# Damage.


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.999])
def test_flipped_bit_in_any_file_of_the_arrays_never_passes(share, opened, tmp_path):
    tree = {"large": jnp.array(LARGE), "small": jnp.arange(4.0), "half": jnp.ones(3, jnp.bfloat16)}
    saved(opened(), tree, 1)
    leaves = tmp_path / "train" / "1" / "leaves"
    files = sorted(p.relative_to(leaves) for p in leaves.rglob("*") if p.is_file())
    caught = set()
    for file in files:
        size = (leaves / file).stat().st_size
        if size == 0:
            continue
        copy = tmp_path / "copies" / str(file).replace("/", "_")
        shutil.copytree(tmp_path / "train", copy)
        flipped(copy / "1" / "leaves" / file, int(share * size))
        try:
            restored = opened(copy).restore(1, like(tree))
        except CheckpointError:
            caught.add(file)
        else:
            assert_same(restored.tree, tree)
        shutil.rmtree(copy)
    large = [file for file in files if (leaves / file).stat().st_size > LARGE.nbytes // 2]
    assert large  # The noise lies somewhere, and wherever it was hurt, it was noticed.
    assert caught.issuperset(large)


def test_flipped_bit_in_the_meta_never_passes(opened, tmp_path):
    meta = {"position": {"phase": "train", "step": 40}, "rows": 24}
    tree = {"w": jnp.ones(2)}
    saved(opened(), tree, 1, **meta)
    (file,) = (tmp_path / "train" / "1" / "meta").glob("metadata")
    whole, wrong = file.read_bytes(), []
    for place in range(0, len(whole), 2):
        flipped(file, place)
        try:
            found = dict(opened().restore(1, like(tree)).meta)
        except CheckpointError:
            pass
        except Exception as error:  # `restore_newest` would not fall back to an earlier one.
            wrong.append(f"{type(error).__name__}: {error}")
        else:
            if {key: found.get(key) for key in meta} != meta:
                wrong.append(file.read_bytes().decode(errors="replace"))
        file.write_bytes(whole)
    assert wrong == []


def test_damage_is_passed_over_and_set_aside(opened, tmp_path):
    tree = {"large": jnp.array(LARGE)}
    saved(opened(), tree, 1, 2)
    for path in (tmp_path / "train" / "2" / "leaves").rglob("d/*"):
        flipped(path, path.stat().st_size // 2)
    checkpoints = opened()
    assert checkpoints.restore_newest(like(tree)).number == 1
    assert checkpoints.numbers() == [1]
    assert [p.name for p in (tmp_path / "set_aside").iterdir()] == ["train-2"]


def test_number_set_aside_can_be_written_again(opened, tmp_path):
    tree = {"a": jnp.ones(2)}
    saved(opened(), tree, 1, 2)
    shutil.rmtree(tmp_path / "train" / "2" / "meta")
    checkpoints = opened()
    checkpoints.restore_newest(like(tree))
    saved(checkpoints, tree, 2)
    assert_same(opened().restore(2, like(tree)).tree, tree)


def test_if_none_is_good_nothing_is_moved(opened, tmp_path):
    tree = {"a": jnp.ones(2)}
    saved(opened(), tree, 1, 2)
    for number in (1, 2):
        shutil.rmtree(tmp_path / "train" / str(number) / "meta")
    checkpoints = opened()
    with pytest.raises(CheckpointError, match=r"None of the 2 checkpoints in .*train.*--fresh"):
        checkpoints.restore_newest(like(tree))
    assert checkpoints.numbers() == [1, 2]


@pytest.mark.parametrize("name", ["9.orbax-checkpoint-tmp", "9.orbax-checkpoint-tmp-17", "9.part"])
def test_leftovers_of_killed_saves_are_ignored(name, opened, tmp_path):
    tree = {"a": jnp.ones(2)}
    saved(opened(), tree, 1)
    shutil.copytree(tmp_path / "train" / "1", tmp_path / "train" / name)
    checkpoints = opened()
    assert checkpoints.numbers() == [1]
    assert checkpoints.restore_newest(like(tree)).number == 1
    saved(checkpoints, tree, 9)
    assert opened().restore_newest(like(tree)).number == 9


# What is kept.


def test_newest_are_kept(opened):
    checkpoints = saved(opened(keep=2), {"a": jnp.ones(2)}, 1, 4, 6, 10)
    assert checkpoints.numbers() == [6, 10]


def test_best_is_kept_besides(opened):
    checkpoints = saved(opened(keep=2, best=lambda: 4), {"a": jnp.ones(2)}, 1, 4, 6, 10, 12)
    assert checkpoints.numbers() == [4, 10, 12]


def test_best_that_is_no_longer_best_goes(opened):
    best = {"number": 1}
    checkpoints = opened(keep=1, best=lambda: best["number"])
    saved(checkpoints, {"a": jnp.ones(2)}, 1, 2, 3)
    best["number"] = 3
    saved(checkpoints, {"a": jnp.ones(2)}, 4)
    assert checkpoints.numbers() == [3, 4]


def test_numbers_are_sorted_as_numbers(opened):
    assert saved(opened(), {"a": jnp.ones(2)}, 8, 9, 10, 100).numbers() == [8, 9, 10, 100]


# Full disk.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def filled(disk):
    """A checkpoint of 1 MiB on the disk, and hardly any room beside it."""
    tree = {"large": jnp.array(LARGE)}
    checkpoints = checkpoint.Checkpoints(disk / "train", disk / "set_aside", keep=3)
    saved(checkpoints, tree, 1)
    (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - LARGE.nbytes // 2))
    return checkpoints, tree


def fail_to_save(checkpoints, tree):
    with pytest.raises(CheckpointError) as caught:
        saved(checkpoints, tree, 2)
    with contextlib.suppress(CheckpointError):
        checkpoints.close()
    return str(caught.value)


def test_full_disk_is_named_with_what_is_free(small_disk):
    message = fail_to_save(*filled(small_disk))
    assert str(small_disk / "train") in message
    free = int(re.search(r"([\d,]+) bytes free", message)[1].replace(",", ""))
    assert free < LARGE.nbytes


def test_full_disk_leaves_the_earlier_checkpoint_intact(small_disk, opened):
    checkpoints, tree = filled(small_disk)
    fail_to_save(checkpoints, tree)
    restored = opened(small_disk / "train").restore_newest(like(tree))
    assert restored.number == 1
    assert_same(restored.tree, tree)


def test_after_room_is_made_the_save_succeeds(small_disk, opened):
    checkpoints, tree = filled(small_disk)
    fail_to_save(checkpoints, tree)
    (small_disk / "ballast").unlink()
    checkpoints = saved(opened(small_disk / "train"), tree, 2)
    assert_same(checkpoints.restore(2, like(tree)).tree, tree)
