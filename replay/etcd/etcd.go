// Package etcd lets each chat token be used once by a whole fleet of gateways,
// whatever fails. The gateways share an etcd cluster.
//
// [New] makes a [Guard]; set it as [token.Opener.Guard] on every gateway.
// [Guard.Revoke] on one gateway holds on all of them. Package
// [github.com/seed17cb2b26/chattoken/replay/valkey] has the same methods on
// Valkey or Redis. It is faster, and simpler to run, but a failover there may
// accept a token twice.
//
// # Guarantee
//
// Of all calls of [Guard.Spend] with one token, on any gateway with the same
// cluster and Prefix, at most one returns true. That holds if leaders die,
// members stand still or are cut off, answers are lost, or the cluster is
// restarted, made anew, or restored from a backup. If the guard cannot tell, it
// refuses. The error says why, and matches [token.ErrUnavailable].
//
// A lost answer does not make an honest token look spent. Each call has a
// random value, the same in all its attempts. If an attempt finds that value,
// an earlier one has succeeded. If the call ends before it finds out, the token
// stays spent.
//
// # How it works
//
// To spend a token is to create a key if it does not exist. The key's lease
// ends a minute after the token expires. Calls that wait at the same time share
// a transaction. It compares three other keys and, if one differs, writes
// nothing:
//
//	<prefix>marker          a random value, until data may have been lost
//	<prefix>revocations     a random value, until somebody revokes
//	<prefix>gateway/<name>  this gateway's counter, as of its last heartbeat or later
//
// Every second each gateway raises its counter: its heartbeat. A restored
// cluster has an older counter, or none. Revisions and the cluster's ID cannot
// tell, because they come again.
//
// A gateway cannot know what was spent if
//
//   - it starts;
//   - its last acknowledged heartbeat is more than 30 s ago: a backup may be
//     newer than that, and have its key as it was;
//   - the marker is another, or its own key is gone;
//   - its own key is older than it was, or a revision is lower than one it
//     knows. Then, or if there is no marker, it writes a new marker, so that
//     all gateways notice.
//
// It then refuses older tokens: those issued already, and those issued in the
// next ClockSkew and a second, by [token.Summary.IssuedBefore]. [Guard.ReadyAt]
// says until when.
//
// A revocation changes the second key together with its own. So no spend passes
// before the gateway has read what was revoked. For live sessions each
// heartbeat reads it, too; [Guard.Synced] says when that was last.
//
// # What remains
//
//   - A cluster is restored from a snapshot newer than a gateway's last
//     acknowledged heartbeat. That is a second old at most, or up to 30 s if
//     the gateway was cut off from the cluster. Then what was spent after the
//     snapshot may be spent again. To prevent this, delete the marker before
//     gateways connect: see SIZING.md. Two other cases are like it: a power
//     failure in which all members lose their last writes (never turn off
//     fsync), and a machine that stands still for more than a day, its
//     monotonic clock included, and then finds such a cluster.
//   - Two clusters answer the same gateways, because an old one was not shut
//     down.
//   - Someone else writes below Prefix or revokes leases, or the cluster ends a
//     lease before its time. That was seen only of leases that are kept alive;
//     these are not.
//
// # Clocks
//
// While the cluster loses nothing, the clocks of gateways may be apart by 20 s.
// An issuer's clock may be ahead of a gateway's by ClockSkew. A token that
// seems to be issued later is refused with [ErrClock], until the gateway's
// clock gets there. A token that has expired by the gateway's own clock is
// refused, whatever time Spend is given.
//
// After a loss, a gateway refuses what was issued before by its own clock. If
// that is behind an issuer's by more than ClockSkew, a token that another
// gateway accepted before the loss may be accepted again. So never start a
// gateway while its clock is behind: nothing tells it the time.
//
// If a running gateway's clock is set back by more than ten seconds, and not by
// more than a day, it refuses all tokens issued before the time that the clock
// had reached. If the clock was ahead, and is right now, restart the gateway.
// The members' clocks do not matter.
//
// # Cluster
//
// The servers must be of version 3.4 or later, with auto-compaction turned on.
// The user needs to read and write below Prefix. SIZING.md says how to set up a
// cluster, what a token costs, and how to restore a backup.
//
// # Errors
//
// A spent token is not an error: Spend reports that it isn't fresh. Errors are
// allocated once, and contain nothing of the token and nothing that the cluster
// said.
package etcd
