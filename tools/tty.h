/*
 * Terminals and the standard streams: whether one is a terminal, how wide it is, and styles that are empty strings everywhere
 * else (files, pipes, TERM=dumb, NO_COLOR set).
 */
#ifndef TOOLS_TTY_H
#define TOOLS_TTY_H

#include <stdbool.h>
#include <stdio.h>

enum stele_tty_style {
	STELE_TTY_PLAIN = 0, /* back to normal */
	STELE_TTY_BOLD,
	STELE_TTY_DIM,
	STELE_TTY_RED,
	STELE_TTY_GREEN,
	STELE_TTY_YELLOW,
};

/* A terminal that can move its cursor. */
bool stele_tty_is(FILE *f);
/* The escape sequence, or "". */
const char *stele_tty_style(FILE *f, enum stele_tty_style style);
/* At the start of a program: descriptors 0, 1, 2 that it was started without are taken, so that no file or connection gets
 * their numbers; writing to them fails. SIGPIPE is ignored: who writes is told. */
void stele_tty_begin(void);
/* Columns; 80 when unknown. */
unsigned stele_tty_width(FILE *f);

#endif
