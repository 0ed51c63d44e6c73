/* Pure. */
#include "vmm/lineedit.h"

#include "vmm/base/fmt.h"
#include "vmm/base/string.h"

#define CTRL(c) ((c) & 0x1f)

enum { ESCAPE_NONE, ESCAPE_START, ESCAPE_CSI, ESCAPE_SS3 };

static void text(struct lineedit *e, const char *s)
{
	e->out(e->ctx, s, strlen(s));
}

void lineedit_init(struct lineedit *e, const char *prompt,
	void (*out)(void *ctx, const char *s, size_t n),
	size_t (*complete)(void *ctx, const char *line, size_t cursor, char *insert, size_t room,
		bool *shown),
	void *ctx)
{
	memset(e, 0, sizeof(*e));
	e->prompt = prompt;
	e->out = out;
	e->complete = complete;
	e->ctx = ctx;
}

void lineedit_hide(struct lineedit *e)
{
	text(e, "\r\x1b[K");
}

/* Characters of the line that fit beside the prompt, the cursor's place after the last included. */
static uint32_t window(const struct lineedit *e)
{
	uint32_t prompt = (uint32_t)strlen(e->prompt);

	return prompt + 20 < LINEEDIT_COLUMNS ? LINEEDIT_COLUMNS - prompt : 20;
}

/* Scrolls by half a window when the cursor leaves it. True if that moved what is shown. */
static bool scroll(struct lineedit *e)
{
	uint32_t width = window(e), old = e->first;

	if (e->length < width)
		e->first = 0;
	else if (e->cursor < e->first || e->cursor - e->first >= width)
		e->first = e->cursor - MIN(e->cursor, width / 2);
	return e->first != old;
}

void lineedit_show(struct lineedit *e)
{
	char move[16];

	(void)scroll(e);
	uint32_t end = MIN(e->length, e->first + window(e) - 1);
	text(e, e->prompt);
	e->out(e->ctx, e->line + e->first, end - e->first);
	if (e->cursor < end) {
		fmt_snprintf(move, sizeof(move), "\x1b[%uD", end - e->cursor);
		text(e, move);
	}
}

static void redraw(struct lineedit *e)
{
	lineedit_hide(e);
	lineedit_show(e);
}

void lineedit_start(struct lineedit *e)
{
	e->length = e->cursor = e->first = 0;
	e->line[0] = '\0';
	e->history_back = 0;
	lineedit_show(e);
}

static void insert(struct lineedit *e, const char *s, size_t n)
{
	if (n > LINEEDIT_BYTES - 1 - e->length) {
		text(e, "\a");
		return;
	}
	memmove(e->line + e->cursor + n, e->line + e->cursor, e->length - e->cursor);
	memcpy(e->line + e->cursor, s, n);
	e->length += (uint32_t)n;
	e->cursor += (uint32_t)n;
	e->line[e->length] = '\0';
	if (e->cursor == e->length && !scroll(e))
		e->out(e->ctx, s, n);
	else
		redraw(e);
}

/* Removes [from, to); the cursor ends at `from`. */
static void erase(struct lineedit *e, uint32_t from, uint32_t to)
{
	bool at_end = to == e->length && e->cursor == to && to - from == 1;

	memmove(e->line + from, e->line + to, e->length - to);
	e->length -= to - from;
	e->cursor = from;
	e->line[e->length] = '\0';
	if (at_end && !scroll(e))
		text(e, "\b \b");
	else
		redraw(e);
}

static void move_to(struct lineedit *e, uint32_t cursor)
{
	if (cursor > e->length)
		return;
	e->cursor = cursor;
	redraw(e);
}

static void erase_word(struct lineedit *e)
{
	uint32_t from = e->cursor;

	while (from && e->line[from - 1] == ' ')
		from--;
	while (from && e->line[from - 1] != ' ')
		from--;
	erase(e, from, e->cursor);
}

static char *history_at(struct lineedit *e, uint32_t back)
{
	return e->history[(e->history_count - back) % LINEEDIT_HISTORY];
}

static void remember(struct lineedit *e)
{
	if (!e->length || (e->history_count && !strcmp(history_at(e, 1), e->line)))
		return;
	memcpy(e->history[e->history_count++ % LINEEDIT_HISTORY], e->line, e->length + 1);
}

