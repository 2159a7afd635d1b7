// CUDA C++ on the processor: put before a .cu source by `g++ -std=c++17 -include on_host.h`.
//
// The threads of a block are fibers on one OS thread: each runs until it waits at a barrier or a
// warp's exchange, then the next one that can go on takes over. Blocks run one after the other.
// Under -fsanitize=thread every fiber is a thread to the sanitizer, and nothing but a barrier
// orders two of them: exchanges do not, as on the device.
//
// What the kernels here do not call is not there. Memory that nobody wrote is 0xff, so NaN: shared
// memory, and what a lane that takes no part would have handed over.
#pragma once
#include <cfloat>
#include <climits>
#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <pthread.h>
#include <sys/mman.h>
#include <type_traits>
#include <utility>

#define ON_HOST 1
#if defined(__SANITIZE_THREAD__)
#define ON_HOST_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ON_HOST_SANITIZED 1
#endif
#if !defined(__x86_64__) || defined(ON_HOST_UCONTEXT)
#define ON_HOST_UCONTEXT 1
#include <ucontext.h>
#endif
// the scheduler works on what all fibers share, unseen by the sanitizer
#define ON_HOST_UNSEEN __attribute__((noinline, no_sanitize("thread")))
#define ON_HOST_EXPORT extern "C" __attribute__((visibility("default")))

struct uint3 {
    unsigned x, y, z;
};

