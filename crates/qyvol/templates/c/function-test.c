#include <assert.h>
#include <stdio.h>

#include "app.h"

int main(void) {
    assert(add(2, 3) == 5);
    assert(add(INT32_MAX, 1) == INT32_MIN);
    puts("passed");
    return 0;
}
