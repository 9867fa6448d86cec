/* The record of one graph: lg_encode, the twin of pack and encode in lazygraph/format/record.py and encoding.py, which
 * say what is stored how and why. Compile as edges.c says: the bytes depend on the rounding of every operation.
 *
 * What is given are the arrays of the fields one after the other, without gaps and without alignment. No size is
 * trusted: each array must lie within what is given, and nothing is written beyond the room for the record.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"

enum { LEFT = -1 }; /* the plain function has to do it, or to raise its error */

#define EXACT 9007199254740992.0 /* 2^53 */

static const int SIZE[16] = STORED_BYTES;

/* Where the next byte of the record goes. */
typedef struct {
    uint8_t *at, *end;
} output;

/* The values of one array, component by component: `count` components of `rows` values each, of a stored type. */
typedef struct {
    uint8_t *value;
    int64_t count, rows;
    int type;
} values;

/* ---- msgpack ---- */

static int put(output *o, const void *from, int64_t n) {
    if (o->end - o->at < n) return 0;
    if (n) memcpy(o->at, from, (size_t)n);
    o->at += n;
    return 1;
}

/* A marker and a number of so many bytes, big-endian. */
static int marked(output *o, int marker, uint64_t number, int bytes) {
    uint8_t all[9] = {(uint8_t)marker};
    for (int k = 0; k < bytes; k++) all[1 + k] = (uint8_t)(number >> 8 * (bytes - 1 - k));
    return put(o, all, 1 + bytes);
}

static int put_number(output *o, uint64_t n) {
    if (n < 128) return marked(o, (int)n, 0, 0);
    if (n < 256) return marked(o, 0xcc, n, 1);
    if (n < 65536) return marked(o, 0xcd, n, 2);
    return marked(o, 0xce, n, 4);
}

/* What comes before n bytes. */
static int put_length(output *o, uint64_t n) {
    if (n < 256) return marked(o, 0xc4, n, 1);
    if (n < 65536) return marked(o, 0xc5, n, 2);
    return marked(o, 0xc6, n, 4);
}

/* ---- integers ---- */

/* An integer type in the smallest type that holds all of n values from low to high; its own where none is smaller. */
static int narrowest(int type, int64_t n, int64_t low, uint64_t high) {
    if (!n) return U1;
    if (low >= 0) return high <= UINT8_MAX ? U1 : high <= UINT16_MAX ? U2 : high <= UINT32_MAX ? U4 : type;
    int64_t most = (int64_t)high;
    if (low >= INT8_MIN && most <= INT8_MAX) return I1;
    if (low >= INT16_MIN && most <= INT16_MAX) return I2;
    return low >= INT32_MIN && most <= INT32_MAX ? I4 : type;
}

#define LEAST_AND_GREATEST(T, LOW)                                                                   \
    {                                                                                                \
        const T *from = (const T *)v->value;                                                         \
        T least = n ? from[0] : 0, greatest = least;                                                 \
        for (int64_t k = 1; k < n; k++) {                                                            \
            least = from[k] < least ? from[k] : least;                                               \
            greatest = from[k] > greatest ? from[k] : greatest;                                      \
        }                                                                                            \
        return narrowest(v->type, n, LOW, (uint64_t)greatest);                                       \
    }

/* The type in which integers are stored. */
static int type_of_integers(const values *v) {
    int64_t n = v->count * v->rows;
    switch (v->type) {
        case I1: LEAST_AND_GREATEST(int8_t, least)
        case I2: LEAST_AND_GREATEST(int16_t, least)
        case I4: LEAST_AND_GREATEST(int32_t, least)
        case I8: LEAST_AND_GREATEST(int64_t, least)
        case U2: LEAST_AND_GREATEST(uint16_t, 0)
        case U4: LEAST_AND_GREATEST(uint32_t, 0)
        case U8: LEAST_AND_GREATEST(uint64_t, 0)
        default: return U1;
    }
}
#undef LEAST_AND_GREATEST

