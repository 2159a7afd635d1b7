// Noise for whole arrays. REAL is given when this is compiled.

// `noise.uniform`, a thread for each eight of the count units of all rows; `groups` of them a row,
// of which the first has the number `start`.
extern "C" __global__ void uniform(int64 count, uint64 key, uint32 layer, uint32 update, uint32 start,
                                   int groups, int units, real *out) {
    FOR_EACH(k, count) {
        const int64 row = k / groups;
        const int first = 8 * (k - row * groups);
        const Drawn drawn = philox(key, first / 8, start + row, layer, update);
        UNROLLED(i, 8)
            if (first + i < units)
                out[row * units + first + i] = (real(int(drawn(i))) - 32768) / 65536;
    }
}
