// Package journal is what survives the process: the App as accepted, accepted deletions, salts of uids. It acknowledges
// only what is on disk.
//
// Backend is the file (bbolt) or its double in memory; the actor in front of it makes one transaction of all that waits
// (group commit), off its mailbox, one at a time. A record is stored with a checksum over its bucket, key and value, and
// the pages of the file are checked before the file is used: a damaged journal is refused, copied and named, never read
// as if it were right and never wiped.
package journal
