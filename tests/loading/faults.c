/* Preloaded by test_faults.py: reads of chosen files fail as a file system would make them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char part[256];            /* of the path of files whose reads fail */
static atomic_int number, left;   /* errno; how many reads are still to fail */
static atomic_int shortened, met; /* whether reads give half; how many failed */

void lg_fail(const char *path, int error, int times) {
    snprintf(part, sizeof part, "%s", path);
    number = error;
    met = 0;
    left = times;
}

void lg_shorten(const char *path, int yes) {
    snprintf(part, sizeof part, "%s", path);
    shortened = yes;
}

int lg_met(void) { return met; }

static int chosen(int file) {
    char link[64], path[4096];
    if (!part[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return strstr(path, part) != NULL;
}

static int fails(int file) {
    if (left <= 0 || !chosen(file)) return 0;
    if (atomic_fetch_sub(&left, 1) <= 0) return 0;
    met++;
    errno = number;
    return 1;
}

#define PREAD(name)                                                                        \
    ssize_t name(int file, void *to, size_t size, off64_t offset) {                        \
        static ssize_t (*real)(int, void *, size_t, off64_t);                              \
        if (real == NULL) real = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, #name); \
        if (fails(file)) return -1;                                                        \
        if (shortened && size > 1 && chosen(file)) size /= 2;                              \
        return real(file, to, size, offset);                                               \
    }
PREAD(pread)
PREAD(pread64)

ssize_t read(int file, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (real == NULL) real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return fails(file) ? -1 : real(file, to, size);
}
