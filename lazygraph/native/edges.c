/* Loops over the atoms and edges of a batch, each the twin of a plain Python function that says what it does:
 *
 *     lg_ends         whether edges end in their crystals     lazygraph/graphs/vectors.py, first_invalid
 *     lg_positions    Cartesian coordinates                   lazygraph/graphs/vectors.py, batch_positions
 *     lg_edge_values  vectors, translations, lengths          lazygraph/graphs/vectors.py, batch_values
 *     lg_edge_order   edges sorted by their first atom        lazygraph/graphs/edge_order.py, by_first_atom
 *     lg_unpaired     the first edge without its reverse     lazygraph/reading/crystals.py, check_pairs
 *     lg_within       which bonds are within a cutoff         lazygraph/reading/views/matgl.py, _within
 *
 * They give the same bits: compile without contraction of floating-point operations (-ffp-contract=off) and without
 * -ffast-math.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "constants.h"
#include "simd.h"

/* Which sources the library was compiled of: source_hash.py. */
const char *lg_sources(void) { return LG_SOURCES; }

static int64_t sum(const int64_t *count, int64_t n) {
    int64_t total = 0;
    for (int64_t k = 0; k < n; k++) {
        if (count[k] < 0) return -1;
        total += count[k];
    }
    return total;
}

/* Whether one of n ends is not among `count` atoms from `before` on. */
VERSIONS static int64_t outside(const int32_t *end, int64_t n, uint32_t before, uint32_t count) {
    int32_t found = 0;
    for (int64_t e = 0; e < n; e++) found |= (uint32_t)end[e] - before >= count;
    return found;
}

/* The first of n crystals with an edge whose end (2, edges) is not among its atoms, or -1. */
int64_t lg_ends(const int32_t *end, const int64_t *edges, const int64_t *atoms, int64_t n) {
    int64_t all = sum(edges, n), first = 0, at = 0;
    for (int64_t k = 0; k < n; k++) {
        for (int64_t row = 0; row < 2; row++)
            if (outside(end + row * all + at, edges[k], (uint32_t)first, (uint32_t)atoms[k])) return k;
        first += atoms[k];
        at += edges[k];
    }
    return -1;
}

/* Cartesian coordinates (atoms, 3) of n crystals with `count` atoms each, lattices (n, 3, 3), as double or float. Returns 0,
 * or 1 where the counts are not those of so many atoms. */
int32_t lg_positions(const double *frac, int64_t atoms, const double *lattice, const int64_t *count, int64_t n,
                     int32_t wide, void *out) {
    if (sum(count, n) != atoms) return 1;
    int64_t at = 0;
    for (int64_t k = 0; k < n; k++, lattice += 9)
        for (int64_t a = 0; a < count[k]; a++, frac += 3, at += 3)
            for (int c = 0; c < 3; c++) {
                double x = (lattice[c] * frac[0] + lattice[3 + c] * frac[1]) + lattice[6 + c] * frac[2];
                if (wide) ((double *)out)[at + c] = x;
                else ((float *)out)[at + c] = (float)x;
            }
    return 0;
}

/* ---- vectors, translations and lengths ---- */

#define BLOCK 128 /* edges whose numbers stay in the nearest cache */
#define NEAR 256  /* atoms of a crystal whose coordinates are copied to where each is read at once */

/* Three numbers and one that does not count. Compilers make of it what the processor has. */
typedef double vec __attribute__((vector_size(32), aligned(8), may_alias));

#define TO_DOUBLES(NAME, T)                                                    \
    VERSIONS static void NAME(const T *image, int64_t n, double *out) {        \
        for (int64_t k = 0; k < n; k++) out[k] = (double)image[k];             \
    }
TO_DOUBLES(doubles_1, int8_t)
TO_DOUBLES(doubles_2, int16_t)
TO_DOUBLES(doubles_4, int32_t)
TO_DOUBLES(doubles_8, int64_t)
#undef TO_DOUBLES

/* The numbers of n images, of `bytes` bytes each. */
static void images_to_doubles(const char *image, int64_t bytes, int64_t n, double *out) {
    switch (bytes) {
        case 1: doubles_1((const int8_t *)image, n, out); break;
        case 2: doubles_2((const int16_t *)image, n, out); break;
        case 4: doubles_4((const int32_t *)image, n, out); break;
        default: doubles_8((const int64_t *)image, n, out);
    }
}

/* (f_j - f_i) + S of n edges, of atoms counted from `first`. image and out have a number more than rows of three, for each row is
 * read and written with the first number of the next one. near: (atoms) coordinates, or NULL to take them from frac. */
