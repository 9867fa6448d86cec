/* Loops over the atoms and edges of a batch, each the twin of a plain Python function that says what it does:
 *
 *     lg_ends       whether edges end in their crystals      lazygraph/graphs/vectors.py, stray
 *     lg_positions  Cartesian coordinates                   lazygraph/graphs/vectors.py, batch_positions
 *     lg_vectors    edge vectors                            lazygraph/graphs/vectors.py, batch_vectors
 *     lg_partners   pairs of edges that share an atom       lazygraph/graphs/angles.py, _pairs
 *
 * They give the same bits: compile without contraction of floating-point operations (-ffp-contract=off) and without
 * -ffast-math.
 */
#include <stdint.h>

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

/* The first of n crystals with an edge whose end (2, edges) is not among its atoms, or -1. */
int64_t lg_ends(const int32_t *end, const int64_t *edges, const int64_t *atoms, int64_t n) {
    int64_t all = sum(edges, n), first = 0, at = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t outside = 0;
        uint32_t count = (uint32_t)atoms[k], before = (uint32_t)first;
        for (int64_t row = 0; row < 2; row++)
            for (int64_t e = 0; e < edges[k]; e++) outside |= (uint32_t)end[row * all + at + e] - before >= count;
        if (outside) return k;
        first += atoms[k];
        at += edges[k];
    }
    return -1;
}

/* Cartesian coordinates (atoms, 3) of n crystals with `count` atoms each, lattices (n, 3, 3). Returns 0, or 1 where the
 * counts are not those of so many atoms. */
int32_t lg_positions(const double *frac, int64_t atoms, const double *lattice, const int64_t *count, int64_t n,
                     double *out) {
    if (sum(count, n) != atoms) return 1;
    for (int64_t k = 0; k < n; k++, lattice += 9)
        for (int64_t a = 0; a < count[k]; a++, frac += 3, out += 3)
            for (int c = 0; c < 3; c++)
                out[c] = (lattice[c] * frac[0] + lattice[3 + c] * frac[1]) + lattice[6 + c] * frac[2];
    return 0;
}

/* Edge vectors of n crystals with `count` edges each, whose images have a type. */
#define VECTORS(NAME, T)                                                                                          \
    static int32_t NAME(const double *frac, uint32_t atoms, const double *lattice, const int64_t *count, int64_t n, \
                        const int32_t *from, const int32_t *to, const T *image, float *out) {                     \
        for (int64_t k = 0; k < n; k++, lattice += 9)                                                             \
            for (int64_t e = 0; e < count[k]; e++, from++, to++, image += 3, out += 3) {                          \
                if ((uint32_t)*from >= atoms || (uint32_t)*to >= atoms) return 1;                                 \
                const double *i = frac + 3 * (int64_t)*from, *j = frac + 3 * (int64_t)*to;                        \
                double x = (j[0] - i[0]) + (double)image[0], y = (j[1] - i[1]) + (double)image[1],                \
                       z = (j[2] - i[2]) + (double)image[2];                                                      \
                for (int c = 0; c < 3; c++)                                                                       \
                    out[c] = (float)((lattice[c] * x + lattice[3 + c] * y) + lattice[6 + c] * z) + 0.0f;          \
            }                                                                                                     \
        return 0;                                                                                                 \
    }
VECTORS(vectors_1, int8_t)
VECTORS(vectors_2, int16_t)
VECTORS(vectors_4, int32_t)
VECTORS(vectors_8, int64_t)
#undef VECTORS

/* Edge vectors (edges, 3) float32 of n crystals with `count` edges each, lattices (n, 3, 3), images of `bytes` bytes.
 * Returns 0, or 1 where an edge ends outside the atoms, of which there are fewer than 2^31, or the counts are not those of
 * so many edges. */
int32_t lg_vectors(const double *frac, int64_t atoms, const double *lattice, const int64_t *count, int64_t n,
                   int64_t edges, const int32_t *from, const int32_t *to, const void *image, int64_t bytes, float *out) {
    if (sum(count, n) != edges) return 1;
    switch (bytes) {
        case 1: return vectors_1(frac, (uint32_t)atoms, lattice, count, n, from, to, image, out);
        case 2: return vectors_2(frac, (uint32_t)atoms, lattice, count, n, from, to, image, out);
        case 4: return vectors_4(frac, (uint32_t)atoms, lattice, count, n, from, to, image, out);
        default: return vectors_8(frac, (uint32_t)atoms, lattice, count, n, from, to, image, out);
    }
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
