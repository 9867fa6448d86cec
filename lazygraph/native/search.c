/* The loops that make graphs, each the twin of plain Python functions that say what it does:
 *
 *     RULE_RADIUS    every neighbour within a cutoff             lazygraph/graphs/radius.py
 *     RULE_SHELL     every neighbour up to the k-th shell        lazygraph/graphs/shell.py
 *     RULE_NEAREST   the k nearest, directed                     lazygraph/graphs/nearest.py
 *
 * Edges, their order, images and distances are the same to the bit: compile as edges.c says. What these loops are no good
 * for, they leave to the plain functions, which also raise the errors: crystals for which a search takes too many steps,
 * looks at more images or finds more neighbours than the caller allows (lazygraph/graphs/effort.py says how they are counted,
 * here with the same bits), atoms that are too close, and images that are too far.
 *
 * A search has two steps. Coordinates in single precision propose pairs of atoms, a little beyond the radius; the stated
 * expression of lazygraph/graphs/vectors.py then decides in double precision.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "memory.h"
#include "simd.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

enum { FOUND = 0, LEFT = -1 };

#define MAX_PAIRS ((int64_t)1 << 24) /* 400 MB */
#define LANES 16                     /* images that are compared at once */
#define CHOSEN 48                    /* atoms from which on images are chosen for each atom */
#define LINKED 512                   /* atoms from which on they are sorted into boxes */
#define FEW 32                       /* keys that are sorted by insertion */

int32_t lg_lattice(const double *crystal, const double *frac, int64_t atoms, double *out); /* lattice.c */

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

typedef struct {
    Pairs found, chosen;
    memory images, atoms, floors, candidates, limits, lists, boxes;
    memory from, to, image, distance; /* of all edges that were made */
    int64_t edges;
    int32_t farthest; /* image of these edges */
} Builder;

typedef struct {
    const double *lattice, *frac;
    int64_t atoms;
    int32_t repeats; /* bit c: along lattice vector c */
    double inverse[3], low[3], high[3], edges[3], skew, far; /* lazygraph/graphs/effort.py */
    double most; /* images that may be looked at, neighbours that may be found */
} Cell;

Builder *lg_builder_new(void) { return calloc(1, sizeof(Builder)); }

static void trim_pairs(Pairs *pairs, size_t most) {
    if ((size_t)pairs->room * sizeof(Pair) <= most) return;
    free(pairs->at);
    *pairs = (Pairs){0};
}

/* Give memory back that only an unusual batch needed. */
static void trim(Builder *b) {
    memory *all[] = {&b->images, &b->atoms, &b->floors, &b->candidates, &b->limits, &b->lists, &b->boxes,
                     &b->from, &b->to, &b->image, &b->distance};
    trim_all(all, sizeof all / sizeof *all);
    trim_pairs(&b->found, KEPT);
    trim_pairs(&b->chosen, KEPT);
}

void lg_builder_free(Builder *b) {
    if (b == NULL) return;
    memory *all[] = {&b->images, &b->atoms, &b->floors, &b->candidates, &b->limits, &b->lists, &b->boxes,
                     &b->from, &b->to, &b->image, &b->distance};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) empty(all[k]);
    free(b->found.at);
    free(b->chosen.at);
    free(b);
}

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

static Cell cell_of(const double *lattice, const double *frac, int64_t atoms, int32_t repeats, int64_t most) {
    Cell cell = {.lattice = lattice, .frac = frac, .atoms = atoms, .repeats = repeats, .most = (double)most};
    measure(&cell);
    return cell;
}

/* ---- proposals ---- */

/* Periodic images of a crystal whose atoms were moved into its cell: translations as columns, and what they are, by
 * (S_0, S_1, S_2). The list is its own mirror image. */
typedef struct {
    int64_t n;
    float *x, *y, *z;
    int32_t *s; /* (n, 3) */
    float low[3], high[3]; /* the box that holds all atoms */
    /* Those that may hold a neighbour of one atom, in the same order, padded to whole lanes with ones that are too far. */
    int64_t near, behind; /* how many there are, and how many of them are not behind the middle one */
    float *near_x, *near_y, *near_z;
    int32_t *place; /* of each in the whole list */
} Images;

/* Take all images. */
static void take_all(Images *t) {
    size_t bytes = (size_t)t->n * sizeof *t->x;
    memcpy(t->near_x, t->x, bytes);
    memcpy(t->near_y, t->y, bytes);
    memcpy(t->near_z, t->z, bytes);
    for (int64_t v = 0; v < t->n; v++) t->place[v] = (int32_t)v;
    t->near = t->n;
    t->behind = t->n / 2 + 1;
    for (int64_t n = t->n; n % LANES; n++) t->near_x[n] = t->near_y[n] = t->near_z[n] = 1e18f;
}

