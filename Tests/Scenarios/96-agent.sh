#!/bin/bash
# The agent: it takes topologies as they come, heals what others change, keeps the last good one, and lets go of nothing.
# timeout: 400
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping git nft || done_testing
mesh_begin

mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "persistentKeepalive: 2" \
    "allowedIPs: [10.60.0.0/24]"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"

agent_log=$(mesh_folder fra)/agent.log
agent_start() { # HOST ARGUMENT…: $agent is its process
    local host=$1
    shift
    launch "$host" "$WEFT" agent run "$@" >>"$agent_log" 2>&1
    agent=$!
}
agent_stop() {
    kill "$agent"
    wait "$agent" 2>/dev/null
    agent_status=$?
}
field() { # HOST PATH: of the agent's first mesh, as python names it
    enter "$1" "$WEFT" agent status 2>/dev/null |
        python3 -c "import json, sys; print(json.load(sys.stdin)['meshes'][0]$2)" 2>/dev/null
}
stage_is() { [ "$(field fra "['stage']")" = "$1" ]; }
converged() { stage_is converged && weft fra plan --detailed-exitcode >/dev/null 2>&1; }
reaches() { enter fra ping -c 1 -W 1 "$1" >/dev/null; }
said() { grep -qF -e "$1" "$agent_log"; }

# ------------------------------------------------------------------------------------------------------ start
weft ana apply >/dev/null
agent_start fra "$topology"
eventually 20 "it takes the topology into force" converged
eventually 10 "the tunnel carries" reaches 10.80.0.2
revision=$(field fra "['revision']['id']")
passes=$(field fra "['figures']['passes']")
changes=$(field fra "['figures']['changes']")
sleep 12
same "what is as it should be is left alone" "$changes" "$(field fra "['figures']['changes']")"
[ "$(field fra "['figures']['passes']")" -gt "$passes" ] && ok "though it is looked at" ||
    fail "though it is looked at" "more than $passes passes" "$(field fra "['figures']")"

as_nobody() { enter fra setpriv --reuid 65534 --regid 65534 --clear-groups "$WEFT" "$@"; }
exits 1 "status is not for everybody" as_nobody status "$topology"
contains "and says so" "Permission denied" "$output"
enter fra chgrp 65534 /run/weft/agent.sock
succeeds "the socket's group may ask" as_nobody status "$topology"
contains "and sees peers by name" "ana " "$output"
lacks "of the topology that the agent watches" "warning" "$output"
succeeds "of another one" as_nobody status /nowhere
contains "it is said that it is not used" "warning: /nowhere is not used: this is of the agent, which watches $topology" "$output"
enter fra chgrp 0 /run/weft/agent.sock
launch fra "$WEFT" events >"$(mesh_folder fra)/events"
events=$!
exits 1 "apply beside it is refused" weft fra apply
contains "by its process" "an agent (process $agent) is in charge of interface wg0" "$output"
exits 1 "and so is down" weft fra down
contains "with what to do" "weft agent reload" "$output"
exits 0 "a plan is not" weft fra plan --detailed-exitcode
exits 1 "a second agent refuses" enter fra "$WEFT" agent run --socket /run/weft/other.sock "$topology"
contains "naming the first" "an agent (process $agent)" "$output"
exits 1 "and on the same socket too" enter fra "$WEFT" agent run "$topology"
elsewhere=$(mesh_folder fra)/elsewhere
exits 1 "a second one with a state folder of its own refuses too" \
    enter fra "$WEFT" agent run --state-dir "$elsewhere" --socket /run/weft/other.sock "$topology"
contains "naming the first" "another weft (process $agent)" "$output"
exits 1 "and so does an apply with one" weft fra apply --state-dir "$elsewhere"
contains "by its process" "another weft (process $agent)" "$output"
exits 1 "and a down" weft fra down --state-dir "$elsewhere"
contains "with what to do" "change the topology that it watches" "$output"

# ---------------------------------------------------------------------------------------------------- healing
ip_fra() { enter fra ip "$@"; }
heals() { # WHAT COMMAND…: a change by hand, taken back
    local what=$1
    shift
    if ! output=$("$@" 2>&1); then
        fail "$what" "a change that can be made" "$output"
        return
    fi
    eventually 10 "$what: healed" converged
}
heals "a route removed" ip_fra route del 10.80.0.2/32 dev wg0
eventually 5 "an event tells of it" grep -q "drift .*changed from outside: + route 10.80.0.2/32" "$(mesh_folder fra)/events"
kill $events
wait $events 2>/dev/null
# Where ip has ended before anybody looks, its number is all there is.
matches "and it is said by whom" 'removed by (ip \(process [0-9]+\)|process [0-9]+, which has ended)' \
    "$(grep 'changed from outside' "$agent_log" | tail -n 1)"