namespace on_host {

// --- what Python reads of a kernel --------------------------------------------------------------

struct Parameter {
    unsigned size, pointee_size;
    char kind, pointee_kind;  // p: pointer, f: real, i: integer, s: structure, v: void
};
struct Kernel {
    const char* name;
    void (*call)(void** args);
    const Parameter* parameters;
    unsigned count, max_threads;
};

template <class T>
constexpr char kind_of() {
    if (std::is_void_v<T>) return 'v';
    if (std::is_pointer_v<T>) return 'p';
    if (std::is_floating_point_v<T>) return 'f';
    if (std::is_class_v<T>) return 's';
    return 'i';
}
template <class T>
constexpr unsigned size_of() {
    if constexpr (std::is_void_v<T>) return 0;
    else return sizeof(T);
}
template <class T>
constexpr Parameter describe() {
    using Pointee = std::remove_cv_t<std::remove_pointer_t<T>>;
    return {size_of<T>(), size_of<Pointee>(), kind_of<T>(), kind_of<Pointee>()};
}

template <class T>
T read(const void* from) {
    T value;
    memcpy(&value, from, sizeof value);
    return value;
}

template <auto kernel>
struct Entry;
template <class... T, void (*kernel)(T...)>
struct Entry<kernel> {
    static constexpr Parameter parameters[] = {describe<T>()..., {}};
    template <size_t... i>
    static void unpack(void** args, std::index_sequence<i...>) {
        kernel(read<std::remove_cv_t<T>>(args[i])...);
    }
    static void call(void** args) { unpack(args, std::index_sequence_for<T...>{}); }
    static constexpr Kernel named(const char* name, unsigned max_threads) {
        return {name, call, parameters, sizeof...(T), max_threads};
    }
};
template <class... T>
constexpr unsigned launch_bounds(unsigned threads, T...) {
    return threads;
}

// --- fibers -------------------------------------------------------------------------------------

constexpr unsigned max_threads = 1024, lanes = 32;
constexpr size_t stack_bytes = 64 << 10, page = 4096, guard = 1 << 20;

enum Place { nowhere, syncthreads, syncwarp, shfl_xor, shfl };
constexpr const char* names[] = {"", "__syncthreads", "__syncwarp", "__shfl_xor_sync",
                                 "__shfl_sync"};

struct Fiber {
    void* stack_pointer;
    char* stack;
    uint3 index;
    unsigned number, lane, warp;
    Place waits_at;  // nowhere while it can run
    unsigned mask;   // of what it waits at in its warp
    unsigned source;  // the lane to read in an exchange
    uint64_t given, taken;
#ifdef ON_HOST_TSAN
    void* seen;
#endif
#ifdef ON_HOST_UCONTEXT
    ucontext_t context;
#endif
};

// the lanes of a warp that have come to one operation
struct Group {
    Place place;
    unsigned mask, arrived;
};

struct Warp {
    unsigned alive, count;
    Group groups[lanes];
    char arrive[lanes], leave[lanes];  // addresses for the sanitizer, by a mask's first lane
};

struct Block {
    unsigned threads, alive, arrived, head, queued, waiting_count;
    Fiber* ready[max_threads];  // a ring
    Fiber* waiting[max_threads];
    Warp warps[max_threads / lanes];
    char start, arrive, leave, end;  // addresses for the sanitizer
};

static Fiber fibers[max_threads], launcher;
static Fiber* self;
static Block block;
static uint3 block_index, block_dim, grid_dim;
static const Kernel* running;
static void** arguments;
static unsigned char* dynamic_shared;
static char* message;
static size_t message_bytes;
static bool failed;

#ifdef ON_HOST_TSAN
inline void release(void* address) { __tsan_release(address); }
inline void acquire(void* address) { __tsan_acquire(address); }
#else
inline void release(void*) {}
inline void acquire(void*) {}
#endif

[[noreturn]] void run_fiber();

#ifdef ON_HOST_UCONTEXT
inline void exchange_stacks(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
inline void prepare_stack(Fiber& fiber) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = stack_bytes;
    makecontext(&fiber.context, run_fiber, 0);
}
#else
// keep what a call must keep, leave this stack, take up the other
extern "C" void on_host_exchange_stacks(void** from, void* to);
asm(R"(
    .text
on_host_exchange_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
__attribute__((always_inline)) inline void exchange_stacks(Fiber& from, Fiber& to) {
    on_host_exchange_stacks(&from.stack_pointer, to.stack_pointer);
}
ON_HOST_UNSEEN static void prepare_stack(Fiber& fiber) {
    // tops in different lines of the cache's sets; 6 registers, the entry, and where it returns to
    void** top = reinterpret_cast<void**>(fiber.stack + stack_bytes - fiber.number % 32 * 128);
    top[-1] = nullptr;
    top[-2] = reinterpret_cast<void*>(&run_fiber);
    fiber.stack_pointer = top - 8;
}
#endif

ON_HOST_UNSEEN static void switch_to(Fiber& to) {
    Fiber& from = *self;
    self = &to;
#ifdef ON_HOST_TSAN
    __tsan_switch_to_fiber(to.seen, __tsan_switch_to_fiber_no_sync);
#endif
    exchange_stacks(from, to);
}

ON_HOST_UNSEEN static void make_ready(Fiber* fiber) {
    fiber->waits_at = nowhere;
    block.ready[(block.head + block.queued++) % max_threads] = fiber;
}

// to the next fiber that can go on, or home: all have returned, or none ever goes on
ON_HOST_UNSEEN static void run_next() {
    if (!block.queued) return switch_to(launcher);
    Fiber* next = block.ready[block.head];
    block.head = (block.head + 1) % max_threads;
    --block.queued;
    switch_to(*next);
}

__attribute__((format(printf, 1, 2))) ON_HOST_UNSEEN static void fail(const char* format, ...) {
    char text[512];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    snprintf(message, message_bytes, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u): %s",
             running->name, block_index.x, block_index.y, block_index.z, self->index.x,
             self->index.y, self->index.z, text);
    failed = true;
    switch_to(launcher);
}

ON_HOST_UNSEEN static void open_block_barrier() {
    acquire(&block.arrive);
    release(&block.leave);
    for (unsigned i = 0; i < block.waiting_count; ++i) make_ready(block.waiting[i]);
    block.arrived = block.waiting_count = 0;
}

ON_HOST_UNSEEN static void wait_for_block() {
    release(&block.arrive);
    if (++block.arrived == block.alive) {
        open_block_barrier();
    } else {
        self->waits_at = syncthreads;
        self->mask = 0;
        block.waiting[block.waiting_count++] = self;
        run_next();
    }
    acquire(&block.leave);
}

// all are here: hand everyone what they asked for
ON_HOST_UNSEEN static void complete(Warp& warp, Fiber* first, unsigned g) {
    const Group group = warp.groups[g];
    warp.groups[g] = warp.groups[--warp.count];
    if (group.place == syncwarp) {
        acquire(&warp.arrive[__builtin_ctz(group.mask)]);
        release(&warp.leave[__builtin_ctz(group.mask)]);
    }
    for (unsigned lane = 0; lane < lanes; ++lane) {
        if (!(group.arrived >> lane & 1)) continue;
        Fiber& fiber = first[lane];
        if (group.arrived >> fiber.source & 1) fiber.taken = first[fiber.source].given;
        else fiber.taken = ~uint64_t{0};
        if (fiber.waits_at) make_ready(&fiber);
    }
}

ON_HOST_UNSEEN static uint64_t wait_for_warp(Place place, unsigned mask, uint64_t given,
                                             unsigned source) {
    Warp& warp = block.warps[self->warp];
    Fiber* first = self - self->lane;
    if (!(mask >> self->lane & 1)) fail("%s(%#x) leaves its own lane out", names[place], mask);
    if (place == syncwarp) release(&warp.arrive[__builtin_ctz(mask)]);
    self->given = given;
    self->source = source;
    unsigned g = 0;
    while (g < warp.count && (warp.groups[g].place != place || warp.groups[g].mask != mask)) ++g;
    if (g == warp.count) warp.groups[warp.count++] = {place, mask, 0};
    warp.groups[g].arrived |= 1u << self->lane;
    if (warp.groups[g].arrived == (mask & warp.alive)) {
        complete(warp, first, g);
    } else {
        self->waits_at = place;
        self->mask = mask;
        run_next();
    }
    if (place == syncwarp) acquire(&warp.leave[__builtin_ctz(mask)]);
    return self->taken;
}

// who has returned is no longer waited for
ON_HOST_UNSEEN static void leave() {
    Warp& warp = block.warps[self->warp];
    self->mask = 0;
    release(&block.end);
    release(&block.arrive);
    warp.alive &= ~(1u << self->lane);
    for (unsigned g = warp.count; g-- > 0;)
        if (warp.groups[g].arrived == (warp.groups[g].mask & warp.alive))
            complete(warp, self - self->lane, g);
    if (--block.alive && block.arrived == block.alive) open_block_barrier();
    run_next();
}

void run_fiber() {
    acquire(&block.start);
    running->call(arguments);
    leave();
    abort();  // never resumed
}

// --- launches -----------------------------------------------------------------------------------

struct Order {
    int kind;  // 0: forward, 1: reverse, 2: shuffled
    uint64_t state;

