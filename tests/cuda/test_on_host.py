"""The emulator itself: what runs on the host must fail where a GPU would, and say so."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import race_check, stand_in
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

__device__ __forceinline__ real warp_sum(real value, int there) {
    const int lane = threadIdx.x % warpSize;
    for (int d = 16; d; d /= 2) {
        real other = __shfl_down_sync(~0u, value, d);
        if (lane + d < there) value += other;
    }
    return value;
}

// each block its own row, with any number of threads
KERNEL __launch_bounds__(8 * 32, 1) sums(const real* __restrict__ x, real* out, int rounds) {
    __shared__ alignas(16) real parts[8];
    DYNAMIC_SHARED(real, copy);
    x += blockIdx.x * blockDim.x;
    const int warp = threadIdx.x / 32;
    for (int round = 0; round < rounds; ++round) {
        copy[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        real sum = warp_sum(copy[blockDim.x - 1 - threadIdx.x], min(32, blockDim.x - 32 * warp));
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

KERNEL votes(const int* vote, unsigned* out) {
    const int own = vote[threadIdx.x];
    out[3 * threadIdx.x] = __ballot_sync(~0u, own);
    out[3 * threadIdx.x + 1] = __any_sync(~0u, own);
    out[3 * threadIdx.x + 2] = __all_sync(~0u, own);
}

// half a warp each on its own, and the upper half without the lower's last exchange
KERNEL halves(int* out) {
    const unsigned lane = threadIdx.x, half = lane < 16 ? 0xffffu : 0xffff0000u;
    int value = lane;
    if (lane < 16) value += __shfl_xor_sync(half, value, 1);
    value += __shfl_xor_sync(half, value, 2);
    __syncwarp(half);
    out[lane] = __shfl_sync(~0u, value, 31 - lane);
}

KERNEL intrinsics(double* out) {
    out[0] = __byte_perm(0x33221100u, 0x77665544u, 0x7250u);
    out[1] = __float_as_uint(1.5f);
    out[2] = __uint_as_float(0x3fc00000u);
    out[3] = min(3, 2u) + max(-4.0f, 2.5);
    out[4] = rsqrtf(4.0f) + __expf(0.0f) + fmaf(2.0f, 3.0f, 1.0f) + fmaxf(NAN, 1.0f);
    out[5] = sizeof(exp(1.0f)) + sizeof(log1p(1.0));
    float4 a = make_float4(1, 2, 3, 4);
    uchar4 b = make_uchar4(255, 1, 2, 3);
    out[6] = a.w + __ldg(&a.x) + b.x;
    out[7] = __popc(0xf0u) + __ffs(8) + __clz(1);
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
    if (what == 2 && threadIdx.x >= 40) __shfl_sync(~0u, 1, 0);
    else if (what != 3 || threadIdx.x % 2) __syncthreads();
    if (what == 3) __syncwarp();
    if (what == 4) __syncwarp(1u << (threadIdx.x + 1) % 32);
}

struct Pair { float factor; int* place; };
KERNEL arguments(float* out, long long a, double b, float c, int d, Pair pair, bool e) {
    *out = a + b + c + d + pair.factor + e;
    *pair.place = 7;
}

template <class T, int way, int width>
__global__ void shuffle(const T* x, T* out, int by) {
    T own = x[threadIdx.x];
    T there = way == 0   ? __shfl_sync(~0u, own, by, width)
              : way == 1 ? __shfl_up_sync(~0u, own, by, width)
              : way == 2 ? __shfl_down_sync(~0u, own, by, width)
                         : __shfl_xor_sync(~0u, own, by, width);
    out[threadIdx.x] = there;
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
    if (between == 1) __ballot_sync(~0u, 1);
    if (between == 2) __syncwarp();
    if (between == 3) __syncthreads();
    out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}
"""
TYPES = {"float": "f4", "double": "f8", "int": "i4", "unsigned": "u4"}
SHUFFLES = [
    *(f"shuffle<{name}, {way}, 32>" for name in TYPES for way in range(4)),
    *(f"shuffle<int, {way}, 8>" for way in range(4)),
]


@pytest.fixture(scope="session", autouse=True)
def _needs_a_compiler():
    try:
        compiler()
    except NoCompiler as error:
        pytest.skip(str(error))


def compiled(real, *macros, names=None):
    return HostModule(SOURCE, (f"-DREAL={real}", "-std=c++17", *macros), names)


@pytest.fixture(scope="session")
def module():
    return compiled("float", names=SHUFFLES)


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


