// SPDX-License-Identifier: Apache-2.0
/* Configuration of other systems: what becomes of it, what is said about it and where. */
#include <errno.h>
#include <string.h>

#include "policyd/ctl.h"
#include "policyd/fields.h"
#include "policyd/import.h"
#include "policyd/node.h"
#include "policyd/policy_keys.h"
#include "tests/unit/unit.h"

static struct import im;
static struct import_map maps[4];
static size_t n_maps;

static void map(const char *text)
{
	CU_ASSERT_EQUAL(import_map_parse(text, &maps[n_maps]), 0);
	n_maps++;
}

static int run_len(const char *format, const char *text, size_t len)
{
	int r;

	import_fini(&im);
	im = (struct import){.file = "f", .map = maps, .n_map = n_maps};
	r = import_text(&im, import_find_format(format), text, len);
	n_maps = 0;
	CU_ASSERT_PTR_NOT_NULL_FATAL(im.policy);
	CU_ASSERT_EQUAL(r, im.diags.errors ? -EINVAL : 0);
	return r;
}

static int run(const char *format, const char *text)
{
	return run_len(format, text, strlen(text));
}

/* The rules in short, one a line, then the default. */
static char *rules(const struct dmm_policy *p)
{
	char *text = NULL;
	struct fields f;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (size_t i = 0; i < p->n_rules; i++) {
		fprintf(out, "%s ", p->rules[i].name);
		fields_of_rule(&p->rules[i], &f);
		fields_print(&f, out);
		fields_fini(&f);
		fputc('\n', out);
	}
	if (p->n_def && strcmp(p->def[0], "kernel") != 0)
		fprintf(out, "default %s\n", p->def[0]);
	fclose(out);
	return text;
}

static char *yaml(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	CU_ASSERT_EQUAL(import_print(&im, out), 0);
	fclose(out);
	return text;
}

/* What is printed reads back, by the parser of every policy, as the same rules. */
static void check_reads_back(void)
{
	struct policy_diags d = {0};
	struct dmm_policy *p = NULL;
	char *text = yaml(), *a, *b;

	CU_ASSERT_EQUAL_FATAL(policy_parse_text("y", text, strlen(text), &p, &d), 0);
	CU_ASSERT_EQUAL(d.n, 0);
	a = rules(im.policy);
	b = rules(p);
	CU_ASSERT_STRING_EQUAL(a, b);
	free(a);
	free(b);
	free(text);
	policy_free(p);
	policy_diags_fini(&d);
}

static void check_rules(const char *want)
{
	char *text = rules(im.policy);

	CU_ASSERT_STRING_EQUAL(text, want);
	if (strcmp(text, want) != 0)
		fprintf(stderr, "rules:\n%swanted:\n%s", text, want);
	free(text);
	check_reads_back();
}

/* All diagnostics; without a line's end, how they begin. */
static void check_says(const char *want)
{
	size_t n = strlen(want), len;
	char *text = NULL;
	FILE *out = open_memstream(&text, &len);
	bool good;

	policy_diags_print(&im.diags, out);
	fclose(out);
	good = n && want[n - 1] != '\n' ? strncmp(text, want, n) == 0 : strcmp(text, want) == 0;
	CU_ASSERT_TRUE(good);
	if (!good)
		fprintf(stderr, "says:\n%swanted:\n%s", text, want);
	free(text);
}

/* ---- dmm-rd ---- */

/* One entry of ip_route in its third line. */
static int run_entry(const char *entry)
{
	char text[512];

	snprintf(text, sizeof(text), "{\"prot_route\": [],\n\"ip_route\": [\n%s\n]}", entry);
	return run("dmm-rd", text);
}

