#!/bin/bash
# Access rules where somebody else's NAT, as Docker's, changes addresses on the way into the mesh and out of it: a flow is
# judged by the addresses that it has in the mesh.
# timeout: 400
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
need wg ping nft tcpdump || done_testing
mesh_begin

# gate relays between ana and bob, who cannot be dialled, and has a container, of which the mesh knows nothing; ext is no
# node at all.
mesh_host gate ana bob ext
mesh_lan gate
mesh_host box behind gate
box4=$(mesh_address box 4) box6=$(mesh_address box 6)
topology_begin
topology_node gate 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address gate 4)" "hub: true"
topology_node ana 10.80.0.2 fd80::2
topology_node bob 10.80.0.3 fd80::3

# What Docker writes: ports that are published at all of the host's addresses, and containers that go out as the host.
docker() { # more lines for `postrouting`
    enter gate nft -f - <<END
table inet docker
delete table inet docker
table inet docker {
    chain prerouting {
        type nat hook prerouting priority dstnat
        fib daddr type local meta nfproto ipv4 meta l4proto { tcp, udp } th dport 8080 dnat ip to $box4:80
        fib daddr type local meta nfproto ipv4 meta l4proto { tcp, udp } th dport 8081 dnat ip to $box4:81
        fib daddr type local meta nfproto ipv6 meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [$box6]:80
        fib daddr type local meta nfproto ipv6 meta l4proto { tcp, udp } th dport 8081 dnat ip6 to [$box6]:81
        fib daddr type local meta nfproto ipv4 tcp dport 8090 dnat ip to 10.80.0.3:80
        fib daddr type local tcp dport 8070 redirect to 80
    }
    chain output {
        type nat hook output priority -100
        fib daddr type local tcp dport 8080 dnat ip to $box4:80
    }
    chain postrouting {
        type nat hook postrouting priority srcnat
        $1
    }
}
END
}
containers='iifname "br0" oifname != "br0" masquerade'
docker "$containers"
enter gate sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'

policy() { # standard input: the rules
    { echo "access:"; cat; } | topology_file access.yaml
    local host
    for host in gate ana bob; do succeeds "$host: apply" weft $host apply; done
}

# ------------------------------------------------------------------------------------------------- without rules

for host in gate ana bob; do converges $host; done
for host in gate ana bob box; do answers $host 80 81 5000; done
eventually 20 "ana reaches gate" pings ana 10.80.0.1
eventually 20 "and bob, through gate" pings ana 10.80.0.3
same "without rules a container reaches the mesh, as its host" 10.80.0.1 "$(ask box tcp 10.80.0.2 80)"
same "in IPv6" fd80::1 "$(ask box udp fd80::2 81)"
same "a port that the host publishes leads to the container" 10.80.0.2 "$(ask ana tcp 10.80.0.1 8081)"
same "in IPv6" fd80::2 "$(ask ana udp fd80::1 8081)"

# ----------------------------------------------------------------------------------------------------- containers

policy <<'END'
  - {from: [ana], to: [gate], ports: [tcp/8080, udp/8080, tcp/8070, icmp]}
  - {from: [gate], to: [ana], ports: [tcp/80, udp/5000, udp/6000, icmp]}
END
for host in gate ana bob; do unchanged $host "$host has nothing more to do"; done
same "a container reaches what its host may reach" 10.80.0.1 "$(ask box tcp 10.80.0.2 80)"
same "in IPv6" fd80::1 "$(ask box tcp fd80::2 80)"
same "over UDP" 10.80.0.1 "$(ask box udp 10.80.0.2 5000)"
succeeds "ICMP" pings box 10.80.0.2
succeeds "ICMPv6" pings box fd80::2
succeeds "in fragments" pings box 10.80.0.2 -s 4000
eventually 30 "in fragments of IPv6" pings box fd80::2 -s 4000
same "an error comes back" "Connection refused" "$(ask box udp 10.80.0.2 6000)"
same "in IPv6" "Connection refused" "$(ask box udp fd80::2 6000)"
begin_capture ana wg0 "port 81"
refuses_at gate "another port is refused at its host" ask box tcp 10.80.0.2 81
same "and the container is told so at once" "No route to host" "$output"
refuses_at gate "in IPv6" ask box tcp fd80::2 81
same "and the container is told so at once" "Permission denied" "$output"
end_capture >/dev/null
same "none of it reached ana" "" "$captured"
refuses_at gate "and who may not be reached from there" pings box 10.80.0.3
refuses_at gate "in IPv6" ask box udp fd80::3 5000

