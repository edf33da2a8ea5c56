/* Follows pointers through 16 MiB in an order that no prefetcher guesses: the memory's latency, and the engine's TLB. */
#include "suite.h"

enum { nodes = 1 << 18, steps = 1500000 };

/* As large as a cache line. */
struct node {
    struct node *next;
    uint64_t value[7];
};

static struct node *all;

/* One cycle through all nodes: each is exchanged with one before it only (Sattolo's variant of a shuffle). */
static void prepare(void)
{
    uint32_t *order = get_memory(nodes * sizeof *order);
    uint64_t state = 3;
    all = get_memory(nodes * sizeof *all);
    for (uint32_t i = 0; i < nodes; i++)
        order[i] = i;
    for (uint32_t i = nodes - 1; i > 0; i--) {
        uint32_t other = (uint32_t)(next_random(&state) % i), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (uint32_t i = 0; i < nodes; i++) {
        all[i].next = &all[order[i]];
        all[i].value[0] = i;
    }
}

static uint64_t run(void)
{
    const struct node *node = all;
    uint64_t sum = 0;
    for (int i = 0; i < steps; i++) {
        sum += node->value[0] ^ (uint64_t)i;
        node = node->next;
    }
    return sum;
}

const struct item chase_item = {"chase", prepare, run};
