"""CUDA C++ kernels compiled for the processor and launched in this process.

`HostModule` takes the place of `cupy.RawModule`, `HostKernel` that of `cupy.RawKernel`. What a
GPU would take in silence (an argument of the wrong size or kind, a launch above the kernel's
bounds) is an error here.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("on_host.h")
ORDERS = ("forward", "reverse", "shuffled")
DEFAULT_SHARED = 48 * 1024
LARGEST_SHARED = 227 * 1024  # what compute capability 9.0 lets a kernel opt in to
_SCALARS: dict[type, type] = {bool: np.bool_, int: np.int64, float: np.float64}

# the signals of a wild access are the whole process's
_launching = threading.Lock()


class NoCompiler(RuntimeError):
    """There is no C++ compiler; the message says what was looked for."""


class CompileError(RuntimeError):
    """The compiler refused the source; the message is the compiler's."""


class LaunchError(RuntimeError):
    """A launch was refused or did not come to its end; the message says where."""


class _Parameter(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint),
        ("pointee_size", ctypes.c_uint),
        ("kind", ctypes.c_char),
        ("pointee_kind", ctypes.c_char),
    )


class _Kernel(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("parameters", ctypes.POINTER(_Parameter)),
        ("count", ctypes.c_uint),
        ("max_threads", ctypes.c_uint),
    )


