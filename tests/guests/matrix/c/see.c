/* All that the host shows: a name, a tab and a value in each line. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "matrix.h"
#if VERSION == 1
#include <wasi/api.h>
extern const char *error_name(__wasi_errno_t);
#else
#include "command.h"
#endif

static size_t used;

static void add(const char *name, const char *format, ...) {
    va_list args;
    used += snprintf(word + used, WORDS - used, "%s%s\t", used ? "\n" : "", name);
    va_start(args, format);
    used += vsnprintf(word + used, WORDS - used, format, args);
    va_end(args);
}

static const char *terminal(bool is_one) { return is_one ? "a terminal" : "no terminal"; }
static const char *of_today(uint64_t seconds) { return seconds > 1735689600 ? "the host's time" : "another time"; }
static const char *since_start(uint64_t ns) {
    return ns < 3600000000000 ? "counts from the start of the run" : "counts from before the run";
}

/* What the C library makes of it. */
static const char *result(int value) { return value < 0 ? strerror(errno) : "ok"; }

static void library(void) {
    char text[256];
    add("libc: getcwd", "%s", getcwd(text, sizeof text) ? text : strerror(errno));
    for (const char *const *name = (const char *const[]){"HOME", "PATH", "USER", "TZ", "LANG", 0}; *name; name++) {
        snprintf(text, sizeof text, "libc: getenv of %s", *name);
        const char *value = getenv(*name);
        add(text, "%s", value ? value : "none");
    }
    for (int fd = 0; fd < 3; fd++) {
        snprintf(text, sizeof text, "libc: isatty of %d", fd);
        add(text, "%s", isatty(fd) ? "yes" : "no");
    }
    struct stat stat_;
    add("libc: stat of /", "%s", result(stat("/", &stat_)));
    add("libc: opendir of .", "%s", opendir(".") ? "ok" : strerror(errno));
    add("libc: open of /etc/hostname", "%s", result(open("/etc/hostname", O_RDONLY)));
    add("libc: open of /proc/self/status", "%s", result(open("/proc/self/status", O_RDONLY)));
    add("libc: creat", "%s", result(open("file", O_CREAT | O_WRONLY, 0600)));
    time_t now = time(NULL);
    add("libc: time zone", "%s", now && !strcmp(asctime(gmtime(&now)), asctime(localtime(&now))) ? "UTC" : "another");
}

#if VERSION == 1
static const char *shown(__wasi_errno_t code) { return error_name(code); }