/* Take the images whose box of atoms is within a bound of one atom. */
static void take_near(Images *t, const float *at, float bound) {
    int64_t n = 0, middle = t->n / 2;
    t->behind = 0;
    for (int64_t v = 0; v < t->n; v++) {
        float moved[3] = {at[0] - t->x[v], at[1] - t->y[v], at[2] - t->z[v]}, apart = 0;
        for (int k = 0; k < 3; k++) {
            float below = t->low[k] - moved[k], above = moved[k] - t->high[k], gap = below > above ? below : above;
            apart += gap > 0 ? gap * gap : 0;
        }
        t->near_x[n] = t->x[v], t->near_y[n] = t->y[v], t->near_z[n] = t->z[v];
        t->place[n] = (int32_t)v;
        n += apart <= bound;
        if (v == middle) t->behind = n;
    }
    t->near = n;
    for (; n % LANES; n++) t->near_x[n] = t->near_y[n] = t->near_z[n] = 1e18f;
}

/* Coordinates of atoms (n, 3), of which number i is compared with j >= i: pairs (j, v) for which the translation v, added to
 * the difference, is within a bound, in the order of j and v; for j = i only the translations behind the middle one. j and
 * s have room for LANES more than all pairs. Returns how many there are. */
typedef int64_t proposals(const Images *t, const float *at, int64_t i, int64_t n, float bound, int32_t *j, int32_t *s);

static int64_t propose(const Images *t, const float *at, int64_t i, int64_t n, float bound, int32_t *j, int32_t *s) {
    int64_t found = 0;
    for (int64_t k = i; k < n; k++) {
        float dx = at[3 * k] - at[3 * i], dy = at[3 * k + 1] - at[3 * i + 1], dz = at[3 * k + 2] - at[3 * i + 2];
        for (int64_t v = k == i ? t->behind : 0; v < t->near; v++) {
            float x = t->near_x[v] + dx, y = t->near_y[v] + dy, z = t->near_z[v] + dz;
            j[found] = (int32_t)k;
            s[found] = t->place[v];
            found += x * x + y * y + z * z <= bound;
        }
    }
    return found;
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx512f,popcnt"))) static int64_t propose_512(const Images *t, const float *at, int64_t i,
                                                                     int64_t n, float bound, int32_t *j, int32_t *s) {
    __m512 most = _mm512_set1_ps(bound);
    int64_t found = 0;
    for (int64_t k = i; k < n; k++) {
        __m512 dx = _mm512_set1_ps(at[3 * k] - at[3 * i]), dy = _mm512_set1_ps(at[3 * k + 1] - at[3 * i + 1]);
        __m512 dz = _mm512_set1_ps(at[3 * k + 2] - at[3 * i + 2]);
        __m512i other = _mm512_set1_epi32((int32_t)k);
        int64_t from = k == i ? t->behind : 0;
        for (int64_t v = from / LANES * LANES; v < t->near; v += LANES) {
            __m512 x = _mm512_add_ps(_mm512_loadu_ps(t->near_x + v), dx);
            __m512 y = _mm512_add_ps(_mm512_loadu_ps(t->near_y + v), dy);
            __m512 z = _mm512_add_ps(_mm512_loadu_ps(t->near_z + v), dz);
            __m512 square = _mm512_add_ps(_mm512_add_ps(_mm512_mul_ps(x, x), _mm512_mul_ps(y, y)), _mm512_mul_ps(z, z));
            __mmask16 near = _mm512_cmp_ps_mask(square, most, _CMP_LE_OQ);
            if (v < from) near &= (__mmask16)(0xffffu << (from - v));
            if (near == 0) continue;
            __m512i places = _mm512_loadu_si512(t->place + v);
            _mm512_storeu_si512(s + found, _mm512_maskz_compress_epi32(near, places));
            _mm512_storeu_si512(j + found, other);
            found += __builtin_popcount(near);
        }
    }
    return found;
}

__attribute__((target("avx2"))) static int64_t propose_256(const Images *t, const float *at, int64_t i, int64_t n,
                                                          float bound, int32_t *j, int32_t *s) {
    __m256 most = _mm256_set1_ps(bound);
    int64_t found = 0;
    for (int64_t k = i; k < n; k++) {
        __m256 dx = _mm256_set1_ps(at[3 * k] - at[3 * i]), dy = _mm256_set1_ps(at[3 * k + 1] - at[3 * i + 1]);
        __m256 dz = _mm256_set1_ps(at[3 * k + 2] - at[3 * i + 2]);
        int64_t from = k == i ? t->behind : 0;
        for (int64_t v = from / 8 * 8; v < t->near; v += 8) {
            __m256 x = _mm256_add_ps(_mm256_loadu_ps(t->near_x + v), dx);
            __m256 y = _mm256_add_ps(_mm256_loadu_ps(t->near_y + v), dy);
            __m256 z = _mm256_add_ps(_mm256_loadu_ps(t->near_z + v), dz);
            __m256 square = _mm256_add_ps(_mm256_add_ps(_mm256_mul_ps(x, x), _mm256_mul_ps(y, y)), _mm256_mul_ps(z, z));
            uint32_t near = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(square, most, _CMP_LE_OQ));
            if (v < from) near &= 0xffu << (from - v);
            for (; near; near &= near - 1) {
                j[found] = (int32_t)k;
                s[found++] = t->place[v + __builtin_ctz(near)];
            }
        }
    }
    return found;
}

