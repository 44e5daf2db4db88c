#!/bin/bash
# An agent in adversity: topologies that are none, a state folder that is full, read-only or damaged, clients that send
# garbage or never end, storms of signals. The tunnels stay as they were, what others change is healed meanwhile, log and
# status say why in a sentence, no processor is burnt, and when the cause is gone the agent goes on by itself.
# daily: namespaces
# timeout: 300
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping python3 setpriv || done_testing
mesh_begin

mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"

agent_log=$(mesh_folder fra)/agent.log
agent_start() { # ARGUMENT…: $agent is its process
    : >"$agent_log"
    launch fra "$WEFT" agent run --poll 1 "$@" >>"$agent_log" 2>&1
    agent=$!
}
agent_stop() {
    kill "$agent"
    wait "$agent" 2>/dev/null
}
field() { # PATH: of the agent's first mesh, as python names it
    enter fra "$WEFT" agent status 2>/dev/null |
        python3 -c "import json, sys; print(json.load(sys.stdin)['meshes'][0]$1)" 2>/dev/null
}
converged() { [ "$(field "['stage']")" = converged ]; }
reaches() { enter fra ping -c 1 -W 1 10.80.0.2 >/dev/null; }
said() { grep -qF -e "$1" "$agent_log"; }
ip_fra() { enter fra ip "$@"; }
has_route() { ip_fra route show 10.80.0.2 | grep -q wg0; }
# Whatever is wrong, what others change is put right.
heals() { # WHAT [SECONDS]
    ip_fra route del 10.80.0.2/32 dev wg0
    eventually "${2:-5}" "$1: a route removed is back" has_route
}
# Of user and system, in hundredths of a second.
used() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$agent/stat"; }
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$agent/status"; }
descriptors() { ls "/proc/$agent/fd" | wc -l; }
# In the virtual machine a processor is some twenty times slower.
factor=1
[ "$BED" != vm ] || factor=15
# No busy loop: in three seconds, a twentieth of a processor at most.
is_calm() { # WHAT
    local before
    before=$(used)
    sleep 3
    local spent=$(($(used) - before))
    [ $spent -le $((15 * factor)) ] && ok "$1: no processor is burnt" ||
        fail "$1: no processor is burnt" "at most $((15 * factor)) hundredths of a second in 3 s" "$spent"
}

weft ana apply >/dev/null
agent_start "$topology"
eventually 20 "all is well at first" converged
eventually 10 "the tunnel carries" reaches
before=$(live fra)
good=$(field "['revision']['id']")

# -------------------------------------------------------------------------------------------------- topologies that are none
aside=$topology.aside
mkdir "$aside"
recovered() { said "the topology is again what is in force ($good)" && [ "$(field "['problem']")" = "" ] && converged; }
as_before() { # WHAT SENTENCE: the log and the status have the sentence, and nothing has changed
    eventually 10 "$1: the log says why" said "$2"
    contains "$1: so does the status" "$2" "$(field "['problem']['summary']") $(field "['problem']['details']")"
    same "$1: the tunnel is as it was" "$before" "$(live fra)"
}
mended() { # WHAT
    eventually 10 "$1: when it is gone, the agent goes on" recovered
    : >"$agent_log"
}

