/* ComFormer's lattice vectors, the twin of comformer_images in lazygraph/graphs/lattice.py, which says what is done and
 * why in this arithmetic. Images and vectors are three float64. Compile as edges.c says.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"

enum { FOUND = 0, LEFT = -1 }; /* LEFT: the plain function has to do it, or to raise its error */

/* One image of a grid, with its length by the published arithmetic. */
typedef struct {
    double s[3], length;
} Image;

static double dot(const double *u, const double *v) { return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]; }

static void cross(const double *u, const double *v, double *out) {
    out[0] = u[1] * v[2] - u[2] * v[1];
    out[1] = u[2] * v[0] - u[0] * v[2];
    out[2] = u[0] * v[1] - u[1] * v[0];
}

static void turn(double *u) {
    for (int c = 0; c < 3; c++) u[c] = 0.0 - u[c];
}

static void cartesian(const double *s, const double *m, double *out) {
    for (int c = 0; c < 3; c++) out[c] = s[0] * m[c] + s[1] * m[3 + c] + s[2] * m[6 + c];
}

static int obtuse(const double *u, const double *v) {
    return dot(u, v) / (sqrt(dot(u, u)) * sqrt(dot(v, v))) <= OBTUSE;
}

static int parallel(const double *u, const double *v) {
    return fabs(fabs(dot(u, v)) / sqrt(dot(u, u) * dot(v, v)) - 1) < PARALLEL;
}

/* How many images each way may be no longer than reach, A; 0 if they are too many. */
static int box(const double *m, double reach, int64_t *most) {
    double steps = 1, normal[3][3];
    for (int c = 0; c < 3; c++) cross(m + 3 * ((c + 1) % 3), m + 3 * ((c + 2) % 3), normal[c]);
    double scale = reach / fabs(dot(m, normal[0]));
    for (int c = 0; c < 3; c++) {
        double cells = sqrt(dot(normal[c], normal[c])) * scale;
        if (!(cells < MAX_IMAGE + 1)) return 0;
        most[c] = (int64_t)cells;
        steps *= 2 * (double)most[c] + 1;
    }
    return steps <= MAX_IMAGES;
}

/* The position of the first atom as BLAS multiplies; a single row is not fused. */
static void origin(const double *frac, const double *m, int64_t atoms, double *out) {
    if (atoms == 1)
        cartesian(frac, m, out);
    else
        for (int c = 0; c < 3; c++) out[c] = fma(frac[2], m[6 + c], fma(frac[1], m[3 + c], frac[0] * m[c]));
}

/* The shortest image after one, of equally long ones the first of the grid; not parallel to u and not normal to v,
 * unless they are NULL. */
static const Image *next_image(const Image *images, int64_t n, const Image *after, const double *u, const double *v) {
    const Image *best = NULL;
    for (const Image *image = images; image < images + n; image++) {
        if (best && image->length >= best->length) continue;
        if (after && (image->length < after->length || (image->length == after->length && image <= after))) continue;
        if ((u && parallel(u, image->s)) || (v && dot(v, image->s) == 0)) continue;
        best = image;
    }
    return best;
}

/* Three images (3, 3) of a lattice and the fractional coordinates of its first atom. Returns FOUND or LEFT. */
int32_t lg_lattice(const double *lattice, const double *frac, int64_t atoms, double *out) {
    const double *m = lattice;
    double rounded[9], at[3], squares[3] = {dot(m, m), dot(m + 3, m + 3), dot(m + 6, m + 6)}, normal[3];
    double longest = sqrt(fmax(squares[0], fmax(squares[1], squares[2]))) + SLACK;
    int64_t most[3], n = 0;
    if (!box(m, longest, most)) return LEFT;
    for (int k = 0; k < 9; k++) rounded[k] = rint(m[k] * 1e5) / 1e5;
    origin(frac, rounded, atoms, at);
    Image *images = malloc((size_t)((2 * most[0] + 1) * (2 * most[1] + 1) * (2 * most[2] + 1)) * sizeof(Image));
    if (!images) return LEFT;
    for (int64_t x = -most[0]; x <= most[0]; x++)
        for (int64_t y = -most[1]; y <= most[1]; y++)
            for (int64_t z = -most[2]; z <= most[2]; z++) {
                Image image = {{(double)x, (double)y, (double)z}, 0};
                double v[3];
                cartesian(image.s, m, v);
                for (int c = 0; c < 3; c++) v[c] = (v[c] + at[c]) - at[c];
                image.length = sqrt(dot(v, v));
                if (image.length <= longest) images[n++] = image;
            }
    const Image *first = next_image(images, n, NULL, NULL, NULL), *second = NULL, *third = NULL; /* (0, 0, 0) */
    if (first) first = next_image(images, n, first, NULL, NULL);
    if (first) second = next_image(images, n, first, first->s, NULL);
    if (second) {
        cross(first->s, second->s, normal);
        third = next_image(images, n, second, NULL, normal);
    }
    if (third) {
        double u[3], v[3], w[3];
        memcpy(out, first->s, sizeof first->s);
        memcpy(out + 3, second->s, sizeof second->s);
        memcpy(out + 6, third->s, sizeof third->s);
        cartesian(out, rounded, u);
        cartesian(out + 3, rounded, v);
        cartesian(out + 6, rounded, w);
        if (obtuse(u, v)) turn(out + 3), turn(v);
        if (obtuse(u, w)) turn(out + 6), turn(w);
        cross(u, v, normal);
        if (obtuse(normal, w)) turn(out), turn(out + 3), turn(out + 6);
    }
    free(images);
    return third ? FOUND : LEFT;
}
