#!/bin/bash
# A host that sleeps past a node's expiry: awake again, it takes the node out at once, and says nothing of a clock that was
# set. The kernel goes all the way to where its clocks stand still, and comes back by itself (`pm_test`), since nobody would
# wake this machine.
#
# Its disk is the host's, by a driver that does not come back from sleep: from then on nothing can be opened or started that
# is not in memory, and nothing can end that has a file there open. This script lives by what bash has built in, and in the
# end says what its runner would, and switches the machine off.
# beds: vm
# timeout: 60
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg python3 busybox ldd || done_testing
if [ ! -w /sys/power/pm_test ]; then
    skip "sleep" "a kernel with CONFIG_PM_SLEEP_DEBUG"
    done_testing
fi
mesh_begin
mesh_host fra
key=$(wg genkey | wg pubkey)
topology_begin
topology_node fra 10.80.0.1 -- "listenPort: 51820"

# Programs with all that they load.
memory=$(mesh_folder fra)/memory
mkdir "$memory"
for program in "$WEFT" "$(command -v wg)" "$(command -v busybox)"; do
    cp "$program" "$memory"
    for library in $(ldd "$program" 2>/dev/null | grep -oE '/[^ ]+'); do cp -L "$library" "$memory"; done
done
loader=("$memory/ld-linux-x86-64.so.2" --library-path "$memory")
log=$(mesh_folder fra)/agent.log
launch fra "${loader[@]}" "$memory/${WEFT##*/}" agent run --poll 30 --state-dir "$memory" "$topology" >"$log" 2>&1
there() { enter fra wg show wg0 peers 2>/dev/null | grep -qF "$key"; }

# What runs meanwhile, in the host, and from memory alone: sleeps 15 s, tells of the clocks and of the peer, and for how long
# that was still there.
cat >"$memory/nap" <<'END'
clocks() { read -r up _ </proc/uptime; echo "$1 wall $(/busybox date +%s) up ${up%.*}"; }
peer() { /ld-linux-x86-64.so.2 --library-path / /wg show wg0 peers; }

echo core >/sys/power/pm_test
echo 15 >/sys/module/suspend/parameters/pm_test_delay
clocks before
echo "peers before: $(peer)"
echo mem >/sys/power/state && echo slept
clocks after
tries=0
while [ "$(peer)" = "$key" ] && [ $tries -lt 50 ]; do /busybox sleep 0.1; tries=$((tries + 1)); done
echo "peers after: $(peer)."
clocks then
END
at=$(($(date +%s) + 12))
topology_file node-guest.yaml <<END
nodes:
  guest: {publicKey: $key, addresses: [10.80.0.9], endpoint: "198.18.9.9:51820", expires: $(date -u -d "@$at" +%Y-%m-%dT%H:%M:%SZ)}
END
eventually 15 "who has not expired is there" there
export key
mkdir "$memory"/{proc,sys}
mkfifo "$memory/pause"
enter fra mount --rbind /proc "$memory/proc"
enter fra mount --rbind /sys "$memory/sys"
launch fra "$memory/busybox" chroot "$memory" /busybox sh /nap >"$memory/result" 2>&1
wait $!
result=$(<"$memory/result")
said=$(<"$log")
printf '# %s\n' "${result//$'\n'/$'\n# '}" "${said//$'\n'/$'\n# '}"
contains "the host slept" slept "$result"
contains "the peer was there until then" "peers before: $key" "$result"
contains "and is gone afterwards" "peers after: ." "$result"
[[ $result =~ after\ wall\ ([0-9]+) ]] && woke=${BASH_REMATCH[1]}
[[ $result =~ then\ wall\ ([0-9]+) ]] && left=${BASH_REMATCH[1]}
[ "$woke" -ge "$at" ] && ok "it slept past the expiry" || same "it slept past the expiry" "awake at $at or later" "at $woke"
[ $((left - woke)) -le 1 ] && ok "within a second of waking" || same "within a second of waking" "by $((woke + 1))" "$left"
contains "which is said" "guest expired at" "$said"
lacks "sleep is no step of the clock" "the wall clock was set" "$said"
trap '
    echo "# end 98-suspend $? $SECONDS"
    read -rt 2 <>"$memory/pause"
    echo o >/proc/sysrq-trigger
    read -r <>"$memory/pause"' EXIT
done_testing
