#!/bin/bash
# The beds themselves: a tunnel made by hand carries packets, and does not where it must not. Where this fails, no other
# scenario means anything.
#
# The header of a scenario may hold (read by Tests/run):
#   beds: namespaces vm    where it runs; both when it does not say
#   timeout: 120           seconds after which it is ended, 300 by default; four times that in the virtual machine
#   vm: OPTIONS            of Tests/Beds/vm; scenarios with the same options share one boot
# timeout: 120
set -u
. "$(dirname "$0")/../Beds/assert.sh"
. "$(dirname "$0")/../Beds/mesh"

# One packet there and back, within a second.
ping_once() { enter "$1" ping -n -q -c 1 -W 1 "$2"; }

# ------------------------------------------------------------------------------------------------ the namespaces

mesh_begin || exit 1
succeeds "two hosts" mesh_host a b
refuses "a name is taken once" mesh_host a
succeeds "an IPv4 underlay" ping_once a "$(mesh_address b)"
succeeds "an IPv6 underlay" ping_once a "$(mesh_address b 6)"
succeeds "the internet answers" ping_once a 203.0.113.1

exits 42 "enter passes the exit code" enter a sh -c 'exit 42'
same "enter passes standard input" "text" "$(echo text | enter a cat)"
same "enter stays in the folder" "$PWD" "$(enter a pwd)"
for path in "/etc/$MESH" "/run/$MESH" "/run/wireguard/$MESH" "/var/lib/$MESH"; do
    succeeds "a host may write to ${path%/*}" enter a touch "$path"
    succeeds "and reads what it wrote" enter a ls "$path"
    refuses "another host does not" enter b ls "$path"
    refuses "nor does the machine" ls "$path"
done
same "a host sees its own interfaces only" "eth0 lo" "$(enter a ls /sys/class/net | tr '\n' ' ' | sed 's/ $//')"

# ------------------------------------------------------------------------------------------------------- the device

kind=$(mesh_device a)
mesh_device b >/dev/null
if [ "$BED" = vm ]; then
    same "the machine has WireGuard in its kernel" kernel "$kind"
    same "and its modules are those of its kernel" "$(uname -r)" "$(modinfo -F vermagic wireguard | cut -d' ' -f1)"
    succeeds "user-space devices are possible too" test -c /dev/net/tun
    note "Linux $(uname -r)"
else
    matches "a device is the kernel's or wireguard-go's" "^(kernel|userspace)$" "$kind"
    note "Linux $(uname -r), $kind WireGuard"
fi
for host in a b; do
    folder=$(mesh_folder $host)
    (umask 077; wg genkey >"$folder/key")
    wg pubkey <"$folder/key" >"$folder/public"
    enter $host wg set wg0 private-key "$folder/key" listen-port 51820
done
ip -n "$(mesh_namespace a)" -batch - <<'END'
link set wg0 up
address add 10.10.0.1/24 dev wg0
address add fd10::1/64 dev wg0
END
ip -n "$(mesh_namespace b)" -batch - <<'END'
link set wg0 up
address add 10.10.0.2/24 dev wg0
address add fd10::2/64 dev wg0
END
a=$(cat "$(mesh_folder a)/public")
b=$(cat "$(mesh_folder b)/public")

# ---------------------------------------------------------------------------------------------------- the tunnel

refuses "without peers no packet passes" ping_once a 10.10.0.2
enter a wg set wg0 peer "$b" endpoint "$(mesh_address b):51820" allowed-ips 10.10.0.2/32,fd10::2/128
refuses "with a peer on one side only, neither" ping_once a 10.10.0.2
enter b wg set wg0 peer "$a" allowed-ips 10.10.0.1/32,fd10::1/128
# A handshake that found nobody is tried again after five seconds.
eventually 15 "with both, packets pass" ping_once a 10.10.0.2
eventually 5 "IPv6 too" ping_once b fd10::1
matches "there was a handshake" "[1-9][0-9]{8,}$" "$(enter a wg show wg0 latest-handshakes)"
same "b learnt where a is" "$(mesh_address a):51820" "$(enter b wg show wg0 endpoints | cut -f2)"
refuses "an address of nobody is not reached" ping_once a 10.10.0.3

enter a wg set wg0 peer "$b" endpoint "[$(mesh_address b 6)]:51820"
eventually 5 "over the IPv6 underlay" ping_once a 10.10.0.2
same "b learnt that address" "[$(mesh_address a 6)]:51820" "$(enter b wg show wg0 endpoints | cut -f2)"

mesh_cable b down
refuses "a pulled cable stops everything" ping_once a 10.10.0.2
mesh_cable b up
eventually 5 "a plugged one does not" ping_once a 10.10.0.2

before=$(enter b wg show wg0 endpoints)
mesh_roam a
eventually 15 "a roams, and is heard from its new address" ping_once a 10.10.0.2
same "which b learnt" "[$(mesh_address a 6)]:51820" "$(enter b wg show wg0 endpoints | cut -f2)"
lacks "and which is another one" "$(cut -f2 <<<"$before")" "$(enter b wg show wg0 endpoints)"

enter a wg set wg0 peer "$b" remove
refuses "without the peer no packet passes again" ping_once a 10.10.0.2

# --------------------------------------------------------------------------------------------------------- NAT

succeeds "a router" mesh_router home
succeeds "a host behind it" mesh_host phone behind home
succeeds "from behind it the underlay is reached" ping_once phone "$(mesh_address a)"
succeeds "in IPv6 too" ping_once phone "$(mesh_address a 6)"
refuses "from outside the host behind it is not" ping_once a "$(mesh_address phone)"
mesh_device phone >/dev/null
phone=$(enter phone sh -c 'umask 077; wg genkey | tee /etc/key | wg pubkey')
enter phone wg set wg0 private-key /etc/key peer "$a" endpoint "$(mesh_address a):51820" allowed-ips 10.10.0.1/32
enter phone sh -c 'ip address add 10.10.0.9/24 dev wg0; ip link set wg0 up'
enter a wg set wg0 peer "$phone" allowed-ips 10.10.0.9/32
eventually 15 "a tunnel from behind NAT" ping_once phone 10.10.0.1
matches "a sees the router's address" "^$(mesh_address home):" "$(enter a wg show wg0 endpoints | cut -f2)"
succeeds "and answers through it" ping_once a 10.10.0.9

# --------------------------------------------------------------------------------------------------------- the end

launch a sleep 1000
sleeper=$!
disown "$sleeper"
mesh=$MESH
bystander=$(sleep 1000 >/dev/null & echo $!)
mesh_end
refuses "the bed's end ends its processes" kill -0 "$sleeper"
succeeds "and no others" kill "$bystander"
lacks "and its namespaces" "$mesh" "$(ip netns list)"
lacks "and its mounts" "$mesh" "$(cat /proc/self/mounts)"
export MESH_PREFIX=$mesh
{ bash -c '. "$1"; mesh_begin; mesh_host a; kill -KILL $$' bash "$(dirname "$0")/../Beds/mesh"; } 2>/dev/null
gone() { [[ $(ip netns list) != *"$1"* ]]; }
eventually 10 "also where the shell was killed outright" gone "$mesh"

done_testing
