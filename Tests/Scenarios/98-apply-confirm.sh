#!/bin/bash
# Applies on trial: what cuts off the SSH session that ran it, or locks the host out of the mesh, is back by itself in time,
# also when nobody is left who watches over it; what does not is kept.
# daily: namespaces
# timeout: 300
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping nft jq git ssh ssh-keygen dropbear dropbearkey || done_testing
mesh_begin

# fra is the hub and an exit; ana is administered by SSH: by somebody far away, and by somebody in her own network.
mesh_host fra ana bob
fra4=$(mesh_address fra 4) ana4=$(mesh_address ana 4)
far=203.0.113.1
topology_begin
hub() { topology_node fra "${1:-10.80.0.1}" -- "endpoint: \"${2:-$fra4}:51820\"" "hub: true" "exit: true"; }
ana() { topology_node ana 10.80.0.2 -- "persistentKeepalive: 1" "$@"; }
hub
ana
topology_node bob 10.80.0.3 -- "persistentKeepalive: 1"
within=10
state=/var/lib/weft

# ------------------------------------------------------------------------------------------------------- a real session
home=$(mesh_folder ana)
mkdir -m 700 "$home/.ssh"
ssh-keygen -q -t ed25519 -N '' -f "$_mesh_folder/key"
install -m 600 "$_mesh_folder/key.pub" "$home/.ssh/authorized_keys"
enter ana sh -ec "
    sed -i 's|^root:\(.*\):[^:]*:[^:]*\$|root:\1:$home:/bin/sh|' /etc/passwd
    dropbearkey -t ed25519 -f /etc/hostkey >/dev/null 2>&1"
launch ana dropbear -F -E -s -p 22 -r /etc/hostkey -P /run/dropbear.pid >"$home/dropbear.log" 2>&1
options="-F none -n -i $_mesh_folder/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
options+=" -o ConnectTimeout=3"
# HOST and the address from which it comes; what is run is one text.
from() { enter "$1" ssh $options -b "$2" "root@$ana4" "$3"; }
far() { from hub $far "$1"; }
logs_in() { far true; }
eventually 20 "somebody far away can log in" logs_in
# One that runs apply: its output comes to a file, as far as it comes at all.
far_apply() { # NAME OPTIONS…
    local name=$1
    shift
    # Bounded: a session that was really lost would stand for ever.
    timeout 60 nsenter --net="/run/netns/$(mesh_namespace hub)" \
        ssh $options -o ServerAliveInterval=20 -b $far "root@$ana4" "$WEFT apply --yes $* $topology" \
        >"$_mesh_folder/$name" 2>&1
    echo "exit $?" >>"$_mesh_folder/$name"
}

reaches() { enter "$1" ping -c 1 -W 1 "$2" >/dev/null; }
in_touch() { reaches ana 10.80.0.1; }
for host in fra bob; do succeeds "$host: apply" weft $host apply; done
succeeds "ana: a first apply by SSH" far "$WEFT apply --yes $topology"
eventually 20 "ana is in touch" in_touch
good=$(live ana)
same_as_before() { [ "$(live ana)" = "$good" ]; }
trial() { enter ana sh -c "cat $state/*/wg0-trial.json" 2>/dev/null | jq -r "$1"; }

# --------------------------------------------------------------------------------------- what would be cut off is named
ana "useExit: fra"
plan=$(far "$WEFT plan $topology")
contains "a full tunnel: the plan names the session" "this would cut the session from $far: its answers would go into the tunnel to fra, by 0.0.0.0/0" "$plan"
contains "and what carries it" "today eth0 carries it" "$plan"
document=$(far "$WEFT plan --format json $topology")
same "so does the document" "session $far eth0" "$(jq -r '.cuts[] | "\(.kind) \(.address) \(.today)"' <<<"$document")"
contains "and among its warnings" host.cuts-session "$(jq -r '.warnings[].id' <<<"$document")"
lacks "who is in her own network is not cut off" "would cut" "$(from fra "$fra4" "$WEFT plan $topology")"
ana "useExit: fra" "killSwitch: true"
contains "a kill switch cuts off who is near as well" "the kill switch would refuse it" "$(from fra "$fra4" "$WEFT plan $topology")"
git -C "$topology" init -q && git -C "$topology" remote add origin ssh://git@$fra4/corp.git
enter ana sh -c "{ echo nameserver $fra4; echo nameserver 203.0.113.53; } >/etc/resolv.conf"
plan=$(weft ana plan)
contains "and where the topology comes from" "this would cut the git remote $fra4: the kill switch would refuse it" "$plan"
contains "and who knows names" "this would cut the name server $fra4: the kill switch would refuse it" "$plan"
lacks "what is far away moves into the tunnel" "203.0.113.53" "$plan"
lacks "but no session where there is none" "the session" "$plan"
rm -rf "$topology/.git"
enter ana sh -c ": >/etc/resolv.conf"
ana "useExit: fra" "killSwitch: {allow: [198.18.0.0/15]}"
lacks "but not whom it allows" "would cut" "$(from fra "$fra4" "$WEFT plan $topology")"

