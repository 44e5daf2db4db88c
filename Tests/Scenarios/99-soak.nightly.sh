#!/bin/bash
# An agent does not grow: 100,000 passes, and 10,000 topologies.
# alone: in namespaces
# timeout: 3600
passes=100000 changes=10000 allowed=300
[ -z "${WEFT_VM-}" ] || passes=5000 changes=500
here=$(dirname "$(realpath "$0")")
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
# What was made ready for the first rounds is no growth. At rest, the heap has one of a few sizes, some hundred kilobytes apart
# (what was free at its end was given back, or not); what grows, grows at the least of them too.
growth=$(awk '
function least(from, to,    value, i) {
    value = own[from]
    for (i = from; i <= to; i++) if (own[i] < value) value = own[i]
    return value
}
$1 == "descriptors" { own[++n] = $4 }
END { print n == 20 ? least(13, 20) - least(3, 10) : "not told" }' "$figures")
[ "$growth" -le "$allowed" ] && ok "its memory does not grow" || fail "its memory does not grow" "at most $allowed kB" "$growth kB: $output"
same "nor do its descriptors" 1 "$(awk '$1 == "descriptors" { print $2 }' "$figures" | sort -u | wc -l)"
same "and nothing was wrong" "" "$(grep -E ' (error|warning) ' "$log" | head -n 3)"
kill "$agent"
wait "$agent"
done_testing
