// Deformed images: where each pixel comes from, and the mean of the four around that place.
//
// Places and means are REAL, pixels are VALUE; both are given when this is compiled.

// `Backend.deform`, a pixel a thread and the operations in its order. `fields` may be null.
extern "C" __global__ void deform(int64 count, int height, int width, const VALUE *images,
                                  const real *maps, const real *fields, real background,
                                  VALUE *out) {
    const int64 pixels = int64(height) * width;
    const real last_row = height - 1, last_column = width - 1;
    const real y_middle = last_row / 2, x_middle = last_column / 2;
    FOR_EACH(k, count) {
        const int64 line = k / width, image = line / height, first = image * pixels;
        const real y = int(line - image * height) - y_middle, x = int(k - line * width) - x_middle;
        const real *m = maps + 6 * image;
        real row = m[0] * y + m[1] * x + m[2] + y_middle;
        real column = m[3] * y + m[4] * x + m[5] + x_middle;
        if (fields) {
            row += fields[first + k];
            column += fields[first + k + pixels];
        }
        real value = background;
        // so that NaN is outside
        if (row >= 0 && row <= last_row && column >= 0 && column <= last_column) {
            const int top = row, left = column;
            const int64 below = row < last_row ? width : 0;
            const int beside = column < last_column;
            const VALUE *at = images + first + int64(top) * width + left;
            const real weight = column - left;
            real upper = at[0], lower = at[below];
            upper += (real(at[beside]) - upper) * weight;
            lower += (real(at[below + beside]) - lower) * weight;
            value = upper + (lower - upper) * (row - top);
        }
        if (VALUE(0.5f) == VALUE(0)) value = rint(value);  // to the even one, of integers
        out[k] = value;
    }
}
