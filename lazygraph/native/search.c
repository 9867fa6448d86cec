/* The loops that make graphs, each the twin of plain Python functions that say what it does:
 *
 *     lg_radius    every neighbour within a cutoff             lazygraph/graphs/radius.py
 *     lg_shell     every neighbour up to the k-th shell        lazygraph/graphs/shell.py
 *     lg_nearest   the k nearest, directed                     lazygraph/graphs/nearest.py
 *
 * Edges, their order, images and distances are the same to the bit: compile as kernels.c says. A crystal is 3 + atoms
 * rows of three float64: its lattice, then its fractional coordinates. What these loops are no good for, they leave to
 * the plain functions, which also raise the errors: they return LEFT for cells so far from reduced that rounding could
 * hide a neighbour, for searches of too many steps or relations, for atoms too close or images too far, and for searches
 * that look at more images than the caller allows, or find more neighbours: lazygraph/graphs/effort.py says how they are
 * counted, here with the same bits.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"

enum { FOUND = 0, LEFT = -1 };

#define MAX_STEPS 3e7                /* of a search, about 0.2 s */
#define MAX_PAIRS ((int64_t)1 << 24) /* 400 MB */

/* One of a relation and its reverse: i < j, or i == j and the first non-zero component of the image positive. */
typedef struct {
    int32_t i, j;
    int16_t image[3];
    double distance;
} Pair;

typedef struct {
    Pair *at;
    int64_t n, room;
} Pairs;

/* With x = f_j - f_i + S, the vector x_0 a + x_1 b + x_2 c has the square
 * q_0 x_0^2 + q_1 (x_1 + p_10 x_0)^2 + q_2 (x_2 + p_21 x_1 + p_20 x_0)^2 (Gram and Schmidt, from c on). */
typedef struct {
    const double *lattice, *frac;
    int64_t atoms;
    int32_t repeats; /* bit c: along lattice vector c */
    double q0, q1, q2, p10, p20, p21;
    double defect; /* lengths of the lattice vectors multiplied, over the volume: 1 for a right-angled cell */
    double lengths;
    double inverse[3], low[3], high[3], edges[3], skew, far; /* lazygraph/graphs/effort.py */
    double most; /* images that may be looked at, neighbours that may be found */
} Cell;

static double dot(const double *u, const double *v) { return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]; }

/* lazygraph/graphs/vectors.py */
static double length(double x, double y, double z, const double *m) {
    double v0 = x * m[0] + y * m[3] + z * m[6], v1 = x * m[1] + y * m[4] + z * m[7], v2 = x * m[2] + y * m[5] + z * m[8];
    return sqrt(v0 * v0 + v1 * v1 + v2 * v2);
}

static int add(Pairs *pairs, Pair pair) {
    if (pairs->n == pairs->room) {
        int64_t room = pairs->room ? 2 * pairs->room : 512;
        Pair *at = room > MAX_PAIRS ? NULL : realloc(pairs->at, (size_t)room * sizeof(Pair));
        if (!at) return LEFT;
        pairs->at = at;
        pairs->room = room;
    }
    pairs->at[pairs->n++] = pair;
    return FOUND;
}

static Pair reversed(const Pair *pair) {
    const int16_t *s = pair->image;
    return (Pair){pair->j, pair->i, {(int16_t)-s[0], (int16_t)-s[1], (int16_t)-s[2]}, pair->distance};
}

static void cross(const double *u, const double *v, double *out) {
    out[0] = u[1] * v[2] - u[2] * v[1];
    out[1] = u[2] * v[0] - u[0] * v[2];
    out[2] = u[0] * v[1] - u[1] * v[0];
}

