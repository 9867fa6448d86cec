/* Reads at a position of an open file, without moving a position that threads share. _XOPEN_SOURCE must be 700 or more. */
#ifndef LG_READ_AT_H
#define LG_READ_AT_H
#include <stddef.h>
#include <stdint.h>

/* lg_read_at: up to length bytes of a file from an offset on. Returns their number, 0 at the end of the file, or -1.
 * file: a descriptor, on Windows a handle. */
#ifdef _WIN32
int64_t lg_read_at(int32_t file, uint8_t *to, size_t length, uint64_t offset); /* read_at.c */
#else
#include <errno.h>
#include <unistd.h>

static inline int64_t lg_read_at(int32_t file, uint8_t *to, size_t length, uint64_t offset) {
    ssize_t got;
    do got = pread(file, to, length, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}
#endif

#endif
