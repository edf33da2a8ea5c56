/* Sorts integers: unpredictable branches, and a recursion with a loop. */
#include "suite.h"

#include <string.h>

enum { count = 1 << 18, rounds = 8 };

static int32_t source[count], values[count];

static void prepare(void)
{
    uint64_t state = 5;
    for (int i = 0; i < count; i++)
        source[i] = (int32_t)next_random(&state);
    memcpy(values, source, sizeof values);
}

static void insert_sort(int32_t *from, int32_t *end)
{
    for (int32_t *next = from + 1; next < end; next++) {
        int32_t value = *next, *place = next;
        for (; place > from && place[-1] > value; place--)
            *place = place[-1];
        *place = value;
    }
}

static void sort(int32_t *from, int32_t *end)
{
    while (end - from > 16) {
        int32_t pivot = from[(end - from) / 2], *low = from, *high = end - 1;
        while (low <= high) {
            while (*low < pivot)
                low++;
            while (*high > pivot)
                high--;
            if (low <= high) {
                int32_t kept = *low;
                *low++ = *high;
                *high-- = kept;
            }
        }
        /* The smaller part by a call, so that the stack stays small. */
        if (high + 1 - from < end - low) {
            sort(from, high + 1);
            from = low;
        } else {
            sort(low, end);
            end = high + 1;
        }
    }
    insert_sort(from, end);
}

static uint64_t run(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        memcpy(values, source, sizeof values);
        sort(values, values + count);
        for (int i = 0; i < count; i += 97)
            sum = fold(sum, (uint32_t)values[i]);
    }
    return sum;
}

const struct item quicksort_item = {"quicksort", prepare, run};
