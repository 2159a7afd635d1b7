// What lies between the matrix products of a step on a mini-batch, each in one launch.
//
// A step is captured once and replayed for every batch, so nothing here may depend on which batch
// it is but through `cursor`, a few numbers on the device, and `factors`, which `inputs` sets from
// them: what the products are multiplied by, and their targets before, and what the updates take.
//
// REAL and VALUE are given when this is compiled. Where a bias, a velocity or a result is null
// there is none. Before this stand `network.cuh`, `philox.cuh`, `strips.cuh` and `updates.cuh`.

// see `begin`
enum Cursor { NEXT, BATCH, VALUES, LABELS, RATES, LOSSES, WEIGHTS, STEPS, KEY, NOISE };
enum Target { TO_WEIGHTS, TO_VELOCITIES, TO_GRADIENTS };  // what the products change

const real GELU_SCALE = 0.79788456080286535588, GELU_CUBE = 0.044715;
const real EPSILON = 1e-5;  // of BatchNormalization

// The argument of gelu's tanh.
__device__ __forceinline__ real gelu_u(real z) { return GELU_SCALE * z * (1 + GELU_CUBE * z * z); }

__device__ __forceinline__ real activation_of(int activation, real z) {
    return activation == GELU ? z / 2 * (1 + tanh(gelu_u(z))) : activate(activation, z);
}

// The derivative, written in the activation a or, where that does not determine it, in z.
__device__ __forceinline__ real slope(int activation, real a, real z) {
    if (activation != GELU) return derivative(activation, a);
    const real t = tanh(gelu_u(z));
    return (1 + t) / 2 + z / 2 * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBE * z * z);
}

// Store where the samples to be learned are, and their weights; the optimiser has made `steps`
// before, and of a key the noise of update number `noise` is the first batch's.
extern "C" __global__ void begin(int64 *cursor, const VALUE *values, const int64 *labels,
                                 const real *rates, real *losses, const real *weights, int64 steps,
                                 uint64 key, int64 noise) {
    cursor[NEXT] = 0;  // batch
    cursor[VALUES] = reinterpret_cast<int64>(values);
    cursor[LABELS] = reinterpret_cast<int64>(labels);
    cursor[RATES] = reinterpret_cast<int64>(rates);
    cursor[LOSSES] = reinterpret_cast<int64>(losses);
    cursor[WEIGHTS] = reinterpret_cast<int64>(weights);
    cursor[STEPS] = steps;
    cursor[KEY] = key;
    cursor[NOISE] = noise;
}

// Set what the step of the next batch, of n samples, takes besides them.
__device__ void set_factors(int64 *cursor, int n, int target, real momentum, real penalty,
                            double beta1, double beta2, double averaging, real *factors) {
    const int64 batch = cursor[BATCH] = cursor[NEXT];
    if (!factors) return;
    const real rate = reinterpret_cast<const real *>(cursor[RATES])[batch];
    const double steps = cursor[STEPS] + batch + 1, most = (1 + steps) / (10 + steps);
    factors[RATE] = rate;
    factors[ALPHA] = target == TO_GRADIENTS ? real(1) / n : -rate / n;
    factors[BETA] = target == TO_GRADIENTS    ? 0
                    : target == TO_VELOCITIES ? momentum
                                              : 1 - rate * penalty;
    factors[SHARE] = 1 - (averaging < most ? averaging : most);  // as `Rule.move_average`
    // the bias corrections of Adam's algorithm 1
    factors[MEAN_RATE] = rate / (1 - pow(beta1, steps));
    factors[SCALE] = 1 / (1 - pow(beta2, steps));
}

__device__ __forceinline__ Dropout dropout_of(const int64 *cursor, int layer, int threshold,
                                              real kept) {
    return {threshold, kept, uint64(cursor[KEY]), uint32(layer),
            uint32(cursor[NOISE] + cursor[BATCH])};
}

