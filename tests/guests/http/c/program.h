/* What the program is made of: its steps, and requests by one version of WASI. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "http.h"

/* Bytes of a body or of a header's value that are kept. */
#define MOST 256
/* How long each step may take, in nanoseconds. */
#define TIMEOUT 5000000000ull

typedef struct {
    bool encrypted;
    char *authority, *path;
} url_t;

/* The name of an error, or NULL if nothing failed. */
typedef const char *error_t;

error_t error_name(uint8_t code);

#if VERSION == 2
typedef wasi_http_types_own_incoming_response_t response_t;
#else
typedef wasi_http_types_own_response_t response_t;
#endif

/* Sends a `GET`, and waits for the response's head. */
error_t request(url_t url, response_t *response);
uint16_t status(response_t response);
/* The first value of `location`, if there is one. */
bool location(response_t response, char value[MOST + 1]);
/* Reads the body to its end. */
error_t body(response_t response, char text[MOST + 1]);

/* Appends bytes to a text as far as they fit. */
void append(char text[MOST + 1], const uint8_t *bytes, size_t length);

#endif