static void look_back(struct lineedit *e, uint32_t back)
{
	if (back > MIN(e->history_count, LINEEDIT_HISTORY))
		return;
	if (!e->history_back)
		memcpy(e->typed, e->line, e->length + 1);
	e->history_back = back;
	const char *from = back ? history_at(e, back) : e->typed;
	e->length = e->cursor = (uint32_t)strlen(from);
	memcpy(e->line, from, e->length + 1);
	redraw(e);
}

static void complete(struct lineedit *e)
{
	char more[LINEEDIT_BYTES];
	bool shown = false;

	if (!e->complete)
		return;
	size_t n = e->complete(e->ctx, e->line, e->cursor, more, sizeof(more), &shown);
	if (shown)
		lineedit_show(e);
	if (n)
		insert(e, more, n);
	else if (!shown)
		text(e, "\a");
}

static void csi_key(struct lineedit *e, char c)
{
	switch (c) {
	case 'A':
		look_back(e, e->history_back + 1);
		break;
	case 'B':
		if (e->history_back)
			look_back(e, e->history_back - 1);
		break;
	case 'C':
		move_to(e, e->cursor + 1);
		break;
	case 'D':
		if (e->cursor)
			move_to(e, e->cursor - 1);
		break;
	case 'H':
		move_to(e, 0);
		break;
	case 'F':
		move_to(e, e->length);
		break;
	case '~':
		if (e->parameter == 1 || e->parameter == 7)
			move_to(e, 0);
		else if (e->parameter == 4 || e->parameter == 8)
			move_to(e, e->length);
		else if (e->parameter == 3 && e->cursor < e->length)
			erase(e, e->cursor, e->cursor + 1);
		break;
	default:
		break;
	}
}

/* True if the byte belonged to an escape sequence. */
static bool escape_key(struct lineedit *e, char c)
{
	if (c < ' ' || c > '~')
		e->escape = ESCAPE_NONE; /* a key of its own ends a sequence, Enter after Escape too */
	switch (e->escape) {
	case ESCAPE_START:
		e->escape = c == '[' ? ESCAPE_CSI : c == 'O' ? ESCAPE_SS3 : ESCAPE_NONE;
		e->parameter = 0;
		return true;
	case ESCAPE_CSI:
		if (c >= '0' && c <= '9') {
			e->parameter = MIN(e->parameter * 10 + (uint32_t)(c - '0'), 999u);
			return true;
		}
		if (c < '@') /* other parameters and intermediates */
			return true;
		/* fall through */
	case ESCAPE_SS3:
		e->escape = ESCAPE_NONE;
		csi_key(e, c);
		return true;
	default:
		return false;
	}
}

static bool enter(struct lineedit *e)
{
	text(e, "\n");
	remember(e);
	return true;
}

static void control_key(struct lineedit *e, char c)
{
	switch (c) {
	case CTRL('A'):
		move_to(e, 0);
		break;
	case CTRL('B'):
		csi_key(e, 'D');
		break;
	case CTRL('C'):
		text(e, "^C\n");
		lineedit_start(e);
		break;
	case CTRL('D'):
		if (e->cursor < e->length)
			erase(e, e->cursor, e->cursor + 1);
		break;
	case CTRL('E'):
		move_to(e, e->length);
		break;
	case CTRL('F'):
		move_to(e, e->cursor + 1);
		break;
	case CTRL('K'):
		e->length = e->cursor;
		e->line[e->length] = '\0';
		redraw(e);
		break;
	case CTRL('L'):
		text(e, "\x1b[H\x1b[2J");
		lineedit_show(e);
		break;
	case CTRL('N'):
		csi_key(e, 'B');
		break;
	case CTRL('P'):
		csi_key(e, 'A');
		break;
	case CTRL('U'):
		erase(e, 0, e->cursor);
		break;
	case CTRL('W'):
		erase_word(e);
		break;
	case '\t':
		complete(e);
		break;
	case '\b':
	case 0x7f:
		if (e->cursor)
			erase(e, e->cursor - 1, e->cursor);
		break;
	case 0x1b:
		e->escape = ESCAPE_START;
		break;
	default:
		break;
	}
}

bool lineedit_key(struct lineedit *e, char c)
{
	bool after_cr = e->last_cr;

	e->last_cr = c == '\r';
	if (escape_key(e, c))
		return false;
	if (c == '\r' || (c == '\n' && !after_cr))
		return enter(e);
	if (c >= ' ' && c < 0x7f)
		insert(e, &c, 1);
	else if (c != '\n')
		control_key(e, c);
	return false;
}