/* Effort.of */
static void measure(Cell *cell) {
    const double *m = cell->lattice;
    double normal[3], volume = 0, length[3], most[3], spread[3];
    for (int c = 0; c < 3; c++) {
        cross(m + 3 * ((c + 1) % 3), m + 3 * ((c + 2) % 3), normal);
        if (c == 0) volume = fabs(dot(m, normal));
        length[c] = sqrt(dot(m + 3 * c, m + 3 * c));
        cell->inverse[c] = sqrt(dot(normal, normal)) / volume;
        double low = cell->frac[c], high = low;
        for (int64_t i = 1; i < cell->atoms; i++) {
            low = fmin(low, cell->frac[3 * i + c]);
            high = fmax(high, cell->frac[3 * i + c]);
        }
        cell->low[c] = low;
        cell->high[c] = high;
        spread[c] = high - low;
        most[c] = fmax(fabs(low), fabs(high)) + 1.0;
    }
    for (int k = 0; k < 3; k++)
        cell->edges[k] = spread[0] * fabs(m[k]) + spread[1] * fabs(m[3 + k]) + spread[2] * fabs(m[6 + k]);
    cell->skew = fmax(length[0] * cell->inverse[0], fmax(length[1] * cell->inverse[1], length[2] * cell->inverse[2]));
    cell->far = most[0] * length[0] + most[1] * length[1] + most[2] * length[2];
}

/* Whether the plain search would look at so many images as it may, and miss nothing by rounding. */
static int allowed(const Cell *cell, double radius) {
    double cells[3] = {1, 1, 1}, reach = fmax(radius, LEAST_RADIUS), boxes = 1;
    for (int c = 0; c < 3; c++) {
        if (cell->repeats >> c & 1) {
            double steps = ceil((reach + BORDER) * cell->inverse[c]);
            cells[c] = ceil(cell->high[c] + steps + HAIR) - floor(cell->low[c] - steps - HAIR);
        }
        boxes *= cell->edges[c] / reach + 3.0;
    }
    double images = (double)cell->atoms * (cells[0] * cells[1] * cells[2]) + IMAGES_A_BOX * boxes;
    return images <= cell->most && ROUNDING * (cell->skew * (cell->far + radius)) < SEARCH_MARGIN / 2;
}

static Cell cell_of(const double *crystal, int64_t atoms, int32_t repeats, int64_t most) {
    const double *a = crystal, *b = crystal + 3, *c = crystal + 6;
    Cell cell = {.lattice = crystal, .frac = crystal + 9, .atoms = atoms, .repeats = repeats, .most = (double)most};
    measure(&cell);
    double upright[3], height[3];
    cell.q2 = dot(c, c);
    cell.p21 = dot(b, c) / cell.q2;
    for (int k = 0; k < 3; k++) upright[k] = b[k] - cell.p21 * c[k];
    cell.q1 = dot(upright, upright);
    cell.p20 = dot(a, c) / cell.q2;
    cell.p10 = dot(a, upright) / cell.q1;
    for (int k = 0; k < 3; k++) height[k] = a[k] - cell.p20 * c[k] - cell.p10 * upright[k];
    cell.q0 = dot(height, height);
    cell.defect = sqrt(dot(a, a) / cell.q0 * (dot(b, b) / cell.q1));
    cell.lengths = sqrt(dot(a, a)) + sqrt(dot(b, b)) + sqrt(cell.q2);
    return cell;
}

/* Whether every step of a search rounds so little that SEARCH_MARGIN covers it, and there are not too many. */
static int fit(const Cell *cell, double radius) {
    double error = 0x1p-47 * (cell->defect * (cell->defect * radius + cell->lengths) + 0x1p11 * cell->lengths), steps = 1;
    double widths[3] = {sqrt(cell->q0), sqrt(cell->q1), sqrt(cell->q2)};
    for (int c = 0; c < 3; c++)
        if (cell->repeats >> c & 1) steps *= 2 * radius / widths[c] + 1;
    return error < SEARCH_MARGIN / 2 && steps * ((double)cell->atoms * (double)cell->atoms / 2) < MAX_STEPS;
}

