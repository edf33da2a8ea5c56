/* Work for the kernel's scheduler: processes that are made, and processes that wait for each other. */
#define _GNU_SOURCE
#include "suite.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t fork_or_fail(void)
{
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    return child;
}

static uint64_t wait_for(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    return (uint64_t)status;
}

/* A call of the kernel that does next to nothing, and that no C library answers by itself. */
static uint64_t run_syscall(void)
{
    enum { calls = 350000 };
    uint64_t sum = 0;
    long parent = syscall(SYS_getppid);
    for (int i = 0; i < calls; i++)
        sum += syscall(SYS_getppid) == parent;
    return sum;
}

/* fork, exec of a static program, exit, wait. */
static uint64_t run_spawn(void)
{
    enum { times = 50 };
    uint64_t sum = 0;
    for (int i = 0; i < times; i++) {
        pid_t child = fork_or_fail();
        if (child == 0) {
            execl("/proc/self/exe", "engine-suite", "nothing", (char *)NULL);
            _exit(1);
        }
        sum = fold(sum, wait_for(child));
    }
    return sum;
}

static void move_byte(int read_end, int write_end, int reads_first, int times)
{
    char byte = 'p';
    for (int i = 0; i < times; i++) {
        if (reads_first && read(read_end, &byte, 1) != 1)
            fail("read");
        if (write(write_end, &byte, 1) != 1)
            fail("write");
        if (!reads_first && read(read_end, &byte, 1) != 1)
            fail("read");
    }
}

/* One byte to another process and back, through two pipes. */
static uint64_t run_pipe(void)
{
    enum { times = 2200 };
    int there[2], back[2];
    if (pipe(there) != 0 || pipe(back) != 0)
        fail("pipe");
    pid_t child = fork_or_fail();
    if (child == 0) {
        move_byte(there[0], back[1], 1, times);
        _exit(0);
    }
    move_byte(back[0], there[1], 0, times);
    return times + wait_for(child);
}

enum { ring = 8, laps = 500 };

/* Hands a token on, to the next process in the ring, until it has been everywhere `laps` times. */
static void pass_token(atomic_uint *token, unsigned place)
{
    for (;;) {
        unsigned seen = atomic_load(token);
        if (seen >= ring * laps)
            return;
        if (seen % ring == place) {
            atomic_fetch_add(token, 1);
            /* Each waits under a bit of its own, so that only the next one wakes up. */
            syscall(SYS_futex, token, FUTEX_WAKE_BITSET, 1, NULL, NULL, 1u << (place + 1) % ring);
            if (seen + 1 >= ring * laps)
                syscall(SYS_futex, token, FUTEX_WAKE_BITSET, ring, NULL, NULL, ~0u);
        } else if (syscall(SYS_futex, token, FUTEX_WAIT_BITSET, seen, NULL, NULL, 1u << place) != 0 &&
                   errno != EAGAIN && errno != EINTR) {
            fail("futex");
        }
    }
}

/* A token around a ring of processes: a change of process and address space for each step. */
static uint64_t run_switch(void)
{
    atomic_uint *token = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[ring];
    if (token == MAP_FAILED)
        fail("mmap");
    for (unsigned place = 1; place < ring; place++) {
        children[place] = fork_or_fail();
        if (children[place] == 0) {
            pass_token(token, place);
            _exit(0);
        }
    }
    pass_token(token, 0);
    uint64_t sum = atomic_load(token);
    for (int place = 1; place < ring; place++)
        sum = fold(sum, wait_for(children[place]));
    return sum;
}

/* A job of two equal parts, in one process or in two. */
static uint64_t run_parts(int processes)
{
    int ends[2];
    uint64_t sum = 0;
    if (pipe(ends) != 0)
        fail("pipe");
    for (int process = 0; process < processes; process++)
        if (fork_or_fail() == 0) {
            for (int part = process; part < 2; part += processes) {
                uint64_t result = bytecode_item.run() ^ crc32_item.run();
                if (write(ends[1], &result, sizeof result) != sizeof result)
                    fail("write");
            }
            _exit(0);
        }
    for (int part = 0; part < 2; part++) {
        uint64_t result;
        if (read(ends[0], &result, sizeof result) != sizeof result)
            fail("read");
        sum += result;
    }
    while (wait(NULL) > 0)
        ;
    return sum;
}

static uint64_t run_parallel1(void)
{
    return run_parts(1);
}

static uint64_t run_parallel2(void)
{
    return run_parts(2);
}

const struct item syscall_item = {"syscall", NULL, run_syscall};
const struct item spawn_item = {"spawn", NULL, run_spawn};
const struct item pipe_item = {"pipe", NULL, run_pipe};
const struct item switch_item = {"switch", NULL, run_switch};
const struct item parallel1_item = {"parallel-1", NULL, run_parallel1};
const struct item parallel2_item = {"parallel-2", NULL, run_parallel2};