static void test_rd(void)
{
	map("nstack-lwip=edge0");
	run("dmm-rd", "{ // a comment\n"
		      "  \"ip_route\": [ # another\n"
		      "    {\"subnet\": \"10.0.0.0/8\", \"type\": \"nstack-dpdk\",},\n"
		      "    {\"subnet\": \"10.1.0.0/16\", \"type\": \"nstack-kernel\"}, /* of\n"
		      "    two lines, { */ {\"type\": \"kernel\", \"subnet\": \"10.2.0.0/16\"},\n"
		      "    {\"subnet\": \"10.3.1.1/24\", \"type\": \"nstack-lwip\"},\n"
		      "    {\"subnet\": \"0.0.0.0/0\", \"type\": \"nstack-dpdk\"},\n"
		      "  ],\n"
		      "  \"prot_route\": [{\"proto_type\": \"17\", \"type\": \"nstack-kernel\"},\n"
		      "    {\"proto_type\": 6, \"type\": \"nstack-dpdk\"},],\n"
		      "}\n");
	check_rules("rd-1 remote=10.3.1.0/24 use=edge0\n"
		    "rd-2 remote=10.1.0.0/16 use=kernel\n"
		    "rd-3 remote=10.2.0.0/16 use=kernel\n"
		    "rd-4 remote=10.0.0.0/8 use=nstack-dpdk\n"
		    "rd-5 remote=0.0.0.0/0 use=nstack-dpdk\n"
		    "rd-6 proto=udp use=kernel\n"
		    "rd-7 proto=tcp use=nstack-dpdk\n");
	check_says("f:3:38: warning: the stack \"nstack-dpdk\" has to be defined in stacks; "
		   "--map nstack-dpdk=STACK names another\n"
		   "f:6:16: warning: 10.3.1.1/24 is taken as 10.3.1.0/24: it has host bits\n");
	CU_ASSERT_EQUAL(im.policy->rules[0].pos.line, 6);
	CU_ASSERT_EQUAL(im.policy->rules[1].pos.line, 4);
	CU_ASSERT_EQUAL(im.policy->rules[2].pos.line, 5);
	CU_ASSERT_EQUAL(im.policy->rules[6].pos.line, 10);
	CU_ASSERT_TRUE(maps[0].used);
	run("dmm-rd", "{\"ip_route\": [], \"prot_route\": []}");
	check_rules("");
	check_says("");
}

static void test_rd_text(void)
{
	char *text = NULL;

	run_entry("{\"subnet\": \"1.0.0.0/8\", \"type\": \"a\"}");
	text = yaml();
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# From f by dmm-policy import --from dmm-rd.\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# To be defined in stacks: a (line 3)\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# rd-1: line 3\n"));
	/* It can stand in policy.d beside a file with a default. */
	CU_ASSERT_PTR_NULL(strstr(text, "default:"));
	free(text);
	run_entry("{\"subnet\": \"1.0.0.0/8\"}");
	im.file = "odd\n: \xc2\x85name"; /* NEL ends a comment of YAML */
	check_reads_back();
	text = yaml();
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# From odd?: ??name by"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "NOT ALL"));
	free(text);
}

/* What is around comments and commas stays; strings keep what looks like them. */
static void test_rd_json(void)
{
	run_entry("{\"subnet\": \"1.0.0.0/8\", \"type\": \"//x\"}");
	check_says("f:3:33: error: \"//x\" cannot be ");
	run_entry("{\"subnet\": \"1.0.0.0/8\", \"type\": \"a,]\\\"#\"}");
	check_says("f:3:33: error: \"a,]\"#\" cannot be ");
	run_entry("/* { [ \" */ {\"subnet\": \"1.0.0.0/8\", \"type\": \"kernel\", /**/ } // , ]");
	check_rules("rd-1 remote=1.0.0.0/8 use=kernel\n");
	run_entry("{\"subnet\": \"1.0.0.0/8\", \"type\": \"kernel\"} # \xff\xfe");
	check_says("");
	run("dmm-rd", "\xef\xbb\xbf{\r\n\"ip_route\": [\r\n{\"subnet\": \"1.0.0.0/8\",\r\n"
		      "\"type\": 1}], // x\r\n\"prot_route\": [],}\r\n");
	check_says("f:4:9: error: \"type\" must be a text\n");
	run("dmm-rd", "");
	check_says("f:1: error: '[' or '{' expected near end of file\n");
	run_entry("\n,");
	check_says("f:4:1: error: ");
	run_entry("{},,");
	check_says("f:3:4: error: ");
	run_entry("\n\n/* {");
	check_says("f:5:1: error: a comment without an end\n");
	run_entry("{\"type\": \"a\", \"type\": \"b\"}");
	check_says("f:3:20: error: duplicate object key near '\"type\"'\n");
	run_entry("{\"type\": \"a\n\"}");
	check_says("f:3:11: error: ");
	run_len("dmm-rd", "{\n\0}", 4);
	check_says("f:2:1: error: ");
	run("dmm-rd", "[]");
	check_says("f:1:1: error: must be {\"ip_route\", \"prot_route\"}\n");
	/* The missing comma of the handbook's example. */
	run("dmm-rd", "{\"ip_route\": []\n\"prot_route\": []}");
	check_says("f:2:12: error: '}' expected near '\"prot_route\"'\n");
}

