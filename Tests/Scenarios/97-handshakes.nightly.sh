#!/bin/bash
# Other preshared keys on trial: the sessions of before go on for minutes, and answer; only the next handshake tells whether
# the other end has the same key.
# timeout: 400
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping || done_testing
mesh_begin

mesh_host eve dan kim
said() { grep -qF -e "$2" "$(mesh_folder "$1")/agent.log"; }
reaches() { enter "$1" ping -c 1 -W 1 "$2" >/dev/null; }
on_trial() { enter "$1" "$WEFT" agent status 2>/dev/null | grep -q '"onTrial"'; }

topology_begin "presharedKeys: directory"
topology_node eve 10.80.0.1 -- "endpoint: \"$(mesh_address eve 4):51820\"" "hub: true"
topology_node dan 10.80.0.2 -- "persistentKeepalive: 1"
topology_node kim 10.80.0.3 -- "persistentKeepalive: 1"
share() { # SECRET HOST PEER: the host's key for a peer
    enter "$2" sh -c "umask 077; mkdir -p /etc/weft/preshared-keys; echo $1 >/etc/weft/preshared-keys/$3"
}
secret=$("$WEFT" key preshared)
for pair in eve:dan dan:eve eve:kim kim:eve dan:kim kim:dan; do share "$secret" ${pair%:*} ${pair#*:}; done
succeeds "eve: apply" weft eve apply
for host in dan kim; do
    launch $host "$WEFT" agent run --poll 1 --confirm-within 12 "$topology" >>"$(mesh_folder $host)/agent.log" 2>&1
done
keys_in_touch() { reaches dan 10.80.0.1 && reaches kim 10.80.0.1; }
eventually 40 "two hosts are in touch by preshared keys" keys_in_touch
keys_seen() { said dan "eve is up" && said kim "eve is up"; }
eventually 15 "which is seen" keys_seen
secret=$("$WEFT" key preshared)
share "$secret" eve kim
succeeds "eve has another one for kim" weft eve apply
another=$("$WEFT" key preshared)
for host in dan kim; do sed 's/persistentKeepalive: 1/&\n    mtu: 1400/' "$topology/node-$host.yaml" >"$topology/.$host"; done
share "$secret" kim eve
share "$another" dan eve
for host in dan kim; do mv "$topology/.$host" "$topology/node-$host.yaml"; done
eventually 15 "kim, who has the same, tries it" on_trial kim
eventually 15 "dan, who has another one, too" on_trial dan
said dan "eve (by a handshake) must answer" && ok "an answer is not enough" || fail "an answer is not enough" "by a handshake" "$(<"$(mesh_folder dan)/agent.log")"
eventually 200 "who has the same has a new handshake" said kim "is confirmed: eve (by a handshake) answered"
eventually 200 "who has not is taken back" said dan "was taken back: no answer from eve (by a handshake)"
lacks "and was never confirmed" "is confirmed" "$(<"$(mesh_folder dan)/agent.log")"
contains "what cannot be taken back is said" "the preshared key with eve stays the new one" "$(<"$(mesh_folder dan)/agent.log")"
eventually 5 "the rest is" eval '[ "$(enter dan cat /sys/class/net/wg0/mtu)" != 1400 ]'
reaches kim 10.80.0.1 && ok "who was confirmed is in touch" || fail "who was confirmed is in touch" reachable "$(enter kim wg show wg0)"
done_testing
