#!/bin/bash
# What else is on a host: its name resolution, others' rules with the same numbers, others' firewalls, and the path's MTU.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping nft jq || done_testing
mesh_begin

mesh_host gate laptop
mesh_lan gate
topology_begin
topology_node gate 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address gate 4)" "exit: true" "masquerade: true"

# ---------------------------------------------------------------------------------------------------------- name servers

# Debian's own package, unpacked and not installed, on a host with an /etc and a /run of its own.
openresolv() {
    local folder
    folder=$(mesh_folder "$1")
    (cd "$folder" && apt-get download openresolv && dpkg -x openresolv_*.deb .) > /dev/null 2>&1 || return
    sed -i "s#^LIBEXECDIR=.*#LIBEXECDIR=$folder/lib/resolvconf#" "$folder/sbin/resolvconf"
    PATH=$folder/sbin:$PATH
    enter "$1" sh -c 'rm -f /etc/resolv.conf; echo nameserver 192.0.2.53 | resolvconf -a eth0'
}
servers() { enter laptop grep -E '^(nameserver|search)' /etc/resolv.conf | paste -sd' '; }

laptop() { topology_node laptop 10.80.0.2 fd80::2 -- "useExit: gate" "$@"; }
laptop "dns: {servers: [10.80.0.1, \"fd80::1\"]}"
if ! enter laptop sh -c 'command -v resolvconf || command -v resolvectl' > /dev/null; then
    refuses "without anything that takes name servers" weft laptop apply
    contains "it says what to install" openresolv "$output"
    refuses "and does nothing else" enter laptop ip link show wg0
fi
if openresolv laptop; then
    same "before" "nameserver 192.0.2.53" "$(servers)"
    converges laptop
    same "the mesh's servers, and no others" "nameserver 10.80.0.1 nameserver fd80::1" "$(servers)"
    laptop "dns: {servers: [10.80.0.1], domains: [corp.internal]}"
    matches "a change is one in the plan" 'corp.internal' "$(weft laptop plan)"
    converges laptop
    same "with search domains" "search corp.internal nameserver 10.80.0.1" "$(servers)"
    laptop "dns: {servers: [10.80.0.1], domains: [~corp.internal]}"
    contains "a domain that is to be routed alone: that this cannot be is said" "asked for all names" "$(weft laptop plan 2>&1)"
    converges laptop
    same "and it is not searched in" "nameserver 10.80.0.1" "$(servers)"
    contains "status says what is so" "name servers 10.80.0.1 for all names" "$(weft laptop status)"
    laptop "dns: {servers: [10.80.0.1], domains: [corp.internal]}"
    converges laptop
    enter laptop resolvconf -d wg0 -f
    matches "what was taken away by hand is missed" 'name servers' "$(weft laptop plan)"
    converges laptop
    same "and is there again" "search corp.internal nameserver 10.80.0.1" "$(servers)"
    # Without its link, and without its wish.
    enter laptop ip link del wg0
    laptop
    converges laptop
    same "no name servers, no trace" "nameserver 192.0.2.53" "$(servers)"
    laptop "dns: {servers: [10.80.0.1]}"
    converges laptop
    succeeds "down" weft laptop down
    same "undoes it" "nameserver 192.0.2.53" "$(servers)"
else
    skip "name servers by openresolv" "Debian's package openresolv"
fi

# systemd-resolved with a bus of its own, likewise unpacked; it gives up root for a user that it must find.
resolved() {
    local folder user
    folder=$(mesh_folder "$1")
    user="systemd-resolve:x:994:"
    command -v dbus-daemon > /dev/null &&
        (cd "$folder" && apt-get download systemd-resolved && dpkg -x systemd-resolved_*.deb .) > /dev/null 2>&1 || return
    cat > "$folder/bus.conf" <<END
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>
END
    enter "$1" sh -c "mkdir -p /run/dbus; grep -q ^systemd-resolve: /etc/passwd ||
        { echo '${user}994::/:/bin/false' >> /etc/passwd; echo '$user' >> /etc/group; }"
    launch "$1" dbus-daemon --config-file="$folder/bus.conf" --nofork --nopidfile > /dev/null 2>&1
    sleep 1
    launch "$1" "$folder/lib/systemd/systemd-resolved" > /dev/null 2>&1
    PATH=$folder/usr/bin:$PATH
    for _ in {1..50}; do
        enter "$1" resolvectl dns > /dev/null 2>&1 && return
        sleep 0.2
    done
    return 1
}
ask() { enter laptop resolvectl "$1" wg0 | cut -d' ' -f4-; }

