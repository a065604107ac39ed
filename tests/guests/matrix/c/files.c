/* The program for WASI 0.2 and 0.3, but for the network: their interfaces as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "matrix.h"

#define FS(name) wasi_filesystem_types_##name
#define FSC(name) WASI_FILESYSTEM_TYPES_##name
#define AT(name) wasi_filesystem_types_method_descriptor_##name

typedef FS(own_descriptor_t) own_t;
typedef FS(borrow_descriptor_t) borrow_t;
typedef FS(error_code_t) code_t;

static const char *names[] = {
    "access", "already", "bad-descriptor", "busy", "deadlock", "quota", "exist", "file-too-large",
    "illegal-byte-sequence", "in-progress", "interrupted", "invalid", "io", "is-directory", "loop",
    "too-many-links", "message-size", "name-too-long", "no-device", "no-entry", "no-lock",
    "insufficient-memory", "insufficient-space", "not-directory", "not-empty", "not-recoverable",
    "unsupported", "no-tty", "no-such-device", "overflow", "not-permitted", "pipe", "read-only",
    "invalid-seek", "text-file-busy", "cross-device", "other",
};

static bool failed(code_t code) {
#if VERSION == 2
    /* 0.2 has one more, the second: would-block. */
    return said(code == 1 ? "would-block" : names[code ? code - 1 : 0]);
#else
    return said(names[code.tag]);
#endif
}

static command_string_t string(bytes_t text) { return (command_string_t){(uint8_t *)text.at, text.len}; }

#if VERSION == 3
/* Waits until all is written, and for what came of it. */
#define WRITE(future_read, future, bytes, start)                                                   \
    do {                                                                                           \
        wasi_cli_stdin_stream_u8_writer_t writer;                                                  \
        wasi_cli_stdin_stream_u8_t reader = wasi_cli_stdin_stream_u8_new(&writer);                 \
        future = start;                                                                            \
        for (size_t done = 0; done < (bytes).len;) {                                               \
            command_waitable_status_t status =                                                     \
                wasi_cli_stdin_stream_u8_write(writer, (uint8_t *)(bytes).at + done, (bytes).len - done); \
            if (status == COMMAND_WAITABLE_STATUS_BLOCKED) status = wait_for(writer);              \
            done += COMMAND_WAITABLE_COUNT(status);                                                \
            if (COMMAND_WAITABLE_STATE(status) != COMMAND_WAITABLE_COMPLETED) break;               \
        }                                                                                          \
        wasi_cli_stdin_stream_u8_drop_writable(writer);                                            \
        if (future_read(future, &result) == COMMAND_WAITABLE_STATUS_BLOCKED) wait_for(future);     \
    } while (0)

static command_waitable_status_t wait_for(uint32_t waitable) {
    command_waitable_set_t set = command_waitable_set_new();
    command_waitable_join(waitable, set);
    command_event_t event;
    command_waitable_set_wait(set, &event);
    command_waitable_join(waitable, 0);
    command_waitable_set_drop(set);
    return event.code;
}

static void read_stream(wasi_cli_stdin_stream_u8_t stream) {
    char text[64];
    command_waitable_status_t status = wasi_cli_stdin_stream_u8_read(stream, (uint8_t *)text, sizeof text);
    if (status == COMMAND_WAITABLE_STATUS_BLOCKED) status = wait_for(stream);
    say("read:%.*s", (int)COMMAND_WAITABLE_COUNT(status), text);
    wasi_cli_stdin_stream_u8_drop_readable(stream);
}
#endif

static bool directory(bytes_t name, borrow_t *found) {
    static wasi_filesystem_preopens_list_tuple2_own_descriptor_string_t given;
    static bool asked;
    if (!asked) wasi_filesystem_preopens_get_directories(&given);
    asked = true;
    for (size_t i = 0; i < given.len; i++)
        if (given.ptr[i].f1.len == name.len && !memcmp(given.ptr[i].f1.ptr, name.at, name.len)) {
            *found = FS(borrow_descriptor)(given.ptr[i].f0);
            return true;
        }
    return said("not-given");
}

