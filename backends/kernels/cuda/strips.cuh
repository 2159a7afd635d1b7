// Passes over a layer's numbers of a batch, (n × units): a thread block of 256 threads takes a strip
// of eight columns, and of it a warp 32 rows at a time. Sums over a batch then stay in one block.

const int STRIP = 8, WARPS = 8;

// Which of a layer's units are dropped, see dropout_masks; the others are multiplied by `kept`.
struct Dropout {
    int threshold;  // of 65536, 0 without dropout
    real kept;
    uint64 key;
    uint32 layer, update;

    // Whether each of eight units is kept, a bit each.
    __device__ __forceinline__ uint32 bits(uint32 row, uint32 group) const {
        if (!threshold) return 0xff;
        const Drawn drawn = philox(key, group, row, layer, update);
        uint32 found = 0;
        UNROLLED(i, 8) found |= uint32(int(drawn(i)) >= threshold) << i;
        return found;
    }

    __device__ __forceinline__ real operator()(bool is_kept, real value) const {
        return is_kept ? value * kept : 0;
    }
};

// This thread's column of a strip.
struct Strip {
    int n, units, column;

    __device__ Strip(int n, int units, int strip)
        : n(n), units(units), column(strip * STRIP + int(threadIdx.x) % STRIP) {}

    __device__ __forceinline__ bool there() const { return column < units; }

    // Call each(place, whether it is kept, what `load` found there) for this thread's rows. All
    // threads call this; no store comes between four loads, so that they are on their way at once.
    template <typename Load, typename Each>
    __device__ __forceinline__ void for_each(const Dropout &dropout, Load load, Each each) const {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, step = gridDim.y * WARPS * 32;
        for (int first = (blockIdx.y * WARPS + warp) * 32; first < n; first += step) {
            // lane i finds out for row i of the 32
            const uint32 bits = dropout.bits(first + lane, column / STRIP);
            for (int half = 0; half < 32; half += 16) {
                decltype(load(int64(0))) loaded[4];
                UNROLLED(i, 4) {
                    const int row = first + half + 4 * i + lane / STRIP;
                    if (there() && row < n) loaded[i] = load(int64(row) * units + column);
                }
                UNROLLED(i, 4) {
                    const int from = half + 4 * i + lane / STRIP, row = first + from;
                    const bool is_kept = __shfl_sync(FULL_WARP, bits, from) >> lane % STRIP & 1;
                    if (there() && row < n) each(int64(row) * units + column, is_kept, loaded[i]);
                }
            }
        }
    }
};

// Sum what the threads of each column of a strip have; all of them get it.
__device__ real column_sum(real own) {
    __shared__ real parts[WARPS][STRIP];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int offset = STRIP; offset < 32; offset *= 2)
        own += __shfl_xor_sync(FULL_WARP, own, offset);
    if (lane < STRIP) parts[warp][lane] = own;
    __syncthreads();
    real sum = 0;
    UNROLLED(other, WARPS) sum += parts[other][lane % STRIP];
    __syncthreads();
    return sum;
}
