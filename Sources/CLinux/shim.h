// The kernel's own headers, so that no constant is ever retyped. A shim stands here only for what
// Swift's importer cannot see (macros that cast or call), and says why.
#ifndef WEFT_CLINUX_SHIM_H
#define WEFT_CLINUX_SHIM_H

#include <netinet/in.h> // before <linux/netfilter.h>, which leaves out what glibc has declared by then
#include <sys/prctl.h>
#include <sys/socket.h>
#include <linux/fib_rules.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/memfd.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/wireguard.h>

// prctl(2) is variadic, which Swift cannot call.
static inline int weft_set_not_dumpable(void) { return prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L); }

// A constant in older headers, in newer ones a macro that names another, which Swift does not see.
static const __u32 weft_nft_bitwise_bool = NFT_BITWISE_BOOL;

// glibc declares these with _GNU_SOURCE only, which a module cannot define after the fact.
// (<spawn.h> would bring <net/if.h>, which hides the kernel's own flags of links: hence the void pointers.)
int memfd_create(const char *name, unsigned int flags);
int posix_spawn_file_actions_addchdir_np(void *actions, const char *path);
int posix_spawn_file_actions_addclosefrom_np(void *actions, int from);
int unshare(int flags); // for tests in namespaces

#endif