/* r: read, w: write, c: create, t: truncate, x: exclusive, d: directory, n: no following. */
static bool open_(step_t *step, const char *flags, own_t *opened) {
    place_t at = place(step, 0);
    borrow_t in;
    if (!directory(at.given, &in)) return false;
    int open = (strchr(flags, 'c') ? FSC(OPEN_FLAGS_CREATE) : 0) | (strchr(flags, 'd') ? FSC(OPEN_FLAGS_DIRECTORY) : 0) |
               (strchr(flags, 'x') ? FSC(OPEN_FLAGS_EXCLUSIVE) : 0) | (strchr(flags, 't') ? FSC(OPEN_FLAGS_TRUNCATE) : 0);
    int use = (strchr(flags, 'r') ? FSC(DESCRIPTOR_FLAGS_READ) : 0) | (strchr(flags, 'w') ? FSC(DESCRIPTOR_FLAGS_WRITE) : 0);
    int follow = strchr(flags, 'n') ? 0 : FSC(PATH_FLAGS_SYMLINK_FOLLOW);
    command_string_t path = string(at.rest);
    code_t code;
    return AT(open_at)(in, follow, &path, open, use, opened, &code) || failed(code);
}

static void write_(step_t *step) {
    own_t file;
    if (!open_(step, "wct", &file)) return;
#if VERSION == 2
    code_t code;
    uint64_t written;
    command_list_u8_t data = {(uint8_t *)step->args[1].at, step->args[1].len};
    if (AT(write)(FS(borrow_descriptor)(file), &data, 0, &written, &code)) said("ok");
    else failed(code);
#else
    FS(future_result_void_error_code_t) future;
    FS(result_void_error_code_t) result;
    WRITE(FS(future_result_void_error_code_read), future, step->args[1],
          AT(write_via_stream)(FS(borrow_descriptor)(file), reader, 0));
    if (result.is_err) failed(result.val.err);
    else said("ok");
#endif
}

static void read_(step_t *step) {
    own_t file;
    if (!open_(step, "r", &file)) return;
#if VERSION == 2
    command_tuple2_list_u8_bool_t read;
    code_t code;
    if (AT(read)(FS(borrow_descriptor)(file), 64, 0, &read, &code)) say("read:%.*s", (int)read.f0.len, read.f0.ptr);
    else failed(code);
#else
    FS(tuple2_stream_u8_future_result_void_error_code_t) read;
    FS(result_void_error_code_t) result;
    AT(read_via_stream)(FS(borrow_descriptor)(file), 0, &read);
    read_stream(read.f0);
    if (FS(future_result_void_error_code_read)(read.f1, &result) == COMMAND_WAITABLE_STATUS_BLOCKED) wait_for(read.f1);
    if (result.is_err) failed(result.val.err);
#endif
}

static void list(step_t *step) {
    own_t opened;
    if (!open_(step, "rd", &opened)) return;
    begin_names();
#if VERSION == 2
    code_t code;
    FS(own_directory_entry_stream_t) entries;
    if (!AT(read_directory)(FS(borrow_descriptor)(opened), &entries, &code)) {
        failed(code);
        return;
    }
    for (;;) {
        FS(option_directory_entry_t) entry;
        FS(borrow_directory_entry_stream_t) from = FS(borrow_directory_entry_stream)(entries);
        if (!FS(method_directory_entry_stream_read_directory_entry)(from, &entry, &code)) {
            failed(code);
            return;
        }
        if (!entry.is_some) break;
        add_name((char *)entry.val.name.ptr, entry.val.name.len);
    }
#else
    FS(tuple2_stream_directory_entry_future_result_void_error_code_t) entries;
    FS(result_void_error_code_t) result;
    AT(read_directory)(FS(borrow_descriptor)(opened), &entries);
    for (;;) {
        FS(directory_entry_t) entry;
        command_waitable_status_t status = FS(stream_directory_entry_read)(entries.f0, &entry, 1);
        if (status == COMMAND_WAITABLE_STATUS_BLOCKED) status = wait_for(entries.f0);
        if (!COMMAND_WAITABLE_COUNT(status)) break;
        add_name((char *)entry.name.ptr, entry.name.len);
    }
    if (FS(future_result_void_error_code_read)(entries.f1, &result) == COMMAND_WAITABLE_STATUS_BLOCKED) wait_for(entries.f1);
    if (result.is_err) {
        failed(result.val.err);
        return;
    }
#endif
    end_names();
}

