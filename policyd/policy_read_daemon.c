// SPDX-License-Identifier: Apache-2.0
/* Settings of dmm-policyd itself, and of the etcd that it and dmm-nrd use. */
#include <string.h>

#include "lib/base/util.h"
#include "policyd/policy_read.h"
#include "policyd/value.h"

#define SECOND_US 1000000ULL
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* ---- etcd ---- */

/* "http://HOST:PORT" or "https://…": nothing behind it, as paths are the client's. */
static bool is_url(const char *text)
{
	static const char *const schemes[] = {"http://", "https://"};
	const char *host = NULL, *port;
	struct policy_ports ports;
	size_t len;

	for (unsigned i = 0; i < ARRAY_SIZE(schemes); i++)
		if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
			host = text + strlen(schemes[i]);
	if (!host)
		return false;
	len = *host == '[' ? strspn(host + 1, "0123456789abcdefABCDEF:.") + 2
			   : strspn(host, LETTERS "_.-");
	if (len > 64 || len == 0 || strlen(host) <= len || host[len] != ':' ||
	    (*host == '[' && (len < 4 || host[len - 1] != ']')))
		return false;
	port = host + len + 1;
	return strspn(port, "0123456789") == strlen(port) && strlen(port) <= 5 && *port != '0' &&
	       value_parse_ports(port, &ports) == 0;
}

static int read_endpoints(const struct keys_at *at, const struct key *k, const struct node *v,
			  void *obj)
{
	struct etcd_settings *s = obj;
	const struct node *item;
	int r;

	if (v->type == NODE_LIST && (v->n == 0 || v->n > ETCD_ENDPOINTS))
		return keys_error_of(at, k, v, "%zu endpoints; 1 to %d are possible", v->n,
				     ETCD_ENDPOINTS);
	for (size_t i = 0; (item = keys_item(v, i)); i++) {
		struct key row = *k;

		row.offset = offsetof(struct etcd_settings, endpoint) + i * row.size;
		r = key_read_text(at, &row, item, obj);
		if (r == 0 && !is_url(s->endpoint[i]))
			r = keys_error_of(at, k, item,
					  "\"%.60s\" is not http://HOST:PORT or https://HOST:PORT",
					  s->endpoint[i]);
		if (r < 0)
			return r;
		s->n_endpoint++;
	}
	return 0;
}

static int read_prefix(const struct keys_at *at, const struct key *k, const struct node *v,
		       void *obj)
{
	struct etcd_settings *s = obj;
	int r = key_read_text(at, k, v, obj);
	size_t len = strlen(s->prefix);

	if (r == 0 && (len < 2 || s->prefix[0] != '/' || s->prefix[len - 1] == '/' ||
		       strspn(s->prefix, LETTERS "/_.-") < len))
		return keys_error_of(at, k, v,
				     "\"%.60s\" is not a prefix of keys such as /dmm: it begins "
				     "with a slash, ends with none, and has letters, digits, _ - .",
				     s->prefix);
	return r;
}

static int read_host(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	const char *name = (const char *)obj + k->offset;
	int r = key_read_text(at, k, v, obj);

	if (r == 0 &&
	    (!name[0] || strchr(".-", name[0]) || strspn(name, LETTERS "_.-") < strlen(name)))
		return keys_error_of(at, k, v,
				     "\"%.60s\" is not a name of a host (letters, digits, _ - .)",
				     name);
	return r;
}

static int read_file(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	int r = key_read_text(at, k, v, obj);

	if (r == 0 && ((const char *)obj)[k->offset] != '/')
		return keys_error_of(at, k, v, "\"%.60s\" is not the absolute path of a file",
				     v->value);
	return r;
}

static int read_lease(const struct keys_at *at, const struct key *k, const struct node *v,
		      void *obj)
{
	const char *text = v->type == NODE_SCALAR ? v->value : "";
	struct etcd_settings *s = obj;
	dmm_u64 us;

	if (value_parse_duration(text, &us) < 0 || us < 2 * SECOND_US || us > 3600 * SECOND_US ||
	    us % SECOND_US)
		return keys_error_of(at, k, v, "\"%.60s\" is not a number of seconds from 2s to 1h",
				     text);
	s->lease_s = (dmm_u32)(us / SECOND_US);
	return 0;
}

#define FILE_KEY(name_, field, help_) \
	KEY_STRING(name_, read_file, struct etcd_settings, field, "PATH", help_, .form = FORM_FILE)

