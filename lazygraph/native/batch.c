/* Records of a batch, from their places in the shards to one buffer of arrays: the twin of what lazygraph/format reads
 * with `read_value` (shard.py), `Decompressor` (codec.py), `unpack` (record.py), `decode` (encoding.py) and `concatenate`
 * (record_batch.py).
 *
 * A `batch` belongs to one thread and holds memory that is used again. Input is not trusted: nothing outside a record
 * is looked at, every length is compared before it is used, and whatever is not as it must be ends the call, so that
 * the plain functions can say what is wrong.
 *
 * zstd and xxHash are called through pointers, for the packages zstandard and xxhash have brought them already.
 */
#define _XOPEN_SOURCE 700 /* pread, in read_at.h */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "memory.h"
#include "read_at.h"
#include "simd.h"

static const int SIZE[16] = STORED_BYTES;
#define PIECE 4096             /* values that are converted at once, so that this takes no memory to speak of */

typedef struct {
    int64_t row, place;
} wanted;

typedef struct {
    int64_t axes, fields;
    field *field;
    const uint8_t *allowed; /* (fields, 256) whether a field may be stored with a code */
    double values[MAX_AXES + 1]; /* of a row of each axis, and of a record without rows, in all fields but texts */
    double extra;                /* bytes that a record may have beside its values */
    library zstd;
    memory frame, raw, order, spans, scan;
    int64_t whole[PIECE];
    double wide[PIECE];
    /* Of the records that were read last. */
    int64_t n;
    const uint8_t *bytes;
    const int64_t *counts; /* (axes + 1, n) */
    int64_t *place, *length; /* (n, fields) */
    uint8_t *code;
    int64_t total[MAX_AXES + 1], type[MAX_FIELDS], offset[MAX_FIELDS];
} batch;

void lg_batch_free(batch *b) {
    if (b == NULL) return;
    memory *all[] = {&b->frame, &b->raw, &b->order, &b->spans, &b->scan};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) empty(all[k]);
    free(b->field);
    free((void *)b->allowed);
    free(b);
}

/* For records of so many axes and fields; what the arguments point at is copied. */
batch *lg_batch_new(int64_t axes, int64_t fields, const field *what, const uint8_t *allowed, const library *zstd) {
    batch *b = calloc(1, sizeof *b);
    if (b == NULL || axes > MAX_AXES || fields > MAX_FIELDS) goto failed;
    b->axes = axes;
    b->fields = fields;
    if (zstd != NULL) b->zstd = *zstd;
    b->field = malloc((size_t)fields * sizeof *what);
    uint8_t *codes = malloc((size_t)fields * 256);
    b->allowed = codes;
    if (b->field == NULL || codes == NULL) goto failed;
    memcpy(b->field, what, (size_t)fields * sizeof *what);
    memcpy(codes, allowed, (size_t)fields * 256);
    b->extra = 64.0 + 16.0 * (double)(axes + fields);
    for (int64_t k = 0; k < fields; k++)
        if (what[k].kind == KIND_STR) b->extra += MAX_TEXT;
        else b->values[what[k].axis] += (double)(what[k].pre * what[k].post);
    return b;
failed:
    lg_batch_free(b);
    return NULL;
}

/* ---- records, read, checked and decompressed ---- */

static uint64_t little(const uint8_t *at, int64_t bytes) {
    uint64_t value = 0;
    memcpy(&value, at, (size_t)bytes);
    return value;
}

static int by_row(const void *a, const void *b) {
    const wanted *x = a, *y = b;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static int64_t shard_of(const source *s, int64_t row) {
    int64_t low = 0, high = s->shards;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (s->end[middle] <= row) low = middle + 1;
        else high = middle;
    }
    return low;
}

static int read_whole(int32_t file, uint8_t *to, int64_t length, uint64_t offset) {
    for (int64_t done = 0; done < length;) {
        int64_t got = lg_read_at(file, to + done, (size_t)(length - done), offset + (uint64_t)done);
        if (got <= 0) return 0;
        done += got;
    }
    return 1;
}

/* The values that record k of n has in all fields but texts, by its rows on each axis. */
static double values_of(const batch *b, const int64_t *counts, int64_t n, int64_t k) {
    double total = b->values[b->axes];
    for (int64_t a = 0; a < b->axes; a++) total += b->values[a] * (double)counts[a * n + k];
    return total;
}

