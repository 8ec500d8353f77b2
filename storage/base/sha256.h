/*
 * SHA-256 (FIPS 180-4): one stream, many independent streams in lanes, and the cells of a Merkle
 * tree (RFC 9162: SHA-256(0x00 || cell)) hashed in lanes together with an object's own stream.
 *
 * Independent streams are interleaved because one stream is bound by the latency of its rounds:
 * with SHA-NI, two or three at a time reach about twice the throughput of one. The kernel is
 * chosen once, by CPU; tests may choose another. Thread: any; no function here allocates.
 */
#ifndef STELE_BASE_SHA256_H
#define STELE_BASE_SHA256_H

#include "storage/base/bytes.h"

/* A running hash. Plain memory: copy it to fork the stream. */
struct stele_sha256_stream {
	uint32_t h[8];
	uint64_t total;    /* bytes taken so far */
	uint8_t block[64]; /* the last total % 64 bytes */
};

void stele_sha256_init(struct stele_sha256_stream *s);
void stele_sha256_update(struct stele_sha256_stream *s, const void *data, size_t len);
/* Leaves s untouched, so that a stream may go on after an intermediate value was taken. */
void stele_sha256_value(const struct stele_sha256_stream *s, struct stele_hash *out);

void stele_sha256(const void *data, size_t len, struct stele_hash *out);

/* Leaf hashes of consecutive cells: leaf[i] = SHA-256(0x00 || cell i), where cell i is bytes
 * [i * 64 KiB, ...) of data and the last may be shorter. leaf holds ceil(len / 64 KiB) hashes.
 * len 0 has no cells. */
void stele_sha256_cells(const void *data, size_t len, struct stele_hash *leaf);

/* The same, while feeding all of data to `object` as well, in the same lanes: the serial stream
 * costs almost nothing extra. object may be NULL. */
void stele_sha256_cells_and_stream(const void *data, size_t len, struct stele_hash *leaf,
                                   struct stele_sha256_stream *object);

/* n messages of any lengths, independent of each other. */
struct stele_sha256_message {
	const void *data;
	size_t len;
	struct stele_hash *out;
};
void stele_sha256_many(const struct stele_sha256_message *messages, size_t n);

/* Leaves from anywhere, SHA-256(0x00 || message), while feeding bytes [0, len) of data to `object`
 * in the same lanes. `next` is called once per leaf, in the caller's thread, when a lane is free
 * for it: it may compute the leaf's bytes only then, which must stay until all is done. False:
 * there are no more. `bytes` is what all leaves come to; only the speed depends on it. object may
 * be NULL (then data is not read). */
struct stele_sha256_source {
	bool (*next)(struct stele_sha256_source *source, struct stele_sha256_message *out);
	uint64_t bytes;
};
void stele_sha256_leaves_and_stream(struct stele_sha256_source *leaves, const void *data,
                                    size_t len, struct stele_sha256_stream *object);

/* Kernels, for tests and benchmarks. NULL chooses the best for this CPU. False: not on this CPU. */
bool stele_sha256_use(const char *kernel);
const char *stele_sha256_kernel(void);
/* Names of all kernels built in, NULL-terminated; each may or may not run here. */
const char *const *stele_sha256_kernels(void);

#endif