static proposals *best(void) {
#ifdef LG_PROPOSALS /* of a test */
    return LG_PROPOSALS;
#endif
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return propose_512;
    return __builtin_cpu_supports("avx2") ? propose_256 : propose;
}
#else
static proposals *best(void) { return propose; }
#endif

/* What a search looks in: the atoms, moved into the cell, and all images that may hold a neighbour. */
typedef struct {
    const Cell *cell;
    double radius;
    float bound;
    float *at;       /* (atoms, 3) A */
    int32_t *floors; /* (atoms, 3) cells by which each was moved */
    Images images;
    int32_t *j, *s; /* what was proposed for one atom: other atoms and places in images, sorted */
    int64_t n;
} Search;

/* Move the atoms into the cell. */
static int move_atoms(Builder *b, Search *search, double *spread) {
    const Cell *cell = search->cell;
    const double *m = cell->lattice;
    double least[3] = {INFINITY, INFINITY, INFINITY}, greatest[3] = {-INFINITY, -INFINITY, -INFINITY}, far = 0;
    search->at = room(&b->atoms, (size_t)(3 * cell->atoms) * sizeof *search->at);
    search->floors = room(&b->floors, (size_t)(3 * cell->atoms) * sizeof *search->floors);
    if (!search->at || !search->floors) return LEFT;
    for (int64_t i = 0; i < cell->atoms; i++) {
        double f[3];
        for (int c = 0; c < 3; c++) {
            double value = cell->frac[3 * i + c], whole = cell->repeats >> c & 1 ? floor(value) : 0.0;
            if (!(fabs(whole) <= MAX_IMAGE)) return LEFT;
            search->floors[3 * i + c] = (int32_t)whole;
            f[c] = value - whole;
        }
        for (int k = 0; k < 3; k++) {
            double x = f[0] * m[k] + f[1] * m[3 + k] + f[2] * m[6 + k];
            search->at[3 * i + k] = (float)x;
            least[k] = fmin(least[k], x);
            greatest[k] = fmax(greatest[k], x);
            far = fmax(far, fabs(x));
        }
    }
    for (int k = 0; k < 3; k++) {
        spread[k] = greatest[k] - least[k];
        search->images.low[k] = (float)least[k];
        search->images.high[k] = (float)greatest[k];
    }
    /* Single precision rounds each of the numbers that are added by less than a ten-millionth. */
    double length = 0;
    for (int k = 0; k < 9; k++) length = fmax(length, fabs(m[k]));
    double reach = search->radius + 1e-4 + 1e-5 * (far + length + search->radius);
    search->bound = (float)(reach * reach * (1 + 1e-6));
    return reach < 1e6 ? FOUND : LEFT;
}

/* List the images that may hold a neighbour of an atom. */
static int list_images(Builder *b, Search *search, const double *spread) {
    const Cell *cell = search->cell;
    const double *m = cell->lattice;
    double reach = sqrt((double)search->bound), all = 1;
    int64_t most[3];
    for (int c = 0; c < 3; c++) {
        double steps = cell->repeats >> c & 1 ? floor(reach * cell->inverse[c] + 1 + 1e-6) : 0;
        if (!(steps <= MAX_IMAGE)) return LEFT;
        most[c] = (int64_t)steps;
        all *= 2 * steps + 1;
    }
    if (all > MAX_IMAGES) return LEFT;
    Images *t = &search->images;
    size_t size = ((size_t)all + LANES) / LANES * LANES;
    t->x = room(&b->images, size * (6 * sizeof(float) + 4 * sizeof(int32_t)));
    if (!t->x) return LEFT;
    t->y = t->x + size;
    t->z = t->y + size;
    t->near_x = t->z + size;
    t->near_y = t->near_x + size;
    t->near_z = t->near_y + size;
    t->place = (int32_t *)(t->near_z + size);
    t->s = t->place + size;
    t->n = 0;
    for (int64_t x = -most[0]; x <= most[0]; x++)
        for (int64_t y = -most[1]; y <= most[1]; y++)
            for (int64_t z = -most[2]; z <= most[2]; z++) {
                double v[3], apart = 0;
                for (int k = 0; k < 3; k++) {
                    v[k] = (double)x * m[k] + (double)y * m[3 + k] + (double)z * m[6 + k];
                    double gap = fabs(v[k]) - spread[k];
                    if (gap > 0) apart += gap * gap;
                }
                if (apart > reach * reach) continue;
                t->x[t->n] = (float)v[0], t->y[t->n] = (float)v[1], t->z[t->n] = (float)v[2];
                int32_t *s = t->s + 3 * t->n++;
                s[0] = (int32_t)x, s[1] = (int32_t)y, s[2] = (int32_t)z;
            }
    return FOUND;
}

