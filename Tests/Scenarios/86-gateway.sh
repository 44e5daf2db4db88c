#!/bin/bash
# A node that passes on for others: a LAN behind it is reached by its own addresses, what leaves the mesh is masqueraded where
# it is asked for, TCP is made to fit into the tunnel, and all of it goes with `down`. Every claim is made by packets.
# timeout: 240
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
need wg ping nft jq tcpdump strace || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

# gate has a LAN, fra leads into the internet, which is the hub's 203.0.113.1.
mesh_host gate ana fra
mesh_lan gate
mesh_host printer scanner behind gate
printer4=$(mesh_address printer 4) printer6=$(mesh_address printer 6)
lan4=192.168.1.0/24 lan6=fd00:192:168:1::/64
internet4=203.0.113.1 internet6=2001:db8:ffff::1
topology_begin
gate() { # YAML…
    topology_node gate 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address gate 4)" "allowedIPs: [$lan4, \"$lan6\"]" "mtu: 1400" "$@"
}
ana() { topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)" "$@"; }
fra() { topology_node fra 10.80.0.3 fd80::3 -- "endpoint: $(mesh_address fra 4)" "$@"; }
gate
ana
fra

# Everything that a host's part in a mesh may change. (The kernel's own WireGuard switches redirects off for good when an
# interface comes up: that is nobody's to take back.)
settings() {
    enter "$1" sh -c 'cd /proc/sys/net && grep -H . ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/*/accept_ra \
        ipv4/conf/all/src_valid_mark ipv4/conf/all/rp_filter ipv[46]/conf/*/forwarding \
        ipv[46]/conf/*/accept_redirects' | grep -v /wg
    enter "$1" nft list tables
    enter "$1" ip rule
    enter "$1" ip -6 rule
}
echoes="icmp or (icmp6 and (ip6[40] == 128 or ip6[40] == 129))"
# A hardened host that passes on what comes in by one interface. Both go with forwarding in the kernel.
companions="net.ipv4.conf.all.accept_redirects net.ipv4.conf.br0.forwarding net.ipv6.conf.br0.forwarding"
enter gate sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.br0.forwarding=1 net.ipv6.conf.br0.forwarding=1
before=$(settings gate)
enter gate sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
enter gate sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
same "the kernel loses these where forwarding comes and goes" "1 0 0" "$(enter gate sysctl -n $companions | paste -sd' ')"
enter gate sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.br0.forwarding=1 net.ipv6.conf.br0.forwarding=1
same "gate is hardened" "$before" "$(settings gate)"

# -------------------------------------------------------------------------------------- a network behind a node

for host in gate ana fra; do converges $host; done
same "gate forwards while the mesh is there" "1 1" \
    "$(enter gate cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding | paste -sd' ')"
same "who has nothing behind it does not" "0 0" \
    "$(enter ana cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding | paste -sd' ')"
eventually 20 "ana reaches the LAN" pings ana $printer4
eventually 20 "in IPv6 too" pings ana $printer6

begin_capture printer eth0 "$echoes"
pings ana $printer4 >/dev/null
pings ana $printer6 >/dev/null
end_capture >/dev/null
contains "the LAN host sees ana's own address" "IP 10.80.0.2 > $printer4: ICMP echo request" "$captured"
contains "and answers to it" "IP $printer4 > 10.80.0.2: ICMP echo reply" "$captured"
contains "in IPv6 too" "IP6 fd80::2 > $printer6: ICMP6, echo request" "$captured"
begin_capture ana wg0 "icmp or icmp6"
succeeds "the LAN host reaches ana" pings printer 10.80.0.2
succeeds "in IPv6 too" pings printer fd80::2
end_capture >/dev/null
contains "which sees the LAN host's own address" "IP $printer4 > 10.80.0.2: ICMP echo request" "$captured"
contains "of both families" "IP6 $printer6 > fd80::2: ICMP6, echo request" "$captured"