void see(const char *own_name) {
    size_t count, size;
    used = 0;
    add("arguments", "%s", own_name);
    if (!__wasi_environ_sizes_get(&count, &size)) add("environment", "%s", count ? "some" : "none");
    __wasi_fdstat_t stat_;
    __wasi_prestat_t prestat;
    add("descriptor 3", "%s", shown(__wasi_fd_fdstat_get(3, &stat_)));
    add("directories", "%s", shown(__wasi_fd_prestat_get(3, &prestat)));
    uint8_t byte[16];
    __wasi_iovec_t part = {byte, 1};
    __wasi_errno_t code = __wasi_fd_read(0, &part, 1, &size);
    add("stdin", "%s", code ? shown(code) : size ? "has bytes" : "at its end");
    const char *names[] = {"stdin is", "stdout is", "stderr is"};
    for (int fd = 0; fd < 3; fd++) {
        code = __wasi_fd_fdstat_get(fd, &stat_);
        add(names[fd], "%s", code ? shown(code) : terminal(stat_.fs_filetype == __WASI_FILETYPE_CHARACTER_DEVICE));
    }
    const char *clocks[] = {"wall clock", "monotonic clock", "processor time of the process", "processor time of the thread"};
    for (int id = 0; id < 4; id++) {
        __wasi_timestamp_t time_;
        char name[64];
        code = __wasi_clock_time_get(id, 0, &time_);
        add(clocks[id], "%s", code ? shown(code) : id == 0 ? of_today(time_ / 1000000000) : since_start(time_));
        snprintf(name, sizeof name, "%s, resolution", clocks[id]);
        code = __wasi_clock_res_get(id, &time_);
        if (code) add(name, "%s", shown(code));
        else add(name, "%llu ns", time_);
    }
    add("random bytes", "%s", shown(__wasi_random_get(byte, 16)));
    __wasi_fd_t opened;
    add("a file through stdin", "%s", shown(__wasi_path_open(0, 0, "file", 0, __WASI_RIGHTS_FD_READ, 0, 0, &opened)));
    extern int sock_accept(int, int, __wasi_fd_t *)
        __attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_accept")));
    add("a connection from stdin", "%s", shown(sock_accept(0, 0, &opened)));
    add("a connection from descriptor 3", "%s", shown(sock_accept(3, 0, &opened)));
    extern int proc_raise(int) __attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_raise")));
    add("a signal", "%s", shown(proc_raise(15)));
    add("yielding", "%s", shown(__wasi_sched_yield()));
    library();
}
#else
void see(const char *own_name) {
    command_list_tuple2_string_string_t environment;
    command_string_t directory;
    wasi_filesystem_preopens_list_tuple2_own_descriptor_string_t given;
    used = 0;
    add("arguments", "%s", own_name);
    wasi_cli_environment_get_environment(&environment);
    add("environment", "%s", environment.len ? "some" : "none");
#if VERSION == 2
    bool has = wasi_cli_environment_initial_cwd(&directory);
#else
    bool has = wasi_cli_environment_get_initial_cwd(&directory);
#endif
    add("initial directory", "%s", has ? "some" : "none");
    wasi_filesystem_preopens_get_directories(&given);
    add("directories", "%s", given.len ? "some" : "none");
#if VERSION == 2
    command_list_u8_t data;
    wasi_io_streams_stream_error_t error;
    wasi_io_streams_borrow_input_stream_t in = wasi_io_streams_borrow_input_stream(wasi_cli_stdin_get_stdin());
    bool read = wasi_io_streams_method_input_stream_blocking_read(in, 1, &data, &error);
    add("stdin", "%s", read ? "has bytes" : error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED ? "at its end" : "fails");
#else
    uint8_t byte;
    wasi_cli_stdin_tuple2_stream_u8_future_result_void_error_code_t in;
    wasi_cli_stdin_read_via_stream(&in);
    command_waitable_status_t status = wasi_cli_stdin_stream_u8_read(in.f0, &byte, 1);
    if (status == COMMAND_WAITABLE_STATUS_BLOCKED) {
        command_waitable_set_t set = command_waitable_set_new();
        command_event_t event;
        command_waitable_join(in.f0, set);
        command_waitable_set_wait(set, &event);
        status = event.code;
    }
    add("stdin", "%s", COMMAND_WAITABLE_COUNT(status) ? "has bytes" : "at its end");
#endif
    wasi_cli_terminal_stdin_own_terminal_input_t input;
    wasi_cli_terminal_stdout_own_terminal_output_t output;
    add("stdin is", "%s", terminal(wasi_cli_terminal_stdin_get_terminal_stdin(&input)));
    add("stdout is", "%s", terminal(wasi_cli_terminal_stdout_get_terminal_stdout(&output)));
    add("stderr is", "%s", terminal(wasi_cli_terminal_stderr_get_terminal_stderr(&output)));
#if VERSION == 2
    wasi_clocks_wall_clock_datetime_t now, fine;
    wasi_clocks_wall_clock_now(&now);
    wasi_clocks_wall_clock_resolution(&fine);
    uint64_t seconds = now.seconds, wall = fine.nanoseconds, monotonic = wasi_clocks_monotonic_clock_resolution();
#else
    wasi_clocks_system_clock_instant_t now;
    wasi_clocks_system_clock_now(&now);
    uint64_t seconds = now.seconds, wall = wasi_clocks_system_clock_get_resolution(), monotonic = wasi_clocks_monotonic_clock_get_resolution();
#endif
    add("wall clock", "%s", of_today(seconds));
    add("wall clock, resolution", "%llu ns", wall);
    add("monotonic clock", "%s", since_start(wasi_clocks_monotonic_clock_now()));
    add("monotonic clock, resolution", "%llu ns", monotonic);
    command_list_u8_t bytes;
    wasi_random_random_get_random_bytes(16, &bytes);
    add("random bytes", "%s", bytes.len == 16 ? "ok" : "too few");
    wasi_random_insecure_get_insecure_random_u64();
    add("insecure random bytes", "ok");
    command_tuple2_u64_u64_t seed;
#if VERSION == 2
    wasi_random_insecure_seed_insecure_seed(&seed);
#else
    wasi_random_insecure_seed_get_insecure_seed(&seed);
#endif
    add("insecure seed", "ok");
    /* By the steps of the network, whose word is kept apart. */
    char kept[WORDS];
    const char *steps[][3] = {
        {"a TCP socket", "socket", "tcp"},
        {"a UDP socket", "socket", "udp"},
        {"a name's addresses", "lookup", "localhost"},
        {"an address's addresses", "lookup", "127.0.0.1"},
    };
    for (int i = 0; i < 4; i++) {
        step_t step = {steps[i][1], 1, {{(char *)steps[i][2], strlen(steps[i][2])}}};
        memcpy(kept, word, sizeof kept);
        network(&step);
        char *got = strdup(word);
        memcpy(word, kept, sizeof kept);
        add(steps[i][0], "%s", got);
    }
    library();
}
#endif
