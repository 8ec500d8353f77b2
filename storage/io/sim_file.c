/*
 * Disk operations of the simulator as they are performed: here an operation meets its machine's
 * faults. What bytes and names are, and what a crash leaves of them, is sim_disk.c's.
 */
#include <assert.h>
#include <errno.h>

#include "storage/base/crc.h"
#include "storage/io/sim_disk.h"
#include "storage/io/sim_world.h"
#include "storage/io/sys.h"

static void check_alignment(const struct sim_handle *handle, const struct stele_op *op)
{
	if (!(handle->flags & STELE_OPEN_DIRECT))
		return;
	assert(op->off % STELE_PAGE == 0);
	for (uint32_t i = 0; i < op->niov; i++) {
		assert((uintptr_t)op->iov[i].iov_base % STELE_PAGE == 0);
		assert(op->iov[i].iov_len % STELE_PAGE == 0);
	}
}

static void note_bytes(struct sim_env *env, const struct stele_op *op, uint64_t len)
{
	uint32_t crc = 0;
	uint64_t left = len;
	for (uint32_t i = 0; i < op->niov && left > 0; i++) {
		size_t n = op->iov[i].iov_len < left ? op->iov[i].iov_len : (size_t)left;
		crc = stele_crc32c(op->iov[i].iov_base, n, crc);
		left -= n;
	}
	stele_sim_note(env->sim, env->machine, SIM_NOTE_BYTES, len, crc);
}

static int64_t perform_read(struct sim_env *env, struct sim_handle *handle, struct stele_op *op)
{
	const struct stele_sim_faults *faults = &env->machine->faults;
	struct stele_prng *prng = &env->sim->prng;
	struct sim_inode *inode = handle->inode;
	if (stele_sim_inode_is_dir(inode))
		return -EISDIR;
	check_alignment(handle, op);
	if (stele_prng_chance(prng, faults->read_error))
		return -EIO;
	uint64_t len = stele_sys_left(op);
	if (!stele_sim_inode_readable(inode, op->off, len))
		return -EIO;
	if (len > 0 && stele_prng_chance(prng, faults->bit_rot))
		(void)stele_sim_inode_flip(inode, op->off + stele_prng_below(prng, len),
		                           (uint32_t)stele_prng_below(prng, 8));
	uint64_t got = 0;
	for (uint32_t i = 0; i < op->niov; i++)
		got += stele_sim_inode_read(inode, op->off + got, op->iov[i].iov_base,
		                            op->iov[i].iov_len);
	note_bytes(env, op, got);
	return (int64_t)got;
}

void stele_sim_store(struct sim_handle *handle, const struct stele_op *op, uint64_t off,
                     uint64_t len)
{
	for (uint32_t i = 0; i < op->niov && len > 0; i++) {
		size_t n = op->iov[i].iov_len < len ? op->iov[i].iov_len : (size_t)len;
		stele_sim_inode_write(handle->inode, off, op->iov[i].iov_base, n);
		off += n;
		len -= n;
	}
}

static int64_t perform_write(struct sim_env *env, struct sim_handle *handle, struct stele_op *op)
{
	const struct stele_sim_faults *faults = &env->machine->faults;
	struct stele_prng *prng = &env->sim->prng;
	struct sim_inode *inode = handle->inode;
	if (!(handle->flags & STELE_OPEN_WRITE))
		return -EBADF;
	check_alignment(handle, op);
	uint64_t len = stele_sys_left(op), off = op->off;
	note_bytes(env, op, len);
	if (len == 0)
		return 0;
	uint64_t size = stele_sim_inode_size(inode);
	if (off + len > size && stele_prng_chance(prng, faults->no_space))
		return -ENOSPC;
	if (stele_prng_chance(prng, faults->write_error)) {
		uint64_t pages = len / STELE_PAGE + 1; /* some of it may have got there */
		uint64_t stored = stele_prng_below(prng, pages) * STELE_PAGE;
		stele_sim_store(handle, op, off, stored);
		return -EIO;
	}
	if (stele_prng_chance(prng, faults->lost_write)) {
		if (off + len > size)
			stele_sim_inode_resize(inode, off + len);
		return (int64_t)len;
	}
	if (size > len && stele_prng_chance(prng, faults->misdirected))
		off = stele_prng_below(prng, (size - len) / STELE_PAGE + 1) * STELE_PAGE;
	stele_sim_store(handle, op, off, len);
	if (op->flags & STELE_WRITE_DSYNC)
		stele_sim_inode_sync_range(inode, off, len);
	return (int64_t)len;
}

static int64_t perform_sync(struct sim_env *env, struct sim_handle *handle)
{
	if (stele_prng_chance(&env->sim->prng, env->machine->faults.write_error)) {
		stele_sim_inode_sync_failed(handle->inode);
		return -EIO;
	}
	stele_sim_inode_sync(handle->inode);
	return 0;
}

int64_t stele_sim_perform(struct sim_env *env, struct sim_handle *handle, struct stele_op *op)
{
	if (op->kind == STELE_OP_READV)
		return perform_read(env, handle, op);
	if (op->kind == STELE_OP_WRITEV)
		return perform_write(env, handle, op);
	return perform_sync(env, handle);
}