static int64_t scan(batch *b, const int64_t *start, const int64_t *size, int64_t n, int64_t *counts);

/* Room for more bytes behind those that are used, which stay; NULL where there is no memory. */
static uint8_t *more_room(memory *m, uint64_t used, uint64_t more) {
    uint8_t *at = grown(m, used + more);
    return at == NULL ? NULL : at + used;
}

/* Read the records of n rows, in the order of the files, and find their parts.
 *
 * file: of each shard, its descriptor (on Windows its handle), or -1. frame: of each row, what its shard holds of it, as
 * long as the column says; NULL where it is to be read. dictionary: each as zstd digested it, or NULL where that was not
 * done yet. most: the bytes that their values may take. counts: (axes + 1, n), becomes the rows of each record on each
 * axis, as the columns say and the records must have them, and a row of ones; it must stay until the records are decoded.
 * Returns 0; NOT_OPEN where a shard is not; TOO_MUCH where the columns promise more than `most`; NOT_DIGESTED where a
 * dictionary is needed that is NULL; or -1 where anything is not as it must be. */
static int64_t read_records(batch *b, const source *s, const int32_t *file, const uint8_t *const *frame,
                            const void *const *dictionary, const int64_t *rows, int64_t n, int64_t most,
                            int64_t *counts) {
    wanted *order = room(&b->order, (size_t)n * sizeof *order);
    int64_t *start = room(&b->spans, 2 * (size_t)n * sizeof *start), *size = start + n;
    if (order == NULL || start == NULL) return -1;
    double promised = 0.0;
    for (int64_t k = 0; k < n; k++) {
        if (rows[k] < 0 || rows[k] >= s->rows) return -1;
        order[k].row = rows[k];
        order[k].place = k;
        for (int64_t a = 0; a < b->axes; a++) {
            uint64_t count = little(s->count[a] + rows[k] * s->count_bytes[a], s->count_bytes[a]);
            if (count > MAX_COUNT) return -1;
            counts[a * n + k] = (int64_t)count;
        }
        double values = values_of(b, counts, n, k);
        if (values > MAX_VALUES) return -1;
        promised += 8.0 * values;
    }
    if (promised > (double)most) return TOO_MUCH;
    qsort(order, (size_t)n, sizeof *order, by_row);
    int64_t shard = 0, entry = s->offset_bytes + s->length_bytes + 8;
    for (int64_t k = 0; k < n; k++) {
        if (k == 0 || order[k].row >= s->end[shard]) shard = shard_of(s, order[k].row);
        if (shard >= s->shards) return -1;
        if (frame == NULL && file[shard] < 0) return NOT_OPEN;
        if (s->codec[shard] >= 0 && dictionary[s->codec[shard]] == NULL) return NOT_DIGESTED;
    }
    uint64_t used = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t row = order[k].row, place = order[k].place;
        if (k == 0 || row >= s->end[shard]) shard = shard_of(s, row);
        const uint8_t *at = s->record + row * entry;
        uint64_t offset = little(at, s->offset_bytes), length = little(at + s->offset_bytes, s->length_bytes);
        uint64_t whole = (uint64_t)s->size[shard];
        if (offset > whole || length > whole - offset) return -1;
        uint64_t hash = little(at + s->offset_bytes + s->length_bytes, 8);
        double bound = b->extra + 8.0 * values_of(b, counts, n, place); /* docs/format.md */
        int32_t codec = s->codec[shard];
        unsigned long long content = length; /* of an uncompressed record, which is read to where it is needed */
        const uint8_t *value = frame == NULL ? NULL : frame[place];
        if (codec != UNCOMPRESSED) {
            if (value == NULL) {
                uint8_t *into = room(&b->frame, length + 1);
                if (into == NULL || !read_whole(file[shard], into, (int64_t)length, offset)) return -1;
                value = into;
            }
            if (b->zstd.hash(value, length) != hash) return -1;
            content = b->zstd.content_size(value, length);
        }
        if (content < 1 || content > MAX_RECORD || (double)content > bound) return -1;
        uint8_t *to = more_room(&b->raw, used, content);
        if (to == NULL) return -1;
        if (codec == UNCOMPRESSED) {
            if (value != NULL) memcpy(to, value, length);
            else if (!read_whole(file[shard], to, (int64_t)length, offset)) return -1;
            if (b->zstd.hash(to, length) != hash) return -1;
        } else {
            if (b->zstd.frame_size(value, length) != length) return -1; /* something follows it */
            const void *digested = codec == ZSTD ? NULL : dictionary[codec];
            if (b->zstd.decompress(b->zstd.context, to, content, value, length, digested) != content) return -1;
        }
        start[place] = (int64_t)used;
        size[place] = (int64_t)content;
        used += content;
    }
    return scan(b, start, size, n, counts);
}

