/* A guest with the lines of its source, for profiles, core dumps and debuggers: it computes,
   then returns (one argument: its name), traps (two), or goes on for ever (three). It has no
   library, so that it is small. */
__attribute__((import_module("wasi_snapshot_preview1"), import_name("args_sizes_get")))
int args_sizes_get(int *count, int *bytes);

volatile unsigned total;

__attribute__((noinline)) void compute(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) total += i;
}

__attribute__((noinline)) void fail(void) {
    compute(1);
    __builtin_trap();
}

__attribute__((export_name("_start"))) void _start(void) {
    int count = 0, bytes = 0;
    args_sizes_get(&count, &bytes);
    do compute(200 * 1000 * 1000); while (count == 3);
    if (count == 2) fail();
}
