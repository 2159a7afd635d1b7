"""A CuPy without a GPU: NumPy's arithmetic, kernels on the host, and a device that keeps account.

`fake_cupy` makes the module, `install` puts it where ``import cupy`` finds it. Its `machine` says
what the code under test did (launches, allocations, synchronisations, graphs) and can be told to
run out of memory.

All work is done at once and in the order of the calls, whatever its stream; a graph replays what
was launched while its stream captured. What real CuPy, cuBLAS and streams do beyond that is shown
by the tests marked gpu, which want real CuPy.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial, wraps
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided

from .host_module import (
    LARGEST_SHARED,
    CompileError,
    HostModule,
    Launch,
    LaunchError,
)

# what waits to learn the shape of its result
_WAITING = {"nonzero", "flatnonzero", "argwhere", "unique", "unique_values"}


class CUDARuntimeError(RuntimeError):
    """The runtime refused; the message begins with CUDA's name for the error."""


class CUBLASError(RuntimeError):
    """cuBLAS refused; the message is its name for the status."""


class OutOfMemoryError(MemoryError):
    """The device has no memory left."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes)."
        )


def address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def owner_of(array: np.ndarray) -> np.ndarray:
    """The array whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# --- the machine ------------------------------------------------------------------------


class LaunchRecord(NamedTuple):
    """A launch that the host asked for; a captured one ran only where a graph replayed it."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_mem: int
    stream: int
    captured: bool


class Machine:
    """What the fake device holds and what it has done.

    Attributes
    ----------
    memory : int
        Its bytes; an allocation beyond them raises OutOfMemoryError.
    used, held : int
        Bytes of the live arrays, and of CuPy's pool, which gives none back unasked.
    order : str or None
        As for `Launch.run`.
    launches : list of LaunchRecord
    ran : Counter
        What the device has done, by the names of kernels and functions; replays count.
    counts : Counter
        "allocations", "synchronizations", "uploads", "downloads", "captures", "graph_launches",
        of the thread that made the machine; of other threads with "other " before.
    uploaded : int
        The bytes of all uploads.
    before_launch : list of callables
        Each is given every Launch just before it runs.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.used = self.held = 0
        self.order: str | None = None
        self.launches: list[LaunchRecord] = []
        self.ran: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.uploaded = 0
        self.before_launch: list[Callable[[Launch], object]] = []
        self.streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self._thread = threading.get_ident()
        self._of_thread = threading.local()
        self._owners: dict[int, tuple[int, int, weakref.ref[np.ndarray]]] = {}
        self.array_type = type("ndarray", (DeviceArray,), {"machine": self})
        self.stream_type = type("Stream", (Stream,), {"machine": self})
        self.stream_type.null = self.stream_type(null=True)

    @property
    def current(self) -> Stream:
        """The calling thread's stream."""
        return getattr(self._of_thread, "stream", self.stream_type.null)

    @current.setter
    def current(self, stream: Stream) -> None:
        self._of_thread.stream = stream

    @property
    def captured(self) -> list[Callable[[], object]] | None:
        """What the calling thread has launched since its stream began to capture."""
        return getattr(self._of_thread, "captured", None)

    @captured.setter
    def captured(self, work: list[Callable[[], object]] | None) -> None:
        self._of_thread.captured = work

    def count(self, what: str) -> None:
        own = threading.get_ident() == self._thread
        self.counts[what if own else f"other {what}"] += 1

    def count_upload(self, host: np.ndarray) -> None:
        self.count("uploads")
        self.uploaded += host.nbytes

    def forget(self) -> None:
        """Start to count afresh; what is allocated stays."""
        self.launches.clear()
        self.ran.clear()
        self.counts.clear()
        self.uploaded = 0

    # --- memory

    def claim(self, size: int) -> None:
        """Refuse what the device would refuse, before it is there."""
        if size and self.captured is not None:
            raise AssertionError(f"an allocation of {size:,} bytes while a stream captures")
        if self.used + size > self.memory:
            raise OutOfMemoryError(size, self.used)

    def adopt(self, result: Any) -> Any:
        """Make NumPy's results device arrays, and allocations of memory not seen before."""
        if isinstance(result, (tuple, list)):
            return type(result)([self.adopt(each) for each in result])
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        array = np.asarray(result)
        owner = owner_of(array)
        if id(owner) not in self._owners:
            size = owner.nbytes
            self.claim(size)
            if size:
                self.count("allocations")
            self.used += size
            self.held = max(self.held, self.used)
            self._owners[id(owner)] = (address_of(owner), size, weakref.ref(owner))
            weakref.finalize(owner, self._free, id(owner), size).atexit = False
        return self.array_type(array)

    def _free(self, key: int, size: int) -> None:
        del self._owners[key]
        self.used -= size

    def free_all_blocks(self) -> None:
        self.held = self.used

    def allocations(self) -> list[np.ndarray]:
        """All live memory."""
        there = [owner() for _, _, owner in list(self._owners.values())]
        return [owner for owner in there if owner is not None]

    def find(self, address: int) -> np.ndarray | None:
        """The allocation that an address lies in."""
        for start, size, owner in list(self._owners.values()):
            if 0 <= address - start < max(size, 1):
                return owner()
        return None

    # --- work

    def do(self, name: str, run: Callable[[], object], touches: Iterable[np.ndarray] = ()) -> None:
        """Do device work, or record it while a stream captures.

        `touches` is what must still be there then: a graph keeps no array alive.
        """
        owners = [weakref.ref(owner_of(array)) for array in touches]

        def work() -> None:
            if any(owner() is None for owner in owners):
                raise LaunchError(f"a graph replays {name} on an array that has been freed")
            self.ran[name] += 1
            run()

        if self.captured is None:
            work()
        else:
            self.captured.append(work)

    def submit(self, launch: Launch) -> None:
        """Do a launch or record it."""
        sizes = (launch.grid, launch.block, launch.shared_mem)
        name = launch.kernel.name
        capturing = self.captured is not None
        self.launches.append(LaunchRecord(name, *sizes, self.current.ptr, capturing))

        def run() -> None:
            for look in self.before_launch:
                look(launch)
            launch.run(self.order)

        touches = tuple(launch.arrays)
        if capturing:
            launch.arrays.clear()
        self.do(name, run, touches=touches)

    def synchronize(self) -> None:
        """Count a wait of the host."""
        if self.captured is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: a stream captures")
        self.count("synchronizations")

    def download(self, array: DeviceArray) -> np.ndarray:
        """Wait, and give a host copy."""
        self.synchronize()
        self.count("downloads")
        return np.array(array.plain)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of NumPy's on device arrays."""
        originals: dict[int, Any] = {}
        args, kwargs = self.plain_all((args, kwargs), originals)
        out = kwargs.get("out")
        if out is not None:
            self.do(name, partial(function, *args, **kwargs))
            return originals[id(out[0] if isinstance(out, tuple) else out)]
        if name in _WAITING:
            self.synchronize()
        result = function(*args, **kwargs)
        if id(result) in originals:
            return originals[id(result)]
        adopted = self.adopt(result)
        if adopted is not result:
            self.ran[name] += 1
        return adopted

    def plain_all(self, value: Any, originals: dict[int, Any]) -> Any:
        """Replace device arrays by NumPy's, from which `originals` leads back."""
        if isinstance(value, DeviceArray):
            originals[id(value.plain)] = value
            return value.plain
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}")
        if isinstance(value, (tuple, list)):
            return type(value)([self.plain_all(each, originals) for each in value])
        if isinstance(value, dict):
            return {key: self.plain_all(each, originals) for key, each in value.items()}
        return value