/* Room for what is proposed for one atom, and for what is written behind it. */
static int more_candidates(Builder *b, Search *search, int64_t n) {
    search->j = room(&b->candidates, 2 * (size_t)(n + LANES) * sizeof *search->j);
    if (!search->j) return LEFT;
    search->s = search->j + b->candidates.size / (2 * sizeof *search->j);
    return FOUND;
}

/* The atoms sorted into boxes along the lattice vectors. */
typedef struct {
    int64_t boxes[3], near[3]; /* how many there are, and how many away a neighbour may be */
    int32_t *box;              /* (atoms, 3) */
    int32_t *first, *by_box;   /* the atoms of box k are by_box[first[k]] to by_box[first[k + 1] - 1] */
    int64_t *place;            /* of an image in the list, by its numbers from the least on; -1 for one that is not there */
    uint64_t *key;             /* of what is proposed for one atom */
} Boxes;

static int sort_into_boxes(Builder *b, Search *search, Boxes *boxes) {
    const Cell *cell = search->cell;
    double reach = sqrt((double)search->bound);
    int64_t all = 1;
    for (int c = 0; c < 3; c++) {
        double width = reach * cell->inverse[c];
        boxes->boxes[c] = cell->repeats >> c & 1 ? (int64_t)fmin(fmax(floor(1 / width), 1), 64) : 1;
        boxes->near[c] = cell->repeats >> c & 1 ? (int64_t)ceil(width * (double)boxes->boxes[c] + 1e-6) : 0;
        all *= boxes->boxes[c];
    }
    size_t atoms = (size_t)cell->atoms;
    boxes->box = room(&b->boxes, (4 * atoms + 2 * (size_t)all + 2) * sizeof(int32_t));
    if (!boxes->box) return LEFT;
    boxes->by_box = boxes->box + 3 * atoms;
    boxes->first = boxes->by_box + atoms;
    int32_t *next = boxes->first + all + 1;
    memset(boxes->first, 0, (size_t)(all + 1) * sizeof *boxes->first);
    for (int64_t i = 0; i < cell->atoms; i++) {
        int32_t *box = boxes->box + 3 * i;
        for (int c = 0; c < 3; c++) {
            double place = (cell->frac[3 * i + c] - search->floors[3 * i + c]) * (double)boxes->boxes[c];
            box[c] = boxes->boxes[c] == 1 ? 0 : (int32_t)fmin(place, (double)boxes->boxes[c] - 1);
        }
        boxes->first[(box[0] * boxes->boxes[1] + box[1]) * boxes->boxes[2] + box[2] + 1]++;
    }
    for (int64_t k = 0; k < all; k++) boxes->first[k + 1] += boxes->first[k];
    memcpy(next, boxes->first, (size_t)all * sizeof *next);
    for (int64_t i = 0; i < cell->atoms; i++) {
        const int32_t *box = boxes->box + 3 * i;
        boxes->by_box[next[(box[0] * boxes->boxes[1] + box[1]) * boxes->boxes[2] + box[2]]++] = (int32_t)i;
    }
    return FOUND;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void sort_keys(uint64_t *key, int64_t n) {
    if (n > FEW) {
        qsort(key, (size_t)n, sizeof *key, ascending);
        return;
    }
    for (int64_t k = 1; k < n; k++) {
        uint64_t one = key[k];
        int64_t at = k;
        for (; at > 0 && key[at - 1] > one; at--) key[at] = key[at - 1];
        key[at] = one;
    }
}

/* The place of an image in the list, or -1. */
static int64_t place_of(const Images *t, const int64_t *s) {
    int64_t low = 0, high = t->n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        const int32_t *at = t->s + 3 * middle;
        int less = at[0] != s[0] ? at[0] < s[0] : at[1] != s[1] ? at[1] < s[1] : at[2] < s[2];
        if (less) low = middle + 1;
        else high = middle;
    }
    const int32_t *at = t->s + 3 * low;
    return low < t->n && at[0] == s[0] && at[1] == s[1] && at[2] == s[2] ? low : -1;
}

