#!/bin/bash
# Access rules at an exit: `internet` is what lies beyond it, and none of its own addresses; and an ICMP error gets as far
# as the flow that it is about.
# timeout: 200
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
need wg ping nft tcpdump || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

# fra is ana's exit, has a LAN of which the mesh knows nothing, and publishes a port of box's at all of its addresses.
mesh_host fra ana
mesh_lan fra
mesh_host box behind fra
box4=$(mesh_address box 4) box6=$(mesh_address box 6)
own4=192.168.1.1 own6=fd00:192:168:1::1
internet4=203.0.113.1 internet6=2001:db8:ffff::1
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "exit: true" "masquerade: true"
topology_node ana 10.80.0.2 fd80::2 -- "useExit: fra"
publishes fra "$box4" "$box6"
policy() { # standard input: the rules
    { echo "access:"; cat; } | topology_file access.yaml
    for host in fra ana; do succeeds "$host: apply" weft $host apply; done
}

# ------------------------------------------------------------------------------------------------------ the internet

for host in fra ana; do converges $host; done
for host in fra box hub; do answers $host 80 81; done
eventually 20 "ana reaches fra" pings ana 10.80.0.1
same "without rules ana reaches the internet" "$(mesh_address fra 4)" "$(ask ana tcp $internet4 80)"
same "and fra at its other addresses" 10.80.0.2 "$(ask ana tcp $own4 80)"
same "in IPv6" fd80::2 "$(ask ana tcp $own6 80)"
same "and the port that it publishes there, masqueraded" $own4 "$(ask ana tcp $own4 8080)"
same "in IPv6" $own6 "$(ask ana tcp $own6 8080)"
policy <<'END'
  - {from: [ana], to: [internet], ports: [tcp/80-9000, udp/80-82, icmp]}
END
for host in fra ana; do unchanged $host "$host has nothing more to do"; done
same "with rules, the internet" "$(mesh_address fra 4)" "$(ask ana tcp $internet4 80)"
same "in IPv6" "$(mesh_address fra 6)" "$(ask ana tcp $internet6 80)"
succeeds "pings" pings ana $internet4
succeeds "in IPv6" pings ana $internet6
same "an error comes back from there" "Connection refused" "$(ask ana udp $internet4 82)"
same "in IPv6" "Connection refused" "$(ask ana udp $internet6 82)"
begin_capture box eth0 "tcp dst port 80"
for address in $own4 $own6; do
    refuses_at fra "an address of the exit's own, $address" ask ana tcp $address 80
    refuses_at fra "over UDP" ask ana udp $address 80
    refuses_at fra "with pings" pings ana $address
    refuses_at fra "a port that it publishes there" ask ana tcp $address 8080
done
end_capture >/dev/null
same "none of it came to box" "" "$captured"
policy <<END
  - {from: [ana], to: [internet, $own4, "$own6"], ports: [tcp/80-9000]}
END
same "named, they are reached" 10.80.0.2 "$(ask ana tcp $own4 80)"
same "in IPv6" fd80::2 "$(ask ana tcp $own6 81)"
same "the published port too" $own4 "$(ask ana tcp $own4 8080)"
same "in IPv6" $own6 "$(ask ana tcp $own6 8080)"
same "and the internet still" "$(mesh_address fra 4)" "$(ask ana tcp $internet4 80)"

# ---------------------------------------------------------------------------------------------------- forged errors

cat >"$_mesh_folder/listen.py" <<'END'
# Asks once from port 7777, and prints what it is told afterwards.
import socket, sys
own, address = sys.argv[1:3]
s = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((own, 7777))
s.connect((address, 80))
s.send(b"hello\n")
s.recv(100)
print("ready", flush=True)
try: s.recv(100)
except OSError as error: print(error.strerror, flush=True)
END
cat >"$_mesh_folder/forge.py" <<'END'
# Tells a host that the port which it asked from 7777 is not there.
import ipaddress, socket, struct, sys
own, address = (ipaddress.ip_address(text) for text in sys.argv[1:3])
udp = struct.pack("!HHHH", 7777, 80, 14, 0) + b"hello\n"
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
if own.version == 4:
    inner = struct.pack("!BBHHHBBH", 0x45, 0, 34, 0, 0, 64, 17, 0) + own.packed + address.packed
    inner = inner[:10] + struct.pack("!H", checksum(inner)) + inner[12:] + udp
    message = struct.pack("!BBHI", 3, 3, 0, 0) + inner
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
else:
    # The kernel fills in the checksum.
    message = struct.pack("!BBHI", 1, 4, 0, 0) + struct.pack("!IHBB", 6 << 28, 14, 17, 64) + own.packed + address.packed + udp
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.sendto(message, (str(own), 0))
END
listens() { # OWN ADDRESS
    told=$_mesh_folder/told
    launch fra /usr/bin/python3 "$_mesh_folder/listen.py" "$1" "$2" >"$told" 2>&1
    listener=$!
    disown $listener
    eventually 20 "fra speaks with box" grep -q ready "$told"
}
forges() { enter ana /usr/bin/python3 "$_mesh_folder/forge.py" "$1" "$2"; }
has_refused() { [ "$(refused fra)" -gt "$before" ]; }
for pair in "$own4 $box4" "$own6 $box6"; do
    listens $pair
    before=$(refused fra)
    succeeds "ana tells fra that box refused it" forges $pair
    eventually 10 "fra refuses to hear of it" has_refused
    same "and goes on" ready "$(<"$told")"
    kill $listener
done
rm "$topology/access.yaml"
for host in fra ana; do converges $host; done
for pair in "$own4 $box4" "$own6 $box6"; do
    listens $pair
    succeeds "without rules ana tells fra the same" forges $pair
    eventually 10 "and is believed" grep -q "Connection refused" "$told"
done
done_testing