static void stat_(borrow_t in, command_string_t *path, bool follow) {
    FS(descriptor_stat_t) stat;
    code_t code;
    if (!AT(stat_at)(in, follow ? FSC(PATH_FLAGS_SYMLINK_FOLLOW) : 0, path, &stat, &code)) {
        failed(code);
        return;
    }
#if VERSION == 2
    int type = stat.type;
#else
    int type = stat.type.tag;
#endif
    said(type == FSC(DESCRIPTOR_TYPE_DIRECTORY)       ? "directory"
         : type == FSC(DESCRIPTOR_TYPE_REGULAR_FILE)  ? "file"
         : type == FSC(DESCRIPTOR_TYPE_SYMBOLIC_LINK) ? "symlink"
                                                     : "other");
}

static void files(step_t *step) {
    const char *op = step->op;
    place_t at = place(step, 0);
    borrow_t in, other;
    code_t code;
    bool fine;
    command_string_t path, more = {0};
    if (is(op, "symlink")) {
        more = string(step->args[0]);
        at = place(step, 1);
    }
    if (!directory(at.given, &in)) return;
    if (is(op, "link") || is(op, "rename")) {
        if (!directory(place(step, 1).given, &other)) return;
        more = string(place(step, 1).rest);
    }
    path = string(at.rest);
    if (is(op, "stat") || is(op, "lstat")) {
        stat_(in, &path, is(op, "stat"));
        return;
    }
    if (is(op, "mkdir")) fine = AT(create_directory_at)(in, &path, &code);
    else if (is(op, "rmdir")) fine = AT(remove_directory_at)(in, &path, &code);
    else if (is(op, "unlink")) fine = AT(unlink_file_at)(in, &path, &code);
    else if (is(op, "symlink")) fine = AT(symlink_at)(in, &more, &path, &code);
    else if (is(op, "link")) fine = AT(link_at)(in, 0, &path, other, &more, &code);
    else if (is(op, "rename")) fine = AT(rename_at)(in, &path, other, &more, &code);
    else if (is(op, "times")) {
        FS(new_timestamp_t) now = {.tag = FSC(NEW_TIMESTAMP_NOW)};
        fine = AT(set_times_at)(in, FSC(PATH_FLAGS_SYMLINK_FOLLOW), &path, &now, &now, &code);
    } else if (is(op, "hash")) {
        FS(metadata_hash_value_t) hash;
        if (AT(metadata_hash_at)(in, 0, &path, &hash, &code)) said("hashed");
        else failed(code);
        return;
    } else if (is(op, "readlink")) {
        command_string_t to;
        fine = AT(readlink_at)(in, &path, &to, &code);
        if (fine) {
            say("to:%.*s", (int)to.len, to.ptr);
            return;
        }
    } else {
        said("no-such-step");
        return;
    }
    if (fine) said("ok");
    else failed(code);
}