static void test_rd_entries(void)
{
	run("dmm-rd", "{\"ip_route\": [\n"
		      "{\"subnett\": \"10.0.0.0/8\", \"type\": {\"a\": [1, {\"b\": 2}]}},\n"
		      "{\"subnet\": \"2.0.0.0/8\", \"type\": \"kernel\", \"colour\": [[]]},\n"
		      "{\"subnet\": \"3.0.0.0/8\"},\n"
		      "{\"type\": \"kernel\"},\n"
		      "\"odd\", [1, [2]],\n"
		      "{\"subnet\": \"5.0.0.0/8\", \"type\": \"kernel\"}],\n"
		      "\"prot_route\": {\"proto_type\": [\"6\"]},\n"
		      "\"ip_rute\": [{}],\n"
		      "\"x\": 1}\n");
	check_rules("rd-1 remote=5.0.0.0/8 use=kernel\n");
	check_says("f:2:2: error: unknown key \"subnett\"; did you mean \"subnet\"?\n"
		   "f:2:35: error: \"type\" must be a text\n"
		   "f:3:43: error: unknown key \"colour\"; subnet and type are known\n"
		   "f:4:1: error: this entry of ip_route has no \"type\"\n"
		   "f:5:1: error: this entry of ip_route has no \"subnet\"\n"
		   "f:6:1: error: an entry of ip_route must be {\"subnet\", \"type\"}\n"
		   "f:6:8: error: an entry of ip_route must be {\"subnet\", \"type\"}\n"
		   "f:8:15: error: \"prot_route\" must be a list\n"
		   "f:9:1: error: unknown key \"ip_rute\"; did you mean \"ip_route\"?\n"
		   "f:10:1: error: unknown key \"x\"; ip_route and prot_route are known\n");
	CU_ASSERT_EQUAL(im.policy->rules[0].pos.line, 7);
	run("dmm-rd", "\n{\"ip_route\": []}");
	check_says("f:2:1: error: there is no \"prot_route\"; FD.io DMM wants it, if only as []\n");
}

static void test_rd_values(void)
{
	static const char *const bad[] = {"10.0.0.0", "10.0.0/8",   "10.0.0.0/33", "10.0.0.0/",
					  "/8",	      "10.0.0.0/x", "a.b.c.d/8",   ""};
	char entry[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(entry, sizeof(entry), "{\"subnet\": \"%s\", \"type\": \"kernel\"}",
			 bad[i]);
		CU_ASSERT_EQUAL(run_entry(entry), -EINVAL);
		check_says(strchr(bad[i], '/') ? "f:3:12: error: \"" : "f:3:12: error: subnet ");
		check_rules("");
	}
	run("dmm-rd", "{\"ip_route\": [], \"prot_route\": [\n"
		      "{\"proto_type\": \"11\", \"type\": \"kernel\"},\n"
		      "{\"proto_type\": 1, \"type\": \"kernel\"},\n"
		      "{\"proto_type\": 6.0, \"type\": \"kernel\"},\n"
		      "{\"proto_type\": \"6\", \"type\": \"kernel\"}]}");
	check_rules("rd-1 proto=tcp use=kernel\n");
	check_says("f:2:16: error: proto_type \"11\" has no equivalent; rules know 6 (tcp) and "
		   "17 (udp)\n"
		   "f:3:16: error: proto_type \"1\" has no equivalent; rules know 6 (tcp) and "
		   "17 (udp)\n"
		   "f:4:16: error: \"proto_type\" must be a text\n");
	run("dmm-rd", "{\"prot_route\": [\n"
		      "{\"proto_type\": \"6\", \"type\": \"kernel\"},\n"
		      "{\"proto_type\": \"6\", \"type\": \"a\"}],\n"
		      "\"ip_route\": [{\"subnet\": \"1.2.3.4/8\", \"type\": \"kernel\"},\n"
		      "{\"subnet\": \"1.0.0.0/8\", \"type\": \"a\"}]}");
	check_rules("rd-1 remote=1.0.0.0/8 use=a\nrd-2 proto=tcp use=a\n");
	CU_ASSERT_PTR_NOT_NULL(strstr(im.diags.list[1].text, "is in line 2 already"));
	CU_ASSERT_PTR_NOT_NULL(strstr(im.diags.list[3].text, "is in line 4 already"));
}

