// What the launches of a block of single samples share: the block's coefficients, and sums over a
// warp.

const int WARPS = 8;  // of a thread block, at most

// Coefficients of a block, see block_coefficients: for the weights, then for the biases, BLOCK + 2
// rows of W_0, U and the steps. Rows 0 … B-1 are for the samples, B and B + 1 for W and U at its end.
struct Coefficients {
    const real *of;  // null where every coefficient is one and there is no velocity
    int bias;

    __device__ __forceinline__ real operator()(int row, int column) const {
        return of[(bias * (BLOCK + 2) + row) * (BLOCK + 2) + column];
    }
    __device__ __forceinline__ real start(int row) const { return of ? (*this)(row, 0) : 1; }
    __device__ __forceinline__ real velocity(int row) const { return of ? (*this)(row, 1) : 0; }
    __device__ __forceinline__ real step(int row, int s) const {
        return of ? (*this)(row, 2 + s) : 1;
    }
};

// Partial sums of 8 samples × COLUMNS, one a lane: n values in each of 32 lanes become one.
template <int n>
__device__ __forceinline__ real fold(real *value, int lane) {
    int half = n / 2;
#pragma unroll
    for (int offset = 16; half; offset /= 2, half /= 2) {
        bool upper = lane & offset;
        UNROLLED(j, n / 2)
            if (j < half) {
                real keep = upper ? value[j + half] : value[j];
                real send = upper ? value[j] : value[j + half];
                value[j] = keep + __shfl_xor_sync(FULL_WARP, send, offset);
            }
    }
#pragma unroll
    for (int offset = 16 / n; offset; offset /= 2)
        value[0] += __shfl_xor_sync(FULL_WARP, value[0], offset);
    return value[0];
}