static void stream(const char *op, bytes_t text) {
#if VERSION == 2
    wasi_io_streams_stream_error_t error;
    command_list_u8_t data = {(uint8_t *)text.at, 0};
    wasi_io_streams_own_output_stream_t to = is(op, "stdout") ? wasi_cli_stdout_get_stdout() : wasi_cli_stderr_get_stderr();
    /* At most 4096 bytes are written by one call. */
    bool fine = true;
    for (size_t left = text.len; fine && left; left -= data.len, data.ptr += data.len) {
        data.len = left < 4096 ? left : 4096;
        fine = wasi_io_streams_method_output_stream_blocking_write_and_flush(
            wasi_io_streams_borrow_output_stream(to), &data, &error);
    }
    said(fine ? "ok" : "failed");
#else
    wasi_cli_stdout_result_void_error_code_t result;
    wasi_cli_stdout_future_result_void_error_code_t future;
    WRITE(wasi_cli_stdout_future_result_void_error_code_read, future, text,
          is(op, "stdout") ? wasi_cli_stdout_write_via_stream(reader) : wasi_cli_stderr_write_via_stream(reader));
    said(result.is_err ? "failed" : "ok");
#endif
}

static void stdin_(void) {
#if VERSION == 2
    wasi_io_streams_stream_error_t error;
    command_list_u8_t data = {0};
    wasi_io_streams_borrow_input_stream_t from = wasi_io_streams_borrow_input_stream(wasi_cli_stdin_get_stdin());
    if (wasi_io_streams_method_input_stream_blocking_read(from, 64, &data, &error) ||
        error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED)
        say("read:%.*s", (int)data.len, data.ptr);
    else said("failed");
#else
    wasi_cli_stdin_tuple2_stream_u8_future_result_void_error_code_t read;
    wasi_cli_stdin_read_via_stream(&read);
    read_stream(read.f0);
#endif
}

static command_list_string_t arguments;

void perform(step_t *step) {
    const char *op = step->op;
    bytes_t first = step->count ? step->args[0] : (bytes_t){"", 0};
    if (is(op, "env")) {
        command_list_tuple2_string_string_t all;
        wasi_cli_environment_get_environment(&all);
        said("none");
        for (size_t i = 0; i < all.len; i++)
            if (all.ptr[i].f0.len == first.len && !memcmp(all.ptr[i].f0.ptr, first.at, first.len))
                say("%.*s", (int)all.ptr[i].f1.len, all.ptr[i].f1.ptr);
    } else if (is(op, "args")) {
        size_t used = 0;
        for (size_t i = 0; i < arguments.len; i++)
            used += snprintf(word + used, WORDS - used, "%s%.*s", i ? "," : "", (int)arguments.ptr[i].len, arguments.ptr[i].ptr);
    } else if (is(op, "stdin")) {
        stdin_();
    } else if (is(op, "stdout") || is(op, "stderr")) {
        stream(op, first);
    } else if (is(op, "exit")) {
#if VERSION == 2
        wasi_cli_exit_result_void_void_t status = {.is_err = atoi(first.at) != 0};
        wasi_cli_exit_exit(&status);
#else
        wasi_cli_exit_exit_with_code(atoi(first.at));
#endif
    } else if (is(op, "see")) {
        see(strndup((char *)arguments.ptr[0].ptr, arguments.ptr[0].len));
    } else if (is(op, "open")) {
        own_t opened;
        if (open_(step, step->args[1].at, &opened)) said("ok");
    } else if (is(op, "resize")) {
        own_t file;
        code_t code;
        if (!open_(step, "w", &file)) return;
        if (AT(set_size)(FS(borrow_descriptor)(file), number(step, 1), &code)) said("ok");
        else failed(code);
    } else if (is(op, "read")) {
        read_(step);
    } else if (is(op, "write")) {
        write_(step);
    } else if (is(op, "list")) {
        list(step);
    } else if (!network(step)) {
        files(step);
    }
}

/* All steps, to stdout. */
static void run(void) {
    wasi_cli_environment_get_arguments(&arguments);
    char **texts = malloc(arguments.len * sizeof *texts);
    for (size_t i = 0; i < arguments.len; i++)
        texts[i] = strndup((char *)arguments.ptr[i].ptr, arguments.ptr[i].len);
    char *words = all_steps((int)arguments.len, texts);
    size_t len = strlen(words);
    words[len] = '\n';
    stream("stdout", (bytes_t){words, len + 1});
}

bool exports_wasi_cli_run_run(void) {
    run();
    return true;
}
