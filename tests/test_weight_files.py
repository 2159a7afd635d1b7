import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainer.weight_files import WeightFileError, read_safetensors, write_safetensors

SHAPES = arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
ARRAYS = st.dictionaries(
    st.sampled_from(["W1", "b1", "scale", "a name"]),
    st.sampled_from(["float32", "float64"]).flatmap(lambda d: arrays.arrays(d, SHAPES)),
)
SETTINGS = st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none())


@given(given_arrays=ARRAYS, settings=SETTINGS, transposed=st.booleans())
def test_round_trip_is_exact(tmp_path_factory, given_arrays, settings, transposed):
    path = tmp_path_factory.getbasetemp() / "weights"
    if transposed:
        given_arrays = {name: a.T for name, a in given_arrays.items()}
    write_safetensors(path, given_arrays, settings)
    read_arrays, read_settings = read_safetensors(path)
    assert read_settings == settings
    assert read_arrays.keys() == given_arrays.keys()
    for name, a in given_arrays.items():
        assert read_arrays[name].dtype == a.dtype
        np.testing.assert_array_equal(read_arrays[name], a, strict=True)


def test_error_is_a_value_error_that_names_the_file(tmp_path):
    with pytest.raises(WeightFileError, match="nothing: no such file"):
        read_safetensors(tmp_path / "nothing")
    assert issubclass(WeightFileError, ValueError)
