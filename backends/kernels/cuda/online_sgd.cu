// Batch size 1 in blocks of samples: the delayed updates of delayed.py on a GPU.
//
// Two launches a block. `first_layer` runs on the whole device, a few columns of the first weight
// matrix a thread block: it takes the last block's steps, W += X'ᵀ D, and finds Z = X W of the next
// one, straight from the samples' own bytes. `recurrence` runs what is sequential in one thread
// block. What depends on no weight is found beforehand, for all blocks of a call: the coefficients,
// and the Gram matrices by `mixing`.
//
// REAL, VALUE, BLOCK (samples), UNITS (hidden units a thread), CLASSES (see `recurrence`) and
// COLUMNS (of W_1 a thread block) are given when this is compiled.

// Before this stand `network.cuh`, `blocks.cuh`, `first_layer.cuh` with the first launch, and
// `deeper_layers.cuh`.

// 16 bytes, which a thread reads at once.
struct __align__(16) Vector {
    real of[16 / sizeof(real)];
};

// The output layer's errors of one sample, class j in lane j of every warp alike.
struct Answer {
    real delta, carried;
};

__device__ __forceinline__ Answer answer(int loss, bool there, real logit, real target,
                                         real targets) {
    real output;
    if (loss == CROSS_ENTROPY) {
        real largest = warp_max(there ? logit : LOWEST);
        real e = there ? exp(logit - largest) : 0;
        output = e / warp_sum(e);
    } else {
        output = sigmoid(logit);
    }
    real delta = output_delta(loss, output, target, targets);
    return {delta, carried_error(loss, output, target, delta)};
}

// What all lanes learn from lane j: class j's error to be split, and its step, -η δ.
struct __align__(2 * sizeof(real)) Broadcast {
    real carried, move;
};

// What a step needs of its sample; it takes the place of two numbers.
struct __align__(2 * sizeof(real)) Sample {
    real rate;
    int label;
};

