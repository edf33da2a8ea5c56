/* engine-suite ITEM            runs one item
 * engine-suite NAME -- PROGRAM [ARGUMENT...]   times a program, and sums up what it prints
 *
 * Prints "start NAME" when the clock starts, and at its end "result NAME NANOSECONDS CHECKSUM". The host takes the time
 * between the two lines; the guest's own count is there to be compared with it. */
#define _GNU_SOURCE
#include "suite.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static const struct item *const items[] = {
    &sha256_item,    &bytecode_item,  &hash_small_item, &hash_large_item, &chase_item,     &bytes_item,
    &recursion_item, &quicksort_item, &crc32_item,      &tokenizer_item,  &lz_item,        &bigint_item,
    &nbody_item,     &saxpy_item,     &memcpy_item,     &syscall_item,    &spawn_item,     &pipe_item,
    &fault_item,     &mmap_item,      &create_item,     &switch_item,     &parallel1_item, &parallel2_item,
};

void fail(const char *what)
{
    perror(what);
    exit(1);
}

void *get_memory(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL)
        fail("malloc");
    return memory;
}

static uint64_t now(void)
{
    struct timespec time;
    if (clock_gettime(CLOCK_MONOTONIC, &time) != 0)
        fail("clock_gettime");
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The line has left the machine when this returns: sending it is no part of the work. */
static void say_start(const char *name)
{
    printf("start %s\n", name);
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
}

static void say_result(const char *name, uint64_t nanoseconds, uint64_t sum)
{
    printf("result %s %" PRIu64 " %016" PRIx64 "\n", name, nanoseconds, sum);
    fflush(stdout);
}

static uint64_t sum_of_output(int from)
{
    static unsigned char buffer[1 << 16];
    uint64_t sum = 1;
    ssize_t got;
    while ((got = read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < got; i++)
            sum = fold(sum, buffer[i]);
    return sum;
}

/* A program that fails has no result, only its own words. */
static uint64_t run_program(char **arguments)
{
    int ends[2], status;
    if (pipe(ends) != 0)
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(arguments[0], arguments);
        fail(arguments[0]);
    }
    close(ends[1]);
    uint64_t sum = sum_of_output(ends[0]);
    close(ends[0]);
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    if (status != 0) {
        fprintf(stderr, "%s ended with status %d\n", arguments[0], status);
        exit(1);
    }
    return sum;
}

static int list(void)
{
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        puts(items[i]->name);
    return 2;
}

int main(int count, char **arguments)
{
    if (count < 2)
        return list();
    const char *name = arguments[1];
    /* What the item that starts programs starts. */
    if (strcmp(name, "nothing") == 0)
        return 0;
    if (count > 3 && strcmp(arguments[2], "--") == 0) {
        say_start(name);
        uint64_t from = now();
        uint64_t sum = run_program(arguments + 3);
        say_result(name, now() - from, sum);
        return 0;
    }
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        const struct item *item = items[i];
        if (strcmp(item->name, name) != 0)
            continue;
        if (item->prepare != NULL)
            item->prepare();
        say_start(name);
        uint64_t from = now();
        uint64_t sum = item->run();
        say_result(name, now() - from, sum);
        return 0;
    }
    fprintf(stderr, "there is no item %s\n", name);
    return 2;
}
