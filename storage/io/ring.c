/* The ring: its making, its entries, and what is registered with it. */
#include "storage/io/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage/io/net.h"
#include "storage/io/sys.h"

#define TRANSFER_MAX (1u << 30) /* of one buffer in one submission; longer ones go on */

/* Life */

/* A ring with the best flags that this kernel knows; 0 or a negative errno. */
static int create(struct io_uring *io, uint32_t depth)
{
	static const unsigned ladder[] = {
	    /* completions run when the loop asks for them: 6.1 */
	    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
	    /* no interrupts of the loop, at least: 5.19 */
	    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	    0,
	};
	int r = -EINVAL;
	for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]) && r == -EINVAL; i++) {
		struct io_uring_params params = {
		    .flags = ladder[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE |
		             IORING_SETUP_CLAMP,
		    .cq_entries = 8 * depth,
		};
		r = io_uring_queue_init_params(depth, io, &params);
		const unsigned need = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
		if (r == 0 && (params.features & need) != need) {
			io_uring_queue_exit(io);
			return -ENOSYS;
		}
	}
	return r;
}

int stele_ring_init(struct stele_ring *ring, uint32_t depth, bool registers)
{
	int r = create(&ring->io, depth);
	if (r < 0)
		return r;
	ring->registers = registers;
	stele_lent_init(&ring->lent, &ring->io, registers);
	stele_held_init(&ring->held, &ring->io, registers);
	return 0;
}

/* liburing 2.3 declares io_uring_enable_rings and does not export it. */
void stele_ring_enable(struct stele_ring *ring)
{
	long r = syscall(__NR_io_uring_register, ring->io.ring_fd, IORING_REGISTER_ENABLE_RINGS,
	                 NULL, 0);
	assert(r == 0);
	(void)io_uring_register_ring_fd(&ring->io); /* faster; not on every kernel */
}

void stele_ring_finish(struct stele_ring *ring)
{
	stele_lent_finish(&ring->lent);
	io_uring_queue_exit(&ring->io);
}

/* Entries */

bool stele_ring_is_disk(const struct stele_op *op)
{
	return op->kind == STELE_OP_READV || op->kind == STELE_OP_WRITEV ||
	       op->kind == STELE_OP_SYNC;
}

/* Of the first buffer, as much as one submission moves. */
static unsigned first_len(const struct stele_op *op)
{
	return op->iov->iov_len < TRANSFER_MAX ? (unsigned)op->iov->iov_len : TRANSFER_MAX;
}

static void prep_read(const struct stele_ring *ring, struct io_uring_sqe *sqe,
                      const struct stele_op *op)
{
	uint64_t off = op->off + op->priv.done;
	unsigned n = stele_sys_niov(op), len = first_len(op);
	void *base = op->iov->iov_base;
	int lent = n == 1 ? stele_lent_find(&ring->lent, base, len) : -1;
	if (lent >= 0)
		io_uring_prep_read_fixed(sqe, op->fd, base, len, off, lent);
	else if (n == 1)
		io_uring_prep_read(sqe, op->fd, base, len, off);
	else
		io_uring_prep_readv(sqe, op->fd, op->iov, n, off);
}

static void prep_write(const struct stele_ring *ring, struct io_uring_sqe *sqe,
                       const struct stele_op *op)
{
	uint64_t off = op->off + op->priv.done;
	unsigned n = stele_sys_niov(op), len = first_len(op);
	void *base = op->iov->iov_base;
	int lent = n == 1 ? stele_lent_find(&ring->lent, base, len) : -1;
	if (lent >= 0)
		io_uring_prep_write_fixed(sqe, op->fd, base, len, off, lent);
	else if (n == 1)
		io_uring_prep_write(sqe, op->fd, base, len, off);
	else
		io_uring_prep_writev(sqe, op->fd, op->iov, n, off);
	/* not a linked fsync: a short write would break the chain */
	if (op->flags & STELE_WRITE_DSYNC)
		sqe->rw_flags = RWF_DSYNC;
}

static void prep_message(struct io_uring_sqe *sqe, struct stele_op *op, struct msghdr *msg)
{
	size_t len = op->niov ? op->iov->iov_len : 0;
	bool one = op->niov == 1 && len <= TRANSFER_MAX;
	/* WAITALL has the kernel go on after a short send by itself, where it can */
	int flags = op->kind == STELE_OP_SEND ? MSG_NOSIGNAL | MSG_WAITALL : 0;
	*msg = (struct msghdr){.msg_iov = op->iov, .msg_iovlen = stele_sys_niov(op)};
	if (op->kind == STELE_OP_SEND && one)
		io_uring_prep_send(sqe, op->fd, op->iov->iov_base, len, flags);
	else if (op->kind == STELE_OP_SEND)
		io_uring_prep_sendmsg(sqe, op->fd, msg, (unsigned)flags);
	else if (one)
		io_uring_prep_recv(sqe, op->fd, op->iov->iov_base, len, flags);
	else
		io_uring_prep_recvmsg(sqe, op->fd, msg, (unsigned)flags);
}

static void prep_sync(struct io_uring_sqe *sqe, const struct stele_op *op)
{
	struct stat st; /* when this fails, so will the operation */
	bool is_dir = fstat(op->fd, &st) == 0 && S_ISDIR(st.st_mode);
	io_uring_prep_fsync(sqe, op->fd, is_dir ? 0 : IORING_FSYNC_DATASYNC);
}

void stele_ring_fill(const struct stele_ring *ring, struct io_uring_sqe *sqe, struct stele_op *op,
                     struct msghdr *msg)
{
	switch (op->kind) {
	case STELE_OP_READV:
		prep_read(ring, sqe, op);
		break;
	case STELE_OP_WRITEV:
		prep_write(ring, sqe, op);
		break;
	case STELE_OP_SYNC:
		prep_sync(sqe, op);
		break;
	case STELE_OP_ACCEPT:
		io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
		break;
	case STELE_OP_CONNECT: {
		const struct stele_addr *addr = stele_connect_addr(op->priv.slot);
		io_uring_prep_connect(sqe, op->fd, (const struct sockaddr *)&addr->sa, addr->len);
		break;
	}
	default:
		prep_message(sqe, op, msg);
	}
	if (stele_ring_is_disk(op) && stele_held_is_registered(&ring->held, op->fd))
		sqe->flags |= IOSQE_FIXED_FILE; /* its number there is its descriptor */
}

/* What is registered */

void stele_ring_describe(const struct stele_ring *ring, const char *name, char out[STELE_ENV_TEXT])
{
	char buffers[48], files[32];
	if (!ring->registers) {
		snprintf(out, STELE_ENV_TEXT, "%s, nothing registered (as asked)", name);
		return;
	}
	stele_lent_describe(&ring->lent, buffers, sizeof(buffers));
	stele_held_describe(&ring->held, files, sizeof(files));
	snprintf(out, STELE_ENV_TEXT, "%s, %s and %s registered", name, buffers, files);
}