heals "all routes flushed" ip_fra route flush dev wg0 proto 119
heals "an IPv6 route removed" ip_fra -6 route del fd80::2/128 dev wg0
heals "what refuses absent nodes removed" ip_fra route del unreachable 10.80.0.0/16
heals "an address removed" ip_fra address del 10.80.0.1/32 dev wg0
heals "an address of somebody's added is none of ours" ip_fra address add 192.0.2.7/32 dev wg0
contains "and stays" "192.0.2.7" "$(ip_fra -o address show dev wg0)"
heals "the MTU" ip_fra link set wg0 mtu 1300
heals "the link set down" ip_fra link set wg0 down
heals "forwarding turned off" enter fra sysctl -qw net.ipv4.ip_forward=0
heals "the table flushed" enter fra nft flush table inet weft-wg0
heals "the table removed" enter fra nft delete table inet weft-wg0
heals "a peer removed" enter fra wg set wg0 peer "$(public_key ana)" remove
heals "a peer's prefix moved" enter fra wg set wg0 peer "$(public_key ana)" allowed-ips 10.99.0.0/24
heals "the interface removed" ip_fra link del wg0
# The kernel's own device is known by its alias, one in user space by its program.
for alias in "uplink of the mesh" ""; do
    number=$(ip_fra -o link show wg0 | cut -d: -f1)
    ip_fra link set dev wg0 alias "$alias"
    if [ "$BED" = vm ]; then
        eventually 10 "its alias is \"$alias\": the interface is not known for weft's" stage_is blocked
        contains "and it is said how to put that right" "ip link set dev wg0 alias weft:" "$(field fra "['obstacles'][0]")"
        remedy=$(field fra "['obstacles'][0]" | sed -E 's/.*`(ip link set dev wg0 alias [^`]*)`.*/\1/')
        # shellcheck disable=SC2086
        enter fra $remedy
        eventually 10 "which does it" converged
    else
        eventually 10 "its alias is \"$alias\": put right" converged
        same "and nothing else is touched" "$number" "$(ip_fra -o link show wg0 | cut -d: -f1)"
    fi
done
# Whatever stands in the way is named, and what is in force is not called so.
ip_fra route replace 10.80.0.2/32 dev eth0 proto static
eventually 10 "a route of somebody's over ours: blocked" stage_is blocked
contains "status says by what" "route 10.80.0.2/32 dev eth0" "$(field fra "['obstacles'][0]")"
contains "with what to do" "Remove it" "$(field fra "['obstacles'][0]")"
eventually 5 "and the log" said "in the way: route 10.80.0.2/32 dev eth0"
ip_fra route del 10.80.0.2/32 dev eth0
eventually 10 "it goes: healed" converged
eventually 10 "and the tunnel carries again" reaches 10.80.0.2

# ------------------------------------------------------------------------------------------------- topologies
exchange() { topology_node ana "10.80.0.$1" "fd80::$1" -- "endpoint: $(mesh_address ana 4)"; }
peer_is() { [[ $(enter fra wg show wg0 allowed-ips) == *"10.80.0.$1/32"* ]]; }
exchange 3
eventually 5 "a file renamed into the folder" peer_is 3
sed 's/10.80.0.3/10.80.0.4/; s/fd80::3/fd80::4/' "$topology/node-ana.yaml" >"$topology/.in-place"
cat "$topology/.in-place" >"$topology/node-ana.yaml"
eventually 5 "a file written where it is" peer_is 4
eventually 5 "is in force" converged

before=$(live fra)
echo "nodes: {ana: {publicKey: nonsense}}" >"$topology/broken.yaml"
eventually 5 "a broken file is reported" said "broken.yaml:1:"
same "and changes nothing" "$before" "$(live fra)"
contains "status says why" "error" "$(field fra "['problem']['summary']")"
ip_fra route del 10.80.0.4/32 dev wg0
has_route() { ip_fra route show "$1" | grep -q wg0; }
eventually 5 "drift is healed meanwhile, by the last good one" has_route 10.80.0.4/32

