// Batch size 1 in blocks of samples: the delayed updates of Backend.online_sgd on a GPU.
//
// Two launches a block. `first_layer` runs on the whole device, a few columns of the first weight
// matrix a thread block: it takes the last block's steps, W += X'ᵀ D, and finds Z = X W of the next
// one, straight from the samples' own bytes. `recurrence` runs what is sequential in one thread
// block. The Gram matrices depend on no weight: `mixing` finds those of all blocks beforehand.
//
// REAL, VALUE, BLOCK (samples), UNITS (hidden units a thread), CLASSES (see `recurrence`) and
// COLUMNS (of W_1 a thread block) are given when this is compiled.

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

// --- the first layer ----------------------------------------------------------------------

// Of thread block b: ahead[b][s][i] is what sample s + 1 + i gets of the step of sample s, that is
// x_s · x_t (+ 1 beside a bias), times their coefficients, which lie `stride` apart. 256 threads.
extern "C" __global__ void __launch_bounds__(256)
mixing(const VALUE *values, int64 n, int features, const real *scale, const real *shift,
       int scale_step, int shift_step, int bias, const real *coefficients, int64 stride,
       real *ahead) {
    const int SIDE = 16, ROWS = (BLOCK + SIDE - 1) / SIDE, TILE = 32;
    __shared__ real x[TILE][BLOCK + 1];
    const InputMap map{scale, shift, scale_step, shift_step};
    const int tid = threadIdx.x, ty = tid / SIDE, tx = tid % SIDE;
    const int64 first = int64(blockIdx.x) * BLOCK;
    const int count = n - first < BLOCK ? n - first : BLOCK;

    real gram[ROWS][ROWS] = {};
    for (int low = 0; low < features; low += TILE) {
        for (int k = tid; k < TILE * BLOCK; k += blockDim.x) {
            int t = k / TILE, f = k % TILE;
            bool there = t < count && low + f < features;
            x[f][t] = there ? map(values[(first + t) * features + low + f], low + f) : 0;
        }
        __syncthreads();
        for (int f = 0; f < TILE; f++) {
            real a[ROWS], b[ROWS];
            for (int r = 0; r < ROWS; r++) {
                a[r] = ty + SIDE * r < BLOCK ? x[f][ty + SIDE * r] : 0;
                b[r] = tx + SIDE * r < BLOCK ? x[f][tx + SIDE * r] : 0;
            }
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < ROWS; c++) gram[r][c] += a[r] * b[c];
        }
        __syncthreads();
    }
    const real *own = coefficients ? coefficients + blockIdx.x * stride : nullptr;
    const Coefficients of_W{own, 0}, of_b{own, 1};
    ahead += int64(blockIdx.x) * BLOCK * BLOCK;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < ROWS; c++) {
            int s = ty + SIDE * r, t = tx + SIDE * c;
            if (s >= BLOCK || t >= BLOCK) continue;
            real value = 0;
            if (s < t && t < count) {
                value = gram[r][c] * of_W.step(t, s);
                if (bias) value += of_b.step(t, s);
            }
            // every row is written whole, with zeros for the samples that it does not have
            ahead[s * BLOCK + (t > s ? t - s - 1 : BLOCK - 1 - t)] = value;
        }
}

// Partial sums of 8 samples × COLUMNS, one a lane: n values in each of 32 lanes become one.
template <int n>
__device__ __forceinline__ real fold(real *value, int lane) {
    int half = n / 2;
#pragma unroll
    for (int offset = 16; half; offset /= 2, half /= 2) {
        bool upper = lane & offset;
#pragma unroll
        for (int j = 0; j < n / 2; j++)
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

// Add Σ_f x_t[f] w[f][column] of this thread's features to sums[warp][t][column].
__device__ void products(const VALUE *values, int count, int features, InputMap map,
                         const real *w, real (*sums)[BLOCK * COLUMNS]) {
    const int SAMPLES = 32 / COLUMNS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int low = 0; low < BLOCK; low += SAMPLES) {
        real z[SAMPLES * COLUMNS] = {};
        for (int f = threadIdx.x; f < features; f += blockDim.x) {
            real x[SAMPLES];
#pragma unroll
            for (int s = 0; s < SAMPLES; s++) {
                int64 t = low + s < count ? low + s : 0;  // a sample that is not there counts nowhere
                x[s] = map(values[t * features + f], f);
            }
#pragma unroll
            for (int s = 0; s < SAMPLES; s++)
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) z[s * COLUMNS + c] += x[s] * w[f * COLUMNS + c];
        }
        sums[warp][low * COLUMNS + lane] = fold<32>(z, lane);
    }
}