/* Propose neighbours j >= i of an atom by looking into the boxes around it. */
static int propose_near(Builder *b, Search *search, const Boxes *boxes, int64_t i) {
    const Images *t = &search->images;
    const int32_t *box = boxes->box + 3 * i;
    const float *at = search->at + 3 * i;
    int64_t n = 0, s[3], in[3];
    uint64_t *key = b->lists.at;
    for (int64_t x = box[0] - boxes->near[0]; x <= box[0] + boxes->near[0]; x++)
        for (int64_t y = box[1] - boxes->near[1]; y <= box[1] + boxes->near[1]; y++)
            for (int64_t z = box[2] - boxes->near[2]; z <= box[2] + boxes->near[2]; z++) {
                int64_t near[3] = {x, y, z};
                for (int c = 0; c < 3; c++) {
                    int64_t all = boxes->boxes[c];
                    s[c] = near[c] >= 0 ? near[c] / all : -((all - 1 - near[c]) / all);
                    in[c] = near[c] - s[c] * all;
                }
                int64_t k = (in[0] * boxes->boxes[1] + in[1]) * boxes->boxes[2] + in[2];
                int64_t place = boxes->first[k] < boxes->first[k + 1] ? place_of(t, s) : -1;
                if (place < 0) continue;
                float tx = t->x[place] - at[0], ty = t->y[place] - at[1], tz = t->z[place] - at[2];
                key = grown(&b->lists, (size_t)(n + boxes->first[k + 1] - boxes->first[k]) * sizeof *key);
                if (!key) return LEFT;
                for (const int32_t *j = boxes->by_box + boxes->first[k]; j < boxes->by_box + boxes->first[k + 1]; j++) {
                    if (*j < i || (*j == i && place <= t->n / 2)) continue;
                    const float *to = search->at + 3 * *j;
                    float dx = to[0] + tx, dy = to[1] + ty, dz = to[2] + tz;
                    if (dx * dx + dy * dy + dz * dz <= search->bound) key[n++] = (uint64_t)*j << 32 | (uint64_t)place;
                }
            }
    sort_keys(key, n);
    search->n = 0;
    if (more_candidates(b, search, n)) return LEFT;
    for (int64_t k = 0; k < n; k++) {
        search->j[k] = (int32_t)(key[k] >> 32);
        search->s[k] = (int32_t)(key[k] & 0xffffffffu);
    }
    search->n = n;
    return FOUND;
}

/* ---- decisions ---- */

#define BLOCK 64

/* The distances of an atom's proposals, at most BLOCK, by the stated expression, and their images. */
VERSIONS static void measure_block(const Search *search, int64_t i, const int32_t *j, const int32_t *s, int64_t n,
                                   int32_t image[3][BLOCK], double *distance) {
    const double *m = search->cell->lattice, *frac = search->cell->frac, *from = frac + 3 * i;
    const int32_t *own = search->floors + 3 * i;
    double x[BLOCK], y[BLOCK], z[BLOCK];
    for (int64_t k = 0; k < n; k++) {
        const double *to = frac + 3 * (int64_t)j[k];
        const int32_t *floors = search->floors + 3 * (int64_t)j[k], *t = search->images.s + 3 * (int64_t)s[k];
        image[0][k] = t[0] - floors[0] + own[0];
        image[1][k] = t[1] - floors[1] + own[1];
        image[2][k] = t[2] - floors[2] + own[2];
        x[k] = (to[0] - from[0]) + (double)image[0][k];
        y[k] = (to[1] - from[1]) + (double)image[1][k];
        z[k] = (to[2] - from[2]) + (double)image[2][k];
    }
    for (int64_t k = 0; k < n; k++) {
        double u = (x[k] * m[0] + y[k] * m[3]) + z[k] * m[6], v = (x[k] * m[1] + y[k] * m[4]) + z[k] * m[7];
        double w = (x[k] * m[2] + y[k] * m[5]) + z[k] * m[8];
        distance[k] = sqrt((u * u + v * v) + w * w);
    }
}

/* Add the proposals of an atom that are within the radius. */
static int decide(const Search *search, int64_t i, Pairs *found) {
    int32_t image[3][BLOCK];
    double distance[BLOCK];
    if (found->n + search->n > found->room) {
        int64_t more = 2 * (found->n + search->n) + 512;
        Pair *at = found->n + search->n > MAX_PAIRS ? NULL : realloc(found->at, (size_t)more * sizeof(Pair));
        if (!at) return LEFT;
        found->at = at;
        found->room = more;
    }
    for (int64_t first = 0, n; first < search->n; first += n) {
        n = search->n - first < BLOCK ? search->n - first : BLOCK;
        measure_block(search, i, search->j + first, search->s + first, n, image, distance);
        for (int64_t k = 0; k < n; k++) {
            if (!(distance[k] <= search->radius)) continue;
            if (distance[k] < MIN_DISTANCE) return LEFT;
            Pair *pair = found->at + found->n++;
            pair->i = (int32_t)i;
            pair->j = search->j[first + k];
            for (int c = 0; c < 3; c++) {
                if (image[c][k] < -MAX_IMAGE || image[c][k] > MAX_IMAGE) return LEFT;
                pair->image[c] = (int16_t)image[c][k];
            }
            pair->distance = distance[k];
        }
    }
    return FOUND;
}

