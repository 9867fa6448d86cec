/* Preloaded by test_lock.py: a mount whose file systems have no flock. */
#include <errno.h>
#include <stdlib.h>

int flock(int file, int operation) {
    (void)file;
    (void)operation;
    errno = atoi(getenv("NO_LOCKS"));
    return -1;
}