    // what comes i-th of n; shuffled by Fisher and Yates, `places` holds the rest
    unsigned pick(unsigned i, unsigned n, unsigned* places) {
        if (kind < 2) return kind ? n - 1 - i : i;
        state = state * 6364136223846793005u + 1442695040888963407u;
        const unsigned chosen = i + unsigned(state >> 33) % (n - i);
        std::swap(places[i], places[chosen]);
        return places[i];
    }
};

static unsigned char* memory(size_t bytes, int access) {
    void* at = mmap(nullptr, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) abort();
    return static_cast<unsigned char*>(at);
}

// dynamic shared memory: after it lies a page that must not be touched, or up to 63 bytes before
// that which are watched, as is what lies before it
struct Shared {
    unsigned char *low = nullptr, *high = nullptr, *begin = nullptr, *watched = nullptr;
    size_t bytes = 0;

    void reserve(size_t wanted) {
        bytes = wanted;
#ifdef ON_HOST_SANITIZED
        free(low);
        void* exactly = nullptr;
        if (posix_memalign(&exactly, 64, wanted + !wanted)) abort();
        low = begin = watched = static_cast<unsigned char*>(exactly);
        high = begin + bytes;
#else
        const size_t pages = (wanted + page - 1) / page * page;
        if (!low || size_t(high - low) < pages) {
            if (low) munmap(low - guard, high - low + 2 * guard);
            low = memory(pages + 2 * guard, PROT_NONE) + guard;
            high = low + pages;
            if (pages) mprotect(low, pages, PROT_READ | PROT_WRITE);
        }
        begin = high - (wanted + 63) / 64 * 64;
        watched = begin - (size_t(begin - low) < page ? size_t(begin - low) : page);
        memset(watched, 0xa5, begin - watched);
        memset(begin + bytes, 0xa5, high - begin - bytes);
#endif
        dynamic_shared = begin;
    }
    bool overwritten() const {
        for (const unsigned char* at = watched; at < begin; ++at)
            if (*at != 0xa5) return true;
        for (const unsigned char* at = begin + bytes; at < high; ++at)
            if (*at != 0xa5) return true;
        return false;
    }
};
static Shared shared;

extern "C" char __start_on_host_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_on_host_shared[] __attribute__((weak, visibility("hidden")));

#ifndef ON_HOST_SANITIZED
static sigjmp_buf escape;
static pthread_t launching;
static const void* fault_address;

static void on_fault(int signal_number, siginfo_t* info, void*) {
    if (!pthread_equal(pthread_self(), launching)) {
        signal(signal_number, SIG_DFL);  // not ours: it comes again
        return;
    }
    fault_address = info->si_addr;
    siglongjmp(escape, signal_number);
}

static void report_fault(int signal_number) {
    char text[160] = "an integer was divided by zero";
    const auto* at = static_cast<const unsigned char*>(fault_address);
    const auto* stack = reinterpret_cast<const unsigned char*>(self->stack);
    if (signal_number != SIGFPE) {
        if (at >= shared.high && at < shared.high + guard)
            snprintf(text, sizeof text, "touched byte %zu of %zu of dynamic shared memory",
                     size_t(at - shared.begin), shared.bytes);
        else if (at >= shared.low - guard && at < shared.low)
            snprintf(text, sizeof text, "touched dynamic shared memory %zu bytes before its start",
                     size_t(shared.begin - at));
        else if (at >= stack - page && at < stack)
            snprintf(text, sizeof text, "more than %zu KiB of local memory", stack_bytes >> 10);
        else
            snprintf(text, sizeof text, "touched address %p, which is nobody's or misaligned",
                     fault_address);
    }
    snprintf(message, message_bytes, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u): %s",
             running->name, block_index.x, block_index.y, block_index.z, self->index.x,
             self->index.y, self->index.z, text);
}