VERSIONS static void differences(const double *frac, const vec *near, int32_t first, const int32_t *restrict from,
                                 const int32_t *restrict to, int64_t n, const double *restrict image, double *restrict out) {
    if (near == NULL) {
        for (int64_t e = 0; e < n; e++) {
            const double *i = frac + 3 * (int64_t)(from[e] - first), *j = frac + 3 * (int64_t)(to[e] - first);
            for (int c = 0; c < 3; c++) out[3 * e + c] = (j[c] - i[c]) + image[3 * e + c];
        }
        return;
    }
    for (int64_t e = 0; e < n; e++)
        *(vec *)(out + 3 * e) = (near[to[e] - first] - near[from[e] - first]) + *(const vec *)(image + 3 * e);
}

/* Cartesian rows of n fractional ones. */
#define TO_CARTESIAN(NAME, T)                                                                          \
    VERSIONS static void NAME(const double *restrict d, int64_t n, const double *lattice, T *restrict out) { \
        const double m0 = lattice[0], m1 = lattice[1], m2 = lattice[2], m3 = lattice[3], m4 = lattice[4],    \
                     m5 = lattice[5], m6 = lattice[6], m7 = lattice[7], m8 = lattice[8];               \
        for (int64_t e = 0; e < n; e++) {                                                              \
            double x = d[3 * e], y = d[3 * e + 1], z = d[3 * e + 2];                                   \
            out[3 * e] = (T)((m0 * x + m3 * y) + m6 * z) + (T)0.0;                                     \
            out[3 * e + 1] = (T)((m1 * x + m4 * y) + m7 * z) + (T)0.0;                                 \
            out[3 * e + 2] = (T)((m2 * x + m5 * y) + m8 * z) + (T)0.0;                                 \
        }                                                                                              \
    }
TO_CARTESIAN(cartesian_floats, float)
TO_CARTESIAN(cartesian_doubles, double)
#undef TO_CARTESIAN

VERSIONS static void lengths(const double *restrict d, int64_t n, const double *m, double *restrict out) {
    for (int64_t e = 0; e < n; e++) {
        double x = d[3 * e], y = d[3 * e + 1], z = d[3 * e + 2];
        double u = (m[0] * x + m[3] * y) + m[6] * z, v = (m[1] * x + m[4] * y) + m[7] * z;
        double w = (m[2] * x + m[5] * y) + m[8] * z;
        out[e] = sqrt((u * u + v * v) + w * w);
    }
}

/* What of the edges of n crystals with `count` edges and `atoms` atoms each, lattices (n, 3, 3), images of `bytes` bytes a
 * number: EDGE_VECTORS and EDGE_SHIFTS (edges, 3) as double or float, EDGE_LENGTHS (edges) as double. The atoms are fewer
 * than 2^31 in all. Returns 0, or 1 where an edge does not end at atoms of its crystal, or the counts are not those of so
 * many edges and atoms. */
int32_t lg_edge_values(const double *frac, int64_t all_atoms, const double *lattice, const int64_t *count,
                       const int64_t *atoms, int64_t n, int64_t edges, const int32_t *from, const int32_t *to,
                       const void *image, int64_t bytes, int32_t what, int32_t wide, void *out) {
    if (sum(count, n) != edges || sum(atoms, n) != all_atoms) return 1;
    vec near[NEAR];
    double images[3 * BLOCK + 1], moved[3 * BLOCK + 1];
    images[3 * BLOCK] = 0.0;
    int64_t at = 0, first = 0;
    for (int64_t k = 0; k < n; k++, lattice += 9) {
        int64_t end = at + count[k], known = what != EDGE_SHIFTS && atoms[k] <= NEAR;
        if (what != EDGE_SHIFTS && (outside(from + at, count[k], (uint32_t)first, (uint32_t)atoms[k]) ||
                                    outside(to + at, count[k], (uint32_t)first, (uint32_t)atoms[k])))
            return 1;
        for (int64_t i = 0; known && i < atoms[k]; i++) {
            const double *f = frac + 3 * (first + i);
            near[i] = (vec){f[0], f[1], f[2], 0.0};
        }
        for (int64_t m; at < end; at += m) {
            m = end - at < BLOCK ? end - at : BLOCK;
            images_to_doubles((const char *)image + 3 * at * bytes, bytes, 3 * m, images);
            const double *d = images;
            if (what != EDGE_SHIFTS) {
                images[3 * m] = 0.0;
                differences(frac + 3 * first, known ? near : NULL, (int32_t)first, from + at, to + at, m, images, moved);
                d = moved;
            }
            if (what == EDGE_LENGTHS) lengths(d, m, lattice, (double *)out + at);
            else if (wide) cartesian_doubles(d, m, lattice, (double *)out + 3 * at);
            else cartesian_floats(d, m, lattice, (float *)out + 3 * at);
        }
        first += atoms[k];
    }
    return 0;
}

