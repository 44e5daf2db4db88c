#!/bin/bash
# Time: what expires goes on the second, wherever the clock jumps; what has expired never comes back because a clock fell
# back; and a clock that was wrong once can be forgiven. The clock is the whole machine's, so there must be one of our own.
# beds: vm
# timeout: 200
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg python3 || done_testing
mesh_begin
mesh_host fra
key=$(wg genkey | wg pubkey)
topology_begin
topology_node fra 10.80.0.1 -- "listenPort: 51820"
expires() { # SECONDS from now
    topology_file node-guest.yaml <<END
nodes:
  guest: {publicKey: $key, addresses: [10.80.0.9], endpoint: "198.18.9.9:51820", expires: $(date -u -d "@$(($(date +%s) + $1))" +%Y-%m-%dT%H:%M:%SZ)}
END
}
agent_log=$(mesh_folder fra)/agent.log
agent_start() {
    : >"$agent_log"
    launch fra "$WEFT" agent run --poll 30 "$topology" >>"$agent_log" 2>&1
    agent=$!
}
agent_stop() {
    kill "${1:--TERM}" "$agent"
    wait "$agent" 2>/dev/null
}
there() { enter fra wg show wg0 peers 2>/dev/null | grep -qF "$key"; }
gone() { enter fra ip link show wg0 >/dev/null && ! there; }
said() { grep -qF -e "$1" "$agent_log"; }
clock() { enter fra "$WEFT" agent status | python3 -c 'import json, sys; print(json.load(sys.stdin).get("clock", ""))'; }
step() { date -u -s "@$(($(date +%s) + $1))" >/dev/null; }
day=86400
file=/var/lib/weft/clock.json

expires $((3 * day))
agent_start
eventually 30 "who has not expired is there" there

# --------------------------------------------------------------------------------------------------------- forward and back
step $((3 * day - 20))
eventually 5 "a step forward is logged" said "the wall clock was set forward by"
there && ok "short of the expiry nothing happens" || fail "short of the expiry nothing happens" "$key" "$(cat "$agent_log")"
# To the second: the alarm was set by the new clock.
eventually 60 "then its time comes" gone
at=$(date +%s)
late=$((at - $(date -u -d "$(sed -nE 's/.*expires: ([^}]*)}/\1/p' "$topology/node-guest.yaml")" +%s)))
[ "$late" -ge 0 ] && [ "$late" -le 3 ] && ok "on the second ($late)" || fail "on the second" "0 to 3 s" "$late s"
eventually 5 "what was seen is written down" enter fra grep -q latest $file

step $((-2 * day))
eventually 5 "a step back is logged" said "the wall clock was set back by"
eventually 5 "and what it means" said "what had expired by then stays expired"
sleep 1
gone && ok "who had expired stays away" || fail "who had expired stays away" "no $key" "$(enter fra wg show wg0)"
contains "status says so, with both times" "has said" "$(clock)"
contains "and what to do" "remove $file, and where an agent runs, \`weft agent reload\`" "$(clock)"
exits 0 "a plan agrees" weft fra plan --detailed-exitcode
contains "and warns" "what had expired by then stays expired" "$output"
succeeds "so does the doctor" weft fra doctor --offline
contains "with a warning" "what had expired by then stays expired" "$output"

# ---------------------------------------------------------------------------------------------------------- 1970, at a start
agent_stop -KILL
now=$(date +%s)
date -u -s @100 >/dev/null
agent_start
eventually 30 "started in 1970, the agent works" said "the host is as the topology wants it"
gone && ok "who had expired is not back" || fail "who had expired is not back" "no $key" "$(enter fra wg show wg0)"
contains "status says why" "the clock says 1970-01-01T00:0" "$(clock)"
succeeds "a route taken away" enter fra ip route del unreachable 10.80.0.0/16
refused() { enter fra ip route show type unreachable | grep -q 10.80.0.0/16; }
eventually 5 "is healed" refused
agent_stop
exits 0 "apply in 1970 does not bring it back either" weft fra apply
contains "and warns" "what had expired by then stays expired" "$output"
gone && ok "it is away" || fail "it is away" "no $key" "$(enter fra wg show wg0)"

agent_start
eventually 30 "again" said "the host is as the topology wants it"
date -u -s "@$((now + 3 * day))" >/dev/null
eventually 5 "the clock set right, all is well" said "the clock is as late as it was before"
same "status has nothing to say" "" "$(clock)"

# ------------------------------------------------------------------------------------------------- a future that was wrong
expires $((30 * day))
eventually 10 "a new expiry lets it in" there
step $((20 * 365 * day))
eventually 5 "a clock that runs away takes it out" gone
step $((-20 * 365 * day))
eventually 5 "set back, that is said" said "what had expired by then stays expired"
sleep 1
gone && ok "and it stays out" || fail "and it stays out" "no $key" "$(enter fra wg show wg0)"
enter fra rm $file
succeeds "until a person has the clock forgiven" enter fra "$WEFT" agent reload
eventually 10 "then it is back" there
same "and all is well" "" "$(clock)"
agent_stop
done_testing
