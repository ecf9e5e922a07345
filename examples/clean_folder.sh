#!/bin/sh
# Clean every .tif of a folder, and go on where an earlier call stopped.
#
#   examples/clean_folder.sh SCENES CLEAN [OPTION...]
#
# SCENES is the folder to read, CLEAN the one to write (made if it is missing); further options go to `infdehaze run`,
# for example: examples/clean_folder.sh scenes clean --gpu-mem 4G --scratch /mnt/ssd
#
# A scene whose output is there already is skipped: outputs appear whole or not at all. What `--json` says of each new one
# is a line of CLEAN/runs.jsonl. A scene that fails is named, and the others still run; the exit code is 1 then.

set -u

if [ "$#" -lt 2 ] || [ ! -d "$1" ]; then
    echo "usage: $0 SCENES CLEAN [OPTION...]   (SCENES is a folder with .tif files)" >&2
    exit 2
fi
scenes=$1 clean=$2
shift 2
mkdir -p -- "$clean" || exit 5

done=0 skipped=0 failed=0
for scene in "$scenes"/*.tif; do
    [ -f "$scene" ] || continue
    output=$clean/$(basename -- "$scene")
    if [ -e "$output" ]; then
        skipped=$((skipped + 1))
        continue
    fi
    json=$(infdehaze run "$scene" --output "$output" --json --quiet "$@")
    code=$?
    if [ "$code" -eq 0 ]; then
        # one line a scene: in JSON, a line break is never part of a value
        printf '%s\n' "$json" | tr -d '\n' >> "$clean/runs.jsonl"
        echo >> "$clean/runs.jsonl"
        done=$((done + 1))
    elif [ "$code" -ge 130 ]; then
        exit "$code" # interrupted or terminated: stop here
    else
        echo "$0: $scene failed with code $code" >&2
        failed=$((failed + 1))
    fi
done

echo "$done cleaned, $skipped done before, $failed failed"
[ "$failed" -eq 0 ]