#endif

static void report_deadlock() {
    int n = snprintf(message, message_bytes, "kernel %s, block (%u, %u, %u): deadlock:",
                     running->name, block_index.x, block_index.y, block_index.z);
    const char* separator = " ";
    for (unsigned i = 0, end; i < block.threads; i = end) {
        const Fiber& a = fibers[i];
        for (end = i + 1; end < block.threads; ++end) {
            const Fiber& b = fibers[end];
            const bool in_warp = a.waits_at && a.waits_at != syncthreads;
            if (a.waits_at != b.waits_at || a.mask != b.mask) break;
            if (in_warp && a.warp != b.warp) break;
        }
        if (n < 0 || size_t(n) >= message_bytes) return;
        n += snprintf(message + n, message_bytes - n, "%sthreads %u to %u ", separator, i, end - 1);
        if (size_t(n) >= message_bytes) return;
        if (!a.waits_at)
            n += snprintf(message + n, message_bytes - n, "have returned");
        else if (a.waits_at == syncthreads)
            n += snprintf(message + n, message_bytes - n, "wait at __syncthreads");
        else
            n += snprintf(message + n, message_bytes - n, "wait at %s(%#x) of warp %u",
                          names[a.waits_at], a.mask, a.warp);
        separator = ", ";
    }
}

