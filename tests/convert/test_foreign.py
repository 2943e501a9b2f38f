import builtins
import pathlib

import numpy as np
import pytest

from jaxad.convert import foreign
from jaxad.errors import InputError

ARRAYS = {"fc.weight": np.arange(6.0).reshape(2, 3), "fc.bias": np.ones(2, np.float32)}


def assert_same(actual, expected=ARRAYS):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name])


def test_reads_npz_and_strips_data_parallel_names(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    np.savez(tmp_path / "b.npz", **{f"module.{name}": a for name, a in ARRAYS.items()})
    assert_same(foreign.read(tmp_path / "a.npz"))
    assert_same(foreign.read(str(tmp_path / "b.npz")))


def test_names_are_kept_if_only_some_begin_like_those_of_data_parallel(tmp_path):
    np.savez(tmp_path / "a.npz", **{"module.a": np.ones(1), "b": np.ones(1)})
    assert set(foreign.read(tmp_path / "a.npz")) == {"module.a", "b"}


def test_reads_safetensors(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(ARRAYS, tmp_path / "a.safetensors")
    assert_same(foreign.read(tmp_path / "a.safetensors"))


def test_a_damaged_safetensors_file_is_named(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"not one")
    with pytest.raises(InputError, match=r"a\.safetensors: expected a \.safetensors file"):
        foreign.read(path)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"epoch": 3, "state_dict": x}])
def test_reads_torch_files(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    tensors = {f"module.{name}": torch.tensor(a) for name, a in ARRAYS.items()}
    torch.save(wrap(tensors), tmp_path / "a.pkl")
    assert_same(foreign.read(tmp_path / "a.pkl"))


def test_torch_files_run_no_code(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"x": pathlib.Path("code")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: expected tensors saved by PyTorch"):
        foreign.read(tmp_path / "a.pth")


@pytest.mark.parametrize("suffix, extra", [("pth", "torch"), ("safetensors", "safetensors")])
def test_a_missing_extra_is_named_with_the_way_out(tmp_path, monkeypatch, suffix, extra):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"")
    real = builtins.__import__

    def no_extra(name, *args, **kwargs):
        if name.split(".")[0] == extra:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_extra)
    with pytest.raises(InputError, match=rf"a\.{suffix}: .*package {extra}.*jaxad\[{extra}\].*npz"):
        foreign.read(path)


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz: expected a checkpoint file, found none"):
        foreign.read(tmp_path / "none.npz")
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.onnx: expected a file \.npz, .*found '\.onnx'"):
        foreign.read(tmp_path / "a.onnx")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(InputError, match=r"empty\.npz: expected named arrays, found none"):
        foreign.read(tmp_path / "empty.npz")
    for content in (b"", b"not one", b"PK\x03\x04 cut short"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.npz: expected an \.npz file"):
            foreign.read(tmp_path / "bad.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"objects\.npz: expected an \.npz file"):
        foreign.read(tmp_path / "objects.npz")


def test_match_returns_what_is_expected_and_drops_what_is_ignored():
    given = ARRAYS | {"bn.num_batches_tracked": np.zeros(())}
    shapes = {name: a.shape for name, a in ARRAYS.items()}
    assert_same(foreign.match(given, shapes, ignore=("num_batches_tracked",)))
    assert_same(foreign.match(ARRAYS, shapes))


def test_match_reports_everything_at_once():
    given = {"a": np.ones((2, 3)), "extra": np.ones(1)}
    with pytest.raises(InputError) as error:
        foreign.match(given, {"a": (3, 2), "b": (1,), "c": (2,)})
    text = str(error.value)
    assert "2 missing: b, c" in text
    assert "1 unexpected: extra" in text
    assert "1 of another shape: a (expected (3, 2), found (2, 3))" in text


def test_long_lists_are_cut():
    with pytest.raises(InputError, match=r"25 missing: .*n19 and 5 more"):
        foreign.match({}, {f"n{i}": (1,) for i in range(25)})