mv "$topology"/*.yaml "$aside"
as_before "no file" "holds no *.yaml or *.yml file"
heals "no file"
mv "$aside"/*.yaml "$topology"
mended "no file"

cp "$topology/node-ana.yaml" "$aside"
: >"$topology/node-ana.yaml"
as_before "an empty file" "node-ana.yaml is empty"
cp "$aside/node-ana.yaml" "$topology/node-ana.yaml"
mended "an empty file"

head -c 60 "$aside/node-ana.yaml" >"$topology/.half"
mv "$topology/.half" "$topology/node-ana.yaml"
as_before "half a file" "node-ana.yaml"
cp "$aside/node-ana.yaml" "$topology/node-ana.yaml"
mended "half a file"

truncate -s 1G "$topology/large.yaml"
as_before "1 GB" "large.yaml is too large: a file may have 64 MiB"
[ "$(resident)" -le 150000 ] && ok "and it is not read" || fail "and it is not read" "150 MB" "$(resident) kB"
rm "$topology/large.yaml"
mended "1 GB"

mkfifo "$topology/pipe.yaml"
as_before "a FIFO" "pipe.yaml is not a regular file"
heals "a FIFO"
rm "$topology/pipe.yaml"
mended "a FIFO"

mkdir "$topology/below"
ln -s .. "$topology/below/above"
as_before "a link to a folder above" "leads back to a folder above it"
rm "$topology/below/above"
mended "a link to a folder above"
ln -s circle.yaml "$topology/circle.yaml"
as_before "a link in a circle" "circle.yaml cannot be read"
is_calm "a link in a circle"
rm -r "$topology/circle.yaml" "$topology/below"
mended "a link in a circle"

agent_stop
# Without the right to read what is another's, as a service has it.
launch fra setpriv --bounding-set=-dac_override,-dac_read_search "$WEFT" agent run --poll 1 "$topology" >>"$agent_log" 2>&1
agent=$!
eventually 10 "an agent with fewer rights" converged
chmod 000 "$topology/node-ana.yaml"
touch -d '2 days ago' "$topology/node-ana.yaml"
as_before "an unreadable file" "Permission denied"
heals "an unreadable file"
chmod 644 "$topology/node-ana.yaml"
mended "an unreadable file"
agent_stop

# ------------------------------------------------------------------------------------------------------ the state folder
# On a file system of its own, which can be filled up and made read-only.
state=$(mesh_folder fra)/state
mkdir "$state"
enter fra mount -t tmpfs -o size=256k,mode=700 state "$state"
weft fra down >/dev/null
agent_start --state-dir "$state" "$topology"
eventually 20 "with a state folder of its own" converged
eventually 10 "it carries too" reaches
remembers() { enter fra cat "$(enter fra sh -c "echo $state/netns-*/*.kept")" | grep -q "10.80.0.$1"; }
eventually 5 "what is in force is kept" remembers 2

fill() { enter fra sh -c "cat /dev/zero >$state/filler" 2>/dev/null; }
forget_route() { enter fra ip route show 10.80.0.3 | grep -q wg0; }
exchange() { topology_node ana "10.80.0.$1" "fd80::$1" -- "endpoint: $(mesh_address ana 4)" "allowedIPs: [$2]"; }
fill
exchange 2 10.61.0.0/24
has_network() { ip_fra route show "$1" | grep -q wg0; }
eventually 10 "on a full disk, a new topology is in force all the same" has_network 10.61.0.0/24
eventually 5 "it is said that it is not kept" said "after a restart without a topology there is none to go by"
matches "and what to do" "No space left on device: free some space there" "$(cat "$agent_log")"
contains "status says so" "free some space" "$(field "['memory']")"
heals "a full disk"
is_calm "a full disk"
reaches && ok "the tunnel carries on" || fail "the tunnel carries on" "an answer" none
enter fra rm "$state/filler"
eventually 10 "with room again it is kept" remembers 2
keeps_network() { enter fra sh -c "cat $state/netns-*/*.kept" | grep -q "$1"; }
eventually 10 "the new one" keeps_network 10.61.0.0/24
eventually 5 "and said" said "what must be remembered is written down again"
same "status has nothing to say any more" "" "$(field "['memory']")"

: >"$agent_log"
enter fra sh -c "mount --bind $state $state && mount -o remount,bind,ro $state"
exchange 2 10.62.0.0/24
eventually 10 "read-only, a new topology is in force all the same" has_network 10.62.0.0/24
eventually 5 "it is said that it is not kept" said "Read-only file system: choose another folder with --state-dir"
heals "a read-only state folder"
agent_stop
agent_start --state-dir "$state" "$topology"
eventually 10 "started with it, the agent takes charge all the same" converged
eventually 5 "and says what it cannot do" said "Read-only file system: choose another"
reaches && ok "the tunnel carries on" || fail "the tunnel carries on" "an answer" none
heals "a state folder that was read-only at the start"
is_calm "waiting for the state folder"
# The agent has its lock open there.
enter fra mount -o remount,bind,rw "$state"
eventually 10 "writable again, it keeps what is in force" keeps_network 10.62.0.0/24
heals "writable again"

# While it runs, somebody damages what it remembers, and takes it away altogether.
record=$(enter fra sh -c "echo $state/netns-*/wg0.json")
lock=$(dirname "$record")/wg0.lock
enter fra sh -c "echo garbage >$record"
heals "a damaged record"
before=$(live fra)
exchange 2 10.63.0.0/24
eventually 10 "a damaged record: a new topology is in force" has_network 10.63.0.0/24
enter fra sh -c "rm -r $state/*"
eventually 10 "a state folder that was emptied: it takes charge again" enter fra test -e "$lock"
exits 1 "and nobody else has the interface" enter fra "$WEFT" apply --yes --state-dir "$state" "$topology"
contains "by its process" "an agent (process $agent) is in charge of interface wg0" "$output"
heals "a state folder that was emptied"
agent_stop