/* Whether (positions[to] + shift) - positions[from] is at most the cutoff long, of each edge. */
#define WITHIN(NAME, T, ROOT)                                                                                        \
    static void NAME(const T *position, const T *shift, const int32_t *from, const int32_t *to, int64_t edges,       \
                     T cutoff, uint8_t *out) {                                                                       \
        for (int64_t e = 0; e < edges; e++) {                                                                        \
            const T *i = position + 3 * (int64_t)from[e], *j = position + 3 * (int64_t)to[e], *s = shift + 3 * e;    \
            T x = (j[0] + s[0]) - i[0], y = (j[1] + s[1]) - i[1], z = (j[2] + s[2]) - i[2];                          \
            out[e] = ROOT((x * x + y * y) + z * z) <= cutoff;                                                        \
        }                                                                                                            \
    }
WITHIN(within_floats, float, sqrtf)
WITHIN(within_doubles, double, sqrt)
#undef WITHIN

/* As said above, for positions (atoms, 3) and shifts (edges, 3) of one type. Returns 0, or 1 where an edge ends outside. */
int32_t lg_within(const void *position, int64_t atoms, const void *shift, const int32_t *from, const int32_t *to,
                  int64_t edges, double cutoff, int32_t wide, uint8_t *out) {
    if (outside(from, edges, 0, (uint32_t)atoms) || outside(to, edges, 0, (uint32_t)atoms)) return 1;
    if (wide) within_doubles(position, shift, from, to, edges, cutoff, out);
    else within_floats(position, shift, from, to, edges, (float)cutoff, out);
    return 0;
}

/* ---- order ---- */

/* Edges sorted by their first atom, in their order where that is the same: ends (2, edges), and images whose rows have
 * `bytes` bytes. start: (atoms + 1), memory to work in. Returns 0; 1 where they are sorted already, and nothing was
 * written; -1 where an edge begins outside the atoms. */
int32_t lg_edge_order(const int32_t *end, int64_t edges, int64_t atoms, const uint8_t *image, int64_t bytes,
                      int32_t *start, int32_t *end_out, uint8_t *image_out) {
    if (outside(end, edges, 0, (uint32_t)atoms)) return -1;
    int64_t sorted = 1;
    for (int64_t e = 1; e < edges && sorted; e++) sorted = end[e - 1] <= end[e];
    if (sorted) return 1;
    memset(start, 0, (size_t)(atoms + 1) * sizeof *start);
    for (int64_t e = 0; e < edges; e++) start[end[e] + 1]++;
    for (int64_t a = 0; a < atoms; a++) start[a + 1] += start[a];
    for (int64_t e = 0; e < edges; e++) {
        int64_t to = start[end[e]]++;
        end_out[to] = end[e];
        end_out[edges + to] = end[edges + e];
        if (bytes == 3) { /* the usual images, of one byte each */
            memcpy(image_out + 3 * to, image + 3 * e, 3);
        } else {
            memcpy(image_out + bytes * to, image + bytes * e, (size_t)bytes);
        }
    }
    return 0;
}

/* The first of the edges 0, 2, 4, ... that is not followed by its reverse, or -1. ends: (2, edges), an even number; images
 * (edges, 3) of `bytes` bytes a number. */
#define UNPAIRED(NAME, T)                                                                                               \
    static int64_t NAME(const int32_t *from, const int32_t *to, int64_t edges, const T *image) {                        \
        for (int64_t e = 0; e < edges; e += 2) {                                                                        \
            const T *s = image + 3 * e;                                                                                 \
            int64_t differ = (from[e] ^ to[e + 1]) | (to[e] ^ from[e + 1]);                                             \
            for (int c = 0; c < 3; c++) differ |= s[c] != (T)(0 - (uint64_t)s[3 + c]);                                  \
            if (differ) return e;                                                                                       \
        }                                                                                                               \
        return -1;                                                                                                      \
    }
UNPAIRED(unpaired_1, int8_t)
UNPAIRED(unpaired_2, int16_t)
UNPAIRED(unpaired_4, int32_t)
UNPAIRED(unpaired_8, int64_t)
#undef UNPAIRED

int64_t lg_unpaired(const int32_t *end, int64_t edges, const void *image, int64_t bytes) {
    switch (bytes) {
        case 1: return unpaired_1(end, end + edges, edges, image);
        case 2: return unpaired_2(end, end + edges, edges, image);
        case 4: return unpaired_4(end, end + edges, edges, image);
        default: return unpaired_8(end, end + edges, edges, image);
    }
}
