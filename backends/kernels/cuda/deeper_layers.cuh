// The layers after the first, for a single sample in one thread block.

// For `recurrence` without CLASSES: any depth and width.
//
// `weights` has each layer's matrix (fan_in × fan_out) and then its bias, one layer after the
// other; rows are `padded` to an odd length where they lie in shared memory, against bank
// conflicts. Every function is called by all threads.
struct Deeper {
    const int *sizes;  // of the first layer's output and of all after it
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

    // Turn the logits, which stand after the last activations, into the errors that go back.
    __device__ void outputs(const real *logits, int classes, int label) const {
        if (threadIdx.x < 32) {
            Softmax of{};
            if (loss == CROSS_ENTROPY) of = softmax(logits, classes);
            for (int j = threadIdx.x; j < classes; j += 32) {
                real output = loss == CROSS_ENTROPY ? exp(logits[j] - of.largest) / of.sum
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
        int64 at = 0;  // after the last layer's weights
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
