/* Words, commands, what the boot arguments start. */
#include "guest-drivers/kernel/shell.h"

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/sched.h"

/* Set once at boot. */
static char prompt[40] = "guest# ";
static char args[256];
static bool tests, quiet;

static const struct command *const tables[] = { commands_proc, commands_mem, commands_evil,
						commands_bench, commands_smp, commands_pages };

bool shell_tests(void)
{
	return tests;
}

bool shell_quiet(void)
{
	return quiet;
}

static void help(void)
{
	for (size_t t = 0; t < ARRAY_COUNT(tables); t++)
		for (const struct command *c = tables[t]; c->name; c++)
			if (!c->tests_only || tests)
				print("%-9s%-26s%s\n", c->name, c->arguments, c->help);
}

void shell_line(char *line)
{
	char *words[SHELL_WORDS] = { 0 };
	unsigned int n = 0;

	for (char *s = line; *s;) {
		while (*s == ' ')
			*s++ = '\0';
		if (!*s)
			break;
		if (n == SHELL_WORDS) {
			print("too many words: at most %u\n", SHELL_WORDS);
			return;
		}
		words[n++] = s;
		while (*s && *s != ' ')
			s++;
	}
	if (!n)
		return;
	if (!strcmp(words[0], "help")) {
		help();
		return;
	}
	for (size_t t = 0; t < ARRAY_COUNT(tables); t++)
		for (const struct command *c = tables[t]; c->name; c++)
			if (!strcmp(words[0], c->name)) {
				if (c->tests_only && !tests)
					print("%s: only with 'tests' in the boot arguments\n", c->name);
				else
					c->run(n, words);
				return;
			}
	print("%s: no such command; try help\n", words[0]);
}

/* "run=hog:8M" is the line "run hog 8M". */
static void boot_arguments(void)
{
	for (char *s = args; *s;) {
		char word[64];
		size_t n = 0;

		for (; *s && *s != ' '; s++)
			if (n + 1 < sizeof(word))
				word[n++] = *s == ':' || *s == '=' ? ' ' : *s;
		while (*s == ' ')
			s++;
		word[n] = '\0';
		if (!strncmp(word, "run ", 4))
			shell_line(word);
	}
}

static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = text; *s;) {
		size_t k = 0;

		while (s[k] && s[k] != ' ')
			k++;
		if (k == n && !strncmp(s, word, n))
			return true;
		for (s += k; *s == ' ';)
			s++;
	}
	return false;
}

bool shell_has_word(const char *word)
{
	return has_word(args, word);
}

static void shell_thread(void *unused)
{
	static char line[160];

	(void)unused;
	boot_arguments();
	for (;;)
		if (console_read_line(line, sizeof(line), prompt))
			shell_line(line);
}

void shell_init(const char *bootargs, const char *name)
{
	size_t n = MIN(strlen(name), sizeof(prompt) - 3);

	memcpy(args, bootargs, MIN(strlen(bootargs), sizeof(args) - 1));
	tests = has_word(args, "tests");
	quiet = has_word(args, "quiet");
	if (n) {
		memcpy(prompt, name, n);
		memcpy(prompt + n, "# ", 3);
	}
	if (!thread_create("shell", PRIORITY_NORMAL, NULL, shell_thread, NULL))
		panic("no memory for the shell");
}
