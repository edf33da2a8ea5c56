/* memcpy of the C library, which chooses its instructions by what the CPU says it has: sizes from a few bytes to many
 * pages, at odd places. */
#include "suite.h"

#include <string.h>

enum { length = 1 << 20, rounds = 14 };

static unsigned char *from, *to;

static void prepare(void)
{
    uint64_t state = 37;
    from = get_memory(length + 64);
    to = get_memory(length + 64);
    for (int i = 0; i < length + 64; i++)
        from[i] = (unsigned char)next_random(&state);
    memset(to, 0, length + 64);
}

static uint64_t run(void)
{
    static const size_t sizes[] = {7, 24, 100, 333, 1500, 4096, 20000, 262144};
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t size = sizes[i], skew = (size_t)(round * 5 + (int)i) & 31;
            for (size_t at = 0; at + size <= length; at += size)
                memcpy(to + at + (skew >> 2), from + at + skew, size);
            sum = fold(sum, to[(size * 3 + (size_t)round * 4099) % length]);
        }
    return sum;
}

const struct item memcpy_item = {"memcpy", prepare, run};
