// The kernel's own headers, so that no constant is ever retyped. A shim stands here only for what
// Swift's importer cannot see (macros that cast or call), and says why.
#ifndef WEFT_CLINUX_SHIM_H
#define WEFT_CLINUX_SHIM_H

#include <sys/prctl.h>
#include <sys/socket.h>
#include <linux/fib_rules.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/wireguard.h>

// prctl(2) is variadic, which Swift cannot call.
static inline int weft_set_not_dumpable(void) { return prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L); }

// <sched.h> shows this with _GNU_SOURCE only, which a module cannot define after the fact. For tests in namespaces.
int unshare(int flags);

#endif
