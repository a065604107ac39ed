/* The program for WASI preview 1: its calls as they are, without the C library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#include "matrix.h"

static int argument_count;
static char **arguments;

int main(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
    puts(all_steps(argc, argv));
    return 0;
}

/* The name that later versions have for an errno. */
const char *error_name(__wasi_errno_t errno_) {
    switch (errno_) {
    case __WASI_ERRNO_SUCCESS: return "ok";
    case __WASI_ERRNO_ACCES: return "access";
    case __WASI_ERRNO_BADF: return "bad-descriptor";
    case __WASI_ERRNO_EXIST: return "exist";
    case __WASI_ERRNO_ILSEQ: return "illegal-byte-sequence";
    case __WASI_ERRNO_INVAL: return "invalid";
    case __WASI_ERRNO_IO: return "io";
    case __WASI_ERRNO_ISDIR: return "is-directory";
    case __WASI_ERRNO_LOOP: return "loop";
    case __WASI_ERRNO_MFILE: return "too-many-open";
    case __WASI_ERRNO_NAMETOOLONG: return "name-too-long";
    case __WASI_ERRNO_NOENT: return "no-entry";
    case __WASI_ERRNO_NOSPC: return "insufficient-space";
    case __WASI_ERRNO_NOTDIR: return "not-directory";
    case __WASI_ERRNO_NOTEMPTY: return "not-empty";
    case __WASI_ERRNO_NOTSOCK: return "not-socket";
    case __WASI_ERRNO_NOTSUP: return "unsupported";
    case __WASI_ERRNO_PERM: return "not-permitted";
    case __WASI_ERRNO_ROFS: return "read-only";
    case __WASI_ERRNO_XDEV: return "cross-device";
    case __WASI_ERRNO_NOTCAPABLE: return "not-capable";
    case __WASI_ERRNO_BUSY: return "busy";
    default: return "other";
    }
}

static bool failed(__wasi_errno_t errno_) {
    if (errno_) said(error_name(errno_));
    return errno_ != 0;
}

#define IMPORTED(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

/* The library's own wrappers take text that ends in a NUL: what a path is given as
   goes to the host with its length. */
extern int raw_path_open(int, int, const char *, size_t, int, int64_t, int64_t, int, __wasi_fd_t *) IMPORTED("path_open");
extern int raw_path_filestat_get(int, int, const char *, size_t, void *) IMPORTED("path_filestat_get");
extern int raw_path_create_directory(int, const char *, size_t) IMPORTED("path_create_directory");
extern int raw_path_remove_directory(int, const char *, size_t) IMPORTED("path_remove_directory");
extern int raw_path_unlink_file(int, const char *, size_t) IMPORTED("path_unlink_file");
extern int raw_path_symlink(const char *, size_t, int, const char *, size_t) IMPORTED("path_symlink");
extern int raw_path_readlink(int, const char *, size_t, char *, size_t, size_t *) IMPORTED("path_readlink");
extern int raw_path_link(int, int, const char *, size_t, int, const char *, size_t) IMPORTED("path_link");
extern int raw_path_rename(int, const char *, size_t, int, const char *, size_t) IMPORTED("path_rename");
extern int raw_path_times(int, int, const char *, size_t, int64_t, int64_t, int) IMPORTED("path_filestat_set_times");

/* The descriptor of a directory that the guest was given, or -1. */
static int directory(bytes_t name) {
    for (__wasi_fd_t fd = 3;; fd++) {
        __wasi_prestat_t prestat;
        if (__wasi_fd_prestat_get(fd, &prestat)) break;
        size_t len = prestat.u.dir.pr_name_len;
        char *own = malloc(len);
        if (__wasi_fd_prestat_dir_name(fd, (uint8_t *)own, len)) break;
        if (len == name.len && !memcmp(own, name.at, len)) return fd;
    }
    said("not-given");
    return -1;
}

/* r: read, w: write, c: create, t: truncate, x: exclusive, d: directory, n: no following. */
static int open_(step_t *step, const char *flags) {
    place_t at = place(step, 0);
    int fd = directory(at.given);
    if (fd < 0) return -1;
    int oflags = (strchr(flags, 'c') ? __WASI_OFLAGS_CREAT : 0) | (strchr(flags, 't') ? __WASI_OFLAGS_TRUNC : 0) |
                 (strchr(flags, 'x') ? __WASI_OFLAGS_EXCL : 0) | (strchr(flags, 'd') ? __WASI_OFLAGS_DIRECTORY : 0);
    int64_t rights = 0;
    if (strchr(flags, 'r')) rights |= __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR;
    if (strchr(flags, 'w')) rights |= __WASI_RIGHTS_FD_WRITE | __WASI_RIGHTS_FD_FILESTAT_SET_SIZE;
    int lookup = strchr(flags, 'n') ? 0 : __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW;
    __wasi_fd_t opened;
    if (failed(raw_path_open(fd, lookup, at.rest.at, at.rest.len, oflags, rights, rights, 0, &opened))) return -1;
    return opened;
}

