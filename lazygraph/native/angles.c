/* Pairs of edges that share an atom, the twins of lazygraph/graphs/edge_pairs.py, which says what a pair is.
 *
 * Edges are those of one crystal or of a batch: first and second say which of them may come first and second in a pair
 * (NULL: all), and every second edge may come first too. A pair's second edge starts from the atom at end 0 or 1 of
 * its first edge. lg_pairs_find sorts the second edges by the atom that they start from, so that the partners of an
 * edge lie side by side; the other functions walk over these runs.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"

typedef struct {
    const int32_t *from, *joint; /* (edges) the atom that each edge starts from, and the one that its partners start from */
    const uint8_t *first, *second;
    const int32_t *start, *by_start;
    int32_t *cursor;
    int itself;
} search;

/* Whether edge e may come first; then where its partners are: [low, gap) and [gap + skipped, high). The edges have to be
 * asked for in their order, each once. */
static int run_of(search *s, int64_t e, int64_t *low, int64_t *gap, int64_t *skipped, int64_t *high) {
    int64_t own = s->second == NULL || s->second[e] ? s->cursor[s->from[e]]++ : -1; /* where the edge itself is */
    if (s->first != NULL && !s->first[e]) return 0;
    int32_t atom = s->joint[e];
    *low = s->start[atom];
    *high = s->start[atom + 1];
    *skipped = !s->itself && own >= 0 && s->from[e] == atom;
    *gap = *skipped ? own : *high;
    return 1;
}

/* Whether the edges come by the atom that they start from. */
VERSIONS static int is_sorted(const int32_t *from, int64_t edges) {
    int32_t descending = 0;
    for (int64_t e = 1; e < edges; e++) descending |= from[e - 1] > from[e];
    return !descending;
}

/* Whether one of n atoms is not there. */
VERSIONS static int is_outside(const int32_t *atom, int64_t n, uint32_t atoms) {
    int32_t found = 0;
    for (int64_t e = 0; e < n; e++) found |= (uint32_t)atom[e] >= atoms;
    return found;
}

/* Sort the second edges by the atom that they start from: by_start, and where those of each atom begin (atoms + 1). */
static void sort(const int32_t *from, int64_t edges, int64_t atoms, const uint8_t *second, int32_t *start, int32_t *by_start) {
    if (is_sorted(from, edges)) {
        int32_t kept = 0;
        int64_t atom = 0;
        for (int64_t e = 0; e < edges; e++) {
            for (; atom <= from[e]; atom++) start[atom] = kept;
            by_start[kept] = (int32_t)e; /* which the next one overwrites where this is none */
            kept += second == NULL || second[e] != 0;
        }
        for (; atom <= atoms; atom++) start[atom] = kept;
        return;
    }
    memset(start, 0, (size_t)(atoms + 1) * sizeof *start);
    for (int64_t e = 0; e < edges; e++) start[from[e] + 1] += second == NULL || second[e] != 0;
    for (int64_t a = 0; a < atoms; a++) start[a + 1] += start[a];
    for (int64_t e = 0; e < edges; e++)
        if (second == NULL || second[e]) by_start[start[from[e]]++] = (int32_t)e;
    for (int64_t a = atoms; a > 0; a--) start[a] = start[a - 1]; /* each begins where the one before ended */
    start[0] = 0;
}

/* Sort the second edges by their atom, and count the pairs.
 *
 * end: (2, edges). start: (atoms + 1), becomes where the edges of each atom begin in by_start (edges, and SLACK more). graph:
 * (graphs) edges of each graph, or NULL; of_graph: (graphs), becomes the pairs of each. Returns the number of pairs, or -1
 * where an edge ends outside the atoms or the graphs have another number of edges. */
int64_t lg_pairs_find(const int32_t *end, int64_t edges, int64_t atoms, const uint8_t *first, const uint8_t *second,
                      int32_t at_end, int32_t itself, int32_t *start, int32_t *by_start, const int64_t *graph,
                      int64_t graphs, int64_t *of_graph) {
    const int32_t *joint = end + (at_end ? edges : 0);
    if (is_outside(end, 2 * edges, (uint32_t)atoms)) return -1;
    sort(end, edges, atoms, second, start, by_start);
    int64_t total = 0, e = 0;
    for (int64_t g = 0; g < (graph == NULL ? 1 : graphs); g++) {
        int64_t before = total, behind = graph == NULL ? edges : e + graph[g];
        if (behind < e || behind > edges) return -1;
        for (; e < behind; e++) {
            if (first != NULL && !first[e]) continue;
            total += start[joint[e] + 1] - start[joint[e]];
            total -= !itself && joint[e] == end[e] && (second == NULL || second[e]);
        }
        if (graph != NULL) of_graph[g] = total - before;
    }
    return e == edges ? total : -1;
}