// Take the steps d of `before` samples, the first of them number `first`, then find the z of the
// `count` samples that follow them.
//
// W (features × hidden) and b, U and u their velocities
// or null, z and d (BLOCK × hidden). `before` or `count` may be 0. The coefficients of the block
// before and of the one that follows, or null. COLUMNS columns a thread block; dynamic shared memory
// for features × COLUMNS numbers, with a velocity for twice as many.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
first_layer(int64 first, int before, int count, const real *coefficients_before,
            const real *coefficients, const VALUE *values, int features, int hidden,
            const real *scale, const real *shift, int scale_step, int shift_step, const real *d,
            real *W, real *b, real *U, real *u, real *z) {
    DYNAMIC_SHARED(real, w);
    __shared__ real ds[2][BLOCK][COLUMNS], sums[WARPS][BLOCK * COLUMNS], start[2][COLUMNS];
    real *v = w + features * COLUMNS;
    values += first * features;
    const InputMap map{scale, shift, scale_step, shift_step};
    const int tid = threadIdx.x, column = blockIdx.x * COLUMNS;
    const Coefficients of_W{coefficients_before, 0}, of_b{coefficients_before, 1};

    for (int k = tid; k < BLOCK * COLUMNS; k += blockDim.x) {
        int s = k / COLUMNS, c = column + k % COLUMNS;
        real own = s < before && c < hidden ? d[s * hidden + c] : 0;
        ds[0][s][k % COLUMNS] = own * of_W.step(before, s);
        if (U) ds[1][s][k % COLUMNS] = own * of_W.step(before + 1, s);
    }
    __syncthreads();
    for (int f = tid; f < features; f += blockDim.x) {
        real moved[COLUMNS] = {}, speed[COLUMNS] = {};
#pragma unroll 8
        for (int s = 0; s < before; s++) {
            real x = map(values[int64(s) * features + f], f);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) moved[c] += x * ds[0][s][c];
            if (U)
                for (int c = 0; c < COLUMNS; c++) speed[c] += x * ds[1][s][c];
        }
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            if (column + c >= hidden) {
                w[f * COLUMNS + c] = 0;
                if (U) v[f * COLUMNS + c] = 0;
                continue;
            }
            int64 at = int64(f) * hidden + column + c;
            real old = W[at], old_speed = U ? U[at] : 0;
            if (before) {
                W[at] = moved[c] + (of_W.start(before) * old + of_W.velocity(before) * old_speed);
                if (U)
                    U[at] = speed[c] + (of_W(before + 1, 0) * old + of_W(before + 1, 1) * old_speed);
            }
            w[f * COLUMNS + c] = W[at];
            if (U) v[f * COLUMNS + c] = U[at];
        }
    }
    if (tid < COLUMNS) {
        int c = column + tid;
        real bias = 0, speed = 0;
        if (b && c < hidden) {
            bias = b[c];
            speed = u ? u[c] : 0;
            if (before) {
                real moved = of_b.start(before) * bias + of_b.velocity(before) * speed;
                real faster = u ? of_b(before + 1, 0) * bias + of_b(before + 1, 1) * speed : 0;
                for (int s = 0; s < before; s++) {
                    moved += of_b.step(before, s) * d[s * hidden + c];
                    if (u) faster += of_b.step(before + 1, s) * d[s * hidden + c];
                }
                b[c] = bias = moved;
                if (u) u[c] = speed = faster;
            }
        }
        start[0][tid] = bias;
        start[1][tid] = speed;
    }

    values += int64(before) * features;
    const Coefficients to_W{coefficients, 0}, to_b{coefficients, 1};
    for (int part = 0; part < (U ? 2 : 1) && count; part++) {
        products(values, count, features, map, part ? v : w, sums);
        __syncthreads();
        for (int k = tid; k < count * COLUMNS; k += blockDim.x) {
            int t = k / COLUMNS, c = k % COLUMNS;
            if (column + c >= hidden) continue;
            real sum = 0;
            for (int warp = 0; warp < blockDim.x / 32; warp++) sum += sums[warp][k];
            real *own = &z[t * hidden + column + c];
            sum *= part ? to_W.velocity(t) : to_W.start(t);
            if (b) sum += part ? to_b.velocity(t) * start[1][c] : to_b.start(t) * start[0][c];
            *own = part ? *own + sum : sum;
        }
        __syncthreads();
    }
}