@cache
def compiler() -> tuple[str, ...]:
    """Find the C++ compiler: $CXX, else g++, c++ or clang++."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    found = next((shlex.split(name) for name in names if shutil.which(shlex.split(name)[0])), None)
    if os.name != "posix" or found is None:
        raise NoCompiler(f"no C++ compiler for kernels on the host ({', '.join(names)})")
    return tuple(found)


@cache
def _identity() -> str:
    """What decides on the machine code beside the source: header, compiler and processor."""
    version = subprocess.run([*compiler(), "--version"], capture_output=True, text=True).stdout
    cpuinfo = Path("/proc/cpuinfo")
    processor = cpuinfo.read_text() if cpuinfo.exists() else ""
    flags = next((line for line in processor.splitlines() if line.startswith("flags")), "")
    return HEADER.read_text() + version + flags


def cache_folder() -> Path:
    """Where compiled kernels stay: $ON_HOST_CACHE, else a folder of this user's."""
    named = os.environ.get("ON_HOST_CACHE")
    folder = Path(named or Path(tempfile.gettempdir(), f"kernels-on-host-{os.getuid()}"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _run(command: Sequence[str], source: str) -> str:
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def parse_order(order: str | None = None) -> tuple[str, int]:
    """Split "shuffled:7" into name and seed; None is $ON_HOST_ORDER, else "forward"."""
    order = order or os.environ.get("ON_HOST_ORDER", "forward")
    name, _, seed = order.partition(":")
    if name not in ORDERS:
        raise ValueError(f"expected an order of {', '.join(ORDERS)}, got {order!r}")
    return name, int(seed or 0)


class HostModule:
    """CUDA C++ source whose kernels run on the host.

    Parameters
    ----------
    code : str
        Kernels are ``extern "C" __global__ void name(...)``.
    options : tuple of str
        As for NVRTC; -D, -U, -I and -std count, what else only NVRTC knows does not.
    submit : callable, optional
        Gets every `Launch` in place of its being run at once.
    largest_shared : int
        Bytes of shared memory that a kernel can opt in to.
    array_type : type
        What is device memory, passed by its address: NumPy's arrays, or what shows one as its
        attribute `plain`.
    **ignored
        What else `cupy.RawModule` takes.
    """

    def __init__(
        self,
        code: str,
        options: tuple[str, ...] = (),
        *,
        submit: Callable[[Launch], None] | None = None,
        array_type: type = np.ndarray,
        largest_shared: int = LARGEST_SHARED,
        **ignored: Any,
    ) -> None:
        self.code = code
        self.options = options
        self.submit = submit or Launch.run
        self.array_type = array_type
        self.largest_shared = largest_shared
        self._functions: dict[str, HostKernel] = {}

    def get_function(self, name: str) -> HostKernel:
        """Compile, if that was not done yet, and find a kernel."""
        if name not in self.kernels:
            raise LaunchError(f"no kernel {name!r}, there are: {', '.join(self.kernels)}")
        return self._functions.setdefault(name, HostKernel(self, name))

    @cached_property
    def library(self) -> ctypes.CDLL:
        library = ctypes.CDLL(str(self.build(".so", ("-shared",))))
        library.on_host_launch.argtypes = [
            ctypes.POINTER(_Kernel),
            ctypes.c_uint * 3,
            ctypes.c_uint * 3,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_uint64,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ]
        return library

    @cached_property
    def kernels(self) -> dict[str, _Kernel]:
        """All kernels by name."""
        table = ctypes.cast(self.library.on_host_kernels, ctypes.POINTER(_Kernel))
        found: dict[str, _Kernel] = {}
        while table[len(found)].name:
            entry = table[len(found)]
            found[entry.name.decode()] = entry
        return found

    @cached_property
    def static_shared(self) -> Counter[str]:
        """Bytes of every kernel's own `__shared__` arrays, as far as `nm` is there to tell."""
        sizes: Counter[str] = Counter()
        if nm := shutil.which("nm"):
            symbols = _run([nm, "-S", "-C", self.library._name], "")
            for size, kernel in re.findall(r"^\w+ (\w+) d (\w+)::", symbols, re.MULTILINE):
                sizes[kernel] += int(size, 16)
        return sizes

    def build(self, suffix: str, flags: tuple[str, ...]) -> Path:
        """Compile to a file of the cache; a second process that does so too does no harm."""
        arguments = [*self._arguments, *flags]
        key = "\0".join([*arguments, self.code, _identity()])
        path = cache_folder() / (hashlib.sha256(key.encode()).hexdigest()[:32] + suffix)
        if path.exists():
            return path
        source = f'namespace {{\n#line 1 "kernels.cu"\n{self.code}\n}}\n{self._table()}'
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder, "built")
            command = [*compiler(), *arguments, "-include", str(HEADER), "-o", str(built)]
            _run([*command, "-x", "c++", "-"], source)
            built.replace(path)
        return path

    @cached_property
    def _arguments(self) -> list[str]:
        kept = [re.sub("^--std", "-std", option) for option in self.options]
        kept = [re.sub("^--define-macro=", "-D", option) for option in kept]
        kept = [option for option in kept if re.match("-[DUI]|-std=", option)]
        standard = [] if any(option.startswith("-std=") for option in kept) else ["-std=c++17"]
        # no product is fused with a sum unless the source says fma
        arguments = ["-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-pthread"]
        if os.uname().machine == "x86_64":
            arguments.append("-march=native")
        # a hardened longjmp would refuse to leave a fiber, and a large frame must hit the guard
        safety = ["-U_FORTIFY_SOURCE", "-fstack-clash-protection"]
        return [*arguments, *safety, *standard, *kept]

    def _table(self) -> str:
        """Write the list of all kernels in C++, which finds out their parameters itself."""
        # with what the header defines that a source may ask for
        macros = ["-DON_HOST=1", "-DDYNAMIC_SHARED(type, name)=type* name"]
        command = [*compiler(), *self._arguments, *macros, "-E", "-P", "-x", "c++", "-"]
        bounds: dict[str, str] = {}
        for head in re.findall(r'extern\s*"C"\s*__global__([^{;]*)', _run(command, self.code)):
            bound = re.search(r"__launch_bounds__\s*(\((?:[^()]|\([^()]*\))*\))", head)
            plain = head.replace(bound[0], "") if bound else head
            name = re.search(r"(\w+)\s*\(", plain)
            if name:
                launch_bounds = f"on_host::launch_bounds{bound[1]}" if bound else "1024"
                bounds[name[1]] = launch_bounds
        rows = [
            f'    on_host::Entry<&{name}>::named("{name}", {threads}),\n'
            for name, threads in bounds.items()
        ]
        return f"const on_host::Kernel on_host_kernels[] = {{\n{''.join(rows)}    {{}}}};\n"


class HostKernel:
    """A kernel of a `HostModule`, to be called as a `cupy.RawKernel`."""

    def __init__(self, module: HostModule, name: str) -> None:
        self.module = module
        self.name = self.__name__ = name
        self.entry = module.kernels[name]
        self.max_threads_per_block: int = self.entry.max_threads
        self.shared_size_bytes = module.static_shared[name]
        self._max_shared = DEFAULT_SHARED - self.shared_size_bytes

    def __repr__(self) -> str:
        return f"<HostKernel {self.name}>"

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._max_shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        most = self.module.largest_shared - self.shared_size_bytes
        if not 0 <= size <= most:
            raise LaunchError(
                f"kernel {self.name}: {size} bytes of dynamic shared memory of {most}"
            )
        self._max_shared = size

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
    ) -> None:
        self.module.submit(self.prepare(grid, block, args, shared_mem))

    def prepare(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int = 0
    ) -> Launch:
        """Check everything that a launch can be wrong in before it runs.

        Raises
        ------
        TypeError
            If the arguments are not those of the kernel in number, size or kind.
        LaunchError
            If a device refused the sizes.
        """
        grid, block = _extent(grid), _extent(block)
        threads = block[0] * block[1] * block[2]
        limits = [(grid, (2**31 - 1, 65535, 65535), "grid"), (block, (1024, 1024, 64), "block")]
        for sizes, limit, name in limits:
            if any(size > most for size, most in zip(sizes, limit, strict=True)):
                raise LaunchError(f"kernel {self.name}: {name} {sizes} is beyond {limit}")
        if threads > self.max_threads_per_block:
            raise LaunchError(
                f"kernel {self.name}: {threads} threads a block, at most "
                f"{self.max_threads_per_block} can run"
            )
        most = max(DEFAULT_SHARED - self.shared_size_bytes, self._max_shared)
        if not 0 <= shared_mem <= most:
            raise LaunchError(
                f"kernel {self.name}: {shared_mem} bytes of dynamic shared memory beside its "
                f"{self.shared_size_bytes}, allowed are {most} (max_dynamic_shared_size_bytes)"
            )
        count = self.entry.count
        if len(args) != count:
            raise TypeError(f"kernel {self.name}: expected {count} arguments, got {len(args)}")
        launch = Launch(self, grid, block, int(shared_mem))
        for i, arg in enumerate(args):
            try:
                launch.values.append(self._value(self.entry.parameters[i], arg))
            except TypeError as error:
                raise TypeError(f"kernel {self.name}, argument {i}: {error}") from None
            if isinstance(arg, self.module.array_type):  # what it points to
                launch.arrays.append(_plain(arg))
        return launch

    def _value(self, parameter: _Parameter, arg: Any) -> bytes:
        """Return the bytes that the kernel reads."""
        kind = parameter.kind.decode()
        if isinstance(arg, self.module.array_type):
            if kind != "p":
                raise TypeError(f"an array of {arg.dtype} for {_describe(kind, parameter.size)}")
            _check_pointee(parameter, arg.dtype)
            return np.uintp(_plain(arg).__array_interface__["data"][0]).tobytes()
        # as CuPy does: 64 bits for Python's own numbers
        if type(arg) in _SCALARS:
            arg = _SCALARS[type(arg)](arg)
        if not isinstance(arg, np.generic):
            hint = "; a null pointer is np.uintp(0)" if arg is None else ""
            raise TypeError(f"unsupported type {type(arg).__name__}{hint}")
        got = "f" if arg.dtype.kind == "f" else "i"
        matches = got == kind or (got, kind) == ("i", "p")
        if arg.nbytes != parameter.size or not matches:
            raise TypeError(f"{arg.dtype} for {_describe(kind, parameter.size)}")
        return arg.tobytes()


