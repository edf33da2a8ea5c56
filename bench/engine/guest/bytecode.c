/* An interpreter of a small register machine: one indirect jump for each of its instructions, as in the interpreters of
 * scripting languages. Its program adds up how many steps each start takes in the Collatz sequence. */
#include "suite.h"

enum { set, add, multiply, shift_right, and, jump_if_zero, jump_if_less, jump, store, load, stop };

struct instruction {
    uint8_t code, a, b, c;
    int32_t value;
};

enum { starts = 15000, cells = 1024 };

/* r0 steps in all, r1 start, r2 value, r3 one, r4 scratch, r5 three, r6 mask of the cells, r7 end */
static const struct instruction program[] = {
    {set, 0, 0, 0, 0},
    {set, 1, 0, 0, 1},
    {set, 3, 0, 0, 1},
    {set, 5, 0, 0, 3},
    {set, 6, 0, 0, cells - 1},
    {set, 7, 0, 0, starts},
    /* 6: next start */
    {set, 4, 0, 0, 0},
    {add, 2, 1, 4, 0},
    /* 8: next step */
    {jump_if_less, 0, 3, 2, 11},
    {add, 1, 1, 3, 0},
    {jump_if_less, 0, 1, 7, 6},
    /* 11: behind the last start there is nothing to do */
    {jump_if_less, 0, 1, 7, 13},
    {stop, 0, 0, 0, 0},
    {add, 0, 0, 3, 0},
    {and, 4, 2, 3, 0},
    {jump_if_zero, 0, 4, 0, 19},
    {multiply, 2, 2, 5, 0},
    {add, 2, 2, 3, 0},
    {jump, 0, 0, 0, 20},
    {shift_right, 2, 2, 3, 0},
    /* 20: remembers the values, as a program with variables would */
    {and, 4, 2, 6, 0},
    {store, 4, 0, 0, 0},
    {load, 4, 4, 0, 0},
    {jump, 0, 0, 0, 8},
};

static uint64_t run(void)
{
    static uint64_t memory[cells];
    uint64_t r[8] = {0};
    const struct instruction *at = program;
    for (;;) {
        const struct instruction *i = at++;
        switch (i->code) {
        case set:
            r[i->a] = (uint64_t)i->value;
            break;
        case add:
            r[i->a] = r[i->b] + r[i->c];
            break;
        case multiply:
            r[i->a] = r[i->b] * r[i->c];
            break;
        case shift_right:
            r[i->a] = r[i->b] >> (r[i->c] & 63);
            break;
        case and:
            r[i->a] = r[i->b] & r[i->c];
            break;
        case jump_if_zero:
            if (r[i->b] == 0)
                at = program + i->value;
            break;
        case jump_if_less:
            if (r[i->b] < r[i->c])
                at = program + i->value;
            break;
        case jump:
            at = program + i->value;
            break;
        case store:
            memory[r[i->a]] = r[i->b];
            break;
        case load:
            r[i->a] = memory[r[i->b]];
            break;
        default: {
            uint64_t sum = r[0];
            for (int cell = 0; cell < cells; cell++)
                sum = fold(sum, memory[cell]);
            return sum;
        }
        }
    }
}

const struct item bytecode_item = {"bytecode", NULL, run};