static void test_names(void)
{
	struct import_map m;

	CU_ASSERT_EQUAL(import_map_parse("a", &m), -EINVAL);
	CU_ASSERT_EQUAL(import_map_parse("=a", &m), -EINVAL);
	CU_ASSERT_EQUAL(import_map_parse("a=", &m), -EINVAL);
	CU_ASSERT_EQUAL(import_map_parse("a=-b", &m), -EINVAL);
	CU_ASSERT_EQUAL(import_map_parse("a=b c", &m), -EINVAL);
	/* A name that means something else here needs a map; a map may rename the kernel's too. */
	run_entry("{\"subnet\": \"1.0.0.0/8\", \"type\": \"reject\"}");
	check_says("f:3:33: error: \"reject\" cannot be ");
	run_entry("{\"subnet\": \"1.0.0.0/8\", \"type\": \"\"}");
	check_says("f:3:33: error: \"\" cannot be ");
	run_entry("{\"subnet\": \"1.0.0.0/8\", \"type\": "
		  "\"a-name-that-is-too-long-for-a-stack\"}");
	check_says("f:3:33: error: \"a-name-that-is-too-long-for-a-stack\" cannot be ");
	map("reject=edge0");
	map("nstack=x=reject");
	map("nstack-kernel=bulk");
	run("dmm-rd", "{\"prot_route\": [], \"ip_route\": ["
		      "{\"subnet\": \"1.0.0.0/8\", \"type\": \"reject\"},"
		      "{\"subnet\": \"2.0.0.0/8\", \"type\": \"nstack=x\"},"
		      "{\"subnet\": \"3.0.0.0/8\", \"type\": \"nstack-kernel\"}]}");
	check_rules("rd-1 remote=1.0.0.0/8 use=edge0\nrd-2 remote=2.0.0.0/8 use=reject\n"
		    "rd-3 remote=3.0.0.0/8 use=bulk\n");
	check_says("");
}

/* ---- libvma ---- */

static void test_vma(void)
{
	map("vma=edge0");
	run("libvma", "# a comment\r\n"
		      "application-id * *\r\n"
		      "\r\n"
		      "\tuse vma  tcp_client 192.168.1.0/24:*:*:*\r\n"
		      "use os tcp_server *:5001 # iperf\r\n"
		      "use os tcp_client 10.0.0.1:80-90:10.1.2.3/16:1024\n"
		      "use vma udp_receiver 224.1.2.3:5000\n"
		      "use vma udp_sender *:*\n"
		      "use os udp_connect 1.2.3.4:65535:*:1-65535\n"
		      "use os tcp_server 1.2.3.4:1:5.6.7.8:2");
	check_rules("vma-1 role=client proto=tcp remote=192.168.1.0/24 use=edge0\n"
		    "vma-2 role=server proto=tcp local_port=5001 use=kernel\n"
		    "vma-3 role=client proto=tcp remote=10.0.0.1 remote_port=80-90 "
		    "local=10.1.0.0/16 local_port=1024 use=kernel\n"
		    "vma-4 role=server proto=udp local=224.1.2.3 local_port=5000 use=edge0\n"
		    "vma-5 role=client proto=udp use=edge0\n"
		    "vma-6 role=client proto=udp remote=1.2.3.4 remote_port=65535 "
		    "local_port=1-65535 use=kernel\n"
		    "vma-7 role=server proto=tcp local=1.2.3.4 local_port=1 use=kernel\n"
		    "default edge0\n");
	check_says("f:6:19: warning: 10.1.2.3/16 is taken as 10.1.0.0/16: it has host bits\n"
		   "f:9: warning: udp_connect is the same here as udp_sender in lines above: of "
		   "both, the first that matches decides\n"
		   "f:10:19: warning: the second address and port count for nothing with "
		   "tcp_server, as in libvma\n");
	CU_ASSERT_EQUAL(im.policy->rules[0].pos.line, 4);
	CU_ASSERT_EQUAL(im.policy->rules[6].pos.line, 10);
	/* Without any rule everything is libvma's. */
	run("libvma", "");
	check_rules("default vma\n");
	check_says("f: warning: the stack \"vma\" has to be defined in stacks; "
		   "--map vma=STACK names another\n");
}

