// SPDX-License-Identifier: Apache-2.0
/* Urgent bytes, of every engine that has them. */
#include <CUnit/CUnit.h>

#include "lib/base/util.h"
#include "tests/unit/engine_ends.h"

/*
 * Urgent bytes: each is told at its place in the stream, before it is read, also when segments are
 * lost and sent again. Odd rounds have bytes behind the urgent one.
 */
static void urgent(const char *from, const char *to, unsigned loss)
{
	struct end *a = end_at(0), *b = end_at(1);
	uint64_t place = 0;
	uint8_t byte;
	size_t mark;

	start(loss);
	listen_on(to);
	join(from, to);
	for (unsigned round = 0; round < 100; round++) {
		push(a, a->sent + round * 37);
		place = a->sent++;
		byte = pattern(place);
		CU_ASSERT_EQUAL_FATAL(ops->send_urgent(a->conn, &byte), 1);
		if (round & 1)
			push(a, a->sent + round * 11);
		for (unsigned i = 0; i < 60000 && !ops->urgent(b->conn, &mark); i++)
			step();
		CU_ASSERT_FATAL(ops->urgent(b->conn, &mark));
		CU_ASSERT_EQUAL(b->received + mark, place);
		for (unsigned i = 0; i < 60000 && b->received < place; i++) {
			pull(b, MIN(100, place - b->received));
			step();
		}
		CU_ASSERT_EQUAL(b->received, place);
		CU_ASSERT(ops->urgent(b->conn, &mark) && mark == 0);
		for (unsigned i = 0; i < 60000 && b->received < a->sent; i++) {
			pull(b, 100);
			step();
		}
		CU_ASSERT_FALSE(ops->urgent(b->conn, &mark));
	}
	CU_ASSERT_FALSE(b->bad || a->failed || b->failed);
	ops->abort(a->conn);
	ops->abort(b->conn);
	stop();
}

/* An urgent byte that is announced long before it comes: no other byte is taken for it. */
void test_urgent_far(void)
{
	struct end *a = end_at(0), *b = end_at(1);
	const uint64_t place = 300000;
	uint8_t byte = pattern(place);
	uint32_t sent = 0;
	size_t mark;

	start(0);
	listen_on("10.0.0.2");
	join("10.0.0.1", "10.0.0.2");
	far_place = last_syn.seq + 1 + (uint32_t)place;
	for (unsigned i = 0; i < 100000 && b->received < place; i++) {
		push(a, place);
		if (a->sent == place && !sent)
			sent = ops->send_urgent(a->conn, &byte) == 1;
		step();
		if (ops->urgent(b->conn, &mark))
			CU_ASSERT(mark > 0);
		pull(b, MIN(5000, place - b->received));
	}
	a->sent += sent;
	far_place = 0;
	for (unsigned i = 0; i < 1000 && !(ops->urgent(b->conn, &mark) && mark == 0); i++)
		step();
	CU_ASSERT(ops->urgent(b->conn, &mark) && mark == 0);
	pull(b, 1);
	CU_ASSERT_FALSE(ops->urgent(b->conn, &mark) || b->bad);
	CU_ASSERT_EQUAL(b->received, place + 1);
	ops->abort(a->conn);
	ops->abort(b->conn);
	stop();
}

void test_urgent4(void)
{
	urgent("10.0.0.1", "10.0.0.2", 0);
}

void test_urgent6(void)
{
	urgent("fd00::1", "fd00::2", 0);
}

void test_urgent_loss(void)
{
	urgent("10.0.0.1", "10.0.0.2", 50);
}
