"""What runs on the host in a GPU's place must fail where a GPU would, and say so."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import race_check
from .host_module import (
    CompileError,
    HostModule,
    Launch,
    LaunchError,
    NoCompiler,
    compiler,
    parse_order,
)
from .stand_in import fake_cupy, install

ORDERS = ["forward", "reverse", "shuffled:3"]

SOURCE = r"""
typedef REAL real;
#define KERNEL extern "C" __global__ void
#ifndef DYNAMIC_SHARED
#error "the header brings its own"
#endif

// what a lane that is not there would give is NaN
__device__ __forceinline__ real warp_sum(real value, int there) {
    const int lane = threadIdx.x % 32;
    for (int d = 16; d; d /= 2) {
        real other = __shfl_xor_sync(~0u, value, d);
        if ((lane ^ d) < there) value += other;
    }
    return value;
}

// each block its own row, with any number of threads
KERNEL __launch_bounds__(8 * 32, 1) sums(const real* __restrict__ x, real* out, int rounds) {
    __shared__ real parts[8];
    DYNAMIC_SHARED(real, copy);
    x += blockIdx.x * blockDim.x;
    const int warp = threadIdx.x / 32;
    for (int round = 0; round < rounds; ++round) {
        copy[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        const int there = blockDim.x - 32 * warp;
        real sum = warp_sum(copy[blockDim.x - 1 - threadIdx.x], there < 32 ? there : 32);
        if (threadIdx.x % 32 == 0) parts[warp] = sum;
        __syncthreads();
        if (threadIdx.x == 0) {
            real total = 0;
            for (int w = 0; w < (blockDim.x + 31) / 32; ++w) total += parts[w];
            out[blockIdx.x] = total;
        }
    }
}

KERNEL where(unsigned* out) {
    unsigned* own = out + 6 * (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y *
                          (threadIdx.z + blockDim.z * (blockIdx.x + gridDim.x * blockIdx.y))));
    unsigned values[] = {threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, gridDim.z};
    for (int i = 0; i < 6; ++i) own[i] = values[i];
}

// half a warp each on its own, and the upper half without the lower's last exchange
KERNEL halves(int* out) {
    const unsigned lane = threadIdx.x, half = lane < 16 ? 0xffffu : 0xffff0000u;
    int value = lane;
    if (lane < 16) value += __shfl_xor_sync(half, value, 1);
    value += __shfl_xor_sync(half, value, 2);
    __syncwarp(half);
    out[lane] = __shfl_xor_sync(~0u, value, 31);
}

KERNEL unwritten(real* out) {
    __shared__ real fixed[32];
    DYNAMIC_SHARED(real, own);
    out[threadIdx.x] = threadIdx.x % 2 ? fixed[threadIdx.x] : own[threadIdx.x];
    fixed[threadIdx.x] = own[threadIdx.x] = 1;
}

KERNEL touch(int at) {
    DYNAMIC_SHARED(unsigned char, bytes);
    if (threadIdx.x == 3) bytes[at] = 1;
}

KERNEL wild(float* address) { if (threadIdx.x == 5) *address = 1; }

KERNEL too_local(int n) {
    volatile char own[100000];
    own[n] = own[0] = 1;
}

KERNEL deadlock(int what) {
    if (what == 0 && threadIdx.x < 32) __syncwarp();
    if (what == 1 && threadIdx.x == 32) return;
    if (what == 2 && threadIdx.x >= 40) __shfl_xor_sync(~0u, 1, 1);
    else if (what != 3 || threadIdx.x % 2) __syncthreads();
    if (what == 3) __syncwarp();
    if (what == 4) __syncwarp(1u << (threadIdx.x + 1) % 32);
}

KERNEL arguments(float* out, long long a, double b, float c, int d, bool e, int* null) {
    *out = a + b + c + d + e + (null ? 100 : 0);
}
"""
SMALL = r"""
extern "C" __global__ void scale(float* x, float factor, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = factor * x[i] + 1;
}

