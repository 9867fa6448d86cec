/* Preloaded by cold.py: a read of bytes that are not in the page cache takes a millisecond more for each 128 KiB, as on a far
   file system with that request size. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REQUEST (128 << 10)

static void wait_for(size_t size) {
    struct timespec time = {0, 1000000L * (long)((size + REQUEST - 1) / REQUEST)};
    nanosleep(&time, NULL);
}

/* Whether the system would have to ask the disk. */
static int is_far(int file, void *to, size_t size, off64_t offset) {
    struct iovec piece = {to, size};
    ssize_t found = preadv2(file, &piece, 1, offset, RWF_NOWAIT);
    return found < 0 ? errno == EAGAIN : (size_t)found < size && size <= REQUEST && found > 0;
}

#define PREAD(name)                                                                                  \
    ssize_t name(int file, void *to, size_t size, off64_t offset) {                                  \
        static ssize_t (*real)(int, void *, size_t, off64_t);                                        \
        if (real == NULL) real = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, #name);  \
        if (is_far(file, to, size, offset)) wait_for(size);                                          \
        return real(file, to, size, offset);                                                         \
    }
PREAD(pread)
PREAD(pread64)

ssize_t read(int file, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (real == NULL) real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    off64_t here = lseek64(file, 0, SEEK_CUR);
    if (here >= 0 && size >= 4096 && is_far(file, to, size, here)) wait_for(size);
    return real(file, to, size);
}