# Only who is masqueraded passes for its host, and nobody passes for another one.
docker ""
same "who is not masqueraded gets no answer" nothing "$(ask box tcp 10.80.0.2 80)"
docker "$containers"
same "masqueraded again, it does" 10.80.0.1 "$(ask box tcp 10.80.0.2 80)"
enter box ip address add 10.80.0.3/32 dev lo
enter box ip address add fd80::3/128 dev lo nodad
refuses_at gate "a source of the mesh's is a forged one" pings box 10.80.0.2 -I 10.80.0.3
refuses_at gate "in IPv6" pings box fd80::2 -I fd80::3
enter box ip address add 10.80.0.1/32 dev lo
refuses "the host's own too" pings box 10.80.0.2 -I 10.80.0.1
for address in 10.80.0.3/32 fd80::3/128 10.80.0.1/32; do enter box ip address delete $address dev lo; done
refuses_at gate "a peer does not pass for the host that relays" pings bob 10.80.0.2

# ------------------------------------------------------------------------------------------------ published ports

same "a published port, as it was addressed" 10.80.0.2 "$(ask ana tcp 10.80.0.1 8080)"
same "in IPv6" fd80::2 "$(ask ana tcp fd80::1 8080)"
same "over UDP" 10.80.0.2 "$(ask ana udp 10.80.0.1 8080)"
same "over UDP in IPv6" fd80::2 "$(ask ana udp fd80::1 8080)"
same "one that leads to another port of the host" 10.80.0.2 "$(ask ana tcp 10.80.0.1 8070)"
begin_capture box eth0 "port 81"
refuses_at gate "another published port is refused" ask ana tcp 10.80.0.1 8081
same "and the asker is told so at once" "No route to host" "$output"
refuses_at gate "in IPv6" ask ana udp fd80::1 8081
end_capture >/dev/null
same "none of it reached the container" "" "$captured"
refuses_at gate "the port that others lead to" ask ana tcp 10.80.0.1 80
refuses_at gate "another node" ask bob tcp 10.80.0.1 8080

# ------------------------------------------------------------------------------------- led on to other nodes, from outside

gate4=$(mesh_address gate 4)
docker 'oifname "wg0" masquerade'
refuses_at gate "who is led into the mesh from outside gets no farther than gate may" ask ext tcp "$gate4" 8090
refuses_at gate "nor does a peer that is led on, than it may itself" ask ana tcp 10.80.0.1 8090
policy <<'END'
  - {from: [gate], to: [bob], ports: [tcp/80]}
END
same "where gate may, it gets there as gate" 10.80.0.1 "$(ask ext tcp "$gate4" 8090)"
docker "$containers"

# -------------------------------------------------------------------------- a host that asks nobody, and takes any source

enter ext ip route add 10.80.0.0/16 via "$gate4"
enter ext ip route add fd80::/48 via "$(mesh_address gate 6)"
topology_node bob 10.80.0.3 fd80::3 -- "unmanaged: true"
converges gate
enter bob nft delete table inet weft-wg0
enter bob wg set wg0 peer "$(public_key gate)" allowed-ips 0.0.0.0/0,::/0
begin_capture bob wg0 "tcp"
same "gate itself reaches it" 10.80.0.1 "$(ask gate tcp 10.80.0.3 80)"
end_capture >/dev/null
contains "as is seen there" "10.80.0.1" "$captured"
begin_capture bob wg0 "tcp"
refuses_at gate "a stranger who is not masqueraded does not pass for gate" ask ext tcp 10.80.0.3 80
refuses_at gate "in IPv6" ask ext tcp fd80::3 80
refuses_at gate "nor does he where gate may not go" ask ext tcp 10.80.0.3 81
end_capture >/dev/null
same "none of it reached bob" "" "$captured"
docker 'oifname "wg0" masquerade'
same "who is masqueraded does" 10.80.0.1 "$(ask ext tcp 10.80.0.3 80)"
same "in IPv6" fd80::1 "$(ask ext tcp fd80::3 80)"
docker "$containers"
topology_node bob 10.80.0.3 fd80::3
for host in bob gate; do converges $host; done

