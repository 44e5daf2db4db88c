#!/bin/bash
# Default routes through an exit, as wg-quick does them: both families, the endpoint never through its own tunnel, more
# specific routes first, strict reverse paths, the two guards, several at once, and nothing of anybody else's touched.
# timeout: 200
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
. "$here/../Beds/leaks.sh"
need wg nft ping tcpdump jq || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

mesh_host fra ams
mesh_router gate
mesh_host ana printer behind gate
internet4=203.0.113.1 internet6=2001:db8:ffff::1
for host in hub printer; do answers $host 7000; done
fra4=$(mesh_address fra 4) fra6=$(mesh_address fra 6)
ams4=$(mesh_address ams 4) ams6=$(mesh_address ams 6)
gate4=$(mesh_address gate 4) gate6=$(mesh_address gate 6)
ana4=$(mesh_address ana 4) ana6=$(mesh_address ana 6)
read -r mark table priority <<<"$(numbers wg0)"
read -r _ table1 _ <<<"$(numbers wg1)"
hex=$(printf '0x%x' "$mark")

topology_begin
corp=$topology
exit_fra() { topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $fra4" "exit: true" "masquerade: true"; }
exit_fra
topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra"
topology_begin "addresses: [10.90.0.0/16, \"fd90::/48\"]"
sed -i 's/name: test/name: lab/; s/wg0/wg1/' "$topology/mesh.yaml"
lab=$topology
topology_node ams 10.90.0.1 fd90::1 -- "endpoint: \"[$ams6]:51830\"" "exit: true" "masquerade: true"
topology_node ana 10.90.1.7 fd90::107 -- "useExit: ams"
succeeds "ams: apply" weft ams apply
topology=$corp
succeeds "fra: apply" weft fra apply
succeeds "an exit forwards" enter fra grep -qx 1 /proc/sys/net/ipv4/ip_forward

# Somebody else's: a rule as wg-quick leaves it, one of a table of its own, and strict reverse paths.
# The kernel's WireGuard turns redirects off whenever it comes up, and for good.
enter ana sysctl -qw net.ipv4.conf.all.send_redirects=0
enter ana sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.default.rp_filter=1
enter ana sh -ec '
    ip rule add table main suppress_prefixlength 0 priority 31000
    ip rule add from 192.0.2.0/24 table 700 priority 900
    ip -6 rule add from 2001:db8:77::/64 table 700 priority 900
    ip route add blackhole 10.45.0.0/16 table 700
    nft add table inet somebody
    nft add chain inet somebody forward "{ type filter hook forward priority 0; policy accept; }"'
whole() { # HOST
    enter "$1" sh -c 'ip -o link show | cut -d: -f2; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all
        nft -s list ruleset; for f in ip_forward conf/all/src_valid_mark conf/all/rp_filter conf/all/send_redirects; do
        cat /proc/sys/net/ipv4/$f; done; cat /proc/sys/net/ipv6/conf/all/forwarding' 2>/dev/null | sed 's/ expires [0-9]*sec//'
}
before=$(whole ana)
rules() { enter ana sh -c 'ip rule; ip -6 rule'; }
seen() { seen_by ana "${1:-$internet4}"; }
is() { [ "$(seen "$1")" = "$2" ]; } # ADDRESS SEEN-AS
is_seen_from_ams() { [ "$(seen_by ams $internet4)" = "$1" ]; }

same "before, the world sees the router" "$gate4 $gate6" "$(seen) $(seen $internet6)"

# ------------------------------------------------------------------------------------------------ what it does

exits 2 "a plan says what is to come" weft ana plan --detailed-exitcode
contains "the rule that keeps specific routes" "suppress" "$output"
contains "and the default routes" "default" "$output"
same "a plan changes nothing" "$before" "$(whole ana)"
converges ana
eventually 20 "the world sees the exit" is $internet4 "$fra4"
same "by IPv6 too" "$fra6" "$(seen $internet6)"
same "and by TCP" "$fra4 $fra6" "$(seen_by_tcp ana $internet4) $(seen_by_tcp ana $internet6)"
same "the device has the mark" "$hex" "$(enter ana wg show wg0 fwmark)"
for family in 4 6; do
    rules=$(enter ana ip -$family rule show)
    matches "IPv$family: first the rule that keeps specific routes" "^$priority:.*lookup main suppress_prefixlength 0" "$rules"
    matches "IPv$family: then the one into the tunnel's table" "^$((priority + 1)):.*not from all fwmark $hex/0xff000000 lookup $table" "$rules"
    matches "IPv$family: the default route is there" "^default dev wg0" "$(enter ana ip -$family route show table "$table")"
    lacks "IPv$family: and not in main" "default dev wg0" "$(enter ana ip -$family route show)"
done
same "marks count for reverse paths" 1 "$(enter ana cat /proc/sys/net/ipv4/conf/all/src_valid_mark)"
same "reverse paths are as strict as they were" "1 1" \
    "$(enter ana cat /proc/sys/net/ipv4/conf/all/rp_filter /proc/sys/net/ipv4/conf/eth0/rp_filter | paste -sd' ')"

# The tunnel's own packets leave by the cable, and nothing else does.
contains "to the endpoint, marked packets take the cable" "dev eth0" "$(enter ana ip route get "$fra4" mark "$mark")"
contains "others to it take the tunnel" "dev wg0" "$(enter ana ip route get "$fra4")"
watch_begin ana "not arp and not net 192.168.1.0/24 and not ip6 or (udp and port 51820)"
seen >/dev/null
seen $internet6 >/dev/null
matches "the cable sees the tunnel's packets" "IP $fra4.51820$" "$(watched)"
same "and no others" "" "$(watched | grep -v " $fra4.51820")"
watch_end
same "the exit itself is reached at its tunnel's address" 0 "$(enter ana ping -c 1 -W 2 10.80.0.1 >/dev/null; echo $?)"

# What the main table knows better wins.
same "the LAN is seen directly" "$ana4 $ana6" "$(seen "$(mesh_address printer 4)") $(seen "$(mesh_address printer 6)")"
enter ana ip route add $internet4/32 via 192.168.1.1
enter ana ip -6 route add $internet6/128 via fd00:192:168:1::1
same "a host route in main wins" "$gate4 $gate6" "$(seen) $(seen $internet6)"
unchanged ana "which is nobody's fault"
enter ana ip route del $internet4/32
enter ana ip -6 route del $internet6/128
same "without it the exit is seen" "$fra4 $fra6" "$(seen) $(seen $internet6)"

# ------------------------------------------------------------------------------------------------- what guards it

# Strict reverse paths would drop the tunnel's own packets, if not for the mark.
enter ana sysctl -qw net.ipv4.conf.all.src_valid_mark=0
same "without src_valid_mark nothing comes back" "" "$(seen)"
exits 2 "which a plan shows" weft ana plan --detailed-exitcode
contains "by name" "src_valid_mark" "$output"
converges ana
same "and apply mends" "$fra4" "$(seen)"

# The mark comes back with the answers; others' marks stay where they are.
enter ana nft -f - <<END
table inet look {
    chain after {
        type filter hook prerouting priority -140
        iifname eth0 udp sport 51820 meta mark $mark counter comment "restored"
        iifname eth0 udp sport 51820 meta mark 0 counter comment "bare"
        meta mark 0x5 counter comment "foreign"
    }
    chain save {
        type filter hook output priority 100
        udp dport 7000 ct mark set 0x5
    }
}
END
counted() { enter ana nft -j list table inet look | jq -r --arg c "$1" '.nftables[].rule? | select(.comment == $c) | .expr[] | .counter?.packets // empty'; }
seen >/dev/null
if [ "$(counted restored)" -gt 0 ]; then ok "the mark comes back with the answers"; else fail "the mark comes back with the answers" "some" 0; fi
same "with all of them" 0 "$(counted bare)"
same "others' marks are not brought back" 0 "$(counted foreign)"
enter ana nft delete table inet look

# A neighbour sends to the tunnel's addresses by the cable.
enter printer ip route add 10.80.1.7/32 via "$ana4"
enter printer ip -6 route add fd80::107/128 via "$ana6"
knock() { enter printer ping -n -c 1 -W 1 "$1"; }
refuses "a packet to the tunnel's address that comes by the cable is dropped" knock 10.80.1.7
refuses "by IPv6 too" knock fd80::107
enter ana nft flush chain inet weft-wg0 guard
succeeds "without the guard it would be answered" knock 10.80.1.7
succeeds "by IPv6 too" knock fd80::107
exits 2 "a guard taken away by hand is shown" weft ana plan --detailed-exitcode
contains "as a change of the firewall" "guard" "$output"
converges ana
refuses "and put back" knock 10.80.1.7
refuses "for IPv6 too" knock fd80::107
succeeds "the tunnel's address answers this host itself" enter ana ping -n -c 1 -W 1 10.80.1.7
succeeds "and the mesh" enter fra ping -n -c 1 -W 2 10.80.1.7

# Rules and routes changed by hand.
by_hand() { # WHAT COMMAND
    enter ana sh -ec "$2"
    exits 2 "$1: is shown" weft ana plan --detailed-exitcode
    converges ana
    same "$1: all is as it was" "$applied" "$(whole ana)"
}
applied=$(whole ana)
for family in -4 -6; do
    by_hand "ip $family: the suppress rule deleted" "ip $family rule del priority $priority"
    by_hand "ip $family: the tunnel's rule deleted" "ip $family rule del priority $((priority + 1))"
    by_hand "ip $family: the default route deleted" "ip $family route del default table $table"
    by_hand "ip $family: the suppress rule narrowed" \
        "ip $family rule del priority $priority; ip $family rule add table main suppress_prefixlength 0 iif eth0 priority $priority protocol 119"
done
same "the world sees the exit" "$fra4 $fra6" "$(seen) $(seen $internet6)"

# ------------------------------------------------------------------------------------------- two at the same time

for order in "corp lab" "lab corp"; do
    first=${order% *} second=${order#* }
    topology=$corp
    succeeds "none is there" weft ana down
    same "and no trace of one" "$before" "$(whole ana)"
    topology=${!first}
    converges ana
    alone=$(rules)
    topology=${!second}
    converges ana
    topology=${!first}
    unchanged ana "$order: the first has nothing to do"
    for expected in "$table" "$table1"; do
        matches "$order: both have their rules" "lookup $expected" "$(rules)"
    done
    # The one whose rules come first is the way out; the tunnels' own packets go through neither.
    by_one() { [[ " $fra4 $ams4 " == *" $(seen) "* ]] && [[ " $fra6 $ams6 " == *" $(seen $internet6) "* ]]; }
    eventually 20 "$order: the world sees one of the exits" by_one
    succeeds "$order: the exit of corp answers" enter ana ping -n -c 1 -W 3 10.80.0.1
    succeeds "$order: the exit of lab answers" enter ana ping -n -c 1 -W 3 10.90.0.1
    topology=${!second}
    succeeds "$order: the second goes" weft ana down
    same "$order: the first's rules are all that is left" "$alone" "$(rules)"
    topology=${!first}
    unchanged ana "$order: the first has nothing to do"
    expected=$fra4
    [ "$first" = corp ] || expected=$ams4
    eventually 20 "$order: the world sees its exit" is $internet4 "$expected"
    topology=${!second}
    converges ana
    topology=${!first}
    succeeds "$order: the first goes" weft ana down
    topology=${!second}
    unchanged ana "$order: the second has nothing to do"
    expected=$ams4
    [ "$first" = corp ] || expected=$fra4
    eventually 20 "$order: the world sees the other exit" is $internet4 "$expected"
    succeeds "$order: the second goes" weft ana down
    same "$order: nothing is left" "$before" "$(whole ana)"
done

# ------------------------------------------------------------------------------------------- one family only

topology=$corp
one_family() { # HAS-NOT WORLD CONTROL-ADDRESS
    succeeds "IPv$1 missing: apply" weft ana apply
    unchanged ana "IPv$1 missing: that is all"
    matches "IPv$1 missing: its default route is unreachable" "^unreachable default" "$(enter ana ip -"$1" route show table "$table")"
    watch_begin ana "dst host $2"
    noise ana "udp,$2,9001" "udp,$3,9001"
    sleep 1
    same "IPv$1 missing: nothing of it leaves" "" "$(watched)"
    succeeds "IPv$1 missing: down" weft ana down
    sleep 0.5
    contains "which the capture would have seen" "$2" "$(watched)"
    kill $noise
    watch_end
}
topology_node ana 10.80.1.7 -- "useExit: fra"
one_family 6 $internet6 $internet4
topology_node ana fd80::107 -- "useExit: fra"
one_family 4 $internet4 $internet6
same "nothing is left" "$before" "$(whole ana)"
topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra"

# ------------------------------------------------------------------------------------------------- collisions

collides() { # WHAT MAKE UNMAKE TEXT
    enter ana sh -ec "$2"
    local held
    held=$(whole ana)
    refuses "$1: refused" weft ana apply
    contains "$1: named" "$4" "$output"
    same "$1: nothing is changed" "$held" "$(whole ana)"
    exits 1 "$1: a plan says so too" weft ana plan --detailed-exitcode
    weft ana down >/dev/null 2>&1
    same "$1: nor by down" "$held" "$(whole ana)"
    enter ana sh -ec "$3"
}
rule="ip rule %s from 192.0.2.7 table 701 priority $priority"
collides "the priority is taken" "${rule/\%s/add}" "${rule/\%s/del}" "$priority"
rule="ip -6 rule %s from 2001:db8:77::7 table 701 priority $((priority + 1))"
collides "the second one too" "${rule/\%s/add}" "${rule/\%s/del}" "$((priority + 1))"
rule="ip rule %s fwmark $hex table 701 priority 901"
collides "the mark is in use" "${rule/\%s/add}" "${rule/\%s/del}" "$hex"
rule="ip rule %s from 192.0.2.7 table $table priority 902"
collides "the table is looked up by somebody else" "${rule/\%s/add}" "${rule/\%s/del}" "$table"
route="ip route %s 192.0.2.0/24 dev eth0 table $table"
collides "the table holds somebody else's route" "${route/\%s/add}" "${route/\%s/del}" "$table"
route="ip -6 route %s default dev eth0 table $table"
collides "even its default route" "${route/\%s/add}" "${route/\%s/del}" "$table"
# A tunnel of wg-quick's would take this one's packets, and this one takes those of wg-quick's.
against() { weft ana plan --format json | jq -r '.hindrances[].description'; }
enter ana ip rule add not fwmark 0xca6c table 51820 priority 905
contains "a tunnel that would go round with this one is named" "905: not from all fwmark 0xca6c lookup 51820" "$(against)"
enter ana ip rule del priority 905
enter ana ip rule add not fwmark 0x77000001 table 51820 priority 905
same "one that leaves it alone is not" "" "$(against)"
enter ana ip rule del priority 905
converges ana
eventually 20 "with all of them gone, the world sees the exit" is $internet4 "$fra4"

# What a kill switch allows stays beside the tunnel, also where the host has no other way there than its default route.
other4=203.0.113.53
enter hub ip address add $other4/32 dev lo
topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra" \
    'killSwitch: {allow: [203.0.113.0/28, 192.168.0.0/16, "2001:db8:ffff::/64"]}'
converges ana
for family in 4 6; do
    list="203.0.113.0/28 192.168.0.0/16"
    [ $family = 4 ] || list=2001:db8:ffff::/64
    for network in $list; do
        matches "IPv$family: a rule for $network" "^$priority:.*from all to $network lookup main" \
            "$(enter ana ip -$family rule show)"
    done
done
same "the world that is allowed sees the router" "$gate4 $gate6" "$(seen) $(seen $internet6)"
same "by TCP too" "$gate4 $gate6" "$(seen_by_tcp ana $internet4) $(seen_by_tcp ana $internet6)"
same "the rest sees the exit" "$fra4" "$(seen $other4)"
enter ana ip rule del to 203.0.113.0/28 priority "$priority"
same "without its rule it does not" "$fra4" "$(seen)"
exits 2 "which a plan shows" weft ana plan --detailed-exitcode
matches "alone" "^\+ +$priority: to 203.0.113.0/28 lookup main \(IPv4\)" "$output"
contains "with whom it concerns" "connections to 203.0.113.0/28 by the default route" "$output"
converges ana
same "and apply mends" "$gate4" "$(seen)"
topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra"
converges ana
lacks "without a kill switch there is no such rule" "lookup main proto" "$(rules | grep ' to ')"

# An office at the other end of the internet, and a server whose answers to it are not to go by the exit.
office=100.64.0.1
enter hub ip address add $office/32 dev lo
from_office() { enter hub ping -c 1 -W 2 -I $office "$ams4" >/dev/null; }
succeeds "the office reaches the server" from_office
topology_node ams 10.80.0.9 fd80::9 -- "useExit: fra" "killSwitch: true"
converges fra
converges ams
eventually 20 "the server goes out by the exit" is_seen_from_ams "$fra4"
refuses "whose answers do not get to the office" from_office
topology_node ams 10.80.0.9 fd80::9 -- "useExit: fra" "killSwitch: {allow: [$office/32]}"
converges ams
succeeds "but where the office is allowed" from_office
same "which sees the server as it is" "$ams4" "$(seen_by ams $office)"
same "while the world sees the exit" "$fra4" "$(seen_by ams $internet4)"
succeeds "ams: down" weft ams down
enter hub ip address del $office/32 dev lo
topology_drop ams
converges fra
converges ana

# Other numbers, of one's own choice.
topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra" "fwMark: 0x4242" "table: 4242"
converges ana
matches "a mark and a table of one's own" "not from all fwmark 0x4242 lookup 4242" "$(rules)"
lacks "and none of the others" "lookup $table" "$(rules)"
same "the world sees the exit" "$fra4 $fra6" "$(seen) $(seen $internet6)"

# ------------------------------------------------------------------------------------------------------------ down

succeeds "down" weft ana down
same "leaves all as it was" "$before" "$(whole ana)"
same "the world sees the router" "$gate4 $gate6" "$(seen) $(seen $internet6)"
succeeds "a second down does nothing" weft ana down
done_testing
