/* Bodies that attract each other, in doubles: scalar SSE2 with divisions and square roots. IEEE 754 fixes every bit. */
#include "suite.h"

#include <math.h>
#include <string.h>

enum { bodies = 6, steps = 60000 };

static struct {
    double mass, place[3], speed[3];
} body[bodies];

static void prepare(void)
{
    uint64_t state = 29;
    for (int i = 0; i < bodies; i++) {
        body[i].mass = i == 0 ? 40.0 : 0.01 * (i + 1);
        for (int axis = 0; axis < 3; axis++) {
            double random = (double)(next_random(&state) >> 11) / 9007199254740992.0;
            body[i].place[axis] = i == 0 ? 0.0 : (random - 0.5) * 20.0 + i * 4.0;
            body[i].speed[axis] = i == 0 ? 0.0 : (axis == 0 ? -0.7 : 0.9) / (axis + i);
        }
    }
}

static void attract(double time)
{
    for (int i = 0; i < bodies; i++) {
        for (int j = i + 1; j < bodies; j++) {
            double way[3], square = 1e-4;
            for (int axis = 0; axis < 3; axis++) {
                way[axis] = body[i].place[axis] - body[j].place[axis];
                square += way[axis] * way[axis];
            }
            double pull = time / (square * sqrt(square));
            for (int axis = 0; axis < 3; axis++) {
                body[i].speed[axis] -= way[axis] * body[j].mass * pull;
                body[j].speed[axis] += way[axis] * body[i].mass * pull;
            }
        }
    }
    for (int i = 0; i < bodies; i++)
        for (int axis = 0; axis < 3; axis++)
            body[i].place[axis] += time * body[i].speed[axis];
}

static uint64_t run(void)
{
    uint64_t sum = 0;
    for (int step = 0; step < steps; step++)
        attract(0.001);
    for (int i = 0; i < bodies; i++)
        for (int axis = 0; axis < 3; axis++) {
            uint64_t bits;
            memcpy(&bits, &body[i].place[axis], sizeof bits);
            sum = fold(sum, bits);
        }
    return sum;
}

const struct item nbody_item = {"nbody", prepare, run};
