/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages of the zygote: on FD_MONITOR to the monitor, on FD_ZYGOTE to K (seqpacket, one struct a message). */
#ifndef LOL_ZYGOTE_H
#define LOL_ZYGOTE_H

#include <stdint.h>

enum zygote_what {
	ZYG_ERROR = 1, /* err, text: it has ended */
	ZYG_K_STARTED, /* a pidfd of K comes along */
	ZYG_K_DIED,    /* status as from waitpid(2); the zygote ends */
	ZYG_U,         /* to K: err, or 0 and a pidfd of the new U */
};

struct zygote_msg {
	uint32_t what;
	int32_t err;
	int32_t status;
	char text[116];
};

#endif
