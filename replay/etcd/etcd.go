// Package etcd lets each chat token be used once by a whole fleet of gateways,
// whatever fails. Their common memory is an etcd cluster.
//
// [New] makes a [Guard], which goes into token.Opener.Guard of every gateway.
// [Guard.Revoke] takes tokens back; called on one gateway, it is in force on
// all. Package replay/valkey has the same methods on Valkey or Redis: it is
// faster, and simpler to run, but a failover there may let a token in twice.
//
// # What is promised
//
// Of all calls of [Guard.Spend] with one token, on any gateway with the same
// cluster and Prefix, at most one returns true: also if leaders die, members
// stand still or are cut off, answers are lost, or the cluster is restarted,
// made anew, or restored from a backup. If the guard cannot tell, it refuses,
// with an error that says why and matches token.ErrUnavailable.
//
// No honest token is told to be spent because an answer was lost. Each call has
// a random value, the same in all its attempts. If an attempt finds that value,
// an earlier one has succeeded. If the call has ended before, the token is
// spent.
//
// # How
//
// A token is a key that is created if it is not there. Its lease ends a minute
// after the token expires. Calls that wait at the same time share a
// transaction, which compares three other keys and, if one differs, writes
// nothing:
//
//	<prefix>marker          a random value, until data may have been lost
//	<prefix>revocations     a random value, until somebody revokes
//	<prefix>gateway/<name>  this gateway's counter, as of its last beat or later
//
// The gateway raises its counter every second. A cluster that was restored has
// an older one, or none. Revisions and the cluster's ID cannot tell: they come
// again. When a gateway finds another marker, or its own key older or gone, it
// refuses the tokens that were issued before, as token.Summary.IssuedBefore has
// it: those that were made already, and those made in the next ClockSkew and a
// second. [Guard.ReadyAt] says until when. If its key is older, it also
// replaces the marker, so that all gateways do the same; likewise if a revision
// is lower than one it knows. A guard that starts knows of nothing before, so
// it begins with that. So does one whose last acknowledged beat is more than 30
// s ago: a backup may be newer than that, and have the gateway's key as it was.
//
// A revocation changes the second key together with its own. So no spend passes
// before the gateway has read what was revoked. For live sessions each beat
// reads it, too: [Guard.Synced] says when that was last.
//
// # What remains
//
//   - A cluster is restored from a snapshot that is newer than a gateway's last
//     acknowledged beat. That is a second old at most, or up to 30 s if the
//     gateway was cut off from the cluster. What was spent after the snapshot
//     may then be spent again. To close this, delete the marker before gateways
//     connect: see SIZING.md. A cluster all of whose members lose their last
//     writes in a power failure is the same case: do not turn off fsync. So is
//     a machine that stood still for more than a day, its monotonic clock
//     included, and finds such a cluster.
//   - Two clusters answer the same gateways, because an old one was not shut
//     down.
//   - Someone else writes below Prefix or revokes leases, or the cluster ends a
//     lease before its time. That was seen only of leases that are kept alive;
//     these are not.
//
// # Clocks
//
// The clocks of gateways may be apart by 20 s while the cluster loses nothing.
// A minter's clock may be ahead of a gateway's by ClockSkew: a token that seems
// to be issued later is refused with [ErrClock], until the gateway's clock gets
// there. After a loss more is needed: a gateway refuses what was issued before
// by its own clock. If that is behind a minter's by more than ClockSkew, a
// token that another gateway let in before the loss may be let in again. A
// token that is over by the gateway's own clock is refused, whatever the
// argument of Spend says. If a running gateway's clock is set back by more than
// ten seconds, and not by more than a day, it refuses what was issued before it
// gets back to where it was. If the clock was ahead, and is right now, restart
// the gateway. A gateway must not be started while its clock is behind: nothing
// tells it the time. The members' clocks do not matter.
//
// # The cluster
//
// Servers of version 3.4 and later will do. Auto-compaction has to be turned
// on. The user needs to read and write below Prefix. SIZING.md says how to set
// up a cluster, what a token costs, and how to restore a backup.
//
// # Errors
//
// A token that was spent is not an error: Spend reports that it is not fresh.
// Errors are allocated once, and contain nothing of the token and nothing that
// the cluster said.
package etcd
