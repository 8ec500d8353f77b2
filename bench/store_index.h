/*
 * What an index of many shards costs: a store of N shards of 64 bytes is written, and then, each in a
 * process of its own: opened after a clean close and asked for random keys (time, memory, disk), and
 * opened without its index (rebuilt from footers).
 */
#ifndef BENCH_STORE_INDEX_H
#define BENCH_STORE_INDEX_H

/* Makes and removes a store in a new directory in `where`; prints a table. Returns an exit code. */
int bench_index(const char *where, unsigned shards);

#endif