static void run_block(Order& order) {
    static unsigned places[max_threads];
    block.alive = block.threads;
    block.arrived = block.head = block.queued = block.waiting_count = 0;
    for (unsigned w = 0; w * lanes < block.threads; ++w) {
        const unsigned left = block.threads - w * lanes;
        block.warps[w].alive = left < lanes ? (1u << left) - 1 : ~0u;
        block.warps[w].count = 0;
    }
    for (unsigned i = 0; i < block.threads; ++i) places[i] = i;
    for (unsigned i = 0; i < block.threads; ++i) {
        Fiber& fiber = fibers[order.pick(i, block.threads, places)];
        fiber.mask = 0;
        prepare_stack(fiber);
        make_ready(&fiber);
    }
    if (shared.bytes) memset(shared.begin, 0xff, shared.bytes);
    if (__start_on_host_shared)
        memset(__start_on_host_shared, 0xff, __stop_on_host_shared - __start_on_host_shared);
    release(&block.start);
    run_next();
    acquire(&block.end);
    if (failed) return;
    if (block.alive) {
        report_deadlock();
        failed = true;
    } else if (shared.overwritten()) {
        snprintf(message, message_bytes,
                 "kernel %s, block (%u, %u, %u): wrote beside %zu bytes of dynamic shared memory",
                 running->name, block_index.x, block_index.y, block_index.z, shared.bytes);
        failed = true;
    }
}

static void run_grid(Order order) {
    const size_t blocks = size_t{grid_dim.x} * grid_dim.y * grid_dim.z;
    unsigned* places = nullptr;
    if (order.kind == 2) {
        places = static_cast<unsigned*>(malloc(blocks * sizeof *places));
        for (size_t i = 0; i < blocks; ++i) places[i] = unsigned(i);
    }
    for (size_t i = 0; i < blocks && !failed; ++i) {
        const unsigned b = order.pick(unsigned(i), unsigned(blocks), places);
        block_index = {b % grid_dim.x, b / grid_dim.x % grid_dim.y, b / grid_dim.x / grid_dim.y};
        run_block(order);
    }
    free(places);
}

static void prepare_fibers() {
    static unsigned have = 0;
    block.threads = block_dim.x * block_dim.y * block_dim.z;
    for (; have < block.threads; ++have) {
        Fiber& fiber = fibers[have];
        auto* stack = memory(stack_bytes + page, PROT_READ | PROT_WRITE);
        mprotect(stack, page, PROT_NONE);
        fiber.stack = reinterpret_cast<char*>(stack + page);
#ifdef ON_HOST_TSAN
        fiber.seen = __tsan_create_fiber(0);
#endif
    }
    for (unsigned i = 0; i < block.threads; ++i) {
        Fiber& fiber = fibers[i];
        fiber.number = i;
        fiber.lane = i % lanes;
        fiber.warp = i / lanes;
        fiber.index = {i % block_dim.x, i / block_dim.x % block_dim.y,
                       i / block_dim.x / block_dim.y};
    }
    self = &launcher;
#ifdef ON_HOST_TSAN
    launcher.seen = __tsan_get_current_fiber();
#endif
}

