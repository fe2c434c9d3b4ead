# SPDX-License-Identifier: Apache-2.0
"""The work of test_schema.sh: files and mutated policies, judged by the schema and by the parser.

Policies go to the parser as JSON (which is YAML), so that both judge the same values.
"""
import copy
import glob
import json
import random
import re
import subprocess
import sys

import jsonschema
import yaml

POLICIES = 300

# Files that the parser or the check refuses and a schema cannot: they must be valid under it.
BEYOND_A_SCHEMA = {
    "bad-duplicate.yaml": "YAML readers keep one of two equal keys",
    "bad-engine.yaml": "what an engine can do",
    "bad-instances.yaml": "what a cgroup overlaps",
    "bad-names.yaml": "one name, cgroup or queue twice",
    "bad-tag.yaml": "a tag is gone when the text is read",
    "bad-use.yaml": "stacks and groups that are not defined",
    "bad-set-names.yaml": "sets that are not defined, or not of this kind",
    "bad-weight-names.yaml": "stacks that are not defined, or stand alone",
    "bad-auto-names.yaml": "stacks that are not defined, or stand alone; how long times are",
    "bad-never.yaml": "what can never match: warnings only",
    "bad-warnings.yaml": "warnings only",
}
# Files that no reader of YAML takes.
NOT_YAML = {"bad-alias.yaml", "bad-documents.yaml", "bad-syntax.yaml", "bad-tab.yaml", "bad-utf8.yaml"}


class Core(yaml.CSafeLoader):
    """Plain words as YAML 1.2 and the editors have it: no is a word, 1:30 is no number."""

    yaml_implicit_resolvers = {}


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    Core.add_implicit_resolver("tag:yaml.org,2002:" + tag, re.compile("^(?:%s)$" % pattern), first)

failures = 0
rng = random.Random(1)
schema = None
program = None


def fail(*text):
    global failures
    failures += 1
    print("FAIL:", *text)


def in_schema(value):
    return schema.is_valid(value)


def why(value):
    error = jsonschema.exceptions.best_match(schema.iter_errors(value))
    return "/".join(map(str, error.absolute_path)) + ": " + error.message[:200] if error else "valid"


def in_parser(value):
    r = subprocess.run([program, "validate", "-f", "-"], input=json.dumps(value), text=True,
                       capture_output=True)
    if r.returncode not in (0, 1):
        fail("dmm-policy validate: exit status", r.returncode, r.stderr)
    return r.returncode == 0, r.stderr


def judge(name, value, want, did):
    by_parser, said = in_parser(value)
    if in_schema(value) != want:
        fail(name, did, "-- the schema says", why(value))
    if by_parser != want:
        fail(name, did, "-- the parser says", said or "valid")


# ---- files ----

def check_good(path):
    for loader in (Core, yaml.CSafeLoader): # YAML 1.2 and 1.1
        value = yaml.load(open(path, encoding="utf-8"), Loader=loader)
        if not in_schema(value):
            fail(path, loader.__name__, why(value))


def check_bad(path):
    name = path.split("/")[-1]
    try:
        value = yaml.load(open(path, "rb"), Loader=Core)
    except yaml.YAMLError as e:
        if name not in NOT_YAML:
            fail(path, "is no YAML:", e)
        return "not YAML"
    valid = in_schema(value)
    if valid and name not in BEYOND_A_SCHEMA:
        fail(path, "is valid under the schema")
    if not valid and name in BEYOND_A_SCHEMA:
        fail(path, "is refused and needs no exception:", why(value))
    return BEYOND_A_SCHEMA.get(name) if valid else None


def check_files():
    good = glob.glob("tests/data/good*.yaml") + ["docs/dmm.yaml.example"]
    bad = sorted(glob.glob("tests/data/bad-*.yaml"))
    for path in good:
        check_good(path)
    said = {path: check_bad(path) for path in bad}
    for path, reason in said.items():
        if reason:
            print("not for a schema: %s: %s" % (path, reason))
    print("files: %d good, %d bad: %d refused, %d not YAML, %d beyond a schema" % (
        len(good), len(bad), list(said.values()).count(None), list(said.values()).count("not YAML"),
        sum(1 for r in said.values() if r and r != "not YAML")))