// The input map on the next n samples, and their dropout: a warp takes 256 features of a sample.
// batch_size is that of all batches but the last.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
inputs(int64 *cursor, int n, int batch_size, int features, const real *scale, const real *shift,
       int scale_step, int shift_step, int threshold, real kept, real *x, int target, real momentum,
       real penalty, double beta1, double beta2, double averaging, real *factors) {
    const InputMap map{scale, shift, scale_step, shift_step};
    const int64 batch = cursor[NEXT];  // other threads may not yet see what is set here
    if (blockIdx.x == 0 && threadIdx.x == 0)
        set_factors(cursor, n, target, momentum, penalty, beta1, beta2, averaging, factors);
    const Dropout dropout{threshold, kept, uint64(cursor[KEY]), 0, uint32(cursor[NOISE] + batch)};
    const int lane = threadIdx.x % 32, parts = (features + 255) / 256;
    const int64 warp = int64(blockIdx.x) * WARPS + threadIdx.x / 32, row = warp / parts;
    if (row >= n) return;
    const int first = warp % parts * 256;
    const VALUE *values =
        reinterpret_cast<const VALUE *>(cursor[VALUES]) + (batch * batch_size + row) * features;
    const uint32 bits = dropout.bits(row, first / 8 + lane);
    UNROLLED(i, 8) {
        const int f = first + 32 * i + lane;
        const bool is_kept = __shfl_sync(FULL_WARP, bits, 4 * i + lane / 8) >> lane % 8 & 1;
        if (f < features) x[row * features + f] = dropout(is_kept, map(values[f], f));
    }
}

// The input map on the numbers of whole samples, by itself.
extern "C" __global__ void map_inputs(int64 count, int features, const real *scale,
                                      const real *shift, int scale_step, int shift_step,
                                      const VALUE *values, real *x) {
    const InputMap map{scale, shift, scale_step, shift_step};
    FOR_EACH(k, count) x[k] = map(values[k], k % features);
}

// From a hidden layer's product z to its activations, dropped units 0.
//
// `a` may be z; where it is not, z becomes what the way back asks for: z + b, or normalised by its
// `gain`, the normal numbers, and then the grid has one row. `mean` and `variance` are the running
// ones, `spread` receives 1 / √(variance + ε) of the batch.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
hidden(const int64 *cursor, int n, int units, int layer, int activation, int threshold, real kept,
       const real *b, real *z, real *a, const real *gain, real *mean, real *variance,
       real *spread) {
    const Strip strip(n, units, blockIdx.x);
    const int column = strip.column;
    const bool is_there = strip.there();
    const auto sum_at = [&](int64 at) { return z[at]; };
    real middle = 0, scale = 1, factor = 1;
    const real shift = b && is_there ? b[column] : 0;
    if (gain) {
        real own = 0;
        strip.for_each({}, sum_at, [&](int64, bool, real sum) { own += sum; });
        middle = column_sum(own) / n;
        own = 0;
        strip.for_each({}, sum_at,
                       [&](int64, bool, real sum) { own += (sum - middle) * (sum - middle); });
        const real squares = column_sum(own);
        scale = 1 / sqrt(squares / n + EPSILON);
        factor = is_there ? gain[column] : 0;
        if (threadIdx.x < STRIP && is_there) {
            spread[column] = scale;
            if (n > 1) {  // a single sample has no variance
                mean[column] += real(0.1) * (middle - mean[column]);
                variance[column] += real(0.1) * (squares / (n - 1) - variance[column]);
            }
        }
    }
    const Dropout dropout = dropout_of(cursor, layer, threshold, kept);
    strip.for_each(dropout, sum_at, [&](int64 at, bool is_kept, real sum) {
        const real normal = (sum - middle) * scale;
        const real shifted = gain ? factor * normal + shift : sum + shift;
        if (gain)
            z[at] = normal;
        else if (z != a)
            z[at] = shifted;
        a[at] = dropout(is_kept, activation_of(activation, shifted));
    });
}

