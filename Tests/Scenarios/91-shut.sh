#!/bin/bash
# A kill switch that is shut is said to be, where people look; and `weft down` opens it, whatever stands of the rest: with
# the link gone, on a disk that is full, and with a state folder that nobody can write to.
# timeout: 120
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg nft ping || done_testing
mesh_begin

# ana has a LAN besides, so that settings of the host are claimed, and given back.
mesh_host fra ana
mesh_lan ana
state=/var/lib/weft
enter ana mkdir -p $state
enter ana mount -t tmpfs -o size=256k,mode=700 state $state
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "exit: true" "masquerade: true"
ana() { topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra" "allowedIPs: [192.168.1.0/24]" "killSwitch: true" "$@"; }
ana
gateway=198.19.255.254
succeeds "fra: apply" weft fra apply
is_shut() { refuses "$1: nothing goes past the tunnel" enter ana ping -n -c 1 -W 1 -I eth0 $gateway; }
is_open() {
    refuses "$1: no table is left" enter ana nft list table inet weft-wg0
    lacks "$1: nor a rule" "fwmark" "$(enter ana ip rule)"
    refuses "$1: nor the link" enter ana ip link show wg0
    same "$1: forwarding is as it was" 0 "$(enter ana cat /proc/sys/net/ipv4/ip_forward)"
    succeeds "$1: packets leave" enter ana ping -n -c 1 -W 2 $gateway
}

succeeds "apply" weft ana apply
eventually 20 "the tunnel carries" enter ana ping -n -c 1 -W 1 10.80.0.1
is_shut "up"
lacks "with a tunnel that carries, status has nothing to say of it" "kill switch is shut" "$(weft ana status)"
same "but for programs" true "$(weft ana status --format json | jq .firewall.killSwitch)"
lacks "nor has doctor" "kill switch is shut" "$(weft ana doctor --offline)"
enter ana sh -c 'echo nameserver 198.18.99.99 >/etc/resolv.conf'
contains "but a name server beside the tunnel is cut off, and doctor says by what" \
    "the mesh keeps this host from the name server 198.18.99.99: the kill switch would refuse it" "$(weft ana doctor --offline)"
enter ana sh -c 'echo nameserver 9.9.9.9 >/etc/resolv.conf'
lacks "one that is reached through the exit is not" "name server" "$(weft ana doctor --offline)"

enter ana ip link set wg0 down
is_shut "set down"
contains "status says so" "The kill switch is shut: the interface is down" "$(weft ana status)"
contains "and doctor" "the kill switch is shut" "$(weft ana doctor --offline)"
contains "with the way out" '`weft down` opens' "$(weft ana doctor --offline)"
enter ana ip link delete wg0
is_shut "without its link"
contains "status says so" "The kill switch is shut: the interface is gone" "$(weft ana status)"
contains "without a topology too" "The kill switch is shut: the interface is gone" "$(enter ana "$WEFT" status /nowhere)"
contains "and doctor" "the kill switch is shut" "$(weft ana doctor --offline)"
converges ana

# Another name for the interface: what that costs is said.
sed -i 's/interface: wg0/interface: wg1/' "$topology/mesh.yaml"
refuses "another interface is refused while the mesh is on this one" weft ana apply
contains "with what to do" "weft down --interface wg0" "$output"
contains "and what that opens" "Its kill switch is open from the one to the other" "$output"
sed -i 's/interface: wg1/interface: wg0/' "$topology/mesh.yaml"
unchanged ana "with the old name all is well"

# ------------------------------------------------------------------------------------------------- nothing can be written

enter ana sh -c "cat /dev/zero >$state/filler" 2>/dev/null
exits 1 "down on a full disk: what cannot be forgotten is said" weft ana down
matches "in so many words" "No space left on device" "$output"
is_open "on a full disk"
enter ana rm "$state/filler"
succeeds "with room again" weft ana down
same "nothing is remembered" "" "$(enter ana find "$state" -name '*.json' ! -name clock.json)"
converges ana

locked() { enter ana sh -c "mount --bind $state $state && mount -o remount,bind,ro $state"; }
locked
refuses "read-only, nothing is applied" weft ana apply
is_shut "read-only"
exits 1 "down with a read-only state folder" weft ana down
matches "says what could not be written" "Read-only file system" "$output"
is_open "read-only"
enter ana umount "$state"
succeeds "writable again" weft ana down
converges ana
enter ana sh -c "rm $state/*/wg0.lock"
locked
exits 1 "the same without a lock" weft ana down
matches "says that there is none" "no other run of weft is kept from changing wg0" "$output"
is_open "without a lock"
enter ana umount "$state"
succeeds "and in the end all is forgotten" weft ana down

# --------------------------------------------------------------------------------------------------- somebody else's link

before=$(enter ana ip -d link show eth0)
refuses "down of a link that is not weft's" weft ana down --interface eth0
contains "says whose it is not" "eth0 is not an interface of weft's" "$output"
sed -i 's/interface: wg0/interface: eth0/' "$topology/mesh.yaml"
succeeds "down where the topology names such a one" weft ana down
contains "says the same" "Nothing to remove: eth0 is not weft's, and is left as it is" "$output"
lacks "and not that it is not there" "not there" "$output"
same "it is left alone" "$before" "$(enter ana ip -d link show eth0)"
done_testing
