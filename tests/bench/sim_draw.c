#include "tests/bench/sim_draw.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/types.h"

#define MIB_OF(pages) ((double)(pages) / 256)

int sim_draw_begin(struct sim_drawing *d, const char *dir, const char *name, uint32_t guest_count)
{
	char path[sizeof(d->path) + 8];

	snprintf(d->path, sizeof(d->path), "%s/%s", dir, name);
	snprintf(path, sizeof(path), "%s.dat", d->path);
	d->guest_count = guest_count;
	d->drawn = MIN(guest_count, SIM_DRAWN);
	d->dat = fopen(path, "w");
	if (!d->dat)
		return perror(path), -1;
	fprintf(d->dat, "# MiB. seconds, free, level, sums of: demand, held, balloon, out of RAM; the same of guests");
	for (uint32_t p = 0; p < d->drawn; p++)
		fprintf(d->dat, " %u", sim_drawn_guest(d, p));
	fprintf(d->dat, "\n");
	return 0;
}

static void put(FILE *f, const struct sim_sample *s)
{
	fprintf(f, " %.2f %.2f %.2f %.2f", MIB_OF(s->demand), MIB_OF(s->held), MIB_OF(s->balloon),
		MIB_OF(s->out_of_ram));
}

void sim_draw_sample(struct sim_drawing *d, double seconds, uint64_t free_pages, unsigned int level,
	const struct sim_sample *guest)
{
	struct sim_sample sum = { 0 };

	for (uint32_t i = 0; i < d->guest_count; i++) {
		sum.demand += guest[i].demand;
		sum.held += guest[i].held;
		sum.balloon += guest[i].balloon;
		sum.out_of_ram += guest[i].out_of_ram;
	}
	fprintf(d->dat, "%.2f %.2f %u", seconds, MIB_OF(free_pages), level);
	put(d->dat, &sum);
	for (uint32_t p = 0; p < d->drawn; p++)
		put(d->dat, &guest[sim_drawn_guest(d, p)]);
	fprintf(d->dat, "\n");
}

static void panel(FILE *f, const char *dat, uint32_t column, const char *more)
{
	fprintf(f, "plot \"%s\" using 1:%u with filledcurves x1 fs solid 0.25 lc rgb "
		   "\"#888888\" title \"balloon\", \\\n",
		dat, column + 2);
	fprintf(f, " \"\" using 1:%u with lines lw 1.5 lc rgb \"#d62728\" title \"demand\", \\\n", column);
	fprintf(f, " \"\" using 1:%u with lines lw 1.5 lc rgb \"#1f77b4\" title \"held\", \\\n", column + 1);
	fprintf(f, " \"\" using 1:%u with lines lc rgb \"#9467bd\" title \"out of RAM\"%s\n", column + 3, more);
}

static int write_script(const struct sim_drawing *d, const char *path)
{
	uint32_t rows = (d->drawn + 2) / 2;
	const char *name = strrchr(d->path, '/') ? strrchr(d->path, '/') + 1 : d->path;
	char dat[sizeof(d->path) + 8];
	FILE *f = fopen(path, "w");

	if (!f)
		return perror(path), -1;
	snprintf(dat, sizeof(dat), "%s.dat", d->path);
	fprintf(f, "set terminal svg size 1200,%u font \"sans,10\" background \"#ffffff\"\nset output \"%s.svg\"\n",
		200 * rows, d->path);
	fprintf(f, "set multiplot layout %u,2\nset yrange [0:*]\nset ylabel \"MiB\"\nset key outside right\n", rows);
	fprintf(f, "set title \"%s: all %u guests\"\n", name, d->guest_count);
	panel(f, dat, 4, ", \\\n \"\" using 1:2 with lines lc rgb \"#2ca02c\" title \"free\"");
	fprintf(f, "unset key\n");
	for (uint32_t p = 0; p < d->drawn; p++) {
		fprintf(f, "set title \"guest %u\"\n", sim_drawn_guest(d, p));
		panel(f, dat, 8 + 4 * p, "");
	}
	fprintf(f, "unset multiplot\n");
	return fclose(f);
}

static int run_gnuplot(const char *script)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		execlp("gnuplot", "gnuplot", script, (char *)NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return perror("gnuplot"), -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int sim_draw_end(struct sim_drawing *d)
{
	char script[sizeof(d->path) + 8];

	snprintf(script, sizeof(script), "%s.gp", d->path);
	if (fclose(d->dat) || write_script(d, script))
		return -1;
	int code = run_gnuplot(script);
	if (code == 0)
		printf("  drawn: %s.svg\n", d->path);
	else if (code == 127)
		printf("  gnuplot is missing (apt-get install -y --no-install-recommends gnuplot-nox);\n"
		       "  numbers: %s.dat; to draw them: gnuplot %s\n", d->path, script);
	else
		fprintf(stderr, "gnuplot %s failed\n", script);
	return code == 0 || code == 127 ? 0 : -1;
}
