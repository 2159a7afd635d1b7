// What lies between the matrix products of a mini-batch step, each in one launch.
//
// A step is captured once and replayed for every batch, so nothing here may depend on which batch
// it is but through `cursor`, a few numbers on the device, and `factors`, which `inputs` sets from
// them: what the products are multiplied by, and their targets before.
//
// REAL and VALUE are given when this is compiled. Where a bias, a velocity or a result is null
// there is none.

enum Cursor { NEXT, ROW, VALUES, LABELS, RATES, LOSSES, STEPS };  // see `begin`
enum Factor { ALPHA, BETA, BIAS_BETA, RATE, MEAN_RATE, SCALE };
enum Optimizer { SGD, MOMENTUM, ADAM };

// Store where the samples to be learned are; the optimiser has made `steps` before.
extern "C" __global__ void begin(int64 *cursor, const VALUE *values, const int64 *labels,
                                 const real *rates, real *losses, int64 steps) {
    cursor[NEXT] = 0;  // batch
    cursor[ROW] = 0;   // its first sample
    cursor[VALUES] = reinterpret_cast<int64>(values);
    cursor[LABELS] = reinterpret_cast<int64>(labels);
    cursor[RATES] = reinterpret_cast<int64>(rates);
    cursor[LOSSES] = reinterpret_cast<int64>(losses);
    cursor[STEPS] = steps;
}

// The input map on the next n samples, a thread block each; batch_size is that of all batches but
// the last.
extern "C" __global__ void inputs(int64 *cursor, int n, int batch_size, int features,
                                  const real *scale, const real *shift, int scale_step,
                                  int shift_step, real *x, int optimizer, real momentum,
                                  real penalty, double beta1, double beta2, real *factors) {
    const InputMap map{scale, shift, scale_step, shift_step};
    const int64 batch = cursor[NEXT], row = batch * batch_size;
    const VALUE *values = reinterpret_cast<const VALUE *>(cursor[VALUES]) + row * features;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        cursor[ROW] = row;
        if (factors) {
            const real rate = reinterpret_cast<const real *>(cursor[RATES])[batch];
            factors[RATE] = rate;
            if (optimizer == ADAM) {  // the bias corrections of the paper's algorithm 1
                const double steps = cursor[STEPS] + batch + 1;
                factors[ALPHA] = real(1) / n;
                factors[BETA] = factors[BIAS_BETA] = 0;
                factors[MEAN_RATE] = rate / (1 - pow(beta1, steps));
                factors[SCALE] = 1 / (1 - pow(beta2, steps));
            } else {
                factors[ALPHA] = -rate / n;
                factors[BETA] = optimizer == MOMENTUM ? momentum : 1 - rate * penalty;
                factors[BIAS_BETA] = optimizer == MOMENTUM ? momentum : 1;
            }
        }
    }
    const int64 own = int64(blockIdx.x) * features;
    for (int f = threadIdx.x; f < features; f += blockDim.x) x[own + f] = map(values[own + f], f);
}

// The input map on the numbers of whole samples, by itself.
extern "C" __global__ void map_inputs(int64 count, int features, const real *scale,
                                      const real *shift, int scale_step, int shift_step,
                                      const VALUE *values, real *x) {
    const InputMap map{scale, shift, scale_step, shift_step};
    FOR_EACH(k, count) x[k] = map(values[k], k % features);
}

// a = f(z + b), in place, a thread block each sample.
extern "C" __global__ void hidden(int units, int activation, const real *b, real *z) {
    z += int64(blockIdx.x) * units;
    for (int j = threadIdx.x; j < units; j += blockDim.x)
        z[j] = activate(activation, b ? z[j] + b[j] : z[j]);
}

// The output layer of n samples, a warp each: z becomes the logits; then the outputs, or the loss
// and the errors that go back. `carried` may be null where it is `delta`.
extern "C" __global__ void answers(int64 *cursor, int n, int classes, int loss, real low, real high,
                                   const real *b, real *z, real *outputs, real *delta,
                                   real *carried) {
    const int warps = blockDim.x / 32, lane = threadIdx.x % 32;
    const int64 *labels = reinterpret_cast<const int64 *>(cursor[LABELS]) + cursor[ROW];
    real *losses = reinterpret_cast<real *>(cursor[LOSSES]) + cursor[ROW];
    const real targets = high + (classes - 1) * low;
    for (int64 i = int64(blockIdx.x) * warps + threadIdx.x / 32; i < n;
         i += int64(gridDim.x) * warps) {
        real *logits = z + i * classes;
        for (int j = lane; j < classes && b; j += 32) logits[j] += b[j];
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
            delta[i * classes + j] = own;
            if (carried) carried[i * classes + j] = carried_error(loss, output, target, own);
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
extern "C" __global__ void split(int64 count, int activation, const real *a, const real *error,
                                 real *delta) {
    FOR_EACH(k, count) delta[k] = error[k] * derivative(activation, a[k]);
}

// sum ← beta · sum + alpha · Σ δ over the n samples, as the products do for the matrices. 32 × 8
// threads, 32 columns a thread block.
extern "C" __global__ void column_sums(int n, int units, const real *delta, const real *factors,
                                       real *sum) {
    __shared__ real part[8][33];
    const int column = blockIdx.x * 32 + threadIdx.x;
    real own = 0;
    if (column < units)
        for (int64 i = threadIdx.y; i < n; i += 8) own += delta[i * units + column];
    part[threadIdx.y][threadIdx.x] = own;
    __syncthreads();
    if (threadIdx.y || column >= units) return;
    for (int y = 1; y < 8; y++) own += part[y][threadIdx.x];
    const real before = factors[BIAS_BETA] ? factors[BIAS_BETA] * sum[column] : 0;
    sum[column] = before + factors[ALPHA] * own;
}

// w ← w + v, once v has its momentum and gradient; the penalty comes on top.
extern "C" __global__ void velocity_step(int64 count, real penalty, const real *factors, real *w,
                                         real *v) {
    FOR_EACH(k, count) {
        real speed = v[k] - factors[RATE] * penalty * w[k];
        v[k] = speed;
        w[k] += speed;
    }
}

// One step of Adam, or of AdamW with a decay; `inputs` has left what the step's number goes into.
extern "C" __global__ void adam_step(int64 count, real penalty, real decay, real beta1, real beta2,
                                     real epsilon, const real *factors, const real *gradient,
                                     real *w, real *mean, real *square) {
    FOR_EACH(k, count) {
        const real before = w[k], g = gradient[k] + penalty * before;
        const real m = beta1 * mean[k] + (1 - beta1) * g;
        const real s = beta2 * square[k] + (1 - beta2) * g * g;
        mean[k] = m;
        square[k] = s;
        w[k] = before * (1 - factors[RATE] * decay) -
               factors[MEAN_RATE] * m / (sqrt(s * factors[SCALE]) + epsilon);
    }
}