@dataclass(eq=False)
class Launch:
    """A kernel with checked arguments, which can be run any number of times.

    Attributes
    ----------
    values : list of bytes
        The arguments as the kernel reads them; of an array its address.
    arrays : list of arrays
        Those among the arguments.
    """

    kernel: HostKernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_mem: int
    values: list[bytes] = field(default_factory=list)
    arrays: list[np.ndarray] = field(default_factory=list)

    def run(self, order: str | None = None) -> None:
        """Run all blocks.

        Parameters
        ----------
        order : str, optional
            Of the blocks, and of a block's threads where they start: "forward", "reverse",
            "shuffled" or "shuffled:SEED"; $ON_HOST_ORDER if not given.

        Raises
        ------
        LaunchError
            If the kernel deadlocked or touched what is not its own.
        """
        name, seed = parse_order(order)
        module = self.kernel.module
        held = [ctypes.create_string_buffer(value, len(value)) for value in self.values]
        args = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
        message = ctypes.create_string_buffer(4096)
        with _launching:
            failed = module.library.on_host_launch(
                self.kernel.entry,
                (ctypes.c_uint * 3)(*self.grid),
                (ctypes.c_uint * 3)(*self.block),
                self.shared_mem,
                args,
                ORDERS.index(name),
                seed,
                message,
                len(message),
            )
        if failed:
            raise LaunchError(message.value.decode())


def _plain(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.plain


def _extent(sizes: Sequence[int]) -> tuple[int, int, int]:
    # CuPy makes a block of no blocks, and a thread of no threads
    x, y, z = (*(max(1, int(size)) for size in sizes), 1, 1)[:3]
    return x, y, z


def _check_pointee(parameter: _Parameter, dtype: np.dtype) -> None:
    kind = parameter.pointee_kind.decode()
    got = "f" if dtype.kind == "f" else "i"
    if kind in "fi" and (got != kind or dtype.itemsize != parameter.pointee_size):
        wanted = _describe(kind, parameter.pointee_size)
        raise TypeError(f"an array of {dtype} for a pointer to {wanted}")


def _describe(kind: str, size: int) -> str:
    what = {"f": "a real", "i": "an integer", "p": "a pointer"}[kind]
    return f"{what} of {size} bytes"
