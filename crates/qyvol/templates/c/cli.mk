# The clang of the WASI SDK where WASI_SDK_PATH leads, or Debian's: clang lld
# wasi-libc, and libclang-rt-14-dev-wasm32 or the one of its clang's version.
ifdef WASI_SDK_PATH
WASI_CC = $(WASI_SDK_PATH)/bin/clang --target=wasm32-wasip1
else
WASI_CC = clang --target=wasm32-wasi --sysroot=/usr
endif

app.wasm: main.c app.c app.h
	$(WASI_CC) -O2 -s -Wall -o $@ $(filter %.c,$^)

# On this machine, without WebAssembly.
test: test.c app.c app.h
	$(CC) -Wall -o test-app test.c app.c
	./test-app

.PHONY: test
