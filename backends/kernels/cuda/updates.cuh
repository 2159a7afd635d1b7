// The steps of all weights in one launch. A part is an array that changes; its numbers are dealt
// out to the thread blocks in items. `table` has all parts, and at its end an empty one.

const int ITEM = 4 * 32 * WARPS;  // numbers, but eight of what is the mean of δ

struct Part {
    int64 first, count;  // number of its first item, and of its numbers
    real *w;
    real *gradient;      // null where the product has moved w, or its velocity, already
    real *speed, *square, *average;  // velocity or mean, and null for what there is not
    const real *deltas;  // of a bias, whose gradient is their mean over the rows
    int64 decays;
};

enum Optimizer { SGD, MOMENTUM, NESTEROV, ADAM, ADAM_SCALED };  // the last's ε, see `Rule`
enum Factor { ALPHA, BETA, RATE, MEAN_RATE, SCALE, SHARE };  // see `set_factors`

struct Rule {
    int optimizer;
    real momentum, penalty, decay, beta1, beta2, epsilon;

    // Of the loss with its penalty.
    __device__ __forceinline__ real gradient(const Part &part, int64 k) const {
        const real own = part.gradient[k];
        return part.decays ? own + penalty * part.w[k] : own;
    }

    // Step along a gradient, then let the average follow.
    __device__ __forceinline__ void step(const Part &part, int64 k, real g,
                                         const real *factors) const {
        const real rate = factors[RATE];
        real w = part.w[k];
        if (optimizer >= ADAM) {
            const real m = beta1 * part.speed[k] + (1 - beta1) * g;
            const real s = beta2 * part.square[k] + (1 - beta2) * g * g;
            part.speed[k] = m;
            part.square[k] = s;
            if (part.decays) w *= 1 - rate * decay;
            const real added = optimizer == ADAM ? epsilon : epsilon * sqrt(factors[SCALE]);
            w -= factors[MEAN_RATE] * m / (sqrt(s * factors[SCALE]) + added);
        } else if (optimizer == SGD) {
            w -= rate * g;
        } else {
            const real v = momentum * part.speed[k] - rate * g;
            part.speed[k] = v;
            w += optimizer == NESTEROV ? momentum * v - rate * g : v;
        }
        part.w[k] = w;
        follow(part, k, w, factors);
    }

    // The same, where the product has left all of it but w + v and the penalty.
    __device__ __forceinline__ void finish(const Part &part, int64 k, const real *factors) const {
        real w = part.w[k];
        if (part.speed) {
            real v = part.speed[k];
            if (penalty) part.speed[k] = v -= factors[RATE] * penalty * w;
            part.w[k] = w += v;
        }
        follow(part, k, w, factors);
    }

    __device__ __forceinline__ void follow(const Part &part, int64 k, real w,
                                           const real *factors) const {
        if (part.average) part.average[k] += (w - part.average[k]) * factors[SHARE];
    }
};

// The mean over n rows of a column of δ; all threads of a block ask for one of a strip.
__device__ real column_mean(const Part &part, int n, int64 column) {
    real own = 0;
    if (column < part.count)
        for (int64 row = threadIdx.x / STRIP; row < n; row += 32 * WARPS / STRIP)
            own += part.deltas[row * part.count + column];
    return column_sum(own) / n;
}

// Sum a number of each thread of a block; all of them get it.
__device__ real block_sum(real own) {
    __shared__ real parts[WARPS];
    own = warp_sum(own);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = own;
    __syncthreads();
    real sum = 0;
    UNROLLED(other, WARPS) sum += parts[other];
    __syncthreads();
    return sum;
}

// What of all parts is a block's: call each(part, first number, one after the last) for its items.
template <typename Each>
__device__ __forceinline__ void for_each_item(const int64 *table, int items, Each each) {
    const Part *parts = reinterpret_cast<const Part *>(table);
    for (int item = blockIdx.x, p = 0; item < items; item += gridDim.x) {
        while (item >= parts[p + 1].first) p++;
        const int64 size = parts[p].deltas ? STRIP : ITEM;
        const int64 low = (item - parts[p].first) * size;
        each(parts[p], low, low + size < parts[p].count ? low + size : parts[p].count);
    }
}

// Sum the squares of all gradients into a number a thread block, and leave the biases' gradients.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
squares(const int64 *table, int items, int n, int optimizer, real momentum, real penalty, real decay,
        real beta1, real beta2, real epsilon, real *sums) {
    const Rule rule{optimizer, momentum, penalty, decay, beta1, beta2, epsilon};
    real own = 0;
    for_each_item(table, items, [&](const Part &part, int64 low, int64 high) {
        const real mean = part.deltas ? column_mean(part, n, low + threadIdx.x % STRIP) : 0;
        for (int64 k = low + threadIdx.x; k < high && part.gradient; k += blockDim.x) {
            if (part.deltas) part.gradient[k] = mean;
            const real g = rule.gradient(part, k);
            own += g * g;
        }
    });
    own = block_sum(own);
    if (threadIdx.x == 0) sums[blockIdx.x] = own;
}

// Step all weights. `sums` are those of `squares`, of `count` thread blocks, or none: gradients are
// scaled so that their joint norm is at most `largest`. A second number in the bounds keeps
// the compiler from spilling registers so as to run more thread blocks at once.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)
update(const int64 *table, int items, int n, int optimizer, real momentum, real penalty, real decay,
       real beta1, real beta2, real epsilon, const real *sums, int count, real largest,
       const real *factors) {
    const Rule rule{optimizer, momentum, penalty, decay, beta1, beta2, epsilon};
    real shrink = 1;
    if (sums) {
        real own = 0;
        for (int k = threadIdx.x; k < count; k += blockDim.x) own += sums[k];
        const real norm = sqrt(block_sum(own));
        if (!(norm <= largest)) shrink = largest / norm;  // so that NaN reaches every weight
    }
    for_each_item(table, items, [&](const Part &part, int64 low, int64 high) {
        const bool is_mean = part.deltas && !sums;
        const real mean = is_mean ? column_mean(part, n, low + threadIdx.x % STRIP) : 0;
        for (int64 k = low + threadIdx.x; k < high; k += blockDim.x) {
            if (part.gradient)
                rule.step(part, k, is_mean ? mean : shrink * rule.gradient(part, k), factors);
            else
                rule.finish(part, k, factors);
        }
    });
}
