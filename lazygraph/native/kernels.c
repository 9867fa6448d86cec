/* The loops of the read path, each the twin of a plain Python function that says what it does:
 *
 *     lg_read      positioned reads                            lazygraph/format/shard.py
 *     lg_scan      where the parts of a record lie             lazygraph/format/record.py, unpack
 *     lg_integers  buffers of integers to one array            lazygraph/format/encoding.py, decode
 *     lg_floats    buffers of floating-point numbers likewise
 *     lg_vectors   edge vectors of a batch                     lazygraph/graphs/vectors.py
 *     lg_partners  pairs of edges that share an atom           lazygraph/graphs/angles.py, _pairs
 *
 * They give the same bits: compile without contraction of floating-point operations (-ffp-contract=off) and without
 * -ffast-math. Input is not trusted: lg_scan looks at nothing outside a record, and says which one is not as it must
 * be; the sizes of buffers are checked by the caller before lg_integers and lg_floats read them.
 */
#define _XOPEN_SOURCE 700 /* pread */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION 1

/* Stored types, by the low bits of a code byte (docs/format.md). */
enum { I1, I2, I4, I8, U1, U2, U4, U8, F2, F4, F8 };
static const int SIZE[16] = {1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0, 0, 0, 0, 0};
enum { DECIMAL = 1 << 4, CARTESIAN = 2 << 4, HALF = 1 << 7 };
enum { NONE, SWAP, NEGATE, SAME };
#define SCALE 1e8

int lg_version(void) { return VERSION; }

/* Read n values, each from its file and offset to its place in out. Returns -1, or the first value that cannot be read
 * whole, with errno where the system said why. */
int64_t lg_read(const int32_t *file, const int64_t *offset, const int64_t *length, const int64_t *place, int64_t n,
                uint8_t *out) {
    for (int64_t k = 0; k < n; k++) {
        int64_t done = 0;
        while (done < length[k]) {
            ssize_t got = pread(file[k], out + place[k] + done, (size_t)(length[k] - done), (off_t)(offset[k] + done));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return k;
            done += got;
        }
    }
    return -1;
}

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

static int one_record(const uint8_t *raw, const uint8_t *at, const uint8_t *end, int axes, int fields, int64_t *counts,
                      int64_t *place, int64_t *length, uint8_t *codes) {
    const uint8_t *start;
    int64_t size, elements, position;
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
    if (elements != axes + fields + 2 || !whole_number(&at, end, &position)) return 0;
    for (int k = 0; k < axes; k++)
        if (!whole_number(&at, end, &counts[k])) return 0;
    if (!byte_string(&at, end, &start, &size) || size != fields) return 0;
    memcpy(codes, start, (size_t)fields);
    for (int k = 0; k < fields; k++) {
        if (!byte_string(&at, end, &start, &length[k])) return 0;
        place[k] = start - raw;
    }
    return at == end;
}

/* Find the parts of n records, of which record k lies in raw from start[k] on and has size[k] bytes.
 * counts (n, axes); place, length and codes (n, fields). Returns -1, or the first record that is none. */
int64_t lg_scan(const uint8_t *raw, const int64_t *start, const int64_t *size, int64_t n, int32_t axes, int32_t fields,
                int64_t *counts, int64_t *place, int64_t *length, uint8_t *codes) {
    for (int64_t k = 0; k < n; k++)
        if (!one_record(raw, raw + start[k], raw + start[k] + size[k], axes, fields, counts + k * axes,
                        place + k * fields, length + k * fields, codes + k * fields))
            return k;
    return -1;
}

/* Unaligned little-endian values to int64, which keeps the bits of uint64; of floating-point numbers their bits. */
static void load_integers(const uint8_t *from, int type, int64_t n, int64_t *to) {
#define LOAD(T)                                 \
    for (int64_t k = 0; k < n; k++) {           \
        T value;                                \
        memcpy(&value, from + k * sizeof(T), sizeof(T)); \
        to[k] = (int64_t)value;                 \
    }                                           \
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
#define STORE(T)                                                                              \
    {                                                                                         \
        T *out = (T *)to + first;                                                             \
        if (negate)                                                                           \
            for (int64_t k = 0; k < n; k++) out[k * step] = (T)(0 - (uint64_t)values[k] + (uint64_t)add); \
        else                                                                                  \
            for (int64_t k = 0; k < n; k++) out[k * step] = (T)((uint64_t)values[k] + (uint64_t)add);     \
    }                                                                                         \
    break
    switch (type) {
        case I1: case U1: STORE(uint8_t);
        case I2: case U2: STORE(uint16_t);
        case I4: case U4: STORE(uint32_t);
        case I8: case U8: STORE(uint64_t);
    }
#undef STORE
}

/* One field of n records as one array: components before the axis (pre), all rows, components after it (post).
 *
 * code, place: of each record, `fields` apart. rows: of each record. add: what the values of each record are raised by,
 * or NULL. scratch holds as many values as the largest record has rows. */
