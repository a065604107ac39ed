/* Sends requests by `wasi:http`, and says of each what came of it, as `src/main.rs` does:
   `http URL...` prints, for each, the status and the body, or the error's code. After
   `FOLLOW` a redirect is followed, once. An error's payload is not printed. */
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order of `error-code`, which is the same in both versions; spelled as in Rust. */
static const char *names[] = {
    "DnsTimeout", "DnsError", "DestinationNotFound", "DestinationUnavailable", "DestinationIpProhibited",
    "DestinationIpUnroutable", "ConnectionRefused", "ConnectionTerminated", "ConnectionTimeout",
    "ConnectionReadTimeout", "ConnectionWriteTimeout", "ConnectionLimitReached", "TlsProtocolError",
    "TlsCertificateError", "TlsAlertReceived", "HttpRequestDenied", "HttpRequestLengthRequired",
    "HttpRequestBodySize", "HttpRequestMethodInvalid", "HttpRequestUriInvalid", "HttpRequestUriTooLong",
    "HttpRequestHeaderSectionSize", "HttpRequestHeaderSize", "HttpRequestTrailerSectionSize",
    "HttpRequestTrailerSize", "HttpResponseIncomplete", "HttpResponseHeaderSectionSize",
    "HttpResponseHeaderSize", "HttpResponseBodySize", "HttpResponseTrailerSectionSize",
    "HttpResponseTrailerSize", "HttpResponseTransferCoding", "HttpResponseContentCoding",
    "HttpResponseTimeout", "HttpUpgradeFailed", "HttpProtocolError", "LoopDetected", "ConfigurationError",
    "InternalError",
};
_Static_assert(sizeof names / sizeof *names == WASI_HTTP_TYPES_ERROR_CODE_INTERNAL_ERROR + 1, "a name for each code");

error_t error_name(uint8_t code) { return names[code]; }

void append(char text[MOST + 1], const uint8_t *bytes, size_t length) {
    size_t used = strlen(text);
    if (length > MOST - used) length = MOST - used;
    memcpy(text + used, bytes, length);
    text[used + length] = 0;
}

/* Takes a URL apart. */
static bool parsed(const char *text, url_t *url) {
    const char *colon = strstr(text, "://");
    if (!colon) return false;
    url->encrypted = colon - text == 5 && !strncmp(text, "https", 5);
    const char *start = colon + 3, *slash = strchr(start, '/');
    url->authority = slash ? strndup(start, slash - start) : strdup(start);
    url->path = strdup(slash ? slash : "/");
    return true;
}

/* Prints what came of a URL. */
static void fetch(const char *text, bool follows) {
    url_t url;
    response_t response;
    char value[MOST + 1] = "";
    error_t error = parsed(text, &url) ? request(url, &response) : error_name(WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_URI_INVALID);
    if (error) {
        printf("%s", error);
    } else if (follows && location(response, value)) {
        printf("%u ", status(response));
        fetch(value, false);
    } else {
        uint16_t code = status(response);
        error = body(response, value);
        if (error) printf("%s", error);
        else printf("%u %s", code, value);
    }
}

bool exports_wasi_cli_run_run(void) {
    http_list_string_t arguments;
    bool follows = false;
    wasi_cli_environment_get_arguments(&arguments);
    for (size_t i = 1; i < arguments.len; i++) {
        char *text = strndup((char *)arguments.ptr[i].ptr, arguments.ptr[i].len);
        if (!strcmp(text, "FOLLOW")) {
            follows = true;
            continue;
        }
        printf("%s: ", text);
        fetch(text, follows);
        printf("\n");
    }
    fflush(stdout);
    return true;
}
