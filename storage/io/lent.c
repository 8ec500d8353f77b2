/* Lent memory and RLIMIT_MEMLOCK. */
#include "storage/io/lent.h"

#include <linux/capability.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEN_MIN ((size_t)64 << 10) /* less would rarely be met by an operation */
#define LEN_MAX ((size_t)1 << 30)  /* the kernel's, for one buffer */
/*
 * The limit is a user's, over all processes. Rings count against it too (from 6.14 on), and a process
 * that gets no ring is worse off on threads than one without registered buffers: so take little.
 */
#define LIMIT_SHARE 16u

static atomic_size_t lent_bytes; /* of all rings of this process */

/* Does the limit not count for us? */
static bool is_privileged(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {0};
	return syscall(SYS_capget, &head, caps) == 0 &&
	       caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

/* How much more this process may register. */
static size_t bytes_left(void)
{
	struct rlimit limit;
	if (is_privileged() || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
	    limit.rlim_cur == RLIM_INFINITY)
		return SIZE_MAX;
	size_t share = limit.rlim_cur / LIMIT_SHARE, used = atomic_load(&lent_bytes);
	return used < share ? share - used : 0;
}

void stele_lent_init(struct stele_lent *l, struct io_uring *ring, bool registers)
{
	*l = (struct stele_lent){.ring = ring};
	if (!registers)
		l->why_not = "as asked";
	else if (io_uring_register_buffers_sparse(ring, STELE_LENT_MAX) < 0)
		l->why_not = "the kernel is too old"; /* 5.19 */
	if (l->why_not)
		l->ring = NULL;
}

void stele_lent_finish(struct stele_lent *l)
{
	for (uint32_t i = 0; i < STELE_LENT_MAX; i++)
		atomic_fetch_sub(&lent_bytes, l->region[i].len);
}

/* Tells the kernel what lies at number i. */
static bool tell(struct stele_lent *l, uint32_t i, void *base, size_t len)
{
	const struct iovec iov = {.iov_base = base, .iov_len = len};
	const __u64 tag = 0;
	return io_uring_register_buffers_update_tag(l->ring, i, &iov, &tag, 1) == 1;
}

static int index_of(const struct stele_lent *l, const void *base)
{
	for (uint32_t i = 0; i < STELE_LENT_MAX; i++)
		if (l->region[i].base == base)
			return (int)i;
	return -1;
}

void stele_lent_add(struct stele_lent *l, void *base, size_t len)
{
	int i = index_of(l, base);
	if (i >= 0)
		l->region[i].uses++;
	if (i >= 0 || !l->ring || (i = index_of(l, NULL)) < 0)
		return;
	size_t left = bytes_left(), n = len < LEN_MAX ? len : LEN_MAX;
	if (left < n) {
		n = left / STELE_PAGE * STELE_PAGE;
		/* of a huge page all counts, however little of it is pinned */
		(void)madvise(base, n, MADV_NOHUGEPAGE);
	}
	while (n >= LEN_MIN && !tell(l, (uint32_t)i, base, n))
		n = n / 2 / STELE_PAGE * STELE_PAGE;
	if (n < len)
		l->why_not = "RLIMIT_MEMLOCK";
	if (n < LEN_MIN)
		return;
	l->region[i].base = base;
	l->region[i].len = n;
	l->region[i].uses = 1;
	atomic_fetch_add(&lent_bytes, n);
}

void stele_lent_remove(struct stele_lent *l, const void *base)
{
	int i = index_of(l, base);
	if (i < 0 || --l->region[i].uses > 0)
		return;
	bool told = tell(l, (uint32_t)i, NULL, 0);
	atomic_fetch_sub(&lent_bytes, l->region[i].len);
	l->region[i].base =
	    told ? NULL
	         : (uint8_t *)l; /* short of memory, it pins those pages on: that number is spent */
	l->region[i].len = 0;
}

int stele_lent_find(const struct stele_lent *l, const void *base, size_t len)
{
	for (uint32_t i = 0; i < STELE_LENT_MAX; i++) {
		uintptr_t at = (uintptr_t)base - (uintptr_t)l->region[i].base;
		if (at < l->region[i].len && len <= l->region[i].len - at)
			return (int)i;
	}
	return -1;
}

void stele_lent_describe(const struct stele_lent *l, char *out, size_t size)
{
	size_t all = 0;
	for (uint32_t i = 0; i < STELE_LENT_MAX; i++)
		all += l->region[i].len;
	if (all == 0)
		snprintf(out, size, "no buffers (%s)", l->why_not ? l->why_not : "none lent");
	else if (l->why_not)
		snprintf(out, size, "%zu KiB of buffers (%s)", all >> 10, l->why_not);
	else
		snprintf(out, size, "%zu KiB of buffers", all >> 10);
}
