#!/bin/bash
# An agent under many passes and many topologies does not grow. To be sourced, with $passes and $changes set.
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg python3 || done_testing
mesh_begin
mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)" "allowedIPs: [10.60.0.0/24]"

log=$(mesh_folder fra)/agent.log
launch fra "$WEFT" agent run "$topology" >>"$log" 2>&1
agent=$!
converged() { enter fra "$WEFT" agent status 2>/dev/null | grep -q '"stage" : "converged"'; }
eventually 20 "it takes the topology into force" converged

figures=$(mesh_folder fra)/figures
exits 0 "$passes passes and $changes topologies" \
    enter fra "$here/../Beds/soak" "$agent" "$topology/node-ana.yaml" "$passes" "$changes"
echo "$output" | tee "$figures"
[ "$(awk '$1 == "passes" { print $2 }' "$figures")" -ge "$passes" ] && ok "were made" || fail "were made" "$passes" "$output"
# What was made ready for the first rounds is no growth. Once memory has been given back, the heap is cut up another way:
# some hundred kilobytes, once.
growth=$(awk '
function middle(from, to,    values, count, i, j, swap) {
    for (i = from; i <= to; i++) values[++count] = own[i]
    for (i = 1; i <= count; i++) for (j = i + 1; j <= count; j++)
        if (values[j] < values[i]) { swap = values[i]; values[i] = values[j]; values[j] = swap }
    return values[int((count + 1) / 2)]
}
$1 == "descriptors" { own[++n] = $4 }
END { print middle(n - 3, n) - middle(3, 6) }' "$figures")
[ "$growth" -le "$allowed" ] && ok "its memory does not grow" || fail "its memory does not grow" "at most $allowed kB" "$growth kB: $output"
same "nor do its descriptors" 1 "$(awk '$1 == "descriptors" { print $2 }' "$figures" | sort -u | wc -l)"
same "and nothing was wrong" "" "$(grep -E ' (error|warning) ' "$log" | head -n 3)"

# ------------------------------------------------------------------------------------------------- a burst of events
burst() { enter fra "$here/../Beds/burst" "$@"; }
has_route() { enter fra ip route show 10.60.0.0/24 | grep -q wg0; }
eventually 10 "the first topology is back" has_route
burst add 20000 &
burst=$!
slowest=0 limit=2000
[ "$BED" != vm ] || limit=5000
for _ in 1 2 3 4 5 6 7 8; do
    start=$(date +%s%N)
    enter fra "$WEFT" agent status >/dev/null || slowest=999999
    took=$((($(date +%s%N) - start) / 1000000))
    [ "$took" -le "$slowest" ] || slowest=$took
done
# The emulated machine takes its time to start a program.
[ "$slowest" -le "$limit" ] && ok "status answers in the midst of 20,000 events" ||
    fail "status answers in the midst of 20,000 events" "2 s, on a virtual machine 5" "$slowest ms"
status=0
wait "$burst" || status=$?
same "which were made" 0 "$status"
eventually 20 "and it comes to rest" converged

# What it cannot read in time the kernel drops, and says so: all is dirty then.
kill -STOP "$agent"
enter fra ip route del 10.60.0.0/24 dev wg0
for _ in 1 2; do burst del 20000 && burst add 20000; done
kill -CONT "$agent"
eventually 20 "more events than the kernel keeps: what went under them is healed" has_route
contains "and they are said to have been too many" "more changes than it could keep" "$(cat "$log")"
eventually 20 "and it comes to rest again" converged
burst del 20000
same "its memory is what it was" yes "$(awk -v allowed=6000 -v before="$(awk '$1 == "descriptors" { own = $4 } END { print own }' "$figures")" \
    '$1 == "RssAnon:" { print ($2 <= before + allowed ? "yes" : $2 " kB, " before " kB before") }' "/proc/$agent/status")"
kill "$agent"
wait "$agent"
done_testing
