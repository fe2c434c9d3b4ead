#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is told as OpenMetrics, read by the parser of Prometheus' Python client, which is strict.
#   test_openmetrics.sh TEST_METRICS
set -euo pipefail
/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null ||
	{ echo "SKIP: needs python3-prometheus-client; see tests/packages.txt"; exit 77; }
"$1" --openmetrics | /usr/bin/python3 -c '
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = {f.name: f for f in parse(sys.stdin.read())}
assert len(families) > 70, len(families)
assert families["dmm_build"].type == "info"
assert families["dmm_default_hits"].samples[0].value == 6
assert families["dmm_instance_port_receive_bytes"].unit == "bytes"
assert families["dmm_rule_hits"].samples[1].labels == {"rule": "two\nlines"}
print("ok -", len(families), "families")'