// Run the recurrence of the next block of samples, in one thread block.
//
// It is right-looking: a thread has UNITS hidden units, its registers hold their z of this sample
// and of the BLOCK - 1 that follow, and after each sample adds what its step is to them. The
// products of a shared row with a register never leave the thread.
//
// sizes: of the first layer's output and of all after it, layers + 1 of them. deeper: their
// weights, each matrix row by row and then its bias; speeds likewise, or null without momentum.
// z (BLOCK × hidden) as `first_layer` leaves it. d: the first layer's steps, -η δ_1. The cursor's
// logits: of each sample, before its update. in_shared: whether there is shared memory for the
// weights; those with speeds stay where they are. Dynamic shared memory: BLOCK × (BLOCK + 2)
// numbers; without CLASSES also, in this order, the sum of sizes, 4 × the largest of them, the
// larger of it and the threads, and the padded weights.
//
// With CLASSES, the number of classes, there is one hidden layer, its output weights stay in
// registers too, there is no momentum, and one barrier a sample suffices: each warp sums up its
// units' part of the logits, and after it all warps finish the same answer.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)
recurrence(Cursor *cursor, const int *sizes, int layers, int activation, int loss, int bias,
           real low, real high, real momentum, real penalty, const real *z_start, real *deeper,
           real *speeds, int in_shared, real *d) {
    const int VECTOR = 16 / sizeof(real);
    DYNAMIC_SHARED(real, memory);
    const int tid = threadIdx.x, threads = blockDim.x, hidden = sizes[0];
    const auto unit = [=](int k) { return tid + k * threads; };  // the k-th of this thread
    const int64 first = cursor->done;
    const int count = cursor->count();
    const real *ahead = cursor->ahead + first * BLOCK;
    real *logits = cursor->logits + first * sizes[layers];
    real *future = memory;
    for (int k = tid; k < BLOCK * BLOCK; k += threads) future[k] = ahead[k];
    Sample *samples = reinterpret_cast<Sample *>(future + BLOCK * BLOCK);
    for (int t = tid; t < count; t += threads)
        samples[t] = {cursor->rates[first + t], int(cursor->labels[first + t])};

    real z[UNITS][BLOCK];
    UNROLLED(k, UNITS)
        UNROLLED(t, BLOCK)
            z[k][t] = t < count && unit(k) < hidden ? z_start[t * hidden + unit(k)] : 0;

#if CLASSES
    const int WIDE = CLASSES > 16 ? 32 : CLASSES > 8 ? 16 : CLASSES > 4 ? 8 : 4;
    __shared__ real partial[2][WARPS][WIDE];
    __shared__ Broadcast broadcast[WARPS][32];
    const int lane = tid % 32, warp = tid / 32;
    const real targets = high + (CLASSES - 1) * low;
    real w[UNITS][CLASSES];
    UNROLLED(k, UNITS)
        UNROLLED(j, CLASSES) w[k][j] = unit(k) < hidden ? deeper[unit(k) * CLASSES + j] : 0;
    real b = bias && lane < CLASSES ? deeper[hidden * CLASSES + lane] : 0;
#else
    const int classes = sizes[layers];
    int widest = 0, total = 0;
    for (int l = 0; l <= layers; l++) {
        widest = max(widest, sizes[l]);
        total += sizes[l];
    }
    real *acts = memory + BLOCK * (BLOCK + 2), *errors = acts + total, *partial = errors + 4 * widest;
    real *weights = in_shared ? partial + max(widest, threads) : deeper;
    if (in_shared) copy_weights(sizes, layers, bias, deeper, weights, false);
    const Deeper rest{sizes, layers,  activation, loss,   in_shared, bias,  low,
                      high,  momentum, penalty,    weights, speeds, acts, errors,
                      partial, widest};
    const real *answers = acts + total - classes;
#endif

    __syncthreads();
    for (int t = 0; t < count; t++) {
        const real rate = samples[t].rate;
        const int label = samples[t].label;
        real a[UNITS], step[UNITS];
#if CLASSES
        real sum[WIDE] = {};
        if (activation == SIGMOID)  // decided once, so that the units' functions run side by side
            for (int k = 0; k < UNITS; k++) a[k] = sigmoid(z[k][0]);
        else
            for (int k = 0; k < UNITS; k++) a[k] = activate(activation, z[k][0]);
        UNROLLED(k, UNITS) {
            a[k] = unit(k) < hidden ? a[k] : 0;
            UNROLLED(j, CLASSES) sum[j] += a[k] * w[k][j];
        }
        real own = fold<WIDE>(sum, lane);
        if (lane % (32 / WIDE) == 0) partial[t % 2][warp][lane / (32 / WIDE)] = own;
        __syncthreads();  // the other half of `partial` is read until the next one
        const bool there = lane < CLASSES;
        real parts[WARPS];
        UNROLLED(other, WARPS)
            parts[other] = other < threads / 32 ? partial[t % 2][other][lane % WIDE] : 0;
#pragma unroll
        for (int half = WARPS / 2; half; half /= 2)
            for (int other = 0; other < half; other++) parts[other] += parts[other + half];
        const real logit = b + parts[0];
        const Answer found = answer(loss, there, logit, lane == label ? high : low, targets);
        if (warp == 0 && there) logits[t * CLASSES + lane] = logit;
        const real move = -rate * found.delta, decay = 1 - rate * penalty;
        // read until the next barrier, so written after it
        broadcast[warp][lane] = {found.carried, move};
        __syncwarp();
        real error[UNITS] = {};
        UNROLLED(j, CLASSES) {
            const Broadcast of = broadcast[warp][j];
            UNROLLED(k, UNITS) {
                error[k] += w[k][j] * of.carried;
                w[k][j] = a[k] * of.move + decay * w[k][j];
            }
        }
        if (bias) b += move;
        UNROLLED(k, UNITS)
            step[k] = -rate * (error[k] * derivative(activation, a[k]));
#else
        UNROLLED(k, UNITS) {
            a[k] = layers ? activate(activation, z[k][0]) : z[k][0];
            if (unit(k) < hidden) acts[unit(k)] = a[k];
        }
        __syncthreads();
        rest.forward();
        for (int j = tid; j < classes; j += threads) logits[t * classes + j] = answers[j];
        rest.outputs(answers, classes, label);
        const real *delta = rest.backward(rate);
        UNROLLED(k, UNITS) step[k] = unit(k) < hidden ? -rate * delta[unit(k)] : 0;
#endif
        UNROLLED(k, UNITS)
            if (unit(k) < hidden) d[t * hidden + unit(k)] = step[k];
        const Vector *row = reinterpret_cast<const Vector *>(future + t * BLOCK);
#pragma unroll
        for (int i = 0; i < BLOCK - 1; i += VECTOR) {
            const Vector factors = row[i / VECTOR];
            UNROLLED(e, VECTOR)
                if (i + e < BLOCK - 1)
                    UNROLLED(k, UNITS)
                        z[k][i + e] = factors.of[e] * step[k] + z[k][i + e + 1];
        }
    }

#if CLASSES
    UNROLLED(k, UNITS)
        UNROLLED(j, CLASSES)
            if (unit(k) < hidden) deeper[unit(k) * CLASSES + j] = w[k][j];
    if (bias && tid < CLASSES) deeper[hidden * CLASSES + tid] = b;
#else
    if (in_shared) copy_weights(sizes, layers, bias, deeper, weights, true);
#endif
    if (tid == 0) {  // which all threads have read, before the first barrier
        cursor->done += count;
        cursor->before = count;
    }
}