// --- what is sequential -------------------------------------------------------------------

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
struct __align__(2 * sizeof(real)) Told {
    real carried, move;
};

// The layers behind the first, for `recurrence` without CLASSES: any depth and width.
//
// `weights` has each layer's matrix (fan_in × fan_out) and then its bias, one layer after the
// other; rows are `padded` to an odd length where they lie in shared memory, against bank
// conflicts. Every function is called by all threads.
struct Deeper {
    const int *sizes;  // of the first layer's output and of all behind it
    int layers, activation, loss, padded, bias;
    real low, high, momentum, penalty;
    real *weights, *speeds;  // the speeds lie as the weights do, or are null
    real *acts, *errors, *partial;
    int widest;

    __device__ __forceinline__ int stride(int width) const { return padded ? width | 1 : width; }

    __device__ void forward() const {
        real *W = weights, *a = acts;
        for (int l = 0; l < layers; l++) {
            const int fan_in = sizes[l], fan_out = sizes[l + 1], row = stride(fan_out);
            const int groups = max(1, int(blockDim.x) / fan_out);
            for (int k = threadIdx.x; k < groups * fan_out; k += blockDim.x) {
                int j = k % fan_out;
                real sum = 0;
                for (int i = k / fan_out; i < fan_in; i += groups) sum += a[i] * W[i * row + j];
                partial[k] = sum;
            }
            __syncthreads();
            for (int j = threadIdx.x; j < fan_out; j += blockDim.x) {
                real z = bias ? W[fan_in * row + j] : 0;
                for (int g = 0; g < groups; g++) z += partial[g * fan_out + j];
                a[fan_in + j] = l + 1 < layers ? activate(activation, z) : z;
            }
            __syncthreads();
            W += (fan_in + bias) * row;
            a += fan_in;
        }
    }

    // Turn the logits, which stand behind the last activations, into the errors that go back.
    __device__ void outputs(const real *logits, int classes, int label) const {
        if (threadIdx.x < 32) {
            real largest = LOWEST, sum = 0;
            if (loss == CROSS_ENTROPY) {
                for (int j = threadIdx.x; j < classes; j += 32)
                    largest = logits[j] > largest || logits[j] != logits[j] ? logits[j] : largest;
                largest = warp_max(largest);
                for (int j = threadIdx.x; j < classes; j += 32) sum += exp(logits[j] - largest);
                sum = warp_sum(sum);
            }
            for (int j = threadIdx.x; j < classes; j += 32) {
                real output = loss == CROSS_ENTROPY ? exp(logits[j] - largest) / sum
                                                    : sigmoid(logits[j]);
                real target = j == label ? high : low;
                real delta = output_delta(loss, output, target, high + (classes - 1) * low);
                errors[j] = delta;
                errors[widest + j] = carried_error(loss, output, target, delta);
            }
        }
        __syncthreads();
    }

    __device__ __forceinline__ void move(int64 at, real gradient, real rate) const {
        if (speeds) {
            real faster = momentum * speeds[at] - rate * gradient;
            speeds[at] = faster;
            weights[at] += faster;
        } else {
            weights[at] -= rate * gradient;
        }
    }

    // Split the errors back and step; returns where the first layer's δ stand.
    __device__ const real *backward(real rate) const {
        int64 at = 0;  // behind the last layer's weights
        const real *a = acts;
        for (int l = 0; l < layers; l++) {
            at += int64(sizes[l] + bias) * stride(sizes[l + 1]);
            a += sizes[l];
        }
        real *from = errors, *to = errors + 2 * widest;
        for (int l = layers - 1; l >= 0; l--) {
            const int fan_in = sizes[l], fan_out = sizes[l + 1], row = stride(fan_out);
            at -= int64(fan_in + bias) * row;
            a -= fan_in;
            const real *delta = from, *carried = from + widest;
            for (int i = threadIdx.x; i < fan_in; i += blockDim.x) {
                real error = 0;
                for (int j = 0; j < fan_out; j++) {
                    real w = weights[at + i * row + j];
                    error += w * carried[j];
                    move(at + i * row + j, a[i] * delta[j] + penalty * w, rate);
                }
                real own = error * derivative(activation, a[i]);
                to[i] = own;
                to[widest + i] = loss == RASHID ? error : own;
            }
            if (bias)
                for (int j = threadIdx.x; j < fan_out; j += blockDim.x)
                    move(at + fan_in * row + j, delta[j], rate);
            __syncthreads();
            real *swap = from;
            from = to;
            to = swap;
        }
        return from;
    }
};

