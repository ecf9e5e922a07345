/* Makes every n-th read or write below a folder fail with EIO, as a network mount does: preloaded into a program.

   FAULT_FOLDER names the folder, or what the paths begin with, FAULT_KIND is "read" or "write", FAULT_EVERY is n,
   FAULT_TIMES how often it fails at most (without it, no end); FAULT_LOG counts faults, a byte each. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int calls, faults;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int fails(int descriptor, const char *kind)
{
    const char *folder = getenv("FAULT_FOLDER"), *wanted = getenv("FAULT_KIND"), *every = getenv("FAULT_EVERY");
    const char *times = getenv("FAULT_TIMES");
    char link[64], path[PATH_MAX];
    if (!folder || !wanted || !every || strcmp(kind, wanted) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < 0 || (size_t)length < strlen(folder) || strncmp(path, folder, strlen(folder)) != 0)
        return 0;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) % atoi(every) != 0)
        return 0;
    if (__atomic_add_fetch(&faults, 1, __ATOMIC_SEQ_CST) > (times ? atoi(times) : INT_MAX))
        return 0;
    int log = open(getenv("FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) {
        REAL(write)(log, "x", 1);
        close(log);
    }
    errno = EIO;
    return 1;
}

#define FAILING(result, name, kind, bad, descriptor, arguments, ...) \
    result name(__VA_ARGS__) { return fails(descriptor, kind) ? bad : REAL(name) arguments; }

FAILING(ssize_t, read, "read", -1, fd, (fd, to, size), int fd, void *to, size_t size)
FAILING(ssize_t, pread, "read", -1, fd, (fd, to, size, at), int fd, void *to, size_t size, off_t at)
FAILING(ssize_t, pread64, "read", -1, fd, (fd, to, size, at), int fd, void *to, size_t size, off64_t at)
FAILING(size_t, fread, "read", 0, fileno(file), (to, size, count, file), void *to, size_t size, size_t count, FILE *file)
FAILING(ssize_t, write, "write", -1, fd, (fd, from, size), int fd, const void *from, size_t size)
FAILING(ssize_t, pwrite, "write", -1, fd, (fd, from, size, at), int fd, const void *from, size_t size, off_t at)
FAILING(ssize_t, pwrite64, "write", -1, fd, (fd, from, size, at), int fd, const void *from, size_t size, off64_t at)
FAILING(size_t, fwrite, "write", 0, fileno(file), (from, size, count, file), const void *from, size_t size, size_t count,
        FILE *file)