// 0, or not with the reason in `text`
ON_HOST_EXPORT int on_host_launch(const Kernel* kernel, const unsigned* grid, const unsigned* dim,
                                  size_t shared_bytes, void** args, int order, uint64_t seed,
                                  char* text, size_t text_bytes) {
    running = kernel;
    arguments = args;
    grid_dim = {grid[0], grid[1], grid[2]};
    block_dim = {dim[0], dim[1], dim[2]};
    message = text;
    message_bytes = text_bytes;
    failed = false;
    prepare_fibers();
    shared.reserve(shared_bytes);
#ifdef ON_HOST_SANITIZED
    run_grid({order, seed});
#else
    // a wild access becomes this launch's error; on a stack of its own, the fiber's may be full
    static unsigned char* signal_stack = memory(stack_bytes, PROT_READ | PROT_WRITE);
    constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction action {}, before[3];
    stack_t stack{}, stack_before;
    stack.ss_sp = signal_stack;
    stack.ss_size = stack_bytes;
    sigaltstack(&stack, &stack_before);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    launching = pthread_self();
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &action, &before[i]);
    if (const int signal_number = sigsetjmp(escape, 1)) {
        report_fault(signal_number);
        failed = true;
    } else {
        run_grid({order, seed});
    }
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
#endif
    return failed;
}

}  // namespace on_host

ON_HOST_EXPORT const on_host::Kernel on_host_kernels[];

// --- what a kernel calls ------------------------------------------------------------------------

inline void __syncthreads() { on_host::wait_for_block(); }
inline void __syncwarp(unsigned mask = ~0u) {
    on_host::wait_for_warp(on_host::syncwarp, mask, 0, on_host::self->lane);
}

template <class T>
T exchange(on_host::Place place, unsigned mask, T value, int lane) {
    static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4);
    uint64_t given = 0;
    memcpy(&given, &value, sizeof value);
    const uint64_t taken = on_host::wait_for_warp(place, mask, given, lane % 32);
    return on_host::read<T>(&taken);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return exchange(on_host::shfl_xor, mask, value, on_host::self->lane ^ bits);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return exchange(on_host::shfl, mask, value, lane);
}

template <class T>
T max(T a, T b) {
    return b > a ? b : a;
}

#ifdef ON_HOST_REPLAY
// --- one recorded launch as a program -----------------------------------------------------------

namespace on_host {

static uint64_t take(FILE* from) {
    uint64_t value;
    if (fread(&value, sizeof value, 1, from) != 1) exit(2);
    return value;
}
// bytes, and which 8 of them are addresses: (where, in which buffer, how far in)
static char* take_bytes(FILE* from, char** buffers) {
    const uint64_t bytes = take(from);
    char* at = static_cast<char*>(malloc(bytes));
    if (bytes && fread(at, bytes, 1, from) != 1) exit(2);
    for (uint64_t n = take(from); n-- > 0;) {
        const uint64_t where = take(from), buffer = take(from);
        char* address = buffers[buffer] + take(from);
        memcpy(at + where, &address, sizeof address);
    }
    return at;
}

}  // namespace on_host

int main(int, char** argv) {
    using namespace on_host;
    FILE* from = fopen(argv[1], "rb");
    if (!from) return 2;
    unsigned sizes[6];
    const Kernel& kernel = on_host_kernels[take(from)];
    for (unsigned& size : sizes) size = unsigned(take(from));
    const size_t shared_bytes = take(from);
    char* blobs[256];
    const uint64_t buffers = take(from);
    for (uint64_t i = 0; i < buffers; ++i) blobs[i] = take_bytes(from, blobs);
    for (uint64_t i = 0; i < kernel.count; ++i) blobs[buffers + i] = take_bytes(from, blobs);
    char text[4096];
    if (!on_host_launch(&kernel, sizes, sizes + 3, shared_bytes,
                        reinterpret_cast<void**>(blobs + buffers), 0, 0, text, sizeof text))
        return 0;
    fprintf(stderr, "%s\n", text);
    return 3;
}
#endif

// --- the language's own words, last: the headers above know none of them ------------------------

#define threadIdx (on_host::self->index)
#define blockIdx (on_host::block_index)
#define blockDim (on_host::block_dim)
#define gridDim (on_host::grid_dim)

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static __attribute__((section("on_host_shared")))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(on_host::dynamic_shared)