# --- arrays -----------------------------------------------------------------------------


class DeviceArray(NDArrayOperatorsMixin):
    """`cupy.ndarray`; each fake has a subclass of its own.

    As on a device, and unlike a subclass of NumPy's, it is no array of the host: nothing turns it
    into one but `get` and what counts as a synchronisation.
    """

    machine: Machine
    __array_priority__ = 100

    def __init__(self, plain: np.ndarray) -> None:
        self.plain = plain

    def __getattr__(self, name: str) -> Any:
        if name in _ATTRIBUTES:
            return getattr(self.plain, name)
        raise AttributeError(f"the fake's arrays have no {name!r}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = getattr(ufunc, method)
        if method == "at":
            inputs = self.machine.plain_all(inputs, {})
            return self.machine.do(ufunc.__name__, partial(function, *inputs, **kwargs))
        return self.machine.call(ufunc.__name__, function, *inputs, **kwargs)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=address_of(self.plain))

    @property
    def device(self) -> Any:
        return self.machine.device

    @property
    def T(self) -> DeviceArray:
        return self.machine.adopt(self.plain.T)

    @property
    def mT(self) -> DeviceArray:
        return self.machine.adopt(self.plain.mT)

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: Any = 1) -> Any:
        host = np.asarray(self.machine.download(self), order=order)
        if out is None:
            return host
        out[...] = host
        return out

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        if arr.shape != self.shape or arr.dtype != self.dtype:
            raise ValueError(f"{arr.dtype} {arr.shape} for a {self.dtype} {self.shape}")
        self.machine.count_upload(arr)
        self.machine.do("upload", partial(np.copyto, self.plain, arr))

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(each, DeviceArray) and each.dtype == bool for each in keys):
            self.machine.synchronize()  # how many are True is the shape
        # with an ellipsis one element is an array without dimensions, as on a device
        keys = keys if any(each is Ellipsis for each in keys) else (*keys, Ellipsis)
        return self.machine.adopt(self.plain[self.machine.plain_all(keys, {})])

    def __setitem__(self, key: Any, value: Any) -> None:
        key = self.machine.plain_all(key, {})
        if isinstance(value, DeviceArray):
            value = value.plain
        elif isinstance(value, np.ndarray):
            self.machine.count_upload(value)
        self.machine.do("copy", partial(self.plain.__setitem__, key, value))

    def fill(self, value: Any) -> None:
        self[...] = value

    def item(self, *args: Any) -> Any:
        return self.machine.download(self).item(*args)

    def tolist(self) -> Any:
        return self.machine.download(self).tolist()

    def __len__(self) -> int:
        return len(self.plain)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return repr(self.machine.download(self))

    def __str__(self) -> str:
        return str(self.machine.download(self))

    def __format__(self, spec: str) -> str:
        return format(self.machine.download(self)[()], spec)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self.item().__index__()

    def __bool__(self) -> bool:
        return bool(self.machine.download(self))


