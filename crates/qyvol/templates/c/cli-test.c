#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "app.h"

int main(void) {
    char text[16];
    greet(text, sizeof text, "Ana");
    assert(strcmp(text, "Hello, Ana!") == 0);
    greet(text, sizeof text, "somebody with a long name");
    assert(strlen(text) == 15);
    puts("passed");
    return 0;
}
