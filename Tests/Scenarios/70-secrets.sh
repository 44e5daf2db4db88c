#!/bin/bash
# No secret anywhere: not in the memory of a weft that waits, has applied or watches, not in a core, not in any output,
# state file, argument, environment or log. The same search finds the keys where they are.
# timeout: 120
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg gcore strace jq || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin
beds=$here/../Beds
work=$_mesh_folder/work
umask 077
mkdir "$work" "$work/keys" "$work/output" "$work/state"

mesh_host fra ana bob
topology_begin "presharedKeys: directory"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"
topology_node bob 10.80.0.3 -- "endpoint: $(mesh_address bob 4)"
for pair in fra:ana fra:bob ana:bob; do
    wg genpsk >"$work/keys/${pair/:/-}"
    for ends in "$pair" "${pair#*:}:${pair%:*}"; do
        enter "${ends%:*}" bash -c 'umask 077; mkdir -p /etc/weft/preshared-keys; cp "$1" "/etc/weft/preshared-keys/$2"' \
            psk "$work/keys/${pair/:/-}" "${ends#*:}"
    done
done
for host in fra ana bob; do enter $host cat /etc/weft/private.key >"$work/keys/$host"; done
keys=("$work/keys"/*)

hunt() { "$beds/hunt" --keys "${keys[@]}" -- "$@"; }
clean() { # WHAT PID|PATH…
    local what=$1
    shift
    succeeds "no key in $what" hunt "$@"
}

# Starts weft on fra, on a terminal; $process is its process ID when it asks.
asks() { # NAME COMMAND…
    local name=$1
    shift
    transcript=$work/output/$name
    launch fra "$beds/answer" "$transcript" "$@" </dev/null
    answering=$!
    eventually 20 "$name: weft asks" grep -qF "[y/N] " "$transcript"
    process=$(cat "$transcript.pid")
}

# Types an answer, and waits for the end; its status is in $status.
types() {
    status=0
    printf '%s\n' "$1" >"$transcript.new" && mv "$transcript.new" "$transcript.type"
    wait $answering || status=$?
}

# Prints the process ID of the command that strace holds at its end.
held() { pgrep -P "$1" -x weft; }

# ----------------------------------------------------------------------------------------------- does the search work?

cat >"$work/holder.py" <<'END'
import base64, sys, time
key = base64.b64decode(open(sys.argv[1]).read())
kept = {"raw": key, "clamped": bytes([key[0] & 248]) + key[1:31] + bytes([key[31] & 127 | 64]),
        "base64": base64.b64encode(key), "hexadecimal": key.hex().encode()}[sys.argv[2]]
kept = bytearray(b"--" + kept + b"--")
key = None
time.sleep(600)
END
for form in raw base64 hexadecimal clamped; do
    /usr/bin/python3 "$work/holder.py" "$work/keys/fra" $form &
    holder=$!
    eventually 10 "the search finds a key that a process holds ($form)" bash -c '! "$@" >/dev/null' - "$beds/hunt" --keys "$work/keys/fra" -- $holder
    if [ $form = raw ]; then
        gcore -o "$work/core" $holder >"$work/gcore.log" 2>&1
        refuses "and in its core" hunt "$work/core.$holder"
        rm -f "$work/core.$holder"
    fi
    kill $holder
    wait $holder 2>/dev/null
done

# ---------------------------------------------------------------------------------------------------- while weft waits

asks first "$WEFT" apply "$topology"
clean "the memory of a weft that asks before its first apply" "$process"
clean "its arguments, environment and limits" "/proc/$process/cmdline" "/proc/$process/environ"
succeeds "a debugger's core of it is made" gcore -o "$work/core" "$process"
clean "that core" "$work/core.$process"
rm -f "$work/core.$process"
types y
same "it applies" 0 $status
for host in ana bob; do succeeds "$host: apply" weft $host apply; done
eventually 20 "the tunnel carries" enter fra ping -c 1 -W 1 10.80.0.2
same "with preshared keys" 2 "$(enter fra wg show wg0 preshared-keys | grep -cv none)"

# The device tells its keys whenever it is read: now they come from there too. A new preshared key is on its way.
wg genpsk >"$work/keys/fra-ana-new"
keys=("$work/keys"/*)
for ends in fra:ana ana:fra; do
    enter "${ends%:*}" bash -c 'cat "$1" >"/etc/weft/preshared-keys/$2"' psk "$work/keys/fra-ana-new" "${ends#*:}"
done
asks second "$WEFT" apply "$topology"
clean "the memory of a weft that has read a device and asks" "$process"
types n
same "it does not apply" 1 $status

# Held at its very end, with all that it ever wrote into its memory. The terminal is strace's, and so weft's too.
asks third strace -f -qq -o /dev/null -e trace=exit_group -e inject=exit_group:delay_enter=60000000 "$WEFT" apply "$topology"
tracer=$process
process=$(held "$tracer")
printf 'y\n' >"$transcript.new" && mv "$transcript.new" "$transcript.type"
eventually 20 "third: it applies" grep -qi 'applied\|done' "$transcript"
eventually 10 "third: it is about to end" grep -q '^231 ' "/proc/$process/syscall" # exit_group
clean "the memory of a weft that has applied a new key" "$process"
kill -KILL "$process" 2>/dev/null
wait $answering
contains "the new preshared key is there" "$(cat "$work/keys/fra-ana-new")" "$(enter fra wg show wg0 preshared-keys)"

launch fra "$WEFT" status --watch --interval 1 "$topology" >"$work/output/watch" 2>&1
watch=$!
eventually 10 "status watches" grep -q ana "$work/output/watch"
sleep 2
clean "the memory of a weft that watches" $watch
kill -TERM $watch
wait $watch 2>/dev/null

# ------------------------------------------------------------------------------------------------------------ no core

# Where cores go is a setting of the whole machine: changed in the virtual one only.
[ "$BED" != vm ] || echo core >/proc/sys/kernel/core_pattern
mkdir "$work/cores"
cd "$work/cores" || exit 1
ulimit -c unlimited
/usr/bin/python3 -c 'import os; os.abort()' 2>/dev/null
if [ -n "$(ls)" ]; then
    rm -f -- *
    ok "a process that aborts leaves a core"
    topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "persistentKeepalive: 21"
    asks fourth "$WEFT" apply "$topology"
    same "weft's limit is no core at all" "0 0" "$(awk '/Max core file size/ { print $5, $6 }' "/proc/$process/limits")"
    kill -ABRT "$process"
    wait $answering
    same "weft aborts" 134 $?
    same "and leaves none" "" "$(ls)"
else
    skip "no core of weft" "a core of any process: /proc/sys/kernel/core_pattern leads elsewhere"
fi
cd "$here" || exit 1

# ---------------------------------------------------------------------------------------------------------- all output

topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "persistentKeepalive: 22"
for format in text json; do
    weft fra plan --full --format $format >"$work/output/plan.$format" 2>&1
    weft fra show --node fra --format $format >"$work/output/show.$format" 2>&1
    weft fra status --format $format >"$work/output/status.$format" 2>&1
    weft fra apply --format $format >"$work/output/apply.$format" 2>&1
    weft fra down --format $format >"$work/output/down.$format" 2>&1
    weft fra apply --format $format >"$work/output/again.$format" 2>&1
done
dmesg >"$work/output/kernel" 2>&1
enter fra cp -r /var/lib/weft "$work/state/"
enter fra find /run /var/lib /tmp/weft -newer "$work/keys/fra" -type f >"$work/output/files" 2>/dev/null
clean "any output, and the kernel's log" "$work/output"
succeeds "there is a state folder" test -n "$(find "$work/state" -type f)"
clean "the state folder" "$work/state"
for process in $(ip netns pids "$(mesh_namespace fra)"); do
    clean "the arguments and environment of $(cat "/proc/$process/comm")" "/proc/$process/cmdline" "/proc/$process/environ"
done

# --------------------------------------------------------------------------------------------------------- open to all

state=$(live fra)
for file in /etc/weft/private.key /etc/weft/preshared-keys/ana; do
    for mode in 644 640 604 660; do
        enter fra chmod $mode $file
        exits 1 "$file of mode $mode is refused" weft fra apply
        contains "with the command that mends it" "chmod 600 $file" "$output"
        exits 1 "by plan too" weft fra plan
    done
    $(sed -n 's/.*\(chmod 600 [^ ]*\).*/enter fra \1/p' <<<"$output" | head -n 1)
    succeeds "that command mends it" weft fra plan
done
same "nothing has changed meanwhile" "$state" "$(live fra)"
done_testing
