/* Draws one line of progress. Knows nothing of what progresses. */
#include "tools/progress.h"

#include <time.h>

#include "tools/tty.h"

#define SECOND     1000000000ull
#define VISIBLE_NS SECOND        /* what is over sooner shows nothing */
#define DRAW_NS    (SECOND / 10) /* between two drawings; the ring of samples covers 3 s */

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* A file's name may hold anything: no orders to the terminal, and no character cut in half. */
static void set_label(char out[STELE_BAR_LABEL], const char *text)
{
	const char *slash = strrchr(text, '/');
	if (slash && slash[1])
		text = slash + 1;
	size_t len = strlen(text), keep = len;
	if (len >= STELE_BAR_LABEL) {
		keep = STELE_BAR_LABEL - 4;
		while (keep > 0 && ((unsigned char)text[keep] & 0xc0) == 0x80)
			keep--;
	}
	for (size_t i = 0; i < keep; i++) {
		unsigned char c = (unsigned char)text[i],
		              before = i ? (unsigned char)text[i - 1] : 0;
		bool c1 = before == 0xc2 && c >= 0x80 && c < 0xa0;
		out[i] = c < ' ' || c == 0x7f || c1 ? '?' : text[i];
	}
	strcpy(out + keep, keep < len ? "..." : "");
}

void stele_bar_start_at(struct stele_bar *bar, FILE *out, const char *label,
                        enum stele_bar_unit unit, uint64_t now_ns)
{
	memset(bar, 0, sizeof(*bar));
	bar->out = out;
	set_label(bar->label, label);
	bar->unit = unit;
	bar->start_ns = now_ns;
	bar->sample[0].ns = now_ns;
	bar->nsamples = 1;
}

void stele_bar_start(struct stele_bar *bar, const struct stele_cli *cli, const char *label,
                     enum stele_bar_unit unit)
{
	bool silent = cli->json || !stele_tty_is(cli->err);
	stele_bar_start_at(bar, silent ? NULL : cli->err, label, unit, now());
}

/* Units per second since the oldest sample. */
static double rate(const struct stele_bar *bar, uint64_t now_ns)
{
	uint32_t oldest = bar->nsamples < STELE_BAR_SAMPLES ? 0 : bar->nsamples % STELE_BAR_SAMPLES;
	uint64_t ns = now_ns - bar->sample[oldest].ns;
	if (ns == 0 || bar->done < bar->sample[oldest].done)
		return 0;
	return (double)(bar->done - bar->sample[oldest].done) * SECOND / (double)ns;
}

static void amount_text(const struct stele_bar *bar, double v, char out[STELE_SIZE_TEXT])
{
	if (bar->unit == STELE_BAR_BYTES)
		stele_size_text((uint64_t)v, out);
	else
		snprintf(out, STELE_SIZE_TEXT, v < 10 && v != (double)(uint64_t)v ? "%.1f" : "%.0f",
		         v);
}

static void time_text(double seconds, char out[STELE_SIZE_TEXT])
{
	uint64_t s = seconds < 0 ? 0 : seconds > 359999 ? 359999 : (uint64_t)(seconds + 0.5);
	if (s >= 3600)
		snprintf(out, STELE_SIZE_TEXT, "%u:%02u:%02u", (unsigned)(s / 3600),
		         (unsigned)(s / 60 % 60), (unsigned)(s % 60));
	else
		snprintf(out, STELE_SIZE_TEXT, "%u:%02u", (unsigned)(s / 60), (unsigned)(s % 60));
}

/* What is said: how far, of how much, how fast, how much longer. */
#define PARTS 4u

/* As many parts as there is room for; the speed goes first, then the amounts, then the time. */
static void join_parts(const char *const part[PARTS], size_t room, char *out, size_t cap)
{
	static const uint8_t forms[] = {0xf, 0xb, 0x9, 0x1}; /* bit i: part i */
	for (size_t f = 0; f < sizeof(forms); f++) {
		size_t at = 0;
		for (uint32_t i = 0; i < PARTS; i++)
			if (part[i] && forms[f] >> i & 1)
				at += (size_t)snprintf(out + at, cap - at, "%s%s", at ? "  " : "",
				                       part[i]);
		if (at <= room)
			return;
	}
}

