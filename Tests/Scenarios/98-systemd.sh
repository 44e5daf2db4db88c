#!/bin/bash
# The package on a machine that systemd runs: its units start, feed the watchdog, stop, are upgraded and go, and the tunnels
# stay; a kill switch is there before the network; a device in user space outlives the agent.
# beds: vm
# vm: --systemd --twice --memory 1024
# timeout: 240
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/assert.sh"
need dpkg-deb git objdump systemctl wireguard-go wg nft python3 setpriv || done_testing

# Made once, and found again after the start of the machine.
folder=/opt/weft-test
topology=/etc/weft/topology
key=/etc/weft/private.key
far_key=/etc/weft/far.key

# ------------------------------------------------------------------------------------- before the machine starts
# Runs as on a machine that is still without systemd: a package that is installed into an image, and an agent that once
# kept a topology. It was killed, with the whole machine, in the middle of the trial of another one, in what another boot ID
# makes another run of the machine.
if [ -n "${WEFT_VM_BEFORE-}" ]; then
    set -e
    mkdir -p $folder $topology
    "$WEFT" key generate --output $key >$folder/here.pub
    "$WEFT" key generate --output $far_key >$folder/far.pub
    cat >$topology/mesh.yaml <<END
mesh: {name: test, interface: wg0, addresses: [10.80.0.0/16]}
nodes:
  here: {publicKey: $(<$folder/here.pub), addresses: [10.80.0.1], useExit: far, killSwitch: {}}
  far: {publicKey: $(<$folder/far.pub), addresses: [10.80.0.2], endpoint: 198.18.0.1, exit: true}
END
    # Compressing takes a minute here.
    export DPKG_DEB_COMPRESSOR_TYPE=none
    "$here/../../Deploy/package" --program "$WEFT" $folder
    dpkg --force-unsafe-io -i $folder/weft_*.deb
    dpkg-deb -R $folder/weft_*.deb $folder/next
    sed -i -E 's/^Version: (.*)/Version: \1+next/' $folder/next/DEBIAN/control
    dpkg-deb -b $folder/next $folder/next.deb
    tr 0-9 1-90 </proc/sys/kernel/random/boot_id >$folder/boot_id
    mount --bind $folder/boot_id /proc/sys/kernel/random/boot_id
    "$WEFT" agent run --confirm-within 60m --confirm-manually &
    agent=$!
    shows() { # REGEX: in the agent's document
        for ((i = 0; i < 150; i++)); do
            if "$WEFT" agent status 2>/dev/null | grep -qE "$1"; then return; fi
            sleep 0.2
        done
        return 1
    }
    shows '"stage" *: *"converged"'
    sed -i.first '/^  here:/s/}$/, mtu: 1300}/' $topology/mesh.yaml
    mv $topology/mesh.yaml.first $folder/first.yaml
    shows '"onTrial" *:'
    for ((i = 0; i < 50; i++)); do
        [ "$(cat /sys/class/net/wg0/mtu)" != 1300 ] || break
        sleep 0.2
    done
    [ "$(cat /sys/class/net/wg0/mtu)" = 1300 ]
    kill -9 $agent
    wait $agent || true
    umount /proc/sys/kernel/random/boot_id
    # In the same run of the machine the next agent would go on with that trial.
    echo "WEFT_AGENT_OPTIONS=--confirm-within 60m --confirm-manually" >/etc/default/weft
    ip link delete wg0
    nft delete table inet weft-wg0
    for family in -4 -6; do ip $family rule flush protocol 119; done
    cat >/etc/systemd/system/look.service <<END
