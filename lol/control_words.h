/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests of the control protocol as words that a person types, and answers as text: for lolctl and the control prompt. */
#ifndef LOL_CONTROL_WORDS_H
#define LOL_CONTROL_WORDS_H

#include "error.h"

#include <jansson.h>

/* words: the verb and what follows it, without the name of a VM. A new reference, or NULL with *err "WHAT: WHY; HINT". */
json_t *control_request(unsigned n, const char *const words[], struct lol_error *err);

/* The answer to the request `what` for a person, complete lines, to be freed; "" where success has nothing to say. */
char *control_text(const char *what, const json_t *answer);

#define CONTROL_VERBS \
	"status           what the VM is and does\n" \
	"pause            stop all virtual CPUs\n" \
	"resume           let them go on\n" \
	"stop [--force]   ask the guest to power off; --force: end the VM at once\n" \
	"console          attach to the console; Ctrl-A x detaches\n" \
	"stats            counters\n" \
	"sysrq KEY        the guest kernel's magic system request\n" \
	"balloon [SIZE]   memory that the guest is to use\n" \
	"disks            the disks, and the size of files that have changed\n" \
	"resize DISK SIZE [--shrink]  another size for a disk\n" \
	"dump FILE        a vmcore for crash and drgn\n"

#endif