/* "[####      ]  " in what the width leaves; nothing where that is little. */
static void draw_gauge(size_t used, size_t width, double share, char out[64])
{
	size_t cells = used + 6 + 10 <= width ? width - used - 6 : 0;
	if (cells > 64 - 5)
		cells = 64 - 5;
	out[0] = '\0';
	if (cells == 0)
		return;
	size_t full = (size_t)((double)cells * share);
	out[0] = '[';
	memset(out + 1, '#', full);
	memset(out + 1 + full, ' ', cells - full);
	memcpy(out + 1 + cells, "]  ", 4);
}

/* "label  [#####     ]  42%  1.0 GiB of 2.4 GiB  310.0 MiB/s  0:05 left", or without a total
 * "label  1.0 GiB  310.0 MiB/s  0:12". The bar takes what the width leaves; where it leaves less than nothing, parts are
 * left out. */
char *stele_bar_line(const struct stele_bar *bar, uint64_t now_ns, unsigned width,
                     char out[STELE_BAR_WIDTH_MAX + 1])
{
	char done[STELE_SIZE_TEXT], total[STELE_SIZE_TEXT], time[STELE_SIZE_TEXT], percent[8],
	    of[2 * STELE_SIZE_TEXT + 4], speed[STELE_SIZE_TEXT + 2], left[STELE_SIZE_TEXT + 8],
	    tail[128] = "", gauge[64] = "";
	double per_second = rate(bar, now_ns), share = 0;
	if (width > STELE_BAR_WIDTH_MAX)
		width = STELE_BAR_WIDTH_MAX;
	size_t label = strlen(bar->label) + 2, room = label < width ? width - label : 0;
	amount_text(bar, (double)bar->done, done);
	amount_text(bar, per_second, total);
	snprintf(speed, sizeof(speed), "%s/s", total);
	if (bar->total == 0) {
		time_text((double)(now_ns - bar->start_ns) / SECOND, time);
		join_parts((const char *[]){done, NULL, speed, time}, room, tail, sizeof(tail));
	} else {
		uint64_t so_far = bar->done < bar->total ? bar->done : bar->total;
		share = (double)so_far / (double)bar->total;
		strcpy(time, "-:--");
		if (per_second > 0)
			time_text((double)(bar->total - so_far) / per_second, time);
		amount_text(bar, (double)bar->total, total);
		snprintf(percent, sizeof(percent), "%3u%%", (unsigned)(100.0 * share));
		snprintf(of, sizeof(of), "%s of %s", done, total);
		snprintf(left, sizeof(left), "%s left", time);
		join_parts((const char *[]){percent, of, speed, left}, room, tail, sizeof(tail));
		draw_gauge(label - 2 + strlen(tail), width, share, gauge);
	}
	snprintf(out, width + 1, "%s  %s%s", bar->label, gauge, tail);
	return out;
}

void stele_bar_step_at(struct stele_bar *bar, uint64_t done, uint64_t total, uint64_t now_ns)
{
	char line[STELE_BAR_WIDTH_MAX + 1];
	bar->done = done;
	bar->total = total;
	if (!bar->out || now_ns - bar->start_ns < VISIBLE_NS ||
	    (bar->visible && now_ns - bar->drawn_ns < DRAW_NS))
		return;
	/* One column stays free: some terminals wrap at the last. */
	unsigned width = stele_tty_width(bar->out) - 1;
	fprintf(bar->out, "\r\033[K%s", stele_bar_line(bar, now_ns, width, line));
	fflush(bar->out);
	uint32_t at = bar->nsamples++ % STELE_BAR_SAMPLES;
	bar->sample[at].ns = now_ns;
	bar->sample[at].done = done;
	bar->drawn_ns = now_ns;
	bar->visible = true;
}

bool stele_bar_step(void *bar, uint64_t done, uint64_t total)
{
	struct stele_bar *b = bar;
	if (b->out)
		stele_bar_step_at(b, done, total, now());
	return true;
}

void stele_bar_finish(struct stele_bar *bar)
{
	if (bar->out && bar->visible)
		fputs("\r\033[K", bar->out);
	if (bar->out)
		fflush(bar->out);
	bar->out = NULL;
}
