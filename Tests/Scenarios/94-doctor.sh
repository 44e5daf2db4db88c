#!/bin/bash
# weft doctor: what it says of a host that is well, and of each thing that keeps one from being so.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping jq nft || done_testing
mesh_begin

# One finding's level, or those of all of its kind.
level() { jq -r --arg check "$1" '[.findings[] | select(.check == $check) | .level] | unique | join(" ")' <<<"$output"; }
remedy() { jq -r --arg check "$1" '.findings[] | select(.check == $check and .level != "ok") | .remedy' <<<"$output"; }

mesh_host fra
mesh_router gate
mesh_host home behind gate
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "hub: true" "allowedIPs: [10.20.0.0/24]"
topology_node home 10.80.1.8 fd80::8

exits 1 "before the first apply" weft home doctor --format json
same "the interface is missed" error "$(level device)"
same "and the plan is open" error "$(level plan)"
same "WireGuard is there" ok "$(level wireguard)"
same "the clock is right" ok "$(level clock)"
same "a document" '"weft.doctor" 1' "$(jq -c '.format, .version' <<<"$output" | paste -sd' ')"

converges fra
converges home
eventually 20 "the tunnel carries packets" enter home ping -c 1 -W 1 10.80.0.1
succeeds "a host that is well" weft home doctor
contains "says so" "Nothing is wrong" "$output"
contains "its peer answers packets of full size" "answers packets of 1420 bytes" "$output"
succeeds "the same as JSON" weft home doctor --format json
same "nothing but good findings" ok "$(jq -r '[.findings[].level] | unique | join(" ")' <<<"$output")"

before=$(live home)
enter gate nft -f - <<'END'
table ip hole { chain forward { type filter hook forward priority 0; udp length > 1380 drop; }; }
END
exits 1 "a path that loses long packets" weft home doctor --format json
same "is found" error "$(level path)"
matches "with an MTU that would do" '^set `mtu: 1[23][0-9][0-9]`' "$(remedy path)"
mtu=$(remedy path | grep -oE '[0-9]{4}' | head -n 1)
topology_node home 10.80.1.8 fd80::8 -- "mtu: $mtu"
same "doctor changes nothing" "$before" "$(live home)"
converges home
succeeds "the remedy is one" weft home doctor
enter gate nft delete table ip hole

# Under 1280 bytes there is no IPv6 any more: no such MTU is advised without a word.
enter gate nft -f - <<'END'
table ip hole { chain forward { type filter hook forward priority 0; udp length > 1200 drop; }; }
END
exits 1 "a path that is narrower than IPv6 takes" weft home doctor --format json
matches "is to be mended" '^mend the path: .*mtu: 1[01][0-9][0-9]` would fit, and would cost this node its IPv6' "$(remedy path)"
enter gate nft delete table ip hole

# Without a way to the endpoint there is nothing to wait for.
succeeds "the way out goes" enter home ip route del default
exits 1 "an endpoint without a route" weft home doctor --format json --offline
same "is an error" error "$(level route)"
contains "that names it" "no route to the endpoint of fra, $(mesh_address fra 4):51820" "$output"
succeeds "the way out comes again" enter home ip route add default via 192.168.1.1
eventually 20 "the tunnel carries packets again" enter home ping -c 1 -W 1 10.80.0.1
succeeds "and all is well" weft home doctor

enter fra sysctl -qw net.ipv4.ip_forward=0
exits 1 "forwarding that was turned off" weft fra doctor --format json
same "is named" error "$(level forwarding)"
converges fra

enter home ip link set wg0 down
exits 1 "an interface that is down" weft home doctor --format json
same "is named too" error "$(level device)"
converges home