/* All pairs within a radius, A, sorted by (i, j, S_0, S_1, S_2). */
static int find(Builder *b, const Cell *cell, double radius) {
    static proposals *function; /* the same for every thread */
    if (!function) function = best();
    if (radius < MIN_DISTANCE) radius = MIN_DISTANCE;
    if (!allowed(cell, radius)) return LEFT;
    Search search = {.cell = cell, .radius = radius};
    double spread[3];
    if (move_atoms(b, &search, spread) || list_images(b, &search, spread)) return LEFT;
    Boxes boxes = {0};
    int linked = cell->atoms >= LINKED;
    if (linked ? sort_into_boxes(b, &search, &boxes)
               : (double)cell->atoms * (double)search.images.n > (double)MAX_PAIRS)
        return LEFT;
    if (!linked && more_candidates(b, &search, cell->atoms * search.images.n)) return LEFT;
    int chosen = cell->atoms >= CHOSEN;
    if (!linked && !chosen) take_all(&search.images);
    b->found.n = 0;
    for (int64_t i = 0; i < cell->atoms; i++) {
        if (linked) {
            if (propose_near(b, &search, &boxes, i)) return LEFT;
        } else {
            if (chosen) take_near(&search.images, search.at + 3 * i, search.bound);
            search.n = function(&search.images, search.at, i, cell->atoms, search.bound, search.j, search.s);
        }
        if (decide(&search, i, &b->found)) return LEFT;
    }
    return 2 * (double)b->found.n <= cell->most ? FOUND : LEFT;
}

/* ---- choices ---- */

