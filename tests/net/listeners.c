// SPDX-License-Identifier: Apache-2.0
/*
 * listeners COUNT ADDRESS: COUNT listening sockets on ADDRESS, ports that are free; says the first
 * port and the last, which alone answers: with one line to each who connects.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener(const char *address, unsigned *ret_port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &sa.sin_addr) != 1 ||
	    bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, 8) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -1;
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

int main(int argc, char **argv)
{
	unsigned n, first = 0, last = 0;
	struct rlimit nofile;
	int fd = -1;

	if (argc != 3)
		return 2;
	n = (unsigned)atoi(argv[1]);
	nofile.rlim_cur = nofile.rlim_max = n + 64;
	setrlimit(RLIMIT_NOFILE, &nofile);
	for (unsigned i = 0; i < n; i++) {
		fd = listener(argv[2], &last);
		if (fd < 0) {
			fprintf(stderr, "listeners: number %u: %s\n", i, strerror(errno));
			return 1;
		}
		if (!first)
			first = last;
	}
	printf("%u %u\n", first, last);
	fflush(stdout);
	for (;;) {
		int c = accept(fd, NULL, NULL);

		if (c < 0)
			return 1;
		if (write(c, "here\n", 5) != 5)
			perror("listeners");
		close(c);
	}
}
