/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes from a gdb client: no crash, no leak, bounded output. Lines of the input become packets with the right checksum,
 * but for those that begin with '!', which go in as they are; the guest stops after each.
 */
#include "../lib/gdb-fake.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake fake;
	struct gdb_target target = fake_target(&fake);
	struct gdb_session *s = gdb_session_create(&target);

	memset(&fake, 0, sizeof(fake));
	for (size_t at = 0; s && at < size;) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t n = end ? (size_t)(end - data) - at : size - at;
		if (n && data[at] == '!') {
			gdb_session_input(s, data + at + 1, n - 1);
		} else {
			struct gdb_out o = {0};
			gdb_packet_frame(&o, data + at, n);
			gdb_session_input(s, o.data, o.len);
			gdb_out_free(&o);
		}
		if (s->running) {
			fake.state[n % FAKE_CPUS].rip += n;
			gdb_session_stopped(s, (unsigned)n % FAKE_CPUS, (enum gdb_why)(n % (WHY_WATCH_ACCESS + 1)), n);
		}
		if (s->out.len > 64 * GDB_PACKET_MAX)
			abort();
		s->out.len = 0;
		at += n + 1;
	}
	gdb_session_destroy(s);
	return 0;
}