# Half a file, held open: nothing is decided on it.
rm "$topology/broken.yaml"
eventually 5 "the broken file taken away" said "the topology is again what is in force"
exec 9>"$topology/node-ana.yaml"
printf 'nodes:\n' >&9
sleep 1
same "a file that is being written is not read" "$before" "$(live fra)"
sed 's/10.80.0.4/10.80.0.5/; s/fd80::4/fd80::5/' "$topology/.in-place" | tail -n +2 >&9
exec 9>&-
eventually 5 "when it is closed, it is" peer_is 5

mv "$topology" "$topology.away"
eventually 5 "a folder that vanishes is reported" said "No such file"
peer_is 5 && ok "and changes nothing" || fail "and changes nothing" "10.80.0.5" "$(enter fra wg show wg0 allowed-ips)"

mv "$topology.away" "$topology"
eventually 5 "and the folder comes back" converged

# ------------------------------------------------------------------------------------- a folder that is written anew
# As scp and rsync do, a file after the other: nodes whose files are yet to come have not gone.
cp -r "$topology" "$topology.copy"
(while peers="$(enter fra wg show wg0 peers)"; do echo "peers: $(wc -w <<<"$peers")"; sleep 0.02; done) >"$(mesh_folder fra)/peers" &
watcher=$!
rm -rf "$topology"
mkdir "$topology"
for file in mesh.yaml node-fra.yaml node-ana.yaml; do
    sleep 0.4
    cp "$topology.copy/$file" "$topology/$file"
done
before=$(live fra)
mv "$topology/node-ana.yaml" "$topology/.node-ana"
sleep 0.5
mv "$topology/.node-ana" "$topology/ana.yaml"
sleep 3
kill $watcher
wait $watcher 2>/dev/null
matches "its peers were looked at meanwhile" "peers: 1" "$(cat "$(mesh_folder fra)/peers")"
lacks "a folder copied in anew is not one without peers" "peers: 0" "$(cat "$(mesh_folder fra)/peers")"
same "nor is a node that moves to another file" "$before" "$(live fra)"
rm "$topology/ana.yaml"
no_peers() { [ -z "$(enter fra wg show wg0 peers)" ]; }
eventually 10 "a file that stays away takes its node with it" no_peers
cp "$topology.copy/node-ana.yaml" "$topology/node-ana.yaml"
eventually 5 "and comes back with it" peer_is 5
: >"$agent_log"
mv "$topology" "$topology.away"
eventually 5 "a folder that vanishes again" said "stays in force"

# ------------------------------------------------------------------------------------------------- start again
kill -9 "$agent"
wait "$agent" 2>/dev/null
reaches 10.80.0.1 && ok "killed, it leaves the tunnel up" || fail "killed, it leaves the tunnel up" "an answer" "none"
ip_fra link del wg0
agent_start fra "$topology"
eventually 10 "without a topology it starts with the one it kept" peer_is 5
same "and says so" kept "$(field fra "['revision']['origin']")"
mv "$topology.away" "$topology"
exchange 6
eventually 10 "the folder comes back" peer_is 6
same "and is in force" folder "$(field fra "['revision']['origin']")"

# --------------------------------------------------------------------------------------------- expiry, and its end
expires=$(date -u -d "+6 seconds" +%Y-%m-%dT%H:%M:%SZ)
topology_node ana 10.80.0.6 fd80::6 -- "endpoint: $(mesh_address ana 4)" "expires: $expires"
sleep 2
peer_is 6 && ok "a node that will expire is there" || fail "a node that will expire is there" 10.80.0.6 "$output"
gone() { ! peer_is 6; }
eventually 8 "and goes when its time has come" gone
now=$(date -u +%s)
at=$(date -u -d "$expires" +%s)
[ $((now - at)) -le 2 ] && ok "on the second" || fail "on the second" "at $at" "at $now"
said "ana expired at $expires, as the topology says" && ok "the log says why" || fail "the log says why" "ana expired at $expires" "$(tail -3 "$agent_log")"
exchange 6
eventually 5 "and comes back" peer_is 6
eventually 5 "with all that it needs" converged

before=$(live fra)
agent_stop
same "told to stop, it ends well" 0 "$agent_status"
same "and leaves all as it is" "$before" "$(live fra)"
succeeds "now apply has it" weft fra apply