enter gate nft -f - <<'END'
table ip hole { chain forward { type filter hook forward priority 0; udp dport 51820 drop; }; }
END
weft home down >/dev/null
succeeds "a new start behind a closed port" weft home apply
enter home ping -c 1 -W 1 10.80.0.1 >/dev/null
exits 1 "a handshake that does not come" weft home doctor --format json
same "is named" error "$(level handshake)"
contains "with where to look" "packets leave and none comes back" "$(remedy handshake)"
enter gate nft delete table ip hole
enter home nft -f - <<'END'
table inet mine { chain out { type filter hook output priority 0; udp dport 51820 drop; }; }
END
exits 1 "a handshake that this host's own firewall keeps from coming" weft home doctor --format json
contains "has its likely cause" "inet mine out drops the tunnel's own packets" "$(remedy handshake)"
contains "and what to do" "this is the likely cause. Let it through" "$(remedy handshake)"
enter home nft delete table inet mine

# What can be seen from here of an exit that is not one.
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "hub: true" "exit: true" "masquerade: true"
topology_node home 10.80.1.8 fd80::8 -- "useExit: fra"
converges fra
converges home
beyond() { enter home ping -c 1 -W 1 203.0.113.1; }
eventually 20 "a full tunnel leads out" beyond
succeeds "which is well" weft home doctor
contains "says so" "beyond the exit fra, routers answer (IPv4)" "$output"
contains "of both families" "beyond the exit fra, routers answer (IPv6)" "$output"
enter fra sysctl -qw net.ipv4.ip_forward=0
refuses "an exit that forwards nothing leads nowhere" beyond
exits 1 "which is an error" weft home doctor
contains "that says what can be seen" "there is a session with the exit fra, and it sends nothing on (IPv4)" "$output"
contains "and what to do, and where" "at fra: \`sysctl net.ipv4.ip_forward\` must be 1" "$output"
contains "the other family is well" "routers answer (IPv6)" "$output"
enter fra sysctl -qw net.ipv4.ip_forward=1
for verdict in drop reject; do
    enter fra nft "table inet theirs { chain forward { type filter hook forward priority 0; iifname wg0 $verdict; }; }"
    refuses "an exit whose firewall says $verdict leads nowhere" beyond
    output=$(weft home doctor)
    case $verdict in
    drop) contains "which is seen" "nothing comes back from beyond it (IPv4)" "$output" ;;
    reject) contains "which is seen" "10.80.0.1 refuses what is to go on (IPv4)" "$output" ;;
    esac
    contains "with where to look" "at fra: " "$output"
    enter fra nft delete table inet theirs
done
succeeds "all is well again" weft home doctor
enter fra sysctl -qw net.ipv4.ip_forward=0
lacks "who sends no packets sees none" "the exit fra" "$(weft home doctor --offline)"
enter fra sysctl -qw net.ipv4.ip_forward=1

# Access rules without icmp: the silence is wanted, and says nothing of the exit or the peer.
topology_file access.yaml <<'END'
access: [{from: [home], to: [fra, internet], ports: [tcp/1-65535, udp/1-65535]}]
END
converges fra
converges home
refuses "access rules without icmp let no echo request out" beyond
succeeds "which is as it is wanted" weft home doctor
contains "so nothing is wrong" "Nothing is wrong. 3 things could not be looked at." "$output"
contains "and what was not looked at is named" \
    "beyond the exit fra was not looked at: the access rules let this host send no echo requests to the internet (IPv4)" "$output"
contains "of both families" "to the internet (IPv6)" "$output"
contains "the path too" "get to fra was not looked at: the access rules" "$output"
enter fra sysctl -qw net.ipv4.ip_forward=0
succeeds "with what is not asked nobody is blamed" weft home doctor
enter fra sysctl -qw net.ipv4.ip_forward=1
sed -i 's/udp.1-65535/&, icmp/' "$topology/access.yaml"
converges fra
converges home
succeeds "with icmp in the rules" weft home doctor
contains "all is looked at" "Nothing is wrong." "$output"
contains "beyond the exit" "beyond the exit fra, routers answer (IPv6)" "$output"
contains "and at the peer" "answers packets of" "$output"
lacks "and nothing is left out" "not looked at" "$output"
rm "$topology/access.yaml"
converges fra
converges home

enter home sh -c 'umask 077; mv /etc/weft/private.key /etc/weft/old.key; wg genkey > /etc/weft/private.key'
exits 1 "a key that is nobody's" weft home doctor
contains "is named, with the key to put in" "belongs to no node" "$output"
done_testing
