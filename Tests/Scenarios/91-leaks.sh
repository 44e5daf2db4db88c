#!/bin/bash
# A full tunnel with a kill switch leaks nothing. All that a host and a container behind it send is captured where the
# host's cable ends, while the tunnel comes, changes, breaks in every way there is, and goes: outside the tunnel there is
# not one packet but those to `allow`. The same happens without the kill switch, and there the same capture sees them.
# timeout: 240
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
. "$here/../Beds/leaks.sh"
need wg nft tcpdump busybox || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
killpoint=${WEFT%/*}/weft-killpoint
[ -x "$killpoint" ] || { skip "this scenario" "$killpoint"; done_testing; }
mesh_begin

# ana sits in a LAN behind a router, with a printer beside her and a container behind her. fra is her exit, at either of
# two addresses.
mesh_host fra
mesh_router gate
mesh_host ana printer behind gate
mesh_lan ana
mesh_host box behind ana
fra=$(mesh_address fra 4) fra_moved=198.18.77.1
seen4=$fra seen6=$(mesh_address fra 6)
enter fra ip address add $fra_moved/15 dev eth0
lan4=192.168.1.0/24 lan6=fd00:192:168:1::/64
boxes4=192.168.2.0/24 boxes6=fd00:192:168:2::/64
internet4=203.0.113.1 internet6=2001:db8:ffff::1 resolver=203.0.113.53
enter hub ip address add $resolver/32 dev lo
# As Docker does it.
enter ana sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
enter ana nft -f - <<'END'
table inet docker {
    chain postrouting {
        type nat hook postrouting priority srcnat
        iifname br0 oifname != br0 masquerade
    }
}
END
for host in hub fra ana printer; do answers $host 7000; done

topology_begin
both=$topology
node_fra() { topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $fra" "exit: true" "masquerade: true" "$@"; }
node_ana() { topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra" "$@"; }
shut="killSwitch: {allow: [$lan4, \"$lan6\", $boxes4, \"$boxes6\"]}"
node_fra
node_ana "$shut"
succeeds "fra: apply" weft fra apply
settle=0.5
[ "$BED" != vm ] || settle=1

# Ports tell what came from where. What is bound to eth0 goes around every route and rule.
bound="9002 9004 9008 9009 9014 icmp"
plain="9001 9003 53 9005 9006"
boxed="9011 9012 9013"
noise ana udp,$internet4,9001 udp,$internet4,9002,eth0 udp,$internet6,9003 udp,$internet6,9004,eth0 udp,$resolver,53 \
    tcp,$internet4,9005 tcp,$internet6,9006 udp,255.255.255.255,9008,eth0 udp,224.0.0.251,9009,eth0 \
    udp,fd80::107,9014,eth0 ping,$internet4,0,eth0 ping,$internet6,0,eth0
noise box udp,$internet4,9011 udp,$internet6,9012 tcp,$internet4,9013

# What is left out: the tunnel's own packets, `allow`, and what finds neighbours, routers and addresses.
watch_begin ana "not arp and not (udp dst port 51820 and (dst host $fra or dst host $fra_moved)) and
    not dst net $lan4 and not dst net $lan6 and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 137) and
    not (ip6 and ip6[6] = 0) and not udp port 67 and not udp port 68 and not udp port 546 and not udp port 547"

# Looks at what has left since the last mark. With the switch off, each of the ports must have.
outside() { # WHAT PORT…
    local what=$1 found port missing=
    shift
    sleep $settle
    found=$(watched)
    if [ "$switch" = on ]; then
        same "$what: nothing is outside the tunnel" "" "$found"
    else
        for port; do
            case $port in
            icmp) grep -qi 'icmp' <<<"$found" || missing+=" icmp" ;;
            *) grep -qE "[.]$port\b" <<<"$found" || missing+=" $port" ;;
            esac
        done
        if [ -z "$missing" ]; then
            ok "without the switch, $what: the capture sees it outside"
        else
            fail "without the switch, $what: the capture sees it outside" "packets to:$missing" "$found"
        fi
    fi
    watch_mark
}
through() { [ "$(seen_by ana $internet4)" = "$seen4" ] && [ "$(seen_by ana $internet6)" = "$seen6" ]; }
through4() { [ "$(seen_by ana $internet4)" = "$seen4" ]; }
wg_gone() { ! enter ana ip link show wg0; }
# When `ip monitor` first said something, in seconds since 1970.
linked() {
    local stamp
    stamp=$(sed -E 's/^\[([^]]*)\] ?/\1|/' "$_mesh_folder/links" | awk -F'|' -v what="$1" '$2 ~ what { print $1; exit }')
    [ -z "$stamp" ] || date -d "${stamp/T/ }" +%s.%N
}
applied() { succeeds "${1:-apply}" weft ana apply; }

# ------------------------------------------------------------------------------------- everything that can go wrong

# The process that serves the device; the kernel has none.
program() {
    local process
    for process in $(ip netns pids "$(mesh_namespace ana)"); do
        if [ "$(cat "/proc/$process/comm")" = wireguard-go ]; then echo "$process"; fi
    done
}

everything() {
    eventually 10 "the way through the tunnel is open, both families" through
    watch_mark
    outside "up and carrying" $bound
    applied "a second apply"
    outside "a second apply" $bound
    # All that it counts as its own is checked while the far end says nothing.
    enter fra ip link set wg0 down
    outside "the exit has stopped" $bound
    enter fra ip link set wg0 up
    weft fra apply >/dev/null
    enter ana ip address flush dev wg0 scope global
    outside "the tunnel's addresses are deleted by hand" $bound 9001 53 9005 9011
    applied "apply puts them back"
    outside "they are back" $bound
    enter ana ip link set wg0 down
    outside "the link is set down" $bound $plain
    applied "apply sets it up"
    enter ana ip link delete wg0
    eventually 5 "the link is deleted by hand" wg_gone
    outside "the link is gone" $bound $plain $boxed
    applied "apply makes it anew"
    outside "it is there again" $bound
    if [ -n "$(program)" ]; then
        kill -KILL $(program)
        eventually 5 "wireguard-go is killed" wg_gone
        outside "its device is gone" $bound $plain $boxed
        applied "apply starts it anew"
    fi
    enter ana ip rule flush
    enter ana sh -ec 'ip rule add priority 32766 table main; ip -6 rule flush; ip -6 rule add priority 32766 table main'
    outside "the policy rules are flushed" $bound $plain $boxed
    applied "apply makes them"
    eventually 10 "it carries again" through
    watch_mark
}

# ------------------------------------------------------------------------------------------------- with the switch on

switch=off
outside "before the first apply" $bound $plain $boxed
switch=on
launch ana ip -ts monitor link >>"$_mesh_folder/links" 2>&1
monitor=$!
disown $monitor
is_leaving() { [ -n "$(watched)" ]; }
eventually 5 "packets leave until then" is_leaving
applied "the first apply"
sleep $settle
watched >/dev/null
made=$(linked '^[0-9]+: (wg0|weft~)')
if [ -n "$made" ] && awk -v last="$(watch_last)" -v made="$made" 'BEGIN { exit !(last > 0 && last < made) }'; then
    ok "the last packet outside left before there was a tunnel"
else
    fail "the last packet outside left before there was a tunnel" "before $made" "$(watch_last)"
fi
watch_mark
everything

# Names, neighbours, DHCP, `allow`, and this host itself.
same "the printer is reached" "$(mesh_address ana 4)" "$(seen_by ana "$(mesh_address printer 4)")"
same "by IPv6 too" "$(mesh_address ana 6)" "$(seen_by_tcp ana "$(mesh_address printer 6)")"
same "and the container reaches it" "$(mesh_address ana 4)" "$(seen_by box "$(mesh_address printer 4)")"
same "a service here answers the LAN" "$(mesh_address printer 4)" "$(seen_by_tcp printer "$(mesh_address ana 4)")"
same "by IPv6 too" "$(mesh_address printer 6)" "$(seen_by printer "$(mesh_address ana 6)")"
same "it answers this host" 127.0.0.1 "$(seen_by_tcp ana 127.0.0.1)"
same "at its own address" "$(mesh_address ana 4)" "$(seen_by ana "$(mesh_address ana 4)")"
same "and through the tunnel" 10.80.0.1 "$(seen_by_tcp fra 10.80.1.7)"
enter ana ip neigh flush all
enter ana ip -6 neigh flush all
succeeds "neighbours are found again" enter ana ping -c 1 -W 2 192.168.1.1
succeeds "by IPv6 too" enter ana ping -c 1 -W 2 fd00:192:168:1::1
contains "an application is told that it is refused" "rohibited" "$(enter ana ping -n -c 1 -W 1 -I eth0 $internet6 2>&1)"
outside "all of that"

# A lease, asked for and renewed: the renewal is an ordinary datagram from port 68 to port 67.
mkdir "$_mesh_folder/dhcp"
cat >"$_mesh_folder/dhcp/udhcpd.conf" <<END
start 192.168.1.200
end 192.168.1.201
interface br0
lease_file $_mesh_folder/dhcp/leases
pidfile $_mesh_folder/dhcp/pid
option subnet 255.255.255.0
END
: >"$_mesh_folder/dhcp/leases"
launch gate busybox udhcpd -f "$_mesh_folder/dhcp/udhcpd.conf" >"$_mesh_folder/dhcp/server" 2>&1
disown $!
printf '#!/bin/sh\necho "$1 $ip"\n' >"$_mesh_folder/dhcp/script"
chmod 755 "$_mesh_folder/dhcp/script"
succeeds "a lease is given" enter ana busybox udhcpc -i eth0 -n -q -t 5 -T 1 -s "$_mesh_folder/dhcp/script"
contains "by the router" "bound 192.168.1.20" "$output"
# None of these is in `allow`: it is the protocols that pass.
cat >"$_mesh_folder/passes.py" <<'END'
import socket, struct, sys
def datagram(family, source, address, port):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    s.bind(("", source))
    s.sendto(b"x", (address, port))
datagram(socket.AF_INET, 68, "255.255.255.255", 67)
datagram(socket.AF_INET6, 546, "ff02::1:2", 547)
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
s.sendto(struct.pack("!BBHI", 133, 0, 0, 0), ("ff02::2", 0))
END
launch gate tcpdump -i "$(<"$_mesh_folder/hosts/ana/port")" -n -l --immediate-mode -Q in \
    "udp port 67 or udp port 547 or (icmp6 and ip6[40] = 133)" >"$_mesh_folder/passed" 2>"$_mesh_folder/passed.errors"
passing=$!
eventually 10 "a capture of what may pass" grep -q "listening on" "$_mesh_folder/passed.errors"
succeeds "DHCP and solicitations are sent" enter ana /usr/bin/python3 "$_mesh_folder/passes.py"
eventually 5 "DHCP passes" grep -q "255.255.255.255.67" "$_mesh_folder/passed"
eventually 5 "DHCPv6 passes" grep -q "ff02::1:2.547" "$_mesh_folder/passed"
eventually 5 "a solicitation of routers passes" grep -q "router solicitation" "$_mesh_folder/passed"
kill $passing

# The exit moves, and weft is killed in the middle of taking that up, at one operation and datagram after the other. The
# far end says nothing meanwhile: an answer on its way from the other address would be a peer that roams there.
fra_was=$fra
enter fra nft -f - <<'END'
table inet silent {
    chain output {
        type filter hook output priority 0
        udp sport 51820 drop
    }
}
END
for point in operation:0 before:0 after:0 operation:1 before:1; do
    if [ "$fra" = "$fra_was" ]; then fra=$fra_moved; else fra=$fra_was; fi
    node_fra
    enter ana env WEFT_KILL=$point "$killpoint" apply --yes "$topology" >/dev/null 2>&1
    outside "the exit moves, killed at $point"
done
applied "the next apply"
contains "calls it where it is" "$fra:51820" "$(enter ana wg show wg0 endpoints)"
enter fra nft delete table inet silent
eventually 10 "it carries" through
outside "the exit has moved"
fra=$fra_was
node_fra
applied "it moves back"

# An exit that has run out, or was switched off.
for field in "expires: 2020-01-01T00:00:00Z" "disabled: true"; do
    node_fra "$field"
    applied "apply with an exit that is ${field%%:*}"
    outside "the exit is ${field%%:*}"
    refuses "nothing gets through" through
done
node_fra
applied "the exit is back"
eventually 10 "and carries" through
outside "the exit was gone and is back"

# Killed on the way from nothing: where the tunnel's link is, the switch is shut.
for point in operation:1 operation:2 operation:4 operation:7 operation:10 operation:14; do
    weft ana down >/dev/null 2>&1
    enter ana env WEFT_KILL=$point "$killpoint" apply --yes "$topology" >/dev/null 2>&1
    succeeds "killed at $point on the way up: the switch stands" enter ana nft list table inet weft-wg0
    watch_mark
    outside "killed at $point on the way up"
done
applied "the next apply"

# Down opens it, and last of all.
: >"$_mesh_folder/links"
watch_mark
succeeds "down" weft ana down
sleep $settle
watched >/dev/null
gone=$(linked '^Deleted [0-9]+: wg0')
if [ -n "$gone" ] && awk -v first="$(watch_first)" -v gone="$gone" 'BEGIN { exit !(first > gone) }'; then
    ok "the first packet outside left when the tunnel was gone"
else
    fail "the first packet outside left when the tunnel was gone" "after $gone" "$(watch_first)"
fi
kill $monitor
switch=off
outside "after down" $bound $plain $boxed
refuses "and no table is left" enter ana nft list table inet weft-wg0

# ------------------------------------------------------------------------------------------------ without the switch

node_ana
applied "the same without the switch"
everything
succeeds "down" weft ana down

# --------------------------------------------------------------------------------------------- a mesh without IPv6

switch=on
topology_begin "addresses: [10.80.0.0/16]"
topology_node fra 10.80.0.1 -- "endpoint: $fra" "exit: true" "masquerade: true"
topology_node ana 10.80.1.7 -- "useExit: fra" "killSwitch: {allow: [$lan4]}"
succeeds "fra: apply" weft fra apply
applied "a mesh that has no IPv6"
watch_mark
eventually 10 "carries IPv4" through4
outside "IPv6 of a mesh without"
enter ana ip link delete wg0
outside "and its link is gone"
same "IPv4 of the LAN is allowed" "$(mesh_address ana 4)" "$(seen_by ana "$(mesh_address printer 4)")"
same "its IPv6 was not" "" "$(seen_by ana "$(mesh_address printer 6)")"
# Whoever is cut off has no way to a topology that is whole.
contains "status tells of it without a topology" "inet weft-wg0" "$(enter ana "$WEFT" status /nowhere)"
contains "and of the way out" "weft down --interface wg0" "$(enter ana "$WEFT" status /nowhere)"
succeeds "which opens it" enter ana "$WEFT" down --yes --interface wg0 /nowhere
refuses "no table is left" enter ana nft list table inet weft-wg0
lacks "nor a rule" "fwmark" "$(enter ana ip rule)"
succeeds "then there is nothing to take down" enter ana "$WEFT" down --yes --interface wg0 /nowhere
contains "which is said" "Nothing to remove: wg0 is not there." "$output"
applied "apply"
topology_node ana 10.80.1.7 -- "useExit: fra"
applied "without the switch"
watch_mark
switch=off
outside "IPv6 of a mesh without" $bound
lacks "what follows the routes is refused all the same" 9003 "$(watched)"
succeeds "down" weft ana down
done_testing