# ------------------------------------------------------------------------------------- the session that ran it is cut off
# Meanwhile bob is told of another endpoint of the hub's, from another folder.
wrong=$(mktemp -d "$_mesh_folder/topology-XXXXXX")
cp "$topology"/*.yaml "$wrong"
sed -i "s/$fra4:51820/198.18.255.77:51820/" "$wrong/node-fra.yaml"
eventually 20 "bob is in touch" reaches bob 10.80.0.1
apart() { # TOPOLOGY OPTIONS…: bob applies on trial, meanwhile
    launch bob "$WEFT" apply --yes --confirm-within $within "${@:2}" "$1" >"$(mesh_folder bob)/apply.log" 2>&1
    bob=$!
}
apart "$wrong"
ana "useExit: fra"
far_apply tunnel --confirm-within $within &
tunnel=$!
cut() { ! timeout 3 nsenter --net="/run/netns/$(mesh_namespace hub)" ssh $options -b $far "root@$ana4" true; }
eventually 20 "a full tunnel cuts off who is far away" cut
eventually $((within + 20)) "it is back by itself" logs_in
eventually 15 "all is as it was" same_as_before
wait $tunnel
told=$(<"$_mesh_folder/tunnel")
contains "the session is told why" "taken back: no answer from the session from $far" "$told"
contains "and what was undone" "- rule" "$told"
contains "apply fails" "exit 1" "$told"
contains "what the folder holds is still planned" "session from $far" "$(far "$WEFT plan $topology")"

# ------------------------------------------------------------------------------------------------ guarded without asking
ana "useExit: fra" "killSwitch: true"
far_apply switch &
on_trial() { [ "$(trial .isRejected)" = false ]; }
eventually 15 "a kill switch is on trial though nobody asked for one" on_trial
eventually 10 "it cuts her off" cut
exits 1 "another apply must wait" weft ana apply
contains "and is told what for" "is on trial (process" "$output"
contains "and what can be done" "weft confirm" "$output"
succeeds "somebody at the console takes it back" enter ana "$WEFT" revert
eventually 15 "it is back" logs_in
wait $!
contains "apply said that it guards" "it is put on trial for 60 s" "$(<"$_mesh_folder/switch")"
contains "and who took it back" "taken back by user 0" "$(<"$_mesh_folder/switch")"
eventually 10 "all is as it was" same_as_before
exits 1 "then nothing is on trial" enter ana "$WEFT" revert

# --------------------------------------------------------------------------------------------- locked out of the mesh
locks_out() { # WHAT
    exits 1 "$1: apply fails" weft ana apply --confirm-within ${within}s
    contains "$1: for the hub does not answer" "taken back: no answer from fra" "$output"
    contains "$1: what was undone is said" "~ peer fra" "$(sed -n '/taken back/,$p' <<<"$output")"
    eventually 15 "$1: ana is in touch" in_touch
}
wait $bob
same "a wrong endpoint: apply fails" 1 $?
told=$(<"$(mesh_folder bob)/apply.log")
contains "a wrong endpoint: for the hub does not answer" "taken back: no answer from fra (10.80.0.1)" "$told"
contains "a wrong endpoint: what was undone is said" "~ peer fra" "$(sed -n '/taken back/,$p' <<<"$told")"
eventually 15 "a wrong endpoint: bob is in touch" reaches bob 10.80.0.1
ana
hub 10.80.0.9
locks_out "wrong allowed IPs"
launch ana "$WEFT" apply --yes --confirm-within 2m "$topology" >"$home/again" 2>&1
again=$!
eventually 15 "it is tried again, for a person decides anew" on_trial
succeeds "and may change his mind" enter ana "$WEFT" revert
wait $again
contains "he was told" "was tried before and taken back: no answer from fra" "$(<"$home/again")"
hub
same "all is as it was" "$good" "$(live ana)"

# ------------------------------------------------------------------------------------------------------ what is harmless
mtu() { enter ana cat /sys/class/net/wg0/mtu; }
enter fra nft -f - <<END
table inet quiet {
    chain input {
        type filter hook input priority 0
        iifname wg0 icmp type echo-request drop
    }
}
END
ana "mtu: 1400"
document=$(weft ana apply --format json --confirm-within 30 --confirm-peer fra 2>/dev/null)
same "a harmless change, proved by WireGuard where no echo is answered" "confirmed true" \
    "$(jq -r '"\(.trial.result) \(.converged)"' <<<"$document")"
contains "by whom is said" "fra (by a handshake) answered" "$(jq -r .trial.reason <<<"$document")"
same "and done" 1400 "$(mtu)"
enter fra nft delete table inet quiet
ana "mtu: 1390"
exits 0 "another, by the session that ran it" far "$WEFT apply --yes --confirm-within 2m $topology"
contains "is confirmed by that" "the session from $far" "$output"
same "and done" 1390 "$(mtu)"
ana "mtu: 1380"
exits 0 "by one to which nothing is sent, too" far "$WEFT apply --yes --confirm-within 2m $topology >/dev/null 2>&1"
same "and done" 1380 "$(mtu)"
# What is in force already is not tried, but repaired: there is nothing else to go back to.
ip="ip link set wg0 mtu 1300; ip route flush dev wg0; ip address flush dev wg0"
enter ana sh -c "$ip"
exits 0 "drift, and an apply on trial" weft ana apply --confirm-within $within
contains "says that there is none" "is repaired, and not put on trial" "$output"
exits 0 "but repairs" weft ana plan --detailed-exitcode
enter ana ip link delete wg0
document=$(weft ana apply --format json --confirm-within $within 2>/dev/null)
same "so does one whose output is read by programs" true "$(jq .converged <<<"$document")"
exits 0 "all of it" weft ana plan --detailed-exitcode
exits 64 "a time that is none" weft ana apply --confirm-within soon
exits 64 "a time that is too short" weft ana apply --confirm-within 3s
exits 1 "a peer that is none" weft ana apply --confirm-within $within --confirm-peer eve
contains "is named" "eve, which is no peer" "$output"

# -------------------------------------------------------------------------------------------------- nobody watches over it
manual() { launch ana "$WEFT" apply --yes --confirm-within 5m --confirm-manually "$topology" >"$home/manual.log" 2>&1; }
mtu_is() { [ "$(mtu)" = "$1" ]; }
asks_for_an_answer() { grep -q 'Keep it?' "$home/manual.log"; }
guard() { enter ana sh -c "sed -n 1p $state/*/wg0.lock"; }
ana "mtu: 1370"
manual
front=$!
eventually 15 "a change waits for a person" asks_for_an_answer
kill -9 "$front" "$(guard)"
wait "$front" 2>/dev/null
same "killed, it stays at first" 1370 "$(mtu)"
contains "and plan says that nobody watches over it" "nobody watches over its trial any more" "$(weft ana plan 2>&1)"
ana "mtu: 1360"
succeeds "the next apply" weft ana apply
contains "takes it back" "was on trial: nobody confirmed it, and who watched over it is gone. It is taken back." "$output"
same "before it goes on" 1360 "$(mtu)"
ana "mtu: 1350"
manual
front=$!
eventually 15 "another waits" asks_for_an_answer
kill -9 "$(guard)"
eventually 10 "whoever shows it takes it back himself" mtu_is 1360
wait "$front" 2>/dev/null
manual
front=$!
eventually 15 "a third waits" mtu_is 1350
eventually 5 "for a person" asks_for_an_answer
kill -9 "$front"
wait "$front" 2>/dev/null
succeeds "who keeps it, from elsewhere" enter ana "$WEFT" confirm
free() { weft ana plan --detailed-exitcode && weft ana apply; }
eventually 10 "it stays" free
same "as it is" 1350 "$(mtu)"