# ---- mutations: each changes a policy in place and says what it did, or None ----

def objects(p):
    """(what, mapping) of all mappings with fixed keys."""
    found = [("", p)]
    for g in p.get("groups", {}).values():
        found.append(("group", g))
    for s in p.get("stacks", {}).values():
        found.append(("stack", s))
        if "port" in s:
            found.append(("port", s["port"]))
    for r in p.get("rules", []):
        found.append(("rule", r))
        if "match" in r:
            found.append(("match", r["match"]))
        if isinstance(r.get("use"), dict):
            found.append(("use", r["use"]))
            if isinstance(r["use"].get("sla"), dict):
                found.append(("sla", r["use"]["sla"]))
    return [(what, o) for what, o in found if o]


def rename_key(p):
    what, o = rng.choice(objects(p))
    key = rng.choice(list(o))
    new = rng.choice([key + "s_", key[:-1] + "_", key.upper(), key + " ", ""])
    items = [(new if k == key else k, v) for k, v in o.items()]
    o.clear()
    o.update(items)
    return "%s: key %s is now %r" % (what, key, new)


def wrong_type(p):
    what, o = rng.choice(objects(p))
    key = rng.choice(list(o))
    if key == "use" and isinstance(o[key], dict):
        o[key] = rng.choice([{"x": "y"}, [], [[1]], [None], None])
    elif key == "version":
        o[key] = rng.choice([{"x": "y"}, [], None, "word"])
    elif isinstance(o[key], dict):
        o[key] = rng.choice(["word", 7, [1], True])
    elif key == "rules":
        o[key] = rng.choice(["word", 7, {"x": 1}, ["word"], [None], [[]], True])
    else:
        o[key] = rng.choice([{"x": "y"}, [], [[o[key]]], [{"x": o[key]}], None, [None]])
    return "%s: %s is now %r" % (what, key, o[key])


def drop_required(p):
    must = {"rule": ["use"], "use": ["weights", "auto"], "port": ["interface"], "stack": ["kind", "engine", "port"]}
    found = [(what, o, k) for what, o in objects(p) for k in must.get(what, []) if k in o]
    # an engine implies the kind
    found = [f for f in found if not (f[2] == "kind" and "engine" in f[1])]
    if not found:
        return None
    what, o, key = rng.choice(found)
    del o[key]
    return "%s: no %s" % (what, key)


def foreign_key(p):
    stacks = [o for what, o in objects(p) if what == "stack"]
    if not stacks:
        return None
    s = rng.choice(stacks)
    if "engine" in s:
        key, value = rng.choice([("mark", 1), ("pacing", "1gbit"), ("tos", 8), ("kind", "kernel")])
    else:
        key, value = rng.choice([("engine", "lwip"), ("poll", "busy"), ("port", {"interface": "eth1"})])
    s[key] = value
    return "stack: %s among the keys of the other kind" % key