/* The low bytes of n integers, from those of one width to those of a smaller one. */
static void take_low(const uint8_t *from, int width, uint8_t *to, int low, int64_t n) {
    if (width == low)
        memcpy(to, from, (size_t)(n * width));
    else
        for (int64_t k = 0; k < n; k++, from += width, to += low) memcpy(to, from, (size_t)low);
}
#define TAKE_LOW(WIDTH, LOW) \
    if (width == WIDTH && low == LOW) return take_low(from, WIDTH, to, LOW, n)

static void narrow(const uint8_t *from, int width, uint8_t *to, int low, int64_t n) {
    TAKE_LOW(8, 1); /* with sizes that the compiler knows, these are loops over vectors */
    TAKE_LOW(4, 1);
    TAKE_LOW(2, 1);
    TAKE_LOW(8, 2);
    TAKE_LOW(4, 2);
    TAKE_LOW(8, 4);
    take_low(from, width, to, low, n);
}
#undef TAKE_LOW

/* ---- pairs ---- */

#define PAIRED(T, TURNED)                                                                         \
    for (int64_t c = 0; c < v->count; c++) {                                                      \
        const T *own = (const T *)v->value + c * v->rows;                                         \
        const T *first = (const T *)v->value + (pair == PAIR_SWAP ? 1 - c : c) * v->rows;         \
        for (int64_t k = 0; k < v->rows; k += 2) {                                                \
            T x = first[k];                                                                       \
            if (own[k + 1] != (T)(pair == PAIR_NEGATE ? (TURNED) : x)) return 0;                  \
        }                                                                                         \
    }                                                                                             \
    return 1;

/* Whether every second row follows from the row before it, to the bit. */
static int is_paired(const values *v, int64_t pair) {
    if (!v->rows || v->rows % 2 || (pair == PAIR_SWAP && v->count != 2)) return 0;
    switch (v->type) {
        case F2: PAIRED(uint16_t, x ^ 0x8000u)
        case F4: PAIRED(uint32_t, x ^ 0x80000000u)
        case F8: PAIRED(uint64_t, x ^ 0x8000000000000000u)
        default: break;
    }
    switch (SIZE[v->type]) { /* modulo the width, as numpy negates */
        case 1: PAIRED(uint8_t, 0u - x)
        case 2: PAIRED(uint16_t, 0u - x)
        case 4: PAIRED(uint32_t, 0u - x)
        default: PAIRED(uint64_t, 0u - x)
    }
}
#undef PAIRED

/* Keep rows 0, 2, 4, ... of all components. */
static void halve(values *v) {
    int64_t width = SIZE[v->type], kept = v->rows / 2;
    uint8_t *to = v->value, *from = v->value;
    for (int64_t c = 0; c < v->count; c++)
        for (int64_t k = 0; k < kept; k++, to += width, from += 2 * width) memmove(to, from, (size_t)width);
    v->rows = kept;
}

/* ---- decimals ---- */

static int same_bits(double x, double y) { return !memcmp(&x, &y, sizeof x); }

/* The integers q of n values with q / SCALE equal to each to the bit; 0 where there are none. */
static int decimals(const double *from, int64_t n, int64_t *to) {
    for (int64_t k = 0; k < n; k++) {
        double scaled = rint(from[k] * SCALE);
        if (!(fabs(scaled) < EXACT)) return 0; /* also of NaN */
        to[k] = (int64_t)scaled;
        if (!same_bits((double)to[k] / SCALE, from[k])) return 0; /* -0.0 becomes 0 */
    }
    return 1;
}

