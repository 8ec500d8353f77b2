/* stele-mine: writes a blk*.dat of valid Bitcoin regtest blocks, for trials where no chain is at
 * hand. Mining itself is in storage/ledger/mine.c. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/ledger/mine.h"

static const char usage[] =
    "usage: stele-mine [--size BYTES] [--block-size BYTES] [--seed N] -o FILE\n"
    "\n"
    "Mines valid Bitcoin regtest blocks, from the genesis block on, into FILE as bitcoind lays "
    "them\n"
    "out in blk00000.dat. The same options make the same file.\n"
    "\n"
    "  -o, --output FILE     where to write (- is standard output)\n"
    "  --size BYTES          stop at the first block that reaches this size (default 32M)\n"
    "  --block-size BYTES    about how long blocks are from height 101 on (default 1000000)\n"
    "  --seed N              another N, another chain (default 1)\n"
    "  --help\n"
    "\n"
    "BYTES may end in K, M or G (KiB, MiB, GiB mean the same). Exit codes: 0 done, 1 failed, 2 "
    "usage.\n";

struct job {
	const char *path;
	uint64_t size;
	struct stele_miner_opts miner;
};

/* "32M", "32MiB" and the like. */
static bool parse_bytes(const char *text, uint64_t *out)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
	if (shift)
		end += strncmp(end + 1, "iB", 2) == 0 ? 3 : 1;
	if (errno || text[0] < '0' || text[0] > '9' || *end || v > UINT64_MAX >> shift)
		return false;
	*out = v << shift;
	return true;
}

/* 0: go on; else the exit code. */
static int parse(int argc, char **argv, struct job *job)
{
	static const struct option options[] = {
	    {"output", required_argument, NULL, 'o'},
	    {"size", required_argument, NULL, 's'},
	    {"block-size", required_argument, NULL, 'b'},
	    {"seed", required_argument, NULL, 'r'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	uint64_t v;
	int c;
	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			exit(0);
		}
		if (c == 'o') {
			job->path = optarg;
			continue;
		}
		if (c == '?')
			return 2;
		if (!parse_bytes(optarg, &v)) {
			fprintf(stderr, "stele-mine: \"%s\" is not a number\n", optarg);
			return 2;
		}
		if (c == 's')
			job->size = v;
		if (c == 'b')
			job->miner.block_len = (size_t)v;
		if (c == 'r')
			job->miner.seed = v;
	}
	if (!job->path || optind != argc) {
		fputs(usage, stderr);
		return 2;
	}
	return 0;
}

static enum stele_err mine(const struct job *job, FILE *out, uint64_t *written, uint64_t *blocks)
{
	struct stele_miner *miner;
	STELE_TRY(stele_miner_create(&job->miner, &miner));
	enum stele_err err = STELE_OK;
	for (*written = *blocks = 0; err == STELE_OK && *written < job->size; ++*blocks) {
		const uint8_t *bytes;
		size_t len;
		struct stele_hash hash;
		uint8_t frame[STELE_MINE_FRAME];
		err = stele_miner_next(miner, &bytes, &len, &hash);
		if (err != STELE_OK)
			break;
		stele_mine_frame(len, frame);
		if (fwrite(frame, sizeof(frame), 1, out) != 1 || fwrite(bytes, len, 1, out) != 1)
			err = stele_fail_errno(errno, "write %s", job->path);
		*written += sizeof(frame) + len;
	}
	stele_miner_destroy(miner);
	return err;
}

int main(int argc, char **argv)
{
	struct job job = {.size = 32u << 20, .miner = {.seed = 1}};
	int code = parse(argc, argv, &job);
	if (code)
		return code;
	bool to_stdout = strcmp(job.path, "-") == 0;
	FILE *out = to_stdout ? stdout : fopen(job.path, "wb");
	if (!out) {
		fprintf(stderr, "stele-mine: open %s: %s\n", job.path, strerror(errno));
		return 1;
	}
	uint64_t written = 0, blocks = 0;
	enum stele_err err = mine(&job, out, &written, &blocks);
	if (err == STELE_OK && (to_stdout ? fflush(out) : fclose(out)) != 0)
		err = stele_fail_errno(errno, "write %s", job.path);
	if (err != STELE_OK) {
		fprintf(stderr, "stele-mine: %s\n", stele_detail());
		return err == STELE_ERR_INVALID ? 2 : stele_err_exit_code(err);
	}
	fprintf(stderr, "stele-mine: %llu regtest blocks, %llu bytes\n", (unsigned long long)blocks,
	        (unsigned long long)written);
	return 0;
}