# --------------------------------------------------------------- what gate asks elsewhere, with its address in the mesh

succeeds "an answer from elsewhere reaches gate's address in the mesh" pings gate "$box4" -I 10.80.0.1
succeeds "in IPv6" pings gate "$box6" -I fd80::1
same "gate reaches the port that it publishes itself" 10.80.0.1 "$(ask gate tcp 10.80.0.1 8080)"
refuses_at gate "who asks that address from there is judged as ever" pings box 10.80.0.1

# ------------------------------------------------------------------------------- forged sources, wherever they are going

same "a stranger reaches a published port" "$(mesh_address ext 4)" "$(ask ext tcp "$gate4" 8080)"
same "and the host" "$(mesh_address ext 4)" "$(ask ext tcp "$gate4" 5000)"
enter ext ip address add 10.80.0.2/32 dev lo
enter ext ip address add fd80::2/128 dev lo nodad
enter ext ip route add 192.168.1.0/24 via "$gate4"
enter ext ip route add "$box6/128" via "$(mesh_address gate 6)"
enter ext ip route add "$gate4/32" dev eth0 src 10.80.0.2
begin_capture box eth0 "src host 10.80.0.2 or src host fd80::2"
refuses_at gate "not in a node's name" ask ext tcp "$gate4" 8080
refuses_at gate "nor the host" ask ext tcp "$gate4" 5000
refuses_at gate "nor who is behind it" pings ext "$box4" -I 10.80.0.2
refuses_at gate "in IPv6" pings ext "$box6" -I fd80::2
end_capture >/dev/null
same "none of it got there" "" "$captured"
enter ext ip route delete "$gate4/32" dev eth0 src 10.80.0.2

# ------------------------------------------------------------------------------------------ an edit, with streams running

policy <<'END'
  - {from: [ana], to: [gate], ports: [tcp/8080, udp/8080]}
  - {from: [gate], to: [ana], ports: [tcp/80, udp/5000]}
END
begin_stream kept ana udp 10.80.0.1 8080
begin_stream kept6 box udp fd80::2 5000
begin_stream revoked ana tcp fd80::1 8080
begin_stream revoked6 box tcp 10.80.0.2 80
for stream in kept kept6 revoked revoked6; do succeeds "the stream $stream runs" stream_grows $stream 20; done
policy <<'END'
  - {from: [ana, bob], to: [gate], ports: [udp/8080]}
  - {from: [gate, bob], to: [ana], ports: [udp/5000]}
END
for stream in revoked revoked6; do
    sleep 0.2
    refuses "the stream $stream has stopped" stream_grows $stream 2
    end_stream $stream >/dev/null
done
for stream in kept kept6; do
    succeeds "the stream $stream goes on" stream_grows $stream 2
    read -r _ sent _ answered < <(end_stream $stream)
    same "and lost nothing" "of $sent, none" "of $sent, $([ "$sent" = "$answered" ] && echo none || echo "$((sent - answered)): $(stream_gaps $stream)")"
done

# ------------------------------------------------------------------------------------------- as nft has it, and by hand

enter gate nft -s list table inet weft-wg0 >"$(mesh_folder gate)/table" 2>&1
contains "nft prints what is looked up" "meta l4proto udp counter name ct original ip saddr . ct reply ip saddr . ct protocol . ct reply proto-src map @ports4" "$(cat "$(mesh_folder gate)/table")"
succeeds "and accepts what it printed" enter gate nft -c -f "$(mesh_folder gate)/table"
succeeds "elsewhere too" enter ext nft -f "$(mesh_folder gate)/table"
same "where it prints the same" "$(cat "$(mesh_folder gate)/table")" "$(enter ext nft -s list table inet weft-wg0)"
enter gate nft insert rule inet weft-wg0 access meta l4proto tcp ct original ip saddr 198.51.100.9 ct original proto-dst 81 accept
contains "a rule of somebody's is shown" "ct original ip saddr 198.51.100.9 ct original proto-dst 81" "$(weft gate plan 2>&1)"
converges gate
lacks "and goes" 198.51.100.9 "$(enter gate nft list table inet weft-wg0)"
contains "the other table is as it was" "masquerade" "$(enter gate nft list table inet docker)"
done_testing