static void test_vma_bad(void)
{
	static const struct {
		const char *line, *says;
	} bad[] = {
		{"use sdp tcp_client *:*", "f:2:5: error: transport \"sdp\" has no "},
		{"use * tcp_client *:*", "f:2:5: error: transport \"*\" has no "},
		{"use os tcp_clint *:*",
		 "f:2:8: error: unknown role \"tcp_clint\"; did you mean \"tcp_client\"?\n"},
		{"use os sctp *:*", "f:2:8: error: unknown role \"sctp\"\n"},
		{"use os tcp_client *", "f:2:19: error: the addresses must be "},
		{"use os tcp_client *:*:*", "f:2:19: error: the addresses must be "},
		{"use os tcp_client *:*:*:*:*", "f:2:19: error: the addresses must be "},
		{"use os tcp_client *:", "f:2:19: error: \"\" is no port "},
		{"use os tcp_client :*", "f:2:19: error: \"\" is no address "},
		{"use os tcp_client *:0", "f:2:19: error: \"0\" is no port "},
		{"use os tcp_client *:0x50", "f:2:19: error: \"0x50\" is no port "},
		{"use os tcp_client *:65536", "f:2:19: error: \"65536\" is no port "},
		{"use os tcp_client *:9-5", "f:2:19: error: \"9-5\" is no port "},
		{"use os tcp_client *:1:*:z", "f:2:19: error: \"z\" is no port "},
		{"use os tcp_client 1.2.3/24:*", "f:2:19: error: \"1.2.3/24\" is no address "},
		{"use os tcp_client 1.2.3.4/33:*", "f:2:19: error: \"1.2.3.4/33\" is no "},
		{"use os tcp_client *:1:host:1", "f:2:19: error: \"host\" is no address "},
		{"use os tcp_client", "f:2:1: error: must be: use os|vma "},
		{"use os tcp_client *:1 x", "f:2:1: error: must be: use os|vma "},
		{"use", "f:2:1: error: must be: use os|vma "},
		{"  log min-level 3", "f:2:3: error: settings of the log have "},
		{"application-id *", "f:2:1: error: must be: application-id PROGRAM ID\n"},
		{"appliction-id * *", "f:2:1: error: unknown statement \"appliction-id\"; did "},
		{"\x1b[31m", "f:2:1: error: unknown statement \"?[31m\"; use, "},
		{"application-id foo* *",
		 "f:2:16: error: program foo* is a pattern, which has no "},
		{"application-id f?o *", "f:2:16: error: program f?o is a pattern, which has no "},
		{"application-id a,b *", "f:2:16: error: \"a,b\" is not the name of a program\n"},
		{"application-id * B1", "f:2:18: error: the id B1, which a process has in its "},
		{"application-id nginx B1",
		 "f:2:22: error: the id B1, which a process has in its "},
	};
	char text[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 "use os tcp_server *:1\n%s\napplication-id * *\nuse os tcp_server *:2\n",
			 bad[i].line);
		map("vma=edge0");
		CU_ASSERT_EQUAL(run("libvma", text), -EINVAL);
		CU_ASSERT_EQUAL(im.diags.errors, 1);
		/* The rest is translated. */
		check_rules("vma-1 role=server proto=tcp local_port=1 use=kernel\n"
			    "vma-2 role=server proto=tcp local_port=2 use=kernel\n"
			    "default edge0\n");
		check_says(bad[i].says);
	}
	run_len("libvma", "use\0 os\n", 8);
	check_says("f:1: error: the line has a NUL in it\n"
		   "f: warning: the stack \"vma\" ");
}