# ------------------------------------------------------------------------------------------ others who are in the way
# Names are anybody's: somebody without rights has taken the one by which agents find each other.
cat >"$(mesh_folder fra)/squat" <<'END'
import signal, socket
squatter = socket.socket(socket.AF_UNIX)
squatter.bind("\0weft/wg0")
squatter.listen()
print("taken", flush=True)
signal.pause()
END
# In a user namespace of his own he has all rights, and none to this network.
powers=(setpriv --reuid 65534 --regid 65534 --clear-groups)
if enter fra "${powers[@]}" unshare --user --map-root-user true 2>/dev/null; then
    powers+=(unshare --user --map-root-user)
fi
launch fra "${powers[@]}" /usr/bin/python3 "$(mesh_folder fra)/squat" >"$(mesh_folder fra)/taken"
squatter=$!
eventually 10 "somebody without rights has taken the name of wg0" grep -q taken "$(mesh_folder fra)/taken"
# And whoever reads the log does not: the pipe is full.
mkfifo "$(mesh_folder fra)/log"
exec 8<>"$(mesh_folder fra)/log"
dd if=/dev/zero of="$(mesh_folder fra)/log" bs=4096 count=64 oflag=nonblock status=none 2>/dev/null || true
launch fra "$WEFT" agent run "$topology" >"$(mesh_folder fra)/log" 2>&1
agent=$!
eventually 15 "an agent works without a name, and without anybody who reads its log" converged
contains "and says what it does without" "would not be noticed" "$(field fra "['memory']")"
heals "a route removed meanwhile" ip_fra route del 10.80.0.6/32 dev wg0
timeout 1 cat <&8 >/dev/null || true
ip_fra route del 10.80.0.6/32 dev wg0
read_on() {
    timeout 1 cat <&8 >>"$(mesh_folder fra)/read-on" || true
    grep -q "lines were left out here" "$(mesh_folder fra)/read-on"
}
eventually 10 "read again, the log says how much was left out" read_on
kill "$squatter"
wait "$squatter" 2>/dev/null
agent_stop
exec 8>&-