WRONG = {
    "remote": ["10.0.0.0/33", "10.0.0", "10.0.0.256", "2001:db8::/129", "1::2::3", "x/8", 10, "10.0.0.0/", "", "a" * 32],
    "uid": [-1, "-1", "1-", 4294967295, "no user", "", 1.5, True],
    "program": ["", "a,b", "/bin/sh", "x" * 16, "a\tb", "\u00e4"],
    "auto": [{}, [], "a b", ["a", "-x"], "", ["s%d" % i for i in range(7)]],
    "objective": ["speed", "", 1, "Latency", ["latency"]],
    "sla": [{}, "2ms", {"p99": "2ms", "p50": "1ms"}, {"p98": "2ms"}, {"p99": 2}, {"p99": "2"}, {"p99": "2 ms"}, [2]],
    "p99": ["2", 2, "ms", "", "-1ms", "1.5ms", "2d"],
    "dwell": [30, "30", "", "s", "1.5s", "-30s", "30 s", "30sec", True],
    "min_gain": [-1, "-1", 1001, "1001%", "%", "", "ten", 1.5, "5 %", "5%%"],
    "canary": [0, "0%", 51, "51%", "", "5 %", True, 1.5],
    "weights": [{}, {"kernel": -1}, {"kernel": 65536}, {"a b": 1}, ["kernel"], "kernel:1", {"kernel": None},
                {"kernel": 1.5}, {"s%d" % i: 1 for i in range(7)}],
    "sets": [{"x": []}, {"x": None}, {"x": [80, "10.0.0.0/8"]}, {"x": ["10.0.0.0/8", 80]}, {"1x": [80]},
             {"x": ["y"]}, {"x": 0}, {"": [80]}, {"x": {}}, ["x"], {"a b": 80}],
    "version": [0, 2, "2", "x", "", -1, 1.5, [1], True],
    "remote_port": [0, 65536, "0", "65536", "ht/tp", "80-", "-80", "80 ", -1, 8.5, True, "0x", ""],
    "role": ["clint", "", 1, "Client", True],
    "proto": ["sctp", 6, "TCP"],
    "group": ["a b", "-x", "", "x" * 32, ".x", "a,b", "\u00e4", "a/b", -1],
    "name": ["a b", "-x", "", "x" * 32, ".x"],
    "use": ["a b", ["a", "-x"], "", ["a"] + [""], {}, {"x": 1}],
    "carrier": ["udp", "", 0, "TCP"],
    "strict": ["maybe", 1, "", 0.5],
    "kind": ["kernal", "", 1],
    "engine": ["a/b", "", "a b", "x" * 16],
    "poll": ["sleepy", True],
    "driver": ["dpdk-", 1],
    "mode": ["fast", 0],
    "interface": ["a/b", "", "..", "a b", "x" * 16, "a:b"],
    "congestion": ["a/b", "", "b b r", "x" * 16],
    "pacing": ["fast", "1gbps", 0, "0", "-1", "", "1 gbit", "gbit"],
    "mark": [-1, 4294967296, "0x", "ff", "", 1.5, "1 ", True],
    "priority": [-1, 4294967296, "high"],
    "queue": [-1, "one", 4294967296],
    "cgroup": ["../x", "/", "", "a/./b", "x/..", "a\tb"],
    "http": [9464, "127.0.0.1", ":80", "127.0.0.1:0", "[127.0.0.1]:80", "::1:80", "[::1]:65536"],
    "socket": ["a\nb", "x" * 400],
    "endpoints": [[], "a:1", "ftp://a:1", "http://a", "http://a:0", "http://a:65536", "http://:1", "http://a:1/", "http://[1:1",
                  "http://a b:1", "https://a:01", 1, ["http://a:1"] * 8],
    "prefix": ["dmm", "/", "/a/", "/a b", "", 1, "/" + "x" * 63],
    "lease": ["2", "", -1, "x", "1.5s", True],
    "ca": ["a", "", 1, "/a\nb", "/" + "x" * 400],
}
WRONG.update(local=WRONG["remote"], local_port=WRONG["remote_port"], default=WRONG["use"],
             origin=["etcd", "", 1], disabled=WRONG["strict"], capture=WRONG["strict"], telemetry=WRONG["strict"], cooldown=WRONG["dwell"])
# Not of a rule: {} is a policy's default no more than it is a use.
WRONG["default"] = [v for v in WRONG["use"] if not isinstance(v, dict)]


def load_full():
    """What has every key: two files as one."""
    full, more = (yaml.load(open("tests/data/" + name, encoding="utf-8"), Loader=Core)
                  for name in ("good.yaml", "good-sets.yaml"))
    for key in ("groups", "stacks"):
        full[key] = {**more[key], **full[key]}
    full["rules"] = more["rules"] + full["rules"]
    full["stacks"]["edge1"]["port"]["queue"] = 3
    return {**full, "sets": more["sets"], "version": more["version"]}


