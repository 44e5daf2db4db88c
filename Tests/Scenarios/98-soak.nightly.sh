#!/bin/bash
# An agent does not grow: hundreds of passes, and tens of topologies.
# timeout: 240
passes=1000 changes=50 allowed=700
[ -z "${WEFT_VM-}" ] || passes=200 changes=20
. "$(dirname "$(realpath "$0")")/soak.sh"
