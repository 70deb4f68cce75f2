/* Preloaded into a process (LD_PRELOAD): every call by which it changes files under one folder goes
 * through here, SQLite's and the interpreter's alike. From torture_begin() on calls are counted, the
 * n-th fails or does half of its work, and what was done is written to a log, with the data, from
 * which tests/torture/disk_model.py rebuilds what a disk may hold after a power cut.
 *
 * From there on the process also gets the same random bytes, times and process id each time, so that
 * the same step writes the same bytes and what it leaves can be compared.
 *
 * Not seen: what is written through a mapping. A mapping that could is in the log (MAPPED), and a
 * test holds that only SQLite's -shm files are mapped so. Calls that libc makes inside itself (of
 * fopen's streams) are not seen either; replaying the whole log and comparing shows what is missing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum operation {
    OP_WRITE = 1, OP_TRUNCATE, OP_SYNC, OP_CREATE, OP_LINK, OP_RENAME, OP_EXCHANGE, OP_UNLINK,
    OP_MKDIR, OP_RMDIR, OP_MARK, OP_MAPPED, OP_FAULT, OP_ALLOCATE, OP_SYMLINK
};

/* What the call does, so that a full disk refuses only what takes room. */
enum kind { WRITES, SYNCS, NAMES, FREES };

enum mode { MODE_NONE, MODE_EIO, MODE_EIO_ON, MODE_ENOSPC, MODE_ENOSPC_ON, MODE_SHORT, MODE_FULL,
            MODE_KILL };

struct record {
    uint32_t magic;
    uint16_t operation;
    uint16_t error; /* errno of a call that failed, 0 else */
    uint64_t inode;
    int64_t offset; /* of a write; the new size of a truncation; flags of a SYNC: 1 for a folder */
    uint32_t first, second; /* bytes that follow: data or path, second path */
};

static char root[PATH_MAX];
static size_t root_length;
static int log_descriptor = -1;
static long count, nth;
static char places[65536]; /* what each counted call was, for the plan of what to try at it */
static enum mode mode;
static uint64_t seed, drawn; /* of random bytes, and how many words of them were given */
static int64_t epoch, ticks; /* seconds at the beginning, and how often somebody asked */
static volatile int active;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(name) *real_##name; \
    if (!real_##name) real_##name = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void say(int operation, int error, uint64_t inode, int64_t offset, const void *first,
                size_t first_length, const void *second, size_t second_length)
{
    struct record head = {0x4c544f52, (uint16_t)operation, (uint16_t)error, inode, offset,
                          (uint32_t)first_length, (uint32_t)second_length};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)first, first_length},
                             {(void *)second, second_length}};
    size_t wanted = sizeof head + first_length + second_length;

    if (log_descriptor < 0)
        return;
    /* The log lies outside of the folder, in memory: whatever happens there is no fault of the disk. */
    if (syscall(SYS_writev, log_descriptor, parts, 3) != (long)wanted)
        abort();
}

static int inside(const char *path)
{
    return strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == '\0');
}

static int path_of(int descriptor, char *out)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    long length = syscall(SYS_readlinkat, AT_FDCWD, name, out, PATH_MAX - 1);
    if (length < 0)
        return 0;
    out[length] = '\0';
    return 1;
}

/* Say whether a descriptor is a file or folder under the root, and which. */
static int tracked(int descriptor, struct stat *status, char *path)
{
    char own[PATH_MAX];
    int kept = errno, found = 0;

    if (!active || descriptor == log_descriptor)
        return 0;
    if (!path)
        path = own;
    if (path_of(descriptor, path) && inside(path) && fstat(descriptor, status) == 0)
        found = S_ISREG(status->st_mode) || S_ISDIR(status->st_mode);
    errno = kept;
    return found;
}

/* Put the whole path into out and say whether it lies under the root. */
static int named(int folder, const char *path, char *out)
{
    char above[PATH_MAX];
    int kept = errno, found = 0;

    if (!active || !path)
        return 0;
    if (path[0] == '/') {
        found = snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    } else if (folder == AT_FDCWD ? getcwd(above, sizeof above) != NULL : path_of(folder, above)) {
        found = snprintf(out, PATH_MAX, "%s/%s", above, path) < PATH_MAX;
    }
    errno = kept;
    return found && inside(out);
}