# ---------------------------------------------------------------------------------------------------------- at a terminal
# Meanwhile bob applies for the first time: there is nothing before it.
succeeds "bob: down" weft bob down
same "leaves nothing behind" "" "$(enter bob sh -c "ls $state/*/ | grep -v '^sysctls' || true")"
apart "$topology" --confirm-ping 203.0.113.77
says() { # NAME QUESTION ANSWER
    eventually 15 "$1: apply asks: $2" grep -q "$2" "$home/$1"
    printf '%s\n' "$3" >"$home/$1.new"
    mv "$home/$1.new" "$home/$1.type"
}
asked() { # NAME
    launch ana "$here/../Beds/answer" "$home/$1" "$WEFT" apply --confirm-within $within "$topology"
    terminal=$!
    says "$1" 'Apply?' y
}
ana "mtu: 1340"
asked kept
says kept 'Keep it?' y
wait $terminal
same "who says yes twice: apply succeeds" 0 $?
same "and it stays" 1340 "$(mtu)"
ana "mtu: 1330"
asked unanswered
eventually 10 "who says it once: it comes" mtu_is 1330
wait $terminal
same "and apply fails" 1 $?
same "for it is gone" 1340 "$(mtu)"
asked refused
says refused 'Keep it?' n
wait $terminal
same "who says no: apply fails" 1 $?
same "and it is gone at once" 1340 "$(mtu)"

# A question may stand for hours: nobody waits for its answer, and what was agreed to is what is done.
questions() { [ "$(grep -o 'Apply?' "$home/$1" | wc -l)" = "$2" ]; }
stands() { # NAME: an apply whose question stands
    launch ana "$here/../Beds/answer" "$home/$1" "$WEFT" apply --confirm-within off "$topology"
    terminal=$!
    eventually 15 "$1: a question stands" questions "$1" 1
}
colleague() { # MTU
    rm -rf "$_mesh_folder/colleague"
    cp -r "$topology" "$_mesh_folder/colleague"
    sed -i "s/mtu: .*/mtu: $1/" "$_mesh_folder/colleague/node-ana.yaml"
    succeeds "a colleague applies meanwhile" enter ana "$WEFT" apply --yes --confirm-within off "$_mesh_folder/colleague"
    lacks "and does not wait" "waiting for" "$output"
    same "it is done" "$1" "$(mtu)"
}
ana "mtu: 1330"
stands open
colleague 1320
says open 'Apply?' y
eventually 15 "who answers then is asked again" questions open 2
contains "and told why" "The host has changed meanwhile. The plan is now:" "$(<"$home/open")"
same "nothing was done" 1320 "$(mtu)"
colleague 1310
says open 'Apply?' y
eventually 15 "and once more" questions open 3
same "nothing was done" 1310 "$(mtu)"
says open 'Apply?' y
wait $terminal
same "what he agrees to at last is done" "0 1330" "$? $(mtu)"
ana "mtu: 1320"
stands shut
colleague 1320
says shut 'Apply?' y
wait $terminal
same "where a colleague has done it there is nothing to do" 0 $?
contains "which is said" "No changes" "$(<"$home/shut")"

