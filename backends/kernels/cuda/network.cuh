// What the kernels of a network share: names, activations and the error that goes back.
//
// A source is compiled once for each REAL (float or double) and, where it reads samples, VALUE
// (one of the names below). The meaning of every function here is that of functions.py; the codes
// are those of codes.py.

typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef int int32;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;
typedef float float32;
typedef double float64;

typedef REAL real;

#ifndef DYNAMIC_SHARED  // a host compiler has its own
#define DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char name##_memory[]; \
    type *name = reinterpret_cast<type *>(name##_memory)
#endif

// Every k below the count, shared out to however many threads there are.
#define FOR_EACH(k, count)                                                             \
    for (int64 k = int64(blockIdx.x) * blockDim.x + threadIdx.x, k##_end = (count); \
         k < k##_end; k += int64(gridDim.x) * blockDim.x)

// Every k below a count that the compiler knows, each in instructions of its own.
#define UNROLLED(k, count) _Pragma("unroll") for (int k = 0; k < (count); k++)

enum Activation { SIGMOID, TANH, RELU, SCALED_TANH, GELU };
enum Loss { RASHID, SQUARED_ERROR, BINARY_CROSS_ENTROPY, CROSS_ENTROPY };

const unsigned FULL_WARP = 0xffffffffu;
const real SCALED_TANH_A = 1.7159, SCALED_TANH_B = 2 / real(3);
[[maybe_unused]] const real LOWEST = -3e38f;  // below every logit

// 1 / x for x >= 1, to two units in the last place, without the branch of a division.
__device__ __forceinline__ float reciprocal(float x) {
#ifdef __CUDACC__
    return __fdividef(1, x);
#else
    return 1 / x;
#endif
}

__device__ __forceinline__ double reciprocal(double x) { return 1 / x; }

__device__ __forceinline__ real sigmoid(real z) {
    return reciprocal(1 + exp(-z));  // e^-z may become infinite; then this is 0, as it should be
}

__device__ __forceinline__ real activate(int activation, real z) {
    if (activation == SIGMOID) return sigmoid(z);
    if (activation == TANH) return tanh(z);
    if (activation == SCALED_TANH) return SCALED_TANH_A * tanh(SCALED_TANH_B * z);
    return z < 0 ? 0 : z;  // so that NaN stays NaN
}

// Of the activation a = f(z), written in a.
__device__ __forceinline__ real derivative(int activation, real a) {
    if (activation == SIGMOID) return a * (1 - a);
    if (activation == TANH) return 1 - a * a;
    if (activation == SCALED_TANH)
        return SCALED_TANH_B / SCALED_TANH_A * (SCALED_TANH_A * SCALED_TANH_A - a * a);
    return a > 0 ? 1 : 0;
}

// The output layer's δ: its error times the output's derivative. `targets` is their sum.
__device__ __forceinline__ real output_delta(int loss, real output, real target, real targets) {
    if (loss == CROSS_ENTROPY) return output * targets - target;
    real error = output - target;
    return loss == BINARY_CROSS_ENTROPY ? error : error * output * (1 - output);
}

// What is split along the weights: δ, but under Rashid's rule the raw error.
__device__ __forceinline__ real carried_error(int loss, real output, real target, real delta) {
    return loss == RASHID ? output - target : delta;
}

__device__ __forceinline__ real warp_sum(real value) {
    for (int offset = 16; offset; offset /= 2) value += __shfl_xor_sync(FULL_WARP, value, offset);
    return value;
}

__device__ __forceinline__ real warp_max(real value) {
    for (int offset = 16; offset; offset /= 2) {
        real other = __shfl_xor_sync(FULL_WARP, value, offset);
        value = other > value || other != other ? other : value;  // NaN wins
    }
    return value;
}

// What a row of logits has to do with its softmax: the largest, and Σ e^(z - largest).
struct Softmax {
    real largest, sum;
};

// Found by one warp.
__device__ Softmax softmax(const real *logits, int classes) {
    const int lane = threadIdx.x % 32;
    real largest = LOWEST, sum = 0;
    for (int j = lane; j < classes; j += 32)
        largest = logits[j] > largest || logits[j] != logits[j] ? logits[j] : largest;
    largest = warp_max(largest);
    for (int j = lane; j < classes; j += 32) sum += exp(logits[j] - largest);
    return {largest, warp_sum(sum)};
}

// a * b + c, in which a number too small to be a normal one counts: CuPy compiles everything with
// -ftz=true, and values near the largest float have a scale below the smallest normal one.
__device__ __forceinline__ float fused(float a, float b, float c) {
#ifdef __CUDACC__
    float result;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(result) : "f"(a), "f"(b), "f"(c));
    return result;
#else
    return a * b + c;
#endif
}

__device__ __forceinline__ double fused(double a, double b, double c) { return a * b + c; }

// A feature's input map x = value * scale + shift; each of the two has step 0 where it is a scalar.
struct InputMap {
    const real *scale, *shift;
    int scale_step, shift_step;

    __device__ __forceinline__ real operator()(real value, int feature) const {
        return fused(value, scale[feature * scale_step], shift[feature * shift_step]);
    }
};
