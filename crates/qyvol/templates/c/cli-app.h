#include <stddef.h>

/* Writes a greeting of `name` into `text`, cut off at `size` bytes. */
void greet(char *text, size_t size, const char *name);