_ATTRIBUTES = {"dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides"}


def _method(name: str) -> Callable[..., Any]:
    function = getattr(np.ndarray, name)

    @wraps(function)
    def method(self: DeviceArray, *args: Any, **kwargs: Any) -> Any:
        return self.machine.call(name, function, self, *args, **kwargs)

    return method


_METHODS = """
    all any argmax argmin argsort astype clip copy cumsum diagonal dot flatten max mean min nonzero
    prod ravel repeat reshape round squeeze std sum swapaxes take trace transpose var view
"""
for _name in _METHODS.split():
    setattr(DeviceArray, _name, _method(_name))


# --- streams ----------------------------------------------------------------------------


class Stream:
    """`cupy.cuda.Stream`."""

    machine: Machine
    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = 0 if null else id(self)
        self._before: list[Stream] = []
        self.machine.streams.setdefault(self.ptr, self)

    def __enter__(self) -> Stream:
        self._before.append(self.machine.current)
        self.machine.current = self
        return self

    def __exit__(self, *_: Any) -> None:
        self.machine.current = self._before.pop()

    def synchronize(self) -> None:
        self.machine.synchronize()

    def wait_event(self, event: Event) -> None:
        """Do nothing: all work is done at once."""

    def begin_capture(self) -> None:
        assert self.ptr, "CUDA captures nothing on the default stream"
        self.machine.captured = []

    def end_capture(self) -> Graph:
        work, self.machine.captured = self.machine.captured, None
        assert work is not None
        self.machine.count("captures")
        return Graph(self.machine, work)