@pytest.mark.parametrize("name", SHUFFLES)
def test_shuffles(module, name):
    kind, way, width = name[8:-1].split(", ")
    width = int(width)
    x = np.arange(100, 164).astype(TYPES[kind])
    lane = np.arange(64) % 32
    for by in (0, 1, 5, 17):
        out = np.zeros_like(x)
        module.get_function(name)((1,), (64,), (x, out, np.int32(by)))
        own = lane % width
        source = [
            lane - own + by % width,
            np.where(own < by, lane, lane - by),
            np.where(own + by >= width, lane, lane + by),
            np.where(lane ^ by >= lane - own + width, lane, lane ^ by),
        ][int(way)]
        np.testing.assert_array_equal(out, x[np.arange(64) - lane + source])


def test_a_shuffle_from_a_lane_that_is_not_there(module):
    x, out = np.arange(40, dtype=np.float32), np.zeros(40, np.float32)
    module.get_function("shuffle<float, 3, 32>")((1,), (40,), (x, out, np.int32(8)))
    np.testing.assert_array_equal(out[:32], x[np.arange(32) ^ 8])
    assert np.isnan(out[32:]).all()


def test_votes_and_masks(module):
    vote = (np.arange(64) % 3 == 0).astype(np.int32)
    out = np.zeros((64, 3), np.uint32)
    module.get_function("votes")((1,), (64,), (vote, out))
    ballots = [sum(int(v) << i for i, v in enumerate(half)) for half in vote.reshape(2, 32)]
    np.testing.assert_array_equal(out, np.repeat([[b, 1, 0] for b in ballots], 32, axis=0))

    value = np.arange(32)
    value[:16] += value[:16] ^ 1
    value += value[np.arange(32) ^ 2]
    halves = np.zeros(32, np.int32)
    module.get_function("halves")((1,), (32,), (halves,))
    np.testing.assert_array_equal(halves, value[::-1])


def test_intrinsics(module):
    out = np.zeros(8)
    module.get_function("intrinsics")((1,), (1,), (out,))
    assert out.tolist() == [0x77225500, 0x3FC00000, 1.5, 4.5, 9.5, 12, 260, 39]


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
        " 40 to 63 wait at __shfl_sync(0xffffffff) of warp 1, threads 64 to 69 have returned"
    )
    with pytest.raises(LaunchError, match=r"threads 0 to 0 wait at __syncwarp\(0xffffffff\)"):
        run(3)
    with pytest.raises(LaunchError, match="leaves its own lane out"):
        run(4)


# --- launches ---------------------------------------------------------------------------


PAIR = np.dtype([("factor", "f4"), ("place", "u8")], align=True)


def test_arguments_by_value(module):
    kernel = module.get_function("arguments")
    out, place = np.zeros(1, np.float32), np.zeros(1, np.int32)
    pair = np.array((0.5, place.ctypes.data), PAIR)
    for record in (pair, pair[()]):
        out[:] = place[:] = 0
        args = (out, 1, 2.0, np.float32(4), np.int32(8), record, True)
        kernel((1,), (1,), args)
        assert (out[0], place[0]) == (16.5, 7)
    kernel((1,), (1,), (np.uintp(out.ctypes.data), *args[1:]))
    kernel((1,), (1,), (out.ctypes.data, *args[1:]))


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
        (5, np.zeros((), [("factor", "f4")]), "for a struct of 16 bytes"),
        (6, "yes", "unsupported type str"),
    ],
)
def test_wrong_arguments(module, at, wrong, message):
    args = [np.zeros(1, np.float32), 1, 2.0, np.float32(4), np.int32(8), np.zeros((), PAIR), True]
    kernel = module.get_function("arguments")
    kernel.prepare((1,), (1,), args)
    args[at] = wrong
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
    with pytest.raises(LaunchError, match="no kernel 'absent', there are: shuffle<float"):
        module.get_function("absent")


def test_orders():
    assert parse_order("shuffled:7") == ("shuffled", 7)
    with pytest.raises(ValueError, match="expected an order of forward"):
        parse_order("backward")


def test_compilers(monkeypatch):
    with pytest.raises(CompileError, match=r"kernels.cu:2.*nothing_of_that_name"):
        HostModule("\nint a = nothing_of_that_name;").compile()
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiler.cache_clear()
    try:
        with pytest.raises(NoCompiler, match="no-such-compiler"):
            HostModule("int a;").compile()
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