path=$PATH
if resolved laptop; then
    laptop "dns: {servers: [10.80.0.1, \"fd80::1\"], domains: [corp.internal]}"
    converges laptop
    same "systemd-resolved knows the servers" "10.80.0.1 fd80::1" "$(ask dns)"
    same "and for which names" "corp.internal" "$(ask domain)"
    same "and for no others" "no" "$(ask default-route)"
    laptop "dns: {servers: [10.80.0.1]}"
    converges laptop
    same "for all names" "~." "$(ask domain)"
    for change in "dns wg0 10.80.0.9" "dns wg0 10.80.0.1:54" "domain wg0 other.example" "domain wg0 ''" "revert wg0"; do
        enter laptop sh -c "resolvectl $change"
        exits 2 "a plan after: resolvectl $change" weft laptop plan --detailed-exitcode
        converges laptop
        same "the servers are right again" "10.80.0.1 ~." "$(ask dns) $(ask domain)"
    done
    # What it is given for a link it asks by that link alone, whatever other way there is.
    laptop "dns: {servers: [198.18.99.99]}"
    contains "of a server beside the tunnel, that it is asked through the tunnel" \
        "looked for through the exit: systemd-resolved asks by wg0 alone" "$(weft laptop plan 2>&1)"
    converges laptop
    enter laptop nft 'table inet seen { chain output { type filter hook output priority 0; ip daddr 198.18.99.99 oifname "wg0" counter; }; }'
    enter laptop timeout 3 resolvectl query --cache=no weft.example > /dev/null 2>&1
    matches "and so it is" 'counter packets [1-9]' "$(enter laptop nft list table inet seen)"
    enter laptop nft delete table inet seen
    laptop
    converges laptop
    same "no name servers, no trace" "" "$(ask dns)$(ask domain)"
    succeeds "down" weft laptop down
else
    skip "name servers by systemd-resolved" "Debian's packages systemd-resolved and dbus-daemon"
fi
PATH=$path
laptop

# ------------------------------------------------------------------------------------------------- others' numbers

converges gate
mark=$(weft laptop plan | grep -oE 'fwmark 0x[0-9a-f]+' | head -n 1 | cut -d' ' -f2)
table=$((mark))
matches "a mark that follows from the interface's name" '^0x77[0-9a-f]{6}$' "$mark"
collides() { # text, field, the command that makes it, the command that ends it
    enter laptop sh -c "$3"
    refuses "$1" weft laptop apply
    contains "$1: it says which field to set" "$2" "$output"
    refuses "$1: nothing was begun" enter laptop ip link show wg0
    enter laptop sh -c "$4"
}
collides "somebody else's rule for the mark" 'fwMark:' "ip rule add fwmark $mark table 9" "ip rule del fwmark $mark table 9"
collides "somebody else's rule into the table" 'table:' "ip -6 rule add from fd99::/64 table $table" \
    "ip -6 rule del from fd99::/64 table $table"
collides "somebody else's route in the table" 'table:' "ip route add blackhole 10.9.0.0/16 table $table" \
    "ip route del blackhole 10.9.0.0/16 table $table"
enter laptop ip rule add fwmark "$mark" table 9
laptop "fwMark: 0x51" "table: 5151"
converges laptop
matches "with numbers of its own it stands beside it" 'not from all fwmark 0x51 lookup 5151' "$(enter laptop ip rule)"
succeeds "and carries packets" enter laptop ping -c 1 -W 5 203.0.113.1
contains "by the tunnel" "dev wg0" "$(enter laptop ip route get 203.0.113.1)"
before=$(enter laptop ip rule | grep -v 119)
laptop "table: 5152"
enter laptop ip rule del fwmark "$mark" table 9
converges laptop
lacks "the old numbers have gone" "5151" "$(enter laptop ip rule; enter laptop ip -6 rule; enter laptop ip route show table all)"
succeeds "traffic goes on" enter laptop ping -c 1 -W 5 203.0.113.1

# Each rule of ours, changed by hand.
for change in \
    "ip rule del table main suppress_prefixlength 0 proto 119" "ip -6 rule del table 5152 proto 119" \
    "ip rule del table 5152 proto 119; ip rule add not fwmark $mark lookup 5152 iif lo proto 119 priority PRIORITY" \
    "ip rule add not fwmark $mark lookup 5152 from 10.0.0.0/8 proto 119 priority PRIORITY" \
    "ip route del default table 5152; ip -6 route del default table 5152"; do
    priority=$(enter laptop ip rule | grep 'lookup 5152' | cut -d: -f1)
    rules=$(enter laptop ip rule; enter laptop ip -6 rule)
    enter laptop sh -c "${change//PRIORITY/$priority}"
    exits 2 "a plan after: $change" weft laptop plan --detailed-exitcode
    converges laptop
    same "all rules are back" "$rules" "$(enter laptop ip rule; enter laptop ip -6 rule)"
done
succeeds "down" weft laptop down
lacks "takes its rules along" 119 "$(enter laptop ip rule; enter laptop ip -6 rule)"

# --------------------------------------------------------------------------------------------------------- the path's MTU

converges laptop
mtu() { enter laptop cat /sys/class/net/wg0/mtu; }
same "of a path of 1500 bytes" 1420 "$(mtu)"
index=$(enter laptop cat /sys/class/net/wg0/ifindex)
before=$(handshake laptop gate)
enter laptop ip route add "$(mesh_address gate 4)" dev eth0 mtu 1380
matches "a narrower path is in the plan" '1420 (→|->) 1300' "$(weft laptop plan)"
converges laptop
same "the link follows" 1300 "$(mtu)"
same "and is the same link" "$index" "$(enter laptop cat /sys/class/net/wg0/ifindex)"
succeeds "that carries packets" enter laptop ping -c 1 -W 5 10.80.0.1
same_session "of the same session" "$before" "$(handshake laptop gate)"
enter laptop ip route change "$(mesh_address gate 4)" dev eth0 mtu 1300
converges laptop
same "IPv6 inside needs 1280" 1280 "$(mtu)"
enter laptop ip route del "$(mesh_address gate 4)" dev eth0
converges laptop
same "a wide path again" 1420 "$(mtu)"