/* The same of the Cartesian form of coordinates in a basis, three components of n values each. */
static int cartesian(const double *from, int64_t n, const double *m, int64_t *to) {
    double n0 = m[4] * m[8] - m[5] * m[7], n1 = m[5] * m[6] - m[3] * m[8], n2 = m[3] * m[7] - m[4] * m[6];
    double row[3][3] = {{n0, m[7] * m[2] - m[8] * m[1], m[1] * m[5] - m[2] * m[4]},
                        {n1, m[8] * m[0] - m[6] * m[2], m[2] * m[3] - m[0] * m[5]},
                        {n2, m[6] * m[1] - m[7] * m[0], m[0] * m[4] - m[1] * m[3]}};
    double volume = (m[0] * n0 + m[1] * n1) + m[2] * n2;
    for (int64_t k = 0; k < n; k++) {
        double place[3];
        for (int c = 0; c < 3; c++) {
            double scaled = rint(((from[k] * m[c] + from[n + k] * m[3 + c]) + from[2 * n + k] * m[6 + c]) * SCALE);
            if (!(fabs(scaled) < EXACT)) return 0;
            to[c * n + k] = (int64_t)scaled;
            place[c] = (double)to[c * n + k] / SCALE;
        }
        for (int c = 0; c < 3; c++) {
            double back = ((place[0] * row[0][c] + place[1] * row[1][c]) + place[2] * row[2][c]) / volume;
            if (!same_bits(back, from[c * n + k])) return 0;
        }
    }
    return 1;
}

/* Whether float32 holds n values to the bit. */
static int is_single(const double *from, int64_t n) {
    for (int64_t k = 0; k < n; k++)
        if (!same_bits((double)(float)from[k], from[k])) return 0;
    return 1;
}

/* ---- one field ---- */

/* Component by component; the array has `pre` components before its axis and `post` behind it. */
static void gather(const uint8_t *from, int64_t pre, int64_t rows, int64_t post, int64_t width, uint8_t *to) {
    if (post == 1) {
        memcpy(to, from, (size_t)(pre * rows * width));
        return;
    }
    for (int64_t p = 0; p < pre; p++, from += rows * post * width)
        for (int64_t q = 0; q < post; q++)
            for (int64_t r = 0; r < rows; r++, to += width) memcpy(to, from + (r * post + q) * width, (size_t)width);
}

/* The buffer of a field from its values, which are changed; `other` has room for as many integers. */
static int put_field(output *o, values *v, int64_t pair, const double *basis, int64_t *other, uint8_t *code) {
    int flags = 0, type = v->type;
    if (pair != PAIR_NONE && is_paired(v, pair)) {
        halve(v);
        flags = HALF;
    }
    int64_t n = v->count * v->rows;
    if (v->type < F2) {
        type = type_of_integers(v);
    } else if (v->type == F8) {
        const double *from = (const double *)v->value;
        values integers = {(uint8_t *)other, v->count, v->rows, I8};
        if (decimals(from, n, other))
            flags |= DECIMAL;
        else if (basis && n && v->count == 3 && cartesian(from, v->rows, basis, other))
            flags |= CARTESIAN;
        else if (is_single(from, n))
            type = F4;
        if (flags & (DECIMAL | CARTESIAN)) {
            *v = integers;
            type = type_of_integers(v);
        }
    }
    int64_t length = n * SIZE[type];
    *code = (uint8_t)(type | flags);
    if (length > UINT32_MAX || !put_length(o, (uint64_t)length) || o->end - o->at < length) return 0;
    if (type == F4 && v->type == F8) {
        const double *from = (const double *)v->value;
        for (int64_t k = 0; k < n; k++, o->at += 4) {
            float single = (float)from[k];
            memcpy(o->at, &single, 4);
        }
    } else if (n) {
        narrow(v->value, SIZE[v->type], o->at, SIZE[type], n);
        o->at += length;
    }
    return 1;
}

/* pre * rows * post values of so many bytes within `most` bytes; their bytes, or -1. */
static int64_t bytes_of(const field *f, int64_t rows, int64_t width, int64_t most) {
    int64_t factors[3] = {f->pre, rows, f->post}, n = width;
    for (int k = 0; k < 3; k++)
        if (factors[k] < 0 || factors[k] > MAX_COUNT) return -1; /* so that the product of two is a number */
    if (!(factors[0] && factors[1] && factors[2])) return 0;
    for (int k = 0; k < 3; k++) {
        if (factors[k] > most / n) return -1;
        n *= factors[k];
    }
    return n;
}

