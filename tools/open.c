/* Opens a handle of libstele and has signals interrupt it. */
#include "tools/open.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define PATIENCE_S 5u /* after an interruption, for what is under way to end */

static struct stele *_Atomic opened;
static atomic_bool interrupted;

/* Somebody does not read our output, or a file system does not answer. */
static void give_up(int sig)
{
	static const char line[] = "stele: interrupted, and given up on what did not end\n";
	ssize_t n = write(STDERR_FILENO, line, sizeof(line) - 1);
	(void)n;
	(void)sig;
	_exit(stele_err_exit_code(STELE_ERR_CANCELLED));
}

static void on_signal(int sig)
{
	struct stele *s = atomic_load(&opened);
	atomic_store(&interrupted, true);
	if (s)
		stele_interrupt(s);
	signal(sig, SIG_DFL);
	signal(SIGALRM, give_up);
	alarm(PATIENCE_S);
}

static void catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal}; /* system calls do not go on */
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction old;
		sigemptyset(&action.sa_mask);
		/* what the parent had ignored (nohup) stays so */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
}

enum stele_err stele_cli_open(const struct stele_cli *cli, struct stele **out)
{
	struct stele_open_opts opts = {.cluster = cli->cluster, .key = cli->key};
	STELE_TRY(stele_open(&opts, out));
	atomic_store(&opened, *out);
	catch_signals();
	return STELE_OK;
}

void stele_cli_close(struct stele *s)
{
	atomic_store(&opened, NULL);
	stele_close(s);
}

bool stele_cli_interrupted(void)
{
	return atomic_load(&interrupted);
}

static bool step(void *bar, uint64_t done, uint64_t total)
{
	return stele_bar_step(bar, done, total) && !stele_cli_interrupted();
}

struct stele_progress stele_cli_progress(struct stele_bar *bar)
{
	return (struct stele_progress){.step = step, .ctx = bar};
}
