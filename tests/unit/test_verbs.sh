#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every verb and option of dmm-policy is in its help, in its man page and in bash's completion, and the
# exit status is what they say. Needs no root.
#   test_verbs.sh DMM_POLICY MAN_PAGE
# shellcheck disable=SC2317 # functions are called by check
set -u
policy=$(realpath "$1") man=$(realpath "$2")
failed=0
for p in jq groff script; do
	command -v $p >/dev/null || { echo "SKIP: needs $p"; exit 77; }
done
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
export DMM_BPFFS=$TMP/none

check() { # check TEXT COMMAND...
	local text=$1
	shift
	if "$@"; then echo "ok - $text"; else echo "not ok - $text"; failed=1; fi
}
# has TEXT FILE PATTERN...: a line of the file begins so
has() { grep -qE -- "$3" "$2" || { echo "# $2 has no line like: $3"; return 1; }; }

"$policy" -j help >"$TMP/help.json"
"$policy" help >"$TMP/help"
# bold and italics are overstrikes
groff -Tascii -P-c -man -rLL=200n -ww "$man" 2>"$TMP/man.err" | sed 's/.\x08//g' >"$TMP/man"
check "groff has nothing to say about the man page" [ ! -s "$TMP/man.err" ]
cat "$TMP/man.err"

# ---- help and man page
mapfile -t verbs < <(jq -r '.verbs[].verb' "$TMP/help.json")
check "there are verbs" [ ${#verbs[@]} -gt 20 ]
for v in "${verbs[@]}"; do
	# shellcheck disable=SC2086
	"$policy" help $v >"$TMP/help-verb"
	check "$v is in help" has help "$TMP/help" "^    $v  "
	check "$v has help" has help "$TMP/help-verb" "^usage: dmm-policy $v( |\$)"
	check "$v is in the man page" has man "$TMP/man" "^       $v( |\$)"
	while read -r o; do
		check "$v --$o is in its help" has help "$TMP/help-verb" "--$o"
		check "$v --$o is in the man page" has man "$TMP/man" "^       $v .*\[--$o"
	done < <(jq -r --arg v "$v" '.verbs[] | select(.verb == $v) | .options[].name' "$TMP/help.json")
done
while read -r o; do
	check "--$o is in help" has help "$TMP/help" "--$o"
done < <(jq -r '.options[].name' "$TMP/help.json")
while read -r o; do
	check "--$o is in the man page" has man "$TMP/man" "^       (-[a-zA-Z], )?--$o( |\$)"
done < <(jq -r '[.verbs[].options[].name, .options[].name] | unique[]' "$TMP/help.json")
jq -r '.exit_status[]' "$TMP/help.json" >"$TMP/exits"
n=0
while read -r text; do
	check "exit status $n is in help" has help "$TMP/help" "^    $n  $text"
	check "exit status $n is in the man page" has man "$TMP/man" "^       $n +${text^}"
	n=$((n + 1))
done <"$TMP/exits"

# ---- completion, as bash asks for it
"$policy" completion bash >"$TMP/completion"
# shellcheck source=/dev/null
. "$TMP/completion"
compopt() { :; } # only inside a completion of the shell's own
completes() { # completes WORD...: the candidates for the last one
	COMP_WORDS=("$policy" "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_dmm_policy
	printf '%s\n' "${COMPREPLY[@]}"
}
offers() { # offers CANDIDATE WORD...
	completes "${@:2}" | grep -qxF -- "$1"
}
for v in "${verbs[@]}"; do
	read -r first second <<<"$v"
	check "$first is completed" offers "$first" "${first:0:1}"
	[ -z "$second" ] || check "$v is completed" offers "$second" "$first" ""
	# shellcheck disable=SC2086
	while read -r o; do
		check "$v --$o is completed" offers "--$o" $v "--${o:0:1}"
	done < <(jq -r --arg v "$v" \
		'(.verbs[] | select(.verb == $v) | .options[].name), .options[].name' "$TMP/help.json")
done
same() { [ "$1" = "$2" ] || { echo "# got '$1', expected '$2'"; return 1; }; }
words() { completes "$@" | paste -sd' '; }
check "an abbreviated verb is understood" same "$(words sta l)" list
check "an option that the verb has not" same "$(words flows --f)" ""
check "the argument of an option" same "$(words import --from l)" libvma
check "behind an equals sign" same "$(words import --from = l)" libvma
check "words of a key" same "$(words add x role c)" client
check "no policy, no names" same "$(words stack disable '')" ""
touch "$TMP/policy.yaml"
check "names of files" same "$(words apply -f "$TMP/pol")" "$TMP/policy.yaml"

# ---- exit status
ends() { # ends STATUS WORD...
	local want=$1 r=0
	shift
	"$policy" "$@" >"$TMP/out" 2>&1 || r=$?
	same "$r" "$want"
}
check "0" ends 0 version
check "1" ends 1 show
check "2: no verb" ends 2
check "2: an unknown option" ends 2 show --fly
check "2: an option of another verb" ends 2 show --file x
check "2: too many words" ends 2 show x

check "2: an object without a verb, and nothing to list" ends 2 capture
check "it says which there are" has "" "$TMP/out" 'capture on, capture off'
check "2: an object and another verb" ends 2 stack fly
check "it says which there are" has "" "$TMP/out" 'stack list, .*stack drain'
check "a letter before its verb" ends 1 -n 5 top
check "also of monitor" ends 1 -n 5 monitor
check "2: what the verb does not take" ends 2 -n 5 flows
check "2: a dry run of nothing" ends 2 flows --dry-run
check "help of an object is that of all its verbs" ends 0 help capture
check "on" has "" "$TMP/out" '^usage: dmm-policy capture on '
check "and off" has "" "$TMP/out" '^usage: dmm-policy capture off '
check "JSON, too" same "$("$policy" -j help stack | jq -r '.verbs[].verb' | paste -sd,)" \
	"stack list,stack disable,stack enable,stack drain"
check "of one verb" same "$("$policy" help flows -j | jq -r '.verbs[].verb')" flows
full() { # full WORD...: output that cannot be written is a failure
	local r=0
	"$policy" "$@" >/dev/full 2>"$TMP/out" || r=$?
	same "$r" 1 && has "" "$TMP/out" 'standard output'
}
for v in help "help flows" "help keys" "-h" "-V" version "-j version" "-j help" "completion bash"; do
	# shellcheck disable=SC2086
	check "a full disk: $v" full $v
done

# ---- terminals
on_terminal() { TERM=xterm script -qec "$*" /dev/null </dev/null; }
widest() { sed 's/\x1b\[[0-9]*m//g; s/\r//' | LC_ALL=C.UTF-8 wc -L; }
at_most() { [ "$1" -le "$2" ] || { echo "# $1 is more than $2"; return 1; }; }
escape=$'\033'
check "tables fit a terminal" at_most "$(COLUMNS=100 on_terminal "$policy" help keys | widest)" 100
check "a narrower one" at_most "$(COLUMNS=80 on_terminal "$policy" help keys | widest)" 80
"$policy" help keys >"$TMP/keys"
check "nothing is cut elsewhere" same "$(COLUMNS=60 "$policy" help keys)" "$(cat "$TMP/keys")"
check "colour on a terminal" [ "$(on_terminal "$policy" help keys | grep -c "$escape")" -gt 0 ]
check "unless NO_COLOR" same "$(NO_COLOR=1 on_terminal "$policy" help keys | grep -c "$escape")" 0
check "no colour elsewhere" same "$(grep -c "$escape" "$TMP/keys")" 0
exit $failed
