/*
 * Goal: transfers that come back short are resumed until they are whole, at the end of the file, or
 * failed; never twice for a SEND; and where everything was page-aligned, every resumption is so
 * aligned that O_DIRECT takes it. Against a model of a device that moves random parts.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "storage/base/prng.h"
#include "storage/io/sys.h"

enum { LEN = 12 * STELE_PAGE, FILE_LEN_MAX = 16 * STELE_PAGE };

static uint8_t memory[LEN] __attribute__((aligned(4096)));
static uint8_t file[FILE_LEN_MAX];

struct device {
	struct stele_prng prng;
	uint64_t size; /* of the file, for reads */
	uint64_t room; /* for writes; then -ENOSPC */
	uint64_t unit; /* it moves multiples of this, except at the end of the file */
	bool demands_pages;
};

/* One system call. */
static int64_t device_move(struct device *d, const struct stele_op *op)
{
	uint64_t off = op->off + op->priv.done;
	uint64_t want = stele_sys_left(op);
	bool reads = op->kind == STELE_OP_READV;
	cr_assert_gt(want, 0u);
	for (unsigned i = 0; d->demands_pages && i < stele_sys_niov(op); i++) {
		cr_assert_eq((uintptr_t)op->iov[i].iov_base % 512, 0u);
		cr_assert_eq(off % (reads ? STELE_PAGE : 512), 0u);
	}
	uint64_t limit = reads ? d->size : d->room;
	if (off >= limit)
		return reads ? 0 : -ENOSPC;
	uint64_t n = 1 + stele_prng_below(&d->prng, want);
	n = stele_round_up(n, d->unit);
	if (n > want)
		n = want;
	if (n > limit - off)
		n = limit - off;
	uint64_t left = n;
	for (unsigned i = 0; left > 0; i++) {
		uint64_t here = op->iov[i].iov_len < left ? op->iov[i].iov_len : left;
		if (reads)
			memcpy(op->iov[i].iov_base, file + off, here);
		else
			memcpy(file + off, op->iov[i].iov_base, here);
		off += here;
		left -= here;
	}
	return (int64_t)n;
}

static int64_t run(struct device *d, struct stele_op *op)
{
	while (stele_sys_advance(op, device_move(d, op)))
		;
	return op->result;
}

static void cut(struct iovec iov[4], struct stele_prng *prng, uint64_t unit)
{
	uint64_t at = 0;
	for (int i = 0; i < 4; i++) {
		uint64_t left = LEN - at;
		uint64_t n = i == 3 ? left : stele_prng_below(prng, left / unit + 1) * unit;
		iov[i] = (struct iovec){memory + at, n};
		at += n;
	}
}

static void one(uint64_t seed, bool reads, bool pages)
{
	struct device d = {.unit = pages ? STELE_PAGE : 1, .demands_pages = pages};
	stele_prng_init(&d.prng, seed);
	struct iovec iov[4];
	cut(iov, &d.prng, d.unit);
	uint64_t off = stele_prng_below(&d.prng, 4 * STELE_PAGE / d.unit) * d.unit;
	d.size = stele_prng_below(&d.prng, FILE_LEN_MAX + 1);
	d.room = stele_prng_below(&d.prng, 3) ? FILE_LEN_MAX : d.size / 1024 * 1024;
	if (pages && !reads && seed % 2)
		d.unit = 1024; /* a file system of small blocks: less than a page at a time */
	stele_prng_fill(&d.prng, reads ? file : memory, LEN);
	struct stele_op op = {
	    .kind = reads ? STELE_OP_READV : STELE_OP_WRITEV, .iov = iov, .niov = 4, .off = off};
	int64_t r = run(&d, &op);
	if (!reads && off + LEN > d.room) {
		cr_assert_eq(r, -ENOSPC);
		return;
	}
	uint64_t expected = !reads ? LEN : off >= d.size ? 0 : d.size - off;
	if (expected > LEN)
		expected = LEN;
	cr_assert_eq(r, (int64_t)expected, "seed %d", (int)seed);
	cr_assert_arr_eq(memory, file + off, expected);
}

Test(sys, short_transfers)
{
	for (uint64_t seed = 0; seed < 3000; seed++) {
		one(seed, false, false);
		one(seed, false, true);
		one(seed, true, false);
		one(seed, true, true);
	}
}

Test(sys, a_send_never_repeats_bytes)
{
	for (uint64_t seed = 0; seed < 500; seed++) {
		struct device d = {.unit = 1, .room = FILE_LEN_MAX};
		stele_prng_init(&d.prng, seed);
		struct iovec iov[4];
		cut(iov, &d.prng, STELE_PAGE); /* aligned, by chance */
		struct stele_op op = {.kind = STELE_OP_SEND, .iov = iov, .niov = 4};
		uint64_t sent = 0;
		bool more = true;
		while (more) {
			int64_t n = device_move(&d, &op);
			sent += (uint64_t)n;
			more = stele_sys_advance(&op, n);
		}
		cr_assert_eq(sent, (uint64_t)LEN);
		cr_assert_eq(op.result, LEN);
	}
}

Test(sys, a_device_that_takes_nothing_is_an_error)
{
	struct iovec iov = {memory, STELE_PAGE};
	struct stele_op op = {.kind = STELE_OP_WRITEV, .iov = &iov, .niov = 1};
	cr_assert(!stele_sys_advance(&op, 0));
	cr_assert_eq(op.result, -EIO);
	op.kind = STELE_OP_READV;
	cr_assert(!stele_sys_advance(&op, 0));
	cr_assert_eq(op.result, 0);
	cr_assert(!stele_sys_advance(&op, -ENXIO));
	cr_assert_eq(op.result, -ENXIO);
}
