// What the launches of a block of single samples share: where they are, the block's coefficients,
// and sums over a warp.

const int WARPS = 8;  // of a thread block, at most

// Coefficients of a block, see block_coefficients: for the weights and, beside a bias, for the
// biases, BLOCK + 2 rows of W_0, U and the steps. Of a block of B samples rows 0 … B-1 are for the
// samples, B and B + 1 for W and U at its end.
struct Coefficients {
    static const int ROW = BLOCK + 2, SIZE = ROW * ROW;
    const real *of;  // null where every coefficient is one and there is no velocity
    int bias;

    __device__ __forceinline__ real operator()(int row, int column) const {
        return of[(bias * ROW + row) * ROW + column];
    }
    __device__ __forceinline__ real start(int row) const { return of ? (*this)(row, 0) : 1; }
    __device__ __forceinline__ real velocity(int row) const { return of ? (*this)(row, 1) : 0; }
    __device__ __forceinline__ real step(int row, int s) const {
        return of ? (*this)(row, 2 + s) : 1;
    }
};

// Where a block's coefficients are among those of all, or null; blocks 0 … alike share the first.
__device__ __forceinline__ const real *own_table(const real *tables, int64 alike, bool bias,
                                                 int64 block) {
    const int64 number = block > alike ? block - alike : 0;
    return tables ? tables + number * (1 + bias) * Coefficients::SIZE : nullptr;
}

// Where a call is that learns `samples`, in numbers of 8 bytes. It lies on the device, so that the
// launches of all blocks of all calls are the same and a graph can replay them.
struct Cursor {
    int64 done;    // samples whose recurrence has run
    int64 before;  // the last of these, whose steps the first layer has yet to take
    int64 samples;
    const VALUE *values;
    const int64 *labels;
    const real *rates;
    real *logits;
    const real *ahead;   // see `mixing`
    const real *tables;  // see `own_table`
    int64 alike;

    // How many samples the next block has.
    __device__ __forceinline__ int count() const {
        return samples - done < BLOCK ? samples - done : BLOCK;
    }
    // The coefficients of the block that begins with a sample.
    __device__ __forceinline__ const real *table(int64 first, bool bias) const {
        return own_table(tables, alike, bias, first / BLOCK);
    }
};

// Start to learn n samples.
extern "C" __global__ void begin(Cursor *cursor, int64 n, const VALUE *values, const int64 *labels,
                                 const real *rates, real *logits, const real *ahead,
                                 const real *tables, int64 alike) {
    *cursor = {0, 0, n, values, labels, rates, logits, ahead, tables, alike};
}

// The tables of n samples' blocks, as block_coefficients has them: for the weights and, beside a
// bias, for the biases, which do not decay. A thread block each, a thread a column.
extern "C" __global__ void __launch_bounds__(BLOCK + 2)
coefficients(const double *rates, int64 n, double momentum, double penalty, int bias,
             real *tables) {
    const int column = threadIdx.x, kind = blockIdx.x % (1 + bias);
    const int64 first = int64(blockIdx.x / (1 + bias)) * BLOCK;
    const int count = n - first < BLOCK ? n - first : BLOCK;
    real *table = tables + int64(blockIdx.x) * Coefficients::SIZE + column;
    double weight = column == 0, speed = column == 1;
    *table = weight;
    for (int t = 0; t < count; t++) {
        speed = momentum * speed - (kind ? 0 : rates[first + t] * penalty) * weight;
        if (column == 2 + t) speed = 1;
        weight += speed;
        *(table += Coefficients::ROW) = weight;
    }
    table[Coefficients::ROW] = speed;
}

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
