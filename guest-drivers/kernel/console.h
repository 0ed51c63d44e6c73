/* The guest's console. Output: print() of base.h. */
#pragma once

#include <stddef.h>

void console_event(void); /* input waits */
/* One line without its end, edited and echoed; sleeps until there is one. */
size_t console_read_line(char *line, size_t bytes, const char *prompt);
