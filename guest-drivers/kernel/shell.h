/* The shell: one thread on the console. Commands are in cmd_*.c. */
#pragma once

#include <stdbool.h>

#define SHELL_WORDS 8u

struct command {
	const char *name, *arguments, *help;
	void (*run)(unsigned int count, char **words); /* words[0] is the command */
	bool tests_only;
};

extern const struct command commands_proc[], commands_mem[], commands_evil[], commands_bench[],
	commands_smp[], commands_pages[];

/* `bootargs`: "run=hog:8M tests quiet"; name: for the prompt. */
void shell_init(const char *bootargs, const char *name);
void shell_line(char *line);
bool shell_tests(void);
bool shell_quiet(void); /* no banner */
bool shell_has_word(const char *word); /* in the boot arguments */