/* The whole numbers S with |S - centre| <= half; only 0 where the crystal does not repeat. 0 if they may be too far. */
static int steps(double centre, double half, int repeats, int64_t *low, int64_t *high) {
    if (!repeats) {
        *low = 0;
        *high = fabs(centre) <= half ? 0 : -1;
        return 1;
    }
    double first = centre - half, last = centre + half;
    if (!(first > -MAX_IMAGE && last < MAX_IMAGE)) return 0;
    *low = (int64_t)first;
    *low += (double)*low < first;
    *high = (int64_t)last;
    *high -= (double)*high > last;
    return 1;
}

/* All pairs within a radius, A, sorted by (i, j, S_0, S_1, S_2). */
static int find(const Cell *cell, double radius, Pairs *found) {
    if (radius < MIN_DISTANCE) radius = MIN_DISTANCE;
    if (!fit(cell, radius) || !allowed(cell, radius)) return LEFT;
    double square = (radius + SEARCH_MARGIN) * (radius + SEARCH_MARGIN), half = sqrt(square / cell->q0);
    int along0 = cell->repeats & 1, along1 = cell->repeats >> 1 & 1, along2 = cell->repeats >> 2 & 1;
    found->n = 0;
    for (int64_t i = 0; i < cell->atoms; i++)
        for (int64_t j = i; j < cell->atoms; j++) {
            const double *from = cell->frac + 3 * i, *to = cell->frac + 3 * j;
            double d0 = to[0] - from[0], d1 = to[1] - from[1], d2 = to[2] - from[2];
            int64_t s0, s1, s2, last0, last1, last2;
            if (!steps(-d0, half, along0, &s0, &last0)) return LEFT;
            for (s0 = i == j ? 0 : s0; s0 <= last0; s0++) {
                double x0 = d0 + (double)s0, rest0 = square - cell->q0 * (x0 * x0), p1 = cell->p10 * x0;
                if (!steps(-(d1 + p1), rest0 > 0 ? sqrt(rest0 / cell->q1) : 0, along1, &s1, &last1)) return LEFT;
                for (s1 = i == j && !s0 && s1 < 0 ? 0 : s1; s1 <= last1; s1++) {
                    double x1 = d1 + (double)s1, rest1 = rest0 - cell->q1 * ((x1 + p1) * (x1 + p1));
                    double centre = -(d2 + (cell->p20 * x0 + cell->p21 * x1));
                    if (!steps(centre, rest1 > 0 ? sqrt(rest1 / cell->q2) : 0, along2, &s2, &last2)) return LEFT;
                    for (s2 = i == j && !s0 && !s1 && s2 < 1 ? 1 : s2; s2 <= last2; s2++) {
                        double distance = length(x0, x1, d2 + (double)s2, cell->lattice);
                        if (distance > radius) continue;
                        if (distance < MIN_DISTANCE) return LEFT;
                        Pair pair = {(int32_t)i, (int32_t)j, {(int16_t)s0, (int16_t)s1, (int16_t)s2}, distance};
                        if (add(found, pair)) return LEFT;
                    }
                }
            }
        }
    return 2 * (double)found->n <= cell->most ? FOUND : LEFT;
}

/* Put a distance into a heap of the k smallest, the greatest on top. */
static void keep_smallest(double *heap, int64_t k, double distance) {
    if (!(distance < heap[0])) return;
    int64_t at = 0, next;
    while ((next = 2 * at + 1) < k) {
        if (next + 1 < k && heap[next + 1] > heap[next]) next++;
        if (heap[next] <= distance) break;
        heap[at] = heap[next];
        at = next;
    }
    heap[at] = distance;
}

/* The distance of each atom's k-th neighbour among the pairs, the greatest of them at [atoms]; infinite where an atom
 * has fewer. NULL without memory. */
