/*
 * Files of this machine that a person names on the command line. What is wrong with a name is USAGE, with the path in the
 * line: NOT_FOUND and DENIED are what the archive says of its objects.
 */
#ifndef TOOLS_LOCAL_H
#define TOOLS_LOCAL_H

#include "storage/base/bytes.h"

struct stele_local {
	const char *path; /* the caller's; "-" was standard input */
	int fd;
	bool regular;
	uint64_t length; /* when it was opened; UINT64_MAX: not known */
	uint64_t at;
};

/* Opens for reading. "-" is standard input. USAGE: cannot be opened, a directory. CANCELLED. */
STELE_MUST_USE enum stele_err stele_local_open(const char *path, struct stele_local *out);
/* The same, of a regular file only. */
STELE_MUST_USE enum stele_err stele_local_open_regular(const char *path, struct stele_local *out);
void stele_local_close(struct stele_local *l); /* accepts a zeroed one */

/* As struct stele_source's read, in order. CORRUPT: a file whose length was known has another one. CANCELLED: interrupted
 * (tools/open.h) while a pipe had nothing to give. */
enum stele_err stele_local_read(void *local, void *buf, size_t cap, size_t *got);
/* From any place; *got is less than cap only at the end. */
STELE_MUST_USE enum stele_err stele_local_read_at(struct stele_local *l, uint64_t off, void *buf,
                                                  size_t cap, size_t *got);

/* What loading a local file came to (stele_file_load): what the system says of it is USAGE, too. Keeps the detail. */
STELE_MUST_USE enum stele_err stele_local_usage(enum stele_err err);

/* Where a result may be written by replacing: path with links resolved. USAGE: a directory, a device, no such folder. */
STELE_MUST_USE enum stele_err stele_local_target(const char *path, char out[STELE_PATH_MAX]);

#endif
