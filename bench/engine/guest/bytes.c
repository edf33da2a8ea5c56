/* Loops over single bytes that depend on each other: loads and stores of 8 bits, compares and branches. */
#include "suite.h"

enum { length = 1 << 15, rounds = 500 };

static unsigned char text[length], other[length];

static void prepare(void)
{
    uint64_t state = 11;
    for (unsigned i = 0; i < length; i++)
        text[i] = (unsigned char)(' ' + next_random(&state) % 95);
}

/* Letters change their case when the byte before was a letter, too. */
static void change_case(unsigned char *to, const unsigned char *from)
{
    int in_word = 0;
    for (unsigned i = 0; i < length; i++) {
        unsigned char byte = from[i];
        int letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        to[i] = letter && in_word ? byte ^ 0x20 : byte;
        in_word = letter;
    }
}

static void reverse(unsigned char *bytes)
{
    for (unsigned low = 0, high = length - 1; low < high; low++, high--) {
        unsigned char kept = bytes[low];
        bytes[low] = bytes[high];
        bytes[high] = kept;
    }
}

static uint64_t run(void)
{
    unsigned counts[256] = {0};
    unsigned char running = 0;
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        change_case(other, text);
        reverse(other);
        change_case(text, other);
        for (unsigned i = 0; i < length; i++) {
            running = (unsigned char)(running * 5 + text[i]);
            counts[running]++;
        }
    }
    for (int i = 0; i < 256; i++)
        sum = fold(sum, counts[i]);
    return sum;
}

const struct item bytes_item = {"bytes", prepare, run};