class Event:
    """`cupy.cuda.Event`."""

    def __init__(self, disable_timing: bool = False) -> None:
        pass

    def record(self, stream: Stream) -> None:
        """Do nothing: all work is done at once."""


class Graph:
    """`cupy.cuda.Graph`."""

    def __init__(self, machine: Machine, work: list[Callable[[], object]]) -> None:
        self.machine = machine
        self.work = work

    def launch(self) -> None:
        self.machine.count("graph_launches")
        for each in self.work:
            each()


# --- cuBLAS -----------------------------------------------------------------------------

_REALS = {0: np.float32, 1: np.float64}  # CUDA_R_32F, CUDA_R_64F
_COMPUTE = {  # CUBLAS_COMPUTE_…; the fast ones round here no more than the others
    "32F": 68,
    "64F": 70,
    "32F_FAST_16F": 74,
    "32F_FAST_16BF": 75,
    "32F_FAST_TF32": 77,
}


class Cublas(SimpleNamespace):
    """`cupy.cuda.cublas`, and the library below it: `cublasGemmEx`, `cublasSetWorkspace_v2`."""

    CUBLASError = CUBLASError
    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
    CUBLAS_POINTER_MODE_HOST, CUBLAS_POINTER_MODE_DEVICE = 0, 1

    def __init__(self, machine: Machine) -> None:
        super().__init__(**{f"CUBLAS_COMPUTE_{name}": code for name, code in _COMPUTE.items()})
        self._machine = machine
        self._handles: dict[int, SimpleNamespace] = {}

    def create(self) -> int:
        handle = SimpleNamespace(pointers=self.CUBLAS_POINTER_MODE_HOST)
        self._handles[id(handle)] = handle
        return id(handle)

    def destroy(self, handle: int) -> None:
        del self._handles[handle]

    def setStream(self, handle: int, stream: int) -> None:
        assert handle in self._handles
        assert stream in self._machine.streams

    def setPointerMode(self, handle: int, mode: int) -> None:
        self._handles[handle].pointers = mode

    def cublasSetWorkspace_v2(self, handle: int, workspace: int, size: int) -> int:
        return 0

    def gemmEx(self, handle: int, *args: int) -> None:
        self.cublasGemmEx(handle, *args)

    def cublasGemmEx(self, handle: int, *args: int) -> int:
        """C = alpha op(A) op(B) + beta C, column by column."""
        (transa, transb, m, n, k, alpha, A, a_type, lda, B, b_type, ldb, beta, C, c_type, ldc) = (
            args[:16]
        )
        compute, state = args[16], self._handles[handle]
        if {a_type, b_type, c_type} != {int(compute == 70)} or compute not in _COMPUTE.values():
            raise CUBLASError("CUBLAS_STATUS_NOT_SUPPORTED")
        dtype = _REALS[a_type]
        shapes = [(k, m) if transa else (m, k), (n, k) if transb else (k, n), (m, n)]
        if any(ld < max(1, rows) for (rows, _), ld in zip(shapes, (lda, ldb, ldc), strict=True)):
            raise CUBLASError("CUBLAS_STATUS_INVALID_VALUE")
        operands = zip("ABC", (A, B, C), shapes, (lda, ldb, ldc), strict=True)
        a, b, c = (self._matrix(*operand, dtype) for operand in operands)
        scalars = [self._scalar(state.pointers, each, dtype) for each in (alpha, beta)]
        # only a factor of zero that the host gives surely leaves C unread
        on_host = state.pointers == self.CUBLAS_POINTER_MODE_HOST

        def product() -> None:
            alpha, beta = (dtype(scalar.value) for scalar in scalars)
            with np.errstate(all="ignore"):
                result = alpha * ((a.T if transa else a) @ (b.T if transb else b))
                c[...] = result if on_host and not beta else result + beta * c

        owners = [owner for owner in map(self._machine.find, (A, B, C)) if owner is not None]
        self._machine.do("gemmEx", product, owners)
        return 0

    def _matrix(
        self, name: str, address: int, shape: tuple[int, int], ld: int, dtype: Any
    ) -> np.ndarray:
        """Columns at an address, all of them within one allocation."""
        rows, columns = shape
        item = np.dtype(dtype).itemsize
        size = ((columns - 1) * ld + rows) * item if rows and columns else 0
        owner = self._machine.find(address)
        if size and (owner is None or address + size > address_of(owner) + owner.nbytes):
            raise AssertionError(f"gemmEx: {name}, {shape} of {ld}, is not in one device array")
        if not size:
            return np.zeros(shape, dtype)
        flat = np.frombuffer((ctypes.c_byte * size).from_address(address), dtype)
        return as_strided(flat, shape, (item, ld * item))

    def _scalar(self, mode: int, address: int, dtype: Any) -> Any:
        if (self._machine.find(address) is not None) != (mode == self.CUBLAS_POINTER_MODE_DEVICE):
            raise AssertionError(f"gemmEx: a factor is not where pointer mode {mode} looks")
        kind = ctypes.c_double if dtype is np.float64 else ctypes.c_float
        at = kind.from_address(address)
        # the host's are read at the call, the device's when the product is made
        return kind(at.value) if mode == self.CUBLAS_POINTER_MODE_HOST else at