/* What is for one program must not become a rule for all, nor what is for all one for it. */
static void test_vma_program(void)
{
	map("vma=edge0");
	run("libvma", "application-id ttcp *\n"
		      "use os tcp_client *:1\n"
		      "application-id iperf *\n"
		      "application-id * *\n"
		      "use os tcp_client *:2\n"
		      "application-id ttcp *\n"
		      "use os tcp_server *:3\n");
	check_rules("vma-1 role=client proto=tcp remote_port=1 program=ttcp use=kernel\n"
		    "vma-2 role=server proto=tcp local_port=3 program=ttcp use=kernel\n"
		    "vma-3 program=ttcp use=edge0\n"
		    "vma-4 program=iperf use=edge0\n"
		    "vma-5 role=client proto=tcp remote_port=2 use=kernel\n"
		    "default edge0\n");
	check_says("");
	CU_ASSERT_EQUAL(im.policy->rules[1].pos.line, 7);
	CU_ASSERT_EQUAL(im.policy->rules[3].pos.line, 3);
	/* Nothing is behind them that could get the rest of their sockets. */
	map("vma=edge0");
	run("libvma", "application-id ttcp *\nuse os tcp_client *:1\napplication-id * *\n");
	check_rules("vma-1 role=client proto=tcp remote_port=1 program=ttcp use=kernel\n"
		    "default edge0\n");
	/* Lines before every application-id are for all, and then no other one is asked. */
	map("vma=edge0");
	run("libvma", "use os tcp_client *:1\n"
		      "application-id ttcp *\n"
		      "use os tcp_client *:2\n"
		      "application-id * *\n"
		      "use os tcp_client *:3\n");
	check_rules("vma-1 role=client proto=tcp remote_port=1 use=kernel\n"
		    "vma-2 role=client proto=tcp remote_port=3 use=kernel\n"
		    "default edge0\n");
	check_says("f:3: warning: counts for nothing, as in libvma: the lines before every "
		   "application-id take every program\n");
	map("vma=edge0");
	run("libvma", "application-id postgres-exporter *\nuse os tcp_client *:1\n");
	check_rules("vma-1 role=client proto=tcp remote_port=1 program=postgres-export use=kernel\n"
		    "default edge0\n");
	check_says("f:1:16: warning: program postgres-exporter is taken as postgres-export: the "
		   "kernel keeps 15 characters\n");
	/* What is below a line that has no equivalent is not for all. */
	map("vma=edge0");
	run("libvma", "application-id ttcp B1\n"
		      "use os tcp_client *:1\n"
		      "application-id * *\n"
		      "use os tcp_client *:2\n"
		      "application-id\n"
		      "use os tcp_client *:3\n");
	check_rules("vma-1 role=client proto=tcp remote_port=2 use=kernel\ndefault edge0\n");
	CU_ASSERT_EQUAL(im.diags.errors, 4);
	CU_ASSERT_EQUAL(im.diags.list[1].pos.line, 2);
	CU_ASSERT_PTR_NOT_NULL(strstr(im.diags.list[1].text, "application-id in line 1"));
	CU_ASSERT_EQUAL(im.diags.list[3].pos.line, 6);
}

/* ---- both ---- */

/* A copy of just that length, so that a read beyond it is seen. */
static void run_exact(const char *format, const char *text, size_t len)
{
	char *copy = malloc(len ? len : 1);

	memcpy(copy, text, len);
	run_len(format, copy, len);
	check_reads_back();
	free(copy);
}

static void test_truncated(void)
{
	static const char rd[] = "{\"ip_route\": [/* x */{\"subnet\": \"10.0.0.1/8\", # y\n"
				 "\"type\": \"a\\u0041\",},], // z\n\"prot_route\": "
				 "[{\"proto_type\": 6, \"type\": \"kernel\"}]}";
	static const char vma[] = "application-id * *\nuse os tcp_client 1.2.3.4/8:1-2:*:*\n"
				  "application-id a b\nuse vma udp_sender *:1";

	for (size_t n = 0; n < sizeof(rd); n++) {
		run_exact("dmm-rd", rd, n);
		CU_ASSERT_EQUAL(im.diags.errors == 0, n == sizeof(rd) - 1);
	}
	for (size_t n = 0; n < sizeof(vma); n++)
		run_exact("libvma", vma, n);
}

static void test_random(void)
{
	static const char marks[] = "{}[]\",:/*#\\\n 0a";
	struct rng rng = {.state = 7};
	char *text = malloc(65536);

	for (unsigned round = 0; round < 8; round++) {
		for (size_t i = 0; i < 65536; i++) {
			uint32_t x = rng_below(&rng, round % 2 ? sizeof(marks) - 1 : 256);

			text[i] = round % 2 ? marks[x] : (char)x;
		}
		run_exact("dmm-rd", text, 65536);
		run_exact("libvma", text, 65536);
	}
	free(text);
}

