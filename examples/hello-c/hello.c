/* The smallest application in C: one line on stdout. */
#include <stdio.h>

int main(void) {
    puts("¡Hola desde C y Qyvol!");
    return 0;
}