// Copy the deeper weights to shared memory, where rows are padded to an odd length, or back.
__device__ void copy_weights(const int *sizes, int layers, int bias, real *flat, real *padded,
                             bool back) {
    for (int l = 0; l < layers; l++) {
        const int width = sizes[l + 1], row = width | 1, rows = sizes[l] + bias;
        for (int k = threadIdx.x; k < rows * width; k += blockDim.x) {
            real *here = padded + k / width * row + k % width;
            if (back)
                flat[k] = *here;
            else
                *here = flat[k];
        }
        flat += rows * width;
        padded += rows * row;
    }
}

// Run the recurrence of a block of `count` samples, the first of them number `first`, in one thread
// block.
//
// It is right-looking: a thread has UNITS hidden units, its registers hold their z of this sample
// and of the BLOCK - 1 that follow, and after each sample adds what its step is to them. The
// products of a shared row with a register never leave the thread.
//
// sizes: of the first layer's output and of all behind it, layers + 1 of them. deeper: their
// weights, each matrix row by row and then its bias; speeds likewise, or null without momentum.
// z (BLOCK × hidden) and ahead as the kernels above leave them. d: the first layer's steps, -η δ_1.
// logits: of each sample, before its update. in_shared: whether there is shared memory for the
// weights; those with speeds stay where they are. Dynamic shared memory: BLOCK² numbers; without CLASSES also, in this order, the sum of
// sizes, 4 × the largest of them, the larger of it and the threads, and the padded weights.
//
// With CLASSES, the number of classes, there is one hidden layer, its output weights stay in
// registers too, there is no momentum, and one barrier a sample suffices: each warp sums up its
// units' share of the logits, and after it all warps finish the same answer.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)
recurrence(int64 first, int count, const int *sizes, int layers, int activation, int loss, int bias,
           real low, real high, real momentum, real penalty, const real *rates,
           const int64 *labels, const real *z_start, const real *ahead, real *deeper, real *speeds,
           int in_shared, real *d, real *logits) {
    const int VECTOR = 16 / sizeof(real);
    DYNAMIC_SHARED(real, memory);
    const int tid = threadIdx.x, threads = blockDim.x, hidden = sizes[0];
    rates += first;
    labels += first;
    ahead += first * BLOCK;
    logits += first * sizes[layers];
    real *future = memory;
    for (int k = tid; k < BLOCK * BLOCK; k += threads) future[k] = ahead[k];

    real z[UNITS][BLOCK];
#pragma unroll
    for (int k = 0; k < UNITS; k++)
#pragma unroll
        for (int t = 0; t < BLOCK; t++) {
            int unit = tid + k * threads;
            z[k][t] = t < count && unit < hidden ? z_start[t * hidden + unit] : 0;
        }

#if CLASSES
    const int WIDE = CLASSES > 16 ? 32 : CLASSES > 8 ? 16 : CLASSES > 4 ? 8 : 4;
    __shared__ real partial[2][WARPS][WIDE];
    __shared__ Told told[WARPS][32];
    const int lane = tid % 32, warp = tid / 32;
    const real targets = high + (CLASSES - 1) * low;
    real w[UNITS][CLASSES];
#pragma unroll
    for (int k = 0; k < UNITS; k++)
#pragma unroll
        for (int j = 0; j < CLASSES; j++) {
            int unit = tid + k * threads;
            w[k][j] = unit < hidden ? deeper[unit * CLASSES + j] : 0;
        }
    real b = bias && lane < CLASSES ? deeper[hidden * CLASSES + lane] : 0;
#else
    const int classes = sizes[layers];
    int widest = 0, total = 0;
    for (int l = 0; l <= layers; l++) {
        widest = max(widest, sizes[l]);
        total += sizes[l];
    }
    real *acts = memory + BLOCK * BLOCK, *errors = acts + total, *partial = errors + 4 * widest;
    real *weights = in_shared ? partial + max(widest, threads) : deeper;
    if (in_shared) copy_weights(sizes, layers, bias, deeper, weights, false);
    const Deeper rest{sizes, layers,  activation, loss,   in_shared, bias,  low,
                      high,  momentum, penalty,    weights, speeds, acts, errors,
                      partial, widest};
    const real *answers = acts + total - classes;
#endif

    for (int t = 0; t < count; t++) {
        const real rate = rates[t];
        const int label = labels[t];
        real a[UNITS], step[UNITS];
#if CLASSES
        real sum[WIDE] = {};
        if (activation == SIGMOID)  // decided once, so that the units' functions run side by side
            for (int k = 0; k < UNITS; k++) a[k] = sigmoid(z[k][0]);
        else
            for (int k = 0; k < UNITS; k++) a[k] = activate(activation, z[k][0]);
#pragma unroll
        for (int k = 0; k < UNITS; k++) {
            a[k] = tid + k * threads < hidden ? a[k] : 0;
#pragma unroll
            for (int j = 0; j < CLASSES; j++) sum[j] += a[k] * w[k][j];
        }
        real own = fold<WIDE>(sum, lane);
        if (lane % (32 / WIDE) == 0) partial[t % 2][warp][lane / (32 / WIDE)] = own;
        __syncthreads();  // the other half of `partial` is read until the next one
        const bool there = lane < CLASSES;
        real share[WARPS];
#pragma unroll
        for (int other = 0; other < WARPS; other++)
            share[other] = other < threads / 32 ? partial[t % 2][other][lane % WIDE] : 0;
#pragma unroll
        for (int half = WARPS / 2; half; half /= 2)
            for (int other = 0; other < half; other++) share[other] += share[other + half];
        const real logit = b + share[0];
        const Answer found = answer(loss, there, logit, lane == label ? high : low, targets);
        if (warp == 0 && there) logits[t * CLASSES + lane] = logit;
        const real move = -rate * found.delta, keep = 1 - rate * penalty;
        // read until the next barrier, so written after it
        told[warp][lane] = {found.carried, move};
        __syncwarp();
        real error[UNITS] = {};
#pragma unroll
        for (int j = 0; j < CLASSES; j++) {
            const Told of = told[warp][j];
#pragma unroll
            for (int k = 0; k < UNITS; k++) {
                error[k] += w[k][j] * of.carried;
                w[k][j] = a[k] * of.move + keep * w[k][j];
            }
        }
        if (bias) b += move;
#pragma unroll
        for (int k = 0; k < UNITS; k++)
            step[k] = -rate * (error[k] * derivative(activation, a[k]));
#else
#pragma unroll
        for (int k = 0; k < UNITS; k++) {
            int unit = tid + k * threads;
            a[k] = layers ? activate(activation, z[k][0]) : z[k][0];
            if (unit < hidden) acts[unit] = a[k];
        }
        __syncthreads();
        rest.forward();
        for (int j = tid; j < classes; j += threads) logits[t * classes + j] = answers[j];
        rest.outputs(answers, classes, label);
        const real *delta = rest.backward(rate);
#pragma unroll
        for (int k = 0; k < UNITS; k++) {
            int unit = tid + k * threads;
            step[k] = unit < hidden ? -rate * delta[unit] : 0;
        }
#endif
#pragma unroll
        for (int k = 0; k < UNITS; k++) {
            int unit = tid + k * threads;
            if (unit < hidden) d[t * hidden + unit] = step[k];
        }
        const Vector *row = reinterpret_cast<const Vector *>(future + t * BLOCK);
#pragma unroll
        for (int i = 0; i < BLOCK - 1; i += VECTOR) {
            const Vector share = row[i / VECTOR];
#pragma unroll
            for (int e = 0; e < VECTOR; e++)
                if (i + e < BLOCK - 1)
#pragma unroll
                    for (int k = 0; k < UNITS; k++)
                        z[k][i + e] = share.of[e] * step[k] + z[k][i + e + 1];
        }
    }

#if CLASSES
#pragma unroll
    for (int k = 0; k < UNITS; k++) {
        int unit = tid + k * threads;
#pragma unroll
        for (int j = 0; j < CLASSES; j++)
            if (unit < hidden) deeper[unit * CLASSES + j] = w[k][j];
    }
    if (bias && tid < CLASSES) deeper[hidden * CLASSES + tid] = b;
#else
    if (in_shared) copy_weights(sizes, layers, bias, deeper, weights, true);
#endif
}