static double *kth_distances(const Pairs *pairs, int64_t atoms, int64_t k) {
    double *limit = malloc((size_t)(atoms + 1) * sizeof(double));
    if (!limit) return NULL;
    limit[atoms] = INFINITY;
    if (2 * pairs->n / k < atoms) return limit;
    double *heaps = malloc((size_t)(atoms * k) * sizeof(double));
    if (!heaps) {
        free(limit);
        return NULL;
    }
    for (int64_t h = 0; h < atoms * k; h++) heaps[h] = INFINITY;
    for (const Pair *pair = pairs->at; pair < pairs->at + pairs->n; pair++) {
        keep_smallest(heaps + pair->i * k, k, pair->distance);
        keep_smallest(heaps + pair->j * k, k, pair->distance);
    }
    limit[atoms] = 0;
    for (int64_t i = 0; i < atoms; i++) {
        limit[i] = heaps[i * k];
        if (limit[i] > limit[atoms]) limit[atoms] = limit[i];
    }
    free(heaps);
    return limit;
}

static int compare_images(const int16_t *s, const int16_t *t) {
    for (int c = 0; c < 3; c++)
        if (s[c] != t[c]) return s[c] < t[c] ? -1 : 1;
    return 0;
}

static int wanted(const Pair *pair, const double *limit) {
    return pair->distance <= limit[pair->i] || pair->distance <= limit[pair->j];
}

/* The pairs that the shell rule wants, sorted. own: images, m, that every atom is joined to if beyond its limit. */
static int choose(const Cell *cell, const Pairs *found, const double *limit, int duplicates, const int16_t *own,
                  int64_t m, Pairs *chosen) {
    const Pair *pair = found->at, *end = found->at + found->n;
    for (int32_t i = 0; i < cell->atoms; i++) {
        int64_t first = chosen->n, own_pairs = 0;
        while (pair + own_pairs < end && pair[own_pairs].i == i && pair[own_pairs].j == i) own_pairs++;
        if (duplicates)
            for (int64_t k = own_pairs; k-- > 0;)
                if (wanted(pair + k, limit) && add(chosen, reversed(pair + k))) return LEFT;
        for (const Pair *others = pair + own_pairs; pair < others; pair++)
            if (wanted(pair, limit) && add(chosen, *pair)) return LEFT;
        for (const int16_t *s = own; s < own + 3 * m; s += 3) {
            double distance = length(s[0], s[1], s[2], cell->lattice);
            if (distance <= limit[i]) continue; /* it is there already */
            if (add(chosen, (Pair){i, i, {s[0], s[1], s[2]}, distance})) return LEFT;
            Pair *at = chosen->at + chosen->n - 1, last = *at;
            for (; at > chosen->at + first && compare_images(at[-1].image, s) > 0; at--) *at = at[-1];
            *at = last;
        }
        for (; pair < end && pair->i == i; pair++)
            if (wanted(pair, limit) && add(chosen, *pair)) return LEFT;
    }
    return FOUND;
}

/* Both directions of all pairs, if there is room for them: edges (2, 2n), images (2n, 3) and distances (2n). */
static int64_t write_edges(const Pairs *pairs, int64_t room, int32_t *edges, int16_t *images, double *distances) {
    int64_t n = pairs->n;
    if (2 * n > room) return 2 * n;
    for (int64_t k = 0; k < n; k++) {
        const Pair *pair = pairs->at + k;
        edges[2 * k] = edges[2 * n + 2 * k + 1] = pair->i;
        edges[2 * k + 1] = edges[2 * n + 2 * k] = pair->j;
        for (int c = 0; c < 3; c++) {
            images[6 * k + c] = pair->image[c];
            images[6 * k + 3 + c] = (int16_t)-pair->image[c];
        }
        distances[2 * k] = distances[2 * k + 1] = pair->distance;
    }
    return 2 * n;
}

/* Each of these returns the number of edges, LEFT, or more than there is room for, and then has written nothing. */

int64_t lg_radius(const double *crystal, int64_t atoms, int32_t repeats, int64_t most, double reach, int64_t room,
                  int32_t *edges, int16_t *images, double *distances) {
    Cell cell = cell_of(crystal, atoms, repeats, most);
    Pairs found = {0};
    int64_t n = find(&cell, reach, &found);
    if (n == FOUND) n = write_edges(&found, room, edges, images, distances);
    free(found.at);
    return n;
}

