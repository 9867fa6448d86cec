/* Reads a batch of records by the Windows library of lazygraph, and checks what lazygraph assumes of Windows: tools/wheels
 * --prove wine compiles and runs it.
 *
 *     windows.exe KERNELS.DLL JOB OUT
 *
 * JOB: what Python tells the loops, as prove_wheels.py writes it: the structures of constants.h byte by byte, as ctypes lays
 * them out on Linux, and the paths of the shards. OUT: what the loops give. */
#define WIN32_LEAN_AND_MEAN
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include "constants.h"

static void fail(const char *what) {
    fprintf(stderr, "windows.exe: %s (error %lu)\n", what, GetLastError());
    exit(1);
}

static void require(int holds, const char *what) {
    if (!holds) fail(what);
}

static void *need(void *pointer, const char *what) {
    if (pointer == NULL) fail(what);
    return pointer;
}

static HMODULE dll;
static void *function(const char *name) { return need((void *)GetProcAddress(dll, name), name); }

/* ---- the file of the job ---- */

static FILE *job;

static void *bytes(int64_t *size) {
    int64_t length;
    require(fread(&length, 8, 1, job) == 1, "the job is cut off");
    char *at = need(malloc((size_t)length + 1), "no memory");
    require(fread(at, 1, (size_t)length, job) == (size_t)length, "the job is cut off");
    at[length] = 0;
    if (size != NULL) *size = length;
    return at;
}

static HANDLE opened(const char *path, DWORD access, DWORD how) {
    HANDLE file = CreateFileA(path, access, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, how, 0, NULL);
    require(file != INVALID_HANDLE_VALUE, path);
    return file;
}

/* ---- a batch ---- */

static void read_batch(const char *out) {
    int64_t *head = bytes(NULL), axes = head[0], fields = head[1], rows = head[2], shards = head[3], dictionaries = head[4];
    int64_t n = head[5], most = head[6];
    const field *described = bytes(NULL);
    const uint8_t *allowed = bytes(NULL);
    source s = {.rows = rows, .offset_bytes = head[7], .length_bytes = head[8], .shards = shards};
    s.record = bytes(NULL);
    for (int64_t a = 0; a < axes; a++) {
        int64_t size;
        s.count[a] = bytes(&size);
        s.count_bytes[a] = size / rows;
    }
    s.end = bytes(NULL);
    s.size = bytes(NULL);
    s.codec = bytes(NULL);
    int32_t *file = need(malloc((size_t)shards * sizeof *file), "no memory");
    for (int64_t k = 0; k < shards; k++) {
        intptr_t handle = (intptr_t)opened(bytes(NULL), GENERIC_READ, OPEN_EXISTING);
        require(handle == (int32_t)handle, "a handle fits into 32 bits");
        file[k] = (int32_t)handle;
    }
    void *(*new_dictionary)(const void *, size_t) = function("ZSTD_createDDict");
    const void **dictionary = need(calloc((size_t)dictionaries + 1, sizeof *dictionary), "no memory");
    for (int64_t k = 0; k < dictionaries; k++) {
        int64_t size;
        const void *content = bytes(&size);
        dictionary[k] = need(new_dictionary(content, (size_t)size), "zstd takes a dictionary");
    }
    const int64_t *wanted = bytes(NULL);

    library zstd = {.hash = function("XXH3_64bits"), .content_size = function("ZSTD_getFrameContentSize"),
                    .frame_size = function("ZSTD_findFrameCompressedSize"),
                    .decompress = function("ZSTD_decompress_usingDDict")};
    zstd.context = need(((void *(*)(void))function("ZSTD_createDCtx"))(), "zstd makes a context");
    void *(*new)(int64_t, int64_t, const field *, const uint8_t *, const library *) = function("lg_batch_new");
    int64_t (*read)(void *, const source *, const int32_t *, const uint8_t *const *, const void *const *, const int64_t *,
                    int64_t, int64_t, int64_t *) = function("lg_batch_read");
    int64_t (*places)(void *, int64_t *, int64_t *, int64_t *) = function("lg_batch_places");
    int64_t (*decode)(void *, uint8_t *) = function("lg_batch_decode");
    void *batch = need(new(axes, fields, described, allowed, &zstd), "a batch");
    int64_t *counts = need(calloc((size_t)((axes + 1) * n), 8), "no memory");
    int64_t told = read(batch, &s, file, NULL, dictionary, wanted, n, most, counts);
    if (told != 0) fprintf(stderr, "lg_batch_read gives %lld\n", (long long)told), fail("records are read");
    int64_t *type = need(calloc((size_t)(2 * fields + axes + 1), 8), "no memory"), *offset = type + fields;
    int64_t size = places(batch, type, offset, offset + fields);
    uint8_t *buffer = need(calloc(1, (size_t)size), "no memory");
    require(decode(batch, buffer) == 0, "records are decoded");
    FILE *to = need(fopen(out, "wb"), out);
    fwrite(counts, 8, (size_t)(axes * n), to);
    fwrite(type, 8, (size_t)(2 * fields + axes + 1), to);
    fwrite(buffer, 1, (size_t)size, to);
    fclose(to);
    ((void (*)(void *))function("lg_batch_free"))(batch);
}

