/* Runs a command instruction by instruction and writes the address of each one
 * that is new, in the order of their first execution: step FILE COMMAND ARG... */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* The command is linked at a fixed address below this. */
#define END 0x8000000UL

int main(int argc, char **argv) {
    unsigned char *seen = calloc(END, 1);
    FILE *out = argc > 2 ? fopen(argv[1], "w") : NULL;
    pid_t child;
    int status;
    if (!seen || !out) return 2;
    child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        struct user_regs_struct registers;
        int signal = WSTOPSIG(status);
        if (ptrace(PTRACE_GETREGS, child, 0, &registers)) break;
        if (registers.rip < END && !seen[registers.rip]) {
            seen[registers.rip] = 1;
            fprintf(out, "%llx\n", registers.rip);
        }
        if (signal == 5) signal = 0; /* SIGTRAP, of the step itself */
        if (ptrace(PTRACE_SINGLESTEP, child, 0, signal)) break;
    }
    return fclose(out) || !WIFEXITED(status) ? 1 : WEXITSTATUS(status);
}