/* own: m images; own_limit, A: none of them where any atom's limit is beyond it. */
int64_t lg_shell(const double *crystal, int64_t atoms, int32_t repeats, int64_t most, int64_t k, double tolerance,
                 double radius, int32_t duplicates, const int16_t *own, int64_t m, double own_limit, int64_t room,
                 int32_t *edges, int16_t *images, double *distances) {
    Cell cell = cell_of(crystal, atoms, repeats, most);
    Pairs found = {0}, chosen = {0};
    int64_t n = LEFT;
    while (find(&cell, radius, &found) == FOUND) {
        double *limit = kth_distances(&found, atoms, k);
        if (!limit) break;
        double reach = limit[atoms] + tolerance;
        if (reach <= radius) {
            for (int64_t i = 0; i < atoms; i++) limit[i] += tolerance;
            if (choose(&cell, &found, limit, duplicates, own, reach <= own_limit ? m : 0, &chosen) == FOUND)
                n = write_edges(&chosen, room, edges, images, distances);
        }
        free(limit);
        if (reach <= radius || radius >= MAX_RADIUS) break;
        radius = isfinite(reach) ? reach : fmin(radius * GROWTH, MAX_RADIUS);
    }
    free(found.at);
    free(chosen.at);
    return n;
}

static int nearer(const void *first, const void *second) {
    const Pair *a = first, *b = second;
    if (a->distance != b->distance) return a->distance < b->distance ? -1 : 1;
    if (a->j != b->j) return a->j < b->j ? -1 : 1;
    return compare_images(a->image, b->image);
}

/* Both directions of all pairs, by centre; those of atom i end before end[i]. NULL without memory. */
static Pair *by_centre(const Pairs *pairs, int64_t atoms, int64_t *end) {
    Pair *directed = malloc((size_t)(2 * pairs->n + 1) * sizeof(Pair));
    if (!directed) return NULL;
    memset(end, 0, (size_t)(atoms + 1) * sizeof(int64_t));
    for (const Pair *pair = pairs->at; pair < pairs->at + pairs->n; pair++) end[pair->i + 1]++, end[pair->j + 1]++;
    for (int64_t i = 0; i < atoms; i++) end[i + 1] += end[i];
    for (const Pair *pair = pairs->at; pair < pairs->at + pairs->n; pair++) {
        directed[end[pair->i]++] = *pair;
        directed[end[pair->j]++] = reversed(pair);
    }
    return directed;
}

int64_t lg_nearest(const double *crystal, int64_t atoms, int32_t repeats, int64_t most, int64_t k, double reach,
                   double radius, int64_t room, int32_t *edges, int16_t *images, double *distances) {
    Cell cell = cell_of(crystal, atoms, repeats, most);
    Pairs found = {0};
    double *limit = NULL;
    int64_t n = LEFT, *end = NULL;
    Pair *directed = NULL;
    while (find(&cell, radius, &found) == FOUND) {
        free(limit);
        limit = kth_distances(&found, atoms, k);
        if (!limit) break;
        if (radius < reach && isinf(limit[atoms])) {
            radius = fmin(radius * GROWTH, reach);
            continue;
        }
        end = malloc((size_t)(atoms + 1) * sizeof(int64_t));
        directed = end ? by_centre(&found, atoms, end) : NULL;
        if (!directed) break;
        n = 0;
        for (int64_t i = 0, first = 0; i < atoms; first = end[i++]) n += end[i] - first < k ? end[i] - first : k;
        if (n > room) break;
        int64_t e = 0;
        for (int64_t i = 0, first = 0; i < atoms; first = end[i++]) {
            qsort(directed + first, (size_t)(end[i] - first), sizeof(Pair), nearer);
            for (const Pair *pair = directed + first; pair < directed + end[i] && pair < directed + first + k; pair++) {
                edges[e] = pair->i;
                edges[n + e] = pair->j;
                memcpy(images + 3 * e, pair->image, sizeof pair->image);
                distances[e++] = pair->distance;
            }
        }
        break;
    }
    free(limit);
    free(end);
    free(directed);
    free(found.at);
    return n;
}