# ----------------------------------------------------------------------------------------------- git and symlinks
git_do() { git -C "$1" -c user.name=t -c user.email=t@example.net "${@:2}" >/dev/null 2>&1; }
work=$(mesh_folder fra)/work
git init -q "$work"
cp "$topology"/*.yaml "$work"
git_do "$work" add .
git_do "$work" commit -m one
git clone -q "$work" "$work.clone"
agent_start fra "$work.clone"
eventually 10 "a clone is watched" stage_is converged
sed -i 's/10.80.0.6/10.80.0.7/; s/fd80::6/fd80::7/' "$work/node-ana.yaml"
git_do "$work" commit -am two
git_do "$work.clone" pull
eventually 5 "git pull" peer_is 7
git_do "$work.clone" checkout HEAD~1
eventually 5 "git checkout" peer_is 6
agent_stop

# ------------------------------------------------------------------------------------------- a repository of its own
state=$(mesh_folder fra)/state
# Another folder for its memory would not know what the first has started: the interface goes first.
weft fra down >/dev/null
branch=$(git -C "$work" symbolic-ref --short HEAD)
follow() { agent_start fra --state-dir "$state" --git "file://$work" --ref "$branch" --interval 1 "$@"; }
commit() { # NUMBER: of ana's address
    sed -i -E "s/10\.80\.0\.[0-9]+]/10.80.0.$1]/; s/\"10\.80\.0\.[0-9]+\"/\"10.80.0.$1\"/; s/fd80::[0-9]+/fd80::$1/" "$work/node-ana.yaml"
    git_do "$work" commit -am "number $1"
}
before=$(wc -l <"$agent_log")
follow
eventually 20 "a repository is followed" peer_is 7
first=$(tail -n "+$((before + 1))" "$agent_log")
contains "the first fetch is awaited" "the first fetch of $branch of file://$work is awaited" "$first"
lacks "and that is no error" " error " "$first"
commit 8
eventually 10 "a commit is fetched" peer_is 8
same "status names it" "$(git -C "$work" rev-parse HEAD)" \
    "$(enter fra "$WEFT" agent status | python3 -c "import json, sys; print(json.load(sys.stdin)['git']['commit'])")"
followed=$(echo "$state"/*/git-*)
files() { [ -s "$followed/current/node-ana.yaml" ]; }
rm -rf "$followed"/commit-*
eventually 10 "its files are written again where they are gone" files
eventually 10 "and that is said" said "were damaged or gone: they were written again"
touch "$followed/repository/refs/weft/new.lock" "$followed/index.draft.lock"
commit 7
eventually 10 "locks of a git that was killed are no hindrance" peer_is 7
find "$followed/repository/objects" -type f -exec chmod u+w {} + -exec truncate -s 0 {} +
commit 8
eventually 10 "a repository that is damaged is fetched anew" peer_is 8
eventually 10 "and that is said" said "the repository in $followed was damaged"
agent_stop
follow --interval 3600
git_field() { enter fra "$WEFT" agent status | python3 -c "import json, sys; print(json.load(sys.stdin)['git'].get('$1'))"; }
eventually 10 "started again, it knows its commit" stage_is converged
commit 6
succeeds "reload fetches" enter fra "$WEFT" agent reload
matches "and says what is in force" "^wg0: topology [0-9a-f]{12} is in force" "$output"
peer_is 6 && ok "which it is" || fail "which it is" 10.80.0.6 "$(enter fra wg show wg0 allowed-ips)"
good=$(git -C "$work" rev-parse HEAD)
echo "nodes: {bob: {publicKey: nonsense}}" >"$work/bad.yaml"
git_do "$work" add .
git_do "$work" commit -m "a bad one"
exits 1 "reload says what is refused" enter fra "$WEFT" agent reload
contains "by what is wrong" 'node "bob" has no' "$output"
same "status names what is in force" "$good" "$(git_field commit)"
same "and what was fetched" "$(git -C "$work" rev-parse HEAD)" "$(git_field fetched)"
git_do "$work" rm bad.yaml
git_do "$work" commit -m "without it"
succeeds "until it is mended" enter fra "$WEFT" agent reload
same "which is in force then" "$(git -C "$work" rev-parse HEAD)" "$(git_field commit)"
same "and there is nothing else" None "$(git_field fetched)"
commit 8
kill -HUP "$agent"
eventually 10 "SIGHUP fetches too" peer_is 8
agent_stop
follow
git_do "$work" reset --hard HEAD~1
commit 9
eventually 10 "a history that was rewritten is refused" said "was rewritten"
peer_is 8 && ok "and changes nothing" || fail "and changes nothing" 10.80.0.8 "$(enter fra wg show wg0 allowed-ips)"
mv "$work" "$work.gone"
eventually 10 "a remote that is gone is said" said "cannot fetch $branch"
peer_is 8 && ok "and changes nothing" || fail "and changes nothing" 10.80.0.8 "$(enter fra wg show wg0 allowed-ips)"
agent_stop
ip_fra link del wg0
follow --allow-rewrites
eventually 20 "started without its remote, it has what it fetched before" peer_is 8
mv "$work.gone" "$work"
eventually 10 "and follows it when it comes back, rewritten too where that is allowed" peer_is 9
ln -s /etc/shadow "$work/escape.yaml"
git_do "$work" add .
git_do "$work" commit -m "a way out"
eventually 10 "a link out of the repository is no link here" said "escape.yaml"
lacks "and tells nobody what it leads to" "root:" "$(cat "$agent_log")"
agent_stop
enter fra "$WEFT" down --yes --state-dir "$state" --interface wg0 >/dev/null
git_do "$work" reset --hard "HEAD~2"

# A remote that takes connections, and says nothing.
printf '#!/bin/sh\necho $$ >"%s"\nexec sleep 300\n' "$work.process" >"$work.ssh"
chmod +x "$work.ssh"
export GIT_SSH_COMMAND=$work.ssh
agent_start fra --state-dir "$state.mute" --git git@192.0.2.1:corp.git
unset GIT_SSH_COMMAND
asked() { [ -s "$work.process" ]; }
eventually 10 "a remote that does not answer is asked" asked
eventually 15 "after 10 s that is said" said "has run for 10 s"
exits 1 "and by reload" enter fra "$WEFT" agent reload
contains "with what is waited for" "has run for 10 s" "$output"
agent_stop
gone() { ! kill -0 "$(cat "$work.process")" 2>/dev/null; }
eventually 5 "what asked it ends with the agent" gone