static bool write_(int fd, bytes_t text) {
    __wasi_ciovec_t part = {(uint8_t *)text.at, text.len};
    size_t written;
    return !failed(__wasi_fd_write(fd, &part, 1, &written)) && (said("ok"), true);
}

static void read_(int fd) {
    char text[65];
    __wasi_iovec_t part = {(uint8_t *)text, 64};
    size_t length;
    if (fd < 0 || failed(__wasi_fd_read(fd, &part, 1, &length))) return;
    say("read:%.*s", (int)length, text);
}

static void list(int fd) {
    static uint8_t entries[65536];
    size_t used;
    if (fd < 0 || failed(__wasi_fd_readdir(fd, entries, sizeof entries, 0, &used))) return;
    begin_names();
    for (size_t at = 0; at + sizeof(__wasi_dirent_t) <= used;) {
        __wasi_dirent_t entry;
        memcpy(&entry, entries + at, sizeof entry);
        char *name = (char *)entries + at + sizeof entry;
        bool dots = (entry.d_namlen == 1 && name[0] == '.') || (entry.d_namlen == 2 && !memcmp(name, "..", 2));
        if (!dots) add_name(name, entry.d_namlen);
        at += sizeof entry + entry.d_namlen;
    }
    end_names();
}

static void files(step_t *step) {
    const char *op = step->op;
    place_t at = place(step, 0);
    bytes_t to = at.rest;
    int fd = -1, other = -1;
    if (is(op, "symlink")) at = place(step, 1);
    if ((fd = directory(at.given)) < 0) return;
    if (is(op, "link") || is(op, "rename")) {
        if ((other = directory(place(step, 1).given)) < 0) return;
        to = place(step, 1).rest;
    }
    const char *path = at.rest.at;
    size_t len = at.rest.len;
    int code;
    if (is(op, "stat") || is(op, "lstat")) {
        __wasi_filestat_t stat;
        int follow = is(op, "stat") ? __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW : 0;
        if (failed(raw_path_filestat_get(fd, follow, path, len, &stat))) return;
        said(stat.filetype == __WASI_FILETYPE_DIRECTORY        ? "directory"
             : stat.filetype == __WASI_FILETYPE_REGULAR_FILE   ? "file"
             : stat.filetype == __WASI_FILETYPE_SYMBOLIC_LINK ? "symlink"
                                                              : "other");
        return;
    }
    if (is(op, "readlink")) {
        char text[256];
        size_t length;
        if (!failed(raw_path_readlink(fd, path, len, text, sizeof text, &length))) say("to:%.*s", (int)length, text);
        return;
    }
    if (is(op, "mkdir")) code = raw_path_create_directory(fd, path, len);
    else if (is(op, "rmdir")) code = raw_path_remove_directory(fd, path, len);
    else if (is(op, "unlink")) code = raw_path_unlink_file(fd, path, len);
    else if (is(op, "symlink")) code = raw_path_symlink(step->args[0].at, step->args[0].len, fd, path, len);
    else if (is(op, "link")) code = raw_path_link(fd, 0, path, len, other, to.at, to.len);
    else if (is(op, "rename")) code = raw_path_rename(fd, path, len, other, to.at, to.len);
    else if (is(op, "times"))
        code = raw_path_times(fd, __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW, path, len, 0, 0,
                              __WASI_FSTFLAGS_ATIM_NOW | __WASI_FSTFLAGS_MTIM_NOW);
    else {
        said("no-such-step");
        return;
    }
    said(error_name(code));
}

void perform(step_t *step) {
    const char *op = step->op;
    bytes_t first = step->count ? step->args[0] : (bytes_t){"", 0};
    if (is(op, "env")) {
        const char *value = getenv(first.at);
        said(value ? value : "none");
    } else if (is(op, "args")) {
        size_t used = 0;
        for (int i = 0; i < argument_count; i++)
            used += snprintf(word + used, WORDS - used, "%s%s", i ? "," : "", arguments[i]);
    } else if (is(op, "stdin")) {
        read_(0);
    } else if (is(op, "stdout") || is(op, "stderr")) {
        write_(is(op, "stdout") ? 1 : 2, first);
    } else if (is(op, "exit")) {
        exit(atoi(first.at));
    } else if (is(op, "see")) {
        see(arguments[0]);
    } else if (is(op, "open")) {
        if (open_(step, step->args[1].at) >= 0) said("ok");
    } else if (is(op, "read")) {
        read_(open_(step, "r"));
    } else if (is(op, "write")) {
        int fd = open_(step, "wct");
        if (fd >= 0) write_(fd, step->args[1]);
    } else if (is(op, "resize")) {
        int fd = open_(step, "w");
        if (fd >= 0) said(error_name(__wasi_fd_filestat_set_size(fd, number(step, 1))));
    } else if (is(op, "list")) {
        list(open_(step, "rd"));
    } else {
        files(step);
    }
}
