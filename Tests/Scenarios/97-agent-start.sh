#!/bin/bash
# An agent that starts, or is told to look, in the midst of something: a folder that is being copied, a network that is not
# there yet, changes from outside that it is only to report, and routes that were others when git began to fetch.
# daily: namespaces
# timeout: 200
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping git || done_testing
mesh_begin
mesh_host fra bob
topology_begin
topology_node fra 10.80.0.1 -- "endpoint: $(mesh_address fra 4)" "hub: true" "exit: true"
bob() { topology_node bob 10.80.0.2 -- "persistentKeepalive: 1" "$@"; } # YAML…
bob

log=$_mesh_folder/log
agent_start() { # HOST OPTION…
    local host=$1
    shift
    launch "$host" "$WEFT" agent run --poll 1 "$@" >>"$log" 2>&1
    agent=$!
}
agent_stop() { # SIGNAL
    kill "$1" $agent
    wait $agent 2>/dev/null
}
field() { # HOST PATH
    enter "$1" "$WEFT" agent status 2>/dev/null |
        python3 -c "import json, sys; print(json.load(sys.stdin)['meshes'][0]$2)" 2>/dev/null
}
stage_is() { [ "$(field "$1" "['stage']")" = "$2" ]; }
said() { grep -qF -e "$1" "$log"; }
reaches() { enter bob ping -n -c 1 -W 1 10.80.0.1 >/dev/null; }
succeeds "fra is there" weft fra apply

# --------------------------------------------------------------------------------- a folder that is copied, file by file
agent_start fra "$topology"
eventually 10 "fra's agent is there" stage_is fra converged
copy=$_mesh_folder/copy
cp -r "$topology" "$copy"
in_the_midst() { # WHAT COMMAND…
    local what=$1 watcher
    shift
    launch fra sh -c 'while :; do peers=$(wg show wg0 peers) && echo "$peers" | wc -w; sleep 0.02; done' \
        >"$_mesh_folder/peers"
    watcher=$!
    rm -r "$topology"
    mkdir "$topology"
    cp "$copy/mesh.yaml" "$copy/node-fra.yaml" "$topology"
    sleep 0.3
    "$@"
    sleep 0.7
    cp "$copy/node-bob.yaml" "$topology"
    sleep 2.5
    kill $watcher
    wait $watcher 2>/dev/null
    succeeds "$what: the peers were looked at" grep -qx 1 "$_mesh_folder/peers"
    refuses "$what: bob is never lost" grep -qx 0 "$_mesh_folder/peers"
}
reload() {
    launch fra "$WEFT" agent reload >"$_mesh_folder/reloaded"
    reloads=$!
}
hang_up() { kill -HUP $agent; }
start_anew() {
    agent_stop -9
    agent_start fra "$topology"
}
in_the_midst "a reload" reload
wait $reloads
contains "it was answered" "is in force" "$(<"$_mesh_folder/reloaded")"
in_the_midst "SIGHUP" hang_up
in_the_midst "a start" start_anew
eventually 5 "and all is as wanted" stage_is fra converged
agent_stop -TERM

# ------------------------------------------------------------------------------------------ changes that are only reported
: >"$log"
agent_start fra --drift report "$topology"
eventually 10 "an agent that only reports" stage_is fra converged
has_route() { enter fra ip route show 10.80.0.2/32 | grep -q wg0; }
enter fra ip route delete 10.80.0.2/32 dev wg0
eventually 5 "names a route that was removed" said "changed from outside: + route 10.80.0.2/32"
enter fra ip link set eth0 mtu 1400
eventually 20 "follows the host where that is what changed" said "MTU 1420 → 1320"
refuses "and lets the route be" has_route
agent_stop -TERM
agent_start fra --drift report "$topology"
eventually 10 "also when it is started again" stage_is fra drifted
refuses "and lets it be" has_route
agent_stop -TERM
enter fra ip link set eth0 mtu 1500
succeeds "an apply repairs it" weft fra apply

# ------------------------------------------------------------------------------------------ before the network is there
agent_start bob --confirm-within 12 "$topology"
eventually 20 "bob is in touch" reaches
sleep 3
agent_stop -TERM
good=$(<"$topology/node-fra.yaml")
sed -i "s|publicKey: .*|publicKey: $("$WEFT" key generate | "$WEFT" key public)|" "$topology/node-fra.yaml"
enter bob ip link delete wg0
mesh_cable bob down
: >"$log"
agent_start bob --confirm-within 12 "$topology"
eventually 10 "without a network, what was before is in force" said "what was before stays in force"
sleep 2
mesh_cable bob up
eventually 20 "with it, the change is on trial" said "is on trial for 12 s: fra (10.80.0.1) must answer"
eventually 30 "and taken back" said "was taken back: no answer from fra"
eventually 10 "bob is in touch again" reaches
is_up() { tail -n +"$(grep -n 'was taken back' "$log" | cut -d: -f1)" "$log" | grep -q 'fra is up'; }
eventually 10 "and the agent has seen it" is_up
echo "$good" >"$topology/node-fra.yaml"

# ------------------------------------------------------------------------------------------------------ a route in the way
topology_node fra 10.80.0.1 -- "endpoint: $(mesh_address fra 4)" "hub: true" "exit: true" "allowedIPs: [10.60.0.0/24]"
eventually 30 "another range" said "is confirmed"
enter bob ip route replace 10.60.0.0/24 dev eth0 proto static
eventually 10 "something is in the way" stage_is bob blocked
: >"$log"
bob "mtu: 1390"
eventually 30 "a harmless change is confirmed all the same" said "is confirmed: fra (10.80.0.1) answered"
agent_stop -TERM
bob "mtu: 1380"
exits 1 "so it is with apply, which says what remains" weft bob apply --confirm-within 12
contains "the change stays" "is confirmed: fra (10.80.0.1) answered" "$output"
contains "what remains is named" "10.60.0.0/24" "$output"
enter bob ip route delete 10.60.0.0/24 dev eth0
succeeds "without it all is well" weft bob apply

# ------------------------------------------------------------------------------- a fetch that began over the wrong routes
work=$_mesh_folder/base/work
mkdir "$_mesh_folder/base"
git init -q -b main "$work"
touch "$work/.git/git-daemon-export-ok"
commit() {
    cp "$topology"/*.yaml "$work"
    git -C "$work" add .
    git -C "$work" -c user.name=t -c user.email=t@example.net commit -q -m change
}
commit
launch hub git daemon --reuseaddr --base-path="$_mesh_folder/base" --listen=203.0.113.1 --export-all >/dev/null 2>&1
daemon=$!
: >"$log"
agent_start bob --confirm-within 12 --git git://203.0.113.1/work --ref main --interval 2
eventually 20 "bob follows a repository" stage_is bob converged
eventually 15 "and is in touch" reaches
sleep 3
bob "useExit: fra" "killSwitch: true"
commit
eventually 20 "a commit that cuts the repository off" said "is on trial for 12 s"
eventually 30 "is taken back" said "was taken back: no answer from"
bob "mtu: 1370"
commit
mtu_is() { [ "$(enter bob cat /sys/class/net/wg0/mtu)" = "$1" ]; }
eventually 15 "the commit that mends it comes soon" mtu_is 1370
agent_stop -TERM
kill $daemon
done_testing
