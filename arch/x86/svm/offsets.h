/* Where entry.S finds things; svm_run.c asserts each. */
#pragma once

#define SVM_OFF_GPR       0
#define SVM_OFF_VMCB      320 /* struct x86_vcpu, entry[0] */
#define SVM_OFF_VMCB_HPA  328
#define SVM_OFF_HOST_HPA  336
#define SVM_VMCB_RAX      0x5f8
#define SVM_VMCB_EXITCODE 0x070
