// The kernel's own headers, so that no constant is ever retyped. A shim stands here only for what
// Swift's importer cannot see (macros that cast or call), and says why.
#ifndef WEFT_CLINUX_SHIM_H
#define WEFT_CLINUX_SHIM_H

#include <sys/socket.h>
#include <linux/fib_rules.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/wireguard.h>

#endif
