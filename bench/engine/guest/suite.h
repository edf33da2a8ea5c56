/* What the items of the suite share. Each item does a fixed amount of work and returns a number that depends on all of
 * it: a machine that computes wrongly is found out by that number, and a compiler cannot drop the work. */
#ifndef SUITE_H
#define SUITE_H

#include <stddef.h>
#include <stdint.h>

/* Does the work of an item, which is what is timed. */
typedef uint64_t work(void);

struct item {
    const char *name;
    /* What must be there before the clock starts; may be NULL. */
    void (*prepare)(void);
    work *run;
};

/* A generator of its own, so that every C library gives the same data. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Folds a value into a checksum, so that order matters. */
static inline uint64_t fold(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * 0x100000001b3u + (sum >> 47);
}

/* Memory that is certainly there; ends the program otherwise. */
void *get_memory(size_t bytes);
/* Ends the program with a message that names what failed. */
void fail(const char *what) __attribute__((noreturn));

extern const struct item sha256_item, bytecode_item, hash_small_item, hash_large_item, chase_item, bytes_item,
    recursion_item, quicksort_item, crc32_item, tokenizer_item, lz_item, bigint_item, nbody_item, saxpy_item,
    memcpy_item;
extern const struct item syscall_item, spawn_item, pipe_item, fault_item, mmap_item, create_item, switch_item;
extern const struct item parallel1_item, parallel2_item;

#endif
