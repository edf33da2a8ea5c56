/* CRC-32 byte by byte with a table: a chain of a load, a shift and an exclusive or for each byte. */
#include "suite.h"

enum { length = 1 << 16, rounds = 900 };

static uint32_t table[256];
static unsigned char buffer[length];

static void prepare(void)
{
    uint64_t state = 13;
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t rest = byte;
        for (int bit = 0; bit < 8; bit++)
            rest = rest >> 1 ^ (rest & 1 ? 0xedb88320u : 0);
        table[byte] = rest;
    }
    for (unsigned i = 0; i < length; i++)
        buffer[i] = (unsigned char)next_random(&state);
}

static uint64_t run(void)
{
    uint32_t rest = ~0u;
    for (int round = 0; round < rounds; round++)
        for (unsigned i = 0; i < length; i++)
            rest = rest >> 8 ^ table[(rest ^ buffer[i]) & 255];
    return ~rest;
}

const struct item crc32_item = {"crc32", prepare, run};
