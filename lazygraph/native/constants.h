/* Made by tools/native_constants.py of the Python modules that are named here. Do not edit. */
#include <stddef.h>
#include <stdint.h>

/* lazygraph.format.encoding */
#define DECIMAL 16
#define CARTESIAN 32
#define HALF 128
#define SCALE 100000000.0

/* lazygraph.format.schema */
#define MAX_AXES 16
#define MAX_FIELDS 256
#define MAX_TEXT 65536
#define MAX_VALUES 134217728

/* lazygraph.format.record */
#define MAX_COUNT 2147483647

/* lazygraph.format.codec */
#define MAX_RECORD 1073741824

/* lazygraph.format.record_batch */
#define ALIGNMENT 64

/* lazygraph.format.native_types */
#define ZSTD (-1)
#define UNCOMPRESSED (-2)
#define NOT_OPEN 1
#define TOO_MUCH 2
#define NOT_DIGESTED 3

/* lazygraph.graphs.neighbors */
#define MIN_DISTANCE 0.15
#define MAX_RADIUS 100.0
#define MAX_IMAGE 32767
#define SEARCH_MARGIN 1e-06
#define GUESS 1.14
#define GROWTH 1.3

/* lazygraph.graphs.compiled */
#define RULE_RADIUS 0
#define RULE_SHELL 1
#define RULE_NEAREST 2

/* lazygraph.graphs.effort */
#define BORDER 0.15
#define HAIR 1e-08
#define LEAST_RADIUS 1.0
#define IMAGES_A_BOX 8
#define ROUNDING 3.552713678800501e-15

/* lazygraph.graphs.lattice */
#define MAX_IMAGES 2000000
#define OBTUSE (-4.9789962505148e-17)
#define PARALLEL 1e-05
#define SLACK 0.001

/* lazygraph.graphs.vectors */
#define EDGE_VECTORS 0
#define EDGE_SHIFTS 1
#define EDGE_LENGTHS 2

/* lazygraph.format.encoding: stored types, by the low bits of a code byte, and their bytes */
enum { I1, I2, I4, I8, U1, U2, U4, U8, F2, F4, F8 };
#define STORED_BYTES {1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0, 0, 0, 0, 0}

/* lazygraph.format.native_types */
enum { PAIR_NONE, PAIR_SWAP, PAIR_NEGATE, PAIR_SAME };
enum { KIND_INTEGERS, KIND_FLOAT64, KIND_FLOAT16, KIND_FLOAT32, KIND_BOOL, KIND_STR };

/* lazygraph.format.native_types.CField */
typedef struct {
    int64_t axis;
    int64_t pre;
    int64_t post;
    int64_t pair;
    int64_t ids;
    int64_t basis;
    int64_t kind;
    int64_t width;
} field;

/* lazygraph.format.native_types.CLibrary */
typedef struct {
    size_t (*hash)(const void *, size_t);
    size_t (*content_size)(const void *, size_t);
    size_t (*frame_size)(const void *, size_t);
    size_t (*decompress)(void *, void *, size_t, const void *, size_t, const void *);
    void *context;
} library;

/* lazygraph.format.native_types.CSource */
typedef struct {
    int64_t rows;
    const uint8_t *record;
    int64_t offset_bytes;
    int64_t length_bytes;
    const uint8_t *count[16];
    int64_t count_bytes[16];
    int64_t shards;
    const int64_t *end;
    const int64_t *size;
    const int32_t *codec;
} source;

/* lazygraph.graphs.compiled.CRule */
typedef struct {
    int64_t kind;
    int64_t k;
    int64_t duplicates;
    int64_t own_lattice;
    int64_t own_count;
    int64_t finds_lattice;
    int64_t none_isolated;
    void *own;
    double reach;
    double tolerance;
    double own_limit;
} rule;