static void trim(batch *b) {
    memory *all[] = {&b->frame, &b->raw, &b->order, &b->spans};
    trim_all(all, sizeof all / sizeof *all);
}

int64_t lg_batch_read(batch *b, const source *s, const int32_t *file, const uint8_t *const *frame,
                      const void *const *dictionary, const int64_t *rows, int64_t n, int64_t most, int64_t *counts) {
    if (b->scan.size > KEPT) empty(&b->scan); /* which was needed until now */
    int64_t found = read_records(b, s, file, frame, dictionary, rows, n, most, counts);
    if (found != 0) trim(b);
    return found;
}

/* ---- the parts of records ---- */

/* A msgpack unsigned integer; 0 where there is none. */
static int whole_number(const uint8_t **at, const uint8_t *end, int64_t *value) {
    if (*at >= end) return 0;
    uint8_t tag = *(*at)++;
    if (tag < 0x80) {
        *value = tag;
        return 1;
    }
    if (tag < 0xcc || tag > 0xcf) return 0;
    int bytes = 1 << (tag - 0xcc);
    if (end - *at < bytes) return 0;
    uint64_t sum = 0;
    for (int k = 0; k < bytes; k++) sum = sum << 8 | *(*at)++;
    if (sum > INT64_MAX) return 0;
    *value = (int64_t)sum;
    return 1;
}

/* A msgpack byte string; 0 where there is none. */
static int byte_string(const uint8_t **at, const uint8_t *end, const uint8_t **start, int64_t *length) {
    if (*at >= end) return 0;
    uint8_t tag = *(*at)++;
    if (tag < 0xc4 || tag > 0xc6) return 0;
    int bytes = 1 << (tag - 0xc4);
    if (end - *at < bytes) return 0;
    int64_t size = 0;
    for (int k = 0; k < bytes; k++) size = size << 8 | *(*at)++;
    if (end - *at < size) return 0;
    *start = *at;
    *length = size;
    *at += size;
    return 1;
}

/* Whether the least value of a signed type narrower than int64 is among n: its negative is not of that type. */
static int has_least(const uint8_t *from, int type, int64_t n) {
    for (int64_t k = SIZE[type] - 1, step = SIZE[type]; type < I8 && k < n * step; k += step) {
        int low = 0; /* bits that the least value does not have */
        for (int64_t j = 1; j < step; j++) low |= from[k - j];
        if (from[k] == 0x80 && !low) return 1;
    }
    return 0;
}

/* The record between two places, which is number k of the batch. */
static int one_record(batch *b, const uint8_t *at, const uint8_t *end, int64_t k, int64_t *counts) {
    const uint8_t *start;
    int64_t size, elements, first = k * b->fields;
    if (at >= end) return 0;
    uint8_t tag = *at++;
    if ((tag & 0xf0) == 0x90) {
        elements = tag & 0x0f;
    } else if (tag == 0xdc && end - at >= 2) {
        elements = at[0] << 8 | at[1];
        at += 2;
    } else {
        return 0;
    }
    if (elements != b->axes + b->fields + 1) return 0;
    for (int64_t a = 0; a < b->axes; a++) {
        int64_t count;
        if (!whole_number(&at, end, &count) || count != counts[a * b->n + k]) return 0;
    }
    counts[b->axes * b->n + k] = 1; /* the one row of fields without an axis */
    if (!byte_string(&at, end, &start, &size) || size != b->fields) return 0;
    memcpy(b->code + first, start, (size_t)size);
    for (int64_t f = 0; f < b->fields; f++) {
        const field *what = b->field + f;
        int64_t *length = b->length + first + f, rows = counts[what->axis * b->n + k];
        uint8_t code = b->code[first + f];
        if (!byte_string(&at, end, &start, length)) return 0; /* start: of the field's bytes */
        b->place[first + f] = start - b->bytes;
        if (!b->allowed[f * 256 + code]) return 0;
        if (what->kind == KIND_STR) continue;
        if (code & HALF && rows % 2) return 0;
        if (*length != (code & HALF ? rows / 2 : rows) * what->pre * what->post * SIZE[code & 15]) return 0;
        int64_t values = rows * what->pre * what->post;
        if (code & HALF && what->pair == PAIR_NEGATE && has_least(start, code & 15, values / 2)) return 0;
    }
    return at == end;
}

