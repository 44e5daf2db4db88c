#!/bin/bash
# Access rules: who may reach whom, enforced where packets are delivered, where they are passed on, and for hosts without a
# controller where they are sent. An edit of the rules leaves what is still permitted alone, and ends at once what is not.
# timeout: 450
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
need wg ping nft jq tcpdump strace || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

# fra relays between ana and bob, who cannot be dialled; gate has a LAN; uma has no controller.
mesh_host fra gate ana bob uma
mesh_lan gate
mesh_host printer behind gate
printer4=$(mesh_address printer 4) printer6=$(mesh_address printer 6)
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "hub: true"
topology_node gate 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address gate 4)" "allowedIPs: [192.168.1.0/24, \"fd00:192:168:1::/64\"]"
topology_node ana 10.80.0.3 fd80::3
topology_node bob 10.80.0.4 fd80::4
topology_node uma 10.80.0.5 fd80::5 -- "unmanaged: true"

mesh_device uma >/dev/null
enter uma wg set wg0 private-key /etc/weft/private.key \
    peer "$(public_key fra)" endpoint "$(mesh_address fra 4):51820" persistent-keepalive 5 \
    allowed-ips 10.80.0.1/32,10.80.0.3/32,10.80.0.4/32,fd80::1/128,fd80::3/128,fd80::4/128 \
    peer "$(public_key gate)" endpoint "$(mesh_address gate 4):51820" persistent-keepalive 5 \
    allowed-ips 10.80.0.2/32,192.168.1.0/24,fd80::2/128,fd00:192:168:1::/64
ip -n "$(mesh_namespace uma)" -batch - <<'END'
link set wg0 up mtu 1420
address add 10.80.0.5/16 dev wg0
address add fd80::5/48 dev wg0 nodad
route add 192.168.1.0/24 dev wg0
route add fd00:192:168:1::/64 dev wg0
END

managed="fra gate ana bob"
policy() { # standard input: the rules
    { echo "groups: {ops: [ana]}"; echo "access:"; cat; } | topology_file access.yaml
    local host
    for host in ${1:-$managed}; do succeeds "$host: apply" weft $host apply; done
}

# ------------------------------------------------------------------------------------------------- without rules

for host in $managed; do converges $host; done
for host in fra gate ana bob printer uma; do answers $host 80 81 5000 5001 5002; done
eventually 20 "without rules ana reaches gate" pings ana 10.80.0.2
eventually 20 "and bob, through fra" pings ana 10.80.0.4
eventually 20 "and the LAN" pings ana $printer4
eventually 20 "gate reaches uma" pings gate 10.80.0.5
eventually 20 "uma reaches ana" pings uma 10.80.0.3
same "over TCP" 10.80.0.3 "$(ask ana tcp $printer4 81)"
same "and UDP" 10.80.0.3 "$(ask ana udp 10.80.0.4 81)"

# ------------------------------------------------------------------------------------------------------- the rules

policy <<'END'
  - {from: [ops], to: [gate], ports: [tcp/80, udp/5000-5001]}
  - {from: [ana], to: [192.168.1.0/24, "fd00:192:168:1::/64"], ports: [tcp/80, udp/5000, udp/6000, icmp]}
  - {from: [ana], to: [bob], ports: [tcp/80, udp/5000, icmp]}
  - {from: [bob], to: [fra]}
  - {from: [gate], to: [uma], ports: [icmp]}
END
for host in $managed; do unchanged $host "$host has nothing more to do"; done

same "direct, TCP" 10.80.0.3 "$(ask ana tcp 10.80.0.2 80)"
same "in IPv6" fd80::3 "$(ask ana tcp fd80::2 80)"
same "direct, UDP" 10.80.0.3 "$(ask ana udp 10.80.0.2 5000)"
same "the last port of a range" fd80::3 "$(ask ana udp fd80::2 5001)"
refuses_at gate "another TCP port is refused" ask ana tcp 10.80.0.2 81
same "and the asker is told so at once" "No route to host" "$output"
refuses_at gate "in IPv6" ask ana tcp fd80::2 81
same "and the asker is told so at once" "Permission denied" "$output"
refuses_at gate "another UDP port" ask ana udp 10.80.0.2 5002
same "and the asker is told so at once" "No route to host" "$output"
refuses_at gate "the same port of another protocol" ask ana tcp 10.80.0.2 5000
refuses_at gate "ICMP" pings ana 10.80.0.2
refuses_at gate "ICMPv6" pings ana fd80::2
refuses_at ana "the other direction" ask gate tcp 10.80.0.3 80
refuses_at ana "in IPv6" ask gate udp fd80::3 5000
refuses_at gate "another node" ask fra tcp 10.80.0.2 80

# A network behind a node: who passes packets on enforces.
same "into the LAN, TCP" 10.80.0.3 "$(ask ana tcp $printer4 80)"
same "in IPv6" fd80::3 "$(ask ana tcp $printer6 80)"
same "UDP" 10.80.0.3 "$(ask ana udp $printer4 5000)"
succeeds "ICMP" pings ana $printer4
succeeds "in fragments" pings ana $printer4 -s 4000
succeeds "ICMPv6" pings ana $printer6
# A router cuts no IPv6 packets: the LAN host is told first how large its fragments may be.
eventually 30 "in fragments" pings ana $printer6 -s 4000
same "an error of a permitted flow reaches its sender" "Connection refused" "$(ask ana udp $printer4 6000)"
same "in IPv6" "Connection refused" "$(ask ana udp $printer6 6000)"
refuses_at gate "another port in the LAN" ask ana tcp $printer4 81
refuses_at gate "in IPv6" ask ana udp $printer6 5001
refuses_at gate "out of the LAN" ask printer tcp 10.80.0.3 80
refuses_at gate "in IPv6" pings printer fd80::3
refuses_at gate "into the LAN for who is not named" pings fra $printer4

# Relayed pairs: the hub enforces, so that the receiver does not even see it.
same "relayed, TCP" 10.80.0.3 "$(ask ana tcp 10.80.0.4 80)"
same "in IPv6" fd80::3 "$(ask ana udp fd80::4 5000)"
succeeds "ICMP in fragments" pings ana 10.80.0.4 -s 4000
begin_capture bob wg0 "port 81"
refuses_at fra "relayed, another port" ask ana tcp 10.80.0.4 81
same "and the asker is told so at once" "No route to host" "$output"
refuses_at fra "in IPv6" ask ana udp fd80::4 81
end_capture >/dev/null
same "none of it reached the receiver" "" "$captured"
refuses_at fra "the other way round" ask bob tcp 10.80.0.3 80
same "to the hub itself" 10.80.0.4 "$(ask bob tcp 10.80.0.1 81)"
succeeds "all protocols" pings bob fd80::1
refuses_at fra "to the hub for who is not named" pings ana 10.80.0.1

# Who has no controller: the sender refuses, and packets from there are refused where they arrive.
succeeds "to uma, ICMP" pings gate 10.80.0.5
succeeds "ICMPv6" pings gate fd80::5
# Its own search for routers is nobody's business.
begin_capture uma wg0 "(port 80 or icmp6 or icmp) and not src net fe80::/10"
refuses_at gate "TCP to uma" ask gate tcp 10.80.0.5 80
refuses_at gate "in IPv6" ask gate tcp fd80::5 80
refuses_at fra "ICMP from another node" pings fra 10.80.0.5
refuses_at ana "from a relayed one" pings ana 10.80.0.5
refuses_at gate "out of the LAN" pings printer 10.80.0.5
end_capture >/dev/null
same "none of it came to uma" "" "$captured"
refuses_at gate "from uma to a node" ask uma tcp 10.80.0.2 80
refuses_at gate "into the LAN" ask uma udp $printer4 5000
refuses_at fra "to the hub" pings uma 10.80.0.1
refuses_at fra "to a relayed node" pings uma 10.80.0.3

# ---------------------------------------------------------------------------------------------------- the counters

status=$(weft gate status --format json)
same "status has a counter for each rule that concerns gate" \
    "ops → gate: tcp/80, udp/5000-5001" \
    "$(jq -r '.counters[] | select(.packets > 0) | .comment' <<<"$status" | grep 'ops')"
same "and for what passes through it" "true" \
    "$(jq '[.counters[] | select(.packets > 0 and .bytes > 0) | .comment] | any(startswith("ana → 192.168.1.0/24"))' <<<"$status")"
same "and for what was refused" "$(refused gate)" "$(jq '.counters[] | select(.name == "access-refused") | .packets' <<<"$status")"
same "each has the live counter's packets" \
    "$(enter gate nft -j list counters table inet weft-wg0 | jq -c '[.nftables[].counter | select(.) | [.name, .packets, .bytes]] | sort')" \
    "$(jq -c '[.counters[] | [.name, .packets, .bytes]] | sort' <<<"$status")"
contains "as text too" "ops → gate: tcp/80, udp/5000-5001" "$(weft gate status)"
same "in the order in which they are written" "$(jq -r '.counters[].comment' <<<"$status" | grep -o 'ops → gate\|ana → 192\|ana → bob\|refused')" \
    "$(printf '%s\n' 'ops → gate' 'ana → 192' 'ana → bob' refused)"
same "who passes nothing on has only what concerns it" "ana → bob: tcp/80, udp/5000, icmp,bob → fra" \
    "$(weft bob status --format json | jq -r '[.counters[] | select(.name != "access-refused") | .comment] | sort | join(",")')"

for host in $managed; do
    listed=$(enter $host nft -a list table inet weft-wg0)
    watched $host "$host: a second apply"
    same "$host: sends no mutation" 0 "$mutations"
    same "$host: and leaves the table with all its counters" "$listed" "$(enter $host nft -a list table inet weft-wg0)"
done

# ------------------------------------------------------------------------------- an edit while streams are running

begin_stream kept ana udp 10.80.0.2 5000
begin_stream kept6 ana udp fd80::4 5000
begin_stream revoked ana tcp 10.80.0.2 80
begin_stream lan ana udp $printer4 5000
begin_push pushed ana 10.80.0.2 5001
for stream in kept kept6 revoked lan pushed; do succeeds "the stream $stream runs" stream_grows $stream 20; done
# Another wording: the rules that permit what goes on are others, with counters of their own.
policy <<'END'
  - {from: [ana], to: [gate, bob], ports: [udp/5000]}
  - {from: [bob], to: [fra]}
END
for stream in revoked lan pushed; do
    sleep 0.2
    refuses "the stream $stream has stopped" stream_grows $stream 2
done
for stream in kept kept6; do
    succeeds "the stream $stream goes on" stream_grows $stream 2
    totals=$(end_stream $stream)
    matches "and has run all the while" "^sent [0-9]{2,} " "$totals"
    read -r _ sent _ answered <<<"$totals"
    same "and lost nothing" "of $sent, none" "of $sent, $([ "$sent" = "$answered" ] && echo none || echo "$((sent - answered)): $(stream_gaps $stream)")"
done
policy "gate ana" <<'END'
  - {from: [ana], to: [gate], ports: [tcp/80, udp/5000-5001]}
END
succeeds "permitted again, a stream goes on where it was" stream_grows pushed 5
for stream in revoked lan pushed; do end_stream $stream >/dev/null; done

# ---------------------------------------------------------------------------------------- nothing, and everything

echo "access: []" >"$topology/access.yaml"
for host in $managed; do succeeds "$host: apply" weft $host apply; done
for host in $managed; do unchanged $host "$host has nothing more to do"; done
refuses_at gate "access: [] refuses direct pairs" ask ana tcp 10.80.0.2 80
refuses_at ana "both ways" ask gate tcp 10.80.0.3 80
refuses_at fra "relayed ones" pings ana fd80::4
refuses_at gate "networks behind nodes" pings ana $printer4
refuses_at fra "and hosts without a controller" pings fra fd80::5
same "what is not the mesh's is as it was" "$(mesh_address ana 4)" "$(ask ana tcp "$(mesh_address gate 4)" 81)"
rm "$topology/access.yaml"
for host in $managed; do converges $host; done
same "without the section everything is permitted" 10.80.0.3 "$(ask ana tcp $printer4 81)"
succeeds "to everybody" pings fra fd80::5
lacks "and nobody has rules" access "$(for host in $managed; do enter $host nft list ruleset; done)"

policy <<'END'
  - {from: [ana], to: [gate]}
END
for host in $managed; do
    contains "$host: the rules are back" access "$(enter $host nft list ruleset)"
    succeeds "$host: down" weft $host down
    same "$host: no table is left" "" "$(enter $host nft list tables)"
done
done_testing
