/* Work for the kernel's memory management and its file systems. */
#define _GNU_SOURCE
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { page = 4096 };

static unsigned char *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    return memory;
}

/* First touches of pages: an exception, a page of zeros and an entry in a page table for each. */
static uint64_t run_fault(void)
{
    enum { bytes = 32 << 20, rounds = 2 };
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        unsigned char *memory = map(bytes);
        /* Huge pages would make one fault of 512. */
        madvise(memory, bytes, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < bytes; at += page) {
            sum += memory[at + 1];
            memory[at] = (unsigned char)(at / page);
        }
        for (size_t at = 0; at < bytes; at += 7 * page)
            sum = fold(sum, memory[at]);
        munmap(memory, bytes);
    }
    return sum;
}

/* Mappings that come and go, with one page touched in each: TLB entries must go, too. */
static uint64_t run_mmap(void)
{
    enum { times = 1600, kept = 16 };
    unsigned char *maps[kept] = {NULL};
    uint64_t sum = 0;
    for (int i = 0; i < times; i++) {
        unsigned char **slot = &maps[i * 7 % kept];
        size_t bytes = (size_t)(1 + i % kept) * page;
        if (*slot != NULL) {
            sum = fold(sum, **slot);
            munmap(*slot, kept * page);
        }
        *slot = map(kept * page);
        (*slot)[0] = (unsigned char)i;
        (*slot)[bytes - 1] = 1;
        if (i % 4 == 0 && mprotect(*slot, page, PROT_READ) != 0)
            fail("mprotect");
    }
    return sum;
}

static char folder[] = "/tmp/engine-suite-XXXXXX";

static void prepare_create(void)
{
    if (mkdtemp(folder) == NULL || chdir(folder) != 0)
        fail(folder);
}

/* Files made, written, looked at and removed. */
static uint64_t run_create(void)
{
    enum { files = 200, rounds = 10 };
    static char content[300];
    uint64_t sum = 0;
    char name[16];
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < files; i++) {
            snprintf(name, sizeof name, "f%d", i);
            int file = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
            if (file < 0 || write(file, content, (size_t)i) != i)
                fail(name);
            close(file);
        }
        for (int i = 0; i < files; i++) {
            struct stat status;
            snprintf(name, sizeof name, "f%d", i);
            if (stat(name, &status) != 0 || unlink(name) != 0)
                fail(name);
            sum = fold(sum, (uint64_t)status.st_size);
        }
    }
    if (chdir("/") != 0 || rmdir(folder) != 0)
        fail(folder);
    return sum;
}

const struct item fault_item = {"fault", NULL, run_fault};
const struct item mmap_item = {"mmap", NULL, run_mmap};
const struct item create_item = {"create", prepare_create, run_create};