[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'nft list table inet weft-wg0 >/run/table-before-network 2>&1'
[Install]
WantedBy=multi-user.target
END
    systemctl enable look.service
    exit
fi

. "$here/../Beds/mesh"
mesh_begin
mesh_host far

property() { systemctl show --value --property "$1" "${2:-weft.service}"; } # NAME [UNIT]
is() { [ "$(systemctl is-active "${2:-weft.service}")" = "$1" ]; } # STATE [UNIT]
carries() { ping -c 1 -W 2 10.80.0.2 >/dev/null; }
shakes() { wg show wg0 latest-handshakes | cut -f 2; }
said() { journalctl --sync; journalctl --unit "$1" --output cat | grep -qE -e "$2"; } # UNIT REGEX
converged() { weft agent status 2>/dev/null | grep -q '"stage" *: *"converged"'; }
weft() { /usr/bin/weft "$@"; }
far() { enter far /usr/bin/weft "$@" --state-dir /var/lib/weft --private-key $far_key $topology; }
less() { [ "$(property "$1" "$2")" -le "$(property "$1" "$3")" ]; } # PROPERTY UNIT UNIT

# ------------------------------------------------------------------------------------------------------------ start
same "systemd is process 1" systemd "$(cat /proc/1/comm)"
eventually 60 "the agent says that it is ready" is active
contains "before the network" network-pre.target "$(property Before)"
less ActiveEnterTimestampMonotonic weft.service network-pre.target && ok "and says so before that may start" ||
    fail "and says so before that may start" "$(property ActiveEnterTimestampMonotonic network-pre.target)" "$(property ActiveEnterTimestampMonotonic)"
eventually 30 "what comes after that has started" eval '[ -s /run/table-before-network ]'
contains "when the kill switch of the kept topology was there" drop "$(cat /run/table-before-network)"
contains "and it is that which is in force" '"kept"' "$(weft agent status)"
journalctl --sync
matches "for the one in the folder was on trial when the machine went down" \
    'topology [0-9a-f]+ was taken back: .*; it is not tried again' "$(journalctl --unit weft --output cat)"
[ "$(cat /sys/class/net/wg0/mtu)" != 1300 ] && ok "nothing is left of that" || fail "nothing is left of that" "not 1300" 1300
cp $folder/first.yaml $topology/mesh.yaml
rm /etc/default/weft
mv $topology $topology.away
succeeds "a restart" systemctl restart weft
contains "with the topology gone" '"kept"' "$(weft agent status)"
same "no unit has failed" "" "$(systemctl --failed --no-legend)"

# ------------------------------------------------------------------------------------------------------------- mesh
mv $topology.away $topology
far_address=$(mesh_address far)
same "the far host is where the topology says" 198.18.0.1 "$far_address"
ip link add eth0 type veth peer name here netns "$(mesh_namespace hub)"
ip -n "$(mesh_namespace hub)" link set here master br0 up
ip address add 198.18.1.1/15 dev eth0
ip link set eth0 up
ip route add default via 198.19.255.254
succeeds "the far host" far apply --yes
succeeds "a reload" systemctl reload weft
eventually 10 "takes the topology that has come" eval 'weft agent status | grep -q \"folder\"'
eventually 10 "the tunnel carries" carries
process=$(property MainPID)
same "with the process that was started first" "$(property ExecMainPID)" "$process"
same "and never again" 0 "$(property NRestarts)"

# ----------------------------------------------------------------------------------------------------------- rights
same "as a user of its own" weft "$(stat -c %U /proc/"$process")"
# CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW.
same "with three capabilities, and none to get" "0000000000003400 0000000000003400" \
    "$(awk '/^CapEff|^CapBnd/ { print $2 }' /proc/"$process"/status | paste -sd' ')"
for unit in weft.service weft-device@0.service; do
    succeeds "$unit: exposed 2.0 at most" systemd-analyze security --threshold=20 --no-pager $unit
    matches "which is counted" 'Overall exposure level for .*: [0-9]\.[0-9]' "$output"
    note "$(grep 'Overall' <<<"$output")"
done
contains "the key is a credential" "/run/credentials/weft.service/private.key" "$(tr '\0' ' ' </proc/"$process"/cmdline)"
as_weft() { setpriv --reuid weft --regid weft --clear-groups "$@"; }
refuses "whose file is not the agent's to read" as_weft cat $key
lacks "nor in the journal" "$(<$key)" "$(journalctl)"

# ---------------------------------------------------------------------------------------------------------- sockets
as_member() { setpriv --reuid 4711 --regid 4711 --groups "$(getent group weft | cut -d: -f3)" "$@"; }
succeeds "a member of the group asks the agent" as_member weft agent status
refuses "nobody else does" setpriv --reuid 4711 --regid 4711 --clear-groups weft agent status
refuses "a member may not read what the agent remembers" as_member ls /var/lib/weft/host
refuses "nor the key" as_member cat $key
# Says a line to the socket for devices, and prints the answer.
cat >$folder/ask <<'END'
import socket, sys
link = socket.socket(socket.AF_UNIX)
link.settimeout(20)
link.connect("/run/weft/device.sock")
link.sendall(sys.argv[1].encode().decode("unicode_escape").encode("latin-1"))
print(link.makefile().read().strip())
END
ask() { /usr/bin/python3 $folder/ask "$1"; }
refuses "nor have a device" as_member /usr/bin/python3 $folder/ask "start wg7 $(printf '0%.0s' {1..32}) 1\n"
contains "for the socket is not theirs" "Permission denied" "$output"
mark=0123456789abcdef0123456789abcdef
number=$(stat -L -c %i /proc/self/ns/net)
while IFS='|' read -r what line; do
    contains "refused: $what" "refused " "$(ask "$line")"
done <<END
an option for a name|start --version $mark $number\n
a path for a name|start ../wg7 $mark $number\n
a device that is there|start wg0 $mark $number\n
a program's name|start wg7 $mark $number /bin/sh\n
a variable in the mark|start wg7 PATH=/tmp $number\n
a second line|start wg7 $mark $number\nstart wg8 $mark $number\n
a line without an end|$(printf 'x%.0s' {1..300})
END
same "another network namespace's device is not made" elsewhere "$(ask "start wg7 $mark 1\n")"
refuses "and none of these is there" ip link show wg7

# --------------------------------------------------------------------------------------------------------- watchdog
[ "$(property WatchdogUSec)" != 0 ] && ok "there is a watchdog" || fail "there is a watchdog" "a time" "$(property WatchdogUSec)"
mkdir /etc/systemd/system/weft.service.d
printf '[Service]\nWatchdogSec=6\n' >/etc/systemd/system/weft.service.d/watchdog.conf
systemctl daemon-reload
shook=$(shakes)
succeeds "a restart" systemctl restart weft
process=$(property MainPID)
fed=$(property WatchdogTimestampMonotonic)
eventually 10 "the watchdog is fed" eval '[ "$(property WatchdogTimestampMonotonic)" -gt $((fed + 2000000)) ]'
sleep 6
same "and satisfied" "$process" "$(property MainPID)"
kill -STOP "$process"
eventually 30 "an agent that hangs is ended" said weft.service 'Watchdog timeout'
carries && ok "the tunnel carries meanwhile" || fail "the tunnel carries meanwhile" "an answer" "none"
eventually 30 "and comes back" eval '[ "$(property MainPID)" != 0 ] && [ "$(property MainPID)" != "$process" ] && converged'
same_session "sessions are what they were" "$shook" "$(shakes)"
shook=$(shakes)
rm -r /etc/systemd/system/weft.service.d
systemctl daemon-reload

# ------------------------------------------------------------------------------------------------------------- stop
succeeds "a stop" systemctl stop weft
carries && ok "leaves the tunnel" || fail "leaves the tunnel" "an answer" "none"
same_session "and its session" "$shook" "$(shakes)"
weft agent status >/dev/null 2>&1 && fail "though nobody is there" "no agent" "one" || ok "though nobody is there"
ip route del 10.80.0.2/32 dev wg0
succeeds "now apply by hand has it" weft apply --yes --format json
same "what root remembers is the agent's to read" weft "$(find /var/lib/weft -printf '%u\n' | sort -u)"
succeeds "a start" systemctl start weft
eventually 10 "goes on from there" converged

# ----------------------------------------------------------------------------------------------- a very first start
systemctl stop weft
succeeds "down" weft down --yes
rm -rf /var/lib/weft/*
cp /etc/resolv.conf $folder/resolv.conf
echo "nameserver 198.19.255.254" >/etc/resolv.conf
succeeds "a start that knows of nothing before" systemctl start weft
journalctl --sync
contains "is over when the kill switch is up" drop "$(nft list table inet weft-wg0 2>&1)"
contains "though that cuts off the name server, and who answers was to be found out first" \
    "would cut the name server 198.19.255.254" "$(journalctl --unit weft --output cat)"
cat $folder/resolv.conf >/etc/resolv.conf
eventually 20 "the tunnel carries" eval 'converged && carries'

# -------------------------------------------------------------------------------------------------------------- git
git() { command git -C $folder/repository -c user.name=t -c user.email=t@example.net "$@"; }
commit() {
    git add . && git commit -qm "another one"
}
mkdir $folder/repository
cp $topology/mesh.yaml $folder/repository
git init -qb main
commit
command git daemon --reuseaddr --export-all --base-path=$folder --listen=127.0.0.1 $folder/repository 2>/dev/null &
daemon=$!
echo "WEFT_AGENT_OPTIONS=--git git://127.0.0.1/repository --interval 1" >/etc/default/weft
systemctl restart weft
follows() { weft agent status 2>/dev/null | grep -q "\"commit\" *: *\"$(git rev-parse HEAD)\"" && converged; }
eventually 30 "the unit follows a repository" follows
sed -i '/^  here:/s/}$/, mtu: 1320}/' $folder/repository/mesh.yaml
commit
eventually 30 "and each commit of it" eval 'follows && [ "$(cat /sys/class/net/wg0/mtu)" = 1320 ]'
carries && ok "the tunnel carries" || fail "the tunnel carries" "an answer" "none"
kill $daemon
succeeds "a restart without the remote" systemctl restart weft
eventually 20 "goes on with what it had" eval 'follows && [ "$(cat /sys/class/net/wg0/mtu)" = 1320 ]'
rm /etc/default/weft
succeeds "a restart without git" systemctl restart weft
eventually 20 "has the folder's topology again" eval 'converged && [ "$(cat /sys/class/net/wg0/mtu)" != 1320 ] && carries'
shook=$(shakes)

# ---------------------------------------------------------------------------------------------------------- upgrade
process=$(property MainPID)
ping -n -D -i 0.01 -w 200 10.80.0.2 >$folder/pings &
pings=$!
succeeds "the upgrade to the next version" dpkg --force-unsafe-io -i $folder/next.deb
eventually 20 "the agent is another one" eval '[ "$(property MainPID)" != "$process" ] && converged'
upgraded=$EPOCHREALTIME
sleep 0.5
kill -INT $pings
wait $pings
matches "of the next version" '\+next$' "$(dpkg-query --show weft)"
# What is on its way when ping is ended is not lost: all that were answered are in a row, to after the upgrade.
same "no packet was lost meanwhile" "all, to its end" "$(awk -v end="$upgraded" '
    match($0, /icmp_seq=[0-9]+/) {
        number = substr($0, RSTART + 9, RLENGTH - 9) + 0
        if (!(number in seen)) { seen[number] = 1; answered++ }
        if (number > highest) highest = number
        last = substr($1, 2) + 0
    }
    END { print (answered == highest && last >= end ? "all, to its end" : answered + 0 " of " highest + 0 ", the last at " last ", the end at " end) }
' $folder/pings)"
note "$(grep transmitted $folder/pings)"
same_session "nor the session" "$shook" "$(shakes)"
same "nor is it started anew again" 0 "$(property NRestarts)"

# ------------------------------------------------------------------------------------------- a device in user space
systemctl stop weft
succeeds "down" weft down --yes
far down --yes >/dev/null
echo "install wireguard /bin/false" >/etc/modprobe.d/weft-test.conf
modprobe -r wireguard
lacks "the kernel has no WireGuard any more" wireguard "$(cut -d' ' -f1 /proc/modules)"
# Somebody else's program left this; it is none of ours.
/usr/bin/python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('/run/wireguard/other.sock')"
succeeds "the far host has a program of its own" far apply --yes
succeeds "a start without it" systemctl start weft
device() { systemctl list-units --plain --no-legend --state running 'weft-device@*' | cut -d' ' -f1 | grep .; }
eventually 30 "it has a device all the same, in a unit of its own" device
eventually 30 "and is as it should be" converged
device=$(device)
program=$(property MainPID "$device")
same "in user space" wireguard-go "$(cat /proc/"$program"/comm)"
same "as the agent's user" weft "$(stat -c %U /proc/"$program")"
same "with two capabilities, and none to get" "0000000000001400 0000000000001400" \
    "$(awk '/^CapEff|^CapBnd/ { print $2 }' /proc/"$program"/status | paste -sd' ')"
eventually 20 "the tunnel carries" carries
shook=$(shakes)
same "others' sockets stay theirs" root "$(stat -c %U /run/wireguard/other.sock)"
refuses "for the agent's user cannot remove them" as_weft rm -f /run/wireguard/other.sock
succeeds "a restart of the agent" systemctl restart weft
eventually 20 "finds it" converged
same "as it was" "$program" "$(property MainPID "$device")"
process=$(property MainPID)
kill -9 "$process"
eventually 20 "killed, the agent comes back" eval '[ "$(property MainPID)" != "$process" ] && converged'
same "and finds the same program" "$program" "$(property MainPID "$device")"
same_session "with the same session" "$shook" "$(shakes)"
carries && ok "which carries" || fail "which carries" "an answer" "none"
kill -9 "$program"
eventually 30 "a program that is killed has a successor" eval 'device && converged && carries'
systemctl stop weft
succeeds "down" weft down --yes
eventually 10 "ends the unit with the interface" eval '! device'

# ---------------------------------------------------------------------------------------------------- remove, purge
systemctl start weft
eventually 30 "once more" eval 'device && converged && carries'
succeeds "removing the package" dpkg -r weft
contains "says what stays" "the tunnel wg0 stays up" "$output"
is inactive && ok "ends the agent" || fail "ends the agent" inactive "$(systemctl status weft)"
carries && ok "and leaves the tunnel" || fail "and leaves the tunnel" "an answer" "none"
succeeds "purging it" dpkg -P weft
same "leaves nothing that was remembered" "" "$(ls -d /var/lib/weft /run/weft 2>/dev/null)"
same "nor a link to its unit" "" "$(find /etc/systemd /var/lib/systemd -name 'weft*' ! -name 'weft-bed.*')"
same "nor one that failed" "" "$(systemctl --failed --no-legend)"
[ -e $key ] && [ -e $topology/mesh.yaml ] && ok "and what is the administrator's" || fail "and what is the administrator's" "key and topology" "$(ls /etc/weft)"
done_testing
