// Package export is what stands behind the SAS URL of a managed disk or snapshot in the twin: a page blob called abcd, made
// of the disk's bytes and the footer of a fixed VHD, on a Blob service reduced to reading, listing page ranges, and, for
// disks in upload, writing pages.
//
// It promises to behave as reference/azure.md §2 and §3.2 describe the platform, its refusals included: signatures, expiry
// and revocation (403), at most five snapshots of a family with an active SAS, no conditional headers, no service version
// newer than configured, diffs through x-ms-previous-snapshot-url alone with changed and cleared ranges interleaved,
// paging by marker from version 2020-10-02 on. Where the platform's answer is not documented the stricter one is chosen.
//
// It must never answer a request that the platform refuses, since what passes here is taken as proof; and never report
// less than what changed.
//
// Grants survive a restart: DIR/grants.json is replaced as a whole at each change. Nothing is synced to the disk, so it
// survives the end of the process and not a power loss, as the volumes themselves.
//
// Locks: Service.mu guards the books. Service.writing is held for reading while pages are written and for writing while
// grants are revoked, so that nothing is written once Revoke has returned; it is taken before mu.
package export
