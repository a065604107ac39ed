/* Requests by WASI 0.2. */
#include "program.h"

#include <string.h>

#define HTTP(name) wasi_http_types_##name
#define CODE(name) error_name(WASI_HTTP_TYPES_ERROR_CODE_##name)

error_t request(url_t url, response_t *response) {
    HTTP(own_outgoing_request_t) made = HTTP(constructor_outgoing_request)(HTTP(constructor_fields)());
    HTTP(borrow_outgoing_request_t) at = HTTP(borrow_outgoing_request)(made);
    HTTP(scheme_t) scheme = {.tag = url.encrypted ? WASI_HTTP_TYPES_SCHEME_HTTPS : WASI_HTTP_TYPES_SCHEME_HTTP};
    http_string_t authority = {(uint8_t *)url.authority, strlen(url.authority)};
    http_string_t path = {(uint8_t *)url.path, strlen(url.path)};
    HTTP(own_outgoing_body_t) content;
    if (!HTTP(method_outgoing_request_set_scheme)(at, &scheme) ||
        !HTTP(method_outgoing_request_set_authority)(at, &authority) ||
        !HTTP(method_outgoing_request_set_path_with_query)(at, &path) ||
        !HTTP(method_outgoing_request_body)(at, &content))
        return CODE(HTTP_REQUEST_URI_INVALID);
    HTTP(own_request_options_t) options = HTTP(constructor_request_options)();
    HTTP(borrow_request_options_t) timeouts = HTTP(borrow_request_options)(options);
    uint64_t timeout = TIMEOUT;
    HTTP(method_request_options_set_connect_timeout)(timeouts, &timeout);
    HTTP(method_request_options_set_first_byte_timeout)(timeouts, &timeout);
    HTTP(method_request_options_set_between_bytes_timeout)(timeouts, &timeout);
    HTTP(own_future_incoming_response_t) answer;
    HTTP(error_code_t) code;
    if (!wasi_http_outgoing_handler_handle(made, &options, &answer, &code)) return error_name(code.tag);
    /* What could not be sent is told by the answer. */
    HTTP(static_outgoing_body_finish)(content, NULL, &code);
    HTTP(borrow_future_incoming_response_t) pending = HTTP(borrow_future_incoming_response)(answer);
    HTTP(result_result_own_incoming_response_error_code_void_t) result;
    while (!HTTP(method_future_incoming_response_get)(pending, &result)) {
        wasi_io_poll_own_pollable_t ready = HTTP(method_future_incoming_response_subscribe)(pending);
        wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
        wasi_io_poll_pollable_drop_own(ready);
    }
    if (result.is_err) return CODE(HTTP_PROTOCOL_ERROR);
    if (result.val.ok.is_err) return error_name(result.val.ok.val.err.tag);
    *response = result.val.ok.val.ok;
    return NULL;
}

uint16_t status(response_t response) {
    return HTTP(method_incoming_response_status)(HTTP(borrow_incoming_response)(response));
}

bool location(response_t response, char value[MOST + 1]) {
    HTTP(own_headers_t) headers = HTTP(method_incoming_response_headers)(HTTP(borrow_incoming_response)(response));
    http_string_t name = {(uint8_t *)"location", 8};
    http_list_field_value_t found;
    HTTP(method_fields_get)(HTTP(borrow_fields)(headers), &name, &found);
    if (found.len) append(value, found.ptr[0].ptr, found.ptr[0].len);
    return found.len;
}

error_t body(response_t response, char text[MOST + 1]) {
    HTTP(own_incoming_body_t) content;
    HTTP(own_input_stream_t) stream;
    if (!HTTP(method_incoming_response_consume)(HTTP(borrow_incoming_response)(response), &content) ||
        !HTTP(method_incoming_body_stream)(HTTP(borrow_incoming_body)(content), &stream))
        return CODE(HTTP_PROTOCOL_ERROR);
    for (;;) {
        http_list_u8_t piece;
        wasi_io_streams_stream_error_t error;
        if (wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(stream), MOST, &piece, &error)) {
            append(text, piece.ptr, piece.len);
            http_list_u8_free(&piece);
            continue;
        }
        HTTP(error_code_t) code;
        if (error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) return NULL;
        wasi_io_error_borrow_error_t why = wasi_io_error_borrow_error(error.val.last_operation_failed);
        return HTTP(http_error_code)(why, &code) ? error_name(code.tag) : CODE(HTTP_PROTOCOL_ERROR);
    }
}
