/* System calls. Interrupts on, on the thread's kernel stack. Buffers are checked, then used in place:
 * a fault on them is the process's own. */
#include "guest-drivers/kernel/syscall.h"

#include "guest-drivers/kernel/cache.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/disk.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/timer.h"
#include "guest-drivers/kernel/trap.h"

#define PRINT_MAX 200u
#define FILE_CALL_MAX (64u * 1024)
#define FAILED UINT64_MAX

typedef uint64_t (*syscall_fn)(struct proc *p, uint64_t a, uint64_t b, uint64_t c);

static uint64_t sys_exit(struct proc *p, uint64_t a, uint64_t b, uint64_t c)
{
	(void)p, (void)b, (void)c;
	proc_exit((int)a);
}

static uint64_t sys_print(struct proc *p, uint64_t text, uint64_t bytes, uint64_t c)
{
	char line[PRINT_MAX + 1];

	(void)c;
	if (bytes > PRINT_MAX)
		return FAILED;
	if (text >= USER_BASE && !vm_range_is_valid(&p->vm, text, bytes))
		return FAILED;
	if (text < USER_BASE && !trap_is_user_image(text, bytes))
		return FAILED;
	memcpy(line, (const void *)text, bytes);
	line[bytes] = '\0';
	print("pid %u (%s): %s\n", p->pid, p->name, line);
	return 0;
}

static uint64_t sys_grow(struct proc *p, uint64_t pages, uint64_t b, uint64_t c)
{
	uint64_t end = USER_BASE + (uint64_t)p->vm.brk * PAGE_BYTES;

	(void)b, (void)c;
	if (pages > USER_SPACE_PAGES - p->vm.brk)
		return FAILED;
	p->vm.brk += (uint32_t)pages;
	return end;
}

static uint64_t sys_release(struct proc *p, uint64_t va, uint64_t bytes, uint64_t c)
{
	(void)c;
	if (va < USER_HEAP || !vm_range_is_valid(&p->vm, va, bytes))
		return FAILED;
	uint64_t first = ALIGN_UP(va - USER_BASE, PAGE_BYTES) / PAGE_BYTES;
	uint64_t end = (va - USER_BASE + bytes) / PAGE_BYTES;

	vm_release(&p->vm, (uint32_t)first, (uint32_t)MAX(first, end));
	return 0;
}

static bool file_range(struct proc *p, uint64_t offset, uint64_t buf, uint64_t bytes, uint64_t end)
{
	return bytes <= FILE_CALL_MAX && offset <= end && bytes <= end - offset && buf >= USER_BASE &&
	       vm_range_is_valid(&p->vm, buf, bytes);
}

static uint64_t sys_file_read(struct proc *p, uint64_t offset, uint64_t buf, uint64_t bytes)
{
	uint64_t done = 0;

	if (!file_range(p, offset, buf, bytes, disk_layout()->file_written * PAGE_BYTES))
		return FAILED;
	while (done < bytes && !p->killed) {
		uint64_t at = offset + done, in = at % PAGE_BYTES;
		uint64_t n = MIN(PAGE_BYTES - in, bytes - done);
		uint32_t page = cache_get(p, (uint32_t)(at / PAGE_BYTES));

		if (page == NO_PAGE)
			return FAILED;
		memcpy((void *)(buf + done), (char *)page_address(page) + in, n);
		cache_unpin(p);
		done += n;
	}
	return done;
}

static uint64_t sys_file_write(struct proc *p, uint64_t offset, uint64_t buf, uint64_t bytes)
{
	uint64_t done = 0, written = disk_layout()->file_written * PAGE_BYTES;

	if ((offset | bytes) % PAGE_BYTES || offset > written ||
	    !file_range(p, offset, buf, bytes, disk_layout()->file_pages * PAGE_BYTES))
		return FAILED;
	for (; done < bytes && !p->killed; done += PAGE_BYTES) {
		uint32_t page = cache_get_new(p, (uint32_t)((offset + done) / PAGE_BYTES));

		if (page == NO_PAGE)
			return FAILED;
		memcpy(page_address(page), (const void *)(buf + done), PAGE_BYTES);
		bool good = cache_write(page);

		cache_unpin(p);
		if (!good)
			return FAILED;
	}
	if (offset + done > disk_layout()->file_written * PAGE_BYTES)
		disk_file_written((uint32_t)((offset + done) / PAGE_BYTES));
	return done;
}

static uint64_t sys_file_info(struct proc *p, uint64_t out, uint64_t b, uint64_t c)
{
	const struct disk_layout *l = disk_layout();

	(void)b, (void)c;
	if (out < USER_BASE || !vm_range_is_valid(&p->vm, out, sizeof(struct file_info)))
		return FAILED;
	*(struct file_info *)out = (struct file_info){ l->file_pages * PAGE_BYTES,
						       l->file_written * PAGE_BYTES, l->seed };
	return 0;
}

static uint64_t sys_yield(struct proc *p, uint64_t a, uint64_t b, uint64_t c)
{
	(void)p, (void)a, (void)b, (void)c;
	sched_yield();
	return 0;
}

static uint64_t sys_sleep(struct proc *p, uint64_t ns, uint64_t b, uint64_t c)
{
	uint64_t until = now_ns() + MIN(ns, 3600 * NS_PER_S);

	(void)b, (void)c;
	irq_off();
	while (!p->killed && now_ns() < until)
		sched_block(NULL, until);
	irq_on();
	return 0;
}

static uint64_t sys_time(struct proc *p, uint64_t shared, uint64_t b, uint64_t c)
{
	(void)p, (void)b, (void)c;
	return shared ? shared_ns() : now_ns();
}

static uint64_t sys_pressure(struct proc *p, uint64_t wait_ns, uint64_t b, uint64_t c)
{
	uint64_t until = now_ns() + MIN(wait_ns, 3600 * NS_PER_S);
	unsigned int before = pressure_level();

	(void)b, (void)c;
	irq_off();
	while (wait_ns && !p->killed && pressure_level() == before && now_ns() < until)
		sched_block((const void *)&pressure_level, until);
	irq_on();
	return pressure_level();
}

static uint64_t sys_progress(struct proc *p, uint64_t passes, uint64_t errors, uint64_t c)
{
	(void)c;
	p->passes = passes;
	p->errors = errors;
	return 0;
}

static const syscall_fn table[SYS_COUNT] = {
	[SYS_EXIT] = sys_exit,
	[SYS_PRINT] = sys_print,
	[SYS_GROW] = sys_grow,
	[SYS_RELEASE] = sys_release,
	[SYS_FILE_READ] = sys_file_read,
	[SYS_FILE_WRITE] = sys_file_write,
	[SYS_FILE_INFO] = sys_file_info,
	[SYS_YIELD] = sys_yield,
	[SYS_SLEEP] = sys_sleep,
	[SYS_TIME] = sys_time,
	[SYS_PRESSURE] = sys_pressure,
	[SYS_PROGRESS] = sys_progress,
};

void trap_system_call(struct trap_frame *f)
{
	if (f->rax >= SYS_COUNT)
		f->rax = FAILED;
	else
		f->rax = table[f->rax](current->proc, f->rdi, f->rsi, f->rdx);
}
