#include "app.h"

#include <stdio.h>

void greet(char *text, size_t size, const char *name) {
    snprintf(text, size, "Hello, %s!", name);
}
