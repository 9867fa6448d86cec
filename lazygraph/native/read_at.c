/* lg_read_at of Windows. Apart from the other sources, because windows.h defines many short names. */
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "read_at.h"

#define MOST 0x40000000u /* bytes of one call */

int64_t lg_read_at(int32_t file, uint8_t *to, size_t length, uint64_t offset) {
    OVERLAPPED at = {0};
    DWORD got = 0;
    at.Offset = (DWORD)offset;
    at.OffsetHigh = (DWORD)(offset >> 32);
    /* A handle has 32 bits that count. */
    if (ReadFile((HANDLE)(intptr_t)file, to, length > MOST ? MOST : (DWORD)length, &got, &at)) return (int64_t)got;
    return GetLastError() == ERROR_HANDLE_EOF ? 0 : -1;
}
#else
typedef int lg_nothing; /* a file in C is not empty */
#endif