static void test_bounds(void)
{
	size_t len = NODE_MAX_BYTES + 1;
	char *text = malloc(len + 1), *nested = NULL;
	FILE *out;

	memset(text, ' ', len);
	for (size_t i = 0; i < import_n_formats; i++) {
		run_len(import_formats[i].name, text, len);
		CU_ASSERT_PTR_NOT_NULL(strstr(im.diags.list[0].text, "larger than"));
	}
	/* Very long lines. */
	memset(text, 'a', len);
	run_exact("dmm-rd", text, len - 1);
	run_exact("libvma", text, len - 1);
	CU_ASSERT_EQUAL(im.diags.list[0].pos.line, 1);
	memset(text, '*', len);
	memcpy(text, "use os tcp_client ", 18);
	run_exact("libvma", text, len - 1);
	for (size_t i = 0; i + 2 < len; i += 2)
		memcpy(text + i, "a ", 2);
	run_exact("libvma", text, len - 1);
	/* Deep nesting. */
	memset(text, '[', len);
	run_exact("dmm-rd", text, 100000);
	text[2000] = '\0';
	out = open_memstream(&nested, &len);
	fprintf(out, "{\"prot_route\": [], \"x\": %s", text);
	memset(text, ']', 2000);
	fprintf(out, "%s,\n\"ip_route\": [1]}", text);
	fclose(out);
	run("dmm-rd", nested);
	free(nested);
	CU_ASSERT_EQUAL(im.diags.errors, 2);
	CU_ASSERT_EQUAL(im.diags.list[1].pos.line, 2);
	CU_ASSERT_EQUAL(im.diags.list[1].pos.column, 14);
	free(text);
}

/* More rules than there can be: those beyond are an error each. */
static void test_many(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (unsigned i = 0; i < POLICY_MAX_RULES + 2; i++)
		fprintf(out, "use os tcp_client *:%u\n", i % 65535 + 1);
	fclose(out);
	CU_ASSERT_EQUAL(run("libvma", text), -EINVAL);
	CU_ASSERT_EQUAL(im.policy->n_rules, POLICY_MAX_RULES);
	CU_ASSERT_EQUAL(im.diags.errors, 2);
	CU_ASSERT_EQUAL(im.diags.list[0].pos.line, POLICY_MAX_RULES + 1);
	check_reads_back();
	free(text);
}

/* Many entries of one key take no square of their number. */
static void test_many_again(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fputs("{\"prot_route\": [], \"ip_route\": [", out);
	for (unsigned i = 0; i < 200000; i++)
		fprintf(out, "{\"subnet\": \"10.%u.%u.0/24\", \"type\": \"kernel\"},\n",
			i / 2 >> 8 & 255, i / 2 & 255);
	fputs("]}", out);
	fclose(out);
	CU_ASSERT_EQUAL(run("dmm-rd", text), 0);
	CU_ASSERT_EQUAL(im.policy->n_rules, 65536);
	CU_ASSERT_EQUAL(im.policy->rules[0].pos.line, 68930); /* the last one of its key */
	free(text);
}

/* The option's help and the note of the man page name every format there is. */
static void test_formats(void)
{
	const struct ctl_option_row *from = NULL;

	for (size_t i = 0; i < ctl_n_options; i++)
		if (ctl_options[i].bit == CTL_FROM)
			from = &ctl_options[i];
	CU_ASSERT_PTR_NOT_NULL_FATAL(from);
	for (size_t i = 0; i < import_n_formats; i++) {
		CU_ASSERT_PTR_NOT_NULL(strstr(from->help, import_formats[i].name));
		CU_ASSERT_PTR_EQUAL(import_find_format(import_formats[i].name), &import_formats[i]);
	}
	CU_ASSERT_PTR_NULL(import_find_format("dmm"));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"dmm-rd: routes, order, names", test_rd},
		{"dmm-rd: the text", test_rd_text},
		{"dmm-rd: comments, commas, syntax", test_rd_json},
		{"dmm-rd: keys", test_rd_entries},
		{"dmm-rd: values", test_rd_values},
		{"names of stacks", test_names},
		{"libvma: every role", test_vma},
		{"libvma: mistakes", test_vma_bad},
		{"libvma: programs", test_vma_program},
		{"truncated anywhere", test_truncated},
		{"random bytes", test_random},
		{"bounds", test_bounds},
		{"too many rules", test_many},
		{"one key very often", test_many_again},
		{"formats", test_formats},
		CU_TEST_INFO_NULL,
	};
	int r = unit_run("import", tests);

	import_fini(&im);
	return r;
}