const struct key policy_etcd_keys[POLICY_ETCD_KEYS] = {
	{.name = "endpoints",
	 .read = read_endpoints,
	 .size = sizeof(((struct etcd_settings *)0)->endpoint[0]),
	 .value = "URL…",
	 .help = "members of the cluster; one is used at a time",
	 .form = FORM_URL,
	 .flags = KEY_MANY | KEY_REQUIRED,
	 .max = ETCD_ENDPOINTS},
	KEY_STRING("prefix", read_prefix, struct etcd_settings, prefix, "/NAME",
		   "of all keys; hosts of one prefix share a policy; default /dmm",
		   .form = FORM_KEYS),
	KEY_STRING("name", read_host, struct etcd_settings, name, "NAME",
		   "what this host is called there; default: its host name", .form = FORM_HOST),
	KEY_STRING("lease", read_lease, struct etcd_settings, lease_s, "TIME",
		   "a host that is silent for that long is gone; default 15s",
		   .form = FORM_DURATION),
	FILE_KEY("ca", ca,
		 "certificates that the servers' are checked with; default: the system's"),
	FILE_KEY("cert", cert, "certificate of this client"),
	FILE_KEY("key", key, "and its key"),
	KEY_STRING("user", key_read_text, struct etcd_settings, user, "NAME",
		   "of etcd, where it has authentication switched on"),
	FILE_KEY("password_file", password_file, "its first line is the user's password"),
};

/* Not over the loopback interface, and anybody on the way can read along. */
static bool is_open(const char *url)
{
	return strncmp(url, "http://", 7) == 0 && strncmp(url + 7, "127.", 4) != 0 &&
	       strncmp(url + 7, "[::1]", 5) != 0 && strncmp(url + 7, "localhost:", 10) != 0;
}

static int read_etcd(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct policy_daemon *d = obj;
	struct keys_at in = {.file = at->file, .diags = at->diags, .object = "etcd of daemon"};
	uint32_t mask;
	int r;

	if (node_is_null(v))
		return 0;
	r = keys_read(&in, policy_etcd_keys, POLICY_ETCD_KEYS, v, &d->etcd, &mask);
	if (r < 0)
		return r;
	if (!d->etcd.n_endpoint)
		return keys_error_of(at, k, v, "it needs endpoints");
	if (!d->etcd.user[0] != !d->etcd.password_file[0])
		return keys_error_of(at, k, v, "user and password_file go together");
	if (!d->etcd.cert[0] != !d->etcd.key[0])
		return keys_error_of(at, k, v, "cert and key go together");
	for (unsigned i = 0; d->etcd.user[0] && i < d->etcd.n_endpoint; i++)
		if (is_open(d->etcd.endpoint[i]))
			keys_warn_of(at, k, v, "the password goes to %s as it is: use https",
				     d->etcd.endpoint[i]);
	return 0;
}

/* ---- the daemon ---- */

static int read_http(const struct keys_at *at, const struct key *k, const struct node *v, void *obj)
{
	struct policy_daemon *d = obj;
	struct dmm_addr addr;
	int r = key_read_text(at, k, v, obj);

	if (r == 0 && value_parse_endpoint(d->http, &addr) < 0)
		return keys_error_of(at, k, v, "\"%s\" is not ADDRESS:PORT such as 127.0.0.1:9464",
				     d->http);
	return r;
}

const struct key policy_daemon_keys[POLICY_DAEMON_KEYS] = {
	KEY_STRING("http", read_http, struct policy_daemon, http, "ADDRESS:PORT",
		   "serve the API and the metrics there too; default: not", .form = FORM_ENDPOINT),
	KEY_STRING("http_name", read_host, struct policy_daemon, http_name, "NAME",
		   "by which it is asked for there, beside addresses and the host's own name",
		   .form = FORM_HOST),
	KEY_STRING("socket", key_read_text, struct policy_daemon, socket, "PATH",
		   "the Unix socket; default /run/dmm/policyd.sock"),
	KEY_STRING("socket_group", key_read_text, struct policy_daemon, group, "NAME",
		   "whose members may read by the Unix socket; default: root only"),
	{.name = "etcd",
	 .read = read_etcd,
	 .value = "{…}",
	 .help = "share hosts, reports and policy with others; default: not",
	 .form = FORM_MAP,
	 .flags = KEY_NULL,
	 .keys = policy_etcd_keys,
	 .n_keys = POLICY_ETCD_KEYS},
};
