/* Unpacks a format with literals and back references. A command byte below 128 means so many literals plus one; else its
 * low bits plus four are the length of a match, and two bytes with its distance follow. */
#include "suite.h"

#include <string.h>

enum { length = 1 << 17, rounds = 900, shortest = 4, hashes = 1 << 12 };

static unsigned char plain[length], packed[length * 2], unpacked[length];
static size_t packed_bytes;

/* Words from a small dictionary, so that there is something to refer back to. */
static void write_plain(void)
{
    static const char letters[] = "etaoinshrdlucmfw ";
    uint64_t state = 19;
    char words[64][12];
    for (int i = 0; i < 64; i++) {
        int size = 3 + (int)(next_random(&state) % 8);
        memset(words[i], 0, sizeof words[i]);
        for (int j = 0; j < size; j++)
            words[i][j] = letters[next_random(&state) % (sizeof letters - 1)];
    }
    for (size_t at = 0; at < length;) {
        const char *word = words[next_random(&state) >> 30 & 63];
        for (; *word != 0 && at < length; word++)
            plain[at++] = (unsigned char)*word;
        if (at < length)
            plain[at++] = ' ';
    }
}

static void put_literals(size_t from, size_t end)
{
    while (from < end) {
        size_t size = end - from < 128 ? end - from : 128;
        packed[packed_bytes++] = (unsigned char)(size - 1);
        memcpy(packed + packed_bytes, plain + from, size);
        packed_bytes += size;
        from += size;
    }
}

static void prepare(void)
{
    static uint32_t seen[hashes];
    size_t at = 0, literals = 0;
    write_plain();
    while (at + shortest <= length) {
        uint32_t word;
        memcpy(&word, plain + at, sizeof word);
        uint32_t hash = word * 2654435761u >> 20, before = seen[hash];
        seen[hash] = (uint32_t)at + 1;
        size_t size = 0, distance = before == 0 ? 0 : at + 1 - before;
        if (distance > 0 && distance < 65536)
            while (at + size < length && size < 127 + shortest && plain[at + size] == plain[at + size - distance])
                size++;
        if (size < shortest) {
            at++;
            continue;
        }
        put_literals(literals, at);
        packed[packed_bytes++] = (unsigned char)(128 | (size - shortest));
        packed[packed_bytes++] = (unsigned char)distance;
        packed[packed_bytes++] = (unsigned char)(distance >> 8);
        at += size;
        literals = at;
    }
    put_literals(literals, length);
}

static void unpack(void)
{
    const unsigned char *from = packed, *end = packed + packed_bytes;
    unsigned char *to = unpacked;
    while (from < end) {
        unsigned command = *from++;
        if (command < 128) {
            for (unsigned i = 0; i <= command; i++)
                *to++ = *from++;
            continue;
        }
        unsigned size = (command & 127) + shortest;
        const unsigned char *source = to - (from[0] | from[1] << 8);
        from += 2;
        while (size-- > 0)
            *to++ = *source++;
    }
}

static uint64_t run(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        unpack();
        for (size_t i = 0; i < length; i += 4096)
            sum = fold(sum, unpacked[i]);
        /* What is unpacked next differs, so that no round can be left out. */
        plain[round] ^= 1;
    }
    if (memcmp(unpacked + rounds, plain + rounds, length - rounds) != 0)
        fail("unpacking");
    return sum;
}

const struct item lz_item = {"lz", prepare, run};