/* One record.
 *
 * fields      what the schema says of each
 * numbers     rows along each axis, and then for each field the stored type of its array, or the bytes of its text
 * data, size  arrays and texts, one after the other
 * out, room   where the record goes
 *
 * Returns its bytes, or LEFT. */
int64_t lg_encode(const field *fields, int64_t n_fields, int64_t n_axes, const int64_t *numbers, const uint8_t *data,
                  int64_t size, uint8_t *out, int64_t room) {
    if (n_fields < 0 || n_fields > MAX_FIELDS || n_axes < 0 || n_axes > MAX_AXES || size < 0 || size > MAX_RECORD || room < 0)
        return LEFT;
    const int64_t *counts = numbers, *types = numbers + n_axes;
    output o = {out, out + room};
    uint64_t parts = (uint64_t)(n_axes + 1 + n_fields);
    if (parts < 16 ? !marked(&o, (int)(0x90 | parts), 0, 0) : !marked(&o, 0xdc, parts, 2)) return LEFT;
    for (int64_t k = 0; k < n_axes; k++)
        if (counts[k] < 0 || counts[k] > MAX_COUNT || !put_number(&o, (uint64_t)counts[k])) return LEFT;
    if (!put_length(&o, (uint64_t)n_fields) || o.end - o.at < n_fields) return LEFT;
    uint8_t *codes = o.at;
    o.at += n_fields;

    const uint8_t *at = data, *end = data + size, *start[MAX_FIELDS];
    int64_t most = 0;
    for (int64_t f = 0; f < n_fields; f++) {
        int64_t axis = fields[f].axis, bytes;
        start[f] = at;
        if (fields[f].kind == KIND_STR) {
            bytes = types[f];
            if (bytes < 0 || bytes > MAX_TEXT || bytes > end - at) return LEFT;
        } else {
            if (types[f] < I1 || types[f] > F8 || axis < 0 || axis > n_axes || fields[f].basis >= f) return LEFT;
            bytes = bytes_of(fields + f, axis < n_axes ? counts[axis] : 1, SIZE[types[f]], end - at);
            if (bytes < 0) return LEFT;
            most = bytes / SIZE[types[f]] > most ? bytes / SIZE[types[f]] : most;
        }
        at += bytes;
    }
    if (at != end) return LEFT;

    /* The values of one field, and as many integers: what loops read must be aligned. */
    int64_t *scratch = malloc((size_t)(most ? most : 1) * 2 * sizeof(int64_t));
    if (!scratch) return LEFT;
    int written = 1;
    for (int64_t f = 0; f < n_fields && written; f++) {
        const field *what = fields + f;
        if (what->kind == KIND_STR) {
            codes[f] = U1;
            written = put_length(&o, (uint64_t)types[f]) && put(&o, start[f], types[f]);
            continue;
        }
        double basis[9];
        int based = what->basis >= 0;
        if (based) {
            const field *other = fields + what->basis;
            written = types[what->basis] == F8 && other->kind != KIND_STR && other->axis == n_axes &&
                      start[what->basis + 1] - start[what->basis] == (int64_t)sizeof basis;
            if (!written) break;
            memcpy(basis, start[what->basis], sizeof basis);
        }
        values v = {(uint8_t *)scratch, what->pre * what->post, what->axis < n_axes ? counts[what->axis] : 1, (int)types[f]};
        if (v.count && v.rows) gather(start[f], what->pre, v.rows, what->post, SIZE[v.type], v.value);
        written = put_field(&o, &v, what->pair, based ? basis : NULL, scratch + most, codes + f);
    }
    free(scratch);
    return written ? o.at - out : LEFT;
}
