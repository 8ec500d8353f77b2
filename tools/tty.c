/* What a terminal is asked. Prints nothing. */
#include "tools/tty.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void stele_tty_begin(void)
{
	/* The lowest free number is what open returns. 0 cannot be read then, 1 and 2 not written. */
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
			abort();
	signal(SIGPIPE, SIG_IGN);
}

bool stele_tty_is(FILE *f)
{
	const char *term = getenv("TERM");
	int fd = fileno(f);
	return fd >= 0 && isatty(fd) && !(term && strcmp(term, "dumb") == 0);
}

const char *stele_tty_style(FILE *f, enum stele_tty_style style)
{
	static const char *const escape[] = {"\033[0m",  "\033[1m",  "\033[2m",
	                                     "\033[31m", "\033[32m", "\033[33m"};
	const char *no = getenv("NO_COLOR"); /* https://no-color.org */
	return stele_tty_is(f) && !(no && *no) ? escape[style] : "";
}

unsigned stele_tty_width(FILE *f)
{
	struct winsize size;
	int fd = fileno(f);
	if (fd < 0 || ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return 80;
	return size.ws_col;
}
