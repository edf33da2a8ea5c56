/* A hash table with open addressing: one that stays in the first-level cache, and one that no cache holds. */
#include "suite.h"

#include <string.h>

struct entry {
    uint64_t key, count;
};

struct table {
    struct entry *entries;
    uint64_t mask;
};

enum { small_places = 1 << 10, large_places = 1 << 20 };

static struct table small, large;

static struct table new_table(uint64_t places)
{
    struct table table = {get_memory(places * sizeof(struct entry)), places - 1};
    /* Written, not only allocated: page faults are an item of their own. */
    memset(table.entries, 0, places * sizeof(struct entry));
    return table;
}

static void prepare_small(void)
{
    small = new_table(small_places);
}

static void prepare_large(void)
{
    large = new_table(large_places);
}

static struct entry *find(const struct table *table, uint64_t key)
{
    uint64_t hash = key * 0x9e3779b97f4a7c15u;
    for (uint64_t place = hash >> 32 & table->mask;; place = (place + 1) & table->mask) {
        struct entry *entry = &table->entries[place];
        if (entry->key == key || entry->key == 0)
            return entry;
    }
}

/* Counts random keys, of which there are half as many as places. */
static uint64_t count_keys(const struct table *table, uint64_t operations)
{
    uint64_t state = 7, sum = 0;
    for (uint64_t i = 0; i < operations; i++) {
        uint64_t key = 1 + (next_random(&state) & table->mask >> 1);
        struct entry *entry = find(table, key);
        entry->key = key;
        sum = fold(sum, ++entry->count);
    }
    return sum;
}

static uint64_t run_small(void)
{
    return count_keys(&small, 30000000);
}

static uint64_t run_large(void)
{
    return count_keys(&large, 1500000);
}

const struct item hash_small_item = {"hash-small", prepare_small, run_small};
const struct item hash_large_item = {"hash-large", prepare_large, run_large};
