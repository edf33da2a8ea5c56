/* y = a x + y with vectors of four floats, written as vectors: what the compiler thinks of loops does not matter. */
#include "suite.h"

#include <string.h>

typedef float vector __attribute__((vector_size(16)));

enum { vectors = 1024, rounds = 1800 };

static vector x[vectors], y[vectors];

static void prepare(void)
{
    uint64_t state = 31;
    for (int i = 0; i < vectors; i++)
        for (int j = 0; j < 4; j++) {
            x[i][j] = (float)(next_random(&state) & 1023) / 64.0f;
            y[i][j] = (float)(next_random(&state) & 1023) / 64.0f;
        }
}

static uint64_t run(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        /* In turn, so that nothing grows beyond what a float can hold exactly enough. */
        float factor = round & 1 ? -0.75f : 0.75f;
        vector a = {factor, factor, factor, factor};
        for (int i = 0; i < vectors; i++)
            y[i] = a * x[i] + y[i];
    }
    for (int i = 0; i < vectors; i++)
        for (int j = 0; j < 4; j++) {
            uint32_t bits;
            float value = y[i][j];
            memcpy(&bits, &value, sizeof bits);
            sum = fold(sum, bits);
        }
    return sum;
}

const struct item saxpy_item = {"saxpy", prepare, run};
