/* Preloaded into a process, it lets the N-th call that changes something below a folder fail, or ends the process there.
 *
 * A call that writes does half of its work first, as a disk does that fills up. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long at;
static int error, journal = -1;
static atomic_long count;
static atomic_int armed;

/* Let call `number` (from 1; 0: none) below `below` fail with `with` (-1: SIGKILL). `file` gets a line for each call. */
void faults_arm(const char *below, long number, int with, int file) {
    snprintf(folder, sizeof folder, "%s", below);
    at = number, error = with, journal = file;
    atomic_store(&count, 0);
    atomic_store(&armed, 1);
}

static void place(int where, const char *name, char *whole) {
    char link[64], base[PATH_MAX] = "";
    if (name[0] != '/') {
        if (where == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) base[0] = 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", where);
            ssize_t length = readlink(link, base, sizeof base - 1);
            base[length > 0 ? length : 0] = 0;
        }
    }
    snprintf(whole, 2 * PATH_MAX, name[0] && base[0] ? "%s/%s" : "%s%s", base, name);
}

/* Whether this call, which changes `name` ("": the file `where` itself), is the one that fails. */
static int fails(const char *what, int where, const char *name) {
    if (!atomic_load(&armed)) return 0;
    char whole[2 * PATH_MAX], line[2 * PATH_MAX + 32];
    int kept = errno;
    place(where, name, whole);
    size_t length = strlen(folder);
    errno = kept;
    if (strncmp(whole, folder, length) || (whole[length] && whole[length] != '/')) return 0;
    long number = atomic_fetch_add(&count, 1) + 1;
    if (journal >= 0) {
        int size = snprintf(line, sizeof line, "%s %s\n", what, whole[length] ? whole + length + 1 : ".");
        syscall(SYS_write, journal, line, size);
    }
    errno = kept;
    return number == at;
}

static int end(void) {
    if (error < 0) kill(getpid(), SIGKILL);
    errno = error;
    return -1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    if (fails("write", file, "")) {
        if (error != EINTR && size > 1) real(file, data, size / 2);
        return end();
    }
    return real(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    return fails("write", file, "") ? end() : real(file, data, size, offset);
}

ssize_t writev(int file, const struct iovec *parts, int number) {
    REAL(writev);
    return fails("write", file, "") ? end() : real(file, parts, number);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size);
ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    REAL(sendfile64);
    return fails("write", to, "") ? end() : real(to, from, offset, size);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size);
ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
    REAL(sendfile);
    return fails("write", to, "") ? end() : real(to, from, offset, size);
}

ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned int flags) {
    REAL(copy_file_range);
    return fails("write", to, "") ? end() : real(from, a, to, b, size, flags);
}

int unlink(const char *path) {
    REAL(unlink);
    return fails("unlink", AT_FDCWD, path) ? end() : real(path);
}

int rmdir(const char *path) {
    REAL(rmdir);
    return fails("rmdir", AT_FDCWD, path) ? end() : real(path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return fails("mkdir", AT_FDCWD, path) ? end() : real(path, mode);
}

int chmod(const char *path, mode_t mode) {
    REAL(chmod);
    return fails("chmod", AT_FDCWD, path) ? end() : real(path, mode);
}

int unlinkat(int where, const char *path, int flags) {
    REAL(unlinkat);
    return fails(flags & AT_REMOVEDIR ? "rmdir" : "unlink", where, path) ? end() : real(where, path, flags);
}

int mkdirat(int where, const char *path, mode_t mode) {
    REAL(mkdirat);
    return fails("mkdir", where, path) ? end() : real(where, path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return fails("rename", AT_FDCWD, to) ? end() : real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat);
    return fails("rename", b, to) ? end() : real(a, from, b, to);
}

int link(const char *from, const char *to) {
    REAL(link);
    return fails("link", AT_FDCWD, to) ? end() : real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(linkat);
    return fails("link", b, to) ? end() : real(a, from, b, to, flags);
}

int fchmod(int file, mode_t mode) {
    REAL(fchmod);
    return fails("chmod", file, "") ? end() : real(file, mode);
}

int fsync(int file) {
    REAL(fsync);
    return fails("fsync", file, "") ? end() : real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return fails("fsync", file, "") ? end() : real(file);
}

int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    return fails("write", file, "") ? end() : real(file, size);
}

static int opens(int where, const char *path, int flags) {
    return (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) && fails("open", where, path);
}

#define MODE                                                                   \
    mode_t mode = 0;                                                           \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {               \
        va_list more;                                                          \
        va_start(more, flags);                                                 \
        mode = va_arg(more, mode_t);                                           \
        va_end(more);                                                          \
    }

int open(const char *path, int flags, ...) {
    MODE REAL(open);
    return opens(AT_FDCWD, path, flags) ? end() : real(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE REAL(open64);
    return opens(AT_FDCWD, path, flags) ? end() : real(path, flags, mode);
}

int openat(int where, const char *path, int flags, ...) {
    MODE REAL(openat);
    return opens(where, path, flags) ? end() : real(where, path, flags, mode);
}

int openat64(int where, const char *path, int flags, ...) {
    MODE REAL(openat64);
    return opens(where, path, flags) ? end() : real(where, path, flags, mode);
}
