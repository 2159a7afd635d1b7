// The first layer in blocks of single samples: the Gram matrices of all blocks, and the products
// with the samples before and after a block's sequential part.

// Of thread block b: ahead[b][s][i] is what sample s + 1 + i gets of the step of sample s, that is
// x_s · x_t (+ 1 beside a bias), times their coefficients. 256 threads.
extern "C" __global__ void __launch_bounds__(256)
mixing(const VALUE *values, int64 n, int features, const real *scale, const real *shift,
       int scale_step, int shift_step, int bias, const real *tables, int64 alike, real *ahead) {
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
    const real *own = own_table(tables, alike, bias, blockIdx.x);
    const Coefficients of_W{own, 0}, of_b{own, 1};
    ahead += first * BLOCK;
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

// Add Σ_f x_t[f] w[f][column] of this thread's features to sums[warp][t][column].
__device__ void products(const VALUE *values, int count, int features, InputMap map,
                         const real *w, real (*sums)[BLOCK * COLUMNS]) {
    const int SAMPLES = 32 / COLUMNS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int low = 0; low < BLOCK; low += SAMPLES) {
        real z[SAMPLES * COLUMNS] = {};
        for (int f = threadIdx.x; f < features; f += blockDim.x) {
            real x[SAMPLES];
            UNROLLED(s, SAMPLES) {
                int64 t = low + s < count ? low + s : 0;  // a sample that is not there counts nowhere
                x[s] = map(values[t * features + f], f);
            }
            UNROLLED(s, SAMPLES)
                UNROLLED(c, COLUMNS) z[s * COLUMNS + c] += x[s] * w[f * COLUMNS + c];
        }
        sums[warp][low * COLUMNS + lane] = fold<32>(z, lane);
    }
}

// Take the steps d of the block before, then find the z of the block that follows; either of them
// may not be there.
//
// W (features × hidden) and b, U and u their velocities or null, z and d (BLOCK × hidden). COLUMNS
// columns a thread block; dynamic shared memory for features × COLUMNS numbers, with a velocity for
// twice as many.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)
first_layer(const Cursor *cursor, int features, int hidden, const real *scale, const real *shift,
            int scale_step, int shift_step, const real *d, real *W, real *b, real *U, real *u,
            real *z) {
    DYNAMIC_SHARED(real, w);
    __shared__ real ds[2][BLOCK][COLUMNS], sums[WARPS][BLOCK * COLUMNS], start[2][COLUMNS];
    real *v = w + features * COLUMNS;
    const int before = cursor->before, count = cursor->count();
    const int64 first = cursor->done - before;
    const VALUE *values = cursor->values + first * features;
    const InputMap map{scale, shift, scale_step, shift_step};
    const int tid = threadIdx.x, column = blockIdx.x * COLUMNS;
    const real *coefficients_before = cursor->table(first, b);
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
            UNROLLED(c, COLUMNS) moved[c] += x * ds[0][s][c];
            if (U)
                for (int c = 0; c < COLUMNS; c++) speed[c] += x * ds[1][s][c];
        }
        UNROLLED(c, COLUMNS) {
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
    const real *coefficients = cursor->table(cursor->done, b);
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
