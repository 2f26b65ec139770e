/* Makes calls on files below FAULT_UNDER fail at random (open, write, fsync, rename, unlink), and with FAULT_CLOCK the
   wall clock jump. Seeded: the draws follow from FAULT_SEED and the number of the call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static uint64_t calls;

static uint64_t draw(void) { /* splitmix64 of seed and call number */
    const char *seed = getenv("FAULT_SEED");
    uint64_t z = (seed ? strtoull(seed, 0, 10) : 0) * 0x9E3779B97F4A7C15ull +
                 __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) * 0xD1B54A32D192ED03ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static int fails(const char *path) {
    const char *under = getenv("FAULT_UNDER"), *rate = getenv("FAULT_PER_MILLE");
    if (!under || !rate || !path || strncmp(path, under, strlen(under))) return 0;
    uint64_t drawn = draw();
    if (drawn % 1000 >= strtoull(rate, 0, 10)) return 0;
    static const int kinds[] = {EIO, ENOSPC, EDQUOT, EROFS};
    errno = kinds[(drawn >> 32) % 4];
    return 1;
}

static int descriptor_fails(int fd) {
    if (!getenv("FAULT_UNDER")) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fails(path);
}

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)
#define OPEN(name)                                          \
    int name(const char *path, int flags, ...) {            \
        mode_t mode = 0;                                    \
        if (flags & O_CREAT) {                              \
            va_list rest;                                   \
            va_start(rest, flags);                          \
            mode = va_arg(rest, mode_t);                    \
            va_end(rest);                                   \
        }                                                   \
        if ((flags & O_ACCMODE) != O_RDONLY && fails(path)) return -1; \
        return REAL(name, path, flags, mode);               \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size) {
    if (descriptor_fails(fd)) return -1;
    return REAL(write, fd, data, size);
}
int fsync(int fd) { return descriptor_fails(fd) ? -1 : REAL(fsync, fd); }
int rename(const char *from, const char *to) { return fails(to) ? -1 : REAL(rename, from, to); }
int unlink(const char *path) { return fails(path) ? -1 : REAL(unlink, path); }

static time_t jump(void) { /* every third look at the clock it has jumped anew, by up to a year, forth or back */
    static time_t by;
    if (!getenv("FAULT_CLOCK")) return 0;
    uint64_t drawn = draw();
    if (drawn % 3 == 0) by = (time_t)((drawn >> 8) % 63072000) - 31536000;
    return by;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int code = REAL(clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME && !code) now->tv_sec += jump();
    return code;
}
time_t time(time_t *now) {
    time_t is = REAL(time, 0) + jump();
    if (now) *now = is;
    return is;
}