# --- the modules ------------------------------------------------------------------------


def _unwritten(array: np.ndarray) -> np.ndarray:
    """Fill with bytes 0xff, NaN or -1, so that reading what nobody wrote shows."""
    ctypes.memset(address_of(array), 0xFF, array.nbytes)
    return array


def _empty_pinned(shape: Any, dtype: Any = float, order: Any = "C") -> np.ndarray:
    return _unwritten(np.empty(shape, dtype, order))


def _functions(machine: Machine) -> dict[str, Any]:
    """NumPy's names, with functions on device arrays."""

    def on_device(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return machine.call(name, function, *args, **kwargs)

        if isinstance(function, np.ufunc):
            vars(call).update(reduce=function.reduce, at=function.at, outer=function.outer)
        call.__name__ = name
        return call

    def empty(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
        sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
        machine.claim(math.prod(map(int, sizes)) * np.dtype(dtype).itemsize)
        return machine.adopt(_unwritten(np.empty(shape, dtype, order)))

    def empty_like(a: Any, dtype: Any = None) -> Any:
        return machine.adopt(_unwritten(np.empty_like(a.plain, dtype)))

    def array(a: Any, dtype: Any = None, copy: bool = True, order: Any = "K", **_: Any) -> Any:
        if isinstance(a, DeviceArray):
            return machine.call("array", np.array, a, dtype, copy=copy or None, order=order)
        if isinstance(a, (list, tuple)):
            a = [each.get() if isinstance(each, DeviceArray) else each for each in a]
        host = np.array(a, dtype, order=order)
        machine.count_upload(host)
        return machine.adopt(host)

    def asarray(a: Any, dtype: Any = None, order: Any = None, copy: Any = None, **_: Any) -> Any:
        return array(a, dtype, bool(copy), order or "K")

    def asnumpy(a: Any, *_: Any, **__: Any) -> np.ndarray:
        return a.get() if isinstance(a, DeviceArray) else np.asarray(a)

    def copyto(dst: DeviceArray, src: Any, **_: Any) -> None:
        dst[...] = src

    names = {name: value for name, value in vars(np).items() if name[0] != "_"}
    functions = {
        name: on_device(name, value)
        for name, value in names.items()
        if callable(value) and not isinstance(value, type)
    }
    ours = (empty, empty_like, array, asarray, asnumpy, copyto)
    return {**names, **functions, **{function.__name__: function for function in ours}}


def fake_cupy(memory: int = 80 * 2**30) -> ModuleType:
    """Make a CuPy with one device of so many bytes.

    Returns
    -------
    module
        ``cupy``; its attribute `machine` keeps account, `modules` is what `install` installs.
    """
    machine = Machine(memory)

    class Device:
        """The one device, whatever its number."""

        compute_capability = "90"
        pci_bus_id = "0000:01:00.0"
        attributes = {  # noqa: RUF012
            "MaxSharedMemoryPerBlockOptin": LARGEST_SHARED,
            "MultiProcessorCount": 132,
        }

        def __init__(self, device: int = 0) -> None:
            self.id = int(device)

        @property
        def mem_info(self) -> tuple[int, int]:
            return mem_get_info()

        def use(self) -> Device:
            return self

        def __enter__(self) -> Device:
            return self

        def __exit__(self, *_: Any) -> None:
            pass

    machine.device = Device(0)

    def mem_get_info() -> tuple[int, int]:
        # what the pool has free is not the device's to give
        return machine.memory - machine.held, machine.memory

    cublas = Cublas(machine)
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: 12040,
        runtimeGetVersion=lambda: 12090,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda index: {"name": b"Fake 9000"},
        memGetInfo=mem_get_info,
        CUDA_R_32F=0,
        CUDA_R_64F=1,
    )
    pool = SimpleNamespace(
        used_bytes=lambda: machine.used,
        total_bytes=lambda: machine.held,
        free_bytes=lambda: machine.held - machine.used,
        free_all_blocks=machine.free_all_blocks,
    )

    class Philox4x3210:
        """Numbers of NumPy's Philox in the place of cuRAND's."""

        def __init__(self, seed: Any = None, *, size: int = 256_000) -> None:
            self.numbers = np.random.Generator(np.random.Philox(seed))

    class Generator:
        """`cupy.random.Generator`, as far as it is used."""

        def __init__(self, bit_generator: Philox4x3210) -> None:
            self._numbers = bit_generator.numbers

        def random(self, size: Any = None, dtype: Any = np.float64) -> Any:
            return machine.adopt(self._numbers.random(size, dtype))

    cuda = ModuleType("cupy.cuda")
    vars(cuda).update(
        Device=Device,
        Stream=machine.stream_type,
        Event=Event,
        Graph=Graph,
        get_current_stream=lambda: machine.current,
        runtime=runtime,
        cublas=cublas,
        nccl=SimpleNamespace(available=False),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=SimpleNamespace(CUDADriverError=LaunchError),
        compiler=SimpleNamespace(CompileException=CompileError),
    )
    cupy = ModuleType("cupy")
    vars(cupy).update(
        _functions(machine),
        __version__="14.1.0",
        ndarray=machine.array_type,
        RawModule=partial(HostModule, submit=machine.submit, array_type=machine.array_type),
        random=SimpleNamespace(Philox4x3210=Philox4x3210, Generator=Generator),
        get_default_memory_pool=lambda: pool,
        cuda=cuda,
        machine=machine,
    )
    cupyx = ModuleType("cupyx")
    cupyx.empty_pinned = _empty_pinned
    names = ("runtime", "cublas", "memory", "driver", "compiler")
    cupy.modules = {
        "cupy": cupy,
        "cupy.cuda": cuda,
        **{f"cupy.cuda.{name}": getattr(cuda, name) for name in names},
        "cupyx": cupyx,
    }
    return cupy


def install(monkeypatch: Any, fake: ModuleType) -> ModuleType:
    """Make ``import cupy`` and its submodules find the fake until the test ends."""
    for name, module in fake.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake
