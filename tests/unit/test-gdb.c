/* SPDX-License-Identifier: BSD-2-Clause */
/* The gdb remote protocol: framing, every command with right and wrong arguments, what is sent at a stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../lib/gdb-fake.h"
#include "gdb/regs.h"

#include <stdio.h>
#include <stdlib.h>

static struct fake fake;
static struct gdb_target target;
static struct gdb_session *session;

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	for (unsigned i = 0; i < FAKE_SIZE; i++)
		fake.memory[i] = (uint8_t)i;
	fake.state[0].rip = 0x1234;
	fake.state[1].rip = 0x5678;
	target = fake_target(&fake);
	session = gdb_session_create(&target);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gdb_session_destroy(session);
	return 0;
}

/* What came out since the last time, as text. */
static const char *out(void)
{
	static char text[2 * GDB_PACKET_MAX];

	assert_true(session->out.len < sizeof(text));
	if (session->out.len)
		memcpy(text, session->out.data, session->out.len);
	text[session->out.len] = 0;
	session->out.len = 0;
	return text;
}

static void put(const char *payload, size_t n)
{
	struct gdb_out o = {0};

	gdb_packet_frame(&o, payload, n);
	gdb_session_input(session, o.data, o.len);
	gdb_out_free(&o);
}

/* The payload of the one answer to a packet; "none" when there is no answer. */
static const char *ask(const char *packet)
{
	static char text[2 * GDB_PACKET_MAX];

	put(packet, strlen(packet));
	const char *all = out();
	if (!session->quiet || !strcmp(packet, "QStartNoAckMode")) {
		assert_int_equal(all[0], '+');
		all++;
	}
	if (!*all)
		return "none";
	const char *end = strrchr(all, '#');
	assert_non_null(end);
	assert_int_equal(all[0], '$');
	snprintf(text, sizeof(text), "%.*s", (int)(end - all - 1), all + 1);
	return text;
}

#define answers(packet, expected) assert_string_equal(ask(packet), expected)

static void framing(void **state)
{
	(void)state;
	gdb_session_input(session, "$qC#b4", 6);
	assert_string_equal(out(), "+$QC1#c5");
	gdb_session_input(session, "$qC#b5", 6); /* a wrong checksum */
	assert_string_equal(out(), "-");
	gdb_session_input(session, "$qC#zz", 6);
	assert_string_equal(out(), "-");
	gdb_session_input(session, "-", 1); /* again, please */
	assert_string_equal(out(), "$QC1#c5");
	gdb_session_input(session, "garbage+++$qS$qC#b4", 19); /* a packet that lost its end */
	assert_string_equal(out(), "+$QC1#c5");
	gdb_session_input(session, "\003", 1); /* it rests already */
	assert_int_equal(fake.stops, 0);
	answers("QStartNoAckMode", "OK");
	gdb_session_input(session, "$qC#b4", 6);
	assert_string_equal(out(), "$QC1#c5");
}

static void huge(void **state)
{
	char *text = malloc(300000);

	(void)state;
	memset(text, 'x', 300000);
	put(text, 300000);
	const char *all = out();
	assert_non_null(strstr(all, "$E.the packet is longer"));
	free(text);
	answers("qC", "QC1");
}

static void registers(void **state)
{
	(void)state;
	answers("p10", "3412000000000000");
	answers("pfff", "E16");
	answers("p", "E16");
	answers("P10=8877665544332211", "OK");
	assert_int_equal(fake.state[0].rip, 0x1122334455667788);
	assert_int_equal(fake.changed[0], PARK_CHANGED);
	answers("P10=88", "E16");
	answers("P10=887766554433221g", "E16");
	fake.state[0].r[3] = 0x42; /* rbx is gdb's number 1 */
	answers("p1", "4200000000000000");
	/* xmm1 of an image whose SSE part is initial reads as 0, whatever stands there; writing makes it real. */
	memset(fake.state[0].xstate + 160, 0xee, 256);
	answers("p29", "00000000000000000000000000000000");
	answers("P29=0102030405060708090a0b0c0d0e0f10", "OK");
	answers("p29", "0102030405060708090a0b0c0d0e0f10");
	answers("p28", "00000000000000000000000000000000");
	assert_int_equal(fake.changed[0], PARK_CHANGED | PARK_CHANGED_XSTATE);
	const char *all = ask("g");
	unsigned digits = 0;
	for (unsigned i = 0; i < gdb_regs_count(); i++)
		digits += 2 * gdb_reg_size(i);
	assert_int_equal(strlen(all), digits);
	char *again = malloc(digits + 2);
	snprintf(again, digits + 2, "G%s", all);
	answers(again, "OK");
	again[digits - 4] = 0;
	answers(again, "E16");
	free(again);
	answers("Hg2", "OK");
	answers("p10", "7856000000000000");
	answers("Hg3", "E16");
	answers("Hgffffffffffffffffff", "E16");
}

static void memory(void **state)
{
	(void)state;
	answers("m10001,4", "01020304");
	answers("m1fffe,10", "feff"); /* what there is of it */
	answers("mffff,2", "E0e");
	answers("m10000,0", "");
	answers("m10000", "E16");
	answers("m10000,ffffffffffffffffff", "E16");
	answers("mfffffffffffffff0,100", "E0e");
	answers("M10001,2:aabb", "OK");
	answers("m10000,4", "00aabb03");
	answers("M10001,2:aab", "E16");
	answers("M10001,2:aabbcc", "E16");
	answers("M1ffff,2:aabb", "E0e");
	answers("M5,1:aa", "E0e");
	put("X10010,3:\x01#$", 12); /* escaped on the way */
	assert_non_null(strstr(out(), "$OK#"));
	answers("m10010,3", "012324");
	answers("qqemu.PhyMemMode", "0");
	answers("Qqemu.PhyMemMode:1", "OK");
	answers("m10,3", "012324");
	answers("Qqemu.PhyMemMode:2", "E16");
	answers("Qqemu.PhyMemMode:0", "OK");
	/* Runs of a digit: at most 98, and never so many that their number would be a '#' or '$'. */
	memset(fake.memory + 0x100, 0, 60);
	answers("m10100,3c", "0*~0*2");
	memcpy(fake.memory + 0x100, "\x11\x11\x11\x11\x22\x22\x22\x23\x33\x34\x44\x45", 12);
	answers("m10100,4", "1*\"11");
	answers("m10104,4", "2*\"23");
	answers("m10107,2", "2333");
	answers("m10108,4", "3334* 5");
}

static void points(void **state)
{
	(void)state;
	answers("Z0,10000,1", "OK");
	answers("Z0,10000,1;X5,26000016#0", "E16");
	answers("Z0,10010,1;X4,26000027", "OK");
	assert_int_equal(fake.agent_len, 4);
	assert_memory_equal(fake.agent, "\x26\x00\x00\x27", 4);
	answers("Z0,10010,1;X40,26", "E16"); /* shorter than it says */
	answers("Z0,10010,1;Xffffffff,26", "E16");
	answers("Z0,5,1", "E.nothing is mapped there now");
	answers("Z5,10000,1", "");
	answers("Z0,10000", "E16");
	answers("Z0", "E16");
	answers("z0,10000,1", "OK");
	answers("z0,10000,1", "OK");
	answers("z0,10000,1", "E02");
}

