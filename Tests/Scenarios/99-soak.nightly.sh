#!/bin/bash
# An agent does not grow: 100,000 passes, and 10,000 topologies.
# timeout: 3600
passes=100000 changes=10000 allowed=300
[ -z "${WEFT_VM-}" ] || passes=5000 changes=500
. "$(dirname "$(realpath "$0")")/soak.sh"