# Forwarding is on, and was turned off for one interface. Of IPv6 the kernel asks the host as a whole, whatever its
# interfaces say.
enter gate sysctl -qw net.ipv4.conf.wg0.forwarding=0 net.ipv6.conf.wg0.forwarding=0 net.ipv6.conf.br0.forwarding=0
refuses "an interface that passes nothing on: nothing goes from the mesh into the LAN" pings ana $printer4
succeeds "IPv6 does" pings ana $printer6
exits 2 "the plan turns weft's own on again" weft gate plan --detailed-exitcode
contains "and shows it" "net.ipv4.conf.wg0.forwarding 0 → 1" "$output"
lacks "and nothing of IPv6" "ipv6.conf" "$output"
exits 1 "and doctor has it" weft gate doctor --offline
matches "as forwarding that is off" "passes no packets on: net.ipv4.conf.wg0.forwarding is off" "$output"
converges gate
succeeds "then it goes again" pings ana $printer4
enter gate sysctl -qw net.ipv4.conf.br0.forwarding=0
refuses "the LAN's own interface passes nothing on" pings printer 10.80.0.2
unchanged gate "that is not weft's to change"
contains "and it is named" "net.ipv4.conf.br0.forwarding = 0: no IPv4 packet that comes in by br0 is passed on" "$(weft gate plan)"
contains "by doctor too" "net.ipv4.conf.br0.forwarding = 0" "$(weft gate doctor --offline)"
remedy=$(weft gate plan --format json | jq -r '.hindrances[].remedy' | grep -oE '`[^`]+`' | tr -d '`')
succeeds "the remedy can be typed: $remedy" enter gate $remedy
succeeds "then the LAN reaches the mesh" pings printer 10.80.0.2
same "and nothing is named" 0 "$(weft gate plan --format json | jq '.hindrances | length')"
enter gate sysctl -qw net.ipv4.conf.eth0.forwarding=0
same "nor an interface that the mesh does not need" 0 "$(weft gate plan --format json | jq '.hindrances | length')"
enter gate sysctl -qw net.ipv4.conf.eth0.forwarding=1 net.ipv6.conf.wg0.forwarding=1 net.ipv6.conf.br0.forwarding=1

answers printer 80
answers scanner 80
answers ana 80
answers hub 80
same "the LAN host is asked over TCP by ana itself" 10.80.0.2 "$(ask ana tcp $printer4 80)"
same "in IPv6" fd80::2 "$(ask ana tcp $printer6 80)"
same "over UDP" 10.80.0.2 "$(ask ana udp $printer4 80)"
same "ana is asked by the LAN host itself" "$printer4" "$(ask printer tcp 10.80.0.2 80)"
same "in IPv6" "$printer6" "$(ask printer udp fd80::2 80)"
same "an error of the LAN host's reaches ana" "Connection refused" "$(ask ana udp $printer4 81)"

size=$(enter gate cat /sys/class/net/wg0/mtu)
same "the tunnel is as small as the topology says" 1400 "$size"
begin_capture printer eth0 "tcp port 80"
ask printer tcp 10.80.0.2 80 >/dev/null
end_capture >/dev/null
contains "by itself the LAN would send segments that do not fit" "mss 1460" "$captured"
begin_capture ana wg0 "(tcp or ip6 proto 6) and port 80"
ask printer tcp 10.80.0.2 80 >/dev/null
ask printer tcp fd80::2 80 >/dev/null
ask ana tcp $printer4 80 >/dev/null
ask ana tcp $printer6 80 >/dev/null
end_capture >/dev/null
# What each SYN and SYN-ACK of the LAN host's promises to take.
from_lan=$(grep -E "^IP6? ($printer4|$printer6)[.]" <<<"$captured" | sed -nE 's/^(IP6?) .*(mss [0-9]+).*/\1 \2/p' | sort | uniq -c |
    sed 's/^ *//' | paste -sd,)
same "what comes out of the LAN fits into the tunnel, whoever opens the connection" "2 IP mss $((size - 40)),2 IP6 mss $((size - 60))" "$from_lan"

# ------------------------------------------------------------------------------------------------ masquerading

same "who is not masqueraded gets no answer from the internet" nothing "$(ask printer tcp $internet4 80)"
gate "masquerade: true"
converges gate
same "masquerade: true: the LAN is seen outside as gate" "$(mesh_address gate 4)" "$(ask printer tcp $internet4 80)"
same "over UDP" "$(mesh_address gate 4)" "$(ask printer udp $internet4 80)"
same "in IPv6" "$(mesh_address gate 6)" "$(ask printer tcp $internet6 80)"
same "an error from outside comes back through it" "Connection refused" "$(ask printer udp $internet4 81)"
same "in IPv6" "Connection refused" "$(ask printer udp $internet6 81)"
begin_capture hub br0 "$echoes"
succeeds "pings too" pings printer $internet4
succeeds "in IPv6" pings printer $internet6
end_capture >/dev/null
contains "arrive with gate's address" "IP $(mesh_address gate 4) > $internet4: ICMP echo request" "$captured"
contains "of both families" "IP6 $(mesh_address gate 6) > $internet6: ICMP6, echo request" "$captured"
same "the mesh is still seen as it is by the LAN" 10.80.0.2 "$(ask ana tcp $printer4 80)"
same "and the LAN by the mesh" "$printer4" "$(ask printer tcp 10.80.0.2 80)"