static void going(void **state)
{
	(void)state;
	answers("vCont?", "vCont;c;C;s;S;r");
	answers("vCont", "E16");
	answers("vCont;", "E16");
	answers("vCont;t", "E16");
	answers("vCont;c:9", "E16");
	answers("vCont;s:2;c", "none");
	assert_int_equal(fake.how[0], GO_ON);
	assert_int_equal(fake.how[1], GO_STEP);
	answers("g", "E.the guest runs; interrupt it first");
	gdb_session_input(session, "\003", 1);
	assert_int_equal(fake.stops, 1);
	gdb_session_stopped(session, 1, WHY_STEPPED, 0);
	assert_string_equal(out(),
			    "$T05thread:2;core:1;06:0000000000000000;07:0000000000000000;10:7856000000000000;#ce");
	answers("vCont;s:1", "none");
	assert_int_equal(fake.how[0], GO_STEP);
	assert_int_equal(fake.how[1], GO_STAY);
	gdb_session_stopped(session, 0, WHY_WATCH_WRITE, 0x10008);
	assert_non_null(strstr(out(), "watch:10008;"));
	answers("vCont;r1000:1", "E16");
	answers("vCont;r1000,1010:1;c", "none");
	assert_int_equal(fake.how[0], GO_STEP);
	assert_int_equal(fake.how[1], GO_ON);
	assert_int_equal(fake.range[0].start, 0x1000);
	assert_int_equal(fake.range[0].end, 0x1010);
	assert_int_equal(fake.range[1].end, 0);
	gdb_session_stopped(session, 0, WHY_STEPPED, 0);
	assert_non_null(strstr(out(), "$T05thread:1"));
	answers("c10008", "none");
	assert_int_equal(fake.state[0].rip, 0x10008);
	gdb_session_stopped(session, 0, WHY_ASKED, 0);
	assert_non_null(strstr(out(), "$T02thread:1"));
	answers("C", "E16");
	answers("S05;zz", "E16");
	answers("s", "none");
	gdb_session_ended(session, 0);
	assert_string_equal(out(), "$W00#b7");
}

static void queries(void **state)
{
	(void)state;
	assert_non_null(strstr(ask("qSupported:swbreak+;xmlRegisters=i386"), "PacketSize=10000;"));
	answers("qfThreadInfo", "m1,2");
	answers("qsThreadInfo", "l");
	answers("qThreadExtraInfo,2", "43505523312075736572");
	answers("qThreadExtraInfo,7", "E16");
	answers("T2", "OK");
	answers("T3", "E16");
	answers("qOffsets", "TextSeg=0;DataSeg=1000000");
	answers("qAttached", "1");
	answers("qNothingOfTheKind", "");
	answers("vMustReplyEmpty", "");
	answers("qXfer:features:read:target.xml:0,5", "m<?xml");
	assert_int_equal(ask("qXfer:features:read:target.xml:0,ffff")[0], 'l');
	const char *xml = ask("qXfer:features:read:target.xml:0,ffff");
	char reg[80];
	static const struct {
		const char *name;
		unsigned number;
	} known[] = {{"fs_base", KREG_FS_BASE}, {"gs_base", KREG_GS_BASE}, {"cr3", KREG_CR3}, {"cpl", KREG_CPL}};
	for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
		snprintf(reg, sizeof(reg), "name=\"%s\" bitsize=\"64\" type=\"int64\" regnum=\"%u\"", known[i].name,
			 known[i].number);
		assert_non_null(strstr(xml, reg));
	}
	answers("qXfer:features:read:target.xml:fffff,5", "E16");
	answers("qXfer:features:read:other.xml:0,5", "E00");
	answers("qXfer:features:read:target.xml:0", "E16");
	put("qRcmd,68656c70", 14);
	assert_string_equal(out(), "+$O43505520303a2068656c700a#aa$OK#9a");
	answers("qRcmd,6", "E16");
	answers("qRcmd,zz", "E16");
	answers("D", "OK");
	assert_int_equal(fake.detaches, 1);
	assert_true(session->over);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(framing, setup, teardown),
		cmocka_unit_test_setup_teardown(huge, setup, teardown),
		cmocka_unit_test_setup_teardown(registers, setup, teardown),
		cmocka_unit_test_setup_teardown(memory, setup, teardown),
		cmocka_unit_test_setup_teardown(points, setup, teardown),
		cmocka_unit_test_setup_teardown(going, setup, teardown),
		cmocka_unit_test_setup_teardown(queries, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
