/* Reads the steps from the arguments, and collects their words. */
#include "matrix.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char word[WORDS];

bool say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(word, sizeof word, format, args);
    va_end(args);
    return false;
}

bool said(const char *text) { return say("%s", text); }

bool is(const char *a, const char *b) { return !strcmp(a, b); }

static bytes_t unescaped(const char *arg) {
    bytes_t out = {malloc(strlen(arg) + 1), 0};
    for (; *arg; arg++) {
        if (*arg == '%' && arg[1] && arg[2]) {
            char hex[3] = {arg[1], arg[2], 0};
            out.at[out.len++] = (char)strtol(hex, NULL, 16);
            arg += 2;
        } else {
            out.at[out.len++] = *arg;
        }
    }
    out.at[out.len] = 0;
    return out;
}

place_t place(step_t *step, int n) {
    place_t found = {{"", 0}, {"", 0}};
    if (n >= step->count) return found;
    bytes_t arg = step->args[n];
    char *colon = memchr(arg.at, ':', arg.len);
    size_t len = colon ? (size_t)(colon - arg.at) : arg.len;
    found.given = (bytes_t){arg.at, len};
    if (colon) found.rest = (bytes_t){colon + 1, arg.len - len - 1};
    return found;
}

uint64_t number(step_t *step, int n) { return n < step->count ? strtoull(step->args[n].at, NULL, 10) : 0; }

static char *names[4096];
static int name_count;

int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void begin_names(void) { name_count = 0; }

void add_name(const char *at, size_t len) {
    if (name_count < 4096) names[name_count++] = strndup(at, len);
}

void end_names(void) {
    if (!name_count) {
        said("none");
        return;
    }
    qsort(names, name_count, sizeof *names, by_text);
    size_t used = 0;
    for (int i = 0; i < name_count && used < WORDS; i++)
        used += snprintf(word + used, WORDS - used, "%s%s", i ? "," : "", names[i]);
}

/* In brackets, one to eight groups with `::` or IPv4 at the end. */
static bool groups(char *text, uint16_t *parts) {
    uint16_t after[8];
    int before = 0, behind = 0;
    bool gap = false;
    for (char *at = text; *at;) {
        if (at[0] == ':' && at[1] == ':') {
            gap = true;
            at += 2;
            continue;
        }
        if (*at == ':') at++;
        uint16_t *into = gap ? after : parts;
        int *used = gap ? &behind : &before;
        unsigned a, b, c, d;
        int length = 0;
        if (sscanf(at, "%u.%u.%u.%u%n", &a, &b, &c, &d, &length) == 4) {
            into[(*used)++] = a << 8 | b;
            into[(*used)++] = c << 8 | d;
            at += length;
            continue;
        }
        char *end;
        into[(*used)++] = (uint16_t)strtoul(at, &end, 16);
        if (end == at || before + behind > 8) return false;
        at = end;
    }
    for (int i = before; i < 8; i++) parts[i] = 0;
    for (int i = 0; i < behind; i++) parts[8 - behind + i] = after[i];
    return true;
}

bool address(step_t *step, int n, address_t *to) {
    char *text = n < step->count ? step->args[n].at : "";
    unsigned a, b, c, d, port;
    if (sscanf(text, "%u.%u.%u.%u:%u", &a, &b, &c, &d, &port) == 5) {
        *to = (address_t){false, port, {a, b, c, d}};
        return true;
    }
    char *end = strchr(text, ']');
    if (*text == '[' && end && end[1] == ':') {
        char *inner = strndup(text + 1, end - text - 1);
        to->v6 = true;
        to->port = (uint16_t)strtoul(end + 2, NULL, 10);
        if (groups(inner, to->parts)) return true;
    }
    return say("%s is no address", text);
}

char *all_steps(int argc, char **argv) {
    static char all[WORDS];
    size_t used = 0;
    all[0] = 0;
    for (int i = 1; i < argc;) {
        step_t step = {argv[i++], 0, {{0, 0}}};
        for (; i < argc && !is(argv[i], "+"); i++)
            if (step.count < ARGS) step.args[step.count++] = unescaped(argv[i]);
        i++;
        word[0] = 0;
        perform(&step);
        used += snprintf(all + used, sizeof all - used, "%s%s", used ? " " : "", word);
        if (used >= sizeof all) break;
    }
    return all;
}