# ------------------------------------------------------------------------------------------------------ others' firewalls

enter gate nft -f - <<'END'
table ip filter {
    chain DOCKER-USER { counter return; }
    chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
}
table inet somebody { chain input { type filter hook input priority 0; policy drop; icmpv6 type 135-136 accept; }; }
END
theirs() { enter gate nft -s list table ip filter; enter gate nft -s list table inet somebody; }
before=$(theirs)
output=$(weft gate plan)
contains "Docker's policy is named" "ip filter FORWARD (Docker) drops what is forwarded" "$output"
contains "with its remedy" "iptables -I DOCKER-USER -i wg0 -j ACCEPT" "$output"
contains "and a policy of nobody's in particular" "inet somebody input drops the tunnel's own packets" "$output"
same "the document has both" "2" "$(weft gate plan --format json | jq '.hindrances | length')"
converges gate
same "what is theirs is as it was" "$before" "$(theirs)"
refuses "nothing comes through" enter laptop ping -c 1 -W 1 203.0.113.1
enter gate nft insert rule ip filter DOCKER-USER iifname wg0 accept
enter gate nft insert rule ip filter DOCKER-USER oifname wg0 accept
enter gate nft insert rule inet somebody input udp dport 51820 accept
enter gate nft insert rule inet somebody input iifname wg0 accept
same "with the remedies, nothing is said" "0" "$(weft gate plan --format json | jq '.hindrances | length')"
eventually 10 "and all comes through" enter laptop ping -c 1 -W 1 203.0.113.1

# -------------------------------------------------------------------------------------------- others' rules before ours

# As on a host with two ways into the world.
enter laptop ip rule add priority 600 lookup 100
named() { weft laptop plan --format json | jq -r '.hindrances[].description'; }
lacks "a rule whose table leads nowhere is not named" "600:" "$(named)"
enter laptop ip route add default dev eth0 table 100
contains "one that takes all packets past the tunnel is" "600: from all lookup 100" "$(named)"
contains "with what to do" "stands before this mesh's rules" "$(weft laptop plan)"
contains "by doctor too" "600: from all lookup 100" "$(weft laptop doctor)"
enter laptop ip rule del priority 600
enter laptop ip rule add priority 30000 lookup 100
lacks "one that comes after is not" "30000:" "$(named)"
enter laptop ip rule del priority 30000
# The main table's own rule, moved up, and routes in it that are no default route.
enter laptop ip rule add priority 600 lookup main
contains "the main table before the tunnel's is named" "600: from all lookup main" "$(named)"
contains "by doctor too" "600: from all lookup main" "$(weft laptop doctor --offline)"
enter laptop ip rule del priority 600
for wide in 0.0.0.0/1 128.0.0.0/1 2000::/3; do
    enter laptop ip route add $wide dev eth0
    contains "$wide past the exit is named" "$wide" "$(named)"
    contains "with what to do" "past the exit" "$(weft laptop plan)"
    enter laptop ip route del $wide dev eth0
done
enter laptop ip route add 224.0.0.0/4 dev eth0
lacks "multicast is not" 224.0.0.0 "$(named)"
enter laptop ip route del 224.0.0.0/4 dev eth0
for action in blackhole unreachable prohibit; do
    enter laptop ip rule add priority 600 to 203.0.113.0/24 $action
    contains "one that throws packets away is named ($action)" "600: from all to 203.0.113.0/24 $action" "$(named)"
    contains "with what to do" '`ip rule del priority 600`' "$(weft laptop plan)"
    enter laptop ip rule del priority 600
done
enter laptop ip rule add priority 600 from 192.0.2.1 blackhole
lacks "one that is for somebody else is not" "600:" "$(named)"
enter laptop ip rule del priority 600

# ---------------------------------------------------------------------------------------------------- IPv6 switched off

# As many hosts have it; in a mesh of both families, with a full tunnel and a kill switch.
topology_node laptop 10.80.0.2 fd80::2 -- "useExit: gate" "killSwitch: true"
for when in "under a mesh that is up" "before it comes"; do
    enter laptop sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    contains "IPv6 switched off $when: it is said" "IPv6 is switched off on this host" "$(weft laptop plan 2>&1)"
    converges laptop
    same "it does without" "" "$(enter laptop ip -6 address show dev wg0)"
    eventually 10 "the rest comes through" enter laptop ping -c 1 -W 1 203.0.113.1
    succeeds "down" weft laptop down
done
enter laptop sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0
converges laptop
contains "switched on again, it is there" fd80::2 "$(enter laptop ip -6 address show dev wg0)"
done_testing
