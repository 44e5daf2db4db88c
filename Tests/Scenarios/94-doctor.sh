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
table ip hole { chain forward { type filter hook forward priority 0; udp length > 1300 drop; }; }
END
exits 1 "a path that loses long packets" weft home doctor --format json
same "is found" error "$(level path)"
matches "with an MTU that would do" 'mtu: 1[12][0-9][0-9]' "$(remedy path)"
mtu=$(remedy path | grep -oE '[0-9]{4}' | head -n 1)
topology_node home 10.80.1.8 fd80::8 -- "mtu: $mtu"
same "doctor changes nothing" "$before" "$(live home)"
converges home
succeeds "the remedy is one" weft home doctor
enter gate nft delete table ip hole

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

enter home sh -c 'umask 077; mv /etc/weft/private.key /etc/weft/old.key; wg genkey > /etc/weft/private.key'
exits 1 "a key that is nobody's" weft home doctor
contains "is named, with the key to put in" "belongs to no node" "$output"
done_testing