// thread i reads what thread i + 1 has written, and what lies between has to order the two
extern "C" __global__ void neighbours(const float* x, float* out, int between) {
    __shared__ float shared[256];
    shared[threadIdx.x] = x[threadIdx.x];
    if (between == 1) __shfl_xor_sync(~0u, 1, 1);
    if (between == 2) __syncwarp();
    if (between == 3) __syncthreads();
    out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}
"""
TYPES = {"float": "f4", "double": "f8"}


@pytest.fixture(scope="session", autouse=True)
def _needs_a_compiler():
    try:
        compiler()
    except NoCompiler as error:
        pytest.skip(str(error))


def compiled(real, *macros):
    return HostModule(SOURCE, (f"-DREAL={real}", "-std=c++17", *macros))


@pytest.fixture(scope="session")
def module():
    return compiled("float")


@pytest.fixture(scope="session")
def small():
    return HostModule(SMALL)


@pytest.fixture
def cupy(monkeypatch):
    return install(monkeypatch, fake_cupy())


@pytest.fixture
def scale(cupy):
    return cupy.RawModule(code=SMALL).get_function("scale")


# --- kernels ----------------------------------------------------------------------------


@pytest.mark.parametrize("macros", [(), ("-DON_HOST_UCONTEXT=1",)])
@pytest.mark.parametrize("real", ["float", "double"])
def test_block_reduction(real, macros):
    kernel = compiled(real, *macros).get_function("sums")
    dtype = np.dtype(TYPES[real])

    @given(st.integers(1, 256), st.integers(1, 5), st.sampled_from(ORDERS))
    def check(threads, blocks, order):
        x = np.random.default_rng(threads).integers(0, 100, (blocks, threads)).astype(dtype)
        out = np.zeros(blocks, dtype)
        args = (x, out, np.int32(2))
        kernel.prepare((blocks,), (threads,), args, threads * dtype.itemsize).run(order)
        np.testing.assert_array_equal(out, x.sum(axis=1))

    check()


def test_indices(module):
    out = np.zeros((3, 2, 2, 3, 4, 6), np.uint32)
    module.get_function("where")((2, 3, 1), (4, 3, 2), (out,))
    y, x, tz, ty, tx = np.indices(out.shape[:-1])
    np.testing.assert_array_equal(out, np.stack([tx, ty, tz, x, y, np.ones_like(x)], -1))


def test_exchanges_of_parts_of_a_warp(module):
    value = np.arange(32)
    value[:16] += value[:16] ^ 1
    value += value[np.arange(32) ^ 2]
    halves = np.zeros(32, np.int32)
    module.get_function("halves")((1,), (32,), (halves,))
    np.testing.assert_array_equal(halves, value[::-1])


def test_unwritten_shared_memory_is_nan(module):
    out = np.zeros(32, np.float32)
    for _ in range(2):
        module.get_function("unwritten")((2,), (32,), (out,), shared_mem=128)
        assert np.isnan(out).all()


@pytest.mark.parametrize("size", [64, 100, 4096, 48 * 1024])
def test_dynamic_shared_memory_has_ends(module, size):
    touch = module.get_function("touch")
    for at in (0, size - 1):
        touch((1,), (32,), (np.int32(at),), shared_mem=size)
    for at in (size, size + 5000, -1, -5000, -size - 70_000):
        with pytest.raises(LaunchError, match=r"kernel touch, block \(0, 0, 0\).* shared memory"):
            touch((1,), (32,), (np.int32(at),), shared_mem=size)
    with pytest.raises(LaunchError, match=r"thread \(3, 0, 0\): touched byte 0 of 0"):
        touch((1,), (32,), (np.int32(0),))


def test_a_wild_access_is_an_error(module):
    wild = module.get_function("wild")
    for _ in range(2):
        with pytest.raises(LaunchError, match=r"kernel wild.*thread \(5, 0, 0\): touched address"):
            wild((1,), (32,), (np.uintp(0),))
    with pytest.raises(LaunchError, match="more than 64 KiB of local memory"):
        module.get_function("too_local")((1,), (32,), (np.int32(1),))


@pytest.mark.parametrize("order", ORDERS)
def test_deadlocks(module, order):
    def run(what):
        module.get_function("deadlock").prepare((1,), (70,), (np.int32(what),)).run(order)

    run(0)
    run(1)  # a thread that has returned is not waited for
    with pytest.raises(LaunchError) as caught:
        run(2)
    assert str(caught.value) == (
        "kernel deadlock, block (0, 0, 0): deadlock: threads 0 to 39 wait at __syncthreads, threads"
        " 40 to 63 wait at __shfl_xor_sync(0xffffffff) of warp 1, threads 64 to 69 have returned"
    )
    with pytest.raises(LaunchError, match=r"threads 0 to 0 wait at __syncwarp\(0xffffffff\)"):
        run(3)
    with pytest.raises(LaunchError, match="leaves its own lane out"):
        run(4)


# --- launches ---------------------------------------------------------------------------


GIVEN = (1, 2.0, np.float32(4), np.int32(8), True, np.uintp(0))


def test_arguments_by_value(module):
    kernel, out = module.get_function("arguments"), np.zeros(1, np.float32)
    for address in (out, np.uintp(out.ctypes.data), out.ctypes.data):
        out[:] = 0
        kernel((1,), (1,), (address, *GIVEN))
        assert out[0] == 16


@pytest.mark.parametrize(
    ("at", "wrong", "message"),
    [
        (0, np.zeros(1), "array of float64 for a pointer to a real of 4 bytes"),
        (0, np.zeros(1, np.int32), "array of int32 for a pointer to a real of 4 bytes"),
        (0, None, "unsupported type NoneType; a null pointer is np.uintp"),
        (0, np.float64(0), "float64 for a pointer of 8 bytes"),
        (1, np.int32(1), "int32 for an integer of 8 bytes"),
        (2, 1, "int64 for a real of 8 bytes"),
        (3, 1.0, "float64 for a real of 4 bytes"),
        (3, np.int32(1), "int32 for a real of 4 bytes"),
        (3, np.zeros(1, np.float32), "array of float32 for a real of 4 bytes"),
        (4, 1, "int64 for an integer of 4 bytes"),
        (5, "yes", "unsupported type str"),
    ],
)
def test_wrong_arguments(module, at, wrong, message):
    args = [np.zeros(1, np.float32), *GIVEN]
    args[at] = wrong
    kernel = module.get_function("arguments")
    with pytest.raises(TypeError, match=f"kernel arguments, argument {at}: .*{message}"):
        kernel((1,), (1,), args)
    with pytest.raises(TypeError, match="expected 7 arguments, got 6"):
        kernel((1,), (1,), args[:6])


def test_limits_of_a_launch(module, small):
    x = np.zeros(1, np.float32)
    scale, sums = small.get_function("scale"), module.get_function("sums")
    args = (x, np.float32(2), np.int32(1))
    for grid, block in [((1, 65536), (1,)), ((1,), (1025,)), ((1,), (32, 1, 65)), ((1,), (64, 32))]:
        with pytest.raises(LaunchError, match="kernel scale: "):
            scale(grid, block, args)
    scale((0,), (0,), args)  # to CuPy one of each
    assert x == 1
    assert sums.max_threads_per_block == 256
    with pytest.raises(LaunchError, match="288 threads a block, at most 256"):
        sums((1,), (288,), (x, x, np.int32(1)))

    with pytest.raises(LaunchError, match=r"49156 bytes of dynamic .* allowed are 49152"):
        scale((1,), (1,), args, shared_mem=49_156)
    scale.max_dynamic_shared_size_bytes = 49_156
    small.get_function("scale")((1,), (1,), args, shared_mem=49_156)
    with pytest.raises(LaunchError, match="of 232448"):
        scale.max_dynamic_shared_size_bytes = 1 << 20
    # a kernel's own arrays count
    assert sums.shared_size_bytes == 8 * 4
    with pytest.raises(
        LaunchError, match=r"49124 bytes of dynamic .* beside its 32, allowed .* 49120"
    ):
        sums((1,), (1,), (x, x, np.int32(1)), shared_mem=49_124)
    with pytest.raises(LaunchError, match="of 232416"):
        sums.max_dynamic_shared_size_bytes = 232_448
    with pytest.raises(LaunchError, match="no kernel 'absent', there are: sums, where"):
        module.get_function("absent")


def test_orders():
    assert parse_order("shuffled:7") == ("shuffled", 7)
    with pytest.raises(ValueError, match="expected an order of forward"):
        parse_order("backward")


def test_compilers(monkeypatch):
    with pytest.raises(CompileError, match=r"kernels.cu:2.*nothing_of_that_name"):
        HostModule("\nint a = nothing_of_that_name;").get_function("a")
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiler.cache_clear()
    try:
        with pytest.raises(NoCompiler, match="no-such-compiler"):
            HostModule("int a;").get_function("a")
    finally:
        compiler.cache_clear()


# --- races ------------------------------------------------------------------------------


def skip_without(sanitizer):
    if reason := race_check.unavailable(sanitizer):
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("between", "threads", "is_race"),
    [
        (3, 256, False),
        (2, 32, False),
        (2, 64, True),
        (1, 32, True),  # an exchange orders no memory
        (0, 32, True),
    ],
)
def test_races_are_found(small, between, threads, is_race):
    skip_without("thread")
    x, out = np.arange(threads, dtype=np.float32), np.zeros(threads, np.float32)
    kernel = small.get_function("neighbours")
    launch = kernel.prepare((2,), (threads,), (x, out, np.int32(between)))
    report = race_check.races(launch)
    assert ("data race" in report) == is_race, report
    assert not out.any()
    wrong = []
    for order in ORDERS:
        launch.run(order)
        wrong.append((out != np.roll(x, -1)).any())
    assert any(wrong) or between  # without a sanitizer it is a matter of luck


def test_accesses_outside_of_an_array_are_found(small):
    skip_without("address")
    x = np.zeros(100, np.float32)
    for n, found in ((100, False), (101, True)):
        args = (np.uintp(x.ctypes.data), np.float32(1), np.int32(n))
        launch = small.get_function("scale").prepare((1,), (128,), args)
        report = race_check.races(launch, [x], "address")
        assert ("heap-buffer-overflow" in report) == found


def test_race_check_reports_its_cases(monkeypatch, capsys):
    skip_without("address")

    def case(cupy):
        x = cupy.zeros(101, np.float32)
        kernel = cupy.RawModule(code=SMALL).get_function("scale")
        for n in (101, 101, 102):
            # one more than is there, which only the replay may come to see
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Launch, "run", lambda *_: None)
                kernel((1,), (128,), (x, np.float32(1), np.int32(n)))

    monkeypatch.setattr(race_check, "CASES", [case])
    monkeypatch.setattr(sys, "argv", ["race_check", "--sanitizer", "address"])
    assert race_check.main() == 1
    printed = capsys.readouterr().out
    assert printed.count("clean") == 1
    assert printed.count("heap-buffer-overflow on") == 1
    assert "1 of 2 launches with a report" in printed


# --- the stand-in for CuPy --------------------------------------------------------------


def test_arrays_count_and_stay_on_their_device(cupy):
    machine = cupy.machine
    a = cupy.asarray(np.arange(6.0).reshape(2, 3))
    assert cupy.asarray(a) is a
    assert machine.counts == {"uploads": 1, "allocations": 1}
    b = a.T[1:]
    b *= 2
    assert b.data.ptr == a.data.ptr + 8
    total = cupy.sum(a, axis=0) @ cupy.ones(3)
    assert machine.counts == {"uploads": 1, "allocations": 4}
    assert float(total) == 27.0
    assert machine.counts["synchronizations"] == machine.counts["downloads"] == 1
    assert cupy.isnan(cupy.empty((2, 3))).all()
    for host in (lambda: a + np.ones(3), lambda: cupy.sum(np.ones(3)), lambda: np.asarray(a)):
        with pytest.raises(TypeError):
            host()


def test_memory_runs_out_and_is_given_back(cupy):
    machine, pool = cupy.machine, cupy.get_default_memory_pool()
    machine.memory = 10_000
    a = cupy.zeros(1000)
    with pytest.raises(MemoryError) as caught:
        cupy.zeros(1000)
    assert (
        str(caught.value) == "Out of memory allocating 8,000 bytes (allocated so far: 8,000 bytes)."
    )
    with pytest.raises(MemoryError, match="80,000,000,000"):
        cupy.empty(10**10)
    part = a[:10]
    del a
    assert pool.used_bytes() == 8000
    del part
    assert (pool.used_bytes(), pool.total_bytes(), pool.free_bytes()) == (0, 8000, 8000)
    assert cupy.cuda.runtime.memGetInfo() == (2000, 10_000)
    pool.free_all_blocks()
    assert cupy.cuda.runtime.memGetInfo() == (10_000, 10_000)


def capture(cupy, *work):
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        try:
            for each in work:
                each()
        finally:
            graph = stream.end_capture()
    return graph


def test_a_graph_replays_what_was_launched(cupy, scale):
    machine, x = cupy.machine, cupy.zeros(4, np.float32)
    args = (x, np.float32(2), np.int32(4))
    graph = capture(cupy, lambda: scale((1,), (4,), args), lambda: cupy.add(x, 1, out=x))
    assert not x.get().any()
    assert machine.launches[0].captured
    machine.forget()
    for _ in range(3):
        graph.launch()
    assert x.get().tolist() == [14.0] * 4
    assert machine.ran == {"scale": 3, "add": 3}
    assert machine.counts == {"graph_launches": 3, "synchronizations": 1, "downloads": 1}

    temporary = [cupy.zeros(4, np.float32)]
    graph = capture(cupy, lambda: scale((1,), (4,), (temporary.pop(), *args[1:])))
    with pytest.raises(LaunchError, match="replays scale on an array that has been freed"):
        graph.launch()
    with pytest.raises(AssertionError, match="while a stream captures"):
        capture(cupy, lambda: cupy.zeros(1))
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="CaptureUnsupported"):
        capture(cupy, x.get)


def gemm(cupy, out, a, b, a_turned=False, b_turned=False, alpha=1.0, beta=0.0, mode=0):
    """Row by row out = alpha a b + beta out, so column by column its transpose."""
    cublas, dtype = cupy.cuda.cublas, out.dtype
    handle, kind = cublas.create(), int(dtype == np.float64)
    cublas.setPointerMode(handle, mode)
    scalars = np.array([alpha, beta], dtype)
    address = scalars.ctypes.data
    (m, n), k = out.shape, a.shape[0] if a_turned else a.shape[1]
    ld = [max(1, array.strides[0] // array.itemsize) for array in (b, a, out)]
    cublas.gemmEx(
        handle, int(b_turned), int(a_turned), n, m, k, address, b.data.ptr, kind, ld[0],
        a.data.ptr, kind, ld[1], address + dtype.itemsize, out.data.ptr, kind, ld[2],
        cublas.CUBLAS_COMPUTE_64F if kind else cublas.CUBLAS_COMPUTE_32F, -1,
    )  # fmt: skip
    cublas.destroy(handle)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True)])
def test_products_stay_within_their_arrays(cupy, turned):
    m, n, k = 3, 5, 7
    rng = np.random.default_rng(0)
    shapes = [(k, m) if turned[0] else (m, k), (n, k) if turned[1] else (k, n)]
    # rows of larger matrices
    a, b = (cupy.asarray(rng.integers(-9, 9, (r, c + 2)).astype("f"))[:, :c] for r, c in shapes)
    out = cupy.asarray(rng.integers(-9, 9, (m, n + 3)).astype("f"))
    product = (a.get().T if turned[0] else a.get()) @ (b.get().T if turned[1] else b.get())
    want = out.get()
    want[:, :n] = 2 * product - 3 * want[:, :n]
    gemm(cupy, out[:, :n], a, b, *turned, alpha=2, beta=-3)
    np.testing.assert_array_equal(out.get(), want)
    fresh = cupy.empty((m, n), "f")  # of NaN, which a factor of 0 leaves unread
    gemm(cupy, fresh, a, b, *turned)
    np.testing.assert_array_equal(fresh.get(), product)
    with pytest.raises(AssertionError, match="is not in one device array"):
        gemm(cupy, cupy.ones((4, 4)), cupy.ones((4, 4)), cupy.ones((3, 4)))
    with pytest.raises(AssertionError, match="not where pointer mode 1 looks"):
        gemm(cupy, fresh, a, b, *turned, mode=1)