gate "masquerade: {interfaces: [br0]}"
converges gate
same "on an interface: the mesh is seen by the LAN as gate" 192.168.1.1 "$(ask ana tcp $printer4 80)"
same "in IPv6" fd00:192:168:1::1 "$(ask ana tcp $printer6 80)"
begin_capture printer eth0 icmp
succeeds "pings too" pings ana $printer4
end_capture >/dev/null
contains "arrive with gate's address" "IP 192.168.1.1 > $printer4: ICMP echo request" "$captured"
same "an error comes back through it" "Connection refused" "$(ask ana udp $printer4 81)"
same "the LAN is seen by the mesh as it is" "$printer4" "$(ask printer tcp 10.80.0.2 80)"
same "and other interfaces are not masqueraded" nothing "$(ask printer tcp $internet4 80)"

gate "masquerade: {interfaces: [br0], sources: [10.80.0.2/32]}"
converges gate
same "of a source: ana is seen as gate" 192.168.1.1 "$(ask ana tcp $printer4 80)"
same "fra is not" 10.80.0.3 "$(ask fra tcp $printer4 80)"
same "nor are sources of the other family" fd80::2 "$(ask ana tcp $printer6 80)"

gate "masquerade: {interfaces: [br0], destinations: [$printer4/32, \"$printer6/128\"]}"
converges gate
same "to a destination: ana is seen as gate" 192.168.1.1 "$(ask ana tcp $printer4 80)"
same "in IPv6" fd00:192:168:1::1 "$(ask ana tcp $printer6 80)"
same "elsewhere it is not" 10.80.0.2 "$(ask ana tcp "$(mesh_address scanner 4)" 80)"
same "in IPv6" fd80::2 "$(ask ana udp "$(mesh_address scanner 6)" 80)"

# -------------------------------------------------------------------------------------------- an interface of nobody

whole=$(enter gate nft -s list ruleset; live gate)
gate "masquerade: {interfaces: [nosuch0]}"
refuses "masquerading on an interface that does not exist is refused" weft gate apply
contains "which is named" nosuch0 "$output"
contains "and those that exist" br0 "$output"
same "nothing has changed" "$whole" "$(enter gate nft -s list ruleset; live gate)"
fra "masquerade: {interfaces: [nosuch0]}" "allowedIPs: [10.30.0.0/24]"
weft fra down >/dev/null
refuses "nor is anything begun on a fresh host" weft fra apply
contains "the interface is named" nosuch0 "$output"
refuses "no interface" enter fra ip link show wg0
same "no forwarding" 0 "$(enter fra cat /proc/sys/net/ipv4/ip_forward)"
same "no table" "" "$(enter fra nft list tables)"

# -------------------------------------------------------------------------------------------------------- an exit

gate "masquerade: true"
fra "exit: true" "masquerade: true"
ana "useExit: fra"
for host in gate fra ana; do converges $host; done
eventually 20 "ana reaches its exit" pings ana 10.80.0.3
same "the internet sees ana as its exit" "$(mesh_address fra 4)" "$(ask ana tcp $internet4 80)"
same "over UDP" "$(mesh_address fra 4)" "$(ask ana udp $internet4 80)"
same "in IPv6" "$(mesh_address fra 6)" "$(ask ana tcp $internet6 80)"
same "an error from there reaches ana" "Connection refused" "$(ask ana udp $internet4 81)"
same "in IPv6" "Connection refused" "$(ask ana udp $internet6 81)"
begin_capture hub br0 "$echoes"
succeeds "pings" pings ana $internet4
succeeds "in IPv6" pings ana $internet6
end_capture >/dev/null
contains "arrive as the exit's" "IP $(mesh_address fra 4) > $internet4: ICMP echo request" "$captured"
contains "of both families" "IP6 $(mesh_address fra 6) > $internet6: ICMP6, echo request" "$captured"
lacks "and never as ana's own" "$(mesh_address ana 4) >" "$captured"
same "the LAN behind gate is still reached directly" 10.80.0.2 "$(ask ana tcp $printer4 80)"

