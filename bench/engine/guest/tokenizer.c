/* Splits text into the tokens of a small language: short loops, and branches that depend on the data. */
#include "suite.h"

#include <string.h>

enum { length = 1 << 17, rounds = 130 };

static char text[length + 1];

static const char *const pieces[] = {
    "while", " ", "(", "count", "<", "4711", ")", " ", "{", "\n", "  ", "total", "=", "total", "+", "0x1f", "*",
    "value_of", "(", "\"a \\\"b\\\" c\"", ",", "x", ")", ";", "// to the end\n", "}", "return", " ", "'c'", "3.25",
};

static void prepare(void)
{
    uint64_t state = 17;
    size_t at = 0;
    for (;;) {
        const char *piece = pieces[(next_random(&state) >> 20) % (sizeof pieces / sizeof *pieces)];
        size_t size = strlen(piece);
        if (at + size > length)
            break;
        memcpy(text + at, piece, size);
        at += size;
    }
    text[at] = 0;
}

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

enum { name_token, number_token, string_token, comment_token, sign_token };

/* Sets the kind of the token that begins here, and returns its end. */
static const char *token(const char *at, int *kind)
{
    if (is_letter(*at)) {
        *kind = name_token;
        while (is_letter(*at) || is_digit(*at))
            at++;
    } else if (is_digit(*at)) {
        *kind = number_token;
        while (is_digit(*at) || is_letter(*at) || *at == '.')
            at++;
    } else if (*at == '"' || *at == '\'') {
        char quote = *at++;
        *kind = string_token;
        while (*at != 0 && *at != quote)
            at += *at == '\\' && at[1] != 0 ? 2 : 1;
        at += *at == quote;
    } else if (at[0] == '/' && at[1] == '/') {
        *kind = comment_token;
        while (*at != 0 && *at != '\n')
            at++;
    } else {
        *kind = sign_token;
        at++;
    }
    return at;
}

static uint64_t run(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        const char *at = text;
        while (*at != 0) {
            if (*at == ' ' || *at == '\n') {
                at++;
                continue;
            }
            int kind;
            const char *end = token(at, &kind);
            uint32_t name = (uint32_t)kind;
            for (; at < end; at++)
                name = name * 31 + (unsigned char)*at;
            sum = fold(sum, name);
        }
    }
    return sum;
}

const struct item tokenizer_item = {"tokenizer", prepare, run};