/* Count a call and say what happens to it: 0 to carry it out, else errno; *half asks for a part. */
static int verdict(enum kind kind, const char *what, int *half)
{
    int due, error = 0;

    if ((size_t)count < sizeof places)
        places[count] = half ? 'w' : kind == FREES || kind == SYNCS ? 's' : 'r';
    count++;
    due = nth && (count == nth || (count > nth && (mode == MODE_EIO_ON || mode == MODE_ENOSPC_ON ||
                                                   mode == MODE_FULL)));
    if (!due)
        return 0;
    switch (mode) {
    case MODE_EIO:
    case MODE_EIO_ON:
        error = EIO;
        break;
    case MODE_ENOSPC:
    case MODE_ENOSPC_ON:
        error = kind == FREES || kind == SYNCS ? 0 : ENOSPC;
        break;
    case MODE_FULL: /* what there is room for is written, the rest refused */
        if (kind == WRITES && count == nth && half)
            *half = 1;
        else
            error = kind == FREES || kind == SYNCS ? 0 : ENOSPC;
        break;
    case MODE_SHORT:
        if (half)
            *half = 1;
        break;
    case MODE_KILL:
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
        pause();
        break;
    default:
        break;
    }
    if (!error && !(half && *half))
        return 0; /* this mode does nothing to this call */
    say(OP_FAULT, error, 0, count, what, strlen(what), NULL, 0);
    return error;
}

/* What tests call. */

