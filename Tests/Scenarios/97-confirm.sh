#!/bin/bash
# Changes on trial: a commit that cuts a host off is taken back by that host alone, also when its agent is killed meanwhile;
# one that does not is kept.
# timeout: 300
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping || done_testing
mesh_begin

# fra is the hub; ana and bob are reached through it, as by people far away.
mesh_host fra ana bob
topology_begin
hub() { topology_node fra 10.80.0.1 fd80::1 -- "endpoint: \"$1:51820\"" "hub: true"; }
hub "$(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "persistentKeepalive: 1"
topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1"

within=12
declare -A agents
agent_start() { # HOST
    launch "$1" "$WEFT" agent run --poll 1 --confirm-within $within "$topology" >>"$(mesh_folder "$1")/agent.log" 2>&1
    agents[$1]=$!
}
field() { # HOST PATH
    enter "$1" "$WEFT" agent status 2>/dev/null |
        python3 -c "import json, sys; print(json.load(sys.stdin)['meshes'][0]$2)" 2>/dev/null
}
said() { grep -qF -e "$2" "$(mesh_folder "$1")/agent.log"; }
reaches() { enter "$1" ping -c 1 -W 1 "$2" >/dev/null; }
in_touch() { reaches ana 10.80.0.1 && reaches bob 10.80.0.1 && reaches bob 10.80.0.2; }
in_force() { field "$1" "['revision']['id']"; }
on_trial() { field "$1" "['onTrial']" >/dev/null; }
settled() { ! on_trial fra && ! on_trial ana && ! on_trial bob && [ "$(field "$1" "['stage']")" = converged ]; }

for host in fra ana bob; do agent_start $host; done
eventually 40 "three hosts are in touch" in_touch
# Who is up must have been seen to be up.
sleep 3
first=$(in_force ana)

# ------------------------------------------------------------------------------------------------ one that is harmless
topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1" "mtu: 1400"
is_confirmed() { said bob "is confirmed: fra (10.80.0.1)"; }
eventually 30 "a harmless change is confirmed by who answers" is_confirmed
same "its MTU is set" 1400 "$(enter bob cat /sys/class/net/wg0/mtu)"
eventually 20 "and none is on trial any more" settled bob
good=$(in_force bob)
[ "$good" != "$first" ] && ok "it is another topology" || fail "it is another topology" "not $first" "$good"

# ---------------------------------------------------------------------------------------------- ones that lock hosts out
# Every host takes it back by itself; what the folder holds stays wrong.
locks_out() { # WHAT: what the folder holds now cuts ana off
    local what=$1 bad
    eventually 15 "$what: ana tries it" on_trial ana
    bad=$(field ana "['onTrial']")
    eventually $((within + 25)) "$what: ana takes it back" said ana "topology $bad was taken back: no answer from fra"
    eventually 15 "$what: and is in touch again" in_touch
    same "$what: with what was good" "$good" "$(in_force ana)"
    sleep 3
    same "$what: it is not tried again" "$good" "$(in_force ana)"
    contains "$what: status says so" "was taken back" "$(field ana "['problem']['summary']")"
}
mend() {
    hub "$(mesh_address fra 4)"
    topology_node ana 10.80.0.2 fd80::2 -- "persistentKeepalive: 1"
    eventually 30 "the folder mended: all is as before" in_touch
    eventually 40 "and nothing is on trial" settled ana
    sleep 3
    good=$(in_force ana)
}

# The hub's key is another one: no handshake succeeds any more.
another_key() {
    sed "s|publicKey: .*|publicKey: $("$WEFT" key generate | "$WEFT" key public)|" "$topology/node-fra.yaml" >"$topology/.new"
    mv "$topology/.new" "$topology/node-fra.yaml"
}
another_key
locks_out "a wrong key"
mend

# The hub is to have another address, and does not take the commit: what it sends is no longer taken for its.
kill "${agents[fra]}"
wait "${agents[fra]}" 2>/dev/null
topology_node fra 10.80.0.9 fd80::9 -- "endpoint: \"$(mesh_address fra 4):51820\"" "hub: true"
eventually 15 "wrong allowed IPs: ana tries it" on_trial ana
bad=$(field ana "['onTrial']")
kill -9 "${agents[ana]}"
wait "${agents[ana]}" 2>/dev/null
agent_start ana
eventually 10 "killed meanwhile, its agent goes on" said ana "is still on trial"
eventually $((within + 25)) "and takes it back" said ana "topology $bad was taken back"
same "to what was good" "$good" "$(in_force ana)"
agent_start fra
mend

# ------------------------------------------------------------------------------------------------------ by a person
kill "${agents[bob]}"
wait "${agents[bob]}" 2>/dev/null
launch bob "$WEFT" agent run --poll 1 --confirm-within 15 --confirm-manually "$topology" >>"$(mesh_folder bob)/agent.log" 2>&1
agents[bob]=$!
settled_bob() { [ "$(field bob "['stage']")" = converged ]; }
eventually 15 "bob's changes are confirmed by a person" settled_bob
mtu_is() { [ "$(enter bob cat /sys/class/net/wg0/mtu)" = "$1" ]; }
exits 1 "without a change there is nothing to confirm" enter bob "$WEFT" confirm
topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1" "mtu: 1380"
eventually 10 "one comes" mtu_is 1380
eventually 30 "and goes, for nobody confirms it" mtu_is 1400
topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1" "mtu: 1360"
eventually 10 "another comes" mtu_is 1360
succeeds "it is confirmed" enter bob "$WEFT" confirm
sleep 18
mtu_is 1360 && ok "and stays" || fail "and stays" 1360 "$(enter bob cat /sys/class/net/wg0/mtu)"
topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1" "mtu: 1340"
eventually 10 "a third comes" mtu_is 1340
succeeds "it is taken back by hand" enter bob "$WEFT" revert
eventually 5 "and is gone" mtu_is 1360

# --------------------------------------------------------------------- a kill switch that cuts off whoever administers it
kill "${agents[bob]}"
wait "${agents[bob]}" 2>/dev/null
topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: \"$(mesh_address fra 4):51820\"" "hub: true" "exit: true"
launch bob "$WEFT" agent run --poll 1 --confirm-within $within --confirm-ping 203.0.113.1 "$topology" >>"$(mesh_folder bob)/agent.log" 2>&1
agents[bob]=$!
eventually 15 "bob's changes must leave it in touch with an address of the world" settled_bob
bob_in_touch() { reaches bob 203.0.113.1 && reaches bob 10.80.0.1; }
eventually 30 "it is" bob_in_touch
sleep 3
good=$(in_force bob)
topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1" "useExit: fra" "killSwitch: {}"
eventually 15 "a kill switch comes" on_trial bob
bad=$(field bob "['onTrial']")
cut_off() { ! reaches bob 203.0.113.1; }
eventually 5 "the world is cut off" cut_off
eventually $((within + 25)) "it is taken back" said bob "topology $bad was taken back: no answer from 203.0.113.1"
eventually 10 "and the world is there again" bob_in_touch
same "with what was good" "$good" "$(in_force bob)"
lacks "no rule of the tunnel's is left" "fwmark" "$(enter bob ip rule)"
done_testing
