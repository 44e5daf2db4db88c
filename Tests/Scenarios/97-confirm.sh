#!/bin/bash
# Changes on trial: a commit that cuts a host off is taken back by that host alone, also when its agent is killed meanwhile;
# one that does not is kept.
# daily: namespaces
# timeout: 400
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
on_trial() { field "$1" "['onTrial']"; }
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
    bad=$output
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
bad=$output
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
contains "status says that it is on trial, and until when" "is on trial until 2" "$(enter bob "$WEFT" status)"
succeeds "it is taken back by hand" enter bob "$WEFT" revert
eventually 5 "and is gone" mtu_is 1360
contains "and that it was taken back, and by whom" "was taken back by user 0" "$(enter bob "$WEFT" status)"

# -------------------------------------------------------------------------------------- an agent that stops meanwhile
agent_stop() { # HOST
    kill "${agents[$1]}"
    wait "${agents[$1]}" 2>/dev/null
}
lab=$(mesh_folder bob)/lab
mkdir "$lab"
enter bob "$WEFT" key generate --output /etc/weft/lab.key >/dev/null
lab() { # PORT
    cat >"$lab/.new" <<END
mesh: {name: lab, interface: wg1, addresses: [10.90.0.0/16]}
nodes:
  bob: {publicKey: $(enter bob "$WEFT" key public /etc/weft/lab.key), addresses: [10.90.0.1], listenPort: $1}
END
    mv "$lab/.new" "$lab/mesh.yaml"
}
manual() { # TOPOLOGY…
    local keys=(--private-key /etc/weft/private.key)
    [ $# = 1 ] || keys+=(--private-key /etc/weft/lab.key)
    launch bob "$WEFT" agent run --poll 1 --confirm-within 15 --confirm-manually "${keys[@]}" "$@" \
        >>"$(mesh_folder bob)/agent.log" 2>&1
    agents[bob]=$!
}
bob_mtu() { topology_node bob 10.80.0.3 fd80::3 -- "persistentKeepalive: 1" "mtu: $1"; }
bob_mtu 1320
eventually 10 "a fourth comes" mtu_is 1320
agent_stop bob
said bob "is on trial, and nobody watches over it from now on" && ok "an agent that stops says what becomes of it" ||
    fail "an agent that stops says what becomes of it" "nobody watches" "$(tail -3 "$(mesh_folder bob)/agent.log")"
gone="and the agent that watched over it has ended"
contains "so does plan" "$gone" "$(weft bob plan 2>&1)"
contains "and status" "$gone" "$(weft bob status 2>&1)"
contains "and doctor" "$gone" "$(weft bob doctor --offline 2>&1)"
exits 1 "apply does not adopt it" weft bob apply
contains "and says why" "start the agent, which goes on with it" "$output"
exits 1 "nobody is there to keep it" enter bob "$WEFT" confirm
contains "which is said" "$gone" "$output"
succeeds "by hand it is taken back" enter bob "$WEFT" revert
mtu_is 1360 && ok "and is gone" || fail "and is gone" 1360 "$(enter bob cat /sys/class/net/wg0/mtu)"
bob_mtu 1310
manual "$topology"
eventually 10 "a fifth comes" mtu_is 1310
agent_stop bob
is_over() { weft bob plan 2>&1 | grep -qF "nobody watches over its trial any more"; }
eventually 20 "its time is over, and plan says so" is_over
bob_mtu 1300
succeeds "the next apply" weft bob apply
contains "takes it back" "was on trial: nobody confirmed it, and who watched over it is gone. It is taken back." "$output"
contains "to what was before" "MTU 1310 → 1360" "$output"
contains "before it goes on" "MTU 1360 → 1300" "$output"
mtu_is 1300 && ok "with what the folder holds" || fail "with what the folder holds" 1300 "$(enter bob cat /sys/class/net/wg0/mtu)"

# Two topologies, each with a change on trial.
lab 51998
manual "$topology" "$lab"
wg1_port() { [ "$(enter bob wg show wg1 listen-port 2>/dev/null)" = "$1" ]; }
eventually 15 "another topology" wg1_port 51998
sleep 1
bob_mtu 1290
lab 51999
both() { mtu_is 1290 && wg1_port 51999; }
eventually 15 "two changes are on trial" both
exits 1 "which one is confirmed must be said" enter bob "$WEFT" confirm
contains "of these" "changes are on trial on wg0, wg1: name one with --interface" "$output"
exits 1 "the agent asks the same" enter bob "$WEFT" confirm --socket /run/weft/agent.sock
contains "of these" "changes are on trial on wg0, wg1: name one with --interface" "$output"
exits 1 "one that is none is not confirmed" enter bob "$WEFT" confirm --interface wg7
contains "which is said" "no change is on trial on wg7" "$output"
succeeds "one is confirmed" enter bob "$WEFT" confirm --interface wg1
succeeds "the other is taken back" enter bob "$WEFT" revert
eventually 5 "it is gone" mtu_is 1300
wg1_port 51999 && ok "the one that was confirmed stays" || fail "the one that was confirmed stays" 51999 "$(enter bob wg show wg1 listen-port)"
agent_stop bob
succeeds "bob: the other mesh goes" enter bob "$WEFT" down --yes --interface wg1

# Started on a change, it goes back to what a command has put in force meanwhile, from another folder.
cp -r "$topology" "$_mesh_folder/elsewhere"
sed -i 's/mtu: .*/mtu: 1280/' "$_mesh_folder/elsewhere/node-bob.yaml"
succeeds "bob: a topology of another folder" enter bob "$WEFT" apply --yes "$_mesh_folder/elsewhere"
bob_mtu 1270
manual "$topology"
eventually 15 "the agent's own comes" mtu_is 1270
succeeds "it is taken back" enter bob "$WEFT" revert
eventually 5 "and what the command had put in force is there" mtu_is 1280
eventually 15 "bob has one again" settled_bob

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
