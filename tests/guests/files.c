// Works on files, or computes, and prints the microseconds that it took.
//
//   files write|read|stat|list|make DIRECTORY
//   files compute

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 64 << 10, BLOCKS = 1024, FILES = 500 };

static char block[BLOCK];
static char path[512];

static const char *file(const char *directory, int number) {
    snprintf(path, sizeof path, "%s/f%d", directory, number);
    return path;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

// Writes a file in blocks.
static int fill(const char *directory) {
    int f = open(file(directory, 0), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (f < 0) return 1;
    for (int i = 0; i < BLOCKS; i++)
        if (write(f, block, BLOCK) != BLOCK) return 1;
    return close(f);
}

static int many(const char *directory) {
    for (int i = 1; i <= FILES; i++) {
        int f = open(file(directory, i), O_CREAT | O_WRONLY, 0600);
        if (f < 0 || close(f)) return 1;
    }
    return 0;
}

static int clear(const char *directory) {
    for (int i = 1; i <= FILES; i++)
        if (unlink(file(directory, i))) return 1;
    return 0;
}

static int work(const char *what, const char *directory) {
    struct stat s;
    if (!strcmp(what, "write")) return fill(directory);
    if (!strcmp(what, "read")) {
        for (int round = 0; round < 4; round++) {
            int f = open(file(directory, 0), O_RDONLY);
            if (f < 0) return 1;
            for (int i = 0; i < BLOCKS; i++)
                if (read(f, block, BLOCK) != BLOCK) return 1;
            if (close(f)) return 1;
        }
        return 0;
    }
    if (!strcmp(what, "stat")) {
        for (int i = 0; i < 50 * FILES; i++)
            if (stat(file(directory, 1 + i % FILES), &s)) return 1;
        return 0;
    }
    if (!strcmp(what, "list")) {
        for (int i = 0; i < 40; i++) {
            DIR *d = opendir(directory);
            if (!d) return 1;
            int entries = 0;
            while (readdir(d)) entries++;
            if (entries < FILES || closedir(d)) return 1;
        }
        return 0;
    }
    if (!strcmp(what, "make")) {
        for (int i = 0; i < 10; i++)
            if (clear(directory) || many(directory)) return 1;
        return 0;
    }
    // compute
    volatile uint32_t result = 0;
    uint32_t x = 1;
    for (uint32_t i = 0; i < 120000000u; i++) x = x * 1664525u + 1013904223u + (x >> 7);
    result = x;
    return result == 1;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "", *directory = argc > 2 ? argv[2] : "/";
    memset(block, 'x', BLOCK);
    // What is worked on is there before the clock starts.
    if (argc > 2 && (fill(directory) || many(directory))) {
        perror("files");
        return 1;
    }
    int64_t begin = now();
    if (work(what, directory)) {
        perror(what);
        return 1;
    }
    printf("%lld\n", (long long)(now() - begin));
    if (argc > 2 && (clear(directory) || unlink(file(directory, 0)))) return 1;
    return 0;
}