damage() { # WHAT SENTENCE COMMAND…: done to the record of wg0; then the agent starts
    local what=$1 sentence=$2
    shift 2
    before=$(live fra)
    enter fra sh -c "rm -rf $record*"
    enter fra sh -c "$*"
    agent_start --state-dir "$state" "$topology"
    eventually 10 "$what: the agent starts" converged
    said "$sentence" && ok "$what: the log says so" || fail "$what: the log says so" "$sentence" "$(cat "$agent_log")"
    contains "$what: so does the status" "$sentence" "$(field "['memory']")"
    same "$what: the tunnel is as it was" "$before" "$(live fra)"
    heals "$what"
    agent_stop
}
damage "garbage" "it is damaged" "head -c 2000 /dev/urandom >$record"
# The emulated machine is slow, and what differs is the file's content only.
if [ "$BED" != vm ]; then
    damage "a part of a record" "it is damaged" "printf '{\"version\":1,\"boo' >$record"
    said "nor is the topology that was in force (" && ok "a part of a record: what lies beside it is named" ||
        fail "a part of a record: what lies beside it is named" "the kept topology" "$(cat "$agent_log")"
    damage "a record from a newer version" "a newer weft wrote it (version 99)" "printf '{\"version\":99,\"bootID\":\"\"}' >$record"
    damage "a folder in its place" "it is no record (Is a directory)" "mkdir $record"
    damage "a FIFO in its place" "it is damaged" "mkfifo $record"
fi
enter fra sh -c "rm -rf $record* $lock; mkdir $lock"
agent_start --state-dir "$state" "$topology"
eventually 10 "a folder in the lock's place: the log says so" said "there must be no folder of that name, move it away"
reaches && ok "and the tunnel carries on" || fail "and the tunnel carries on" "an answer" none
enter fra rmdir "$lock"
eventually 10 "moved away, the agent goes on" converged
agent_stop
# The kept topology: there is nothing to go by then, and nothing is touched.
enter fra sh -c "for file in $state/netns-*/*.kept; do head -c 100 \$file >\$file.cut; mv \$file.cut \$file; done"
mv "$topology" "$topology.gone"
before=$(live fra)
agent_start --state-dir "$state" "$topology"
eventually 10 "a kept topology that is damaged is said" said ".kept is damaged, or a newer weft's: it is not used"
same "and nothing is touched" "$before" "$(live fra)"
mv "$topology.gone" "$topology"
eventually 10 "the topology back, the agent goes on" converged

# --------------------------------------------------------------------------------------------------------------- clients
socket=/run/weft/agent.sock
fds=$(descriptors)
memory=$(resident)
# Garbage, silence, half lines, lines without end, and readers that do not read, from forty clients at a time.
cat >"$(mesh_folder fra)/flood.py" <<'END'
import os, random, socket, sys, time
random.seed(7)
end = time.monotonic() + float(sys.argv[2])
held, asked = [], 0
while time.monotonic() < end:
    try:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(1)
        client.connect(sys.argv[1])
        kind = random.randrange(7)
        if kind == 0: client.sendall(os.urandom(5000) + b"\n")
        elif kind == 1: client.sendall(b"x" * 100000)
        elif kind == 2: client.sendall(b"sta")
        elif kind == 3: client.sendall(b"events\n")
        elif kind == 4: client.sendall(b"status\n")
        elif kind == 5: client.sendall(b"reload\n")
        asked += 1
        if kind in (2, 3, 4, 6): held.append(client)
        else: client.close()
    except OSError:
        pass
    while len(held) > 40: held.pop(random.randrange(len(held))).close()
print(asked)
END
spent=$(used)
launch fra python3 "$(mesh_folder fra)/flood.py" $socket 5 >"$(mesh_folder fra)/flooded"
flood=$!
sleep 1
# Several times, in the middle of it.
heals "a flood of clients" 3
heals "a flood of clients, again" 3
has_peer() { enter fra wg show wg0 peers | grep -q .; }
enter fra wg set wg0 peer "$(public_key ana)" remove
eventually 5 "a peer removed during the flood is back" has_peer
wait $flood
note "$(cat "$(mesh_folder fra)/flooded") requests in 5 s, $(($(used) - spent)) hundredths of a second of processor"
few_descriptors() { [ "$(descriptors)" -le $((fds + 2)) ]; }
eventually 15 "no descriptor is left of it" few_descriptors
[ "$(resident)" -le $((memory + 20000)) ] && ok "nor much memory" || fail "nor much memory" "$memory kB and 20000" "$(resident)"
eventually 10 "and it answers as before" converged