# ------------------------------------------------------------------------------------------- as nft has it, and again

for host in gate fra ana; do
    enter $host nft -s list table inet weft-wg0 >"$(mesh_folder $host)/table" 2>&1
    contains "$host: nft prints the table" "table inet weft-wg0 {" "$(cat "$(mesh_folder $host)/table")"
    succeeds "$host: and accepts what it printed" enter $host nft -c -f "$(mesh_folder $host)/table"
    succeeds "$host: elsewhere too" enter scanner nft -f "$(mesh_folder $host)/table"
    same "$host: where it prints the same" "$(cat "$(mesh_folder $host)/table")" "$(enter scanner nft -s list table inet weft-wg0)"
    enter scanner nft delete table inet weft-wg0
done

counted() { enter gate nft list table inet weft-wg0 | grep -oE 'counter packets [0-9]+ bytes [0-9]+' | paste -sd,; }
ask printer tcp $internet4 80 >/dev/null
counts=$(counted)
matches "gate has counted" "packets [1-9]" "$counts"
state=$(live gate; enter gate nft -s list ruleset)
watched gate "a second apply"
same "sends no mutation" 0 "$mutations"
same "changes nothing" "$state" "$(live gate; enter gate nft -s list ruleset)"
same "and every counter stands as it stood" "$counts" "$(counted)"
gate "masquerade: {interfaces: [eth0]}"
watched gate "an apply with something to do"
matches "is seen to do it" "[1-9]" "$mutations"

# ------------------------------------------------------------------------------------------------------ two meshes

test=$topology
topology_begin
sed -i 's/name: test/name: lab/; s/wg0/wg1/; s/10.80/10.90/; s/fd80/fd90/' "$topology/mesh.yaml"
topology_node gate 10.90.0.1 fd90::1 -- "endpoint: \"$(mesh_address gate 4):51830\"" "allowedIPs: [192.168.200.0/24, \"fd00:200::/64\"]" "masquerade: true"
topology_node scanner 10.90.0.2 fd90::2
lab=$topology
first=$(enter gate nft list table inet weft-wg0)
converges gate
succeeds "scanner: apply" weft scanner apply
same "the first mesh's table is as it was, with its counters" "$first" "$(enter gate nft list table inet weft-wg0)"
contains "the second has its own" "table inet weft-wg1" "$(enter gate nft list tables)"
topology=$test
unchanged gate "the first has nothing to do"
succeeds "the first goes" weft gate down
same "with its table, and not the other" "table inet weft-wg1" "$(enter gate nft list tables)"
same "gate still forwards for the second" "1 1" \
    "$(enter gate cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding | paste -sd' ')"
topology=$lab
unchanged gate "which has nothing to do"
succeeds "the second goes" weft gate down
contains "which says what it gives back" "net.ipv4.ip_forward 1 → 0, and with it net.ipv4.conf.all.accept_redirects = 0" "$output"
contains "in IPv6 too" "and with it net.ipv6.conf.br0.forwarding = 1, as before weft" "$output"
same "gate is as it was before both" "$before" "$(settings gate)"

topology=$test
for host in ana fra; do
    succeeds "$host: down" weft $host down
    same "$host: no table is left" "" "$(enter $host nft list tables)"
    same "$host: no rule" "0: 32766: 32767:" "$(enter $host ip rule | cut -f1 | paste -sd' ')"
    same "$host: no forwarding" "0 0" \
        "$(enter $host cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding | paste -sd' ')"
done

# ---------------------------------------------------------------------------------------------- a record that is lost

converges fra
enter fra sh -c 'for file in /var/lib/weft/*/sysctls-of-all-interfaces.json; do echo broken >"$file"; done'
converges fra
output=$(weft fra down 2>&1)
matches "down names the damaged record that it leaves" "/sysctls-of-all-interfaces.json.corrupt is left" "$output"
enter fra sh -c 'rm -rf /var/lib/weft/*; sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0'
converges fra
enter fra sh -c 'rm -rf /var/lib/weft/*'
# A program is known for weft's by the record alone.
output=$(weft fra down 2>&1) || { enter fra ip link delete wg0 && output=$(weft fra down 2>&1); }
matches "down with no record names what may stay on" "record .* is lost: .*net.ipv4.ip_forward = 1" "$output"
matches "and how to turn it off" "sysctl -w net.ipv4.ip_forward=0" "$output"
same "it is left" 1 "$(enter fra cat /proc/sys/net/ipv4/ip_forward)"
done_testing
