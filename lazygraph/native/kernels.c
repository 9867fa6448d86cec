/* Loops over the atoms and edges of a batch, each the twin of a plain Python function that says what it does:
 *
 *     lg_positions  Cartesian coordinates                   lazygraph/graphs/vectors.py, batch_positions
 *     lg_vectors    edge vectors                            lazygraph/graphs/vectors.py, batch_vectors
 *     lg_partners   pairs of edges that share an atom       lazygraph/graphs/angles.py, _pairs
 *
 * They give the same bits: compile without contraction of floating-point operations (-ffp-contract=off) and without
 * -ffast-math.
 */
#include <stdint.h>

#define VERSION 2

enum { I1, I2, I4, I8 }; /* types of images */

int lg_version(void) { return VERSION; }

/* Cartesian coordinates (atoms, 3) of n crystals with `count` atoms each, lattices (n, 3, 3). */
void lg_positions(const double *frac, const double *lattice, const int64_t *count, int64_t n, double *out) {
    for (int64_t k = 0; k < n; k++, lattice += 9)
        for (int64_t a = 0; a < count[k]; a++, frac += 3, out += 3)
            for (int c = 0; c < 3; c++)
                out[c] = (lattice[c] * frac[0] + lattice[3 + c] * frac[1]) + lattice[6 + c] * frac[2];
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