def test_arrays_of_the_fake(cupy):
    machine = cupy.machine
    a = cupy.asarray(np.arange(6.0).reshape(2, 3))
    assert isinstance(a, cupy.ndarray)
    assert not isinstance(a, np.ndarray)
    assert cupy.asarray(a) is a
    assert a.data.ptr % 8 == 0
    assert machine.counts == {"uploads": 1, "allocations": 1}

    b = a.T[1:]
    b *= 2
    assert machine.counts["allocations"] == 1
    assert b.data.ptr == a.data.ptr + 8
    total = cupy.sum(a, axis=0) @ cupy.ones(3)
    assert isinstance(total, cupy.ndarray)
    assert machine.counts == {"uploads": 1, "allocations": 4}
    assert float(total) == 27.0
    np.testing.assert_array_equal(cupy.asnumpy(a), [[0, 2, 4], [3, 8, 10]])
    assert machine.counts["synchronizations"] == machine.counts["downloads"] == 2
    assert cupy.isnan(cupy.empty((2, 3))).all()
    assert cupy.asarray(a, copy=True).data.ptr != a.data.ptr
    a[0] = cupy.where(a[0] > 1, a[0], -1.0)
    a[:, 1] = 9
    np.testing.assert_array_equal(cupy.concat([a, a[:1]]).get()[2], [-1, 9, 4])
    assert a[1, 2].shape == ()

    for host in (lambda: a + np.ones(3), lambda: cupy.sum(np.ones(3)), lambda: np.asarray(a)):
        with pytest.raises(TypeError):
            host()


def test_memory_of_the_fake(cupy):
    machine, pool = cupy.machine, cupy.get_default_memory_pool()
    machine.memory = 10_000
    a = cupy.zeros(1000)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError) as caught:
        cupy.zeros(1000)
    assert (
        str(caught.value) == "Out of memory allocating 8,000 bytes (allocated so far: 8,000 bytes)."
    )
    assert isinstance(caught.value, MemoryError)
    with pytest.raises(MemoryError, match="80,000,000,000"):
        cupy.empty(10**10)
    with pytest.raises(MemoryError):
        a + 1
    part = a[:10]
    del a
    assert pool.used_bytes() == 8000
    del part
    assert (pool.used_bytes(), pool.total_bytes(), pool.free_bytes()) == (0, 8000, 8000)
    assert cupy.cuda.runtime.memGetInfo() == cupy.cuda.Device(0).mem_info == (2000, 10_000)
    cupy.zeros(1250)
    pool.free_all_blocks()
    assert cupy.cuda.runtime.memGetInfo() == (10_000, 10_000)


def test_pinned_memory(cupy):
    import cupyx

    memory = cupy.cuda.alloc_pinned_memory(1000)
    host = np.frombuffer(memory, np.float32, 250)
    host[:] = np.arange(250)
    a = cupy.empty(250, np.float32)
    a.set(host)
    np.testing.assert_array_equal(a.get(), host)
    assert np.isnan(cupyx.empty_pinned((2, 3), np.float32)).all()


def test_launches_of_the_fake(cupy, scale):
    x = cupy.arange(100, dtype=np.float32)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        scale((4,), (32,), (x, np.float32(2), np.int32(100)))
    np.testing.assert_array_equal(x.get(), 2 * np.arange(100) + 1)
    assert cupy.cuda.get_current_stream() is cupy.cuda.Stream.null
    assert cupy.machine.launches == [("scale", (4, 1, 1), (32, 1, 1), 0, stream.ptr, False)]
    with pytest.raises(TypeError, match="a host array of shape"):
        scale((4,), (32,), (np.zeros(100, np.float32), np.float32(2), np.int32(100)))


def test_threads_of_the_fake(cupy):
    stream = cupy.cuda.Stream(non_blocking=True)

    def copy():
        with stream:
            stream.synchronize()
            x.set(np.ones(3))
            return stream.record(), cupy.cuda.get_current_stream()

    x = cupy.zeros(3)
    with ThreadPoolExecutor(1) as worker, cupy.cuda.Stream() as own:
        copied, current = worker.submit(copy).result()
        own.wait_event(copied)
        assert cupy.cuda.get_current_stream() is own
    assert current is stream
    assert cupy.machine.counts == {
        "allocations": 1,
        "other synchronizations": 1,
        "other uploads": 1,
    }
    assert float(x.sum()) == 3.0


def capture(cupy, stream, *work):
    with stream:
        stream.begin_capture()
        for each in work:
            each()
        return stream.end_capture()


