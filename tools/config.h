/*
 * steled.ini (libinih): what one node is and where its disks are. config/steled.ini.example shows
 * every key. Relative paths are relative to the directory of the file. Unknown sections and keys, a
 * key given twice and values out of range are errors that name file, line, section and key.
 */
#ifndef TOOLS_CONFIG_H
#define TOOLS_CONFIG_H

#include "net/slots.h"

struct stele_config {
	uint16_t id;
	char key[STELE_PATH_MAX];     /* key file */
	char cluster[STELE_PATH_MAX]; /* cluster file to start from */
	char dir[STELE_PATH_MAX];     /* the node's own directory; default: the file's */
	char listen[STELE_PATH_MAX];  /* "host:port"; "" the address that the map gives */
	uint32_t workers;             /* worker threads; 0: the env's default */
	uint32_t bufs;                /* 1 MiB buffers; 0: the node's default */
	bool disk_set[STELE_SLOTS_MAX];
	char disk[STELE_SLOTS_MAX][STELE_PATH_MAX]; /* by slot */
	uint32_t ndisks;                            /* highest slot + 1 */
	uint64_t extent_len;                        /* bytes; 0: the store's default */
	uint64_t capacity;                          /* bytes per disk; 0: what there is */
	uint64_t heal_ns;                           /* 0: the node's default */
	uint64_t scrub_bytes_per_s;                 /* 0: the node's default */
};

/* path: the file's name, for messages and for the directory that relative paths start from. USAGE:
 * what is wrong and where. *out is large: not for the stack. */
STELE_MUST_USE enum stele_err stele_config_parse(const char *path, const char *text, size_t len,
                                                 struct stele_config *out);
/* The same from the file itself. USAGE also when it cannot be read. */
STELE_MUST_USE enum stele_err stele_config_load(const char *path, struct stele_config *out);

#endif
