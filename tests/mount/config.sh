#!/bin/bash
# SPDX-License-Identifier: MIT
# config: read whole, written in parts, taken as a whole or not at all.
. "${SRCDIR:-.}/tests/mount/lib.sh"
start
mkdir -p "$M/b/i"
I=$M/b/i C=$M/b/i/config
value() { sed -n "s/^$1 = \([^#]*[^# ]\) *\(#.*\)\?$/\1/p" "$C"; }
set_config() { printf "$1" >"$C"; }
put() { cp "$1" "$C"; }
last() { tail -n 1 "$I/errors"; }

is "a new index has the defaults" "$(value top_k) $(value metric) $(value recall) $(value m) $(value ef_construction)" "10 cosine 0.98 16 200"
has "each line has its comment" "$(grep '^top_k' "$C")" "#"
printf '{"data": [1,2,3]}' >"$dir/v.json"
fails "a vector before the dimension is refused" "Invalid argument" cp "$dir/v.json" "$I/vectors/v.msgpack"
has "errors says what is missing" "$(last)" "dimension"
ok "echo sets the dimension" bash -c 'echo "dimension = 3" >"$1"' - "$C"
is "which is kept" "$(value dimension)" 3
is "with the rest as it was" "$(value top_k)" 10
ok "several lines at once" bash -c 'printf "top_k = 5\n\n# a comment\nmetric = l2   # an alias\n" >"$1"' - "$C"
is "are taken, aliases by their proper name" "$(value top_k) $(value metric)" "5 euclidean"
ok "a line may be appended" bash -c 'echo "top_k = 6" >>"$1"' - "$C"
is "and counts" "$(value top_k)" 6
echo 'top_k = 7' >"$C"
: >"$C"
is "an empty write changes nothing" "$(value top_k)" 7
cp "$C" "$dir/config"
ok "what is read can be written back" put "$dir/config"
ok "and changes nothing" cmp "$C" "$dir/config"
sed 's/^top_k = 7/top_k = 9/' "$dir/config" >"$dir/changed"
ok "cp of an edited copy" put "$dir/changed"
is "changes what was edited" "$(value top_k)" 9
ok "a file that is moved into place" bash -c 'echo "top_k = 11" >"$1.tmp" && mv "$1.tmp" "$1"' - "$C"
is "is taken too" "$(value top_k)" 11
{ echo 'top_k = 12'; echo 'recall = 0.9'; } >"$C"
is "a file written in pieces is one" "$(value top_k) $(value recall)" "12 0.9"
(cat <<<'top_k = 13'; cat <<<'recall = 2') 2>/dev/null >"$C"
is "also when several processes write it: all of it holds or nothing" "$(value top_k)" 12

for line in 'colour = red' 'top_k = many' 'top_k' 'metric = manhattan' 'dimension = 0' 'dimension = 99999' 'recall = 0' 'recall = 1.5' 'm = 1' '[section]'; do
	printf '# first\n%s\n' "$line" >"$dir/bad"
	fails "'$line' is refused" "Invalid argument" put "$dir/bad"
	has "errors names its line" "$(last)" "line 2"
done
printf 'top_k = 99\ncolour = red\n' >"$dir/bad"
fails "a good line beside a bad one" "Invalid argument" put "$dir/bad"
is "does not hold" "$(value top_k)" 12
fails "a bad file that is moved into place says EPROTO" "Protocol error" bash -c 'cp "$1" "$2.tmp" && mv "$2.tmp" "$2"' - "$dir/bad" "$C"
rm -f "$C.tmp"
python=$(command -v python3)
[ -z "$python" ] || {
	fails "fsync gives the verdict" "Invalid argument" "$python" -c 'import os,sys; f=os.open(sys.argv[1],os.O_WRONLY|os.O_TRUNC); os.write(f,b"x = 1\n"); os.fsync(f)' "$C"
	ok "and takes what is good" "$python" -c 'import os,sys; f=os.open(sys.argv[1],os.O_WRONLY|os.O_TRUNC); os.write(f,b"top_k = 14\n"); os.fsync(f); os._exit(0)' "$C"
}
is "at once" "$(value top_k)" 14

# frozen with the first vector
ok "a first vector" cp "$dir/v.json" "$I/vectors/v.msgpack"
for line in 'dimension = 4' 'metric = cosine' 'm = 32'; do
	echo "$line" >"$dir/frozen"
	fails "'$line' is refused now" "Device or resource busy" put "$dir/frozen"
done
ok "the same dimension again is fine" bash -c 'echo "dimension = 3" >"$1"' - "$C"
ok "and so are the others" bash -c 'printf "top_k = 3\nef_construction = 100\nnon_filterable = title, body\n" >"$1"' - "$C"
is "which hold" "$(value top_k) $(value non_filterable)" "3 title, body"
is "the file has its exact size" "$(stat -c %s "$C")" "$(wc -c <"$C")"
rm "$C"
ok "rm of config is accepted, and it stays" test -f "$C"

# a shell hears of it although it does not look at close
for shell in bash dash; do
	command -v $shell >/dev/null || continue
	for line in nonsense 'top_k = none' 'dimension = 4'; do
		$shell -c 'echo "$1" >"$2"' - "$line" "$C" 2>/dev/null && code=0 || code=$?
		is "$shell: echo '$line' >config has a status" "$code" 1
	done
done
{ echo 'top_k = 5'; echo nonsense; echo 'top_k = 6'; } >"$C" 2>/dev/null && code=0 || code=$?
is "what follows a wrong line fails too" "$code" 1
is "and nothing of it holds" "$(value top_k)" 3
{ printf 'top'; printf '_k = 4'; echo; } >"$C"
is "a line may come in pieces" "$(value top_k)" 4

# a field becomes filterable again when all that is stored can be
printf '{"data": [1, 2, 3], "metadata": {"body": "%03000d"}}' 7 >"$dir/long.json"
ok "a long value in a field that is not filterable" cp "$dir/long.json" "$I/vectors/long.msgpack"
echo 'non_filterable = title' >"$dir/filterable"
fails "keeps the field from becoming filterable" "File too large" put "$dir/filterable"
has "which errors says, with the key" "$(tail -n 1 "$I/errors")" "record long: metadata field 'body' has a string of 3000 bytes"
is "and the config stays" "$(value non_filterable)" "title, body"
ok "without the record" rm "$I/vectors/long.msgpack"
ok "it can be" put "$dir/filterable"

# it survives
before=$(cat "$C")
stop
start
is "config is kept across remounts" "$(cat "$C")" "$before"
finish
