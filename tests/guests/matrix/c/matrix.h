/* What the C programs of all versions of WASI share. See ../src/driver.rs. */
#ifndef MATRIX_H
#define MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORDS 16384
#define ARGS 8

typedef struct {
    char *at;
    size_t len;
} bytes_t;

typedef struct {
    const char *op;
    int count;
    bytes_t args[ARGS];
} step_t;

/* A path: the directory that the guest was given, and the rest. */
typedef struct {
    bytes_t given, rest;
} place_t;

/* What came of the step at hand. */
extern char word[WORDS];

/* These return false, so that a failure can be returned as it is said. */
bool say(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool said(const char *text);

bool is(const char *a, const char *b);
place_t place(step_t *step, int n);
uint64_t number(step_t *step, int n);
/* Names of a listing, in order. */
void begin_names(void);
void add_name(const char *at, size_t len);
void end_names(void);
/* An address: a.b.c.d:port, or one of a few of IPv6. */
typedef struct {
    bool v6;
    uint16_t port, parts[8];
} address_t;
bool address(step_t *step, int n, address_t *to);
int by_text(const void *a, const void *b);

/* Performs the steps of a command line; the words stand in the result. */
char *all_steps(int argc, char **argv);

/* A version's own: what it takes no part in, it says `no-such-step` of. */
void perform(step_t *step);
bool network(step_t *step);

/* All that the host shows; given the first argument. */
void see(const char *own_name);

#endif