# ------------------------------------------------------------------------------------------------------- storms of signals
(end=$((SECONDS + 5)); while [ $SECONDS -lt $end ]; do kill -HUP $agent $agent $agent $agent; done) &
storm=$!
sleep 0.5
spent=$(used)
heals "a storm of SIGHUP" 3
exchange 2 10.64.0.0/24
eventually 4 "a new topology is taken in it" has_network 10.64.0.0/24
wait $storm
# Each signal has to be taken, and there are thousands; what follows from them must not be done as often.
spent=$(($(used) - spent))
[ $spent -le 350 ] && ok "and it keeps no processor busy" ||
    fail "and it keeps no processor busy" "at most 350 hundredths of a second in 5 s" "$spent"
is_calm "after clients and signals"

# ------------------------------------------------------------------------------------- what asks an agent that comes and goes
enter fra rm $socket
answers() { enter fra "$WEFT" agent status >/dev/null 2>&1; }
eventually 10 "its socket removed, the agent makes it again" answers
said "the socket was removed, and is there again" && ok "and says so" || fail "and says so" "that" "$(tail -n 3 "$agent_log")"
launch fra "$WEFT" events >"$(mesh_folder fra)/events" 2>&1
events=$!
launch fra timeout 60 setpriv --reuid 65534 --regid 0 --clear-groups "$WEFT" status --watch --interval 1 "$topology" >"$(mesh_folder fra)/watch" 2>&1
watch=$!
seen() { grep -qF -e "$2" "$(mesh_folder fra)/$1"; }
eventually 10 "status --watch asks the agent" seen watch "ana "
kill -9 "$agent"
wait "$agent" 2>/dev/null
wait $events
same "weft events ends with the agent" 1 $?
seen events "no more events come: the agent has ended" && ok "and says why" || fail "and says why" "that" "$(cat "$(mesh_folder fra)/events")"
eventually 10 "status --watch says that it has ended" seen watch "the agent that listened on $socket has ended"
exits 1 "reload says so too" enter fra "$WEFT" agent reload
contains "with what to do" "start it again, and look at its log" "$output"
exits 1 "and events" enter fra "$WEFT" events
exits 1 "and status" enter fra "$WEFT" agent status
enter fra rm $socket
exits 1 "where no agent ever was, reload says that" enter fra "$WEFT" agent reload
contains "with what to do" "no agent listens on $socket" "$output"
agent_start --state-dir "$state" "$topology"
eventually 10 "an agent comes back" converged
: >"$(mesh_folder fra)/watch"
eventually 10 "and status --watch goes on" seen watch "ana "
kill $watch
wait $watch 2>/dev/null
succeeds "reload works again" enter fra "$WEFT" agent reload

# --------------------------------------------------------------------------------------------------- WireGuard's kernel log
agent_stop
agent_start --state-dir "$state" --wireguard-log "$topology"
eventually 10 "with --wireguard-log" converged
if [ "$BED" = vm ]; then
    said "the kernel logs what its WireGuard does" && ok "it is said" || fail "it is said" "that" "$(cat "$agent_log")"
    control=/proc/dynamic_debug/control
    matches "WireGuard's lines are on" '\[wireguard\].* =p' "$(cat $control)"
    dmesg --clear
    enter fra wg set wg0 peer "$(public_key ana)" remove
    eventually 10 "a handshake" reaches
    logged() { dmesg | grep -q "wireguard: wg0: .*peer"; }
    eventually 10 "is in the kernel's log" logged
    for key in "$(public_key ana)" "$(public_key fra)" "$(enter fra cat /etc/weft/private.key)"; do
        lacks "without a key" "${key%=}" "$(dmesg)"
    done
    agent_stop
    lacks "and off afterwards" "=p" "$(grep -F '[wireguard]' $control)"
else
    matches "it is said, or why it cannot be" "the kernel logs what its WireGuard does|cannot be made to log: .*(no dynamic debug|not loaded|only root)" "$(cat "$agent_log")"
    agent_stop
fi
succeeds "and down takes it down" enter fra "$WEFT" down --yes --state-dir "$state" "$topology"
done_testing
