/* Counts the calls that touch files below one folder, and spoils one of them; preloaded by faults.py.
 *
 * Python, Rust (safetensors) and C++ (Arrow) all write through libc, so that one place sees every call. What is mapped
 * into memory is not seen. torture(orders) says what to do: "FOLDER|TRACE|CALL|DEED|ERRNO". TRACE is a file that gets a
 * line for each call, or -; CALL counts from 1, 0 spoils nothing; DEED is one of
 *   once    the call fails with ERRNO
 *   on      so does every later call that changes something, as on a disk that is full or read-only
 *   short   a write, and only that one, writes half of its bytes
 *   kill    SIGKILL before the call, or after half of the bytes of a write
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX], deed[8];
static int trace = -1, number, nothing;
static long chosen;
/* Shared with the processes that this one forks. */
static int *count = &nothing;

void torture(const char *orders) {
    char place[PATH_MAX] = "";
    folder[0] = deed[0] = 0;
    chosen = number = 0;
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sscanf(orders, "%4095[^|]|%4095[^|]|%ld|%7[^|]|%d", folder, place, &chosen, deed, &number);
    trace = strcmp(place, "-") ? open(place, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
}

static int below(const char *path) {
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* The absolute path of a name, as far as the calls of this program need it: links are not followed. */
static const char *whole(int at, const char *name, char *room) {
    if (*name == '/') return name;
    char link[64];
    if (at == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else sprintf(link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, room, PATH_MAX - 1);
    if (length < 0) return "";
    if (*name) length += snprintf(room + length, PATH_MAX - length, "/%s", name);
    room[length < PATH_MAX ? length : PATH_MAX - 1] = 0;
    return room;
}

/* What becomes of a call: 0 it is made, 1 it fails with errno, 2 half of its bytes are written. */
static int fate(const char *call, int changes, int at, const char *name, size_t bytes) {
    char room[PATH_MAX], line[PATH_MAX + 64];
    if (!*folder) return 0;
    const char *path = whole(at, name, room);
    if (!below(path)) return 0;
    int now = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    if (trace >= 0) syscall(SYS_write, trace, line, snprintf(line, sizeof line, "%s\t%s\n", call, path));
    if (!chosen || now < chosen) return 0;
    if (now == chosen && !strcmp(deed, "kill")) {
        if (bytes > 1) return 2;
        kill(getpid(), SIGKILL);
    }
    if (now == chosen && !strcmp(deed, "short")) return bytes > 1 ? 2 : 0;
    if ((now == chosen && !strcmp(deed, "once")) || (!strcmp(deed, "on") && (now == chosen || changes))) {
        /* A full disk can still remove and rename. */
        if (now > chosen && number != EROFS && changes != 2) return 0;
        errno = number;
        return 1;
    }
    return 0;
}

static void maybe_die(void) {
    if (!strcmp(deed, "kill")) kill(getpid(), SIGKILL);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name, at, before, ...)                                                   \
    int name(before const char *path, int flags, ...) {                               \
        mode_t mode = 0;                                                              \
        if (flags & (O_CREAT | O_TMPFILE)) {                                          \
            va_list rest;                                                             \
            va_start(rest, flags);                                                    \
            mode = va_arg(rest, mode_t);                                              \
            va_end(rest);                                                             \
        }                                                                             \
        int changes = (flags & O_CREAT) ? 2 : (flags & O_ACCMODE) != O_RDONLY;        \
        const char *call = changes ? "open to write" : flags & O_DIRECTORY ? "open a folder" : "open to read"; \
        if (fate(call, changes, at, path, 0)) return -1;                              \
        return REAL(name)(__VA_ARGS__ path, flags, mode);                             \
    }
#define COMMA ,
OPEN(open, AT_FDCWD, , )
OPEN(open64, AT_FDCWD, , )
OPEN(openat, at, int at COMMA, at COMMA)
OPEN(openat64, at, int at COMMA, at COMMA)

#define WRITE(name, more, ...)                                                        \
    ssize_t name(int fd, const void *data, size_t size more) {                        \
        switch (fate("write", 2, fd, "", size)) {                                     \
            case 1: return -1;                                                        \
            case 2: size = REAL(name)(fd, data, size / 2 __VA_ARGS__); maybe_die(); return size; \
        }                                                                             \
        return REAL(name)(fd, data, size __VA_ARGS__);                                \
    }
WRITE(write, , )
WRITE(pwrite, COMMA off_t place, COMMA place)
WRITE(pwrite64, COMMA off64_t place, COMMA place)

ssize_t writev(int fd, const struct iovec *parts, int many) {
    switch (fate("write", 2, fd, "", many > 1 ? 2 : 1)) {
        case 1: return -1;
        case 2: many = REAL(writev)(fd, parts, many / 2); maybe_die(); return many;
    }
    return REAL(writev)(fd, parts, many);
}

#define CALL(type, name, what, changes, at, path, parameters, ...)                    \
    type name parameters {                                                            \
        if (fate(what, changes, at, path, 0)) return -1;                              \
        return REAL(name)(__VA_ARGS__);                                               \
    }
CALL(ssize_t, read, "read", 0, fd, "", (int fd, void *data, size_t size), fd, data, size)
CALL(ssize_t, pread, "read", 0, fd, "", (int fd, void *data, size_t size, off_t at), fd, data, size, at)
CALL(ssize_t, pread64, "read", 0, fd, "", (int fd, void *data, size_t size, off64_t at), fd, data, size, at)
CALL(int, fsync, "fsync", 2, fd, "", (int fd), fd)
CALL(int, fdatasync, "fsync", 2, fd, "", (int fd), fd)
CALL(int, rename, "rename", 1, AT_FDCWD, to, (const char *from, const char *to), from, to)
CALL(int, renameat, "rename", 1, b, to, (int a, const char *from, int b, const char *to), a, from, b, to)
CALL(int, mkdir, "mkdir", 2, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
CALL(int, mkdirat, "mkdir", 2, at, path, (int at, const char *path, mode_t mode), at, path, mode)
CALL(int, unlink, "unlink", 1, AT_FDCWD, path, (const char *path), path)
CALL(int, unlinkat, "unlink", 1, at, path, (int at, const char *path, int flags), at, path, flags)
CALL(int, rmdir, "unlink", 1, AT_FDCWD, path, (const char *path), path)
CALL(int, truncate, "truncate", 2, AT_FDCWD, path, (const char *path, off_t size), path, size)
CALL(int, truncate64, "truncate", 2, AT_FDCWD, path, (const char *path, off64_t size), path, size)
CALL(int, ftruncate, "truncate", 2, fd, "", (int fd, off_t size), fd, size)
CALL(int, ftruncate64, "truncate", 2, fd, "", (int fd, off64_t size), fd, size)
CALL(ssize_t, sendfile, "write", 2, to, "", (int to, int from, off_t *place, size_t size), to, from, place, size)
CALL(ssize_t, sendfile64, "write", 2, to, "", (int to, int from, off64_t *place, size_t size), to, from, place, size)
CALL(ssize_t, copy_file_range, "write", 2, to, "", (int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags), from, a, to, b, size, flags)