mkdir "$work.links"
cp -r "$work.clone" "$work.links/..two"
sed "s/10.80.0.6/10.80.0.7/; s/fd80::6/fd80::7/" -i.bak "$work.clone/node-ana.yaml"
rm -f "$work.clone"/*.bak
cp -r "$work.clone" "$work.links/..one"
ln -s ..one "$work.links/..data"
ln -s ..data "$work.links/current"
agent_start fra "$work.links/current"
eventually 10 "a link to a folder is watched" peer_is 7
ln -s ..two "$work.links/..new"
mv -T "$work.links/..new" "$work.links/..data"
eventually 5 "the link swapped, as git-sync and ConfigMaps do" peer_is 6

# ----------------------------------------------------------------------------------------------------- only reporting
agent_stop
agent_start fra --drift report --poll 1 "$work.links/current"
eventually 10 "with --drift report" stage_is converged
ip_fra route del 10.80.0.6/32 dev wg0
eventually 10 "a change is reported" stage_is drifted
contains "by name" "route 10.80.0.6/32" "$(field fra "['remaining']")"
sleep 2
lacks "and not repaired" "wg0" "$(ip_fra route show 10.80.0.6/32)"
agent_stop

# -------------------------------------------------------------------------------------------- several meshes, one agent
lab=$(mesh_folder fra)/lab
mkdir "$lab"
enter fra "$WEFT" key generate --output /etc/weft/lab.key >/dev/null
cat >"$lab/mesh.yaml" <<END
mesh: {name: lab, interface: wg1, addresses: [10.90.0.0/16]}
nodes:
  fra: {publicKey: $(enter fra "$WEFT" key public /etc/weft/lab.key), addresses: [10.90.0.1], listenPort: 51999}
  far: {publicKey: $("$WEFT" key generate | "$WEFT" key public), addresses: [10.90.0.2], endpoint: "192.0.2.1:51820"}
END
agent_start fra "$work.links/current" "$lab" --private-key /etc/weft/private.key --private-key /etc/weft/lab.key
both() {
    enter fra "$WEFT" agent status 2>/dev/null |
        python3 -c "import json, sys; sys.exit([m['stage'] for m in json.load(sys.stdin)['meshes']] != ['converged'] * 2)"
}
eventually 15 "two topologies, each with a key and an interface of its own" both
rm "$lab/mesh.yaml"
eventually 5 "one of them gone" said "$lab holds no *.yaml"
ip_fra route del 10.80.0.6/32 dev wg0
ip_fra route del 10.90.0.2/32 dev wg1
lab_has() { ip_fra route show 10.90.0.2/32 | grep -q wg1; }
eventually 5 "both are healed" lab_has
eventually 5 "both" has_route 10.80.0.6/32
if [ "$BED" = namespaces ]; then
    # A device that hangs keeps the other mesh waiting once, not each time that it is looked at.
    space=$(enter fra readlink /proc/self/ns/net)
    for process in $(pgrep -f 'wireguard-go.* wg1$'); do
        [ "$(readlink "/proc/$process/ns/net")" != "$space" ] || device=$process
    done
    kill -STOP "$device"
    eventually 60 "a device that hangs is named" said "process $device) has not answered"
    ip_fra route del 10.80.0.6/32 dev wg0
    eventually 5 "and the other mesh is healed meanwhile" has_route 10.80.0.6/32
    ip_fra route del 10.80.0.6/32 dev wg0
    eventually 5 "and again" has_route 10.80.0.6/32
    kill -CONT "$device"
fi
agent_stop

# One whose interface another agent has waits for it, and the other is looked after.
folder=$(mesh_folder fra)/other
mkdir "$folder"
cat >"$folder/mesh.yaml" <<END
mesh: {name: lab, interface: wg1, addresses: [10.90.0.0/16]}
nodes:
  fra: {publicKey: $(enter fra "$WEFT" key public /etc/weft/lab.key), addresses: [10.90.0.1], listenPort: 51999}
END
launch fra "$WEFT" agent run --socket /run/weft/other.sock --private-key /etc/weft/lab.key "$folder" >/dev/null 2>&1
other=$!
other_has() { enter fra "$WEFT" agent status --socket /run/weft/other.sock | grep -q '"converged"'; }
eventually 15 "another agent has wg1" other_has
cp "$folder/mesh.yaml" "$lab/mesh.yaml"
: >"$agent_log"
agent_start fra "$work.links/current" "$lab" --private-key /etc/weft/private.key --private-key /etc/weft/lab.key
eventually 15 "which is said" said "an agent (process $other) is in charge of interface wg1"
eventually 10 "the other mesh is in force" said "wg0: the host is as the topology wants it"
ip_fra route del 10.80.0.6/32 dev wg0
eventually 5 "and healed" has_route 10.80.0.6/32
kill "$other"
wait "$other" 2>/dev/null
eventually 20 "with wg1 free, it has both" both
agent_stop
enter fra "$WEFT" down --yes --interface wg1 >/dev/null

succeeds "and down takes it down" weft fra down
done_testing
