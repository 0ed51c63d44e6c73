/* The whole VMCS into the log, for a failed entry or an exit that nobody expects. */
#include "arch/x86/vmx/vmx.h"
#include "vmm/base/fmt.h"
#include "vmm/base/log.h"

#define PER_LINE 4u

void vmx_dump(const struct x86_vcpu *v)
{
	char line[160];
	int used = 0;
	uint32_t on_line = 0;
	(void)v;
	for (uint32_t i = 0; i < vmx_field_name_count; i++) {
		uint64_t value;
		/* Fields of features that this processor lacks cannot be read. */
		if (!vmread_checked(vmx_field_names[i].field, &value))
			continue;
		used += fmt_snprintf(line + used, sizeof(line) - (size_t)used, "%s%s %#llx",
			on_line == 0 ? "  " : ", ", vmx_field_names[i].name,
			(unsigned long long)value);
		if (++on_line < PER_LINE)
			continue;
		log_err("%s", line);
		on_line = 0;
		used = 0;
	}
	if (on_line != 0)
		log_err("%s", line);
}
