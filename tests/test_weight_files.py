import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from trainer.weight_files import (
    WeightFileError,
    read_checkpoint,
    read_safetensors,
    write_safetensors,
)

SHAPES = arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
ARRAYS = st.dictionaries(
    st.sampled_from(["W1", "b1", "scale", "a name"]),
    st.sampled_from(["float32", "float64"]).flatmap(lambda d: arrays.arrays(d, SHAPES)),
)
SETTINGS = st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none())


@given(given_arrays=ARRAYS, facts=SETTINGS, transposed=st.booleans())
def test_round_trip_is_exact(tmp_path_factory, given_arrays, facts, transposed):
    path = tmp_path_factory.getbasetemp() / "weights"
    if transposed:
        given_arrays = {name: a.T for name, a in given_arrays.items()}
    write_safetensors(path, given_arrays, facts)
    read_arrays, read_settings = read_safetensors(path)
    assert read_settings == facts
    assert read_arrays.keys() == given_arrays.keys()
    for name, a in given_arrays.items():
        assert read_arrays[name].dtype == a.dtype
        np.testing.assert_array_equal(read_arrays[name], a, strict=True)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_anywhere_is_noticed(tmp_path_factory, place, bit):
    path = tmp_path_factory.getbasetemp() / "checkpoint"
    write_safetensors(path, {"W1": np.arange(24.0).reshape(4, 6)}, {"sizes": [4, 6]}, {"epoch": 3})
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(WeightFileError) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_a_networks_file_too(tmp_path):
    path, arrays = tmp_path / "checkpoint", {"W1": np.ones((2, 3))}
    write_safetensors(path, arrays, {"sizes": [2, 3]}, {"order": {"state": 2**127}})
    read_arrays, network, state = read_checkpoint(path)
    np.testing.assert_array_equal(read_arrays["W1"], arrays["W1"])
    assert (network, state) == ({"sizes": [2, 3]}, {"order": {"state": 2**127}})
    assert read_safetensors(path)[1] == network
    write_safetensors(path, arrays, {"sizes": [2, 3]})
    with pytest.raises(WeightFileError, match="weights alone; expected a checkpoint"):
        read_checkpoint(path)


def test_weights_from_before_there_were_sums_are_read(tmp_path):
    save_file({"W1": np.ones(3)}, tmp_path / "w", metadata={"xptrainer": "{}"})
    np.testing.assert_array_equal(read_safetensors(tmp_path / "w")[0]["W1"], np.ones(3))


def test_error_is_a_value_error_that_names_the_file(tmp_path):
    with pytest.raises(WeightFileError, match="nothing: no such file"):
        read_safetensors(tmp_path / "nothing")
    assert issubclass(WeightFileError, ValueError)