/* The k-th smallest of n numbers, n >= k >= 1: the one that fewer than k are below and at least k are not above. */
VERSIONS static double kth_smallest(const double *x, int64_t n, int64_t k) {
    for (int64_t a = 0; a < n; a++) {
        double one = x[a];
        int64_t below = 0, not_above = 0;
        for (int64_t c = 0; c < n; c++) {
            below += x[c] < one;
            not_above += x[c] <= one;
        }
        if (below < k && k <= not_above) return one;
    }
    return INFINITY; /* which only happens with NaN */
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The distance of each atom's k-th neighbour among the pairs, the greatest of them at [atoms]; infinite where an atom
 * has fewer. NULL without memory. */
static double *kth_distances(Builder *b, int64_t atoms, int64_t k) {
    const Pairs *pairs = &b->found;
    double *limit = room(&b->limits, (size_t)(atoms + 1) * sizeof *limit);
    size_t ends = (size_t)(atoms + 1) * sizeof(int64_t);
    int64_t *end = limit ? room(&b->lists, ends + (size_t)(2 * pairs->n) * sizeof(double)) : NULL;
    if (!end) return NULL;
    double *list = (double *)(end + atoms + 1);
    memset(end, 0, ends);
    for (const Pair *pair = pairs->at; pair < pairs->at + pairs->n; pair++) end[pair->i + 1]++, end[pair->j + 1]++;
    for (int64_t i = 0; i < atoms; i++) end[i + 1] += end[i];
    for (const Pair *pair = pairs->at; pair < pairs->at + pairs->n; pair++) {
        list[end[pair->i]++] = pair->distance;
        list[end[pair->j]++] = pair->distance;
    }
    limit[atoms] = 0;
    for (int64_t i = 0, first = 0; i < atoms; first = end[i++]) {
        int64_t n = end[i] - first;
        if (n < k) limit[i] = INFINITY;
        else if (n <= 256) limit[i] = kth_smallest(list + first, n, k);
        else qsort(list + first, (size_t)n, sizeof *list, by_size), limit[i] = list[first + k - 1];
        if (limit[i] > limit[atoms]) limit[atoms] = limit[i];
    }
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

/* Room for n more edges. */
static int more_edges(Builder *b, int64_t n) {
    size_t all = (size_t)(b->edges + n);
    return grown(&b->from, all * 4) && grown(&b->to, all * 4) && grown(&b->image, all * 6) &&
                   grown(&b->distance, all * 8)
               ? FOUND
               : LEFT;
}

/* An edge behind all others, of atoms counted from `first` on. */
static inline void add_edge(Builder *b, int32_t first, const Pair *pair, int turned) {
    int64_t e = b->edges++;
    ((int32_t *)b->from.at)[e] = first + (turned ? pair->j : pair->i);
    ((int32_t *)b->to.at)[e] = first + (turned ? pair->i : pair->j);
    int16_t *image = (int16_t *)b->image.at + 3 * e;
    for (int c = 0; c < 3; c++) {
        image[c] = turned ? (int16_t)-pair->image[c] : pair->image[c];
        int32_t far = abs(image[c]);
        if (far > b->farthest) b->farthest = far;
    }
    ((double *)b->distance.at)[e] = pair->distance;
}

/* Both directions of all pairs. Returns the number of edges, or LEFT. */
static int64_t add_edges(Builder *b, int32_t first, const Pairs *pairs) {
    if (more_edges(b, 2 * pairs->n)) return LEFT;
    for (int64_t k = 0; k < pairs->n; k++) {
        add_edge(b, first, pairs->at + k, 0);
        add_edge(b, first, pairs->at + k, 1);
    }
    return 2 * pairs->n;
}

static int64_t build_radius(Builder *b, const Cell *cell, const rule *r, int32_t first) {
    return find(b, cell, r->reach) == FOUND ? add_edges(b, first, &b->found) : LEFT;
}

/* Where a search for k neighbours of each atom begins, A, from the mean density; first_radius of neighbors.py. */
static double first_radius(const Cell *cell, int64_t k, double most) {
    double normal[3];
    cross(cell->lattice + 3, cell->lattice + 6, normal);
    double volume = fabs(dot(cell->lattice, normal)) / (double)cell->atoms;
    return fmin(GUESS * cbrt(0.75 / 3.141592653589793 * ((double)k + 1) * volume), most);
}

/* own: m images that every atom is joined to; own_limit, A: none of them where any atom's limit is beyond it. */
static int64_t build_shell(Builder *b, const Cell *cell, const rule *r, const int16_t *own, int64_t m, int32_t first) {
    double radius = first_radius(cell, r->k, MAX_RADIUS);
    while (find(b, cell, radius) == FOUND) {
        double *limit = kth_distances(b, cell->atoms, r->k);
        if (!limit) return LEFT;
        double reach = limit[cell->atoms] + r->tolerance;
        if (reach <= radius) {
            for (int64_t i = 0; i < cell->atoms; i++) limit[i] += r->tolerance;
            b->chosen.n = 0;
            int64_t joined = reach <= r->own_limit ? m : 0;
            if (choose(cell, &b->found, limit, (int)r->duplicates, own, joined, &b->chosen)) return LEFT;
            return add_edges(b, first, &b->chosen);
        }
        if (radius >= MAX_RADIUS) return LEFT;
        radius = isfinite(reach) ? reach : fmin(radius * GROWTH, MAX_RADIUS);
    }
    return LEFT;
}

static int is_nearer(const Pair *a, const Pair *b) {
    if (a->distance != b->distance) return a->distance < b->distance;
    if (a->j != b->j) return a->j < b->j;
    return compare_images(a->image, b->image) < 0;
}

static int nearer(const void *first, const void *second) {
    return is_nearer(first, second) ? -1 : is_nearer(second, first);
}

static void sort_by_distance(Pair *pair, int64_t n) {
    if (n > FEW) {
        qsort(pair, (size_t)n, sizeof *pair, nearer);
        return;
    }
    for (int64_t k = 1; k < n; k++) {
        Pair one = pair[k];
        int64_t at = k;
        for (; at > 0 && is_nearer(&one, pair + at - 1); at--) pair[at] = pair[at - 1];
        pair[at] = one;
    }
}

/* The k nearest of every atom: those within its limit, by centre, sorted. */
static int64_t build_nearest(Builder *b, const Cell *cell, const rule *r, int32_t first) {
    double radius = first_radius(cell, r->k, r->reach), *limit;
    while (1) {
        if (find(b, cell, radius) != FOUND || (limit = kth_distances(b, cell->atoms, r->k)) == NULL) return LEFT;
        if (!(radius < r->reach && isinf(limit[cell->atoms]))) break;
        radius = fmin(radius * GROWTH, r->reach);
    }
    const Pairs *pairs = &b->found;
    int64_t *end = room(&b->lists, (size_t)(cell->atoms + 1) * sizeof *end), before = b->edges;
    if (!end) return LEFT;
    memset(end, 0, (size_t)(cell->atoms + 1) * sizeof *end);
    for (const Pair *pair = pairs->at; pair < pairs->at + pairs->n; pair++) {
        end[pair->i + 1] += pair->distance <= limit[pair->i];
        end[pair->j + 1] += pair->distance <= limit[pair->j];
    }
    for (int64_t i = 0; i < cell->atoms; i++) end[i + 1] += end[i];
    int64_t all = end[cell->atoms];
    if (all > b->chosen.room) {
        Pair *at = realloc(b->chosen.at, (size_t)(2 * all) * sizeof(Pair));
        if (!at) return LEFT;
        b->chosen.at = at;
        b->chosen.room = 2 * all;
    }
    Pair *directed = b->chosen.at;
    for (const Pair *pair = pairs->at; pair < pairs->at + pairs->n; pair++) {
        if (pair->distance <= limit[pair->i]) directed[end[pair->i]++] = *pair;
        if (pair->distance <= limit[pair->j]) directed[end[pair->j]++] = reversed(pair);
    }
    if (more_edges(b, all)) return LEFT;
    for (int64_t i = 0, begin = 0; i < cell->atoms; begin = end[i++]) {
        int64_t n = end[i] - begin;
        sort_by_distance(directed + begin, n);
        for (int64_t k = 0; k < (n < r->k ? n : r->k); k++) add_edge(b, first, directed + begin + k, 0);
    }
    return b->edges - before;
}

/* Whether every atom begins an edge. */
static int none_isolated(const Builder *b, int64_t before, int32_t first, int64_t atoms, memory *seen) {
    uint8_t *found = room(seen, (size_t)atoms + 1);
    if (!found) return 0;
    memset(found, 0, (size_t)atoms);
    for (int64_t e = before; e < b->edges; e++) found[((const int32_t *)b->from.at)[e] - first] = 1;
    return memchr(found, 0, (size_t)atoms) == NULL;
}

/* Make the edges of n crystals by a rule.
 *
 * frac: (atoms of all, 3). lattice: (n, 3, 3), A. repeats: (n, 3). atoms: (n), fewer than 2^31 in all. lattice_images: (n, 3, 3)
 * ComFormer's lattice vectors, which are found here where the rule says so; NULL where it has no use for them. edges: (n),
 * becomes the number of edges of each crystal, or LEFT.
 * Returns the number of edges, which lg_builder_write gives; -1 where the memory does not suffice. farthest: becomes the
 * greatest number in their images. */
int64_t lg_build(Builder *b, const rule *r, const double *frac, const double *lattice, const uint8_t *repeats,
                 const int64_t *atoms, int64_t n, int64_t most, int64_t most_edges, int16_t *lattice_images, int64_t *edges,
                 int64_t *farthest) {
    b->edges = 0;
    b->farthest = 0;
    int64_t first = 0;
    for (int64_t k = 0; k < n; first += atoms[k++]) {
        const uint8_t *along = repeats + 3 * k;
        int32_t bits = (along[0] != 0) | (along[1] != 0) << 1 | (along[2] != 0) << 2;
        int64_t before = b->edges;
        edges[k] = LEFT;
        if (atoms[k] < 1) continue;
        Cell cell = cell_of(lattice + 9 * k, frac + 3 * first, atoms[k], bits, most);
        int16_t *images = lattice_images == NULL ? NULL : lattice_images + 9 * k;
        if (r->finds_lattice) {
            double found[9];
            if (bits != 7 || lg_lattice(cell.lattice, cell.frac, cell.atoms, found) != FOUND) continue;
            for (int c = 0; c < 9; c++) images[c] = (int16_t)found[c];
        }
        if (r->kind == RULE_RADIUS) edges[k] = build_radius(b, &cell, r, (int32_t)first);
        else if (r->kind == RULE_NEAREST) edges[k] = build_nearest(b, &cell, r, (int32_t)first);
        else if (r->own_lattice) edges[k] = build_shell(b, &cell, r, images, 3, (int32_t)first);
        else edges[k] = build_shell(b, &cell, r, (const int16_t *)r->own, r->own_count, (int32_t)first);
        if (edges[k] >= 0 && r->none_isolated && !none_isolated(b, before, (int32_t)first, atoms[k], &b->lists))
            edges[k] = LEFT;
        if (edges[k] < 0) b->edges = before;
        if (b->edges > most_edges) {
            trim(b);
            return -1;
        }
    }
    *farthest = b->farthest;
    return b->edges;
}

VERSIONS static void narrow(const int16_t *from, int64_t n, int8_t *to) {
    for (int64_t k = 0; k < n; k++) to[k] = (int8_t)from[k];
}

/* The edges that were made last: ends (2, edges), images (edges, 3) of one or two bytes, distances (edges) unless NULL. They
 * can be written once. */
void lg_builder_write(Builder *b, int32_t *end, void *image, int64_t bytes, double *distance) {
    size_t n = (size_t)b->edges;
    if (n > 0) {
        memcpy(end, b->from.at, n * 4);
        memcpy(end + n, b->to.at, n * 4);
        if (bytes == 1) narrow(b->image.at, 3 * b->edges, image);
        else memcpy(image, b->image.at, n * 6);
        if (distance != NULL) memcpy(distance, b->distance.at, n * 8);
    }
    b->edges = 0;
    trim(b);
}
