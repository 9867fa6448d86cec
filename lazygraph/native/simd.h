/* Several versions of one function, of which the one for this processor is chosen when the library is loaded.
 *
 * The versions give the same bits: no operation is contracted (-ffp-contract=off), and loops are vectorized over independent
 * elements, never over a sum. Sanitizers do not allow functions that are resolved before they start; other C libraries than
 * glibc do not know such functions, and GCC before 12 does not know these versions.
 */
#ifndef LG_SIMD_H
#define LG_SIMD_H
#include <stdint.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(LG_ONE_VERSION)
#define VERSIONS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VERSIONS
#endif

#endif