def test_graphs(cupy, scale):
    machine, stream = cupy.machine, cupy.cuda.Stream(non_blocking=True)
    x = cupy.zeros(4, np.float32)
    args = (x, np.float32(2), np.int32(4))

    def launch():
        scale((1,), (4,), args)

    def add():
        cupy.add(x, 1, out=x)

    graph = capture(cupy, stream, launch, add)
    assert not x.get().any()
    assert machine.launches[0].captured
    machine.forget()
    for _ in range(3):
        graph.launch(stream)
    assert x.get().tolist() == [14.0] * 4
    assert machine.ran == {"scale": 3, "add": 3}
    assert machine.counts == {"graph_launches": 3, "synchronizations": 1, "downloads": 1}

    def on_an_array_of_its_own():
        scale((1,), (4,), (temporary.pop(), *args[1:]))

    temporary = [cupy.zeros(4, np.float32)]
    graph = capture(cupy, stream, on_an_array_of_its_own)
    with pytest.raises(LaunchError, match="replays scale on an array that has been freed"):
        graph.launch()


def test_what_no_graph_can_hold(cupy):
    stream, error = cupy.cuda.Stream(non_blocking=True), cupy.cuda.runtime.CUDARuntimeError
    x = cupy.zeros(4)
    for allocating in (lambda: cupy.zeros(1), lambda: x + 1, x.copy, lambda: cupy.asarray([1.0])):
        with pytest.raises(AssertionError, match="while a stream captures"):
            capture(cupy, stream, allocating)
        stream.end_capture()
    for waiting in (x.get, lambda: float(x[0]), stream.synchronize):
        with pytest.raises(error, match="cudaErrorStreamCaptureUnsupported"):
            capture(cupy, stream, waiting)
        with pytest.raises(error, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    with pytest.raises(RuntimeError, match="default"):
        cupy.cuda.Stream.null.begin_capture()


def test_graphs_that_are_refused(cupy):
    machine, stream = cupy.machine, cupy.cuda.Stream(non_blocking=True)
    machine.refuse_capture = "begin"
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="NotSupported"):
        stream.begin_capture()
    machine.refuse_capture = "end"
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Invalidated"):
        capture(cupy, stream)
    assert not stream.is_capturing()
    machine.refuse_capture = "library"
    x, out = cupy.ones((2, 2)), cupy.empty((2, 2))
    for work in (lambda: cupy.matmul(x, x, out=out), lambda: gemm(cupy, out, x, x)):
        with pytest.raises(NotImplementedError, match="calling cuBLAS API during stream capture"):
            capture(cupy, stream, work)
        stream.end_capture()


@pytest.mark.parametrize("joined", [True, False])
def test_a_graph_of_two_streams(cupy, joined):
    first, second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    x = cupy.zeros(1)
    with first:
        first.begin_capture()
        cupy.add(x, 1, out=x)
        second.wait_event(first.record())
        with second:
            cupy.multiply(x, 10, out=x)
            if joined:
                first.wait_event(second.record())
        cupy.add(x, 2, out=x)
        if not joined:
            first.wait_event(second.record())
        graph = first.end_capture()
        second_alone = second.is_capturing()
    assert not second_alone
    results = set()
    for order in ("forward", "reverse"):
        cupy.machine.order = order
        x[...] = 0
        graph.launch()
        results.add(float(x))
    assert results == ({12.0} if joined else {12.0, 30.0})

    with first:
        first.begin_capture()
        second.wait_event(first.record())
        with second:
            cupy.add(x, 1, out=x)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Unjoined"):
            first.end_capture()


def gemm(cupy, out, a, b, a_turned=False, b_turned=False, alpha=1.0, beta=0.0, compute=None):
    """Row by row out = alpha a b + beta out, so column by column its transpose."""
    cublas, dtype = cupy.cuda.cublas, out.dtype
    handle = cublas.create()
    scalars = np.array([alpha, beta], dtype)
    kind = int(dtype == np.float64)
    if compute is None:
        compute = cublas.CUBLAS_COMPUTE_64F if kind else cublas.CUBLAS_COMPUTE_32F
    m, n = out.shape
    k = a.shape[0] if a_turned else a.shape[1]
    address = scalars.ctypes.data
    ld = [max(1, array.strides[0] // array.itemsize, array.shape[1]) for array in (b, a, out)]
    cublas.gemmEx(
        handle, int(b_turned), int(a_turned), n, m, k, address, b.data.ptr, kind, ld[0],
        a.data.ptr, kind, ld[1], address + dtype.itemsize, out.data.ptr, kind, ld[2], compute, -1,
    )  # fmt: skip
    cublas.destroy(handle)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 5, 7), (8, 2, 4), (4, 6, 0)])
