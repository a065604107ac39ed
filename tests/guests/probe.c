/* A guest that does one thing a command: what the suite looks at a run with. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int fail(void) {
    fprintf(stderr, "error: %s\n", strerror(errno));
    return 1;
}

static int copy(FILE *from) {
    char buffer[4096];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, from)) > 0)
        if (fwrite(buffer, 1, n, stdout) != n) return fail();
    return ferror(from) || fflush(stdout) ? fail() : 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    const char *a = argc > 2 ? argv[2] : "", *b = argc > 3 ? argv[3] : "";
    if (!strcmp(what, "args")) {
        for (int i = 0; i < argc; i++) puts(argv[i]);
    } else if (!strcmp(what, "env")) {
        for (char **e = environ; e && *e; e++) puts(*e);
    } else if (!strcmp(what, "cat")) {
        FILE *file = fopen(a, "r");
        return file ? copy(file) : fail();
    } else if (!strcmp(what, "write")) {
        FILE *file = fopen(a, "w");
        if (!file || fputs(b, file) < 0 || fclose(file)) return fail();
    } else if (!strcmp(what, "ls")) {
        DIR *dir = opendir(a);
        if (!dir) return fail();
        for (struct dirent *e; (e = readdir(dir));)
            if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) puts(e->d_name);
    } else if (!strcmp(what, "mkdir")) {
        if (mkdir(a, 0777)) return fail();
    } else if (!strcmp(what, "rm")) {
        if (unlink(a)) return fail();
    } else if (!strcmp(what, "rename")) {
        if (rename(a, b)) return fail();
    } else if (!strcmp(what, "stat")) {
        struct stat s;
        if (stat(a, &s)) return fail();
        printf("%s %lld\n", S_ISDIR(s.st_mode) ? "folder" : "file", (long long)s.st_size);
    } else if (!strcmp(what, "exit")) {
        return atoi(a);
    } else if (!strcmp(what, "stdin")) {
        return copy(stdin);
    } else if (!strcmp(what, "stderr")) {
        fprintf(stderr, "%s\n", a);
    } else if (!strcmp(what, "spin")) {
        puts("spinning");
        fflush(stdout);
        for (volatile unsigned i = 0;; i++) {}
    } else if (!strcmp(what, "sleep")) {
        puts("sleeping");
        fflush(stdout);
        for (;;) sleep(1000);
    } else if (!strcmp(what, "moments")) {
        struct timespec wall, mark, later;
        unsigned char random[8];
        clock_gettime(CLOCK_REALTIME, &wall);
        clock_gettime(CLOCK_MONOTONIC, &mark);
        if (getentropy(random, sizeof random)) return 1;
        sleep(3600);
        clock_gettime(CLOCK_MONOTONIC, &later);
        printf("%lld.%09ld %lld.%09ld ", (long long)wall.tv_sec, wall.tv_nsec, (long long)mark.tv_sec, mark.tv_nsec);
        for (unsigned n = 0; n < sizeof random; n++) printf("%02x", random[n]);
        printf(" slept %lld s\n", (long long)(later.tv_sec - mark.tv_sec));
    } else if (!strcmp(what, "flood")) {
        for (long i = atol(a); i > 0; i--) if (putchar(i % 64 ? '.' : '\n') == EOF) return fail();
        return fflush(stdout) ? fail() : 0;
    } else if (!strcmp(what, "fill")) {
        FILE *file = fopen(a, "w");
        if (!file) return fail();
        for (long i = atol(b); i > 0; i--) if (putc('x', file) == EOF) return fail();
        if (fclose(file)) return fail();
    } else if (!strcmp(what, "open-many")) {
        int opened = 0;
        for (int i = atoi(b); i > 0 && fopen(a, "r"); i--) opened++;
        printf("%d %s\n", opened, errno ? strerror(errno) : "");
    } else if (!strcmp(what, "open-and-close")) {
        for (int i = atoi(b); i > 0; i--) {
            FILE *file = fopen(a, "r");
            if (!file) return fail();
            fclose(file);
        }
        puts("ok");
    } else if (!strcmp(what, "trap")) {
        __builtin_trap();
    } else if (!strcmp(what, "alloc")) {
        size_t size = (size_t)atoi(a) << 20;
        volatile char *memory = malloc(size);
        if (!memory) return fail();
        for (size_t i = 0; i < size; i += 4096) memory[i] = 1;
        puts("ok");
    } else {
        fprintf(stderr, "error: unknown command\n");
        return 2;
    }
    return 0;
}