static search of(const int32_t *end, int64_t edges, int64_t atoms, const uint8_t *first, const uint8_t *second,
                 int32_t at_end, int32_t itself, const int32_t *start, const int32_t *by_start, int32_t *cursor) {
    memcpy(cursor, start, (size_t)atoms * sizeof *cursor);
    search s = {end, end + (at_end ? edges : 0), first, second, start, by_start, cursor, itself};
    return s;
}

/* Runs are short: they are copied eight ids at a time, and what is written too much is overwritten by the next run. */
#define SLACK 8

#define PAIRS(NAME, T)                                                                      \
    static inline void NAME##_run(const int32_t *from, int64_t n, T *to) {                  \
        for (int64_t p = 0; p < n; p += SLACK)                                              \
            for (int64_t k = 0; k < SLACK; k++) to[p + k] = (T)from[p + k];                 \
    }                                                                                       \
    VERSIONS static int64_t NAME(search s, int64_t edges, int64_t pairs, T *restrict out) { \
        int64_t t = 0, low, gap, skipped, high;                                             \
        for (int64_t e = 0; e < edges; e++) {                                               \
            if (!run_of(&s, e, &low, &gap, &skipped, &high)) continue;                      \
            int64_t n = high - low - skipped, before = gap - low;                           \
            if (t + n > pairs) return -1;                                                   \
            T *one = out + t, *other = out + pairs + t;                                     \
            const int32_t *partner = s.by_start + low;                                      \
            if (t + n + SLACK <= pairs) {                                                   \
                for (int64_t p = 0; p < n; p += SLACK)                                      \
                    for (int64_t k = 0; k < SLACK; k++) one[p + k] = (T)e;                  \
                NAME##_run(partner, before, other);                                         \
                NAME##_run(partner + before + skipped, n - before, other + before);         \
            } else {                                                                        \
                for (int64_t p = 0; p < n; p++) {                                           \
                    one[p] = (T)e;                                                          \
                    other[p] = (T)partner[p < before ? p : p + skipped];                    \
                }                                                                           \
            }                                                                               \
            t += n;                                                                         \
        }                                                                                   \
        return t;                                                                           \
    }
PAIRS(pairs_32, int32_t)
PAIRS(pairs_64, int64_t)
#undef PAIRS

/* The pairs (2, pairs) as int32 or int64; start and by_start as lg_pairs_find left them, cursor (atoms) memory to work
 * in. Returns how many were written, or -1 where there are more. */
int64_t lg_pairs_write(const int32_t *end, int64_t edges, int64_t atoms, const uint8_t *first, const uint8_t *second,
                       int32_t at_end, int32_t itself, const int32_t *start, const int32_t *by_start, int32_t *cursor,
                       int64_t pairs, int32_t wide, void *out) {
    search s = of(end, edges, atoms, first, second, at_end, itself, start, by_start, cursor);
    return wide ? pairs_64(s, edges, pairs, out) : pairs_32(s, edges, pairs, out);
}

/* In how many pairs each edge comes first (edges). */
void lg_pairs_of_edges(const int32_t *end, int64_t edges, int64_t atoms, const uint8_t *first, const uint8_t *second,
                       int32_t at_end, int32_t itself, const int32_t *start, const int32_t *by_start, int32_t *cursor,
                       int64_t *out) {
    (void)atoms, (void)by_start, (void)cursor;
    const int32_t *joint = end + (at_end ? edges : 0);
    for (int64_t e = 0; e < edges; e++) {
        int64_t n = start[joint[e] + 1] - start[joint[e]];
        n -= !itself && joint[e] == end[e] && (second == NULL || second[e]);
        out[e] = first == NULL || first[e] ? n : 0;
    }
}

/* A row for each partner between two places; returns where the next row goes. */
static inline int32_t *rows(const int32_t *by_start, int64_t low, int64_t high, int32_t atom, int32_t one, int32_t *row) {
    for (int64_t p = low; p < high; p++, row += 5) {
        int32_t other = by_start[p];
        row[0] = atom;
        row[1] = one >> 1;
        row[2] = one;
        row[3] = other >> 1;
        row[4] = other;
    }
    return row;
}

