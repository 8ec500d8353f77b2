/*
 * A simulated disk: directories and files whose every unsynced change may be lost. Only the
 * simulator includes this. Functions return 0 or more, or a negative errno; none allocates without
 * aborting on failure.
 *
 * What a crash leaves: of a page written since it was last synced, the old or the new bytes, or a
 * mix in sectors of 512; of a file's length, the old or the new; of a directory's changes (create,
 * rename, unlink) since it was last synced, the first so many in their order, each directory by
 * itself. A page that is written again while unsynced may have reached the disk in between.
 */
#ifndef STORAGE_IO_SIM_DISK_H
#define STORAGE_IO_SIM_DISK_H

#include "storage/base/prng.h"
#include "storage/io/env.h"

struct sim_disk;
struct sim_inode;

struct sim_disk *stele_sim_disk_create(struct stele_prng *prng);
void stele_sim_disk_destroy(struct sim_disk *disk); /* no inode may be held */
void stele_sim_disk_crash(struct sim_disk *disk);

/* Paths: absolute or not, both from the root; "." and empty parts are skipped. */
int64_t stele_sim_disk_open(struct sim_disk *disk, const char *path, uint32_t flags,
			    struct sim_inode **out); /* holds it */
int64_t stele_sim_disk_mkdir(struct sim_disk *disk, const char *path);
int64_t stele_sim_disk_unlink(struct sim_disk *disk, const char *path);
int64_t stele_sim_disk_rename(struct sim_disk *disk, const char *from, const char *to);
int64_t stele_sim_disk_list(struct sim_disk *disk, const char *path, struct stele_list *list);
int64_t stele_sim_disk_stat(struct sim_disk *disk, const char *path, struct stele_stat *st);
/* Everything below a directory is gone, durably. */
void stele_sim_disk_wipe(struct sim_disk *disk, const char *path);
bool stele_sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t off, uint32_t bit);
/* The page at off cannot be read until it is written again, or not `bad` any more. False: no such byte. */
bool stele_sim_disk_spoil(struct sim_disk *disk, const char *path, uint64_t off, bool bad);

void stele_sim_inode_release(struct sim_inode *inode); /* what open holds */
bool stele_sim_inode_is_dir(const struct sim_inode *inode);
uint64_t stele_sim_inode_size(const struct sim_inode *inode);
/* False: a page of these cannot be read. */
bool stele_sim_inode_readable(const struct sim_inode *inode, uint64_t off, uint64_t len);
/* Up to the end of the file; returns the bytes read. */
size_t stele_sim_inode_read(struct sim_inode *inode, uint64_t off, void *out, size_t len);
void stele_sim_inode_write(struct sim_inode *inode, uint64_t off, const void *bytes, size_t len);
/* Makes a range, and the file's length, durable, as after RWF_DSYNC. */
void stele_sim_inode_sync_range(struct sim_inode *inode, uint64_t off, uint64_t len);
void stele_sim_inode_sync(struct sim_inode *inode);
/* A sync that failed: what was not durable never will be unless it is written again. */
void stele_sim_inode_sync_failed(struct sim_inode *inode);
void stele_sim_inode_resize(struct sim_inode *inode, uint64_t size);
/* Flips a bit of what is stored, for good. False: no such byte. */
bool stele_sim_inode_flip(struct sim_inode *inode, uint64_t off, uint32_t bit);
/* 0, or -EWOULDBLOCK when another holder has it. */
int64_t stele_sim_inode_lock(struct sim_inode *inode, const void *holder);
void stele_sim_inode_unlock(struct sim_inode *inode, const void *holder);

#endif
