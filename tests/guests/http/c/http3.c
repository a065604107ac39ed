/* Requests by WASI 0.3. The calls block. The writer of a future can't be dropped before a
   value is written, and a write lasts until the host has read the value: so the writers
   stay open, and what is written is static. */
#include "program.h"

#include <string.h>

#define HTTP(name) wasi_http_types_##name
#define CODE(name) error_name(WASI_HTTP_TYPES_ERROR_CODE_##name)

/* Waits until an operation on a stream or a future has ended, if it has not yet. */
static http_waitable_status_t ended(uint32_t waitable, http_waitable_status_t status) {
    if (status != HTTP_WAITABLE_STATUS_BLOCKED) return status;
    http_waitable_set_t set = http_waitable_set_new();
    http_event_t event;
    http_waitable_join(waitable, set);
    http_waitable_set_wait(set, &event);
    http_waitable_join(waitable, 0);
    http_waitable_set_drop(set);
    return event.code;
}

error_t request(url_t url, response_t *response) {
    static const HTTP(result_option_own_trailers_error_code_t) none;
    HTTP(future_result_option_own_trailers_error_code_writer_t) writer;
    HTTP(future_result_option_own_trailers_error_code_t) trailers =
        HTTP(future_result_option_own_trailers_error_code_new)(&writer);
    HTTP(own_request_options_t) options = HTTP(constructor_request_options)();
    HTTP(borrow_request_options_t) timeouts = HTTP(borrow_request_options)(options);
    HTTP(request_options_error_t) refused;
    uint64_t timeout = TIMEOUT;
    HTTP(method_request_options_set_connect_timeout)(timeouts, &timeout, &refused);
    HTTP(method_request_options_set_first_byte_timeout)(timeouts, &timeout, &refused);
    HTTP(method_request_options_set_between_bytes_timeout)(timeouts, &timeout, &refused);
    HTTP(tuple2_own_request_future_result_void_error_code_t) made;
    HTTP(static_request_new)(HTTP(constructor_fields)(), NULL, trailers, &options, &made);
    HTTP(future_result_option_own_trailers_error_code_write)(writer, &none);
    HTTP(borrow_request_t) at = HTTP(borrow_request)(made.f0);
    HTTP(scheme_t) scheme = {.tag = url.encrypted ? WASI_HTTP_TYPES_SCHEME_HTTPS : WASI_HTTP_TYPES_SCHEME_HTTP};
    http_string_t authority = {(uint8_t *)url.authority, strlen(url.authority)};
    http_string_t path = {(uint8_t *)url.path, strlen(url.path)};
    if (!HTTP(method_request_set_scheme)(at, &scheme) || !HTTP(method_request_set_authority)(at, &authority) ||
        !HTTP(method_request_set_path_with_query)(at, &path))
        return CODE(HTTP_REQUEST_URI_INVALID);
    HTTP(error_code_t) code;
    return wasi_http_client_send(made.f0, response, &code) ? NULL : error_name(code.tag);
}

uint16_t status(response_t response) {
    return HTTP(method_response_get_status_code)(HTTP(borrow_response)(response));
}

bool location(response_t response, char value[MOST + 1]) {
    HTTP(own_headers_t) headers = HTTP(method_response_get_headers)(HTTP(borrow_response)(response));
    http_string_t name = {(uint8_t *)"location", 8};
    http_list_field_value_t found;
    HTTP(method_fields_get)(HTTP(borrow_fields)(headers), &name, &found);
    if (found.len) append(value, found.ptr[0].ptr, found.ptr[0].len);
    return found.len;
}

error_t body(response_t response, char text[MOST + 1]) {
    HTTP(future_result_void_error_code_writer_t) writer;
    HTTP(tuple2_stream_u8_future_result_option_own_trailers_error_code_t) content;
    HTTP(static_response_consume_body)(response, HTTP(future_result_void_error_code_new)(&writer), &content);
    for (http_waitable_status_t status = HTTP_WAITABLE_COMPLETED; HTTP_WAITABLE_STATE(status) == HTTP_WAITABLE_COMPLETED;) {
        uint8_t piece[MOST];
        status = ended(content.f0, HTTP(stream_u8_read)(content.f0, piece, sizeof piece));
        append(text, piece, HTTP_WAITABLE_COUNT(status));
    }
    HTTP(stream_u8_drop_readable)(content.f0);
    HTTP(result_option_own_trailers_error_code_t) result;
    ended(content.f1, HTTP(future_result_option_own_trailers_error_code_read)(content.f1, &result));
    return result.is_err ? error_name(result.val.err.tag) : NULL;
}