/* The type in which a field is put together: of integers the narrowest, else its own. */
static int64_t type_of(const batch *b, int64_t f) {
    const field *what = b->field + f;
    int widest[2] = {0, 0}; /* bytes of unsigned and of signed values */
    switch (what->kind) {
        case KIND_FLOAT64: return F8;
        case KIND_FLOAT16: return U2;
        case KIND_FLOAT32: return U4;
        case KIND_BOOL: case KIND_STR: return U1;
    }
    for (int64_t k = 0; k < b->n; k++) {
        int stored = b->code[k * b->fields + f] & 15, is_signed = stored <= I8;
        if (SIZE[stored] > widest[is_signed]) widest[is_signed] = SIZE[stored];
    }
    int as_unsigned = widest[0], as_signed = widest[1];
    if (what->ids >= 0)
        return as_unsigned <= 2 && as_signed <= 2 && b->total[what->ids] < INT32_MAX - 65535 ? I4 : I8;
    /* Unsigned values of the full width of a signed type are its negative ones. */
    if (what->width > 0 && as_unsigned >= what->width) as_unsigned = 0, as_signed = (int)what->width;
    int is_signed = as_signed > 0 || what->pair == PAIR_NEGATE;
    int bytes = !is_signed ? as_unsigned : 2 * as_unsigned > as_signed ? 2 * as_unsigned : as_signed;
    int width = bytes >= 8 ? 3 : bytes == 4 ? 2 : bytes == 2 ? 1 : 0;
    return (is_signed ? I1 : U1) + width;
}

/* Find the parts of the n records in b->raw, of which record k begins at start[k] and has size[k] bytes. counts: the rows
 * that each must have on each axis. */
static int64_t scan(batch *b, const int64_t *start, const int64_t *size, int64_t n, int64_t *counts) {
    const uint8_t *bytes = b->raw.at;
    size_t parts = (size_t)(n * b->fields);
    b->place = room(&b->scan, parts * (2 * sizeof *b->place + 1));
    if (b->place == NULL) return -1;
    b->length = b->place + parts;
    b->code = (uint8_t *)(b->length + parts);
    b->n = n;
    b->bytes = bytes;
    b->counts = counts;
    for (int64_t k = 0; k < n; k++)
        if (!one_record(b, bytes + start[k], bytes + start[k] + size[k], k, counts)) return -1;
    for (int64_t a = 0; a <= b->axes; a++) {
        b->total[a] = 0;
        for (int64_t k = 0; k < n; k++) b->total[a] += counts[a * n + k];
    }
    return 0;
}

/* The types of the arrays (fields), of text uint8; where they lie in one buffer (fields); the rows of each axis
 * (axes + 1). Returns the size of that buffer. */
