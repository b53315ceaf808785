// SPDX-License-Identifier: MIT OR GPL-2.0
/* All programs and their tables, in one object: they share the tables. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "drop_reason.h"
#include "tcx.h"
#include "xdp.h"

/* For helpers that are for programs under the GPL only (bpf_probe_read_kernel). */
char _license[] SEC("license") = "Dual MIT/GPL";
