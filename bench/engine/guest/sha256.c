/* SHA-256 (FIPS 180-4) of a buffer in the first-level cache: 32-bit rotations, additions and logic. */
#include "suite.h"

enum { buffer_bytes = 4096, rounds = 3200 };

static uint32_t constants[64], initial[8];
static unsigned char buffer[buffer_bytes];

/* The first 32 bits behind the point of the square or cube root of a prime, which is what the standard's constants are
 * (sections 4.2.2 and 5.3.3). */
static uint32_t fraction_of_root(unsigned prime, int power)
{
    unsigned __int128 target = (unsigned __int128)prime << (32 * power);
    uint64_t low = 0, high = (uint64_t)1 << 37;
    while (high - low > 1) {
        uint64_t middle = (low + high) / 2;
        unsigned __int128 product = (unsigned __int128)middle * middle;
        if (power == 3)
            product *= middle;
        if (product <= target)
            low = middle;
        else
            high = middle;
    }
    return (uint32_t)low;
}

static void prepare(void)
{
    unsigned count = 0;
    for (unsigned candidate = 2; count < 64; candidate++) {
        unsigned divisor = 2;
        while (candidate % divisor != 0)
            divisor++;
        if (divisor != candidate)
            continue;
        constants[count] = fraction_of_root(candidate, 3);
        if (count < 8)
            initial[count] = fraction_of_root(candidate, 2);
        count++;
    }
    uint64_t state = 1;
    for (unsigned i = 0; i < buffer_bytes; i++)
        buffer[i] = (unsigned char)next_random(&state);
}

static inline uint32_t rotate(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static void add_block(uint32_t state[8], const unsigned char *block)
{
    uint32_t w[64];
    for (int i = 0; i < 16; i++, block += 4)
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
    for (int i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        uint32_t small0 = rotate(x, 7) ^ rotate(x, 18) ^ x >> 3;
        uint32_t small1 = rotate(y, 17) ^ rotate(y, 19) ^ y >> 10;
        w[i] = w[i - 16] + small0 + w[i - 7] + small1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t first = h + big1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        uint32_t big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t second = big0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first;
        d = c, c = b, b = a, a = first + second;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static uint64_t run(void)
{
    uint32_t state[8];
    for (int i = 0; i < 8; i++)
        state[i] = initial[i];
    for (int round = 0; round < rounds; round++)
        for (unsigned at = 0; at < buffer_bytes; at += 64)
            add_block(state, buffer + at);
    return (uint64_t)state[0] << 32 | state[7];
}

const struct item sha256_item = {"sha256", prepare, run};
