// Random numbers from a counter, Philox 4×32 with ten rounds: the meaning is noise.philox.

// Eight numbers from 0 to 65535, two a word, the lower half first.
struct Drawn {
    uint32 words[4];

    __device__ __forceinline__ uint32 operator()(int i) const {
        return words[i / 2] >> 16 * (i % 2) & 0xffff;
    }
};

// What eight units of a row of a layer draw; `group` counts the eights.
__device__ __forceinline__ Drawn philox(uint64 key, uint32 group, uint32 row, uint32 layer,
                                        uint32 update) {
    uint32 a = group, b = row, c = layer, d = update, low = key, high = key >> 32;
    UNROLLED(round, 10) {
        const uint64 p = uint64(0xD2511F53) * a, q = uint64(0xCD9E8D57) * c;
        a = uint32(q >> 32) ^ b ^ low;
        c = uint32(p >> 32) ^ d ^ high;
        b = q;
        d = p;
        low += 0x9E3779B9;
        high += 0xBB67AE85;
    }
    return {{a, b, c, d}};
}