// The output layer of n samples, a warp each: z becomes the logits; then the outputs, or the loss
// and the errors that go back, times the sample's weight over its batch's mean. `carried` may be null where it is `delta`.
extern "C" __global__ void answers(int64 *cursor, int n, int batch_size, int classes, int loss, real low,
                                   real high, const real *b, real *z, real *outputs, real *delta,
                                   real *carried) {
    const int warps = blockDim.x / 32, lane = threadIdx.x % 32;
    const int64 first = cursor[BATCH] * batch_size;
    const int64 *labels = reinterpret_cast<const int64 *>(cursor[LABELS]) + first;
    const real *weights = reinterpret_cast<const real *>(cursor[WEIGHTS]);
    real *losses = reinterpret_cast<real *>(cursor[LOSSES]) + first;
    const real targets = high + (classes - 1) * low;
    for (int64 i = int64(blockIdx.x) * warps + threadIdx.x / 32; i < n;
         i += int64(gridDim.x) * warps) {
        real *logits = z + i * classes;
        for (int j = lane; j < classes && b; j += 32) logits[j] += b[j];
        const real by = weights ? weights[first + i] : 1;
        Softmax of{};
        if (loss == CROSS_ENTROPY) of = softmax(logits, classes);
        real total = 0;
        for (int j = lane; j < classes; j += 32) {
            const real logit = logits[j];
            const real output =
                loss == CROSS_ENTROPY ? exp(logit - of.largest) / of.sum : sigmoid(logit);
            if (outputs) outputs[i * classes + j] = output;
            if (!delta) continue;
            const real target = j == labels[i] ? high : low;
            const real own = output_delta(loss, output, target, targets);
            delta[i * classes + j] = by * own;
            if (carried) carried[i * classes + j] = by * carried_error(loss, output, target, own);
            if (loss == CROSS_ENTROPY) {
                total += target * (of.largest + log(of.sum) - logit);
            } else if (loss == BINARY_CROSS_ENTROPY) {
                // in z, so that a saturated output costs no infinity
                real positive = logit < 0 ? 0 : logit;
                total += positive + log1p(exp(-fabs(logit))) - target * logit;
            } else {
                total += (target - output) * (target - output) / 2;
            }
        }
        if (!delta) continue;
        total = warp_sum(total);
        if (lane == 0) losses[i] = total;
    }
    // no kernel of this step reads NEXT any more
    if (blockIdx.x == 0 && threadIdx.x == 0) cursor[NEXT] += 1;
}

// δ of a hidden layer from the error split back to it; `delta` may be `error`.
//
// The arguments are those of `hidden`, with `a` and `z` as it left them. With `raw` errors the one
// that goes on is left in `error`. A normalised layer's gradients, of its gain and shift, are means.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
split(const int64 *cursor, int n, int units, int layer, int activation, int threshold, real kept,
      const real *b, const real *z, const real *a, int raw, real *error, real *delta,
      const real *gain, const real *spread, real *gain_gradient, real *shift_gradient) {
    struct Loaded {
        real error, a, z;
    };
    const Strip strip(n, units, blockIdx.x);
    const int column = strip.column;
    const bool is_there = strip.there();
    const real factor = gain && is_there ? gain[column] : 1;
    const real shift = gain && is_there ? b[column] : 0;
    const Dropout dropout = dropout_of(cursor, layer, threshold, kept);
    real own_shift = 0, own_gain = 0;
    strip.for_each(
        dropout, [&](int64 at) -> Loaded { return {error[at], a[at], z[at]}; },
        [&](int64 at, bool is_kept, Loaded of) {
            const real carried = dropout(is_kept, of.error);
            const real own =
                carried * slope(activation, of.a / kept, factor * of.z + shift);
            if (raw) error[at] = carried;
            delta[at] = own;
            own_shift += own;
            own_gain += own * of.z;
        });
    if (!gain) return;
    const real by_shift = column_sum(own_shift) / n, by_gain = column_sum(own_gain) / n;
    if (threadIdx.x < STRIP && is_there) {
        shift_gradient[column] = by_shift;
        gain_gradient[column] = by_gain;
    }
    const real scale = is_there ? factor * spread[column] : 0;
    strip.for_each(
        {}, [&](int64 at) -> Loaded { return {delta[at], 0, z[at]}; },
        [&](int64 at, bool, Loaded of) {
            delta[at] = scale * (of.error - by_shift - of.z * by_gain);
        });
}