int64_t lg_batch_places(batch *b, int64_t *type, int64_t *offset, int64_t *total) {
    int64_t size = 0;
    for (int64_t f = 0; f < b->fields; f++) {
        const field *what = b->field + f;
        int64_t bytes = 0;
        b->type[f] = type_of(b, f);
        b->offset[f] = size;
        if (what->kind == KIND_STR)
            for (int64_t k = 0; k < b->n; k++) bytes += b->length[k * b->fields + f];
        else
            bytes = b->total[what->axis] * what->pre * what->post * SIZE[b->type[f]];
        size += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    memcpy(type, b->type, (size_t)b->fields * sizeof *type);
    memcpy(offset, b->offset, (size_t)b->fields * sizeof *offset);
    memcpy(total, b->total, (size_t)(b->axes + 1) * sizeof *total);
    return size;
}

/* The bytes that a text has in each record. */
void lg_batch_lengths(const batch *b, int64_t f, int64_t *length) {
    for (int64_t k = 0; k < b->n; k++) length[k] = b->length[k * b->fields + f];
}

/* ---- arrays ---- */

/* Unaligned little-endian values to int64, which keeps the bits of uint64; of floating-point numbers their bits. */
static void load_integers(const uint8_t *from, int type, int64_t n, int64_t *to) {
#define LOAD(T)                                          \
    for (int64_t k = 0; k < n; k++) {                    \
        T value;                                         \
        memcpy(&value, from + k * sizeof(T), sizeof(T)); \
        to[k] = (int64_t)value;                          \
    }                                                    \
    break
    switch (type) {
        case I1: LOAD(int8_t);
        case I2: LOAD(int16_t);
        case I4: LOAD(int32_t);
        case I8: LOAD(int64_t);
        case U1: LOAD(uint8_t);
        case U2: case F2: LOAD(uint16_t);
        case U4: case F4: LOAD(uint32_t);
        case U8: LOAD(uint64_t);
    }
#undef LOAD
}

/* values[k] + add to places first, first + step, ... of an array of a type. */
static void store_integers(const int64_t *values, int64_t n, int64_t add, int negate, void *to, int type, int64_t first,
                           int64_t step) {
#define STORE(T)                                                                                              \
    {                                                                                                         \
        T *out = (T *)to + first;                                                                             \
        if (negate)                                                                                           \
            for (int64_t k = 0; k < n; k++) out[k * step] = (T)(0 - (uint64_t)values[k] + (uint64_t)add);     \
        else                                                                                                  \
            for (int64_t k = 0; k < n; k++) out[k * step] = (T)((uint64_t)values[k] + (uint64_t)add);         \
    }                                                                                                         \
    break
    switch (type) {
        case I1: case U1: STORE(uint8_t);
        case I2: case U2: STORE(uint16_t);
        case I4: case U4: STORE(uint32_t);
        case I8: case U8: STORE(uint64_t);
    }
#undef STORE
}

/* Where the reverse of component (p, q) of a row stands: to swap two components is to write each where the other goes. */
static int64_t other(const field *what, int64_t p, int64_t q, int64_t total, int64_t row) {
    int64_t other_p = what->pair == PAIR_SWAP && what->pre == 2 ? 1 - p : p;
    int64_t other_q = what->pair == PAIR_SWAP && what->post == 2 ? 1 - q : q;
    return (other_p * total + row + 1) * what->post + other_q;
}

/* Two forms that almost every record of a crystal has, without conversion to int64 in between: pairs of edges as two rows of
 * ids that are swapped, and pairs of images as three columns whose reverse is negated. */
#define SWAPPED(NAME, T)                                                                                            \
    VERSIONS static void NAME(const T *from, int64_t kept, int32_t add, int32_t *restrict one, int32_t *restrict other) { \
        const T *to = from + kept;                                                                                  \
        for (int64_t k = 0; k < kept; k++) {                                                                        \
            one[2 * k] = (int32_t)from[k] + add;                                                                    \
            one[2 * k + 1] = (int32_t)to[k] + add;                                                                  \
        }                                                                                                           \
        for (int64_t k = 0; k < kept; k++) {                                                                        \
            other[2 * k] = (int32_t)to[k] + add;                                                                    \
            other[2 * k + 1] = (int32_t)from[k] + add;                                                              \
        }                                                                                                           \
    }
SWAPPED(swapped_1, uint8_t)
SWAPPED(swapped_2, uint16_t)
#undef SWAPPED

static void negated(const int8_t *x, int64_t kept, int8_t *to) {
    const int8_t *y = x + kept, *z = y + kept;
    for (int64_t k = 0; k < kept; k++, to += 6) {
        to[0] = x[k];
        to[1] = y[k];
        to[2] = z[k];
        to[3] = (int8_t)-x[k];
        to[4] = (int8_t)-y[k];
        to[5] = (int8_t)-z[k];
    }
}

/* The pairs of one record in one of these forms, from a row on; whether it was in one. */
static int usual_pairs(const batch *b, const field *what, int64_t type, int stored, const uint8_t *from, int64_t kept,
                       int64_t add, int64_t row, int64_t total, void *out) {
    if (what->pair == PAIR_SWAP && what->pre == 2 && what->post == 1 && type == I4 && (stored == U1 || stored == U2)) {
        int32_t *one = (int32_t *)out + row;
        if (stored == U1) swapped_1(from, kept, (int32_t)add, one, one + total);
        else {
            uint16_t *aligned = (uint16_t *)b->wide;
            if (2 * kept > 4 * PIECE) return 0;
            memcpy(aligned, from, (size_t)(4 * kept)); /* records are not aligned */
            swapped_2(aligned, kept, (int32_t)add, one, one + total);
        }
        return 1;
    }
    if (what->pair == PAIR_NEGATE && what->pre == 1 && what->post == 3 && type == I1 && stored == I1 && add == 0) {
        negated((const int8_t *)from, kept, (int8_t *)out + 3 * row);
        return 1;
    }
    return 0;
}

static void integers(batch *b, int64_t f, void *out) {
    const field *what = b->field + f;
    int64_t *values = b->whole;
    const int64_t *rows = b->counts + what->axis * b->n, *counted = what->ids < 0 ? NULL : b->counts + what->ids * b->n;
    int64_t row = 0, add = 0, post = what->post, total = b->total[what->axis];
    for (int64_t k = 0; k < b->n; k++) {
        int flags = b->code[k * b->fields + f], stored = flags & 15, half = flags & HALF, type = (int)b->type[f];
        int64_t kept = half ? rows[k] / 2 : rows[k], step = half ? 2 : 1;
        if (kept == 0) { /* of however many components */
            if (counted != NULL) add += counted[k];
            continue;
        }
        const uint8_t *from = b->bytes + b->place[k * b->fields + f];
        if (half && usual_pairs(b, what, type, stored, from, kept, add, row, total, out)) {
            row += rows[k];
            if (counted != NULL) add += counted[k];
            continue;
        }
        for (int64_t p = 0; p < what->pre; p++)
            for (int64_t q = 0; q < post; q++)
                for (int64_t first = 0, n; first < kept; first += n, from += n * SIZE[stored]) {
                    n = kept - first < PIECE ? kept - first : PIECE;
                    int64_t at = row + first * step;
                    load_integers(from, stored, n, values);
                    store_integers(values, n, add, 0, out, type, (p * total + at) * post + q, step * post);
                    if (half)
                        store_integers(values, n, add, what->pair == PAIR_NEGATE, out, type, other(what, p, q, total, at),
                                       step * post);
                }
        row += rows[k];
        if (counted != NULL) add += counted[k];
    }
}

/* Unaligned values to float64. */
static void load_floats(const uint8_t *from, int flags, int64_t n, int64_t *scratch, double *to) {
    switch (flags & 15) {
        case F4:
            for (int64_t k = 0; k < n; k++) {
                float value;
                memcpy(&value, from + 4 * k, 4);
                to[k] = value;
            }
            break;
        case F8: memcpy(to, from, (size_t)n * 8); break;
        default:
            load_integers(from, flags & 15, n, scratch);
            if ((flags & 15) == U8)
                for (int64_t k = 0; k < n; k++) to[k] = (double)(uint64_t)scratch[k] / SCALE;
            else
                for (int64_t k = 0; k < n; k++) to[k] = (double)scratch[k] / SCALE;
    }
}

/* Cartesian to fractional in place, three components of n values each; lazygraph/basis.py, to_fractional. */
static void to_fractional(double *value, int64_t n, const double *m) {
    double n0 = m[4] * m[8] - m[5] * m[7], n1 = m[5] * m[6] - m[3] * m[8], n2 = m[3] * m[7] - m[4] * m[6];
    double row[3][3] = {{n0, m[7] * m[2] - m[8] * m[1], m[1] * m[5] - m[2] * m[4]},
                        {n1, m[8] * m[0] - m[6] * m[2], m[2] * m[3] - m[0] * m[5]},
                        {n2, m[6] * m[1] - m[7] * m[0], m[0] * m[4] - m[1] * m[3]}};
    double volume = (m[0] * n0 + m[1] * n1) + m[2] * n2;
    for (int64_t k = 0; k < n; k++) {
        double x = value[k], y = value[n + k], z = value[2 * n + k];
        for (int c = 0; c < 3; c++) value[c * n + k] = ((x * row[0][c] + y * row[1][c]) + z * row[2][c]) / volume;
    }
}

/* n values of component (p, q), and their reverse, to an array from a row on. */
static void store_floats(const field *what, const double *from, int64_t n, int half, int64_t p, int64_t q, int64_t total,
                         int64_t row, double *out) {
    int64_t post = what->post, step = half ? 2 : 1;
    double *to = out + (p * total + row) * post + q, *reverse = out + other(what, p, q, total, row);
    for (int64_t r = 0; r < n; r++) {
        to[r * step * post] = from[r];
        if (half) reverse[r * step * post] = what->pair == PAIR_NEGATE ? -from[r] : from[r];
    }
}

static void floats(batch *b, int64_t f, const double *basis, double *out) {
    const field *what = b->field + f;
    const int64_t *rows = b->counts + what->axis * b->n;
    int64_t row = 0, pre = what->pre, post = what->post, total = b->total[what->axis], components = pre * post;
    for (int64_t k = 0; k < b->n; row += rows[k++]) {
        int flags = b->code[k * b->fields + f], half = flags & HALF, size = SIZE[flags & 15];
        int64_t kept = half ? rows[k] / 2 : rows[k], step = half ? 2 : 1;
        if (kept == 0) continue;
        const uint8_t *from = b->bytes + b->place[k * b->fields + f];
        if (kept * components <= PIECE) {
            load_floats(from, flags, kept * components, b->whole, b->wide);
            if (flags & CARTESIAN) to_fractional(b->wide, kept, basis + 9 * k);
            for (int64_t p = 0; p < pre; p++)
                for (int64_t q = 0; q < post; q++)
                    store_floats(what, b->wide + (p * post + q) * kept, kept, half, p, q, total, row, out);
            continue;
        }
        /* In pieces of one component, or of three where they are turned together. */
        int64_t together = flags & CARTESIAN ? components : 1;
        for (int64_t c = 0; c < components; c += together)
            for (int64_t first = 0, n; first < kept; first += n) {
                n = kept - first < PIECE / 3 ? kept - first : PIECE / 3;
                for (int64_t j = 0; j < together; j++)
                    load_floats(from + ((c + j) * kept + first) * size, flags, n, b->whole, b->wide + j * n);
                if (flags & CARTESIAN) to_fractional(b->wide, n, basis + 9 * k);
                for (int64_t j = 0; j < together; j++)
                    store_floats(what, b->wide + j * n, n, half, (c + j) / post, (c + j) % post, total,
                                 row + first * step, out);
            }
    }
}

static int64_t decode(batch *b, uint8_t *buffer) {
    for (int64_t f = 0; f < b->fields; f++) {
        const field *what = b->field + f;
        uint8_t *out = buffer + b->offset[f];
        if (what->kind == KIND_STR) {
            for (int64_t k = 0; k < b->n; k++) {
                int64_t part = k * b->fields + f;
                memcpy(out, b->bytes + b->place[part], (size_t)b->length[part]);
                out += b->length[part];
            }
        } else if (what->kind == KIND_FLOAT64) {
            const uint8_t *basis = what->basis < 0 ? NULL : buffer + b->offset[what->basis];
            floats(b, f, (const double *)basis, (double *)out);
        } else {
            integers(b, f, out);
        }
        if (what->kind == KIND_BOOL)
            for (int64_t k = 0, n = b->total[what->axis] * what->pre * what->post; k < n; k++)
                if (out[k] > 1) return -1;
    }
    return 0;
}

/* The records that were found last as arrays in a buffer, as lg_batch_places laid it out, aligned for every type.
 * Returns 0, or -1 where a value is not as it must be. */
int64_t lg_batch_decode(batch *b, uint8_t *buffer) {
    int64_t done = decode(b, buffer);
    trim(b);
    return done;
}
