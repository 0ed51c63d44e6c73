/*
 * The operator's console on COM1: prompt "aerostat> ", line editing, history, completion; commands
 * in a table. The parts that decide are pure: vmm/lineedit.h (keys to edits), vmm/command.h
 * (words to a command), vmm/json.h (writer).
 */
#pragma once

#include "vmm/base/types.h"

void console_init(void); /* sets the log's sink; prints the banner and the prompt */
/* Called by the scheduler's loop: takes waiting bytes, shows guests' output when attached. Returns
 * true if it did something. Never waits. */
bool console_poll(void);
void console_printf(const char *fmt, ...) PRINTF(1, 2);
void console_write(const char *s, size_t n); /* "\n" goes out as "\r\n" */
