/* Held files, registered by their descriptors. */
#include "storage/io/held.h"

#include <assert.h>
#include <stdio.h>
#include <sys/resource.h>

enum { NOT_HELD, UNREGISTERED, REGISTERED };

void stele_held_init(struct stele_held *h, struct io_uring *ring, bool registers)
{
	*h = (struct stele_held){.ring = ring, .registers = registers};
}

static unsigned state_of(const struct stele_held *h, int fd)
{
	return fd >= 0 && fd < STELE_HELD_MAX
	           ? atomic_load_explicit(&h->state[fd], memory_order_relaxed)
	           : NOT_HELD;
}

bool stele_held_has(const struct stele_held *h, int fd)
{
	return state_of(h, fd) != NOT_HELD;
}

bool stele_held_is_registered(const struct stele_held *h, int fd)
{
	return state_of(h, fd) == REGISTERED;
}

/* Most envs hold no file: the table is made for the first. */
static uint32_t slots(struct stele_held *h)
{
	if (h->slots || !h->registers)
		return h->slots;
	/* the limit is the kernel's for the table, too; liburing would raise it for us */
	struct rlimit limit;
	uint32_t n = STELE_HELD_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < n)
		n = (uint32_t)limit.rlim_cur;
	h->registers = n > 0 && io_uring_register_files_sparse(h->ring, n) == 0; /* 5.19 */
	h->slots = h->registers ? n : 0;
	return h->slots;
}

/* Tells the kernel which file has that number. */
static bool tell(struct stele_held *h, int slot, int fd)
{
	return io_uring_register_files_update(h->ring, (unsigned)slot, &fd, 1) == 1;
}

void stele_held_add(struct stele_held *h, int fd)
{
	assert(fd >= 0 && !stele_held_has(h, fd));
	h->all_n++;
	if (fd >= STELE_HELD_MAX)
		return;
	bool registered = (uint32_t)fd < slots(h) && tell(h, fd, fd);
	h->registered_n += registered;
	atomic_store_explicit(&h->state[fd], registered ? REGISTERED : UNREGISTERED,
	                      memory_order_relaxed);
}

/* Entries that the kernel has not taken yet (it was short of memory, say) would name the file's number, and
 * fail, or find the next file there: they name the descriptor instead, which is the same number. */
static void make_plain(struct io_uring *ring, int fd)
{
	for (unsigned i = io_uring_sq_ready(ring); i > 0; i--) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[(ring->sq.sqe_tail - i) & ring->sq.ring_mask];
		if (sqe->fd == fd)
			sqe->flags &= (uint8_t)~IOSQE_FIXED_FILE;
	}
}

void stele_held_remove(struct stele_held *h, int fd)
{
	assert(h->all_n > 0 && (fd >= STELE_HELD_MAX || stele_held_has(h, fd)));
	h->all_n--;
	if (stele_held_is_registered(h, fd)) {
		make_plain(h->ring, fd);
		(void)tell(
		    h, fd,
		    -1); /* short of memory, it keeps the file until the number comes again */
		h->registered_n--;
	}
	if (fd < STELE_HELD_MAX)
		atomic_store_explicit(&h->state[fd], NOT_HELD, memory_order_relaxed);
}

void stele_held_describe(const struct stele_held *h, char *out, size_t size)
{
	const char *plural = h->all_n == 1 ? "" : "s";
	if (h->all_n == 0)
		snprintf(out, size, "no files");
	else if (h->registered_n < h->all_n)
		snprintf(out, size, "%u of %u file%s", h->registered_n, h->all_n, plural);
	else
		snprintf(out, size, "%u file%s", h->all_n, plural);
}
