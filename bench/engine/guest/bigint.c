/* Multiplies large integers limb by limb: 64 by 64 bits to 128, and carries. */
#include "suite.h"

enum { limbs = 128, rounds = 3000 };

static uint64_t a[limbs], b[limbs], product[2 * limbs];

static void prepare(void)
{
    uint64_t state = 23;
    for (int i = 0; i < limbs; i++) {
        a[i] = next_random(&state);
        b[i] = next_random(&state);
    }
}

static void multiply(void)
{
    for (int i = 0; i < 2 * limbs; i++)
        product[i] = 0;
    for (int i = 0; i < limbs; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < limbs; j++) {
            unsigned __int128 sum = (unsigned __int128)a[i] * b[j] + product[i + j] + carry;
            product[i + j] = (uint64_t)sum;
            carry = (uint64_t)(sum >> 64);
        }
        product[i + limbs] = carry;
    }
}

static uint64_t run(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        multiply();
        sum = fold(sum, product[limbs]);
        /* The next round multiplies what this one made. */
        a[round % limbs] ^= product[limbs + 1];
    }
    return sum;
}

const struct item bigint_item = {"bigint", prepare, run};