/* ---- what lazygraph/windows.py and storage/locks.py assume ---- */

static int locks(HANDLE file, DWORD flags) {
    OVERLAPPED at = {.OffsetHigh = 1u << 30};
    return LockFileEx(file, flags | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at);
}

static void check_locks(const char *name) {
    HANDLE one = opened(name, GENERIC_READ | GENERIC_WRITE, CREATE_ALWAYS);
    HANDLE other = opened(name, GENERIC_READ, OPEN_EXISTING);
    DWORD got;
    char back[4] = {0};
    require(locks(one, LOCKFILE_EXCLUSIVE_LOCK), "an exclusive lock");
    require(!locks(other, 0) && GetLastError() == ERROR_LOCK_VIOLATION, "an exclusive lock keeps a shared one away");
    require(WriteFile(one, "abc", 3, &got, NULL) && got == 3, "the content of a locked file is written");
    require(ReadFile(other, back, 3, &got, NULL) && memcmp(back, "abc", 3) == 0, "and read by others");
    CloseHandle(one);
    require(locks(other, 0), "a lock ends with its file");
    one = opened(name, GENERIC_READ | GENERIC_WRITE, OPEN_EXISTING);
    require(locks(one, 0), "two shared locks");
    require(!locks(one, LOCKFILE_EXCLUSIVE_LOCK), "and no exclusive one beside them");
    OVERLAPPED at = {.OffsetHigh = 1u << 30};
    require(UnlockFileEx(other, 0, 1, 0, &at), "a lock is ended");
    require(!UnlockFileEx(other, 0, 1, 0, &at), "once"); /* the number of the error is another one under wine */
    require(!DeleteFileA(name) && GetLastError() == ERROR_SHARING_VIOLATION, "an open file is not deleted");
    char renamed[MAX_PATH];
    snprintf(renamed, sizeof renamed, "%s.renamed", name);
    require(!MoveFileExA(name, renamed, MOVEFILE_REPLACE_EXISTING), "nor renamed");
    CloseHandle(one);
    CloseHandle(other);
    require(DeleteFileA(name), "a closed file is deleted");
}

static void check_reads(const char *name) {
    int64_t (*read_at)(int32_t, uint8_t *, size_t, uint64_t) = function("lg_read_at");
    HANDLE file = opened(name, GENERIC_READ | GENERIC_WRITE, CREATE_ALWAYS);
    DWORD got;
    uint8_t back[4] = {0};
    require(WriteFile(file, "\r\n\x1a" "d", 4, &got, NULL), "four bytes");
    require(read_at((int32_t)(intptr_t)file, back, 4, 0) == 4 && memcmp(back, "\r\n\x1a" "d", 4) == 0, "read as they are");
    require(read_at((int32_t)(intptr_t)file, back, 4, 3) == 1 && back[0] == 'd', "fewer at the end");
    require(read_at((int32_t)(intptr_t)file, back, 4, 4) == 0, "none behind it");
    require(read_at(-1, back, 4, 0) == -1, "an error where no file is");
    CloseHandle(file);
    DeleteFileA(name);
}

int main(int count, char **argument) {
    require(count == 4, "KERNELS.DLL JOB OUT");
    dll = need(LoadLibraryA(argument[1]), argument[1]);
    printf("sources %s\n", ((const char *(*)(void))function("lg_sources"))());
    job = need(fopen(argument[2], "rb"), argument[2]);
    read_batch(argument[3]);
    char name[MAX_PATH];
    snprintf(name, sizeof name, "%s.lock", argument[3]);
    check_locks(name);
    check_reads(name);
    return 0;
}
