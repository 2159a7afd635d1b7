"""Arrays of other libraries: the numbers are theirs, and the memory where it can be."""

import numpy as np
import polars as pl
import pytest

from backends import select
from trainer import MLP, fit

pytestmark = pytest.mark.filterwarnings("error")

VALUES = np.random.default_rng(0).random((12, 4), np.float32)
LABELS = np.arange(12) % 3


class Exported:
    """An array of a library that knows DLPack alone."""

    def __init__(self, a):
        self._a, self.shape = a, a.shape

    def __dlpack__(self, **options):
        return self._a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._a.__dlpack_device__()


class OnCuda:
    """An array on a CUDA device, of a library that has no way to the host."""

    @property
    def __cuda_array_interface__(self):
        return {"version": 3}


@pytest.fixture(scope="module")
def cpu():
    return select("cpu")


class TestOnTheHost:
    def test_arrays_of_the_standard_share_their_memory(self, cpu):
        strict = pytest.importorskip("array_api_strict")
        theirs = strict.asarray(VALUES)
        assert np.shares_memory(cpu.asarray(theirs), np.asarray(theirs))

    def test_what_exports_dlpack_shares_its_memory(self, cpu):
        assert np.shares_memory(cpu.asarray(Exported(VALUES)), VALUES)

    def test_read_only_memory_is_shared(self, cpu):
        fixed = VALUES.copy()
        fixed.flags.writeable = False
        found = cpu.asarray(Exported(fixed))
        assert np.shares_memory(found, fixed)
        assert not found.flags.writeable

    def test_a_series_shares_its_memory(self, cpu):
        column = pl.Series(VALUES[:, 0].copy())
        assert np.shares_memory(cpu.asarray(column), column.to_numpy())

    def test_columns_of_several_kinds_are_numbers(self, cpu):
        frame = pl.DataFrame({"a": [1, 2], "b": [0.5, None], "c": [True, None]})
        np.testing.assert_array_equal(cpu.asarray(frame), [[1, 0.5, 1], [2, np.nan, np.nan]])
        money = pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Decimal(10, 2)})
        np.testing.assert_array_equal(cpu.asarray(money), [[1.0], [2.0]])

    def test_pandas_columns_with_gaps_are_numbers(self, cpu):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [True, False]})
        np.testing.assert_array_equal(cpu.asarray(frame), [[1.0, 1.0], [np.nan, 0.0]])
        with pytest.raises(TypeError, match="column 'words' holds no real numbers"):
            cpu.asarray(pd.DataFrame({"a": [1], "words": ["x"]}))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (pl.DataFrame({"a": [1], "words": ["x"]}), "column 'words' holds no real numbers"),
            (pl.LazyFrame({"a": [1]}), "got polars's LazyFrame"),
            (None, "got NoneType"),
            ("text", "got dtype <U4"),
            ([[1], [1, 2]], "list is not readable as an array of numbers"),
            (OnCuda(), "OnCuda is on a GPU: expected an array of the host"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_is_no_array_of_numbers_is_named(self, cpu, given, message):
        with pytest.raises(TypeError, match=message) as found:
            cpu.asarray(given)
        assert "\n" not in str(found.value)

    def test_training_takes_them(self, backend):
        strict = pytest.importorskip("array_api_strict")
        kinds = strict.asarray, Exported, lambda a: pl.DataFrame(a) if a.ndim == 2 else pl.Series(a)
        weights = []
        for kind in (np.asarray, *kinds):
            model = MLP([4, 3, 3], backend=backend, scale=1.0, shift=0.0)
            x, y = kind(VALUES), kind(LABELS)
            weight = kind(np.ones(12, np.float32))
            for _ in fit(model, x, y, epochs=1, batch_size=4, test=(x, y), sample_weight=weight):
                pass
            weights.append(model.get_weights())
            assert model.loss(x, y) > 0
        for found in weights[1:]:
            for a, wanted in zip(found, weights[0], strict=True):
                np.testing.assert_array_equal(a, wanted)


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def test_tensors_share_their_memory(self, cpu, torch):
        tensor = torch.rand(3, 4)
        assert np.shares_memory(cpu.asarray(tensor), tensor.numpy())

    def test_those_with_a_gradient_are_taken_without(self, cpu, torch):
        tensor = torch.rand(3, 4, requires_grad=True)
        assert np.shares_memory(cpu.asarray(tensor), tensor.detach().numpy())

    def test_bfloat16_is_float32(self, cpu, torch):
        found = cpu.asarray(torch.tensor([0.5, -3.0], dtype=torch.bfloat16))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [0.5, -3.0])

    def test_sparse_ones_are_named(self, cpu, torch):
        with pytest.raises(TypeError, match="torch's Tensor is not readable"):
            cpu.asarray(torch.eye(3).to_sparse())


@pytest.mark.gpu
class TestOnAGpu:
    def test_what_exports_dlpack_shares_its_memory(self, gpu_backend):
        theirs = gpu_backend.asarray(VALUES)
        found = gpu_backend.asarray(Exported(theirs))
        assert found.data.ptr == theirs.data.ptr
        assert gpu_backend.place_samples(Exported(theirs)).data.ptr == theirs.data.ptr

    def test_the_cuda_array_interface_shares_its_memory(self, gpu_backend):
        theirs = gpu_backend.asarray(VALUES)

        class Interface:
            __cuda_array_interface__ = theirs.__cuda_array_interface__

        assert gpu_backend.asarray(Interface()).data.ptr == theirs.data.ptr

    def test_the_cpu_takes_cupys(self, gpu_backend, cpu):
        found = cpu.asarray(gpu_backend.asarray(VALUES))
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, VALUES)

    def test_a_cuda_tensor_shares_its_memory(self, gpu_backend):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch is not built for this GPU")
        tensor = torch.ones(3, 4, device="cuda", requires_grad=True)
        assert gpu_backend.asarray(tensor).data.ptr == tensor.data_ptr()
        assert select("cpu").asarray(tensor).sum() == 12
