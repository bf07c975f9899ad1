// Package supervisor runs rdd and talks to it.
//
// Start runs the tree in this process; Dial reaches the daemon of an instance. Both give the same Client. The edge is a second
// actor system with the only listener (127.0.0.1, mutual TLS) and one actor, the gateway, which asks the tree through an
// in-process client: no address of the tree is known there.
//
// # Limits of the library under the edge
//
// It replaces the process-wide logger of gRPC when it starts, which is a data race against other users of gRPC in the same
// process: an embedder that uses gRPC itself starts the edge (or calls Dial for the first time) before it does so. It cannot
// be stopped without a trace: edge.stop closes the listener and every connection, a little idle memory stays.
package supervisor