def test_products(cupy, dtype, turned, sizes):
    m, n, k = sizes
    rng = np.random.default_rng(0)
    shapes = [(k, m) if turned[0] else (m, k), (n, k) if turned[1] else (k, n)]
    # rows of larger matrices
    a, b = (cupy.asarray(rng.integers(-9, 9, (r, c + 2)).astype(dtype))[:, :c] for r, c in shapes)
    out = cupy.asarray(rng.integers(-9, 9, (m, n + 3)).astype(dtype))
    product = (a.get().T if turned[0] else a.get()) @ (b.get().T if turned[1] else b.get())
    want = out.get()
    want[:, :n] = 2 * product - 3 * want[:, :n]
    gemm(cupy, out[:, :n], a, b, *turned, alpha=2, beta=-3)
    np.testing.assert_array_equal(out.get(), want)
    fresh = cupy.empty((m, n), dtype)  # of NaN, which a factor of 0 leaves unread
    gemm(cupy, fresh, a, b, *turned)
    np.testing.assert_array_equal(fresh.get(), product)


@pytest.mark.parametrize(("kind", "bits"), [("TF32", 11), ("16BF", 8), ("16F", 11)])
def test_products_of_rounded_factors(cupy, kind, bits):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 30)).astype(np.float32)
    # halfway between two neighbours goes to the even one
    a[0, :4] = [1 + 2.0**-bits, 1 + 3 * 2.0**-bits, -1 - 2.0**-bits, 1 + 2.0**-bits + 2.0**-20]
    mantissa, exponent = np.frexp(a)
    rounded = np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent)
    out = cupy.empty((20, 30), np.float32)
    compute = getattr(cupy.cuda.cublas, f"CUBLAS_COMPUTE_32F_FAST_{kind}")
    one = cupy.eye(30, dtype=np.float32)
    gemm(cupy, out, cupy.asarray(a), one, compute=compute)
    np.testing.assert_array_equal(out.get(), rounded)
    extremes = cupy.asarray(np.array([[1e5, 1e-6, np.inf, np.nan]], np.float32))
    half = np.float32(np.float16(1e-6))
    want = [np.inf, half, np.inf, np.nan] if kind == "16F" else extremes.get()[0]
    rounded = stand_in.round_factors(extremes.get(), compute)[0]
    np.testing.assert_allclose(rounded, want, rtol=2.0**-bits)


def test_products_that_cublas_refuses(cupy):
    cublas = cupy.cuda.cublas
    a = cupy.ones((4, 4), np.float32)
    for compute in (cublas.CUBLAS_COMPUTE_64F, 12):
        with pytest.raises(cublas.CUBLASError, match="NOT_SUPPORTED"):
            gemm(cupy, a, a, a, compute=compute)
    with pytest.raises(AssertionError, match="is not in one device array"):
        gemm(cupy, a, a, cupy.ones((3, 4), np.float32))
    handle = cublas.create()
    cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_DEVICE)
    one, p = np.ones(1, np.float32), a.data.ptr
    args = [0, 0, 4, 4, 4, one.ctypes.data, p, 0, 4, p, 0, 4, one.ctypes.data, p, 0, 4, 68, -1]
    with pytest.raises(AssertionError, match="not where pointer mode 1 looks"):
        cublas.gemmEx(handle, *args)
    args[8] = 3
    with pytest.raises(cublas.CUBLASError, match="INVALID_VALUE"):
        cublas.gemmEx(handle, *args)


def test_the_librarys_products_go_to_the_handles_stream(cupy):
    cublas, stream = cupy.cuda.cublas, cupy.cuda.Stream(non_blocking=True)
    handle = cublas.create()
    cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_DEVICE)
    a, out, factors = cupy.ones((2, 2)), cupy.zeros((2, 2)), cupy.asarray([1.0, 0.0])
    f, p = factors.data.ptr, a.data.ptr
    args = [0, 0, 2, 2, 2, f, p, 1, 2, p, 1, 2, f + 8, out.data.ptr, 1, 2, 70, -1]
    cupy.machine.refuse_capture = "library"  # which only CuPy's wrapper does

    def product():
        assert cublas.cublasGemmEx(handle, *args) == 0

    capture(cupy, stream, product)
    assert float(out[0, 0]) == 2.0  # at once, on the null stream
    cublas.setStream(handle, stream.ptr)
    graph = capture(cupy, stream, product)
    factors[0] = 5.0
    assert float(out[0, 0]) == 2.0
    graph.launch()
    assert float(out[0, 0]) == 10.0