VERSIONS static int64_t bonds(search s, int64_t edges, int64_t pairs, int32_t *out) {
    int64_t t = 0, low, gap, skipped, high;
    for (int64_t e = 0; e < edges; e++) {
        if (!run_of(&s, e, &low, &gap, &skipped, &high)) continue;
        if (t + high - low - skipped > pairs) return -1;
        int32_t *behind = rows(s.by_start, low, gap, s.joint[e], (int32_t)e, out + 5 * t);
        rows(s.by_start, gap + skipped, high, s.joint[e], (int32_t)e, behind);
        t += high - low - skipped;
    }
    return t;
}

/* CHGNet's rows (pairs, 5) of the pairs: the shared atom, undirected and directed id of one edge, the same of the other.
 * Arguments and result as of lg_pairs_write. */
int64_t lg_pairs_bonds(const int32_t *end, int64_t edges, int64_t atoms, const uint8_t *first, const uint8_t *second,
                       int32_t at_end, int32_t itself, const int32_t *start, const int32_t *by_start, int32_t *cursor,
                       int64_t pairs, int32_t *out) {
    return bonds(of(end, edges, atoms, first, second, at_end, itself, start, by_start, cursor), edges, pairs, out);
}

/* The vectors (edges, 3) at length 1, as columns. */
VERSIONS static void to_units(const double *vector, int64_t edges, double *x, double *y, double *z) {
    for (int64_t e = 0; e < edges; e++) {
        double a = vector[3 * e], b = vector[3 * e + 1], c = vector[3 * e + 2], length = sqrt((a * a + b * b) + c * c);
        x[e] = a / length;
        y[e] = b / length;
        z[e] = c / length;
    }
}

#define COSINES(NAME, T)                                                                                          \
    VERSIONS static int64_t NAME(search s, int64_t edges, const double *unit, const double *sorted, int64_t pairs, \
                                 T *restrict out) {                                                               \
        int64_t t = 0, low, gap, skipped, high;                                                                   \
        for (int64_t e = 0; e < edges; e++) {                                                                     \
            if (!run_of(&s, e, &low, &gap, &skipped, &high)) continue;                                            \
            int64_t n = high - low - skipped, before = gap - low;                                                 \
            if (t + n > pairs) return -1;                                                                         \
            double ux = unit[e], uy = unit[edges + e], uz = unit[2 * edges + e];                                  \
            const double *x = sorted + low, *y = x + edges, *z = y + edges;                                       \
            for (int64_t p = 0; p < n; p++) {                                                                     \
                int64_t q = p < before ? p : p + skipped;                                                         \
                double cosine = -((ux * x[q] + uy * y[q]) + uz * z[q]);                                           \
                cosine = cosine < -1.0 ? -1.0 : cosine; /* a NaN stays one */                                     \
                out[t + p] = (T)(cosine > 1.0 ? 1.0 : cosine);                                                    \
            }                                                                                                     \
            t += n;                                                                                               \
        }                                                                                                         \
        return t;                                                                                                 \
    }
COSINES(cosines_32, float)
COSINES(cosines_64, double)
#undef COSINES

/* The cosine (pairs) of minus the first vector and the second, of vectors (edges, 3), as float or double. work: (6, edges).
 * Other arguments and result as of lg_pairs_write. */
int64_t lg_pairs_cosines(const int32_t *end, int64_t edges, int64_t atoms, const uint8_t *first, const uint8_t *second,
                         int32_t at_end, int32_t itself, const int32_t *start, const int32_t *by_start,
                         int32_t *cursor, const double *vector, double *work, int64_t pairs, int32_t wide, void *out) {
    search s = of(end, edges, atoms, first, second, at_end, itself, start, by_start, cursor);
    double *sorted = work + 3 * edges;
    to_units(vector, edges, work, work + edges, work + 2 * edges);
    for (int64_t p = 0; p < start[atoms]; p++)
        for (int64_t c = 0; c < 3; c++) sorted[c * edges + p] = work[c * edges + by_start[p]];
    return wide ? cosines_64(s, edges, work, sorted, pairs, out) : cosines_32(s, edges, work, sorted, pairs, out);
}
