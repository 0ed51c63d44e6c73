/* Intrusive circular doubly linked list. A node not on a list points to itself. */
#pragma once

#include "vmm/base/types.h"

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_insert(struct list *at, struct list *n)
{
	n->next = at->next;
	n->prev = at;
	at->next->prev = n;
	at->next = n;
}
static inline void list_push_front(struct list *l, struct list *n)
{
	list_insert(l, n);
}
static inline void list_push_back(struct list *l, struct list *n)
{
	list_insert(l->prev, n);
}
static inline void list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_for_each(it, head)       for (struct list *it = (head)->next; it != (head); it = it->next)
/* `next` must be a name not used in the scope; the body may remove `it`. */
#define list_for_each_safe(it, next_, head)                                                        \
	for (struct list *it = (head)->next, *next_ = it->next; it != (head);                      \
		it = next_, next_ = it->next)