def wrong_values():
    """Every value of the table, one at a time, in the file that has every key."""
    n = 0
    full = load_full()
    for what, o in objects(full) + [("daemon", full["daemon"]), ("etcd", full["daemon"]["etcd"])]:
        for key in [k for k in o if k in WRONG and (what, k) != ("etcd", "name")]: # a longer one
            good = o[key]
            for o[key] in WRONG[key]:
                judge("wrong_values", full, False, "%s: %s is now %r" % (what, key, o[key]))
                n += 1
            o[key] = good
    judge("wrong_values", full, True, "as it was")
    return n


def wrong_value(p):
    p.setdefault("daemon", {"http": "[::1]:9464", "socket": "/run/dmm/p.sock"})
    found = [(what, o, k) for what, o in objects(p) + [("daemon", p["daemon"])] for k in o if k in WRONG]
    key = rng.choice(sorted({k for _, _, k in found})) # the rare ones as often as the others
    what, o, key = rng.choice([f for f in found if f[2] == key])
    o[key] = rng.choice(WRONG[key])
    return "%s: %s is now %r" % (what, key, o[key])


def harmless(p):
    for _ in range(100):
        what, o = rng.choice(objects(p))
        key = rng.choice(list(o))
        if rewrite(p, what, o, key):
            return "%s: %s is written in another way: %r" % (what, key, o.get(key))
    return None


def rewrite(p, what, o, key):
    value = o[key]
    if key == "use" and isinstance(value, dict):
        return False
    if key in ("group", "role", "uid", "program", "proto", "remote", "remote_port", "local", "local_port", "use", "default") \
            and not isinstance(value, list):
        o[key] = [value]
    elif isinstance(value, bool):
        o[key] = rng.choice(["yes", "ON", "False", "no", "true"])
    elif isinstance(value, int):
        o[key] = rng.choice([str(value), hex(value)]) if key != "pacing" else str(value)
    elif isinstance(value, dict) and what == "":
        p["daemon"] = None
        items = list(reversed(p.items()))
        p.clear()
        p.update(items)
    elif what == "rule" and "match" not in o:
        o["match"] = rng.choice([None, {}])
    else:
        return False
    return True


MUTATIONS = ((rename_key, False), (wrong_type, False), (wrong_value, False), (drop_required, False),
             (foreign_key, False), (harmless, True))


def check_mutation(policy, mutate, want):
    p = copy.deepcopy(policy)
    did = mutate(p)
    if did:
        judge(mutate.__name__, p, want, did)
    return bool(did)


def check_policies(generator):
    text = subprocess.run([generator, str(POLICIES)], stdout=subprocess.PIPE, text=True, check=True).stdout
    n = dict.fromkeys((m.__name__ for m, _ in MUTATIONS), 0)
    policies = list(yaml.load_all(text, Loader=Core))
    for p in policies + list(yaml.load_all(text, Loader=yaml.CSafeLoader)):
        if not in_schema(p):
            fail("a generated policy:", why(p))
    if len(policies) != POLICIES:
        fail(len(policies), "generated policies instead of", POLICIES)
    for p in policies:
        for mutate, want in MUTATIONS:
            n[mutate.__name__] += check_mutation(p, mutate, want)
    print("policies: %d; mutations: %s" % (len(policies), ", ".join("%s %d" % i for i in n.items())))


# ---- the schema itself ----

def check_schema(text):
    global schema
    value = json.loads(text)
    jsonschema.Draft7Validator.check_schema(value)
    schema = jsonschema.Draft7Validator(value)

    def walk(node, path):
        if isinstance(node, dict):
            if "$comment" in node:
                fail(path, node["$comment"])
            for k, v in node.get("properties", {}).items():
                if v is not False and not v.get("description") and not path.endswith("/if"):
                    fail(path, k, "has no description")
            for k, v in node.items():
                walk(v, path + "/" + k)
        elif isinstance(node, list):
            for v in node:
                walk(v, path)

    walk(value, "")


def main():
    global program
    program, generator = sys.argv[1:3]
    text = subprocess.run([program, "help", "schema"], stdout=subprocess.PIPE, text=True, check=True).stdout
    check_schema(text)
    check_files()
    print("values: %d wrong ones" % wrong_values())
    check_policies(generator)
    print("%d disagreements" % failures if failures else "the schema and the parser agree")
    return 1 if failures else 0


sys.exit(main())