void lg_integers(const uint8_t *raw, const uint8_t *code, const int64_t *place, int64_t fields, const int64_t *rows,
                 int64_t n, int64_t total, int64_t pre, int64_t post, int32_t pair, const int64_t *add, int64_t *scratch,
                 int32_t type, void *out) {
    int64_t row = 0;
    for (int64_t k = 0; k < n; k++) {
        int flags = code[k * fields], stored = flags & 15, half = flags & HALF;
        int64_t kept = half ? rows[k] / 2 : rows[k], step = half ? 2 : 1, raised = add ? add[k] : 0;
        const uint8_t *from = raw + place[k * fields];
        for (int64_t p = 0; p < pre; p++)
            for (int64_t q = 0; q < post; q++, from += kept * SIZE[stored]) {
                load_integers(from, stored, kept, scratch);
                store_integers(scratch, kept, raised, 0, out, type, (p * total + row) * post + q, step * post);
                if (!half) continue;
                /* The reverse of each row; to swap two components is to write each where the other one goes. */
                int64_t other_p = pair == SWAP && pre == 2 ? 1 - p : p, other_q = pair == SWAP && post == 2 ? 1 - q : q;
                store_integers(scratch, kept, raised, pair == NEGATE, out, type,
                               (other_p * total + row + 1) * post + other_q, step * post);
            }
        row += rows[k];
    }
}

static double half_float(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                  : exponent    ? ldexp(1024 + fraction, exponent - 25)
                                : ldexp(fraction, -24);
    return bits >> 15 ? -size : size;
}

/* Unaligned values to float64. */
static void load_floats(const uint8_t *from, int flags, int64_t n, int64_t *scratch, double *to) {
    switch (flags & 15) {
        case F2:
            for (int64_t k = 0; k < n; k++) {
                uint16_t value;
                memcpy(&value, from + 2 * k, 2);
                to[k] = half_float(value);
            }
            break;
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

/* As lg_integers, to float64. basis: the nine numbers of each record's basis, or NULL. scratch and wide hold as many
 * values as the largest record has in this field. */
void lg_floats(const uint8_t *raw, const uint8_t *code, const int64_t *place, int64_t fields, const int64_t *rows,
               int64_t n, int64_t total, int64_t pre, int64_t post, int32_t pair, const double *basis, int64_t *scratch,
               double *wide, double *out) {
    int64_t row = 0, components = pre * post;
    for (int64_t k = 0; k < n; k++) {
        int flags = code[k * fields], half = flags & HALF;
        int64_t kept = half ? rows[k] / 2 : rows[k], step = half ? 2 : 1;
        load_floats(raw + place[k * fields], flags, kept * components, scratch, wide);
        if (flags & CARTESIAN) to_fractional(wide, kept, basis + 9 * k);
        for (int64_t p = 0; p < pre; p++)
            for (int64_t q = 0; q < post; q++) {
                const double *from = wide + (p * post + q) * kept;
                int64_t other_p = pair == SWAP && pre == 2 ? 1 - p : p, other_q = pair == SWAP && post == 2 ? 1 - q : q;
                double *to = out + (p * total + row) * post + q, *other = out + (other_p * total + row + 1) * post + other_q;
                for (int64_t r = 0; r < kept; r++) {
                    to[r * step * post] = from[r];
                    if (half) other[r * step * post] = pair == NEGATE ? -from[r] : from[r];
                }
            }
        row += rows[k];
    }
}

/* Edge vectors (edges, 3) float32 of a batch: edges of crystal k from edge[k] to edge[k + 1], lattices (n, 3, 3).
 * Returns 0, or 1 where an edge ends outside the atoms. */
int32_t lg_vectors(const double *frac, int64_t atoms, const double *lattice, const int64_t *edge, int64_t n,
                   const int32_t *from, const int32_t *to, const void *images, int32_t type, float *out) {
    for (int64_t k = 0; k < n; k++) {
        const double *m = lattice + 9 * k;
        for (int64_t e = edge[k]; e < edge[k + 1]; e++) {
            double s[3], d[3];
            if (from[e] < 0 || from[e] >= atoms || to[e] < 0 || to[e] >= atoms) return 1;
            for (int c = 0; c < 3; c++) {
                switch (type) {
                    case I1: s[c] = ((const int8_t *)images)[3 * e + c]; break;
                    case I2: s[c] = ((const int16_t *)images)[3 * e + c]; break;
                    case I4: s[c] = ((const int32_t *)images)[3 * e + c]; break;
                    default: s[c] = (double)((const int64_t *)images)[3 * e + c];
                }
                d[c] = (frac[3 * (int64_t)to[e] + c] - frac[3 * (int64_t)from[e] + c]) + s[c];
            }
            for (int c = 0; c < 3; c++)
                out[3 * e + c] = (float)((m[c] * d[0] + m[3 + c] * d[1]) + m[6 + c] * d[2]) + 0.0f;
        }
    }
    return 0;
}

/* Pairs of edges: each of n edges with all that start from its node, in the order of by_start, with or without itself.
 * first[a] is where those of atom a begin in by_start. Writes at most `pairs` to row 0 and row 1 of out, and returns how
 * many there are. */
int64_t lg_partners(const int32_t *edge, const int64_t *node, int64_t n, const int32_t *by_start, const int64_t *first,
                    int32_t itself, int64_t pairs, int32_t *out) {
    int64_t t = 0;
    for (int64_t k = 0; k < n; k++)
        for (int64_t p = first[node[k]]; p < first[node[k] + 1]; p++) {
            if (by_start[p] == edge[k] && !itself) continue;
            if (t < pairs) {
                out[t] = edge[k];
                out[pairs + t] = by_start[p];
            }
            t++;
        }
    return t;
}
