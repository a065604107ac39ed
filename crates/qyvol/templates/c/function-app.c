#include "app.h"

#ifdef __wasm__
__attribute__((export_name("add")))
#endif
int32_t add(int32_t a, int32_t b) {
    /* It wraps around where the sum is out of range. */
    return (int32_t)((uint32_t)a + (uint32_t)b);
}