__attribute__((visibility("default"))) void torture_begin(const char *folder, const char *log,
                                                          long fail_at, int how,
                                                          uint64_t random, int64_t began)
{
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    nth = fail_at;
    mode = (enum mode)how;
    count = 0;
    seed = random;
    epoch = began;
    drawn = ticks = 0;
    if (log && *log)
        log_descriptor = (int)syscall(SYS_openat, AT_FDCWD, log,
                                      O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    active = 1;
}

__attribute__((visibility("default"))) long torture_count(void)
{
    return count;
}

/* What the n-th counted call was: w writes, r takes room otherwise, s takes none, 0 unknown. */
__attribute__((visibility("default"))) int torture_place(long number)
{
    return number > 0 && number <= count && (size_t)number <= sizeof places ? places[number - 1] : 0;
}

__attribute__((visibility("default"))) void torture_mark(const char *text)
{
    pthread_mutex_lock(&guard);
    say(OP_MARK, 0, 0, 0, text, strlen(text), NULL, 0);
    pthread_mutex_unlock(&guard);
}

/* Random bytes, times, the process */

static uint64_t word(void)
{
    /* splitmix64 (Steele, Lea, Flood 2014): any counter gives words that look random. */
    uint64_t z = seed + 0x9e3779b97f4a7c15u * __atomic_add_fetch(&drawn, 1, __ATOMIC_RELAXED);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *out, size_t size, unsigned int flags)
{
    if (!active)
        return syscall(SYS_getrandom, out, size, flags);
    for (size_t at = 0; at < size; at += 8) {
        uint64_t next = word();
        memcpy((char *)out + at, &next, size - at < 8 ? size - at : 8);
    }
    return (ssize_t)size;
}

/* Each look at the clock takes a millisecond. */
static int64_t clock_ns(void)
{
    return epoch * 1000000000 + __atomic_add_fetch(&ticks, 1, __ATOMIC_RELAXED) * 1000000;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    REAL(clock_gettime);
    if (!active || clock != CLOCK_REALTIME)
        return real_clock_gettime(clock, out);
    int64_t now = clock_ns();
    out->tv_sec = now / 1000000000;
    out->tv_nsec = now % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *out, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

pid_t getpid(void)
{
    return active ? 4242 : (pid_t)syscall(SYS_getpid);
}

/* Writes */

static ssize_t write_some(int descriptor, const struct stat *status, const void *data, size_t size,
                          off_t offset, int positioned, const char *what)
{
    REAL(pwrite64);
    REAL(write);
    int half = 0, error;
    ssize_t done = -1;

    pthread_mutex_lock(&guard);
    error = verdict(WRITES, what, &half);
    if (half)
        size = (size + 1) / 2;
    if (!error) {
        if (!positioned) {
            struct stat now = *status;
            offset = lseek(descriptor, 0, SEEK_CUR);
            if ((fcntl(descriptor, F_GETFL) & O_APPEND) && fstat(descriptor, &now) == 0)
                offset = now.st_size;
            done = real_write(descriptor, data, size);
        } else {
            done = real_pwrite64(descriptor, data, size, offset);
        }
        error = done < 0 ? errno : 0;
    }
    say(OP_WRITE, error, status->st_ino, offset, data, done > 0 ? (size_t)done : 0, NULL, 0);
    pthread_mutex_unlock(&guard);
    if (error)
        errno = error;
    return done;
}

static ssize_t write_parts(int descriptor, const struct stat *status, const struct iovec *parts,
                           int number, off_t offset, int positioned, const char *what)
{
    size_t size = 0, at = 0;
    for (int i = 0; i < number; i++)
        size += parts[i].iov_len;
    char *joined = malloc(size ? size : 1);
    if (!joined)
        abort();
    for (int i = 0; i < number; i++) {
        memcpy(joined + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    ssize_t done = write_some(descriptor, status, joined, size, offset, positioned, what);
    int kept = errno;
    free(joined);
    errno = kept;
    return done;
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    REAL(write);
    struct stat status;
    if (!tracked(descriptor, &status, NULL))
        return real_write(descriptor, data, size);
    return write_some(descriptor, &status, data, size, 0, 0, "write");
}

#define PWRITE(name, type) \
    ssize_t name(int descriptor, const void *data, size_t size, type offset) \
    { \
        REAL(name); \
        struct stat status; \
        if (!tracked(descriptor, &status, NULL)) \
            return real_##name(descriptor, data, size, offset); \
        return write_some(descriptor, &status, data, size, offset, 1, "pwrite"); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int descriptor, const struct iovec *parts, int number)
{
    REAL(writev);
    struct stat status;
    if (!tracked(descriptor, &status, NULL))
        return real_writev(descriptor, parts, number);
    return write_parts(descriptor, &status, parts, number, 0, 0, "writev");
}

#define PWRITEV(name, type) \
    ssize_t name(int descriptor, const struct iovec *parts, int number, type offset) \
    { \
        REAL(name); \
        struct stat status; \
        if (!tracked(descriptor, &status, NULL)) \
            return real_##name(descriptor, parts, number, offset); \
        return write_parts(descriptor, &status, parts, number, offset, 1, "pwritev"); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define PWRITEV2(name, type) \
    ssize_t name(int descriptor, const struct iovec *parts, int number, type offset, int flags) \
    { \
        REAL(name); \
        struct stat status; \
        if (!tracked(descriptor, &status, NULL)) \
            return real_##name(descriptor, parts, number, offset, flags); \
        return write_parts(descriptor, &status, parts, number, offset, offset != -1, "pwritev2"); \
    }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

/* Bytes that go from file to file inside the kernel are read here first, so that the log has them. */
static ssize_t copy_some(int out, const struct stat *status, off64_t *out_at, int in, off64_t *in_at,
                         size_t size, const char *what)
{
    char buffer[65536];
    size_t wanted = size < sizeof buffer ? size : sizeof buffer;
    ssize_t got = in_at ? pread64(in, buffer, wanted, *in_at) : read(in, buffer, wanted);
    if (got <= 0)
        return got;
    ssize_t done = write_some(out, status, buffer, (size_t)got, out_at ? *out_at : 0, out_at != NULL,
                              what);
    ssize_t moved = done < 0 ? 0 : done;
    if (!in_at && moved < got)
        lseek64(in, moved - got, SEEK_CUR);
    if (in_at)
        *in_at += moved;
    if (out_at)
        *out_at += moved;
    return done;
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t size,
                        unsigned int flags)
{
    REAL(copy_file_range);
    struct stat status;
    if (!tracked(out, &status, NULL))
        return real_copy_file_range(in, in_at, out, out_at, size, flags);
    return copy_some(out, &status, out_at, in, in_at, size, "copy_file_range");
}

#define SENDFILE(name, type) \
    ssize_t name(int out, int in, type *in_at, size_t size) \
    { \
        REAL(name); \
        struct stat status; \
        if (!tracked(out, &status, NULL)) \
            return real_##name(out, in, in_at, size); \
        return copy_some(out, &status, NULL, in, (off64_t *)in_at, size, "sendfile"); \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

/* Sizes */

static int change_size(int descriptor, const char *path, const struct stat *status, off_t size)
{
    REAL(ftruncate64);
    REAL(truncate64);
    int done = -1, error;
    pthread_mutex_lock(&guard);
    error = verdict(size > status->st_size ? WRITES : FREES, "ftruncate", NULL);
    if (!error) {
        done = path ? real_truncate64(path, size) : real_ftruncate64(descriptor, size);
        error = done ? errno : 0;
    }
    say(OP_TRUNCATE, error, status->st_ino, size, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&guard);
    if (error)
        errno = error;
    return done;
}

#define FTRUNCATE(name, type) \
    int name(int descriptor, type size) \
    { \
        REAL(name); \
        struct stat status; \
        if (!tracked(descriptor, &status, NULL)) \
            return real_##name(descriptor, size); \
        return change_size(descriptor, NULL, &status, size); \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define TRUNCATE(name, type) \
    int name(const char *path, type size) \
    { \
        REAL(name); \
        char whole[PATH_MAX]; \
        struct stat status; \
        if (!named(AT_FDCWD, path, whole) || stat(whole, &status)) \
            return real_##name(path, size); \
        return change_size(-1, whole, &status, size); \
    }
TRUNCATE(truncate, off_t)
TRUNCATE(truncate64, off64_t)

static int allocate(int descriptor, const struct stat *status, int how, off64_t offset, off64_t size)
{
    REAL(fallocate64);
    int done = -1, error;
    pthread_mutex_lock(&guard);
    error = verdict(WRITES, "fallocate", NULL);
    if (!error) {
        done = real_fallocate64(descriptor, how, offset, size);
        error = done ? errno : 0;
    }
    if (how & ~FALLOC_FL_KEEP_SIZE)
        abort(); /* holes and the like are not in the model */
    say(OP_ALLOCATE, error, status->st_ino, how ? 0 : offset + size, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&guard);
    if (error)
        errno = error;
    return done;
}

#define FALLOCATE(name, type) \
    int name(int descriptor, int how, type offset, type size) \
    { \
        REAL(name); \
        struct stat status; \
        if (!tracked(descriptor, &status, NULL)) \
            return real_##name(descriptor, how, offset, size); \
        return allocate(descriptor, &status, how, offset, size); \
    }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

#define POSIX_FALLOCATE(name, type) \
    int name(int descriptor, type offset, type size) \
    { \
        REAL(name); \
        struct stat status; \
        if (!tracked(descriptor, &status, NULL)) \
            return real_##name(descriptor, offset, size); \
        int kept = errno, error = allocate(descriptor, &status, 0, offset, size) ? errno : 0; \
        errno = kept; \
        return error; \
    }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

/* Syncs */

#define SYNC(name) \
    int name(int descriptor) \
    { \
        REAL(name); \
        struct stat status; \
        char path[PATH_MAX]; \
        if (!tracked(descriptor, &status, path)) \
            return real_##name(descriptor); \
        pthread_mutex_lock(&guard); \
        int done = -1, error = verdict(SYNCS, #name, NULL); \
        if (!error) { \
            done = real_##name(descriptor); \
            error = done ? errno : 0; \
        } \
        say(OP_SYNC, error, status.st_ino, S_ISDIR(status.st_mode), path, strlen(path), NULL, 0); \
        pthread_mutex_unlock(&guard); \
        if (error) \
            errno = error; \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

/* Names */

static int opened(int folder, const char *path, int flags, mode_t bits)
{
    char whole[PATH_MAX];
    struct stat status;
    int descriptor = -1, error = 0, there;

    if (active && strcmp(path, "/dev/urandom") == 0) /* SQLite asks once, and has its own generator */
        path = "/dev/zero";
    if (!(flags & (O_CREAT | O_TRUNC)) || !named(folder, path, whole))
        return (int)syscall(SYS_openat, folder, path, flags, bits);
    pthread_mutex_lock(&guard);
    there = fstatat(AT_FDCWD, whole, &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && (flags & O_CREAT))
        error = verdict(NAMES, "open", NULL);
    else if (there && (flags & O_TRUNC) && S_ISREG(status.st_mode))
        error = verdict(FREES, "open", NULL);
    if (!error) {
        descriptor = (int)syscall(SYS_openat, folder, path, flags, bits);
        error = descriptor < 0 ? errno : 0;
    }
    if (descriptor >= 0 && fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) {
        if (!there)
            say(OP_CREATE, 0, status.st_ino, 0, whole, strlen(whole), NULL, 0);
        else if (flags & O_TRUNC)
            say(OP_TRUNCATE, 0, status.st_ino, 0, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&guard);
    if (error)
        errno = error;
    return descriptor;
}

#define MODE_OF(last) \
    mode_t bits = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        bits = va_arg(more, mode_t); \
        va_end(more); \
    }
int open(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, bits); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, bits); }
int openat(int folder, const char *path, int flags, ...) { MODE_OF(flags) return opened(folder, path, flags, bits); }
int openat64(int folder, const char *path, int flags, ...) { MODE_OF(flags) return opened(folder, path, flags, bits); }
int creat(const char *path, mode_t bits) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, bits); }
int creat64(const char *path, mode_t bits) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, bits); }

/* A call that changes one name or two, by its system call; paths are whole. */
static int change_name(int operation, enum kind kind, const char *what, long number, long a, long b,
                       long c, long d, long e, const char *first, const char *second)
{
    struct stat status = {0};
    int error, done = -1;
    pthread_mutex_lock(&guard);
    fstatat(AT_FDCWD, first, &status, AT_SYMLINK_NOFOLLOW);
    error = verdict(kind, what, NULL);
    if (!error) {
        done = (int)syscall(number, a, b, c, d, e);
        error = done ? errno : 0;
    }
    if (!error && operation == OP_MKDIR)
        fstatat(AT_FDCWD, first, &status, AT_SYMLINK_NOFOLLOW);
    say(operation, error, status.st_ino, 0, first, strlen(first), second, second ? strlen(second) : 0);
    pthread_mutex_unlock(&guard);
    if (error)
        errno = error;
    return done;
}

int renameat2(int from, const char *old, int to, const char *new, unsigned int flags)
{
    char first[PATH_MAX], second[PATH_MAX];
    int inside_one = named(from, old, first), inside_other = named(to, new, second);
    if (!inside_one && !inside_other)
        return (int)syscall(SYS_renameat2, from, old, to, new, flags);
    return change_name(flags & RENAME_EXCHANGE ? OP_EXCHANGE : OP_RENAME, NAMES, "rename",
                       SYS_renameat2, from, (long)old, to, (long)new, flags, first, second);
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    char first[PATH_MAX], second[PATH_MAX];
    if (!named(to, new, second) || !named(from, old, first))
        return (int)syscall(SYS_linkat, from, old, to, new, flags);
    return change_name(OP_LINK, NAMES, "link", SYS_linkat, from, (long)old, to, (long)new, flags,
                       first, second);
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int folder, const char *path, int flags)
{
    char whole[PATH_MAX];
    if (!named(folder, path, whole))
        return (int)syscall(SYS_unlinkat, folder, path, flags);
    return change_name(flags & AT_REMOVEDIR ? OP_RMDIR : OP_UNLINK, FREES, "unlink", SYS_unlinkat,
                       folder, (long)path, flags, 0, 0, whole, NULL);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path)
{
    int done = unlinkat(AT_FDCWD, path, 0);
    return done && errno == EISDIR ? unlinkat(AT_FDCWD, path, AT_REMOVEDIR) : done;
}

int mkdirat(int folder, const char *path, mode_t bits)
{
    char whole[PATH_MAX];
    if (!named(folder, path, whole))
        return (int)syscall(SYS_mkdirat, folder, path, bits);
    return change_name(OP_MKDIR, NAMES, "mkdir", SYS_mkdirat, folder, (long)path, (long)bits, 0, 0,
                       whole, NULL);
}
int mkdir(const char *path, mode_t bits) { return mkdirat(AT_FDCWD, path, bits); }

int symlinkat(const char *target, int folder, const char *path)
{
    char whole[PATH_MAX];
    if (!named(folder, path, whole))
        return (int)syscall(SYS_symlinkat, target, folder, path);
    return change_name(OP_SYMLINK, NAMES, "symlink", SYS_symlinkat, (long)target, folder, (long)path,
                       0, 0, whole, target);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

/* Mappings through which a file can be written are told, and counted as no call. */

#define MMAP(name, type) \
    void *name(void *at, size_t size, int protection, int flags, int descriptor, type offset) \
    { \
        REAL(name); \
        struct stat status; \
        char path[PATH_MAX]; \
        if (descriptor >= 0 && (flags & MAP_TYPE) != MAP_PRIVATE && (protection & PROT_WRITE) && \
            tracked(descriptor, &status, path)) { \
            pthread_mutex_lock(&guard); \
            say(OP_MAPPED, 0, status.st_ino, 0, path, strlen(path), NULL, 0); \
            pthread_mutex_unlock(&guard); \
        } \
        return real_##name(at, size, protection, flags, descriptor, offset); \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)
