/* Calls and returns: in how many ways a number is a sum of descending parts, without remembering anything. */
#include "suite.h"

/* Not inlined, or the compiler would make loops of most calls. */
static uint64_t __attribute__((noinline, noclone)) partitions(int rest, int largest)
{
    if (rest == 0)
        return 1;
    if (rest < 0 || largest == 0)
        return 0;
    return partitions(rest - largest, largest) + partitions(rest, largest - 1);
}

static uint64_t run(void)
{
    return partitions(64, 63);
}

const struct item recursion_item = {"recursion", NULL, run};
