/* Memory that is used again for the next batch. */
#ifndef LG_MEMORY_H
#define LG_MEMORY_H
#include <stddef.h>
#include <stdlib.h>

#define KEPT ((size_t)1 << 26) /* bytes of one piece of memory that are kept for the next batch */

typedef struct {
    void *at;
    size_t size;
} memory;

/* So many bytes, whatever was there; NULL without memory. */
static inline void *room(memory *m, size_t size) {
    if (m->size < size) {
        free(m->at);
        m->size = size + size / 2;
        m->at = malloc(m->size);
        if (m->at == NULL) m->size = 0;
    }
    return m->at;
}

/* So many bytes, behind what is there; NULL without memory, and then what is there stays. */
static inline void *grown(memory *m, size_t size) {
    if (m->size < size) {
        void *at = realloc(m->at, 2 * size);
        if (at == NULL) return NULL;
        m->at = at;
        m->size = 2 * size;
    }
    return m->at;
}

static inline void empty(memory *m) {
    free(m->at);
    m->at = NULL;
    m->size = 0;
}

/* Give memory back that only an unusual batch needed. */
static inline void trim_all(memory *const *all, size_t count) {
    for (size_t k = 0; k < count; k++)
        if (all[k]->size > KEPT) empty(all[k]);
}

#endif
