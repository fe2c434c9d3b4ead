#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# embed.sh DIRECTORY: a C file with the files of the page. The chart library is there only if npm has
# put it below DIRECTORY; without it the page says so.
set -eu
lib=$1/node_modules/uplot/dist
embed() { # embed NAME FILE
	printf 'static const unsigned char %s[] = {\n' "$1"
	if [ -e "$2" ]; then
		od -An -v -tu1 "$2" | sed 's/\([0-9][0-9]*\)/\1,/g'
	fi
	printf '0};\n'
}
printf '#include "policyd/web.h"\n'
embed page_html "$1/page.html"
embed page_css "$1/page.css"
embed page_js "$1/page.js"
embed uplot_js "$lib/uPlot.iife.min.js"
embed uplot_css "$lib/uPlot.min.css"
cat <<'C'
const struct web_file web_files[] = {
	{"/", "text/html; charset=utf-8", page_html, sizeof(page_html) - 1},
	{"/page.css", "text/css; charset=utf-8", page_css, sizeof(page_css) - 1},
	{"/page.js", "text/javascript; charset=utf-8", page_js, sizeof(page_js) - 1},
	{"/uplot.js", "text/javascript; charset=utf-8", uplot_js, sizeof(uplot_js) - 1},
	{"/uplot.css", "text/css; charset=utf-8", uplot_css, sizeof(uplot_css) - 1},
	{0, 0, 0, 0},
};
C