wait $bob
same "a first apply that fails its trial ends so" 1 $?
contains "says why" "no answer from 203.0.113.77" "$(<"$(mesh_folder bob)/apply.log")"
exits 1 "and leaves no interface" enter bob ip link show wg0
succeeds "without a trial it stays" weft bob apply --confirm-within off
eventually 20 "bob is in touch again" reaches bob 10.80.0.1

# ------------------------------------------------------------------------------------------- the agent guards by itself
log() { grep -qF -e "$1" "$home/agent.log"; }
agent() { # OPTIONS…
    launch ana "$WEFT" agent run --poll 1 "$@" >"$home/agent.log" 2>&1
    agent=$!
}
ana "mtu: 1310"
stands late
agent "$topology"
eventually 15 "an agent is in charge, whatever question stands" log "the agent has started"
eventually 15 "and acts" mtu_is 1310
says late 'Apply?' y
wait $terminal
same "who answers then is refused" 1 $?
contains "and told why" "is in charge of interface wg0" "$(<"$home/late")"
far "sleep 60" &
session=$!
# TCP_ESTABLISHED, at port 22.
is_logged_in() {
    enter ana awk '$2 ~ /:0016$/ && $4 == "01" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6
}
eventually 10 "somebody far away is logged in" is_logged_in
ana "useExit: fra"
eventually 15 "a commit that would cut him off is named" log "would cut the session from $far"
eventually 10 "and on trial, though nobody asked for one" log "the session from $far must answer"
succeeds "by hand it is over sooner" enter ana "$WEFT" revert
eventually 15 "he can log in again" logs_in
kill "$session" "$agent"
wait "$session" "$agent" 2>/dev/null
ana "mtu: 1300"
git=$_mesh_folder/git
commit() {
    cp "$topology"/*.yaml "$git" && git -C "$git" add -A &&
        git -C "$git" -c user.name=x -c user.email=x@y commit -qm x --allow-empty
}
git init -qb main "$git"
commit
agent --git "$git" --interval 1 --confirm-within 60s
eventually 20 "an agent follows git" mtu_is 1300
eventually 40 "on trial as well: another folder's topology was in force before" log "is confirmed"
lines=$(wc -l <"$home/agent.log")
confirmed_by_git() { tail -n "+$((lines + 1))" "$home/agent.log" | grep -qF "the git remote answered"; }
sleep 2 # who is up must have been seen to be up
ana "mtu: 1290"
commit
eventually 40 "a commit is confirmed also by the repository that can still be read" confirmed_by_git
mtu_is 1290 && ok "it is in force" || fail "it is in force" 1290 "$(enter ana cat /sys/class/net/wg0/mtu)"
kill "$agent"
wait "$agent" 2>/dev/null

# ----------------------------------------------------------- what answered before it, and does not behind a kill switch
launch fra git daemon --reuseaddr --export-all --base-path="$_mesh_folder" --listen="$fra4" "$git" 2>/dev/null
cat >"$_mesh_folder/datagrams" <<'END'
# Takes datagrams: `port NUMBER` answers each as a name server that knows nothing, `path PATH` writes each down as a line.
import os, socket, sys
if sys.argv[1] == "port":
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", int(sys.argv[2])))
    while True:
        query, client = server.recvfrom(512)
        server.sendto(query[:2] + b"\x80\x02" + query[4:], client)
os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind(sys.argv[2])
while True:
    print(journal.recv(4096).decode(), flush=True)
END
launch fra /usr/bin/python3 "$_mesh_folder/datagrams" port 53
launch ana /usr/bin/python3 "$_mesh_folder/datagrams" path /run/systemd/journal/dev-log >"$home/journal"
eventually 10 "somebody keeps the system's log" enter ana test -S /run/systemd/journal/dev-log
journal() { grep -qF -e "$1" "$home/journal"; }
enter ana sh -c "echo nameserver $fra4 >/etc/resolv.conf"
git -C "$topology" init -q && git -C "$topology" remote add origin "git://$fra4/git"
good=$(live ana)
ana "useExit: fra" "killSwitch: true"
launch ana "$WEFT" apply --yes --confirm-within $within "$topology" >/dev/null 2>&1
front=$!
eventually 15 "the system's log tells of a kill switch on trial" journal "is on trial for $within s"
kill -9 $front
wait $front 2>/dev/null
eventually $((within + 20)) "it is taken back, with nobody there, and the log says so" journal "what was before is in force again"
reason=$(grep "was taken back" "$home/journal")
contains "for the port that git is fetched from takes no connections" "no answer from $fra4:9418" "$reason"
contains "and the name server says nothing" "the name server $fra4" "$reason"
lacks "the hub did answer" "10.80.0.1" "$reason"
eventually 10 "all is as it was" same_as_before
rm -rf "$topology/.git"
enter ana sh -c ": >/etc/resolv.conf"

ana "mtu: 1290"
agent --git "git://$fra4/git" --interval 1 --confirm-within ${within}s
eventually 20 "an agent follows git over the network" log "the host is as the topology wants it"
sleep 2 # who is up must have been seen to be up
ana "mtu: 1290" "useExit: fra" "killSwitch: true"
commit
eventually 15 "a commit that cuts off where it came from is named" log "would cut the git remote $fra4"
eventually $((within + 30)) "it is taken back" log "was taken back: no answer from $fra4:9418, the git remote"
eventually 10 "all is as it was" same_as_before
ana "mtu: 1280"
commit
eventually 20 "and the repository can be read: the next commit comes" mtu_is 1280
done_testing
