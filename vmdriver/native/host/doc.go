// Package host is what a private dockerd has in common with everything else on a Linux machine, and must not leave there: processes,
// bridges, mounts, control groups, packet filter rules. It never looks for a process by name alone: a process is named by pid and
// start time, and belongs to an engine only if its arguments name a path of that engine.
package host
